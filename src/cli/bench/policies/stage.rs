//! What all policies of a comparison share: models, devices, images, arrivals; and how one of them is served.

use std::time::{Duration, Instant, SystemTime};

use collage::backend::BackendKind;
use collage::config::Layer;
use collage::dataset::Dataset;
use collage::embedded;
use collage::engine::{Engine, Options, Policy};
use collage::image::Image;
use collage::model::plan::Grid;
use rayon::prelude::*;

use super::Policies;
use super::arrivals::{self, Draw};
use super::turn::{self, Turn, Work};
use crate::cli::console::Console;
use crate::cli::failure::Failure;
use crate::cli::load::{Load, Pace};
use crate::cli::pass::Pass;
use crate::cli::serving;
use crate::cli::shuffle::shuffled;

/// Of what the base workers could do, by the time of one run, where no rate is given: then a policy that runs every image
/// twice has room too.
const SHARE: f64 = 0.25;

/// See the module.
pub struct Stage {
    /// What was said of the engine.
    pub given: Layer,
    /// Of the engine; policy, workers, release and seed are set for each turn.
    pub options: Options,
    /// In the order in which they were given.
    pub policies: Vec<Policy>,
    /// Where the images are from.
    pub data: String,
    images: Vec<Image>,
    labels: Vec<u32>,
    /// Requests that arrive together.
    pub burst: usize,
    /// Counted groups of a round.
    pub groups: usize,
    /// Groups before them.
    pub warm_up: usize,
    /// Turns of each policy.
    pub rounds: usize,
    /// Requests a second, in an open loop.
    pub rate: Option<f64>,
    /// Groups at a time, in a closed one.
    pub closed: Option<usize>,
    /// When the comparison began, by both clocks.
    pub began: (Instant, SystemTime),
}

impl Stage {
    /// Opens everything, and sees that each policy can be served before any is.
    pub fn set(arguments: &Policies) -> Result<Self, Failure> {
        let policies = arguments.policies()?;
        let (given, options) = settings(arguments)?;
        let (data, images, labels) = images(arguments, &given, &options)?;
        if options.collage.is_none()
            && let Some(policy) = policies.iter().find(|policy| policy.uses_collage())
        {
            return Err(Failure::usage(format!(
                "--policies {policy}: needs --collage FILE beside --model"
            )));
        }
        let burst = arguments.burst as usize;
        let rounds = arguments.rounds as usize;
        let rate = match (arguments.closed, arguments.rate) {
            (Some(_), _) => None,
            (None, Some(rate)) => Some(rate),
            (None, None) => Some(bearable(&options, &images)?),
        };
        let stage = Self {
            given,
            policies,
            data,
            images,
            labels,
            burst,
            groups: (arguments.requests as usize)
                .div_ceil(burst)
                .div_ceil(rounds),
            warm_up: arguments.warm_up as usize,
            rounds,
            rate,
            closed: arguments.closed.map(|groups| groups as usize),
            began: (Instant::now(), SystemTime::now()),
            options,
        };
        for policy in &stage.policies {
            Engine::open(stage.engine(*policy, None, 0))?.shutdown();
        }
        Ok(Self {
            began: (Instant::now(), SystemTime::now()),
            ..stage
        })
    }

    /// Different images that the requests ask.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Counted requests of each policy.
    pub fn requests(&self) -> usize {
        self.groups * self.burst * self.rounds
    }

    /// The engine's options for a policy. One without collages has the workers for those as further ones for base runs:
    /// every policy has the same machines.
    fn engine(&self, policy: Policy, release: Option<Duration>, round: usize) -> Options {
        let options = self.options.clone();
        let (base_workers, collage_workers) = match policy.uses_collage() {
            true => (options.base_workers, options.collage_workers),
            false => (options.base_workers + options.collage_workers, 0),
        };
        Options {
            policy,
            base_workers,
            collage_workers,
            release: release.unwrap_or(options.release),
            seed: arrivals::seed(options.seed, round, Draw::Engine),
            ..options
        }
    }

