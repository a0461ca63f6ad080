//! The engine: images in, answers by their deadline out. What Rust users, the command line and the C library call.
//!
//! ```no_run
//! use collage::engine::{Engine, Options, RequestOptions};
//! use collage::{backend, image::Image, model::{Model, plan::Grid}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = backend::open(&"auto".parse()?)?;
//! let mut options = Options::new(Model::open("base.safetensors")?, vec![device]);
//! options.collage = Some(Model::open("collage.safetensors")?);
//! options.grid = Grid { rows: 3, cols: 3 };
//! let engine = Engine::open(options)?;
//! # let image = Image::from_rgb(1, 1, vec![0, 0, 0]).ok_or("no image")?;
//! let answer = engine.submit(image, RequestOptions::default())?.wait()?;
//! println!("class {} from the {} in {:?}", answer.top[0].class, answer.source, answer.latency);
//! engine.shutdown();
//! # Ok(()) }
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use crate::attach::{Attach, AttachError};
pub use crate::host::{
    Answer, Canceller, ContentionStats, Decoded, Error, Head, Parity, Plans, RequestOptions,
    Restart, Setup, Stats, Ticket, Tile, WorkerStats,
};
pub use crate::sched::{
    AccuracyBudget, After, Health, Independence, Objective, ObjectiveError, Policy, PolicyError,
    Promise, Promises, RequestId, Role, Scores, Source, WorkerState,
};
pub use crate::straggler::{Straggler, StragglerError};

pub use crate::backend::Scored;
#[cfg(feature = "cuda")]
pub use crate::backend::cuda::device_image;

use crate::attach::{Process, Server, State};
use crate::backend::Device;
use crate::host::Host;
use crate::image::Image;
use crate::model::Model;
use crate::model::compile::{PlanInput, PlanOptions, PlanOutput};
use crate::model::plan::{Grid, Plan};
use crate::sched;

/// Largest `max_batch`: a guard against a mistyped number, far above what any device gains from.
const MAX_BATCH: usize = 4096;
/// Most grids of a collage: each is a program of its own on every worker that runs collages.
const MAX_GRIDS: usize = 6;
/// Largest number of workers of one kind, for the same reason.
const MAX_WORKERS: usize = 1024;

/// How an engine is made. [`Options::new`] has defaults for all but the model and its devices.
#[derive(Clone, Debug)]
pub struct Options {
    /// Classifies single images.
    pub base: Model,
    /// Classifies the tiles of a canvas.
    pub collage: Option<Model>,
    /// Classifies the mean of several images: its logits are to be the mean of the base's logits of each. Of the same
    /// classes and input as the base; [`Policy::Parity`] needs it.
    pub parity: Option<Model>,
    /// Tiles of the canvas, where the policy does not say them.
    pub grid: Grid,
    /// Grids that are loaded for `collage:auto`, and, as far as they are smaller than a fixed grid, for its groups that
    /// are not full; the first of each number of tiles. Without any, `collage:auto` takes the square ones that the
    /// collage was trained for.
    pub grids: Vec<Grid>,
    /// Where plans run; workers are dealt over them in turn. Two handles of one device count as one device.
    pub devices: Vec<Arc<dyn Device>>,
    /// Workers for base runs: the first indices.
    pub base_workers: usize,
    /// Workers for collages, or for parities: the indices after them. With 0, the base workers run those too.
    pub collage_workers: usize,
    /// Accuracy that may be given up. It sets the release times in the place of [`release`](Options::release) once base
    /// runs have shown how long they take, and no more answers come from collages than it pays for.
    pub accuracy: Option<AccuracyBudget>,
    /// How fast requests are to be answered. It sets the release times, and under a lazy policy when requests are late,
    /// in the place of [`release`](Options::release) and of what [`accuracy`](Options::accuracy) would set.
    pub objective: Option<Objective>,
    /// Most accepted and unanswered requests; beyond, [`Error::Overloaded`] at once.
    pub queue: usize,
    /// Most images of a base run.
    pub max_batch: usize,
    /// How long a request waits for others to share its base run. With 0 batches form only while all workers are
    /// busy.
    pub batch_wait: Duration,
    /// How long a group waits for more members; then its collage has blank tiles.
    pub group_wait: Duration,
    /// After submission: from then on a collage or a parity may answer.
    pub release: Duration,
    /// After submission: answered by then or [`Error::DeadlineExceeded`].
    pub deadline: Duration,
    /// A collage answer below this abstains; `None` takes the collage file's own.
    pub min_confidence: Option<f32>,
    /// Classes of an answer, best first; at most as many as the model has are given.
    pub top_k: usize,
    /// Which backups requests get. Those of a collage need [`collage`](Options::collage); without it there are none.
    pub policy: Policy,
    /// Most extra work that lateness may ask for (hedges, re-sent requests, lazy collages), in base runs a request.
    pub budget: f64,
    /// Injected stragglers; their traces are read when the engine opens.
    pub stragglers: Vec<Straggler>,
    /// Of the injected stragglers' draws.
    pub seed: u64,
    /// How lost workers are brought back.
    pub restart: Restart,
    /// Whether NVIDIA GPUs are asked how they are, where they can be: one that is slowed or broken by its own word is
    /// trusted less before its runs show it.
    pub telemetry: bool,
    /// Whether and where `collage monitor` can see this engine.
    pub attach: Attach,
}

