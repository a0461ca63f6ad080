//! Metric families in the order of their first sample, and their text.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

/// Each name once, however often it was added to.
#[derive(Default)]
pub struct Families(Vec<(MetricFamily, Vec<Metric>)>);

/// Runs by bound, for [`Families::histogram`].
pub struct Buckets<'a> {
    /// In seconds, rising.
    pub bounds: &'a [f64],
    /// Of all samples up to each bound.
    pub counts: &'a [u64],
    /// Samples.
    pub count: u64,
    /// Of all samples, in seconds.
    pub sum: f64,
}

impl Families {
    /// A figure that goes up and down; nothing where it is not known.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(labels);
            metric.set_gauge(gauge);
            self.push(name, help, MetricType::GAUGE, metric);
        }
    }

    /// A figure that only rises; nothing where it is not known.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = labelled(labels);
            metric.set_counter(counter);
            self.push(name, help, MetricType::COUNTER, metric);
        }
    }

    /// A distribution.
    pub fn histogram(&mut self, name: &str, help: &str, labels: &[(&str, &str)], of: &Buckets) {
        let buckets = of.bounds.iter().zip(of.counts).map(|(&bound, &count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(of.count);
        histogram.set_sample_sum(of.sum);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.push(name, help, MetricType::HISTOGRAM, metric);
    }

    fn push(&mut self, name: &str, help: &str, kind: MetricType, metric: Metric) {
        if let Some((_, metrics)) = self.0.iter_mut().find(|(f, _)| f.name() == name) {
            metrics.push(metric);
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push((family, vec![metric]));
    }

    /// In Prometheus' text format.
    pub fn text(self) -> String {
        let families: Vec<MetricFamily> = self
            .0
            .into_iter()
            .map(|(mut family, metrics)| {
                family.set_metric(metrics);
                family
            })
            .collect();
        let mut text = Vec::new();
        // Writing into memory does not fail, and no family is without a name or a sample.
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "metrics that cannot be written");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
}
