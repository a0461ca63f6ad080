//! The scheduler's vocabulary: what it is told ([`Event`]), what it asks for ([`Action`]), and the names of things.

use std::fmt;

use super::condition::Condition;
use crate::error::Classify;

/// Microseconds since an origin that the driver chooses. Only differences matter.
pub type Micros = u64;

/// A request, named by the driver. A name is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One run of a plan on one worker, named by the scheduler in order of launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Index of a worker in [`Config::workers`](super::Config::workers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The base model on a batch of images.
    Base,
    /// The collage network on one canvas of tiles.
    Collage,
    /// The parity model on the mean of a group's images.
    Parity,
}

/// Who answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The request's own base run.
    Base,
    /// Its tile of a collage.
    Collage,
    /// A further run of the base model on another worker: a replica, a hedge, a re-sent request or a probe.
    Copy,
    /// Nobody: it was decoded from its group's parity and the answers of all other members.
    Parity,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Base => "base",
            Source::Collage => "collage",
            Source::Copy => "copy",
            Source::Parity => "parity",
        })
    }
}

/// What a request's base run and its backup, a collage, a copy, or a parity with all that is decoded with it, did *not*
/// share, so: which failure leaves one of them alive. A run that was never started shares nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Independence {
    /// They shared their worker, or there was no backup.
    None,
    /// Same device, another worker.
    Worker,
    /// Another device.
    Device,
}

impl fmt::Display for Independence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Independence::None => "none",
            Independence::Worker => "worker",
            Independence::Device => "device",
        })
    }
}

/// What the driver tells the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new request.
    Submit {
        /// Its name.
        id: RequestId,
        /// From then on a collage or a parity may answer it. At or after the deadline: only the base answers it.
        release_at: Micros,
        /// Answered by then or failed.
        deadline_at: Micros,
    },
    /// A new request that was due earlier than now: latency objectives count from there.
    SubmitDue {
        /// Its name.
        id: RequestId,
        /// When it was due.
        due_at: Micros,
        /// As of `Submit`.
        release_at: Micros,
        /// As of `Submit`.
        deadline_at: Micros,
    },
    /// A job ran to its end.
    Done {
        /// Where.
        worker: WorkerId,
        /// Which.
        job: JobId,
        /// Of a collage: the best score of each of the job's ids, in their order; a missing one abstains. Not read
        /// of base and parity jobs, whose answers are always acceptable.
        confidences: Vec<f32>,
    },
    /// A job failed; its worker still works.
    Failed {
        /// Where.
        worker: WorkerId,
        /// Which.
        job: JobId,
    },
    /// A worker and the jobs that it held are gone; it may come back.
    WorkerLost {
        /// Which.
        worker: WorkerId,
    },
    /// A lost worker is back.
    WorkerReady {
        /// Which.
        worker: WorkerId,
    },
    /// A worker and the jobs that it held are gone for good.
    Retired {
        /// Which.
        worker: WorkerId,
    },
    /// What a worker's device says of itself, whenever that changes.
    Telemetry {
        /// Which.
        worker: WorkerId,
        /// From now until the next of its kind.
        condition: Condition,
    },
    /// Nobody waits for the request any more.
    Cancel {
        /// Which.
        id: RequestId,
    },
    /// Take no more requests and wait for nothing that would only improve a batch or a group.
    Drain,
    /// The time of [`poll_timeout`](super::Scheduler::poll_timeout) has come.
    Tick,
}

/// What the scheduler asks the driver to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Run `kind` on `worker` with these requests' images, in this order; then report `Done` or `Failed`.
    Launch {
        /// Where.
        worker: WorkerId,
        /// Its name.
        job: JobId,
        /// What.
        kind: Kind,
        /// Images; a collage's tiles in row-major order, the remaining tiles blank; a parity's members, repeated in
        /// this order until all slots are full.
        ids: Vec<RequestId>,
        /// Places in the run's input: tiles of the canvas, which say which grid it runs on; images of the parity query,
        /// each member [`repeats`](super::repeats) times; images of a base run.
        slots: usize,
    },
    /// Decode a request's answer, which the next action, its `Settle`, gives.
    Decode {
        /// Whose.
        id: RequestId,
        /// The parity job that it is a member of.
        parity: JobId,
        /// How often it stands in the parity query.
        times: usize,
        /// All other members.
        others: Vec<Part>,
    },
    /// Tell the caller. Exactly one for each submitted request; its payload may be dropped.
    Settle {
        /// Which.
        id: RequestId,
        /// How.
        outcome: Result<Answer, Error>,
    },
    /// No answer will be taken from this job's results any more. One for each job that was `Done`.
    Forget {
        /// Which.
        job: JobId,
    },
    /// The worker failed too often in a row: stop it. It counts as [`Event::Retired`] already.
    Retire {
        /// Which.
        worker: WorkerId,
    },
}

/// A known answer that another one is decoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The base job whose results hold it.
    pub job: JobId,
    /// Its place among that job's ids.
    pub index: usize,
    /// How often its image stands in the parity query.
    pub times: usize,
}

/// Where a request's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who gave it.
    pub source: Source,
    /// Whose results hold it; of a decoded one, those of the parity.
    pub job: JobId,
    /// Its place among that job's ids.
    pub index: usize,
    /// Which ran that job.
    pub worker: WorkerId,
    /// Of base run and backup.
    pub independence: Independence,
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// As many requests wait as the queue may hold.
    #[error("overloaded: {queue} requests are waiting, as many as `queue` allows")]
    Overloaded {
        /// The bound.
        queue: usize,
    },
    /// No acceptable answer by the deadline.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// Its caller went away.
    #[error("cancelled")]
    Cancelled,
    /// Every run of it failed or took its worker down, and no collage answered for it.
    #[error("failed in {attempts} runs")]
    Failed {
        /// Base runs that were tried.
        attempts: u32,
    },
    /// No worker is left that could run it.
    #[error("no worker is left")]
    NoWorkers,
    /// Submitted after [`Event::Drain`].
    #[error("closed: no more requests are taken")]
    Closed,
}

impl Classify for Error {
    fn code(&self) -> u32 {
        match self {
            Error::Overloaded { .. } => 400,
            Error::DeadlineExceeded => 401,
            Error::Cancelled => 402,
            Error::Failed { .. } => 403,
            Error::NoWorkers => 404,
            Error::Closed => 405,
        }
    }

    fn can_retry(&self) -> bool {
        matches!(
            self,
            Error::Overloaded { .. } | Error::DeadlineExceeded | Error::Failed { .. }
        )
    }
}
