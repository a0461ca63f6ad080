//! `collage bench policies`: the engine under load, once for each policy, on the same arrivals, images and injected luck.
//!
//! | file | what it is |
//! |---|---|
//! | `arrivals` | when groups are due |
//! | `stage` | what all policies share, and one policy's turn |
//! | `turn` | what became of each request of a turn |
//! | `outcome` | the figures, pooled |
//! | `verdict` | the sentences |
//! | `show` | the tables |
//! | `hlog` | HdrHistogram logs |
//! | `repeat` | the command line that repeats it |

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use collage::backend::Device;
use collage::config::{Layer, duration};
use collage::engine::{Policy, Straggler};
use collage::model::plan::Grid;

use crate::cli::console::Console;
use crate::cli::devices::describe;
use crate::cli::failure::Failure;
use crate::cli::pass::Pass;
use crate::cli::text::thousands;
use crate::cli::{clock, report};

mod arrivals;
mod hlog;
pub mod outcome;
mod repeat;
pub mod show;
mod stage;
mod turn;
pub mod verdict;

use outcome::{Outcome, Release, Row, ms};
use stage::Stage;
use turn::Turn;

const EXAMPLES: &str = "\
Examples:
  collage bench policies --stragglers pause:0:100:0.05 --report policies.html
      six policies on the embedded digits, one of four workers straggling in one run of twenty
  collage bench policies --policies none,hedge:p95,collage:3x3,small --burst 9 --rounds 3 --out run
      in groups of nine, every policy three times in turn; JSON, tables, logs and charts in a folder
  collage bench policies --closed 8 --releases 5ms,10ms,20ms
      eight requests at a time instead of a rate, and accuracy by release time
  collage bench policies --model base.safetensors --collage tiles.safetensors --data photos/ --device cuda

Requests are due by a Poisson process, whatever becomes of earlier ones, and latency counts from when a request was due:
neither a slow engine nor a slow generator hides waiting. With --closed it counts from when a group was sent. Every policy
meets the same arrivals and images, and each worker's n-th run the same injected luck. Stragglers are injected: their workers
sleep. PATH is what `collage eval` takes: CIFAR-10 binary files or class folders.
";

/// Compare policies live: latency, accuracy and extra work of each under the same load
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Policies {
    /// Policies to compare; docs/policies.md says which when
    #[arg(
        long,
        value_name = "POLICY,...",
        value_delimiter = ',',
        default_value = "none,replicate:2,hedge:p95,collage:3x3,collage:3x3:lazy,small"
    )]
    policies: Vec<String>,
    /// Counted requests of each policy, all rounds together; rounded up to whole groups
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    requests: u32,
    /// Requests a second [default: a quarter of what the workers can by the time of one run]
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "closed")]
    rate: Option<f64>,
    /// Instead of a rate: so many groups at a time, each followed by the next
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    closed: Option<u32>,
    /// Requests that arrive together: a group
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    burst: u32,
    /// Turns of each policy, each on a fresh engine, so that what else the machine does falls on all alike
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// First groups of each turn, which are counted apart: health and hedges learn on them
    #[arg(long, value_name = "GROUPS", default_value = "100", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    warm_up: u32,
    /// Serve the eager policies with collages once more at each of these release times, for accuracy against release
    #[arg(long, value_name = "TIME,...", value_delimiter = ',', value_parser = duration)]
    releases: Vec<Duration>,
    /// Labelled images [default: the embedded held-out digits, for the embedded model]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Different images, chosen by --seed: they are decoded beforehand and kept in memory
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    images: u32,
    /// Write a page with tables and charts; it needs nothing beside it
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write policies.json, policies.md, the charts and an HdrHistogram log of each policy to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Engine settings")]
    settings: Layer,
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.01..=1e7).contains(n));
    number.ok_or_else(|| "expected a number from 0.01 to 10,000,000".to_string())
}

