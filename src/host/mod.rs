//! The host: threads, clock and payloads around the pure scheduler.
//!
//! ```text
//!  callers --submit, cancel--> [behind a lock: Scheduler + payloads] --orders--> [worker's thread: programs]
//!     ^------- answers --------'    ^    ^------------- reports -----------------------'
//!                  [scheduler's thread: the time that passes]
//! ```
//!
//! Each worker has a thread of its own. The scheduler is turned by whoever has something to tell it (`post`), and by a thread
//! of its own when its time comes; all else goes through channels. A caller is never blocked by a worker: submission takes a
//! permit or is refused at once, and nobody waits for the lock.

mod clock;
mod contention;
mod decode;
mod drive;
mod error;
mod feed;
mod post;
mod results;
mod setup;
mod stats;
mod straggler;
mod tally;
pub mod telemetry;
mod ticket;
mod worker;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use tokio::sync::oneshot;

pub use decode::decode;
pub use error::Error;
pub use results::{Decoded, Head};
pub use setup::{Parity, Plans, Setup};
pub use stats::{ContentionStats, RECENT, SERVICE_BOUNDS, Stats, WorkerStats};
pub use ticket::{Answer, Canceller, RequestOptions, Ticket, Tile};
pub use worker::Restart;

use crate::image::Image;
use crate::sched::RequestId;
use contention::Contention;
use drive::{Command, Driver, Link, Permits, Submission};
use feed::Feed;
use post::Post;
use straggler::{Opened, injectors};
use tally::Tally;
use ticket::{Call, Reply};
use worker::Worker;

/// A running host. Dropping it shuts it down.
#[derive(Debug)]
pub struct Host {
    post: Post,
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
        let post = Post::new();
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
                post: post.clone(),
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
            permits.clone(),
            stop,
            head.unwrap_or_default(),
        );
        // Before any request can come.
        let _ = opened_at.set(Instant::now());
        let turned = post.clone();
        let driver = spawn("collage-scheduler".to_owned(), move || turned.run(driver))?;
        let on = |worker: usize| setup.devices[worker % setup.devices.len()].pci_bus_id();
        let gpus = (0..handles.len()).map(on).collect();
        let feed = setup.telemetry.then(|| feed::start(gpus, post.clone()));
        Ok(Host {
            post,
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
            post: self.post.clone(),
            taken: false,
        })
    }

    /// As [`submit`](Host::submit), and calls `then` with the outcome, exactly once unless the request is refused. It is called
    /// while the scheduler is turned, by a worker's thread, the scheduler's or anyone's who submits meanwhile: it must not
    /// block, ask for statistics, nor wait for a lock that is held while submitting. It may submit and cancel.
    pub fn submit_with(
        &self,
        image: Image,
        request: RequestOptions,
        then: impl FnOnce(Result<Answer, Error>) + Send + 'static,
    ) -> Result<Canceller, Error> {
        let id = self.accept(image, request, || Reply::Call(Call::new(then)))?;
        Ok(Canceller {
            id,
            post: self.post.clone(),
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
        let Err(refused) = self.post.send(Command::Submit(submission)) else {
            return Ok(id);
        };
        self.permits.pending.fetch_sub(1, Ordering::AcqRel);
        if let Command::Submit(Submission {
            reply: Reply::Call(mut call),
            ..
        }) = *refused
        {
            call.disarm();
        }
        Err(Error::Closed)
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        let (reply, stats) = bounded(1);
        let sent = self.post.send(Command::Stats(reply)).is_ok();
        let stats = sent.then(|| stats.recv().ok()).flatten();
        Stats {
            contention: self.contention.stats(),
            ..stats.unwrap_or_default()
        }
    }

    /// For threads that look on. It keeps nothing alive.
    pub fn watch(&self) -> Watch {
        Watch {
            post: self.post.clone(),
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
        let _ = self.post.send(Command::Drain);
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
    post: Post,
}

impl Watch {
    /// What was done so far; `None` where the host is gone or does not say within this time.
    pub fn stats(&self, within: Duration) -> Option<Stats> {
        let (reply, stats) = bounded(1);
        self.post.send(Command::Stats(reply)).ok()?;
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
