//! `collage demo`: the main job. The held-out digits come in at a fixed rate, one base worker straggles on purpose, and
//! the same requests are served twice: without redundancy, and with a collage worker behind the base workers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use collage::backend::discover::{self, DeviceSpec};
use collage::backend::{BackendKind, Device};
use collage::embedded;
use collage::engine::{Engine, Options, Policy, RequestOptions, Role, Stats, Straggler};
use collage::image::Image;
use collage::model::Model;
use collage::model::plan::Grid;

use super::console::Console;
use super::devices::describe;
use super::failure::Failure;
use super::pass::Pass;
use super::report;
use super::shuffle::shuffled;
use super::text::{ms, thousands};

mod clock;
mod gallery;
mod load;
pub mod outcome;

use gallery::Gallery;
use load::Arrivals;
use outcome::{Alone, Outcome, Run, Worker};

const EXAMPLES: &str = "\
Examples:
  collage demo                                     a minute, then a table
  collage demo --report demo.html                  and a page with the picture of it
  collage demo --json > demo.json                  for scripts; the table goes to standard error
  collage demo --straggler slow:0:50 --grid 2x2    another straggler, another collage
  collage demo --release-ms 5 --rate 900           an earlier release, twice the load

Stragglers are injected: slow:WORKER:FACTOR[:PROBABILITY] makes a worker's runs take FACTOR times as long,
pause:WORKER:MS[:PROBABILITY] makes them wait. A straggling worker sleeps; it takes no processor time from the others.
Base workers are counted from 0, the collage workers come after them.

Figures depend on the machine. What does not depend on it is set by --seed: the order of the images and the draws of
injected straggling.
";

/// Serve the held-out digits twice, with one worker made to straggle: without redundancy, then with a collage
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// auto, cpu, cpu:THREADS, wgpu, wgpu:INDEX, cuda, cuda:INDEX; auto gives each worker of a CPU one thread
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceSpec,
    /// Base workers; one collage worker is added to them
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
    /// Requests of each run
    #[arg(long, value_name = "N", default_value = "10008", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    requests: u32,
    /// Requests a second [default: 450, or fewer where that would keep this machine more than half busy]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Requests that are due at the same time [default: as many as a collage has tiles]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    burst: Option<u32>,
    /// Tiles of the collage
    #[arg(long, value_name = "RxC", default_value = "3x3")]
    grid: Grid,
    /// From this long after a request was due, the collage may answer [default: 3/4 of the time between bursts]
    #[arg(long, value_name = "MS", value_parser = positive)]
    release_ms: Option<f64>,
    /// A request that is not answered this long after it was due fails
    #[arg(long, value_name = "MS", default_value = "2000", value_parser = positive)]
    deadline_ms: f64,
    /// An injected straggler; may be given again [default: pause:0:MS, five times the time between bursts]
    #[arg(long = "straggler", value_name = "WHAT")]
    stragglers: Vec<Straggler>,
    /// A collage answer below this confidence abstains [default: the collage model's own]
    #[arg(long, value_name = "P", value_parser = probability)]
    min_confidence: Option<f32>,
    /// Of the order of the images and of the injected straggling
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// Write a page that shows and explains the result; it needs nothing beside it
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0 && *n <= 1e7);
    number.ok_or_else(|| "expected a number above 0 and up to 10,000,000".to_string())
}

fn probability(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or_else(|| "expected a number from 0 to 1".to_string())
}

impl Demo {
    /// Parses, serves twice, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let stage = Stage::set(&self)?;
        console.say(&stage.announcement())?;
        let started = clock::utc_now();
        let runs = [stage.serve(Policy::None, console)?, stage.serve(Policy::Collage, console)?];
        let (accuracy, pictures) = stage.gallery().hang()?;
        let outcome = stage.outcome(runs, accuracy, started);
        let mut text = format!("{}\n{}", outcome.table(), outcome.headline);
        if let Some(path) = &self.report {
            let page = report::html(&outcome, &pictures)?;
            let written = std::fs::write(path, page);
            written.map_err(|e| Failure::other(format!("--report {}: cannot be written: {e}", path.display())))?;
            text += &format!("\nReport: {}", path.display());
        }
        console.finish(&outcome, &text)
    }
}

