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
    /// What the scheduler's thread was woken for: submissions, reports of workers, timeouts.
    pub events: u64,
    /// Time in which that thread was not waiting: deciding, handing images to workers and answers to callers.
    pub scheduling: Duration,
    /// What was promised, and whether it was kept.
    pub promises: Promises,
    /// In order of their indices.
    pub workers: Vec<WorkerStats>,
    /// Injected loads beside the workers, in the order in which they were asked for.
    pub contention: Vec<ContentionStats>,
}

/// Of one worker.
#[derive(Clone, Debug)]
pub struct WorkerStats {
    /// What it runs.
    pub role: Role,
    /// Index of its device among those the engine was given.
    pub device: usize,
    /// Its device's name.
    pub device_name: String,
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
