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
use super::post::Post;
use super::results::Head;
use super::straggler::Injector;
use crate::backend::{BackendError, BackendKind, Device, Input, Output, Program, Scored, best};
use crate::image::{Image, ImageError};
use crate::model::plan::Plan;
use crate::sched::{JobId, Kind, RequestId, Role};

/// Longer than an engine runs.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// One job.
pub(super) struct Order {
    pub(super) job: JobId,
    pub(super) kind: Kind,
    /// As many as its slots, where it is a parity; else as many of them as there are.
    pub(super) images: Vec<Image>,
    pub(super) slots: usize,
    /// For the trace.
    pub(super) ids: Arc<[RequestId]>,
    /// How often the worker had been lost when this was ordered: what was ordered before a loss is void after it.
    pub(super) epoch: u64,
}

/// What a worker says.
#[derive(Debug)]
pub(super) enum Report {
    /// A run succeeded.
    Done {
        job: JobId,
        rows: Rows,
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

/// What a run leaves.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The best classes of each image; none of a parity.
    pub(super) top: Vec<Vec<Scored>>,
    /// Where answers are decoded: the logits of each image, or of the query.
    pub(super) logits: Vec<Vec<f32>>,
}

/// Programs of one worker, each with the most images of a run, ascending.
struct Programs {
    base: Vec<(usize, Box<dyn Program>)>,
    collage: Vec<(usize, Box<dyn Program>)>,
    parity: Vec<(usize, Box<dyn Program>)>,
    /// Where answers are decoded: base plans give logits.
    head: Option<Head>,
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
    pub(super) post: Post,
    /// Set when the engine ends: nobody waits for delays any more.
    pub(super) stop: Arc<AtomicBool>,
}

impl Worker {
    /// The thread's whole life. Tells `opened` first whether the programs could be loaded.
    pub(super) fn run(mut self, opened: Sender<Result<(), Error>>) {
        let _farewell = Farewell {
            index: self.index,
            post: self.post.clone(),
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
            slots,
            ids,
            ..
        } = order;
        let span =
            tracing::debug_span!("run", worker = self.index, job = job.0, ?kind, requests = ?ids);
        let _entered = span.enter();
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| programs.run(kind, slots, &images)));
        match outcome {
            Ok(Ok(rows)) => {
                let service = began.elapsed();
                let injected = self.injector.delay(kind, slots, began, service);
                if !injected.is_zero() {
                    tracing::debug!(?injected, "injected straggling");
                    let now = Instant::now();
                    // Beyond what the platform can express: until the engine ends.
                    let end = now.checked_add(injected).unwrap_or(now + FOREVER);
                    sleep_until(end, &self.stop);
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
        let load = |kind: Kind, plans: &[Arc<Plan>]| {
            let plans = plans.iter().filter(|_| self.role.can(kind));
            let mut loaded = plans
                .map(|plan| Ok((plan.capacity(), self.device.load(plan.clone())?)))
                .collect::<Result<Vec<_>, BackendError>>()?;
            loaded.sort_by_key(|&(capacity, _)| capacity);
            Ok::<_, BackendError>(loaded)
        };
        let all = || -> Result<Programs, BackendError> {
            let parity = self.plans.parity.as_ref();
            let query = parity.map_or(&[][..], |p| std::slice::from_ref(&p.plan));
            let info = self.device.info();
            let cuda = (info.backend == BackendKind::Cuda).then_some(info.index);
            Ok(Programs {
                base: load(Kind::Base, &self.plans.base)?,
                collage: load(Kind::Collage, &self.plans.collage)?,
                parity: load(Kind::Parity, query)?,
                head: parity.map(|p| p.head),
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
        let _ = self.post.send(Command::Report(self.index, report));
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
    #[error("the plan gives {given}; expected {expected}")]
    Output {
        given: &'static str,
        expected: &'static str,
    },
}

impl Programs {
    fn run(&mut self, kind: Kind, slots: usize, images: &[Image]) -> Result<Rows, RunFailure> {
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
        let programs = match kind {
            Kind::Base => &mut self.base,
            Kind::Collage => &mut self.collage,
            Kind::Parity => &mut self.parity,
        };
        let smallest = programs.iter_mut().find(|(capacity, _)| *capacity >= slots);
        let (capacity, program) = smallest.ok_or(RunFailure::TooMany { images: slots })?;
        let output = program.run(Input::Images(images))?;
        match (kind, self.head, output) {
            (Kind::Base, None, Output::TopK(top)) | (Kind::Collage, _, Output::TopK(top)) => {
                Rows::of_top(top, images.len())
            }
            (Kind::Base, Some(head), Output::Tensor(logits)) => {
                Rows::of_logits(&logits, (*capacity, images.len()), Some(head))
            }
            (Kind::Parity, _, Output::Tensor(logits)) => Rows::of_logits(&logits, (1, 1), None),
            (_, _, Output::Tensor(_)) => Err(RunFailure::Output {
                given: "a tensor",
                expected: "one that ends with top_k",
            }),
            (_, _, Output::TopK(_)) => Err(RunFailure::Output {
                given: "classes",
                expected: "logits, which answers are decoded from",
            }),
        }
    }
}

impl Rows {
    fn of_top(top: Vec<Vec<Scored>>, images: usize) -> Result<Rows, RunFailure> {
        let sound = |row: &Vec<Scored>| row.first().is_some_and(|best| best.score.is_finite());
        if top.len() != images || !top.iter().all(sound) {
            let rows = top.len();
            return Err(RunFailure::Rows { rows, images });
        }
        let logits = Vec::new();
        Ok(Rows { top, logits })
    }

    /// The first `images` of so many rows. Nothing is decoded from what is no number.
    fn of_logits(
        logits: &[f32],
        (rows, images): (usize, usize),
        head: Option<Head>,
    ) -> Result<Rows, RunFailure> {
        let classes = logits.len() / rows.max(1);
        let found = logits.chunks_exact(classes.max(1)).take(images);
        let logits: Vec<Vec<f32>> = found.map(<[f32]>::to_vec).collect();
        let sound = |row: &Vec<f32>| row.iter().all(|logit| logit.is_finite());
        if logits.len() != images || !logits.iter().all(sound) {
            let rows = logits.len();
            return Err(RunFailure::Rows { rows, images });
        }
        let top = |head: Head| {
            let row = |row: &Vec<f32>| best(head.k, head.temperature, row);
            logits.iter().map(row).collect()
        };
        let top = head.map(top).unwrap_or_default();
        Ok(Rows { top, logits })
    }
}

/// Says that the thread has ended, however it ended.
struct Farewell {
    index: usize,
    post: Post,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let _ = self.post.send(Command::Report(self.index, Report::Exited));
    }
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