/// The help where this command's defaults are not the engine's.
pub fn own_defaults(command: clap::Command) -> clap::Command {
    command
        .mut_arg("workers", |arg| arg.help("Workers for base runs; their indices come first [default: 4]"))
        .mut_arg("collage_workers", |arg| {
            arg.help("Workers for collages, which policies without collages have as further ones; with 0 the base workers run the collages too [default: 0]")
        })
        .mut_arg("policy", |arg| arg.hide(true))
        .mut_arg("top", |arg| arg.hide(true))
        .mut_arg("queue", |arg| arg.help("Most accepted and unanswered requests [default: as many as there are requests]"))
        .mut_arg("deadline", |arg| arg.help("A request is answered this long after it was due, or fails [default: 2s]"))
}

impl Policies {
    /// Parses, serves every policy, prints and writes.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let stage = Stage::set(&self)?;
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder).map_err(|e| unwritable("--out", folder, e))?;
        }
        console.say(&announcement(&stage))?;
        let started = clock::utc_now();
        let turns = rounds(&stage, console)?;
        let releases = self.sweep(&stage, console)?;
        let mut rows = Vec::new();
        for (policy, turns) in stage.policies.iter().zip(&turns) {
            rows.push(row(&stage, *policy, turns)?);
        }
        self.logs(&stage, &turns, &mut rows)?;
        let repeat = repeat::command(&self, &stage);
        let outcome = outcome(&stage, started, repeat, rows, releases);
        let mut text = show::text(&outcome);
        if let Some(path) = &self.report {
            let page = report::policies::html(&outcome);
            std::fs::write(path, page).map_err(|e| unwritable("--report", path, e))?;
            text += &format!("\nReport: {}", path.display());
        }
        if let Some(folder) = &self.out {
            write_all(folder, &outcome)?;
            text += &format!("\nFigures, charts and logs: {}", folder.display());
        }
        console.finish(&outcome, &text)
    }

    /// The policies, in the order in which they were given.
    fn policies(&self) -> Result<Vec<Policy>, Failure> {
        let parse = |text: &String| {
            let policy = text.parse::<Policy>();
            policy.map_err(|e| Failure::usage(format!("--policies: {e}")))
        };
        let policies: Vec<Policy> = self.policies.iter().map(parse).collect::<Result<_, _>>()?;
        let twice = policies
            .iter()
            .enumerate()
            .find(|(i, policy)| policies[..*i].contains(policy));
        if let Some((_, policy)) = twice {
            return Err(Failure::usage(format!(
                "--policies: {policy} is there twice"
            )));
        }
        if !self.releases.is_empty() && !policies.iter().any(is_eager) {
            return Err(Failure::usage(
                "--releases: none of --policies is an eager one with collages, such as collage:3x3 or small",
            ));
        }
        Ok(policies)
    }

    /// Accuracy by release time: of policies whose collages are there at the release.
    fn sweep(&self, stage: &Stage, console: &Console) -> Result<Vec<Release>, Failure> {
        let mut releases = Vec::new();
        for policy in stage.policies.iter().filter(|policy| is_eager(policy)) {
            for release in &self.releases {
                let turn = [stage.serve(*policy, Some(*release), 0, console)?];
                let row = Row::new(policy.to_string(), &turn, stage.burst, 1.0);
                releases.push(Release::new(*release, row));
            }
        }
        Ok(releases)
    }

    fn logs(&self, stage: &Stage, turns: &[Vec<Turn>], rows: &mut [Row]) -> Result<(), Failure> {
        let Some(folder) = &self.out else {
            return Ok(());
        };
        for (row, turns) in rows.iter_mut().zip(turns) {
            let name = hlog::name(&row.policy);
            hlog::write(&folder.join(&name), &row.policy, stage.began.1, turns)?;
            row.log = Some(name);
        }
        Ok(())
    }
}

/// Whether its collages are there by the release time, as far as that is long enough.
fn is_eager(policy: &Policy) -> bool {
    policy.uses_collage() && policy.lazy().is_none()
}

