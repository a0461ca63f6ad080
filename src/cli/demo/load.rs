//! The demo's requests: groups at even intervals in an open loop, and what is counted of them.

use std::time::Duration;

use collage::engine::{Answer, Engine, Error, Source};
use collage::image::Image;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use super::outcome::{Percentiles, Promises, Run};
use crate::cli::failure::Failure;
use crate::cli::load::{Load, Pace};

/// The same for every run of a demo.
pub struct Arrivals<'a> {
    /// What may be asked.
    pub images: &'a [Image],
    /// Their classes.
    pub labels: &'a [u32],
    /// Which image each request asks; as long as there are requests.
    pub order: &'a [usize],
    /// Requests a second.
    pub rate: f64,
    /// Requests that are due at the same time.
    pub burst: usize,
    /// What a request that failed counts as having waited.
    pub deadline: Duration,
}

/// What became of the requests.
struct Tally {
    latency: Histogram<u64>,
    late: Histogram<u64>,
    answered: usize,
    correct: usize,
    by_collage: usize,
    collage_correct: usize,
    deadline_exceeded: usize,
    overloaded: usize,
    failed: usize,
}

impl Arrivals<'_> {
    /// Sends every request and waits for every answer. The engine is left running; `policy` only names the run.
    pub fn run(
        &self,
        engine: &Engine,
        policy: &'static str,
        bar: &ProgressBar,
    ) -> Result<Run, Failure> {
        let groups = self.order.len().div_ceil(self.burst);
        let due: Vec<_> = (0..groups)
            .map(|group| Duration::from_secs_f64((group * self.burst) as f64 / self.rate))
            .collect();
        let load = Load {
            images: self.images,
            order: self.order,
            burst: self.burst,
            pace: Pace::Open(&due),
        };
        let mut tally = Tally::new()?;
        let took = load.run(engine, |settled| {
            record(&mut tally.late, settled.late);
            let label = self.labels[self.order[settled.request]];
            tally.settle(settled.outcome, label, self.deadline);
            bar.inc(1);
        })?;
        Ok(tally.into_run(policy, self.order.len(), took))
    }
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let histogram =
            || Histogram::new(3).map_err(|e| Failure::other(format!("a latency histogram: {e}")));
        Ok(Self {
            latency: histogram()?,
            late: histogram()?,
            answered: 0,
            correct: 0,
            by_collage: 0,
            collage_correct: 0,
            deadline_exceeded: 0,
            overloaded: 0,
            failed: 0,
        })
    }

    fn settle(&mut self, outcome: Result<Answer, Error>, label: u32, deadline: Duration) {
        let waited = outcome.as_ref().map_or(deadline, |answer| answer.latency);
        record(&mut self.latency, waited);
        match outcome {
            Ok(answer) => {
                let right = usize::from(answer.top.first().is_some_and(|best| best.class == label));
                self.answered += 1;
                self.correct += right;
                if answer.source == Source::Collage {
                    self.by_collage += 1;
                    self.collage_correct += right;
                }
            }
            Err(Error::DeadlineExceeded { .. }) => self.deadline_exceeded += 1,
            Err(Error::Overloaded { .. }) => self.overloaded += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn into_run(self, policy: &'static str, requests: usize, took: Duration) -> Run {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        Run {
            policy,
            requests,
            answered: self.answered,
            correct: self.correct,
            accuracy: share(self.correct, requests),
            by_collage: self.by_collage,
            collage_share: share(self.by_collage, requests),
            collage_accuracy: (self.by_collage > 0)
                .then(|| share(self.collage_correct, self.by_collage)),
            deadline_exceeded: self.deadline_exceeded,
            overloaded: self.overloaded,
            failed: self.failed,
            latency_ms: Percentiles::of(&self.latency),
            generator_late_ms: Percentiles::of(&self.late),
            abstained: 0,
            late: 0,
            base_images: 0,
            collage_runs: 0,
            promises: Promises::default(),
            workers: Vec::new(),
            seconds: took.as_secs_f64(),
            histogram: self.latency,
        }
    }
}

/// In microseconds. The histogram grows as needed, so that recording cannot fail; `saturating_record` would not grow it.
fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    let _ = histogram.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_failed_counts_as_wrong_and_as_having_waited_for_its_deadline() {
        let mut tally = Tally::new().unwrap();
        let deadline = Duration::from_millis(100);
        tally.settle(Err(Error::DeadlineExceeded { deadline }), 1, deadline);
        tally.settle(Err(Error::Overloaded { queue: 4 }), 1, deadline);
        tally.settle(Err(Error::Closed), 1, deadline);
        let run = tally.into_run("none", 4, Duration::from_secs(1));
        assert_eq!(
            (
                run.answered,
                run.deadline_exceeded,
                run.overloaded,
                run.failed
            ),
            (0, 1, 1, 1)
        );
        assert_eq!((run.accuracy, run.collage_accuracy), (0.0, None));
        assert!(
            (run.latency_ms.max - 100.0).abs() < 0.2,
            "{}",
            run.latency_ms.max
        );
    }
}
