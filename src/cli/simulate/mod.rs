//! `collage simulate`: policies in virtual time, on the same arrivals, machines and luck.

use clap::Args;
use collage::sim::{self, Figures, Latency, Outcome};
use collage::straggler::HELP;
use serde::Serialize;

use super::console::Console;
use super::failure::Failure;
use super::report;
use super::text::{percent, table, thousands};

mod promise;
mod settings;

use settings::Settings;

const EXAMPLES: &str = "\
Examples:
  collage simulate --workers 10 --rate 500 --stragglers slow:3:5
      which policy copes with a worker that takes five times as long
  collage simulate --stragglers trace:cloud.npy:machines --workers 50 --rate 200 --requests 1000000
      a million requests on machines of a recorded trace
  collage simulate --config paper.toml --json
      a simulation that somebody described in a file; its keys are the flags, with _ for -
  collage --json bench engine --model digits --collage digits --batch 1,2,4,8 > engine.json
  collage simulate --service engine.json --max-batch 8 --workers 10 --rate 5000
      how this machine's own runs would queue on ten workers

Base runs take 10 ms an image; or what --service measured, by their batch, with its spread; or what
a trace says, if that is longer or there is no --service. A collage whose grid was not measured
takes its work's share of a base run.

No image is classified: collage answers count as confident, decoded ones as right. Encoding and
network cost nothing but what --service measured. The extra columns are backup runs, probes included, over base runs, and the
same weighted by their work.
";

fn after_help() -> String {
    format!("{EXAMPLES}\n{HELP}")
}

/// Compare policies in virtual time: the engine's own scheduler, with service times from a trace
#[derive(Args)]
#[command(after_help = after_help())]
pub struct Simulate {
    /// TOML file with the settings that the flags do not give
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Write a chart of each policy's tail against its extra work
    #[arg(long, value_name = "FILE.svg")]
    chart: Option<std::path::PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// The JSON.
#[derive(Serialize)]
struct Document {
    settings: Settings,
    outcomes: Vec<Outcome>,
}

impl Simulate {
    /// Runs every policy and prints their figures.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let settings = self.settings.over(self.config.as_deref())?;
        let setups = settings.setups()?;
        let bar = console.progress(setups.len() as u64, "simulating");
        let mut outcomes = Vec::new();
        for setup in &setups {
            outcomes.push(sim::run(setup)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if let Some(path) = &self.chart {
            report::simulated::write(path, &outcomes)?;
        }
        let text = text(&settings, &outcomes);
        console.finish(&Document { settings, outcomes }, &text)
    }
}

fn text(settings: &Settings, outcomes: &[Outcome]) -> String {
    let count = outcomes.first().map_or(0, |o| o.whole.request.count);
    let mut text = format!(
        "{} requests in groups of {} for each policy, {} workers, seed {}; milliseconds\n",
        thousands(count as u64),
        settings.burst(),
        settings.all_workers(),
        settings.seed()
    );
    let warm_up = settings.warm_up();
    if warm_up > 0 {
        text += &format!("\nAfter the first {warm_up} groups of each repetition\n\n");
        text += &figures(outcomes, |o| &o.steady);
        text += "\nThe first groups included\n";
    }
    text += "\n";
    text + &figures(outcomes, |o| &o.whole)
}

fn figures(outcomes: &[Outcome], of: impl Fn(&Outcome) -> &Figures) -> String {
    let heading = [
        "by request",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max",
        "mean",
        "sd",
    ];
    let mut requests = vec![heading.map(String::from)];
    let mut by_group = vec![heading.map(String::from)];
    by_group[0][0] = "by group".to_owned();
    let mut shares = vec![
        [
            "answers",
            "in time",
            "base",
            "collage",
            "copy",
            "parity",
            "extra runs",
            "extra work",
            "probes",
        ]
        .map(String::from),
    ];
    for outcome in outcomes {
        let figures = of(outcome);
        requests.push(row(&outcome.policy, &figures.request));
        by_group.push(row(&outcome.policy, &figures.group));
        let parts = [
            figures.answered,
            figures.by_base,
            figures.by_collage,
            figures.by_copy,
            figures.by_parity,
            figures.extra_runs,
            figures.extra_work,
            figures.probe_runs,
        ];
        let [a, b, c, d, e, f, g, h] = parts.map(percent);
        shares.push([outcome.policy.clone(), a, b, c, d, e, f, g, h]);
    }
    let mut parts = vec![table(&by_group, 1), table(&requests, 1), table(&shares, 1)];
    let promises = outcomes.iter().map(|o| (&*o.policy, &of(o).promises));
    parts.extend(promise::text(promises));
    parts.join("\n")
}

fn row(policy: &str, latency: &Latency) -> [String; 9] {
    let ms = |value: f64| format!("{value:.1}");
    let maybe = |value: Option<f64>| value.map_or("-".to_owned(), ms);
    [
        policy.to_owned(),
        maybe(latency.p50),
        maybe(latency.p90),
        maybe(latency.p95),
        maybe(latency.p99),
        maybe(latency.p999),
        ms(latency.max),
        ms(latency.mean),
        ms(latency.sd),
    ]
}