impl Options {
    /// One base worker and one collage worker; a collage is used once [`collage`](Options::collage) is set.
    pub fn new(base: Model, devices: Vec<Arc<dyn Device>>) -> Self {
        Self {
            base,
            collage: None,
            parity: None,
            grid: Grid { rows: 3, cols: 3 },
            grids: Vec::new(),
            devices,
            base_workers: 1,
            collage_workers: 1,
            accuracy: None,
            objective: None,
            queue: 1024,
            max_batch: 8,
            batch_wait: Duration::ZERO,
            group_wait: Duration::from_millis(5),
            release: Duration::from_millis(20),
            deadline: Duration::from_secs(1),
            min_confidence: None,
            top_k: 5,
            policy: Policy::COLLAGE,
            budget: sched::Config::default().budget,
            stragglers: Vec::new(),
            seed: 0,
            restart: Restart::default(),
            telemetry: true,
            attach: Attach::Auto,
        }
    }

    /// What an answer of the collage loses against one of the base, as both files state it: held-out accuracy of the
    /// base, less that of the collage at the grid that will run, or the least accurate of them. `None` where one of them
    /// does not say.
    pub fn accuracy_drop(&self) -> Option<f64> {
        let collage = self.collage.as_ref()?;
        let stated = |model: &Model, of: &str| model.metadata().accuracy.get(of).copied();
        let base = stated(&self.base, "base")?;
        let grids = self.loaded_grids(collage.grids()).into_iter();
        let own = grids.map(|grid| stated(collage, &grid.to_string()));
        let least = own.reduce(|least, own| Some(least?.min(own?)))??;
        Some((base - least).clamp(0.0, 1.0))
    }

    /// The collage's plans, one for each grid that it may run on.
    fn collage_plans(&self, collage: &Model) -> Result<Vec<Arc<Plan>>, Error> {
        let output = top_k(collage, self.top_k);
        let grids = self.loaded_grids(collage.grids());
        within("grids", grids.len(), 1, MAX_GRIDS)?;
        grids
            .into_iter()
            .map(|grid| {
                plan(
                    collage,
                    PlanOptions {
                        grid,
                        output,
                        ..PlanOptions::default()
                    },
                )
            })
            .collect()
    }

    /// Grids to load, of different numbers of tiles.
    fn loaded_grids(&self, trained: &[Grid]) -> Vec<Grid> {
        let mut grids = self.grids.clone();
        let most = match self.policy.is_auto() && grids.is_empty() {
            true => MAX_GRIDS,
            false => usize::MAX, // what was asked for is loaded, or refused
        };
        if !self.policy.is_auto() {
            let own = self.policy.grid().map(|(rows, cols)| Grid { rows, cols });
            let own = own.unwrap_or(self.grid);
            grids.retain(|grid| grid.tiles() < own.tiles());
            grids.push(own);
        } else if grids.is_empty() {
            let square = trained.iter().copied().filter(|g| g.rows == g.cols);
            grids = square.collect();
            if grids.is_empty() {
                grids = trained.to_vec();
            }
        }
        grids.sort_by_key(|grid| grid.tiles());
        grids.dedup_by_key(|grid| grid.tiles());
        grids.truncate(most);
        grids
    }

