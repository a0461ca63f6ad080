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
    /// What was promised, and whether it was kept.
    pub promises: Promises,
    /// In order of their indices.
    pub workers: Vec<WorkerStats>,
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

/// Service times, in microseconds, three digits, any length.
pub(super) fn histogram() -> Histogram<u32> {
    Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are valid"))
}
