//! One policy's turn in one round: what became of each of its requests, and what the engine counted meanwhile.

use std::time::Duration;

use collage::engine::{Answer, Engine, Error, Source, Stats, WorkerStats};
use indicatif::ProgressBar;

use crate::cli::failure::Failure;
use crate::cli::load::{Load, Settled};

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was due, after the turn began.
    pub due: Duration,
    /// How much later than due it was sent.
    pub late: Duration,
    /// From when it was due to its answer; a request without one counts with its deadline.
    pub waited: Duration,
    /// How it ended.
    pub end: End,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Answered by its deadline.
    Answered {
        /// By whom.
        source: Source,
        /// Whether its best class is the label.
        right: bool,
    },
    /// Not answered by its deadline.
    DeadlineExceeded,
    /// Refused: the queue was full.
    Overloaded,
    /// Failed for another reason.
    Failed,
}

/// See the module.
pub struct Turn {
    /// When the counted requests began, after the comparison did.
    pub began: Duration,
    /// From there to the last answer.
    pub took: Duration,
    /// The first groups, counted apart.
    pub warm_up: Vec<Sample>,
    /// The others, in the order in which they were due.
    pub counted: Vec<Sample>,
    /// Work between the end of the warm-up and that of the turn.
    pub work: Work,
}

/// What the engine did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Time in requests' own base runs, injected delays excluded.
    pub base_busy: Duration,
    /// Time in backups, injected delays excluded.
    pub backup_busy: Duration,
    /// Delays that were injected.
    pub injected: Duration,
    /// Images in requests' own base runs.
    pub base_images: u64,
    /// Images in replicas, hedges and re-sent requests.
    pub copy_images: u64,
    /// Runs to see how fast a worker under watch is.
    pub probe_runs: u64,
    /// Collages, or runs of the collage network on one image.
    pub collage_runs: u64,
    /// Of such runs that were due: never begun, because all of their requests had been answered.
    pub collages_saved: u64,
    /// Collage answers under the confidence that they need.
    pub abstained: u64,
    /// Own base answers that came after another had been given.
    pub late: u64,
    /// What the scheduler was told, and its timeouts.
    pub events: u64,
    /// Time spent on that, on whichever thread.
    pub scheduling: Duration,
}

impl Work {
    /// Since the engine's start.
    pub fn of(stats: &Stats) -> Self {
        let sum = |of: fn(&WorkerStats) -> Duration| stats.workers.iter().map(of).sum();
        let requests = &stats.requests;
        Self {
            base_busy: sum(|w| w.base_busy),
            backup_busy: sum(|w| w.backup_busy),
            injected: sum(|w| w.injected),
            base_images: requests.base_images,
            copy_images: requests.copy_images,
            probe_runs: requests.probe_runs,
            collage_runs: requests.collage_runs,
            collages_saved: requests.collages_saved,
            abstained: requests.abstained,
            late: requests.late,
            events: stats.events,
            scheduling: stats.scheduling,
        }
    }

    /// These and those of another turn.
    pub fn and(self, other: Self) -> Self {
        self.each(other, |a, b| a + b, |a, b| a + b)
    }

    /// These without those that were done before.
    pub fn since(self, before: Self) -> Self {
        self.each(before, Duration::saturating_sub, u64::saturating_sub)
    }

    fn each(
        self,
        other: Self,
        time: fn(Duration, Duration) -> Duration,
        count: fn(u64, u64) -> u64,
    ) -> Self {
        Self {
            base_busy: time(self.base_busy, other.base_busy),
            backup_busy: time(self.backup_busy, other.backup_busy),
            injected: time(self.injected, other.injected),
            base_images: count(self.base_images, other.base_images),
            copy_images: count(self.copy_images, other.copy_images),
            probe_runs: count(self.probe_runs, other.probe_runs),
            collage_runs: count(self.collage_runs, other.collage_runs),
            collages_saved: count(self.collages_saved, other.collages_saved),
            abstained: count(self.abstained, other.abstained),
            late: count(self.late, other.late),
            events: count(self.events, other.events),
            scheduling: time(self.scheduling, other.scheduling),
        }
    }
}

/// Serves a load to its end: one sample a request, in the order in which they are due, and how long it took.
pub fn serve(
    engine: &Engine,
    load: &Load<'_>,
    labels: &[u32],
    deadline: Duration,
    bar: &ProgressBar,
) -> Result<(Vec<Sample>, Duration), Failure> {
    let mut samples = vec![None; load.order.len()];
    let took = load.run(engine, |settled| {
        let label = labels[load.order[settled.request]];
        let request = settled.request;
        samples[request] = Some(Sample::of(settled, label, deadline));
        bar.inc(1);
    })?;
    let whole: Option<Vec<Sample>> = samples.into_iter().collect();
    let lost = || Failure::other("a request was neither answered nor refused");
    Ok((whole.ok_or_else(lost)?, took))
}

impl Sample {
    fn of(settled: Settled, label: u32, deadline: Duration) -> Self {
        let right = |answer: &Answer| answer.top.first().is_some_and(|best| best.class == label);
        let end = match &settled.outcome {
            Ok(answer) => End::Answered {
                source: answer.source,
                right: right(answer),
            },
            Err(Error::DeadlineExceeded { .. }) => End::DeadlineExceeded,
            Err(Error::Overloaded { .. }) => End::Overloaded,
            Err(_) => End::Failed,
        };
        Self {
            due: settled.due,
            late: settled.late,
            waited: settled.outcome.map_or(deadline, |answer| answer.latency),
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_an_answer_has_waited_for_its_deadline() {
        let deadline = Duration::from_millis(100);
        let ends = [
            (Error::DeadlineExceeded { deadline }, End::DeadlineExceeded),
            (Error::Overloaded { queue: 4 }, End::Overloaded),
            (Error::Closed, End::Failed),
        ];
        for (error, end) in ends {
            let settled = Settled {
                request: 0,
                due: Duration::from_millis(7),
                late: Duration::from_micros(3),
                outcome: Err(error),
            };
            let sample = Sample::of(settled, 1, deadline);
            assert_eq!((sample.end, sample.waited), (end, deadline));
        }
    }

    #[test]
    fn work_is_that_since_the_warm_up() {
        let work = |n: u64| Work {
            base_busy: Duration::from_millis(n),
            events: 10 * n,
            ..Work::default()
        };
        assert_eq!(work(5).since(work(2)), work(3));
        assert_eq!(work(5).and(work(2)), work(7));
    }
}