    /// The parity model on groups of so many, checked against the base.
    fn parity(&self, members: usize) -> Result<Parity, Error> {
        let (base, policy) = (&self.base, self.policy.to_string());
        let Some(model) = &self.parity else {
            return Err(Error::option("policy", policy, "a parity model with it"));
        };
        let same = [
            (model.kind() == base.kind(), "kind"),
            (model.classes() == base.classes(), "classes"),
            (model.preprocessing() == base.preprocessing(), "input"),
        ];
        if let Some((_, what)) = same.into_iter().find(|(same, _)| !same) {
            let given = format!("{} is of another {what} than {}", model.file(), base.file());
            let expected = "a model of the base's kind, classes and input";
            return Err(Error::option("parity", given, expected));
        }
        let options = PlanOptions {
            input: PlanInput::Mean(members),
            output: PlanOutput::Logits,
            ..PlanOptions::default()
        };
        Ok(Parity {
            plan: plan(model, options)?,
            head: Head {
                k: self.top_k.min(base.classes().len().max(1)),
                temperature: base.metadata().temperature,
            },
        })
    }

    /// Compiles the models into the plans that workers run, and checks what can be checked before any thread starts.
    fn setup(self) -> Result<Setup, Error> {
        within("max_batch", self.max_batch, 1, MAX_BATCH)?;
        within("base_workers", self.base_workers, 1, MAX_WORKERS)?;
        within("collage_workers", self.collage_workers, 0, MAX_WORKERS)?;
        within("top_k", self.top_k, 1, usize::MAX)?;
        // Without a collage model there is nothing that a collage policy could back requests up with.
        let collage = self.collage.as_ref().filter(|_| self.policy.uses_collage());
        let policy = match collage {
            None if self.policy.uses_collage() => Policy::None,
            _ => self.policy,
        };
        if let Some(collage) = collage.filter(|c| c.classes() != self.base.classes()) {
            let given = format!(
                "{} has other classes than {}",
                collage.file(),
                self.base.file()
            );
            return Err(Error::option(
                "collage",
                given,
                "a model of the same classes in the same order",
            ));
        }
        let parity = match policy.parity() {
            Some(members) => Some(self.parity(members)?),
            None => None,
        };
        let output = match parity {
            Some(_) => PlanOutput::Logits,
            None => top_k(&self.base, self.top_k),
        };
        let own_confidence = collage.map_or(0.0, |c| c.metadata().min_confidence);
        Ok(Setup {
            plans: Plans {
                base: base_plans(&self.base, self.max_batch, output)?,
                collage: collage.map_or(Ok(Vec::new()), |c| self.collage_plans(c))?,
                parity,
            },
            devices: self.devices,
            base_workers: self.base_workers,
            collage_workers: self.collage_workers,
            policy,
            budget: self.budget,
            accuracy: self.accuracy,
            objective: self.objective,
            queue: self.queue,
            batch_wait: self.batch_wait,
            group_wait: self.group_wait,
            release: self.release,
            deadline: self.deadline,
            min_confidence: self.min_confidence.unwrap_or(own_confidence),
            stragglers: self.stragglers,
            seed: self.seed,
            restart: self.restart,
            telemetry: self.telemetry,
        })
    }
}

fn within(option: &'static str, given: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let expected = if most == usize::MAX {
        format!("{least} or more")
    } else {
        format!("{least} to {most}")
    };
    Err(Error::option(option, given.to_string(), expected))
}

