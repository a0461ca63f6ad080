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

use std::sync::Arc;
use std::time::Duration;

pub use crate::host::{
    Answer, Canceller, Effect, Error, Plans, RequestOptions, Restart, Setup, Stats, Straggler,
    StragglerError, Ticket, Tile, WorkerStats,
};
pub use crate::sched::{
    AccuracyBudget, After, Health, Independence, Policy, PolicyError, RequestId, Role, Source,
    WorkerState,
};

pub use crate::backend::Scored;
#[cfg(feature = "cuda")]
pub use crate::backend::cuda::device_image;

use crate::backend::Device;
use crate::host::Host;
use crate::image::Image;
use crate::model::Model;
use crate::model::compile::{PlanOptions, PlanOutput};
use crate::model::plan::{Grid, Plan};
use crate::sched;

/// Largest `max_batch`: a guard against a mistyped number, far above what any device gains from.
const MAX_BATCH: usize = 4096;
/// Largest number of workers of one kind, for the same reason.
const MAX_WORKERS: usize = 1024;

/// How an engine is made. [`Options::new`] has defaults for all but the model and its devices.
#[derive(Clone, Debug)]
pub struct Options {
    /// Classifies single images.
    pub base: Model,
    /// Classifies the tiles of a canvas.
    pub collage: Option<Model>,
    /// Tiles of the canvas, where the policy does not say them.
    pub grid: Grid,
    /// Where plans run; workers are dealt over them in turn. Two handles of one device count as one device.
    pub devices: Vec<Arc<dyn Device>>,
    /// Workers for base runs: the first indices.
    pub base_workers: usize,
    /// Workers for collages: the indices after them. With 0, the base workers run the collages too.
    pub collage_workers: usize,
    /// Accuracy that may be given up. It sets the release times in the place of [`release`](Options::release) once base
    /// runs have shown how long they take, and no more answers come from collages than it pays for.
    pub accuracy: Option<AccuracyBudget>,
    /// Most accepted and unanswered requests; beyond, [`Error::Overloaded`] at once.
    pub queue: usize,
    /// Most images of a base run.
    pub max_batch: usize,
    /// How long a request waits for others to share its base run. With 0 batches form only while all workers are
    /// busy.
    pub batch_wait: Duration,
    /// How long a group waits for more members; then its collage has blank tiles.
    pub group_wait: Duration,
    /// After submission: from then on a collage may answer.
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
    /// Injected stragglers.
    pub stragglers: Vec<Straggler>,
    /// Of the injected stragglers.
    pub seed: u64,
    /// How lost workers are brought back.
    pub restart: Restart,
}

impl Options {
    /// One base worker and one collage worker; a collage is used once [`collage`](Options::collage) is set.
    pub fn new(base: Model, devices: Vec<Arc<dyn Device>>) -> Self {
        Self {
            base,
            collage: None,
            grid: Grid { rows: 3, cols: 3 },
            devices,
            base_workers: 1,
            collage_workers: 1,
            accuracy: None,
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
        }
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
        let own_grid = policy.grid().map(|(rows, cols)| Grid { rows, cols });
        let grid = own_grid.unwrap_or(self.grid);
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
        let own_confidence = collage.map_or(0.0, |c| c.metadata().min_confidence);
        Ok(Setup {
            plans: Plans {
                base: base_plans(&self.base, self.max_batch, self.top_k)?,
                collage: collage.map(|c| plan(c, 1, grid, self.top_k)).transpose()?,
            },
            devices: self.devices,
            base_workers: self.base_workers,
            collage_workers: self.collage_workers,
            policy,
            budget: self.budget,
            accuracy: self.accuracy,
            queue: self.queue,
            batch_wait: self.batch_wait,
            group_wait: self.group_wait,
            release: self.release,
            deadline: self.deadline,
            min_confidence: self.min_confidence.unwrap_or(own_confidence),
            stragglers: self.stragglers,
            seed: self.seed,
            restart: self.restart,
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
fn base_plans(model: &Model, max_batch: usize, top_k: usize) -> Result<Vec<Arc<Plan>>, Error> {
    let powers =
        std::iter::successors(Some(1usize), |b| b.checked_mul(2)).take_while(|&b| b < max_batch);
    powers
        .chain([max_batch])
        .map(|batch| plan(model, batch, Grid::ONE, top_k))
        .collect()
}

fn plan(model: &Model, batch: usize, grid: Grid, top_k: usize) -> Result<Arc<Plan>, Error> {
    let output = PlanOutput::TopK(top_k.min(model.classes().len().max(1)));
    let options = PlanOptions {
        batch,
        grid,
        output,
        ..PlanOptions::default()
    };
    Ok(Arc::new(Plan::compile(model, &options)?))
}

/// A running engine. Dropping it shuts it down.
#[derive(Debug)]
pub struct Engine {
    host: Host,
}

impl Engine {
    /// Compiles the models, loads them on every worker and starts to serve.
    pub fn open(options: Options) -> Result<Engine, Error> {
        Engine::start(options.setup()?)
    }

    /// Starts to serve plans that are compiled already, for callers who bring their own.
    pub fn start(setup: Setup) -> Result<Engine, Error> {
        Ok(Engine {
            host: Host::start(setup)?,
        })
    }

    /// Accepts a request. Never blocks: [`Error::Overloaded`] and [`Error::Closed`] come at once.
    pub fn submit(&self, image: Image, request: RequestOptions) -> Result<Ticket, Error> {
        self.host.submit(image, request)
    }

    /// As [`submit`](Engine::submit), and calls `then` with the outcome, exactly once, unless the request is refused. It is
    /// called on the scheduler's thread, which waits for it: it must not block.
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
        self.host.shutdown()
    }
}