    /// A policy's turn in a round, on a fresh engine.
    pub fn serve(
        &self,
        policy: Policy,
        release: Option<Duration>,
        round: usize,
        console: &Console,
    ) -> Result<Turn, Failure> {
        let engine = Engine::open(self.engine(policy, release, round))?;
        let per_round = self.groups * self.burst;
        let bar = console.progress(per_round as u64, policy.to_string());
        let deadline = self.options.deadline;
        let serve = |draw, groups: usize, first: usize, bar| {
            let order = self.order(first, groups * self.burst);
            let due = self.due(draw, round, groups);
            let load = Load {
                images: &self.images,
                order: &order,
                burst: self.burst,
                pace: match self.closed {
                    Some(groups) => Pace::Closed(groups),
                    None => Pace::Open(&due),
                },
            };
            turn::serve(&engine, &load, &self.labels, deadline, bar)
        };
        let hidden = indicatif::ProgressBar::hidden();
        let (warm_up, _) = serve(Draw::WarmUp, self.warm_up, 0, &hidden)?;
        let before = Work::of(&engine.stats());
        let began = self.began.0.elapsed();
        let (counted, took) = serve(Draw::Counted, self.groups, round * per_round, &bar)?;
        bar.finish_and_clear();
        Ok(Turn {
            began,
            took,
            warm_up,
            counted,
            work: Work::of(&engine.shutdown()).since(before),
        })
    }

    /// When groups are due; the same for every policy.
    fn due(&self, draw: Draw, round: usize, groups: usize) -> Vec<Duration> {
        let rate = self.rate.map(|rate| rate / self.burst as f64);
        let seed = arrivals::seed(self.options.seed, round, draw);
        rate.map_or(Vec::new(), |rate| arrivals::poisson(groups, rate, seed))
    }

    /// Which images requests ask: all of them in a shuffled order, again and again in others.
    fn order(&self, first: usize, requests: usize) -> Vec<usize> {
        let len = self.images.len().max(1);
        let pass = |i: usize| shuffled(len, self.options.seed.wrapping_add(i as u64));
        let passes = first / len..(first + requests).div_ceil(len);
        let order = passes.flat_map(pass);
        order.skip(first % len).take(requests).collect()
    }
}

/// As they are for all policies.
fn settings(arguments: &Policies) -> Result<(Layer, Options), Failure> {
    let own = Layer {
        collage_workers: Some(0),
        ..serving::defaults(arguments.requests.into())
    };
    let chosen = "it is --policies that says which are compared";
    let (given, options) = serving::settings(&arguments.settings, own, chosen)?;
    let late = arguments
        .releases
        .iter()
        .find(|release| **release >= options.deadline);
    match late {
        Some(release) => Err(Failure::usage(format!(
            "--releases {release:?}: expected times before the deadline, {:?}",
            options.deadline
        ))),
        None => Ok((given, options)),
    }
}

/// The images, decoded, and their classes.
fn images(
    arguments: &Policies,
    given: &Layer,
    options: &Options,
) -> Result<(String, Vec<Image>, Vec<u32>), Failure> {
    let data = match &arguments.data {
        Some(path) => Dataset::open(path, options.base.classes())?,
        None if given.model.is_none() => embedded::held_out()?,
        None => {
            return Err(Failure::usage(
                "--data PATH is needed: only the embedded model has images of its own",
            ));
        }
    };
    let order = shuffled(data.len(), options.seed);
    let chosen = &order[..order.len().min(arguments.images as usize)];
    let images = chosen.par_iter().map(|i| data.image(*i));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let labels = chosen.iter().filter_map(|i| data.label(*i)).collect();
    Ok((data.name().to_owned(), images, labels))
}

/// Requests a second that the base workers can bear with room for every policy.
fn bearable(options: &Options, images: &[Image]) -> Result<f64, Failure> {
    let device = &options.devices[0]; // `Settings::options` opens at least one, and all are alike
    let mut pass = Pass::load(&**device, &options.base, Grid::ONE, 1, 1)?;
    let mut best = f64::INFINITY;
    for image in images.iter().cycle().take(5) {
        let begin = Instant::now();
        pass.run(std::slice::from_ref(image))?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    let workers = options.base_workers + options.collage_workers;
    // One GPU computes for one worker at a time; workers on a CPU have a core each, as far as there are cores.
    let at_a_time = match device.info().backend {
        BackendKind::Cpu => {
            workers.min(std::thread::available_parallelism().map_or(1, usize::from))
        }
        _ => options.devices.len().min(workers),
    };
    let rate = SHARE * at_a_time as f64 / best.max(1e-6);
    tracing::info!("one run takes {:.3} ms", best * 1e3);
    // Two digits: the rate is part of the command that repeats this.
    let unit = 10f64.powf(rate.log10().floor() - 1.0);
    Ok((rate / unit).floor() * unit)
}
