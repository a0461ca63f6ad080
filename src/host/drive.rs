//! The scheduler with the payloads of its requests and jobs. Callers and workers send [`Command`]s, by [`Post`]: each becomes
//! one event, and the actions that follow are carried out.
//!
//! [`Post`]: super::post::Post

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::clock::{Clock, micros};
use super::error::Error;
use super::results::{Head, Results};
use super::stats::{Stats, WorkerStats};
use super::tally::Tally;
use super::ticket::{Answer, Reply, Tile};
use super::worker::{Order, Report, Rows};
use crate::image::Image;
use crate::sched::{
    self, Action, Condition, Event, IdMap, JobId, Kind, Micros, RequestId, Role, Scheduler, Source,
    WorkerId,
};

/// What the scheduler is told.
#[derive(Debug)]
pub(super) enum Command {
    Submit(Submission),
    Cancel(RequestId),
    Report(usize, Report),
    Telemetry(usize, Condition),
    Stats(Sender<Stats>),
    Drain,
}

/// A request on its way in.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) id: RequestId,
    pub(super) image: Image,
    pub(super) submitted: Instant,
    pub(super) release: Duration,
    pub(super) deadline: Duration,
    pub(super) reply: Reply,
}

/// What the front and the driver count together.
#[derive(Debug, Default)]
pub(super) struct Permits {
    /// Requests accepted and not settled.
    pub(super) pending: AtomicUsize,
    /// Requests refused at the door.
    pub(super) refused: AtomicUsize,
}

/// A request while it waits.
struct Payload {
    submission: Submission,
    /// Why its last run failed.
    failure: Option<Arc<str>>,
    /// The worker that its first run was given to.
    own: Option<usize>,
}

/// A job from its launch to its end.
struct Launched {
    worker: usize,
    ids: Arc<[RequestId]>,
}

/// A worker as seen from here.
pub(super) struct Link {
    pub(super) role: Role,
    pub(super) device: usize,
    pub(super) device_name: String,
    pub(super) pci_bus_id: Option<String>,
    /// `None` once it is retired: the thread ends.
    pub(super) orders: Option<Sender<Order>>,
    pub(super) epoch: u64,
    pub(super) tally: Tally,
}

/// See the module.
pub(super) struct Driver {
    scheduler: Scheduler,
    clock: Clock,
    /// When the scheduler's thread will look at the time by itself.
    alarm: Option<Micros>,
    permits: Arc<Permits>,
    stop: Arc<AtomicBool>,
    workers: Vec<Link>,
    payloads: IdMap<RequestId, Payload>,
    jobs: IdMap<JobId, Launched>,
    results: Results,
    /// Of decoded answers.
    head: Head,
    /// The last thing that went wrong with any worker.
    last_failure: Option<Arc<str>>,
    /// Workers whose thread has ended.
    exited: HashSet<usize>,
    draining: bool,
    /// Every request is settled and the workers were told to end.
    closing: bool,
    /// Commands and timeouts handled, and the time in that.
    events: u64,
    scheduling: Duration,
}

impl Driver {
    pub(super) fn new(
        config: sched::Config,
        workers: Vec<Link>,
        permits: Arc<Permits>,
        stop: Arc<AtomicBool>,
        head: Head,
    ) -> Self {
        Self {
            scheduler: Scheduler::new(config),
            clock: Clock::start(),
            alarm: None,
            permits,
            stop,
            workers,
            payloads: IdMap::default(),
            jobs: IdMap::default(),
            results: Results::default(),
            head,
            last_failure: None,
            exited: HashSet::new(),
            draining: false,
            closing: false,
            events: 0,
            scheduling: Duration::ZERO,
        }
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Handles a command.
    pub(super) fn take(&mut self, command: Command) {
        let began = Instant::now();
        self.command(command);
        self.note(began);
    }

    /// Handles the passing of time.
    pub(super) fn tick(&mut self) {
        let began = Instant::now();
        self.handle(Event::Tick);
        self.note(began);
    }

    fn note(&mut self, began: Instant) {
        self.events += 1;
        self.scheduling += began.elapsed();
    }

    /// When to [`tick`](Driver::tick) next: from now on the alarm.
    pub(super) fn set_alarm(&mut self) -> Option<Micros> {
        self.alarm = self.scheduler.poll_timeout();
        self.alarm
    }

    /// Puts the alarm forward if something is due before it. Whether the scheduler's thread is to be woken: for that, or
    /// because all is done.
    pub(super) fn advance_alarm(&mut self) -> bool {
        let due = self.scheduler.poll_timeout();
        let is_earlier = due.is_some_and(|due| self.alarm.is_none_or(|alarm| due < alarm));
        if is_earlier {
            self.alarm = due;
        }
        is_earlier || self.is_done()
    }

    /// Whether every request is settled, after a drain; after a close, whether every worker's thread has ended.
    pub(super) fn is_done(&self) -> bool {
        match self.closing {
            true => self.exited.len() == self.workers.len(),
            false => self.draining && self.scheduler.pending() == 0,
        }
    }

    /// Lets the workers go.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.stop.store(true, Ordering::Relaxed);
        for worker in &mut self.workers {
            worker.orders = None;
        }
    }

