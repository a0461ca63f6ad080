//! How measured times are spread: the figures that trtexec prints, and whether they can be trusted.

use std::time::Duration;

use serde::Serialize;

/// Of one kind of time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub mean: f64,
    pub median: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    /// Standard deviation over mean.
    pub variation: f64,
}

/// Variation, and drift over a measurement, from which on times are called unstable.
const UNSTABLE: f64 = 0.05;

impl Spread {
    /// `None` without a sample. Percentiles are nearest-rank: of few samples, the high ones are the largest.
    pub fn of(samples: &[Duration]) -> Option<Self> {
        let mut ms: Vec<f64> = samples.iter().map(|d| d.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let (min, max) = (*ms.first()?, *ms.last()?);
        let mean = mean(&ms);
        let squares = ms.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        let deviation = (squares / (ms.len() - 1).max(1) as f64).sqrt();
        let rank = |p: f64| ms[((p * ms.len() as f64).ceil() as usize).clamp(1, ms.len()) - 1];
        Some(Self {
            min,
            mean,
            median: (rank(0.5) + ms[ms.len() / 2]) / 2.0,
            p90: rank(0.9),
            p95: rank(0.95),
            p99: rank(0.99),
            max,
            variation: if mean > 0.0 { deviation / mean } else { 0.0 },
        })
    }
}

/// Why the times, in the order in which they were measured, cannot be trusted to a few percent.
pub fn unstable(samples: &[Duration]) -> Option<String> {
    let spread = Spread::of(samples)?;
    let third = samples.len() / 3;
    if third > 0 {
        let ms = |part: &[Duration]| {
            let part: Vec<f64> = part.iter().map(Duration::as_secs_f64).collect();
            mean(&part)
        };
        let drift = ms(&samples[samples.len() - third..]) / ms(&samples[..third]) - 1.0;
        if drift.abs() > UNSTABLE {
            let direction = if drift > 0.0 { "slower" } else { "faster" };
            let percent = drift.abs() * 100.0;
            return Some(format!(
                "the last third of the runs was {percent:.0}% {direction} than the first"
            ));
        }
    }
    let percent = spread.variation * 100.0;
    (spread.variation > UNSTABLE)
        .then(|| format!("the times vary by {percent:.0}% (standard deviation over mean)"))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(values: &[u64]) -> Vec<Duration> {
        values.iter().map(|&v| Duration::from_millis(v)).collect()
    }

    #[test]
    fn percentiles_are_nearest_rank_and_the_median_is_the_middle() {
        let values: Vec<u64> = (1..=100).rev().collect();
        let spread = Spread::of(&ms(&values)).unwrap();
        assert_eq!((spread.min, spread.max, spread.mean), (1.0, 100.0, 50.5));
        assert_eq!(spread.median, 50.5);
        assert_eq!((spread.p90, spread.p95, spread.p99), (90.0, 95.0, 99.0));
        let three = Spread::of(&ms(&[30, 10, 20])).unwrap();
        assert_eq!((three.median, three.p90, three.p99), (20.0, 30.0, 30.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn one_sample_has_no_variation() {
        let spread = Spread::of(&ms(&[7])).unwrap();
        assert_eq!((spread.median, spread.variation), (7.0, 0.0));
    }

    #[test]
    fn noise_and_drift_are_told_apart_and_steady_times_are_neither() {
        assert_eq!(unstable(&ms(&[100, 101, 99, 100, 102, 98])), None);
        let drifting = unstable(&ms(&[100, 100, 105, 105, 112, 112])).unwrap();
        assert!(drifting.contains("12% slower"), "{drifting}");
        let noisy = unstable(&ms(&[80, 120, 80, 120, 80, 120])).unwrap();
        assert!(noisy.contains("vary by 22%"), "{noisy}");
        assert_eq!(unstable(&[]), None);
    }
}