/// Everything that both runs share.
struct Stage {
    device: Arc<dyn Device>,
    base: Model,
    collage: Model,
    grid: Grid,
    images: Vec<Image>,
    labels: Vec<u32>,
    order: Vec<usize>,
    workers: usize,
    burst: usize,
    rate: f64,
    release_ms: f64,
    deadline_ms: f64,
    stragglers: Vec<Straggler>,
    min_confidence: f32,
    seed: u64,
    /// Multiply-accumulates of one base image and of one canvas.
    macs: (u64, u64),
    repeat: String,
}

/// Between bursts, where the machine is fast enough.
const INTERVAL_MS: f64 = 20.0;

impl Stage {
    fn set(demo: &Demo) -> Result<Self, Failure> {
        let (base, collage, digits) = (embedded::base()?, embedded::collage()?, embedded::held_out()?);
        let images: Vec<Image> = (0..digits.len()).map(|i| digits.image(i)).collect::<Result<_, _>>()?;
        let labels: Vec<u32> = (0..digits.len()).filter_map(|i| digits.label(i)).collect();
        let device = open_device(&demo.device)?;
        let burst = demo.burst.map_or(demo.grid.tiles(), |n| n as usize);
        let (work_ms, macs) = one_burst(&*device, &base, &collage, demo.grid, &images, burst)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let interval_ms = match demo.rate {
            Some(rate) => burst as f64 / rate * 1e3,
            None => INTERVAL_MS.max((2.0 * work_ms / cores.min(2) as f64).ceil()),
        };
        let default_straggler = || format!("pause:0:{}", (5.0 * interval_ms).ceil()).parse::<Straggler>();
        let stragglers = if demo.stragglers.is_empty() { vec![default_straggler()?] } else { demo.stragglers.clone() };
        let rounds = (demo.requests as usize).div_ceil(images.len().max(1));
        let order = (0..rounds as u64).flat_map(|round| shuffled(images.len(), demo.seed.wrapping_add(round)));
        let mut stage = Self {
            order: order.take(demo.requests as usize).collect(),
            min_confidence: demo.min_confidence.unwrap_or(collage.metadata().min_confidence),
            device,
            base,
            collage,
            grid: demo.grid,
            images,
            labels,
            workers: demo.workers as usize,
            burst,
            rate: burst as f64 / interval_ms * 1e3,
            release_ms: demo.release_ms.unwrap_or((0.75 * interval_ms).ceil()),
            deadline_ms: demo.deadline_ms,
            stragglers,
            seed: demo.seed,
            macs,
            repeat: String::new(),
        };
        stage.repeat = stage.command(demo);
        Ok(stage)
    }

    /// The command line with every default written out, because some defaults depend on the machine.
    fn command(&self, demo: &Demo) -> String {
        let stragglers: String = self.stragglers.iter().map(|s| format!(" --straggler {s}")).collect();
        let confidence = demo.min_confidence.map_or(String::new(), |p| format!(" --min-confidence {p}"));
        format!(
            "collage demo --device {} --workers {} --requests {} --rate {} --burst {} --grid {} --release-ms {} \
             --deadline-ms {}{stragglers}{confidence} --seed {} --report demo.html",
            demo.device,
            self.workers,
            self.order.len(),
            self.rate,
            self.burst,
            self.grid,
            self.release_ms,
            self.deadline_ms,
            self.seed,
        )
    }

    fn announcement(&self) -> String {
        let stragglers: Vec<String> = self.stragglers.iter().map(Straggler::to_string).collect();
        format!(
            "{} requests over {} held-out digits at {:.0} a second, twice, on {}\n{} base workers, 1 collage worker of {}; \
             straggling (injected): {}\n",
            thousands(self.order.len() as u64),
            self.images.len(),
            self.rate,
            describe(self.device.info()),
            self.workers,
            self.grid,
            stragglers.join(", "),
        )
    }

    fn serve(&self, policy: Policy, console: &Console) -> Result<Run, Failure> {
        let mut options = Options::new(self.base.clone(), self.device.clone());
        options.collage = Some(self.collage.clone());
        options.grid = self.grid;
        options.base_workers = self.workers;
        options.collage_workers = 1;
        options.queue = self.order.len().max(1024);
        options.release = milliseconds(self.release_ms);
        options.deadline = milliseconds(self.deadline_ms);
        options.min_confidence = Some(self.min_confidence);
        options.top_k = 1;
        options.policy = policy;
        options.stragglers = self.stragglers.clone();
        options.seed = self.seed;
        let engine = Engine::open(options)?;
        self.warm_up(&engine)?;
        let (name, what) = match policy {
            Policy::None => ("none", "no redundancy"),
            _ => ("collage", "collage"),
        };
        let arrivals = Arrivals {
            images: &self.images,
            labels: &self.labels,
            order: &self.order,
            rate: self.rate,
            burst: self.burst,
            deadline: milliseconds(self.deadline_ms),
        };
        let bar = console.progress(self.order.len() as u64, what);
        let mut run = arrivals.run(&engine, name, &bar)?;
        bar.finish_and_clear();
        run.account(&engine.shutdown());
        Ok(run)
    }

