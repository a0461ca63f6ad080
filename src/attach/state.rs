//! What an engine shows: its own words in JSON, apart from the engine's types, so that neither binds the other.
//!
//! Keys may be added under the same version; who reads ignores what it does not know and takes a default for what is not
//! there. docs/json.md describes them. Times are in microseconds, shares from 0 to 1.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::host::{SERVICE_BOUNDS, Stats, WorkerStats};
use crate::sched::{self, Health, Role, WorkerState};

/// One engine at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Whose it is.
    pub process: Process,
    /// By outcome, since the engine opened.
    pub requests: Requests,
    /// Accepted and not settled.
    pub pending: u64,
    /// What was promised and what was kept, of what was promised at all.
    pub promises: Vec<Promise>,
    /// In order of their indices.
    pub workers: Vec<Worker>,
}

/// The process around an engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// By its own numbering: inside a container it is the container's.
    pub pid: u32,
    /// Among the engines of its process.
    pub engine: u32,
    /// Of its executable.
    pub name: String,
    /// Of this library.
    pub version: String,
    /// When the engine opened, in seconds since 1970.
    pub started_unix_s: u64,
    /// As the setting `policy` writes it.
    pub policy: String,
}

/// Requests by outcome: each that was submitted and is not pending is in exactly one from `base` to `closed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// Whatever became of them.
    pub submitted: u64,
    /// Answered by their own base run.
    pub base: u64,
    /// Answered by their tile of a collage.
    pub collage: u64,
    /// Answered by a further run of the base model.
    pub copies: u64,
    /// No answer by the deadline.
    pub deadline_exceeded: u64,
    /// Refused: the queue was full.
    pub overloaded: u64,
    /// Their caller went away.
    pub cancelled: u64,
    /// No run succeeded, or no worker was left.
    pub failed: u64,
    /// Refused: the engine was closing.
    pub closed: u64,
    /// Base answers that came after their request was settled otherwise.
    pub late: u64,
    /// Collage answers under the confidence that was asked for.
    pub abstained: u64,
    /// Base runs that were launched.
    pub base_runs: u64,
    /// Further runs of the base model that were launched: replicas, hedges, re-sent requests.
    pub copy_runs: u64,
    /// Runs that only see how fast a worker is.
    pub probe_runs: u64,
    /// Collages that were launched.
    pub collage_runs: u64,
    /// Base runs repeated because one failed or its worker was lost.
    pub retries: u64,
}

/// One objective.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Promise {
    /// `latency` (in microseconds) or `accuracy` (a share).
    pub kind: String,
    /// What was promised.
    pub promised: f64,
    /// What was measured.
    pub measured: f64,
    /// Whether it holds.
    pub kept: bool,
    /// Requests that it was measured over.
    pub over: u64,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Among the workers of its engine.
    pub index: usize,
    /// `base`, `collage` or `both`.
    pub role: String,
    /// Index of its device among the engine's.
    pub device: usize,
    /// Its device's name.
    pub device_name: String,
    /// Its GPU, where the device is one that NVML knows.
    pub gpu: Option<GpuId>,
    /// `ready`, `lost` or `retired`.
    pub state: String,
    /// `healthy`, `probation`, `suspect` or `quarantined`.
    pub health: String,
    /// `None` before it has run enough.
    pub scores: Option<Scores>,
    /// How long its runs take.
    pub service: Service,
    /// Jobs that it holds: the one that runs and those that wait for it.
    pub queued: usize,
    /// Runs that succeeded.
    pub runs: u64,
    /// Images in them.
    pub images: u64,
    /// Time spent in them.
    pub busy_us: u64,
    /// Requests answered whose own run was given to this worker.
    pub answers: u64,
    /// Those of them that a backup answered in its place.
    pub backups: u64,
    /// Requests whose own run was given to this worker, and that got no answer by their deadline.
    pub deadline_exceeded: u64,
    /// Time by which its runs were delayed on purpose.
    pub injected_us: u64,
    /// Runs that were delayed on purpose.
    pub injected_runs: u64,
    /// Runs that failed or took it down.
    pub failures: u64,
    /// Times that it came back.
    pub restarts: u64,
    /// The last thing that went wrong.
    pub last_failure: Option<String>,
}

impl Worker {
    /// Share of its requests' answers that backups gave; `None` before there is one.
    pub fn backup_share(&self) -> Option<f64> {
        (self.answers > 0).then(|| self.backups as f64 / self.answers as f64)
    }
}

/// How NVML knows a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuId {
    /// Such as "0000:01:00.0".
    pub pci_bus_id: Option<String>,
    /// Such as "GPU-4f7b...".
    pub uuid: Option<String>,
}

