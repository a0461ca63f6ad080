//! `collage demo`: the main job. The held-out digits come in at a fixed rate, workers straggle on purpose, and the same
//! requests are served twice: without redundancy, and with a collage worker behind the base workers.

use std::path::PathBuf;

use clap::Args;
use collage::config::Layer;
use collage::engine::Policy;
use collage::straggler::HELP;

use super::clock;
use super::console::Console;
use super::failure::Failure;
use super::report;

mod gallery;
mod load;
pub mod outcome;
mod stage;

use stage::Stage;

const EXAMPLES: &str = "\
Examples:
  collage demo                                      a minute, then a table
  collage demo --report demo.html                   and a page with the picture of it
  collage demo --json > demo.json                   for scripts; the table goes to standard error
  collage demo --stragglers slow:0:50 --grid 2x2    another straggler, another collage
  collage demo --release 5ms --rate 900             an earlier release, twice the load

A straggling worker sleeps, but for contention; it takes no processor time from the others. The
collage worker's index comes after those of the base workers.

Figures depend on the machine. What does not depend on it is set by --seed: the order of the images and the draws of
injected straggling.
";

fn after_help() -> String {
    format!("{EXAMPLES}\n{HELP}")
}

/// Serve the held-out digits twice, with workers made to straggle: without redundancy, then with a collage
#[derive(Args)]
#[command(after_help = after_help())]
pub struct Demo {
    /// Write a page that shows and explains the result; it needs nothing beside it
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Requests of each run
    #[arg(long, value_name = "N", default_value = "10008", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    requests: u32,
    /// Requests a second [default: 450, or fewer where this machine would be more than half busy]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Requests that are due at the same time [default: as many as a collage has tiles]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    burst: Option<u32>,
    #[command(flatten, next_help_heading = "Engine settings")]
    settings: Layer,
}

fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.1..=1e6).contains(n));
    number.ok_or_else(|| "expected a number from 0.1 to 1,000,000".to_string())
}

/// The demo's help where its defaults are not the engine's.
pub fn own_defaults(command: clap::Command) -> clap::Command {
    command
        .mut_arg("workers", |arg| arg.help("Workers for base runs; their indices come first [default: 4]"))
        .mut_arg("policy", |arg| arg.hide(true))
        .mut_arg("top", |arg| arg.hide(true))
        .mut_arg("queue", |arg| arg.help("Most accepted and unanswered requests [default: as many as there are requests]"))
        .mut_arg("deadline", |arg| arg.help("A request is answered this long after it was due, or fails [default: 2s]"))
        .mut_arg("release", |arg| {
            arg.help("From this long after a request was due, the collage may answer [default: 3/4 of the time between bursts]")
        })
        .mut_arg("stragglers", |arg| {
            arg.help("Injected stragglers, see below [default: pause:*:MS:0.02, MS five times the time between bursts]")
        })
}

impl Demo {
    /// Parses, serves twice, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let stage = Stage::set(&self)?;
        console.say(&stage.announcement())?;
        let started = clock::utc_now();
        let runs = [
            stage.serve(Policy::None, console)?,
            stage.serve(Policy::COLLAGE, console)?,
        ];
        let (accuracy, pictures) = stage.gallery().hang()?;
        let outcome = stage.outcome(runs, accuracy, started);
        let mut text = format!("{}\n{}", outcome.table(), outcome.headline);
        if let Some(path) = &self.report {
            let page = report::demo::html(&outcome, &pictures)?;
            let written = std::fs::write(path, page);
            written.map_err(|e| {
                Failure::other(format!(
                    "--report {}: cannot be written: {e}",
                    path.display()
                ))
            })?;
            text += &format!("\nReport: {}", path.display());
        }
        console.finish(&outcome, &text)
    }
}
