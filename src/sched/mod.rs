//! The scheduler: a pure state machine. It has no clock, no thread and no I/O, so that the host can drive it in real
//! time, the tests and the simulator in virtual time, and the same events always give the same actions.
//!
//! ```text
//!               Submit, Done, Failed, WorkerLost, ...  ->  handle(event, now)
//!  Launch, Decode, Settle, Forget, Retire  <-  poll_action()        poll_timeout()  ->  when to send Tick
//! ```
//!
//! The driver calls [`Scheduler::handle`] for whatever happens, then carries out [`Scheduler::poll_action`] until it
//! is empty, then waits for the next thing to happen or for [`Scheduler::poll_timeout`], whichever is first.
//! Payloads stay with the driver, under the request's and the job's id; it may drop a request's at its `Settle` and a
//! job's results at its `Forget`.
//!
//! What is kept true: each submitted request is settled exactly once, by its deadline if the driver ticks; no collage or
//! parity answers before the release time; a collage, a parity and a copy run on another worker than its members' bases if
//! there is one; extra work that lateness asks for stays within the budget; nothing is kept for a request after it is
//! settled.
//!
//! | file | what it decides |
//! |---|---|
//! | `queue`, `batch` | what runs together, and when |
//! | `place`, `latency` | where |
//! | `policy`, `group`, `pace` | what runs beside it, and how many share it |
//! | `parity` | who is decoded from a parity, and what is kept for that |
//! | `late`, `histogram`, `budget` | when a run is late, and what may be done about it |
//! | `accuracy`, `promise` | how early a collage may answer where its loss is limited, and how late where latency is |
//! | `health`, `condition` | who straggles, by its runs and by what its device says, and what such a worker is still given |
//! | `settle`, `timers` | who answers, and when it is too late |
//!
//! `spare` keeps memory for the next decision.

mod accuracy;
mod batch;
mod budget;
mod condition;
mod config;
mod event;
mod group;
mod health;
mod histogram;
mod late;
mod latency;
mod map;
mod pace;
mod parity;
mod place;
mod policy;
mod promise;
mod queue;
mod request;
mod settle;
mod spare;
mod stats;
mod timers;

use std::collections::VecDeque;

pub use accuracy::AccuracyBudget;
pub use condition::Condition;
pub use config::{Config, GridWork};
pub use event::{
    Action, Answer, Error, Event, Independence, JobId, Kind, Micros, Part, RequestId, Source,
    WorkerId,
};
pub use health::{Health, HealthConfig, Scores};
pub use map::IdMap;
pub use place::{Placement, Role, WorkerConfig, WorkerState};
pub use policy::{After, AfterError, MAX_MEMBERS, MAX_RUNS, Policy, PolicyError, Tiling, repeats};
pub use promise::{Objective, ObjectiveError, Promise, Promises};
pub use stats::Stats;

use accuracy::Purse;
use budget::Budget;
use group::Groups;
use late::Times;
use pace::Pace;
use parity::Codes;
use place::Fleet;
use promise::Ledger;
use queue::Fifo;
use request::{Backup, Base, Cause, Copies, Job, Request};
use spare::Spare;
use timers::{Due, Timer, Timers};

/// See the [module](self).
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    now: Micros,
    draining: bool,
    /// Accepted and unsettled.
    requests: IdMap<RequestId, Request>,
    /// Requests that wait for their base run, oldest first.
    queue: Fifo<RequestId>,
    /// Requests that wait for a further run beside their own, oldest first.
    copies: Fifo<RequestId>,
    groups: Groups,
    pace: Pace,
    codes: Codes,
    fleet: Fleet,
    times: Times,
    budget: Budget,
    purse: Option<Purse>,
    ledger: Option<Ledger>,
    /// Launched and not ended.
    jobs: IdMap<JobId, Job>,
    /// Ended jobs and how many of their answers are held.
    held: IdMap<JobId, usize>,
    timers: Timers,
    actions: VecDeque<Action>,
    spare: Spare,
    stats: Stats,
    next_job: u64,
}

