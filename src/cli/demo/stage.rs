//! What both runs of a demo share: models, device, requests, settings; and how one of them is served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use collage::backend::Device;
use collage::config::Layer;
use collage::embedded;
use collage::engine::{
    Engine, Options, Policy, RequestOptions, Role, Stats, Straggler, WorkerStats,
};
use collage::image::Image;
use collage::model::Model;
use collage::model::plan::Grid;

use super::Demo;
use super::gallery::{Accuracy, Gallery};
use super::load::Arrivals;
use super::outcome::{Alone, Outcome, Promises, Run, Worker};
use crate::cli::console::Console;
use crate::cli::devices::describe;
use crate::cli::failure::Failure;
use crate::cli::pass::Pass;
use crate::cli::serving;
use crate::cli::shuffle::shuffled;
use crate::cli::text::{ms, thousands};

/// Everything that both runs share.
pub struct Stage {
    options: Options,
    collage: Model,
    images: Vec<Image>,
    labels: Vec<u32>,
    /// Which image each request asks.
    order: Vec<usize>,
    burst: usize,
    rate: f64,
    /// Multiply-accumulates of one base image and of one canvas.
    macs: (u64, u64),
    repeat: String,
}

/// Between bursts, where the machine is fast enough.
const INTERVAL_MS: f64 = 20.0;
/// Between bursts, so that both runs end within two minutes, where the machine is fast enough for that.
const LONGEST_INTERVAL_MS: f64 = 45.0;

impl Stage {
    /// Opens everything, and finds out what this machine can bear where no rate is given.
    pub fn set(demo: &Demo) -> Result<Self, Failure> {
        let chosen = "the demo always serves both, none and collage";
        let own = serving::defaults(demo.requests.into());
        let (given, mut options) = serving::settings(&demo.settings, own, chosen)?;
        let Some(collage) = options.collage.clone() else {
            return Err(Failure::usage(
                "--collage FILE is needed beside --model: the demo compares with and without it",
            ));
        };
        let (images, labels) = digits(&options.base)?;
        let burst = demo.burst.map_or(options.grid.tiles(), |n| n as usize);
        let (work_ms, macs) = one_burst(&options, &collage, &images, burst)?;
        let interval_ms = match demo.rate {
            Some(rate) => burst as f64 / rate * 1e3,
            None => interval_for(work_ms),
        };
        pace(&mut options, &given, interval_ms)?;
        let own_confidence = collage.metadata().min_confidence;
        options.min_confidence = options.min_confidence.or(Some(own_confidence));

        let requests = demo.requests as usize;
        let rounds = requests.div_ceil(images.len().max(1)) as u64;
        let round = |i| shuffled(images.len(), options.seed.wrapping_add(i));
        let order = (0..rounds).flat_map(round).take(requests).collect();
        let rate = burst as f64 / interval_ms * 1e3;
        let repeat = command(&given, &options, rate, burst, requests);
        Ok(Self {
            options,
            collage,
            images,
            labels,
            order,
            burst,
            rate,
            macs,
            repeat,
        })
    }

    fn device(&self) -> &Arc<dyn Device> {
        // `Settings::options` opens at least one.
        &self.options.devices[0]
    }

    /// Each device once.
    fn devices(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for name in self.options.devices.iter().map(|d| describe(d.info())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join("; ")
    }

    fn stragglers(&self) -> Vec<String> {
        self.options
            .stragglers
            .iter()
            .map(Straggler::to_string)
            .collect()
    }

    /// What is about to happen.
    pub fn announcement(&self) -> String {
        format!(
            "{} requests over {} held-out digits at {:.0} a second, twice, on {}\n{} base and {} collage workers of {}; \
             straggling (injected): {}\n",
            thousands(self.order.len() as u64),
            self.images.len(),
            self.rate,
            self.devices(),
            self.options.base_workers,
            self.options.collage_workers,
            self.options.grid,
            self.stragglers().join(", "),
        )
    }

    /// Serves all requests under this policy.
    pub fn serve(&self, policy: Policy, console: &Console) -> Result<Run, Failure> {
        let engine = Engine::open(Options {
            policy,
            ..self.options.clone()
        })?;
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
            deadline: self.options.deadline,
        };
        let bar = console.progress(self.order.len() as u64, what);
        let mut run = arrivals.run(&engine, name, &bar)?;
        bar.finish_and_clear();
        run.account(&engine.shutdown());
        Ok(run)
    }

    /// A few bursts that are not measured: first touches of memory, caches and clocks. What becomes of them does not
    /// matter.
    fn warm_up(&self, engine: &Engine) -> Result<(), Failure> {
        for _ in 0..5 {
            let submit =
                |i: &usize| engine.submit(self.images[*i].clone(), RequestOptions::default());
            let tickets: Vec<_> = self.order.iter().take(self.burst).map(submit).collect();
            for ticket in tickets {
                let _ = ticket.and_then(|ticket| ticket.wait());
            }
        }
        Ok(())
    }

