//! An open-loop load: requests are due at fixed times, whatever becomes of the earlier ones.
//!
//! Latency counts from when a request was due, not from when the generator got to submit it, so that neither a slow
//! engine nor a slow generator hides waiting (coordinated omission). How late the generator was is recorded too: it is
//! the machine's own noise.

use std::thread;
use std::time::{Duration, Instant};

use collage::engine::{Answer, Engine, Error, RequestOptions, Source, Ticket};
use collage::image::Image;
use crossbeam_channel::Receiver;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use super::outcome::{Percentiles, Promises, Run};
use crate::cli::failure::Failure;

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

/// One request on its way from the generator to the collector.
struct Sent {
    image: usize,
    late: Duration,
    ticket: Result<Ticket, Error>,
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
        let (sent, to_collect) = crossbeam_channel::unbounded();
        let begin = Instant::now();
        let tally = thread::scope(|scope| {
            let collector = scope.spawn(|| self.collect(to_collect, bar));
            for (i, image) in self.order.iter().copied().enumerate() {
                let due = begin + Duration::from_secs_f64((i - i % self.burst) as f64 / self.rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let options = RequestOptions {
                    submitted: Some(due),
                    ..RequestOptions::default()
                };
                let late = due.elapsed();
                let ticket = engine.submit(self.images[image].clone(), options);
                // The collector outlives this loop: it ends when the channel closes.
                let _ = sent.send(Sent {
                    image,
                    late,
                    ticket,
                });
            }
            drop(sent);
            collector.join()
        });
        let tally = tally.map_err(|_| Failure::other("the collector of answers panicked"))??;
        Ok(tally.into_run(policy, self.order.len(), begin.elapsed()))
    }

    fn collect(&self, sent: Receiver<Sent>, bar: &ProgressBar) -> Result<Tally, Failure> {
        let mut tally = Tally::new()?;
        for request in sent {
            record(&mut tally.late, request.late);
            let outcome = request.ticket.and_then(Ticket::wait);
            tally.settle(outcome, self.labels[request.image], self.deadline);
            bar.inc(1);
        }
        Ok(tally)
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
