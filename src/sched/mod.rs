//! The scheduler: a pure state machine. It has no clock, no thread and no I/O, so that the host can drive it in real
//! time, the tests and the simulator in virtual time, and the same events always give the same actions.
//!
//! ```text
//!               Submit, Done, Failed, WorkerLost, ...  ->  handle(event, now)
//!  Launch, Settle, Forget, Retire  <-  poll_action()        poll_timeout()  ->  when to send Tick
//! ```
//!
//! The driver calls [`Scheduler::handle`] for whatever happens, then carries out [`Scheduler::poll_action`] until it
//! is empty, then waits for the next thing to happen or for [`Scheduler::poll_timeout`], whichever is first.
//! Payloads stay with the driver, under the request's and the job's id; it may drop a request's at its `Settle` and a
//! job's results at its `Forget`.
//!
//! What is kept true: each submitted request is settled exactly once, by its deadline if the driver ticks; no collage
//! answer is given before its release time; a collage runs on another worker than its members' bases if there is one;
//! nothing is kept for a request after it is settled.
//!
//! | file | what it decides |
//! |---|---|
//! | `queue`, `batch` | what runs together, and when |
//! | `place`, `latency` | where |
//! | `policy`, `group` | what runs beside it |
//! | `settle`, `timers` | who answers, and when it is too late |

mod batch;
mod event;
mod group;
mod latency;
mod map;
mod place;
mod policy;
mod queue;
mod settle;
mod stats;
mod timers;

use std::collections::VecDeque;

pub use event::{
    Action, Answer, Error, Event, Independence, JobId, Kind, Micros, RequestId, Source, WorkerId,
};
pub use map::IdMap;
pub use place::{Role, WorkerConfig, WorkerState};
pub use policy::{Policy, PolicyError};
pub use stats::Stats;

use group::{GroupId, Groups};
use place::Fleet;
use queue::Fifo;
use timers::{Due, Timer, Timers};

/// What the scheduler is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// All workers; ready from the start.
    pub workers: Vec<WorkerConfig>,
    /// Which backups requests get.
    pub policy: Policy,
    /// Tiles of a collage: a group closes when it has as many members.
    pub tiles: usize,
    /// A group closes this long after its first member, full or not.
    pub group_wait: Micros,
    /// Most images of a base run.
    pub max_batch: usize,
    /// A request waits this long for others to share its base run. With 0 batches form only while all are busy.
    pub batch_wait: Micros,
    /// Most accepted and unsettled requests.
    pub queue: usize,
    /// A collage answer below this abstains. 0..=1.
    pub min_confidence: f32,
    /// Jobs that a worker may hold: 1 never queues behind a straggler, 2 hides the way to the worker and back.
    pub depth: usize,
    /// Runs that a request's base, and that a group's collage, may use up by failing.
    pub max_attempts: u32,
    /// A worker is retired after this many failures and losses in a row. More than `max_attempts`, so that one
    /// image that fails everywhere cannot retire a worker.
    pub max_failures: u32,
    /// How long a slow or failed worker stays out of favour.
    pub forget: Micros,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: vec![WorkerConfig {
                role: Role::Both,
                device: 0,
            }],
            policy: Policy::Collage,
            tiles: 9,
            group_wait: 5_000,
            max_batch: 8,
            batch_wait: 0,
            queue: 1024,
            min_confidence: 0.5,
            depth: 1,
            max_attempts: 3,
            max_failures: 5,
            forget: 1_000_000,
        }
    }
}

/// Where a request's base run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Queued,
    Running {
        job: JobId,
        worker: WorkerId,
    },
    /// It will not come: it failed too often, or nobody can run it.
    Exhausted,
}

/// Where a request's collage answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backup {
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

