//! A worker: one OS thread that owns its programs, runs what it is ordered to, and reports.
//!
//! Whatever a program does (fail, lose its device, panic), the thread survives it and says so. A worker whose device
//! is gone loads its programs again, a few times with growing pauses, and retires if that does not help.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::Plans;
use super::clock::sleep_until;
use super::drive::Command;
use super::error::Error;
use super::straggler::Injector;
use crate::backend::{BackendError, BackendKind, Device, Input, Output, Program, Scored};
use crate::image::{Image, ImageError};
use crate::model::plan::Plan;
use crate::sched::{JobId, Kind, RequestId, Role};

/// One job.
pub(super) struct Order {
    pub(super) job: JobId,
    pub(super) kind: Kind,
    pub(super) images: Vec<Image>,
    /// For the trace.
    pub(super) ids: Arc<[RequestId]>,
    /// How often the worker had been lost when this was ordered: what was ordered before a loss is void after it.
    pub(super) epoch: u64,
}

/// What a worker says.
#[derive(Debug)]
pub(super) enum Report {
    /// A run succeeded: one row of results an image.
    Done {
        job: JobId,
        rows: Vec<Vec<Scored>>,
        service: Duration,
        injected: Duration,
    },
    /// A run failed; the worker still works.
    Failed { job: JobId, reason: String },
    /// The worker and its jobs are gone; it is trying to come back.
    Lost { reason: String },
    /// It is back.
    Ready,
    /// It will not come back.
    Retired { reason: String },
    /// Its thread ends. Always the last report.
    Exited,
}

/// Programs of one worker.
struct Programs {
    /// With the most images of a run, ascending.
    base: Vec<(usize, Box<dyn Program>)>,
    collage: Option<Box<dyn Program>>,
    /// Their device's number among CUDA's, if it is one of them: images in its memory stay there.
    cuda: Option<usize>,
}

/// Why loading failed.
enum LoadFailure {
    Backend(BackendError),
    Panic(String),
}

/// How often and how patiently a lost worker is brought back.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// Tries before the worker is retired.
    pub attempts: u32,
    /// Pause before the first; doubled before each further one.
    pub backoff: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            attempts: 5,
            backoff: Duration::from_millis(50),
        }
    }
}

/// A worker before its thread starts.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) role: Role,
    pub(super) device: Arc<dyn Device>,
    pub(super) plans: Plans,
    pub(super) injector: Injector,
    pub(super) restart: Restart,
    pub(super) orders: Receiver<Order>,
    pub(super) commands: Sender<Command>,
    /// Set when the engine ends: nobody waits for delays any more.
    pub(super) stop: Arc<AtomicBool>,
}

impl Worker {
    /// The thread's whole life. Tells `opened` first whether the programs could be loaded.
    pub(super) fn run(mut self, opened: Sender<Result<(), Error>>) {
        let _farewell = Farewell {
            index: self.index,
            commands: self.commands.clone(),
        };
        let mut programs = match self.load() {
            Ok(programs) => programs,
            Err(failure) => {
                let _ = opened.send(Err(self.open_error(failure)));
                return;
            }
        };
        if opened.send(Ok(())).is_err() {
            return;
        }
        drop(opened);
        let mut epoch = 0;
        while let Ok(order) = self.orders.recv() {
            if order.epoch < epoch || self.stop.load(Ordering::Relaxed) {
                continue;
            }
            let Err(reason) = self.serve(&mut programs, order) else {
                continue;
            };
            epoch += 1;
            self.report(Report::Lost { reason });
            // Dropped inside the net too: a broken device may panic once more when its buffers go.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(programs)));
            match self.reload() {
                Ok(reloaded) => programs = reloaded,
                Err(reason) => return self.report(Report::Retired { reason }),
            }
            self.report(Report::Ready);
        }
    }

