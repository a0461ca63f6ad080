//! The host: threads, clock and payloads around the pure scheduler.
//!
//! ```text
//!  callers --submit, cancel--> [scheduler's thread: Scheduler + payloads] --orders--> [worker's thread: programs]
//!     ^------- answers --------'            ^------------- reports -----------------------'
//! ```
//!
//! One thread owns the scheduler, one thread each worker; they share nothing but channels. A caller is never blocked
//! by a worker: submission takes a permit or is refused at once.

mod clock;
mod contention;
mod decode;
mod drive;
mod error;
mod feed;
mod results;
mod stats;
mod straggler;
pub mod telemetry;
mod ticket;
mod worker;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tokio::sync::oneshot;

pub use decode::decode;
pub use error::Error;
pub use results::{Decoded, Head};
pub use stats::{ContentionStats, RECENT, SERVICE_BOUNDS, Stats, WorkerStats};
pub use ticket::{Answer, Canceller, RequestOptions, Ticket, Tile};
pub use worker::Restart;

use crate::backend::Device;
use crate::image::Image;
use crate::model::plan::Plan;
use crate::sched::{
    self, AccuracyBudget, GridWork, Objective, Policy, RequestId, Role, WorkerConfig,
};
use crate::straggler::Straggler;
use clock::micros;
use contention::Contention;
use drive::{Command, Driver, Link, Permits, Submission, Tally};
use feed::Feed;
use straggler::{Opened, injectors};
use ticket::{Call, Reply};
use worker::Worker;

/// The plans that workers run. They end with `top_k`, but where answers are decoded the base's and the parity's end with
/// logits.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    /// The base model at several batch sizes. A batch runs on the smallest that holds it.
    pub base: Vec<Arc<Plan>>,
    /// The collage network, one canvas a run, of each grid that it may run on: a collage runs on the smallest that holds
    /// it.
    pub collage: Vec<Arc<Plan>>,
    /// Where answers are decoded.
    pub parity: Option<Parity>,
}

/// How answers are decoded.
#[derive(Clone, Debug)]
pub struct Parity {
    /// From the images of a group to the logits of their mean.
    pub plan: Arc<Plan>,
    /// Of the base, whose answers are decoded.
    pub head: Head,
}

impl Plans {
    /// Most images of a base run.
    pub fn max_batch(&self) -> usize {
        self.base
            .iter()
            .map(|plan| plan.capacity())
            .max()
            .unwrap_or(0)
    }

    /// Multiply-accumulates of one run of a plan over those of a base run of one image; 1 where they are not known.
    pub fn work(&self, plan: &Plan) -> f64 {
        let macs = |plan: &Plan| plan.steps.iter().map(|step| plan.macs(step)).sum::<u64>() as f64;
        let base = self
            .base
            .first()
            .map(|p| macs(p) / p.capacity().max(1) as f64);
        let ratio = base.map(|base| macs(plan) / base);
        ratio.filter(|r| r.is_finite() && *r > 0.0).unwrap_or(1.0)
    }

    /// Most tiles of a canvas; 0 without a collage.
    pub fn tiles(&self) -> usize {
        let tiles = self.collage.iter().map(|plan| plan.capacity());
        tiles.max().unwrap_or(0)
    }

    /// The grids of the collage's plans, as the scheduler needs to know them.
    pub fn grids(&self) -> Vec<GridWork> {
        let grid = |plan: &Arc<Plan>| GridWork::new(plan.capacity(), self.work(plan));
        self.collage.iter().map(grid).collect()
    }
}

/// Everything that a host is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What runs.
    pub plans: Plans,
    /// Where; workers are dealt over them in turn. Two handles of one device count as one device.
    pub devices: Vec<Arc<dyn Device>>,
    /// Workers for base runs: the first indices.
    pub base_workers: usize,
    /// Workers for collages, or for parities: the indices after them. With 0, the base workers run those too.
    pub collage_workers: usize,
    /// Which backups requests get. A collage policy's own grid is not read here: the plan has its tiles.
    pub policy: Policy,
    /// Most extra work that lateness may ask for (hedges, re-sent requests, lazy collages), in base runs a request.
    pub budget: f64,
    /// Accuracy that may be given up; it sets the release times once base runs have shown how long they take.
    pub accuracy: Option<AccuracyBudget>,
    /// How fast requests are to be answered; it sets the release times.
    pub objective: Option<Objective>,
    /// Most accepted and unanswered requests.
    pub queue: usize,
    /// How long a request waits for others to share its base run.
    pub batch_wait: Duration,
    /// How long a group waits for more members.
    pub group_wait: Duration,
    /// After submission: from then on a collage may answer.
    pub release: Duration,
    /// After submission: answered by then or failed.
    pub deadline: Duration,
    /// A collage answer below this abstains.
    pub min_confidence: f32,
    /// Injected stragglers; their traces are read at the start.
    pub stragglers: Vec<Straggler>,
    /// Of the injected stragglers' draws.
    pub seed: u64,
    /// How lost workers are brought back.
    pub restart: Restart,
    /// Whether NVIDIA GPUs are asked how they are, where they can be, for their workers' health.
    pub telemetry: bool,
}