    /// A few bursts that are not measured: first touches of memory, caches and clocks.
    fn warm_up(&self, engine: &Engine) -> Result<(), Failure> {
        for _ in 0..5 {
            let submit = |i: &usize| engine.submit(self.images[*i].clone(), RequestOptions::default());
            let tickets = self.order.iter().take(self.burst).map(submit).collect::<Result<Vec<_>, _>>()?;
            for ticket in tickets {
                ticket.wait()?;
            }
        }
        Ok(())
    }

    fn gallery(&self) -> Gallery<'_> {
        Gallery {
            device: &*self.device,
            base: &self.base,
            collage: &self.collage,
            grid: self.grid,
            min_confidence: self.min_confidence,
            images: &self.images,
            labels: &self.labels,
            order: &self.order,
        }
    }

    fn outcome(self, runs: [Run; 2], accuracy: gallery::Accuracy, started: String) -> Outcome {
        let sum = |role: &str| -> u64 { runs[1].workers.iter().filter(|w| w.role == role).map(|w| if role == "base" { w.images } else { w.runs }).sum() };
        let (image, canvas) = self.macs;
        let extra_work = (sum("collage") * canvas) as f64 / (sum("base") * image).max(1) as f64;
        Outcome {
            headline: Outcome::headline(&runs),
            device: describe(self.device.info()),
            repeat: self.repeat,
            version: env!("CARGO_PKG_VERSION"),
            started,
            seed: self.seed,
            images: self.images.len(),
            requests: self.order.len(),
            rate: self.rate,
            burst: self.burst,
            base_workers: self.workers,
            collage_workers: 1,
            grid: self.grid.to_string(),
            release_ms: self.release_ms,
            deadline_ms: self.deadline_ms,
            injected: self.stragglers.iter().map(Straggler::to_string).collect(),
            extra_work,
            min_confidence: self.min_confidence,
            alone: Alone { base: accuracy.base, collage: accuracy.collage },
            runs,
        }
    }
}

impl Run {
    /// Adds what the engine counted.
    fn account(&mut self, stats: &Stats) {
        self.abstained = stats.requests.abstained;
        self.late = stats.requests.late;
        let role = |role: Role| if role == Role::Collage { "collage" } else { "base" };
        let worker = |w: &collage::engine::WorkerStats| Worker {
            role: role(w.role),
            runs: w.runs,
            images: w.images,
            injected_runs: w.injected_runs,
            run_p50_ms: w.service_p50.as_secs_f64() * 1e3,
        };
        self.workers = stats.workers.iter().map(worker).collect();
    }
}

/// Workers share the cores of a CPU: one thread each, unless the flag says otherwise.
fn open_device(spec: &DeviceSpec) -> Result<Arc<dyn Device>, Failure> {
    let device = discover::open(spec)?;
    if *spec == DeviceSpec::Auto && device.info().backend == BackendKind::Cpu {
        return Ok(discover::open(&DeviceSpec::Cpu(Some(1)))?);
    }
    Ok(device)
}

/// How long one burst's work takes this machine without any concurrency, best of three, and the work itself.
fn one_burst(
    device: &dyn Device,
    base: &Model,
    collage: &Model,
    grid: Grid,
    images: &[Image],
    burst: usize,
) -> Result<(f64, (u64, u64)), Failure> {
    let mut base = Pass::load(device, base, Grid::ONE, 1, 1)?;
    let mut collage = Pass::load(device, collage, grid, 1, 1)?;
    let images: Vec<Image> = images.iter().cycle().take(burst).cloned().collect();
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let begin = Instant::now();
        base.run_all(&images)?;
        collage.run_all(&images)?;
        best = best.min(begin.elapsed().as_secs_f64() * 1e3);
    }
    tracing::info!("one burst is {} of work", ms(best));
    Ok((best, (base.macs, collage.macs)))
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}