/// Every policy in every round, beginning with another one each time.
fn rounds(stage: &Stage, console: &Console) -> Result<Vec<Vec<Turn>>, Failure> {
    let count = stage.policies.len();
    let mut turns: Vec<Vec<Turn>> = stage.policies.iter().map(|_| Vec::new()).collect();
    for round in 0..stage.rounds {
        for i in (0..count).map(|i| (i + round) % count) {
            turns[i].push(stage.serve(stage.policies[i], None, round, console)?);
        }
    }
    Ok(turns)
}

fn row(stage: &Stage, policy: Policy, turns: &[Turn]) -> Result<Row, Failure> {
    let options = &stage.options;
    let device = &*options.devices[0];
    let work = match options.collage.as_ref().filter(|_| policy.uses_collage()) {
        Some(collage) => {
            let grid = policy.grid().map(|(rows, cols)| Grid { rows, cols });
            let canvas = Pass::load(device, collage, grid.unwrap_or(options.grid), 1, 1)?.macs;
            let image = Pass::load(device, &options.base, Grid::ONE, 1, 1)?.macs;
            canvas as f64 / image.max(1) as f64
        }
        None => 1.0,
    };
    let row = Row::new(policy.to_string(), turns, stage.burst, work);
    Ok(match stage.closed {
        Some(_) => row,
        None => row.scheduled(turns),
    })
}

fn outcome(
    stage: &Stage,
    started: String,
    repeat: String,
    policies: Vec<Row>,
    releases: Vec<Release>,
) -> Outcome {
    let options = &stage.options;
    let mut outcome = Outcome {
        bench: "policies",
        headline: String::new(),
        device: device(&*options.devices[0]),
        version: env!("CARGO_PKG_VERSION"),
        started,
        repeat,
        seed: options.seed,
        data: stage.data.clone(),
        images: stage.images(),
        requests: stage.requests(),
        burst: stage.burst,
        rounds: stage.rounds,
        warm_up: stage.warm_up,
        rate: stage.rate,
        closed: stage.closed,
        workers: options.base_workers,
        collage_workers: options.collage_workers,
        release_ms: ms(options.release),
        deadline_ms: ms(options.deadline),
        injected: options
            .stragglers
            .iter()
            .map(Straggler::to_string)
            .collect(),
        policies,
        equal_work: Vec::new(),
        releases,
    };
    verdict::judge(&mut outcome, &stage.policies);
    outcome
}

fn device(device: &dyn Device) -> String {
    describe(device.info())
}

/// What is about to happen.
fn announcement(stage: &Stage) -> String {
    let options = &stage.options;
    let stragglers: Vec<String> = options
        .stragglers
        .iter()
        .map(Straggler::to_string)
        .collect();
    let load = match (stage.rate, stage.closed) {
        (Some(rate), _) => format!("at {rate} a second"),
        (None, closed) => format!("{} groups at a time", closed.unwrap_or(1)),
    };
    format!(
        "{} requests of {} images in groups of {}, {load}, for each of {} policies in {} rounds, on {}\n{} base and {} \
         collage workers; straggling (injected): {}\n",
        thousands(stage.requests() as u64),
        stage.images(),
        stage.burst,
        stage.policies.len(),
        stage.rounds,
        device(&*options.devices[0]),
        options.base_workers,
        options.collage_workers,
        if stragglers.is_empty() {
            "none".to_owned()
        } else {
            stragglers.join(", ")
        },
    )
}

/// Everything of a folder but the logs.
fn write_all(folder: &Path, outcome: &Outcome) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(outcome);
    let json = json.map_err(|e| Failure::other(format!("policies.json: {e}")))? + "\n";
    let mut files = vec![
        ("policies.json", json),
        ("policies.md", show::markdown(outcome)),
    ];
    files.extend(report::policies::charts(outcome));
    for (name, content) in files {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(|e| unwritable("--out", &path, e))?;
    }
    Ok(())
}

fn unwritable(flag: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::other(format!(
        "{flag} {}: cannot be written: {error}",
        path.display()
    ))
}
