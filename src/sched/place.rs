//! The fleet: which workers there are, what they hold, and which one should run the next job.
//!
//! Work waits in one queue, not at the workers, so a straggler delays only what it already runs. Among the workers
//! with a free slot the healthiest go first, then the one with the fewest runs before it, then the one that is fastest
//! as measured. A quarantined worker counts as free only while no other worker of its kind is left.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::condition::Condition;
use super::config::Config;
use super::event::{JobId, Kind, Micros, WorkerId};
use super::health::{Health, HealthConfig, Scores, Ward};
use super::latency::{Normal, Slowness};

/// Which jobs a worker takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Base batches only.
    Base,
    /// Collages or parities only.
    Collage,
    /// Either.
    #[default]
    Both,
}

impl Role {
    /// Whether jobs of this kind run there.
    pub fn can(self, kind: Kind) -> bool {
        match self {
            Role::Base => kind == Kind::Base,
            Role::Collage => kind != Kind::Base,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// Yes.
    #[default]
    Ready,
    /// Not now; its driver is trying to bring it back.
    Lost,
    /// Never again.
    Retired,
}

/// In which order workers with a free slot are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The healthiest, least loaded and fastest first.
    #[default]
    Fastest,
    /// By lot: base runs and collages among the least loaded, further runs of a request on any other worker whatever
    /// it is doing. What a client does that knows nothing of the workers; for comparisons.
    Random {
        /// Of the lots.
        seed: u64,
    },
}

/// A slower penalty than any measured slowness, for a worker that failed: a broken one fails fast, looks idle and
/// would otherwise draw all work to itself.
const FAILED: f64 = 100.0;

/// Place of a free worker in the order of choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    health: Health,
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
    ward: Option<Ward>,
    lots: Option<Lots>,
    free: [BTreeSet<Rank>; 2],
    /// Workers in state `Ready`, by kind.
    ready: [usize; 2],
    /// Of those, the ones that are not quarantined.
    sound: [usize; 2],
    /// Workers not in state `Retired`, by kind.
    usable: [usize; 2],
}

/// Most workers that one decision looks at.
const LOOK_AHEAD: usize = 16;

const KINDS: [Kind; 2] = [Kind::Base, Kind::Collage];

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Base => 0,
        // A policy has one of them.
        Kind::Collage | Kind::Parity => 1,
    }
}