    /// The same models, for the pictures.
    pub fn gallery(&self) -> Gallery<'_> {
        Gallery {
            device: &**self.device(),
            base: &self.options.base,
            collage: &self.collage,
            grid: self.options.grid,
            min_confidence: self.options.min_confidence.unwrap_or(0.0),
            images: &self.images,
            labels: &self.labels,
            order: &self.order,
        }
    }

    /// Puts the runs together with what they were made with.
    pub fn outcome(self, runs: [Run; 2], accuracy: Accuracy, started: String) -> Outcome {
        let (image, canvas) = self.macs;
        let extra_macs = runs[1].collage_runs * canvas;
        let base_macs = runs[1].base_images * image;
        Outcome {
            headline: Outcome::headline(&runs),
            device: self.devices(),
            version: env!("CARGO_PKG_VERSION"),
            started,
            seed: self.options.seed,
            images: self.images.len(),
            requests: self.order.len(),
            rate: self.rate,
            burst: self.burst,
            base_workers: self.options.base_workers,
            collage_workers: self.options.collage_workers,
            grid: self.options.grid.to_string(),
            release_ms: self.options.release.as_secs_f64() * 1e3,
            deadline_ms: self.options.deadline.as_secs_f64() * 1e3,
            objective: self.options.objective.map(|o| o.to_string()),
            injected: self.stragglers(),
            extra_work: extra_macs as f64 / base_macs.max(1) as f64,
            min_confidence: self.options.min_confidence.unwrap_or(0.0),
            alone: Alone {
                base: accuracy.base,
                collage: accuracy.collage,
            },
            runs,
            repeat: self.repeat,
        }
    }
}

impl Run {
    /// Adds what the engine counted.
    fn account(&mut self, stats: &Stats) {
        self.abstained = stats.requests.abstained;
        self.late = stats.requests.late;
        self.base_images = stats.requests.base_images;
        self.collage_runs = stats.requests.collage_runs;
        self.promises = Promises::of(&stats.promises);
        let role = |role: Role| match role {
            Role::Base => "base",
            Role::Collage => "collage",
            Role::Both => "both",
        };
        let worker = |w: &WorkerStats| Worker {
            role: role(w.role),
            runs: w.runs,
            images: w.images,
            injected_runs: w.injected_runs,
            run_p50_ms: w.service_p50.as_secs_f64() * 1e3,
        };
        self.workers = stats.workers.iter().map(worker).collect();
    }
}

/// The held-out digits and their classes, which must be those of `base`.
fn digits(base: &Model) -> Result<(Vec<Image>, Vec<u32>), Failure> {
    if base.classes() != embedded::base()?.classes() {
        return Err(Failure::input(format!(
            "--model {}: its classes are not the ten digits",
            base.file()
        )));
    }
    let set = embedded::held_out()?;
    let images = (0..set.len())
        .map(|i| set.image(i))
        .collect::<Result<_, _>>()?;
    let labels = (0..set.len()).filter_map(|i| set.label(i)).collect();
    Ok((images, labels))
}

/// A time between bursts that leaves two cores half idle, or a quarter where the demo would otherwise take too long.
fn interval_for(work_ms: f64) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let busy_ms = work_ms / cores.min(2) as f64;
    let longest = LONGEST_INTERVAL_MS.max((busy_ms / 0.75).ceil());
    (2.0 * busy_ms).ceil().clamp(INTERVAL_MS, longest)
}

/// Release time and stragglers in proportion to the time between bursts, where they are not given. All workers pause now and
/// then, the collage's too: one that did so at every run would be given no requests any more before it met a few of them.
fn pace(options: &mut Options, given: &Layer, interval_ms: f64) -> Result<(), Failure> {
    if given.release.is_none() {
        let release = milliseconds((0.75 * interval_ms).ceil());
        options.release = release.min(options.deadline.mul_f64(0.75));
    }
    if given.stragglers.is_none() {
        options.stragglers =
            vec![format!("pause:*:{}:0.02", (5.0 * interval_ms).ceil()).parse::<Straggler>()?];
    }
    let workers = options.base_workers + options.collage_workers;
    match options
        .stragglers
        .iter()
        .find(|straggler| straggler.worker().is_some_and(|w| w >= workers))
    {
        Some(beyond) => {
            let last = workers - 1;
            Err(Failure::usage(format!(
                "--stragglers {beyond}: expected a worker from 0 to {last}"
            )))
        }
        None => Ok(()),
    }
}

/// The command line that repeats it.
fn command(given: &Layer, options: &Options, rate: f64, burst: usize, requests: usize) -> String {
    let mut words = vec![format!(
        "collage demo --requests {requests} --rate {rate} --burst {burst}"
    )];
    words.extend(serving::repeat(given, options));
    words.push(serving::flag("report", "demo.html"));
    words.join(" ")
}

/// How long one burst's work takes this machine without any concurrency, best of three, and the work itself.
fn one_burst(
    options: &Options,
    collage: &Model,
    images: &[Image],
    burst: usize,
) -> Result<(f64, (u64, u64)), Failure> {
    let device = &*options.devices[0];
    let mut base = Pass::load(device, &options.base, Grid::ONE, 1, 1)?;
    let mut collage = Pass::load(device, collage, options.grid, 1, 1)?;
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