impl Setup {
    /// One base worker on one device, and one for the collage where there is one, with settings for runs of a few
    /// milliseconds.
    pub fn new(plans: Plans, device: Arc<dyn Device>) -> Self {
        let backed = !plans.collage.is_empty();
        Self {
            plans,
            devices: vec![device],
            base_workers: 1,
            collage_workers: usize::from(backed),
            policy: if backed {
                Policy::COLLAGE
            } else {
                Policy::None
            },
            budget: sched::Config::default().budget,
            accuracy: None,
            objective: None,
            queue: 1024,
            batch_wait: Duration::ZERO,
            group_wait: Duration::from_millis(5),
            release: Duration::from_millis(20),
            deadline: Duration::from_secs(1),
            min_confidence: 0.5,
            stragglers: Vec::new(),
            seed: 0,
            restart: Restart::default(),
            telemetry: true,
        }
    }

    /// The workers, in order of their indices.
    fn workers(&self) -> Result<Vec<WorkerConfig>, Error> {
        let policy = self.policy;
        let backed = policy.uses_groups();
        let runs = self.policy.runs();
        let devices = self.devices.len();
        if devices == 0 {
            return Err(Error::option("devices", "none", "one at least"));
        } else if self.base_workers == 0 {
            return Err(Error::option("base_workers", "0", "1 at least"));
        } else if self.plans.max_batch() == 0 {
            return Err(Error::option("plans", "no base plan", "one at least"));
        } else if policy.uses_collage() && self.plans.tiles() == 0 {
            return Err(Error::option(
                "policy",
                self.policy.to_string(),
                "none, as there is no collage model",
            ));
        } else if let Some(members) = policy.parity()
            && self.plans.parity.as_ref().map(|p| p.plan.capacity()) != Some(members)
        {
            let expected = format!("a parity model, on {members} images");
            return Err(Error::option("policy", policy.to_string(), expected));
        } else if self.base_workers < runs {
            let expected = format!("{runs} at least for the policy {}", self.policy);
            let given = self.base_workers.to_string();
            return Err(Error::option("base_workers", given, expected));
        } else if !(0.0..=f64::MAX).contains(&self.budget) {
            let expected = "base runs a request, 0 or more";
            return Err(Error::option("budget", self.budget.to_string(), expected));
        } else if let Some(AccuracyBudget { budget, drop }) = self.accuracy
            && !((0.0..=1.0).contains(&budget) && (0.0..=1.0).contains(&drop))
        {
            let given = format!("{budget} at a drop of {drop}");
            return Err(Error::option("accuracy", given, "shares from 0 to 1"));
        } else if let Some(objective) = self.objective
            && !((0.5..1.0).contains(&objective.quantile)
                && (Duration::from_micros(1)..=self.deadline).contains(&objective.latency))
        {
            let expected = format!(
                "a quantile from 0.5 to less than 1, and a time up to the deadline, {:?}",
                self.deadline
            );
            return Err(Error::option("objective", objective.to_string(), expected));
        } else if self.queue == 0 {
            return Err(Error::option("queue", "0", "1 at least"));
        } else if !(0.0..=1.0).contains(&self.min_confidence) {
            return Err(Error::option(
                "min_confidence",
                self.min_confidence.to_string(),
                "a share from 0 to 1",
            ));
        }
        let collage_workers = if backed { self.collage_workers } else { 0 };
        let base = if backed && collage_workers == 0 {
            Role::Both
        } else {
            Role::Base
        };
        let roles = std::iter::repeat_n(base, self.base_workers)
            .chain(std::iter::repeat_n(Role::Collage, collage_workers));
        let handles = roles.enumerate().map(|(i, role)| (i % devices, role));
        let workers: Vec<_> = handles
            .map(|(handle, role)| WorkerConfig {
                role,
                device: self.device_of(handle),
            })
            .collect();
        if let Some(s) = self.stragglers.iter().find(|s| {
            s.worker()
                .is_some_and(|w| w >= self.base_workers + self.collage_workers)
        }) {
            let expected = format!("a worker from 0 to {}", workers.len() - 1);
            return Err(Error::option("stragglers", s.to_string(), expected));
        }
        Ok(workers)
    }