    /// Runs one job and reports it; an error if the worker was lost with it.
    fn serve(&mut self, programs: &mut Programs, order: Order) -> Result<(), String> {
        let Order {
            job,
            kind,
            images,
            ids,
            ..
        } = order;
        let span =
            tracing::debug_span!("run", worker = self.index, job = job.0, ?kind, requests = ?ids);
        let _entered = span.enter();
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| programs.run(kind, &images)));
        match outcome {
            Ok(Ok(rows)) => {
                let injected = self.injector.delay(began.elapsed());
                if !injected.is_zero() {
                    tracing::debug!(?injected, "injected straggling");
                    sleep_until(Instant::now() + injected, &self.stop);
                }
                self.report(Report::Done {
                    job,
                    rows,
                    service: began.elapsed(),
                    injected,
                });
                Ok(())
            }
            Ok(Err(RunFailure::Backend(lost @ BackendError::DeviceLost { .. }))) => {
                Err(lost.to_string())
            }
            Ok(Err(failure)) => {
                self.report(Report::Failed {
                    job,
                    reason: failure.to_string(),
                });
                Ok(())
            }
            Err(panic) => Err(format!("panicked: {}", panic_message(&*panic))),
        }
    }

    fn load(&self) -> Result<Programs, LoadFailure> {
        let load = |plan: &Arc<Plan>| self.device.load(plan.clone());
        let all = || -> Result<Programs, BackendError> {
            let mut base = Vec::new();
            if self.role.can(Kind::Base) {
                for plan in &self.plans.base {
                    base.push((plan.capacity(), load(plan)?));
                }
                base.sort_by_key(|&(capacity, _)| capacity);
            }
            let collage = match &self.plans.collage {
                Some(plan) if self.role.can(Kind::Collage) => Some(load(plan)?),
                _ => None,
            };
            let info = self.device.info();
            let cuda = (info.backend == BackendKind::Cuda).then_some(info.index);
            Ok(Programs {
                base,
                collage,
                cuda,
            })
        };
        match catch_unwind(AssertUnwindSafe(all)) {
            Ok(programs) => programs.map_err(LoadFailure::Backend),
            Err(panic) => Err(LoadFailure::Panic(panic_message(&*panic))),
        }
    }

    /// Loads again after a loss.
    fn reload(&self) -> Result<Programs, String> {
        let mut reason = "the engine is closing".to_owned();
        let mut pause = self.restart.backoff;
        for attempt in 1..=self.restart.attempts {
            sleep_until(Instant::now() + pause, &self.stop);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            match self.load() {
                Ok(programs) => return Ok(programs),
                Err(LoadFailure::Backend(error)) => reason = error.to_string(),
                Err(LoadFailure::Panic(message)) => {
                    reason = format!("panicked while loading: {message}")
                }
            }
            tracing::debug!(worker = self.index, attempt, reason, "restart failed");
            pause = pause.saturating_mul(2);
        }
        Err(reason)
    }

    fn open_error(&self, failure: LoadFailure) -> Error {
        let (worker, device) = (self.index, self.device.info().name.clone());
        match failure {
            LoadFailure::Backend(source) => Error::Load {
                worker,
                device,
                source,
            },
            LoadFailure::Panic(reason) => Error::LoadPanic {
                worker,
                device,
                reason,
            },
        }
    }

    fn report(&self, report: Report) {
        // An engine that is gone needs no report.
        let _ = self.commands.send(Command::Report(self.index, report));
    }
}

/// Why a run gave no rows.
#[derive(Debug, thiserror::Error)]
enum RunFailure {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("no plan takes {images} images in one run")]
    TooMany { images: usize },
    #[error(
        "the plan gave {rows} results for {images} images; expected one each, of finite scores"
    )]
    Rows { rows: usize, images: usize },
    #[error("the plan gives a tensor; expected one that ends with top_k")]
    Tensor,
}

impl Programs {
    fn run(&mut self, kind: Kind, images: &[Image]) -> Result<Vec<Vec<Scored>>, RunFailure> {
        let cuda = self.cuda;
        let is_elsewhere = |i: &Image| i.in_memory_of().is_some_and(|d| Some(d) != cuda);
        let copied: Vec<Image>;
        let images = if images.iter().any(is_elsewhere) {
            let readable = images.iter().map(|image| image.readable_on(cuda));
            copied = readable.collect::<Result<_, _>>()?;
            &copied
        } else {
            images
        };
        let program = match kind {
            Kind::Base => self
                .base
                .iter_mut()
                .find(|(capacity, _)| *capacity >= images.len())
                .map(|(_, p)| p),
            Kind::Collage => self.collage.as_mut(),
        };
        let program = program.ok_or(RunFailure::TooMany {
            images: images.len(),
        })?;
        let Output::TopK(rows) = program.run(Input::Images(images))? else {
            return Err(RunFailure::Tensor);
        };
        let sound = |row: &Vec<Scored>| row.first().is_some_and(|best| best.score.is_finite());
        if rows.len() != images.len() || !rows.iter().all(sound) {
            return Err(RunFailure::Rows {
                rows: rows.len(),
                images: images.len(),
            });
        }
        Ok(rows)
    }
}

/// Says that the thread has ended, however it ended.
struct Farewell {
    index: usize,
    commands: Sender<Command>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let _ = self
            .commands
            .send(Command::Report(self.index, Report::Exited));
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