impl Scheduler {
    /// A scheduler whose workers are all ready.
    pub fn new(config: Config) -> Self {
        let config = config.in_order();
        Self {
            fleet: Fleet::new(&config),
            times: Times::default(),
            budget: Budget::new(config.budget),
            purse: config.accuracy.map(Purse::new),
            ledger: config.objective.map(Ledger::new),
            config,
            now: 0,
            draining: false,
            requests: IdMap::default(),
            queue: Fifo::default(),
            copies: Fifo::default(),
            groups: Groups::default(),
            pace: Pace::default(),
            codes: Codes::default(),
            jobs: IdMap::default(),
            held: IdMap::default(),
            timers: Timers::default(),
            actions: VecDeque::new(),
            spare: Spare::default(),
            stats: Stats::default(),
            next_job: 0,
        }
    }

    /// Something happened at `now`. Time that runs backwards stands still instead.
    pub fn handle(&mut self, event: Event, now: Micros) {
        self.now = self.now.max(now);
        // What fell due before this event is settled before it: a base answer just after the deadline is late.
        self.expire(self.now, false);
        match event {
            Event::Submit {
                id,
                release_at,
                deadline_at,
            } => self.submit(id, self.now, release_at, deadline_at),
            Event::SubmitDue {
                id,
                due_at,
                release_at,
                deadline_at,
            } => self.submit(id, due_at.min(self.now), release_at, deadline_at),
            Event::Done {
                worker,
                job,
                confidences,
            } => self.done(worker, job, &confidences),
            Event::Failed { worker, job } => self.failed(worker, job),
            Event::WorkerLost { worker } => self.worker_lost(worker),
            Event::WorkerReady { worker } => self.fleet.revive(worker, self.now),
            Event::Retired { worker } => self.worker_retired(worker),
            Event::Telemetry { worker, condition } => self.fleet.told(worker, condition, self.now),
            Event::Cancel { id } => self.cancel(id),
            Event::Drain => self.draining = true,
            Event::Tick => {}
        }
        self.expire(self.now, true);
        self.launch();
        self.sweep();
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes back the ids of an [`Action::Launch`] that the driver is done with, so that the next launch needs no new
    /// memory. A driver that keeps them loses nothing else.
    pub fn recycle(&mut self, ids: Vec<RequestId>) {
        self.spare.give(ids);
    }

    /// When to send [`Event::Tick`] if nothing else happens before.
    pub fn poll_timeout(&mut self) -> Option<Micros> {
        while let Some(timer) = self.timers.first() {
            if is_live(&self.requests, timer) {
                break;
            }
            self.timers.pop();
        }
        let timer = self.timers.first().map(|t| t.at);
        let group = self.groups.closes_at(self.config.group_wait);
        let group = group.filter(|&at| at > self.now); // else it waits for a worker
        let batch = self.batch_closes_at();
        [timer, group, batch].into_iter().flatten().min()
    }

    /// Requests accepted and not settled.
    pub fn pending(&self) -> usize {
        self.requests.len()
    }

    /// Jobs launched and not ended.
    pub fn running(&self) -> usize {
        self.jobs.len()
    }

    /// Whether a launched job is a backup, that is anything but requests' own base runs; `None` once it has ended.
    pub fn is_backup(&self, job: JobId) -> Option<bool> {
        self.jobs.get(&job).map(|job| job.cause != Cause::Own)
    }

    /// Whether nothing is kept for any request, group or job.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.jobs.is_empty()
            && self.held.is_empty()
            && self.groups.is_empty()
            && self.codes.is_empty()
            && self.queue.live() == 0
            && self.copies.live() == 0
            && self.timers.len() == 0
            && self.actions.is_empty()
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What a worker may be given now; `None` for a worker that does not exist.
    pub fn worker_state(&self, worker: WorkerId) -> Option<WorkerState> {
        self.fleet.state(worker)
    }

    /// What a worker is trusted with.
    pub fn health(&self, worker: WorkerId) -> Health {
        self.fleet.health(worker)
    }

    /// How a worker compares with its peers and with its own best; `None` before it has run enough.
    pub fn scores(&self, worker: WorkerId) -> Option<Scores> {
        self.fleet.scores(worker)
    }

    /// Jobs that a worker holds: launched there and not ended.
    pub fn queued(&self, worker: WorkerId) -> usize {
        self.fleet.held(worker)
    }

    fn submit(&mut self, id: RequestId, due_at: Micros, release_at: Micros, deadline_at: Micros) {
        self.stats.submitted += 1;
        let policy = self.config.policy;
        let backed = policy.uses_groups() && self.fleet.could(Kind::Collage);
        let based = self.fleet.could(Kind::Base);
        if self.draining {
            return self.refuse(id, Error::Closed);
        } else if !(based || backed && policy.uses_collage()) {
            // A parity is decoded with base answers.
            return self.refuse(id, Error::NoWorkers);
        } else if self.requests.len() >= self.config.queue {
            return self.refuse(
                id,
                Error::Overloaded {
                    queue: self.config.queue,
                },
            );
        }
        let is_lazy = policy.lazy().is_some();
        let release_at = self.release_for(due_at, release_at, deadline_at);
        let late_at = self
            .late_unless_begun(due_at, release_at)
            .filter(|_| backed);
        let request = Request {
            queued_at: self.now,
            due_at,
            release_at,
            deadline_at,
            base: if based { Base::Queued } else { Base::Exhausted },
            base_worker: None,
            backup: Backup::None,
            copies: Copies::default(),
            late_at: late_at.filter(|&at| at < deadline_at),
            is_late: false,
            waits_on: false,
            attempts: 0,
            failed_on: None,
            alone: false,
        };
        if let Some(at) = request.late_at {
            let due = Due::Late;
            self.timers.push(Timer { at, due, id });
        }
        self.requests.insert(id, request);
        self.budget.earn();
        if backed && !(is_lazy && based) {
            self.join_group(id);
        }
        if based {
            self.queue.push_back(id);
        }
        self.timers.push(Timer {
            at: deadline_at,
            due: Due::Deadline,
            id,
        });
    }

    fn failed(&mut self, worker: WorkerId, job: JobId) {
        if !self.jobs.contains_key(&job) {
            return;
        }
        let failures = self.fleet.fail(worker, job, self.now);
        self.lost_job(job);
        self.retire_after(worker, failures);
    }

    fn worker_lost(&mut self, worker: WorkerId) {
        let (jobs, failures) = self.fleet.lose(worker, self.now);
        for job in jobs {
            self.lost_job(job);
        }
        self.retire_after(worker, failures);
    }

    fn retire_after(&mut self, worker: WorkerId, failures: u32) {
        if failures >= self.config.max_failures
            && self.fleet.state(worker) != Some(WorkerState::Retired)
        {
            // Said first, because requests may fail for it.
            self.actions.push_back(Action::Retire { worker });
            self.worker_retired(worker);
        }
    }

    fn worker_retired(&mut self, worker: WorkerId) {
        for job in self.fleet.retire(worker, self.now) {
            self.lost_job(job);
        }
        self.give_up_impossible();
    }

    /// Launches all that is due and has a worker: base runs and collages, the oldest first, and then copies.
    fn launch(&mut self) {
        loop {
            // Each time, because a launch may be what a group waited for.
            self.close_group();
            let launched = match (self.batch_due(), self.collage_due()) {
                (None, None) => self.launch_copy(),
                (Some(_), None) => self.launch_base() || self.launch_copy(),
                (None, Some(_)) => self.launch_collage() || self.launch_copy(),
                (Some(base), Some(collage)) if collage < base => {
                    self.launch_collage() || self.launch_base() || self.launch_copy()
                }
                (Some(_), Some(_)) => {
                    self.launch_base() || self.launch_collage() || self.launch_copy()
                }
            };
            if !launched {
                return;
            }
        }
    }

    fn next_job(&mut self) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        id
    }

    fn launch_job(&mut self, id: JobId, job: Job) {
        self.fleet.start(job.worker, id);
        let mut ids = self.spare.take();
        ids.extend_from_slice(&job.ids);
        self.actions.push_back(job.action(id, ids));
        self.jobs.insert(id, job);
    }

    /// Forgets timers of settled requests when they outnumber the live ones.
    fn sweep(&mut self) {
        if self.timers.len() > 4 * self.requests.len() + 64 || self.requests.is_empty() {
            let requests = &self.requests;
            self.timers.retain(|timer| is_live(requests, timer));
        }
    }
}

fn is_live(requests: &IdMap<RequestId, Request>, timer: Timer) -> bool {
    requests
        .get(&timer.id)
        .is_some_and(|request| match timer.due {
            Due::Release => matches!(request.backup, Backup::Held { .. }),
            Due::Late => request.late_at == Some(timer.at),
            Due::Deadline => true,
        })
}