    /// The first handle of the same device: what fails with it.
    fn device_of(&self, handle: usize) -> usize {
        let name = |device: &Arc<dyn Device>| (device.info().backend, device.info().index);
        let own = self.devices.get(handle).map(name);
        let same = self.devices.iter().position(|d| Some(name(d)) == own);
        same.unwrap_or(handle)
    }

    fn scheduling(&self, workers: Vec<WorkerConfig>) -> sched::Config {
        sched::Config {
            workers,
            policy: self.policy,
            grids: self.plans.grids(),
            parity_work: (self.plans.parity.as_ref()).map_or(1.0, |p| self.plans.work(&p.plan)),
            budget: self.budget,
            accuracy: self.accuracy,
            objective: self.objective,
            group_wait: micros(self.group_wait),
            max_batch: self.plans.max_batch(),
            batch_wait: micros(self.batch_wait),
            queue: self.queue,
            min_confidence: self.min_confidence,
            ..sched::Config::default()
        }
    }
}

/// A running host. Dropping it shuts it down.
#[derive(Debug)]
pub struct Host {
    commands: Sender<Command>,
    permits: Arc<Permits>,
    next_id: AtomicU64,
    queue: usize,
    release: Duration,
    deadline: Duration,
    contention: Contention,
    /// `None` once it was joined.
    threads: Option<Threads>,
    /// Where a worker's device is a GPU that can be asked.
    feed: Option<Feed>,
}

#[derive(Debug)]
struct Threads {
    driver: JoinHandle<(Stats, HashSet<usize>)>,
    workers: Vec<JoinHandle<()>>,
}

impl Host {
    /// Starts the threads and loads every worker's plans; fails if one cannot be loaded.
    pub fn start(setup: Setup) -> Result<Host, Error> {
        let workers = setup.workers()?;
        let opened_at = Opened::default();
        let (commands, inbox) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let permits = Arc::new(Permits::default());
        let (opened, openings) = unbounded();
        let mut links = Vec::new();
        let mut handles = Vec::new();
        for ((index, config), injector) in workers
            .iter()
            .enumerate()
            .zip(injectors(&setup, &opened_at)?)
        {
            let (sender, orders) = unbounded();
            let device = setup.devices[index % setup.devices.len()].clone();
            links.push(Link {
                role: config.role,
                device: config.device,
                device_name: device.info().name.clone(),
                pci_bus_id: device.pci_bus_id(),
                orders: Some(sender),
                epoch: 0,
                tally: Tally::default(),
            });
            let worker = Worker {
                index,
                role: config.role,
                device,
                plans: setup.plans.clone(),
                injector,
                restart: setup.restart,
                orders,
                commands: commands.clone(),
                stop: stop.clone(),
            };
            let opened = opened.clone();
            handles.push(spawn(format!("collage-worker-{index}"), move || {
                worker.run(opened)
            })?);
        }
        drop(opened);
        all_opened(&openings, workers.len())?;
        let contention = Contention::start(&setup, &opened_at)?;
        let head = setup.plans.parity.as_ref().map(|p| p.head);
        let driver = Driver::new(
            setup.scheduling(workers),
            links,
            inbox,
            permits.clone(),
            stop,
            head.unwrap_or_default(),
        );
        // Before any request can come.
        let _ = opened_at.set(Instant::now());
        let driver = spawn("collage-scheduler".to_owned(), move || driver.run())?;
        let on = |worker: usize| setup.devices[worker % setup.devices.len()].pci_bus_id();
        let gpus = (0..handles.len()).map(on).collect();
        let feed = setup.telemetry.then(|| feed::start(gpus, commands.clone()));
        Ok(Host {
            commands,
            permits,
            next_id: AtomicU64::new(0),
            queue: setup.queue,
            release: setup.release,
            deadline: setup.deadline,
            contention,
            threads: Some(Threads {
                driver,
                workers: handles,
            }),
            feed: feed.flatten(),
        })
    }

