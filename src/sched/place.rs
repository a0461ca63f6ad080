//! The fleet: which workers there are, what they hold, and which one should run the next job.
//!
//! Work waits in one queue, not at the workers, so a straggler delays only what it already runs. Among the workers
//! with a free slot the one with the fewest runs before it goes first, then the one that is fastest as measured.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::event::{JobId, Kind, Micros, WorkerId};
use super::latency::{Normal, Slowness};

/// Which jobs a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Base batches only.
    Base,
    /// Collages only.
    Collage,
    /// Either.
    Both,
}

impl Role {
    /// Whether jobs of this kind run there.
    pub fn can(self, kind: Kind) -> bool {
        match self {
            Role::Base => kind == Kind::Base,
            Role::Collage => kind == Kind::Collage,
            Role::Both => true,
        }
    }
}

/// A worker as the scheduler is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// What it takes.
    pub role: Role,
    /// Which device it is on; workers of one device share its failures.
    pub device: usize,
}

/// Whether a worker may be given jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// Yes.
    Ready,
    /// Not now; its driver is trying to bring it back.
    Lost,
    /// Never again.
    Retired,
}

/// A slower penalty than any measured slowness, for a worker that failed: a broken one fails fast, looks idle and
/// would otherwise draw all work to itself.
const FAILED: f64 = 100.0;

/// Place of a free worker in the order of choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    outstanding: usize,
    slowness: i64,
    pub(super) worker: WorkerId,
}

#[derive(Debug)]
struct Worker {
    config: WorkerConfig,
    state: WorkerState,
    jobs: Vec<JobId>,
    slowness: Slowness,
    /// Runs that failed or took it down since the last that succeeded.
    failures: u32,
    /// When its last run ended: the next one began no earlier.
    ended_at: Micros,
    /// As it stands in the sets of free workers.
    rank: Option<Rank>,
}

/// All workers.
#[derive(Debug)]
pub(super) struct Fleet {
    workers: Vec<Worker>,
    depth: usize,
    normal: Normal,
    free: [BTreeSet<Rank>; 2],
    /// Workers in state `Ready`, by kind.
    ready: [usize; 2],
    /// Workers not in state `Retired`, by kind.
    usable: [usize; 2],
}

const KINDS: [Kind; 2] = [Kind::Base, Kind::Collage];

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Base => 0,
        Kind::Collage => 1,
    }
}

impl Fleet {
    pub(super) fn new(workers: &[WorkerConfig], depth: usize, forget: Micros) -> Self {
        let workers: Vec<Worker> = workers
            .iter()
            .map(|&config| Worker {
                config,
                state: WorkerState::Ready,
                jobs: Vec::new(),
                slowness: Slowness::new(forget, 0),
                failures: 0,
                ended_at: 0,
                rank: None,
            })
            .collect();
        let count = |kind| workers.iter().filter(|w| w.config.role.can(kind)).count();
        let able = KINDS.map(count);
        let mut fleet = Self {
            depth: depth.max(1),
            normal: Normal::default(),
            free: Default::default(),
            ready: able,
            usable: able,
            workers,
        };
        for i in 0..fleet.workers.len() {
            fleet.reindex(WorkerId(i));
        }
        fleet
    }

    /// The best free worker for `kind`, or the next best after `after`.
    pub(super) fn next_free(&self, kind: Kind, after: Option<Rank>) -> Option<Rank> {
        let free = &self.free[slot(kind)];
        match after {
            None => free.first().copied(),
            Some(rank) => free
                .range((Bound::Excluded(rank), Bound::Unbounded))
                .next()
                .copied(),
        }
    }

    /// Whether a worker that is not retired can run `kind`.
    pub(super) fn could(&self, kind: Kind) -> bool {
        self.usable[slot(kind)] > 0
    }

    /// Whether another ready worker than this one can run `kind`.
    pub(super) fn another_ready(&self, kind: Kind, worker: WorkerId) -> bool {
        let own = self
            .workers
            .get(worker.0)
            .is_some_and(|w| w.state == WorkerState::Ready && w.config.role.can(kind));
        self.ready[slot(kind)] > usize::from(own)
    }

    pub(super) fn can(&self, worker: WorkerId, kind: Kind) -> bool {
        self.workers
            .get(worker.0)
            .is_some_and(|w| w.config.role.can(kind))
    }

