//! What the scheduler keeps of a request and of a job.

use super::event::{Action, JobId, Kind, Micros, RequestId, WorkerId};
use super::group::GroupId;
use super::policy::MAX_RUNS;

/// Where a request's base run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Queued,
    Running {
        job: JobId,
        worker: WorkerId,
    },
    /// It will not come: it failed too often, or nobody can run it.
    Exhausted,
}

/// Where the answer of a request's collage or parity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backup {
    /// There is none: no policy asked for it, it abstained or it was given up.
    None,
    Grouped(GroupId),
    Running {
        job: JobId,
        worker: WorkerId,
    },
    /// Acceptable, and waiting for the release time.
    Held {
        job: JobId,
        index: usize,
        worker: WorkerId,
    },
}

impl Backup {
    /// Where the collage is that may still answer.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match *self {
            Backup::Running { worker, .. } | Backup::Held { worker, .. } => Some(worker),
            Backup::None | Backup::Grouped(_) => None,
        }
    }
}

/// Further base runs of a request, beside its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Copies {
    /// To be launched; the request stands in the queue of copies while there are any.
    pub(super) wanted: u8,
    /// The space is enough for a replicated request that is probed too.
    running: [Option<Further>; MAX_RUNS as usize],
}

#[derive(Clone, Copy, Debug)]
struct Further {
    job: JobId,
    worker: WorkerId,
    is_probe: bool,
}

impl Copies {
    pub(super) fn started(&mut self, job: JobId, worker: WorkerId, is_probe: bool) {
        if let Some(slot) = self.running.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(Further {
                job,
                worker,
                is_probe,
            });
        }
    }

    /// A run came to nothing.
    pub(super) fn lost(&mut self, job: JobId) {
        for slot in &mut self.running {
            *slot = slot.filter(|run| run.job != job);
        }
    }

    pub(super) fn on(&self, worker: WorkerId) -> bool {
        self.running
            .iter()
            .flatten()
            .any(|run| run.worker == worker)
    }

    /// How many may still answer.
    pub(super) fn count(&self) -> usize {
        self.running.iter().flatten().count()
    }

    /// Whether one was started or is to be for the request's own sake.
    pub(super) fn are_made(&self) -> bool {
        self.wanted > 0 || self.running.iter().flatten().any(|run| !run.is_probe)
    }
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) queued_at: Micros,
    /// From when its latency counts.
    pub(super) due_at: Micros,
    pub(super) release_at: Micros,
    pub(super) deadline_at: Micros,
    pub(super) base: Base,
    /// Where its base was last launched.
    pub(super) base_worker: Option<WorkerId>,
    pub(super) backup: Backup,
    pub(super) copies: Copies,
    /// When its present base run counts as late: the timer that stands for it.
    pub(super) late_at: Option<Micros>,
    /// It was late once: a collage that is missing is not waited for.
    pub(super) is_late: bool,
    /// It misses the latency objective on purpose, for its base run's answer.
    pub(super) waits_on: bool,
    /// Base runs that failed.
    pub(super) attempts: u32,
    /// Where one failed last: a broken worker must not use up all attempts.
    pub(super) failed_on: Option<WorkerId>,
    /// Shares its base run with nobody, after one failed.
    pub(super) alone: bool,
}

/// Why a job was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A request's own base run.
    Own,
    /// A replica, a hedge or a re-sent request.
    Copy,
    /// To see how fast a worker is.
    Probe,
    /// A group's collage.
    Group,
    /// A group's parity.
    Parity,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) cause: Cause,
    pub(super) worker: WorkerId,
    pub(super) ids: Vec<RequestId>,
    /// Places in its input, of which its ids fill some.
    pub(super) slots: usize,
    pub(super) launched_at: Micros,
    /// Of a collage or a parity: runs of its group that failed before.
    pub(super) attempts: u32,
    /// Of its ids: cancelled while it ran.
    pub(super) cancelled: u64,
}

impl Job {
    pub(super) fn kind(&self) -> Kind {
        match self.cause {
            Cause::Group => Kind::Collage,
            Cause::Parity => Kind::Parity,
            Cause::Own | Cause::Copy | Cause::Probe => Kind::Base,
        }
    }

    /// The scheduler's word for a launch of these ids, which are its own.
    pub(super) fn action(&self, job: JobId, ids: Vec<RequestId>) -> Action {
        Action::Launch {
            worker: self.worker,
            job,
            kind: self.kind(),
            ids,
            slots: self.slots,
        }
    }
}
