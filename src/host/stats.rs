//! What the engine has done so far.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::sched::{self, Health, Promises, Role, Scores, WorkerState};

/// A snapshot.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests by outcome, runs by kind.
    pub requests: sched::Stats,
    /// Requests accepted and not settled.
    pub pending: usize,
    /// What the scheduler was told: submissions, reports of workers, timeouts.
    pub events: u64,
    /// Time spent on that, on whichever thread: deciding, handing images to workers and answers to callers.
    pub scheduling: Duration,
    /// What was promised, and whether it was kept.
    pub promises: Promises,
    /// In order of their indices.
    pub workers: Vec<WorkerStats>,
    /// Injected loads beside the workers, in the order in which they were asked for.
    pub contention: Vec<ContentionStats>,
}

/// Of one worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerStats {
    /// What it runs.
    pub role: Role,
    /// Index of its device among those the engine was given.
    pub device: usize,
    /// Its device's name.
    pub device_name: String,
    /// Where its device is, if that is an NVIDIA GPU: by it NVML knows the GPU too.
    pub pci_bus_id: Option<String>,
    /// Whether it works.
    pub state: WorkerState,
    /// What it is trusted with, by how fast it was.
    pub health: Health,
    /// How it compares with its peers and with its own best; `None` before it has run enough.
    pub scores: Option<Scores>,
    /// Jobs that it holds: the one that runs and those that wait for it.
    pub queued: usize,
    /// Runs that succeeded.
    pub runs: u64,
    /// Images in them.
    pub images: u64,
    /// Time spent in them, injected delays included.
    pub busy: Duration,
    /// Time of that in requests' own base runs, injected delays excluded.
    pub base_busy: Duration,
    /// Time of that in backups: collages, replicas, hedges, re-sent requests and probes, injected delays excluded.
    pub backup_busy: Duration,
    /// Median of a run's time, injected delays included.
    pub service_p50: Duration,
    /// 99th percentile of a run's time, injected delays included.
    pub service_p99: Duration,
    /// Runs that took at most each of [`SERVICE_BOUNDS`]; each bound's include those of the bounds before it.
    pub service_counts: [u64; SERVICE_BOUNDS.len()],
    /// Median of the last `recent_runs` runs.
    pub recent_p50: Duration,
    /// 99th percentile of the same.
    pub recent_p99: Duration,
    /// As many as there were, [`RECENT`] at most.
    pub recent_runs: usize,
    /// Requests answered whose own run was given to this worker.
    pub answers: u64,
    /// Those of them that a backup answered in its place.
    pub backups: u64,
    /// Requests whose own run was given to this worker, and that got no answer by their deadline.
    pub deadline_exceeded: u64,
    /// Time by which runs were delayed on purpose.
    pub injected: Duration,
    /// Runs that were delayed on purpose.
    pub injected_runs: u64,
    /// Runs that failed or took the worker down.
    pub failures: u64,
    /// Times that it came back.
    pub restarts: u64,
    /// The last thing that went wrong.
    pub last_failure: Option<String>,
}

/// Of one load that was injected on a device.
#[derive(Clone, Debug, Default)]
pub struct ContentionStats {
    /// As it was described.
    pub straggler: String,
    /// Index of its device among those the engine was given.
    pub device: usize,
    /// Its device's name.
    pub device_name: String,
    /// Its runs.
    pub runs: u64,
    /// Time spent in them.
    pub busy: Duration,
    /// Why it ended before the engine, if it did.
    pub failure: Option<String>,
}

/// Service times, in microseconds, three digits, any length.
pub(super) fn histogram() -> Histogram<u32> {
    Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are valid"))
}

/// Upper bounds of [`WorkerStats::service_counts`], in microseconds: 1, 2.5 and 5 of each decade.
pub const SERVICE_BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Runs by bound. Counted when somebody asks, so that a run pays nothing for it.
pub(super) fn counts(service: &Histogram<u32>) -> [u64; SERVICE_BOUNDS.len()] {
    let mut counts = [0; SERVICE_BOUNDS.len()];
    for step in service.iter_recorded() {
        let at = SERVICE_BOUNDS.partition_point(|&bound| bound < step.value_iterated_to());
        if let Some(count) = counts.get_mut(at) {
            *count += step.count_since_last_iteration();
        }
    }
    let mut sum = 0;
    counts.map(|count| {
        sum += count;
        sum
    })
}

/// Runs that count as recent.
pub const RECENT: usize = 256;

/// The last [`RECENT`] service times. What a run pays is one store; it is sorted only for who asks.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// In microseconds.
    times: Vec<u32>,
    /// Where the next one goes, once it is full.
    oldest: usize,
}

impl Recent {
    pub(super) fn record(&mut self, us: u64) {
        let us = u32::try_from(us).unwrap_or(u32::MAX);
        if self.times.len() < RECENT {
            self.times.push(us);
        } else {
            self.times[self.oldest] = us;
            self.oldest = (self.oldest + 1) % RECENT;
        }
    }

    pub(super) fn runs(&self) -> usize {
        self.times.len()
    }

    /// By nearest rank; 0 without runs.
    pub(super) fn quantiles<const N: usize>(&self, of: [f64; N]) -> [Duration; N] {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        of.map(|q| {
            let rank = (q * sorted.len() as f64).ceil() as usize;
            let us = sorted.get(rank.saturating_sub(1)).copied();
            Duration::from_micros(u64::from(us.unwrap_or(0)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recent_forgets_what_was_before() {
        let mut recent = Recent::default();
        (0..1_000).for_each(|_| recent.record(50_000));
        (1..=RECENT as u64).for_each(|us| recent.record(us));
        let [median, most] = recent.quantiles([0.5, 1.0]);
        assert_eq!(median, Duration::from_micros(RECENT as u64 / 2));
        assert_eq!(most, Duration::from_micros(RECENT as u64));
    }

    #[test]
    fn counts_are_of_all_runs_up_to_each_bound() {
        let mut service = histogram();
        for us in [40, 90, 240, 9_000, 60_000_000] {
            service.record(us).expect("in range");
        }
        let counts = counts(&service);
        assert_eq!(counts[..3], [2, 3, 3]);
        assert_eq!(counts[6], 4, "9 ms is at most 10 ms");
        assert_eq!(counts[15], 4, "a minute is beyond the last bound");
    }
}