#[derive(Debug)]
struct Request {
    queued_at: Micros,
    release_at: Micros,
    deadline_at: Micros,
    base: Base,
    /// Where its base was last launched.
    base_worker: Option<WorkerId>,
    backup: Backup,
    /// Base runs that failed.
    attempts: u32,
    /// Where one failed last: a broken worker must not use up all attempts.
    failed_on: Option<WorkerId>,
    /// Shares its base run with nobody, after one failed.
    alone: bool,
}

#[derive(Debug)]
struct Job {
    kind: Kind,
    worker: WorkerId,
    ids: Vec<RequestId>,
    launched_at: Micros,
    /// Of a collage: runs of its group that failed before.
    attempts: u32,
    /// Of its ids: cancelled while it ran.
    cancelled: u64,
}

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
    groups: Groups,
    fleet: Fleet,
    /// Launched and not ended.
    jobs: IdMap<JobId, Job>,
    /// Ended collages and how many of their answers are held.
    held: IdMap<JobId, usize>,
    timers: Timers,
    actions: VecDeque<Action>,
    stats: Stats,
    next_job: u64,
}

impl Scheduler {
    /// A scheduler whose workers are all ready.
    pub fn new(config: Config) -> Self {
        Self {
            fleet: Fleet::new(&config.workers, config.depth, config.forget),
            config,
            now: 0,
            draining: false,
            requests: IdMap::default(),
            queue: Fifo::default(),
            groups: Groups::default(),
            jobs: IdMap::default(),
            held: IdMap::default(),
            timers: Timers::default(),
            actions: VecDeque::new(),
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
            } => self.submit(id, release_at, deadline_at),
            Event::Done {
                worker,
                job,
                confidences,
            } => self.done(worker, job, &confidences),
            Event::Failed { worker, job } => self.failed(worker, job),
            Event::WorkerLost { worker } => self.worker_lost(worker),
            Event::WorkerReady { worker } => self.fleet.revive(worker, self.now),
            Event::Retired { worker } => self.worker_retired(worker),
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

    /// Whether nothing is kept for any request, group or job.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.jobs.is_empty()
            && self.held.is_empty()
            && self.groups.is_empty()
            && self.queue.live() == 0
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

    fn submit(&mut self, id: RequestId, release_at: Micros, deadline_at: Micros) {
        self.stats.submitted += 1;
        let backed = self.config.policy == Policy::Collage && self.fleet.could(Kind::Collage);
        let based = self.fleet.could(Kind::Base);
        if self.draining {
            return self.refuse(id, Error::Closed);
        } else if !based && !backed {
            return self.refuse(id, Error::NoWorkers);
        } else if self.requests.len() >= self.config.queue {
            return self.refuse(
                id,
                Error::Overloaded {
                    queue: self.config.queue,
                },
            );
        }
        let backup = match backed {
            true => Backup::Grouped(self.groups.join(id, self.config.tiles.max(1), self.now)),
            false => Backup::None,
        };
        let request = Request {
            queued_at: self.now,
            release_at,
            deadline_at,
            base: if based { Base::Queued } else { Base::Exhausted },
            base_worker: None,
            backup,
            attempts: 0,
            failed_on: None,
            alone: false,
        };
        self.requests.insert(id, request);
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
        for job in self.fleet.retire(worker) {
            self.lost_job(job);
        }
        self.give_up_impossible();
    }

    /// Launches all that is due and has a worker, the oldest first.
    fn launch(&mut self) {
        let closes = self.groups.closes_at(self.config.group_wait);
        if closes.is_some_and(|at| at <= self.now || self.draining) {
            self.stats.collages_saved += u64::from(self.groups.close(self.now));
        }
        loop {
            let launched = match (self.batch_due(), self.collage_due()) {
                (None, None) => false,
                (Some(_), None) => self.launch_base(),
                (None, Some(_)) => self.launch_collage(),
                (Some(base), Some(collage)) if collage < base => {
                    self.launch_collage() || self.launch_base()
                }
                (Some(_), Some(_)) => self.launch_base() || self.launch_collage(),
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
        self.actions.push_back(job.action(id));
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
            Due::Deadline => true,
        })
}
