//! A scheduler in a test's hands: its clock, its workers, and what it did so far.
#![allow(dead_code)] // each test file uses its own part

use collage::sched::{
    Action, Answer, Config, Error, Event, GridWork, JobId, Kind, Micros, Part, RequestId, Role,
    Scheduler, Source, WorkerConfig, WorkerId,
};

pub const NEVER: Micros = 1_000_000_000;

/// A launch: where, which job, what, of whom.
pub type Launch = (usize, JobId, Kind, Vec<u64>);

/// One grid of so many tiles.
pub fn tiles(tiles: usize) -> Vec<GridWork> {
    vec![GridWork::new(tiles, 1.0)]
}

/// A scheduler, its clock, and what it did.
pub struct Sim {
    pub scheduler: Scheduler,
    pub workers: usize,
    pub now: Micros,
    pub launches: Vec<Launch>,
    /// Of all launches so far.
    pub slots: Vec<usize>,
    /// Who was decoded: how often it stood in the query, and with what.
    pub decoded: Vec<(u64, usize, Vec<Part>)>,
    pub settled: Vec<(u64, Result<Answer, Error>)>,
    pub forgotten: Vec<JobId>,
    pub retired: Vec<usize>,
}

impl Sim {
    /// Workers by role and device; groups of four, no waiting for batches.
    pub fn new(workers: &[(Role, usize)], change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            workers: workers
                .iter()
                .map(|&(role, device)| WorkerConfig { role, device })
                .collect(),
            grids: tiles(4),
            group_wait: 1_000,
            max_batch: 4,
            ..Config::default()
        };
        change(&mut config);
        Sim {
            workers: config.workers.len(),
            scheduler: Scheduler::new(config),
            now: 0,
            launches: Vec::new(),
            slots: Vec::new(),
            decoded: Vec::new(),
            settled: Vec::new(),
            forgotten: Vec::new(),
            retired: Vec::new(),
        }
    }

    pub fn handle(&mut self, event: Event) {
        self.scheduler.handle(event, self.now);
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Launch {
                    worker,
                    job,
                    kind,
                    ids,
                    slots,
                } => {
                    self.slots.push(slots);
                    self.launches.push((
                        worker.0,
                        job,
                        kind,
                        ids.into_iter().map(|id| id.0).collect(),
                    ));
                }
                Action::Decode {
                    id, times, others, ..
                } => self.decoded.push((id.0, times, others)),
                Action::Settle { id, outcome } => self.settled.push((id.0, outcome)),
                Action::Forget { job } => self.forgotten.push(job),
                Action::Retire { worker } => self.retired.push(worker.0),
            }
        }
    }

    pub fn submit(&mut self, id: u64, release_at: Micros, deadline_at: Micros) {
        self.handle(Event::Submit {
            id: RequestId(id),
            release_at,
            deadline_at,
        });
    }

    /// Submits `ids`, released at once and due never.
    pub fn submit_all(&mut self, ids: std::ops::Range<u64>) {
        ids.for_each(|id| self.submit(id, 0, NEVER));
    }

    /// Lets time pass to `at`, ticking as asked.
    pub fn pass(&mut self, at: Micros) {
        while let Some(timeout) = self.scheduler.poll_timeout().filter(|&t| t <= at) {
            self.now = timeout;
            self.handle(Event::Tick);
        }
        self.now = at;
    }

    pub fn done(&mut self, launch: &Launch) {
        self.done_with(launch, 0.9);
    }

    pub fn done_with(&mut self, (worker, job, _, ids): &Launch, confidence: f32) {
        let confidences = vec![confidence; ids.len()];
        self.handle(Event::Done {
            worker: WorkerId(*worker),
            job: *job,
            confidences,
        });
    }

    pub fn failed(&mut self, (worker, job, ..): &Launch) {
        self.handle(Event::Failed {
            worker: WorkerId(*worker),
            job: *job,
        });
    }

    /// What was launched since the last call.
    pub fn launched(&mut self) -> Vec<Launch> {
        std::mem::take(&mut self.launches)
    }

    /// The only launch since the last call.
    pub fn launch(&mut self) -> Launch {
        let launches = self.launched();
        assert_eq!(launches.len(), 1, "{launches:?}");
        launches[0].clone()
    }

    /// Who was settled since the last call, and by what.
    pub fn outcomes(&mut self) -> Vec<(u64, Result<Source, Error>)> {
        std::mem::take(&mut self.settled)
            .into_iter()
            .map(|(id, o)| (id, o.map(|a| a.source)))
            .collect()
    }
}

pub const BASE: (Role, usize) = (Role::Base, 0);
pub const COLLAGE: (Role, usize) = (Role::Collage, 0);
pub const BOTH: (Role, usize) = (Role::Both, 0);