    pub(super) fn device(&self, worker: WorkerId) -> Option<usize> {
        self.workers.get(worker.0).map(|w| w.config.device)
    }

    pub(super) fn state(&self, worker: WorkerId) -> Option<WorkerState> {
        self.workers.get(worker.0).map(|w| w.state)
    }

    pub(super) fn start(&mut self, worker: WorkerId, job: JobId) {
        if let Some(w) = self.workers.get_mut(worker.0) {
            w.jobs.push(job);
            self.reindex(worker);
        }
    }

    /// A run of `images` images, launched at `launched_at`, succeeded.
    pub(super) fn succeed(
        &mut self,
        worker: WorkerId,
        job: JobId,
        kind: Kind,
        images: usize,
        launched_at: Micros,
        now: Micros,
    ) {
        let Some(w) = self.workers.get_mut(worker.0) else {
            return;
        };
        let service = now.saturating_sub(launched_at.max(w.ended_at));
        let ratio = self.normal.observe(kind, images, service);
        w.slowness.observe(ratio, now);
        w.failures = 0;
        w.ended_at = now;
        w.jobs.retain(|&j| j != job);
        self.reindex(worker);
    }

    /// A run failed; says how many have in a row.
    pub(super) fn fail(&mut self, worker: WorkerId, job: JobId, now: Micros) -> u32 {
        let Some(w) = self.workers.get_mut(worker.0) else {
            return 0;
        };
        w.jobs.retain(|&j| j != job);
        w.ended_at = now;
        let failures = w.strike(now);
        self.reindex(worker);
        failures
    }

    /// The worker is gone for now; gives back its jobs and how often in a row it failed.
    pub(super) fn lose(&mut self, worker: WorkerId, now: Micros) -> (Vec<JobId>, u32) {
        let Some(w) = self.workers.get_mut(worker.0) else {
            return (Vec::new(), 0);
        };
        if w.state != WorkerState::Ready {
            return (Vec::new(), w.failures);
        }
        let failures = w.strike(now);
        (self.set_state(worker, WorkerState::Lost), failures)
    }

    pub(super) fn revive(&mut self, worker: WorkerId, now: Micros) {
        if self.state(worker) == Some(WorkerState::Lost) {
            self.workers[worker.0].ended_at = now;
            self.set_state(worker, WorkerState::Ready);
        }
    }

    /// The worker is gone for good; gives back its jobs.
    pub(super) fn retire(&mut self, worker: WorkerId) -> Vec<JobId> {
        self.set_state(worker, WorkerState::Retired)
    }

    /// Changes the state and the counts with it; gives back the jobs if the worker no longer works.
    fn set_state(&mut self, worker: WorkerId, state: WorkerState) -> Vec<JobId> {
        let Some(w) = self.workers.get_mut(worker.0) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut w.state, state);
        for kind in KINDS.into_iter().filter(|&k| w.config.role.can(k)) {
            let (ready, usable) = (&mut self.ready[slot(kind)], &mut self.usable[slot(kind)]);
            *ready -= usize::from(before == WorkerState::Ready);
            *ready += usize::from(state == WorkerState::Ready);
            *usable -= usize::from(before != WorkerState::Retired);
            *usable += usize::from(state != WorkerState::Retired);
        }
        let jobs = if state == WorkerState::Ready {
            Vec::new()
        } else {
            std::mem::take(&mut w.jobs)
        };
        self.reindex(worker);
        jobs
    }

    /// Puts the worker where it now belongs in the sets of free ones.
    fn reindex(&mut self, worker: WorkerId) {
        let Some(w) = self.workers.get_mut(worker.0) else {
            return;
        };
        let free = w.state == WorkerState::Ready && w.jobs.len() < self.depth;
        let rank = free.then(|| Rank {
            outstanding: w.jobs.len(),
            slowness: w.slowness.rank(),
            worker,
        });
        let before = std::mem::replace(&mut w.rank, rank);
        for kind in KINDS.into_iter().filter(|&k| w.config.role.can(k)) {
            let set = &mut self.free[slot(kind)];
            if let Some(rank) = before {
                set.remove(&rank);
            }
            if let Some(rank) = rank {
                set.insert(rank);
            }
        }
    }
}

impl Worker {
    fn strike(&mut self, now: Micros) -> u32 {
        self.slowness.observe(FAILED, now);
        self.failures += 1;
        self.failures
    }
}