    /// Accepts a request, or refuses it at once. Never blocks.
    pub fn submit(&self, image: Image, request: RequestOptions) -> Result<Ticket, Error> {
        let (sender, reply) = oneshot::channel();
        let id = self.accept(image, request, || Reply::Ticket(sender))?;
        Ok(Ticket {
            id,
            reply,
            commands: self.commands.clone(),
            taken: false,
        })
    }

    /// As [`submit`](Host::submit), and calls `then` with the outcome on the scheduler's thread, which waits for it: it
    /// must not block. Unless the request is refused, it is called exactly once.
    pub fn submit_with(
        &self,
        image: Image,
        request: RequestOptions,
        then: impl FnOnce(Result<Answer, Error>) + Send + 'static,
    ) -> Result<Canceller, Error> {
        let id = self.accept(image, request, || Reply::Call(Call::new(then)))?;
        Ok(Canceller {
            id,
            commands: self.commands.clone(),
        })
    }

    fn accept(
        &self,
        image: Image,
        request: RequestOptions,
        reply: impl FnOnce() -> Reply,
    ) -> Result<RequestId, Error> {
        let take = |pending| (pending < self.queue).then_some(pending + 1);
        if self
            .permits
            .pending
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .is_err()
        {
            self.permits.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Overloaded { queue: self.queue });
        }
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let now = Instant::now();
        let submission = Submission {
            id,
            image,
            submitted: request.submitted.map_or(now, |due| due.min(now)),
            release: request.release.unwrap_or(self.release),
            deadline: request.deadline.unwrap_or(self.deadline),
            reply: reply(),
        };
        let Err(refused) = self.commands.send(Command::Submit(submission)) else {
            return Ok(id);
        };
        self.permits.pending.fetch_sub(1, Ordering::AcqRel);
        if let Command::Submit(Submission {
            reply: Reply::Call(mut call),
            ..
        }) = refused.into_inner()
        {
            call.disarm();
        }
        Err(Error::Closed)
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        let (reply, stats) = bounded(1);
        let sent = self.commands.send(Command::Stats(reply)).is_ok();
        let stats = sent.then(|| stats.recv().ok()).flatten();
        Stats {
            contention: self.contention.stats(),
            ..stats.unwrap_or_default()
        }
    }

    /// For threads that look on. It keeps nothing alive.
    pub fn watch(&self) -> Watch {
        Watch {
            commands: self.commands.clone(),
        }
    }

    /// Takes no more requests, waits until every accepted one is settled, and ends all threads.
    pub fn shutdown(mut self) -> Stats {
        self.close()
    }

    fn close(&mut self) -> Stats {
        let Some(threads) = self.threads.take() else {
            return Stats::default();
        };
        self.feed = None;
        let _ = self.commands.send(Command::Drain);
        let driver = threads.driver.join();
        let contention = self.contention.end();
        let Ok((mut stats, exited)) = driver else {
            return Stats::default();
        };
        stats.contention = contention;
        for (index, worker) in threads.workers.into_iter().enumerate() {
            // A run that never ends keeps its thread, and would keep this one.
            if exited.contains(&index) {
                let _ = worker.join();
            }
        }
        stats
    }
}

/// Asks a host what it has done, also while it closes.
#[derive(Clone, Debug)]
pub struct Watch {
    commands: Sender<Command>,
}

impl Watch {
    /// What was done so far; `None` where the host is gone or does not say within this time.
    pub fn stats(&self, within: Duration) -> Option<Stats> {
        let (reply, stats) = bounded(1);
        self.commands.send(Command::Stats(reply)).ok()?;
        stats.recv_timeout(within).ok()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn<T: Send + 'static>(
    thread: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Error> {
    thread::Builder::new()
        .name(thread.clone())
        .spawn(body)
        .map_err(|source| Error::Thread { thread, source })
}

/// The first error, or nothing once all workers have loaded their plans.
fn all_opened(openings: &Receiver<Result<(), Error>>, workers: usize) -> Result<(), Error> {
    for _ in 0..workers {
        // Every worker sends before it drops its end.
        openings.recv().unwrap_or(Err(Error::Closed))?;
    }
    Ok(())
}