impl Fleet {
    pub(super) fn new(config: &Config) -> Self {
        let workers: Vec<Worker> = config
            .workers
            .iter()
            .map(|&worker| Worker {
                config: worker,
                state: WorkerState::Ready,
                jobs: Vec::new(),
                slowness: Slowness::new(config.forget, 0),
                failures: 0,
                ended_at: 0,
                rank: None,
            })
            .collect();
        let count = |kind| workers.iter().filter(|w| w.config.role.can(kind)).count();
        let able = KINDS.map(count);
        let mut fleet = Self {
            depth: config.depth.max(1),
            normal: Normal::default(),
            ward: config
                .health
                .map(|h: HealthConfig| Ward::new(h, workers.len())),
            lots: match config.placement {
                Placement::Fastest => None,
                Placement::Random { seed } => Some(Lots(seed)),
            },
            free: Default::default(),
            ready: able,
            sound: able,
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
        let next = match after {
            None => free.first().copied(),
            Some(rank) => free
                .range((Bound::Excluded(rank), Bound::Unbounded))
                .next()
                .copied(),
        };
        next.filter(|rank| rank.health != Health::Quarantined || self.sound[slot(kind)] == 0)
    }

    /// Whether any worker that runs `kind` could be given a job, trusted or not.
    pub(super) fn has_room(&self, kind: Kind) -> bool {
        !self.free[slot(kind)].is_empty()
    }

    /// Another worker for a further base run: the best free one that `suits` better than others do, or any that suits
    /// at all where placement goes by lot. `suits` is `None` where it must not run, else smaller is better.
    pub(super) fn another(
        &mut self,
        suits: impl Fn(WorkerId, usize) -> Option<u8>,
    ) -> Option<WorkerId> {
        if let Some(lots) = &mut self.lots {
            let able = |id: &WorkerId| {
                let worker = &self.workers[id.0];
                let has_room = worker.can_now(Kind::Base) && worker.jobs.len() < self.depth;
                has_room && suits(*id, worker.config.device).is_some()
            };
            let all: Vec<_> = (0..self.workers.len()).map(WorkerId).filter(able).collect();
            let lot = lots.draw() as usize % all.len().max(1);
            return all.get(lot).copied();
        }
        let (mut after, mut best) = (None, None);
        for _ in 0..LOOK_AHEAD {
            let Some(rank) = self.next_free(Kind::Base, after) else {
                break;
            };
            after = Some(rank);
            match suits(rank.worker, self.device(rank.worker)?) {
                Some(0) => return Some(rank.worker),
                Some(n) if best.is_none_or(|(m, _)| n < m) => best = Some((n, rank.worker)),
                _ => {}
            }
        }
        best.map(|(_, worker)| worker)
    }

    /// Workers that could take a base run now, were they free: those that share what waits.
    pub(super) fn sound(&self, kind: Kind) -> usize {
        self.sound[slot(kind)]
    }

    /// What a worker holds.
    pub(super) fn jobs(&self, worker: WorkerId) -> &[JobId] {
        self.workers.get(worker.0).map_or(&[], |w| &w.jobs)
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

    /// Jobs that a worker has.
    pub(super) fn held(&self, worker: WorkerId) -> usize {
        self.workers.get(worker.0).map_or(0, |w| w.jobs.len())
    }

    pub(super) fn start(&mut self, worker: WorkerId, job: JobId) {
        if let Some(w) = self.workers.get_mut(worker.0) {
            w.jobs.push(job);
            self.reindex(worker);
        }
    }

    /// A run of `images` images, launched at `launched_at`, succeeded. Gives its time, if its worker is one by which
    /// others may be measured.
    pub(super) fn succeed(
        &mut self,
        worker: WorkerId,
        job: JobId,
        (kind, images): (Kind, usize),
        launched_at: Micros,
        now: Micros,
    ) -> Option<Micros> {
        let w = self.workers.get_mut(worker.0)?;
        // With runs that do not wait for each other the last end says nothing about this one's beginning.
        let began = if self.depth > 2 {
            launched_at
        } else {
            launched_at.max(w.ended_at)
        };
        let service = now.saturating_sub(began);
        let ratio = self.normal.observe(kind, images, service);
        w.slowness.observe(ratio, now);
        w.failures = 0;
        w.ended_at = now;
        w.jobs.retain(|&j| j != job);
        if let Some(ward) = &mut self.ward {
            let next = ward.observe(worker, ratio);
            if next != ward.state(worker) {
                self.judge(worker, next, now);
            }
        }
        self.reindex(worker);
        matches!(self.health(worker), Health::Healthy | Health::Probation).then_some(service)
    }

    pub(super) fn health(&self, worker: WorkerId) -> Health {
        self.ward
            .as_ref()
            .map_or(Health::Healthy, |w| w.state(worker))
    }

    pub(super) fn scores(&self, worker: WorkerId) -> Option<Scores> {
        self.ward.as_ref()?.scores(worker)
    }

    /// A free worker whose probe is due.
    pub(super) fn probe_due(&self, now: Micros) -> Option<WorkerId> {
        let free = |w: &WorkerId| {
            self.workers
                .get(w.0)
                .is_some_and(|w| w.can_now(Kind::Base) && w.jobs.is_empty())
        };
        self.ward.as_ref()?.due(now).take(LOOK_AHEAD).find(free)
    }

    pub(super) fn probed(&mut self, worker: WorkerId, now: Micros) {
        if let Some(ward) = &mut self.ward {
            ward.probed(worker, now);
        }
    }

    /// Changes a worker's health, unless that would leave too few.
    fn judge(&mut self, worker: WorkerId, next: Health, now: Micros) {
        let Some(role) = self.workers.get(worker.0).map(|w| w.config.role) else {
            return;
        };
        let before = self.health(worker);
        let kinds = || KINDS.into_iter().filter(|&k| role.can(k));
        if next == Health::Quarantined {
            // Probes are base runs: a worker for collages only could not prove itself. The end of a fault needs no
            // proof by it.
            let spared = kinds().any(|k| self.sound[slot(k)] <= self.least_sound(k));
            let is_faulty = self.ward.as_ref().is_some_and(|w| w.is_faulty(worker));
            if spared || !(role.can(Kind::Base) || is_faulty) {
                // A broken one that cannot be spared is at least the last that is chosen.
                if is_faulty && before != Health::Suspect {
                    self.judge(worker, Health::Suspect, now);
                }
                return;
            }
        }
        for kind in kinds() {
            let sound = &mut self.sound[slot(kind)];
            *sound += usize::from(before == Health::Quarantined);
            *sound -= usize::from(next == Health::Quarantined);
        }
        if let Some(ward) = &mut self.ward {
            ward.enter(worker, next, now);
        }
    }

    /// A worker's device says this of itself from now on.
    pub(super) fn told(&mut self, worker: WorkerId, condition: Condition, now: Micros) {
        let Some(ward) = &mut self.ward else {
            return;
        };
        let next = ward.told(worker, condition, now);
        // Of one that is away it counts when it is back.
        if next != ward.state(worker) && self.state(worker) == Some(WorkerState::Ready) {
            self.judge(worker, next, now);
            self.reindex(worker);
        }
    }

    /// Ready workers of a kind that must not be quarantined.
    fn least_sound(&self, kind: Kind) -> usize {
        let ready = self.ready[slot(kind)];
        let share = self.ward.as_ref().map_or(1.0, Ward::quorum).clamp(0.0, 1.0);
        ((ready as f64 * share).ceil() as usize).max(2).min(ready)
    }

    /// After workers left: takes quarantined ones back until the quorum is there again, the broken ones last.
    fn uphold_quorum(&mut self, now: Micros) {
        let by_need = KINDS.map(|kind| [(kind, false), (kind, true)]);
        for (kind, take_faulty) in by_need.into_iter().flatten() {
            for i in 0..self.workers.len() {
                if self.sound[slot(kind)] >= self.least_sound(kind) {
                    break;
                }
                let worker = WorkerId(i);
                let is_faulty = self.ward.as_ref().is_some_and(|w| w.is_faulty(worker));
                if self.workers[i].can_now(kind)
                    && self.health(worker) == Health::Quarantined
                    && (take_faulty || !is_faulty)
                {
                    self.judge(worker, Health::Probation, now);
                    self.reindex(worker);
                }
            }
        }
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
        (self.set_state(worker, WorkerState::Lost, now), failures)
    }

    pub(super) fn revive(&mut self, worker: WorkerId, now: Micros) {
        if self.state(worker) == Some(WorkerState::Lost) {
            self.workers[worker.0].ended_at = now;
            self.set_state(worker, WorkerState::Ready, now);
            if let Some(ward) = &self.ward {
                let next = ward.welcome(worker);
                if next != ward.state(worker) {
                    self.judge(worker, next, now);
                    self.reindex(worker);
                }
            }
        }
    }

    /// The worker is gone for good; gives back its jobs.
    pub(super) fn retire(&mut self, worker: WorkerId, now: Micros) -> Vec<JobId> {
        self.set_state(worker, WorkerState::Retired, now)
    }

    /// Changes the state and the counts with it; gives back the jobs if the worker no longer works.
    fn set_state(&mut self, worker: WorkerId, state: WorkerState, now: Micros) -> Vec<JobId> {
        let is_quarantined = self.health(worker) == Health::Quarantined;
        let Some(w) = self.workers.get_mut(worker.0) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut w.state, state);
        let [was, is] = [before, state].map(|s| s == WorkerState::Ready);
        for kind in KINDS.into_iter().filter(|&k| w.config.role.can(k)) {
            let at = slot(kind);
            self.ready[at] = self.ready[at] + usize::from(is) - usize::from(was);
            self.sound[at] -= usize::from(was && !is_quarantined);
            // Who comes back from quarantine comes back on probation.
            self.sound[at] += usize::from(is && (!is_quarantined || !was));
            self.usable[at] -= usize::from(before != WorkerState::Retired);
            self.usable[at] += usize::from(state != WorkerState::Retired);
        }
        let jobs = if is {
            Vec::new()
        } else {
            std::mem::take(&mut w.jobs)
        };
        match &mut self.ward {
            Some(ward) if is && !was => ward.returned(worker, now),
            Some(ward) if was && !is => ward.left(worker),
            _ => {}
        }
        self.reindex(worker);
        if was && !is {
            self.uphold_quorum(now);
        }
        jobs
    }

    /// Puts the worker where it now belongs in the sets of free ones.
    fn reindex(&mut self, worker: WorkerId) {
        let health = self.health(worker);
        let Some(w) = self.workers.get_mut(worker.0) else {
            return;
        };
        let free = w.state == WorkerState::Ready && w.jobs.len() < self.depth;
        let rank = free.then(|| Rank {
            health,
            outstanding: w.jobs.len(),
            slowness: match &mut self.lots {
                Some(lots) => lots.draw() as i64,
                None => w.slowness.rank(),
            },
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
    fn can_now(&self, kind: Kind) -> bool {
        self.state == WorkerState::Ready && self.config.role.can(kind)
    }

    fn strike(&mut self, now: Micros) -> u32 {
        self.slowness.observe(FAILED, now);
        self.failures += 1;
        self.failures
    }
}

/// Lots for [`Placement::Random`]; splitmix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
struct Lots(u64);

impl Lots {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