    /// What was done, and whose threads have ended.
    pub(super) fn last_words(&self) -> (Stats, HashSet<usize>) {
        (self.stats(), self.exited.clone())
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.micros(Instant::now());
        self.scheduler.handle(event, now);
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Launch {
                    worker,
                    job,
                    kind,
                    ids,
                    slots,
                } => self.launch(worker, job, (kind, slots), ids),
                Action::Decode {
                    id,
                    parity,
                    times,
                    others,
                } => self.results.decode(id, (parity, times), &others, self.head),
                Action::Settle { id, outcome } => self.settle(id, outcome),
                Action::Forget { job } => self.results.forget(job),
                Action::Retire { worker } => self.retire(worker),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => self.submit(submission),
            Command::Cancel(id) => self.handle(Event::Cancel { id }),
            Command::Report(worker, report) => self.report(worker, report),
            Command::Telemetry(worker, condition) => self.handle(Event::Telemetry {
                worker: WorkerId(worker),
                condition,
            }),
            Command::Stats(reply) => {
                let _ = reply.send(self.stats());
            }
            Command::Drain => {
                self.draining = true;
                self.handle(Event::Drain);
            }
        }
    }

    fn submit(&mut self, submission: Submission) {
        let id = submission.id;
        // From now, and not from the time it was due, which may lie before the clock's origin.
        let now = Instant::now();
        let age = now.saturating_duration_since(submission.submitted);
        let [release_at, deadline_at] = [submission.release, submission.deadline]
            .map(|limit| self.clock.micros_after(now, limit.saturating_sub(age)));
        tracing::debug!(request = id.0, release_at, deadline_at, "submit");
        self.payloads.insert(
            id,
            Payload {
                submission,
                failure: None,
                own: None,
            },
        );
        self.handle(Event::SubmitDue {
            id,
            due_at: self.clock.micros(now).saturating_sub(micros(age)),
            release_at,
            deadline_at,
        });
    }

    fn launch(
        &mut self,
        worker: WorkerId,
        job: JobId,
        (kind, slots): (Kind, usize),
        ids: Vec<RequestId>,
    ) {
        tracing::debug!(job = job.0, worker = worker.0, ?kind, requests = ?ids, "launch");
        let shared: Arc<[RequestId]> = ids.as_slice().into();
        self.scheduler.recycle(ids);
        let ids = shared;
        if kind == Kind::Base {
            for id in ids.iter() {
                if let Some(payload) = self.payloads.get_mut(id) {
                    payload.own.get_or_insert(worker.0);
                }
            }
        }
        // Each id is unsettled, so its payload is here.
        let images = if kind == Kind::Parity {
            slots
        } else {
            ids.len()
        };
        let images = ids
            .iter()
            .cycle()
            .take(images)
            .filter_map(|id| self.payloads.get(id))
            .map(|p| p.submission.image.clone())
            .collect();
        self.jobs.insert(
            job,
            Launched {
                worker: worker.0,
                ids: ids.clone(),
            },
        );
        let Some(link) = self.workers.get(worker.0) else {
            return;
        };
        let order = Order {
            job,
            kind,
            images,
            slots,
            ids,
            epoch: link.epoch,
        };
        if let Some(orders) = &link.orders {
            // If the thread is gone its farewell is already in our channel, and the job is placed again with that.
            let _ = orders.send(order);
        }
    }

    fn settle(&mut self, id: RequestId, outcome: Result<sched::Answer, sched::Error>) {
        let Some(Payload {
            submission,
            failure,
            own,
        }) = self.payloads.remove(&id)
        else {
            return;
        };
        self.credit(own, &outcome);
        let latency = Instant::now().saturating_duration_since(submission.submitted);
        let outcome = match outcome {
            Ok(found) => self.answer(id, found, latency),
            Err(error) => {
                let reason = failure.as_deref().or(self.last_failure.as_deref());
                Err(Error::from_sched(error, submission.deadline, reason))
            }
        };
        match &outcome {
            Ok(a) => {
                tracing::debug!(request = id.0, source = %a.source, worker = a.worker, ?latency, "answer")
            }
            Err(error) => tracing::debug!(request = id.0, %error, ?latency, "no answer"),
        }
        self.permits.pending.fetch_sub(1, Ordering::AcqRel);
        submission.reply.send(outcome);
    }

    /// Counts what became of a request with the worker that its own run was given to.
    fn credit(&mut self, own: Option<usize>, outcome: &Result<sched::Answer, sched::Error>) {
        let Some(link) = own.and_then(|worker| self.workers.get_mut(worker)) else {
            return;
        };
        link.tally.credit(outcome);
    }

    fn answer(
        &mut self,
        id: RequestId,
        found: sched::Answer,
        latency: Duration,
    ) -> Result<Answer, Error> {
        let (top, decoded) = match found.source {
            Source::Parity => self.results.take_decoded(id).unzip(),
            _ => (Some(self.results.take(found.job, found.index)), None),
        };
        let top = top.unwrap_or_default();
        let Some(best) = top.first() else {
            return Err(Error::Closed);
        };
        Ok(Answer {
            id,
            source: found.source,
            confidence: best.score,
            latency,
            independence: found.independence,
            worker: found.worker.0,
            collage: (found.source == Source::Collage).then_some(Tile {
                collage: found.job.0,
                index: found.index,
            }),
            decoded,
            top,
        })
    }

    fn report(&mut self, worker: usize, report: Report) {
        let id = WorkerId(worker);
        match report {
            Report::Done {
                job,
                rows,
                service,
                injected,
            } => self.done(worker, job, rows, service, injected),
            Report::Failed { job, reason } => {
                self.blame(worker, reason.into(), |job_id, _| job_id == job);
                self.handle(Event::Failed { worker: id, job });
            }
            Report::Lost { reason } => {
                tracing::warn!(worker, reason, "worker lost");
                if let Some(link) = self.workers.get_mut(worker) {
                    link.epoch += 1;
                }
                self.blame(worker, reason.into(), |_, launched| {
                    launched.worker == worker
                });
                self.handle(Event::WorkerLost { worker: id });
            }
            Report::Ready => {
                tracing::info!(worker, "worker restarted");
                if let Some(link) = self.workers.get_mut(worker) {
                    link.tally.restarted();
                }
                self.handle(Event::WorkerReady { worker: id });
            }
            Report::Retired { reason } => {
                tracing::warn!(worker, reason, "worker retired");
                self.blame(worker, reason.into(), |_, launched| {
                    launched.worker == worker
                });
                self.handle(Event::Retired { worker: id });
            }
            Report::Exited => {
                self.exited.insert(worker);
                if self.closing {
                    return; // as it was told to: its state stays what it was
                }
                self.jobs.retain(|_, launched| launched.worker != worker);
                self.handle(Event::Retired { worker: id });
            }
        }
    }

    fn done(
        &mut self,
        worker: usize,
        job: JobId,
        rows: Rows,
        service: Duration,
        injected: Duration,
    ) {
        // A job that was given up meanwhile has no place for results.
        let Some(Launched { ids, .. }) = self.jobs.remove(&job) else {
            return;
        };
        let is_backup = self.scheduler.is_backup(job).unwrap_or(false);
        if let Some(Link { tally, .. }) = self.workers.get_mut(worker) {
            tally.ran(ids.len(), is_backup, service, injected);
        }
        let confidences = rows
            .top
            .iter()
            .map(|row| row.first().map_or(0.0, |best| best.score))
            .collect();
        self.results.keep(job, rows);
        self.handle(Event::Done {
            worker: WorkerId(worker),
            job,
            confidences,
        });
    }

    /// Notes why jobs failed, with their requests and their worker, and gives them up.
    fn blame(
        &mut self,
        worker: usize,
        reason: Arc<str>,
        is_failed: impl Fn(JobId, &Launched) -> bool,
    ) {
        for (_, launched) in self
            .jobs
            .extract_if(|&id, launched| is_failed(id, launched))
        {
            for id in launched.ids.iter() {
                if let Some(payload) = self.payloads.get_mut(id) {
                    payload.failure = Some(reason.clone());
                }
            }
        }
        if let Some(Link { tally, .. }) = self.workers.get_mut(worker) {
            tally.failed(reason.clone());
        }
        self.last_failure = Some(reason);
    }

    /// The scheduler gives no more work to this worker.
    fn retire(&mut self, worker: WorkerId) {
        tracing::warn!(
            worker = worker.0,
            "worker retired: it failed too often in a row"
        );
        if let Some(link) = self.workers.get_mut(worker.0) {
            link.orders = None;
        }
        self.jobs.retain(|_, launched| launched.worker != worker.0);
    }

    fn stats(&self) -> Stats {
        let mut requests = self.scheduler.stats();
        let refused = self.permits.refused.load(Ordering::Relaxed) as u64;
        requests.submitted += refused;
        requests.overloaded += refused;
        let worker = |(i, link): (usize, &Link)| {
            let id = WorkerId(i);
            let state = self.scheduler.worker_state(id);
            WorkerStats {
                role: link.role,
                device: link.device,
                device_name: link.device_name.clone(),
                pci_bus_id: link.pci_bus_id.clone(),
                state: state.unwrap_or(sched::WorkerState::Retired),
                health: self.scheduler.health(id),
                scores: self.scheduler.scores(id),
                queued: self.scheduler.queued(id),
                ..link.tally.stats()
            }
        };
        Stats {
            requests,
            pending: self.scheduler.pending(),
            events: self.events,
            scheduling: self.scheduling,
            promises: self.scheduler.promises(),
            workers: self.workers.iter().enumerate().map(worker).collect(),
            contention: Vec::new(), // the host's
        }
    }
}