/// Batches of 1, 2, 4, ... and `max_batch`: the smallest that holds a batch wastes less than half of its run.
fn base_plans(
    model: &Model,
    max_batch: usize,
    output: PlanOutput,
) -> Result<Vec<Arc<Plan>>, Error> {
    let powers =
        std::iter::successors(Some(1usize), |b| b.checked_mul(2)).take_while(|&b| b < max_batch);
    let options = |batch| PlanOptions {
        batch,
        output,
        ..PlanOptions::default()
    };
    powers
        .chain([max_batch])
        .map(|batch| plan(model, options(batch)))
        .collect()
}

/// As many as are asked for, or as the model has.
fn top_k(model: &Model, most: usize) -> PlanOutput {
    PlanOutput::TopK(most.min(model.classes().len().max(1)))
}

fn plan(model: &Model, options: PlanOptions) -> Result<Arc<Plan>, Error> {
    Ok(Arc::new(Plan::compile(model, &options)?))
}

/// How long the scheduler has to say what was done, when a monitor asks.
const ASKED: Duration = Duration::from_millis(500);

/// A running engine. Dropping it shuts it down.
#[derive(Debug)]
pub struct Engine {
    // Dropped in this order: a monitor can watch how the last requests are answered.
    host: Host,
    attached: Option<Server>,
    policy: String,
}

impl Engine {
    /// Compiles the models, loads them on every worker and starts to serve. Where monitors cannot be let in, the log says
    /// why and the engine serves all the same.
    pub fn open(options: Options) -> Result<Engine, Error> {
        let place = options.attach.clone();
        let mut engine = Engine::start(options.setup()?)?;
        match engine.attach(&place) {
            Ok(()) => {}
            Err(error @ AttachError::Unsupported) => {
                tracing::debug!("not shown to monitors: {error}")
            }
            Err(error) => tracing::warn!("not shown to monitors: {error}"),
        }
        Ok(engine)
    }

    /// Starts to serve plans that are compiled already, for callers who bring their own. Monitors see it after
    /// [`attach`](Self::attach).
    pub fn start(setup: Setup) -> Result<Engine, Error> {
        Ok(Engine {
            policy: setup.policy.to_string(),
            host: Host::start(setup)?,
            attached: None,
        })
    }

    /// Shows the engine's state on a local socket at this place, in the stead of where it was shown before.
    pub fn attach(&mut self, place: &Attach) -> Result<(), AttachError> {
        self.attached = None;
        let watch = self.host.watch();
        let process = Process::here(self.policy.clone());
        self.attached = Server::open(place, move |engine| {
            let stats = watch.stats(ASKED)?;
            let process = Process {
                engine,
                ..process.clone()
            };
            Some(State::of(process, &stats))
        })?;
        Ok(())
    }

    /// The socket at which a monitor can see this engine, if there is one.
    pub fn attached_at(&self) -> Option<&Path> {
        self.attached.as_ref().map(Server::path)
    }

    /// Accepts a request. Never blocks: [`Error::Overloaded`] and [`Error::Closed`] come at once.
    pub fn submit(&self, image: Image, request: RequestOptions) -> Result<Ticket, Error> {
        self.host.submit(image, request)
    }

    /// As [`submit`](Engine::submit), and calls `then` with the outcome, exactly once unless the request is refused. It is called
    /// while the scheduler is turned, by a worker's thread, the scheduler's or anyone's who submits meanwhile: it must not
    /// block, ask for statistics, nor wait for a lock that is held while submitting. It may submit and cancel.
    pub fn submit_with(
        &self,
        image: Image,
        request: RequestOptions,
        then: impl FnOnce(Result<Answer, Error>) + Send + 'static,
    ) -> Result<Canceller, Error> {
        self.host.submit_with(image, request, then)
    }

    /// Submits and waits.
    pub fn classify(&self, image: Image) -> Result<Answer, Error> {
        self.submit(image, RequestOptions::default())?.wait()
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.host.stats()
    }

    /// Takes no more requests, waits until every accepted one is answered or failed, and ends all threads.
    pub fn shutdown(self) -> Stats {
        let Engine { host, attached, .. } = self;
        let stats = host.shutdown();
        drop(attached);
        stats
    }
}