/// Straggler scores, 1 at best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scores {
    /// The fastest peers' typical time over its own.
    pub relative: f64,
    /// Its own best typical time over its present one.
    pub individual: f64,
}

/// How long runs took, injected delays included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Median of the last `recent_runs` runs.
    pub recent_p50_us: u64,
    /// 99th percentile of the same runs.
    pub recent_p99_us: u64,
    /// At most [`RECENT`](crate::host::RECENT): what was before does not count as how it is now.
    pub recent_runs: usize,
    /// Median since the engine opened.
    pub p50_us: u64,
    /// 99th percentile since the engine opened.
    pub p99_us: u64,
    /// Upper bounds of `counts`.
    pub bounds_us: Vec<u64>,
    /// Runs since the engine opened that took at most the bound, each bound's including those of the bounds before it.
    pub counts: Vec<u64>,
}

impl Process {
    /// This one, now. The engine's number is not known before it has its socket.
    pub fn here(policy: String) -> Process {
        let program = std::env::current_exe().ok();
        let name = program.as_deref().and_then(Path::file_name);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Process {
            pid: std::process::id(),
            engine: 0,
            name: name.map_or(String::new(), |name| name.to_string_lossy().into_owned()),
            version: env!("CARGO_PKG_VERSION").into(),
            started_unix_s: since.map_or(0, |since| since.as_secs()),
            policy,
        }
    }
}

impl State {
    /// `stats` in the words of this module.
    pub fn of(process: Process, stats: &Stats) -> State {
        State {
            process,
            requests: Requests::of(&stats.requests),
            pending: stats.pending as u64,
            promises: [
                Promise::of("latency", stats.promises.latency),
                Promise::of("accuracy", stats.promises.accuracy),
            ]
            .into_iter()
            .flatten()
            .collect(),
            workers: stats
                .workers
                .iter()
                .enumerate()
                .map(|(index, worker)| Worker::of(index, worker))
                .collect(),
        }
    }
}

impl Promise {
    fn of(kind: &str, promise: Option<sched::Promise>) -> Option<Promise> {
        let sched::Promise {
            promised,
            measured,
            kept,
            over,
        } = promise?;
        Some(Promise {
            kind: kind.into(),
            promised,
            measured,
            kept,
            over,
        })
    }
}

impl Requests {
    fn of(stats: &sched::Stats) -> Requests {
        Requests {
            submitted: stats.submitted,
            base: stats.base,
            collage: stats.collage,
            copies: stats.copies,
            deadline_exceeded: stats.deadline_exceeded,
            overloaded: stats.overloaded,
            cancelled: stats.cancelled,
            failed: stats.failed,
            closed: stats.closed,
            late: stats.late,
            abstained: stats.abstained,
            base_runs: stats.base_runs,
            copy_runs: stats.copy_runs,
            probe_runs: stats.probe_runs,
            collage_runs: stats.collage_runs,
            retries: stats.retries,
        }
    }
}

impl Worker {
    fn of(index: usize, stats: &WorkerStats) -> Worker {
        Worker {
            index,
            role: role(stats.role).into(),
            device: stats.device,
            device_name: stats.device_name.clone(),
            gpu: stats.pci_bus_id.as_ref().map(|bus| GpuId {
                pci_bus_id: Some(bus.clone()),
                uuid: None,
            }),
            state: state(stats.state).into(),
            health: health(stats.health).into(),
            scores: stats.scores.map(|scores| Scores {
                relative: scores.relative,
                individual: scores.individual,
            }),
            service: Service {
                recent_p50_us: micros(stats.recent_p50),
                recent_p99_us: micros(stats.recent_p99),
                recent_runs: stats.recent_runs,
                p50_us: micros(stats.service_p50),
                p99_us: micros(stats.service_p99),
                bounds_us: SERVICE_BOUNDS.to_vec(),
                counts: stats.service_counts.to_vec(),
            },
            queued: stats.queued,
            runs: stats.runs,
            images: stats.images,
            busy_us: micros(stats.busy),
            answers: stats.answers,
            backups: stats.backups,
            deadline_exceeded: stats.deadline_exceeded,
            injected_us: micros(stats.injected),
            injected_runs: stats.injected_runs,
            failures: stats.failures,
            restarts: stats.restarts,
            last_failure: stats.last_failure.clone(),
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Base => "base",
        Role::Collage => "collage",
        Role::Both => "both",
    }
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Ready => "ready",
        WorkerState::Lost => "lost",
        WorkerState::Retired => "retired",
    }
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Probation => "probation",
        Health::Suspect => "suspect",
        Health::Quarantined => "quarantined",
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
