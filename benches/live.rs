//! The engine against its simulation: the same policies on the same arrivals, stragglers and luck, live on this machine
//! and in virtual time, side by side. `cargo bench --bench live`; `-- --help` tells what can be changed. With `-- --test`,
//! and under `cargo test`, it runs once and briefly, and judges nothing.
//!
//! Runs take as long as a recorded trace says, scaled so that a machine with few cores can serve them: workers sleep for
//! most of it. What counts is how live figures lie to those of simulations: each must be within what [`SEEDS`] simulations
//! with other seeds give, widened by [`SLACK`] and [`SLACK_MS`] for what the machine adds (threads that wake up late), and
//! by [`SLACK_SHARE`] for the requests that so miss a release or hedge time by little.
//! Live and simulation share arrivals and each worker's luck, but a run that ends a little later may send the next request
//! elsewhere: after that they are two samples of one thing, and seeds show how far such samples lie apart.

#[path = "live/both.rs"]
mod both;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use both::{Case, Figures};
use collage::sched::Policy;
use collage::straggler::Straggler;

/// Simulations that say how far samples lie apart.
const SEEDS: u64 = 40;
/// What is allowed on top: a share, ...
const SLACK: f64 = 0.03;
/// ... milliseconds, ...
const SLACK_MS: f64 = 2.0;
/// ... and, of shares, so much.
const SLACK_SHARE: f64 = 0.01;

/// Serve the same requests live and in virtual time, and compare
#[derive(Parser)]
struct Arguments {
    /// Recorded times: a .npy or .csv of seconds
    #[arg(long, default_value = "../shared/data/latency/cloud_vms.npy")]
    trace: PathBuf,
    /// How they are drawn from
    #[arg(long, value_delimiter = ',', default_value = "iid,machines:with=43")]
    draw: Vec<String>,
    /// Times of the trace, the release time and the time between groups, are multiplied by this
    #[arg(long, default_value_t = 0.25)]
    scale: f64,
    /// Of each policy
    #[arg(long, default_value_t = 4_500)]
    requests: usize,
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "none,replicate:2,hedge:p95,collage:3x3,collage:3x3:lazy:232ms"
    )]
    policies: Vec<String>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Briefly, and judge nothing
    #[arg(long)]
    test: bool,
    /// Cargo gives this.
    #[arg(long, hide = true)]
    bench: bool,
}

const WORKERS: usize = 11;
const BURST: usize = 9;
/// Between groups, and when a backup may answer, before scaling.
const BETWEEN_S: f64 = 0.5;
const RELEASE_S: f64 = 0.2499;

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    // `cargo bench` says so; without, this is `cargo test`.
    arguments.test |= !arguments.bench;
    if arguments.test {
        (arguments.requests, arguments.scale) = (90, 0.05);
    }
    let folder = std::env::temp_dir();
    if !arguments.trace.exists() {
        let named = arguments.trace.display().to_string();
        arguments.trace = folder.join(format!("collage-made-up-{}.csv", std::process::id()));
        std::fs::write(&arguments.trace, made_up()).expect("the temporary folder takes a file");
        arguments.draw = vec!["iid".into()];
        println!("{named} is not there: times are made up, two in a hundred of them fourfold\n");
    }
    let mut within = true;
    for draw in &arguments.draw {
        within &= compare(&arguments, draw);
    }
    match within || arguments.test {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Ten thousand times in seconds, in a fixed order that looks like none.
fn made_up() -> String {
    let time = |i: u64| {
        let at = (i * 7_919 % 10_000) as f64 / 10_000.0;
        let slow = if (i * 104_729).is_multiple_of(50) {
            4.0
        } else {
            1.0
        };
        format!("{:.4}\n", (0.1 + 0.12 * at * at) * slow)
    };
    (0..10_000).map(time).collect()
}

/// All policies on one way to draw; whether live figures are within bounds.
fn compare(arguments: &Arguments, draw: &str) -> bool {
    let Arguments { trace, scale, .. } = arguments;
    let straggler = format!("trace:{}:{draw}:scale={scale}", trace.display());
    let straggler: Straggler = straggler.parse().unwrap_or_else(|e| panic!("{e}"));
    let rate = BURST as f64 / (BETWEEN_S * scale);
    println!(
        "{draw}, times {scale}: {} requests in groups of {BURST}, {rate:.0} a second, {WORKERS} workers, seed {}; ms",
        arguments.requests, arguments.seed
    );
    let mut within = true;
    for text in &arguments.policies {
        let case = Case {
            policy: scaled(text, *scale),
            workers: WORKERS,
            burst: BURST,
            groups: arguments.requests.div_ceil(BURST),
            rate,
            release: Duration::from_secs_f64(RELEASE_S * scale),
            deadline: Duration::from_secs(60),
            stragglers: vec![straggler.clone()],
            seed: arguments.seed,
        };
        within &= compare_policy(&case);
    }
    println!();
    within
}

/// A policy whose time, if it has one, is scaled: `lazy:232ms` with 0.1 is `lazy:23200us`.
fn scaled(text: &str, scale: f64) -> Policy {
    let field = |field: &str| match field.strip_suffix("ms").map(str::parse::<f64>) {
        Some(Ok(ms)) => format!("{}us", (ms * 1e3 * scale).round()),
        _ => field.to_owned(),
    };
    let fields: Vec<String> = text.split(':').map(field).collect();
    let policy = fields.join(":").parse();
    policy.unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// A figure: its name, how it is read, how it is shown, and what is allowed besides sampling.
type Row = (&'static str, fn(&Figures) -> Option<f64>, f64, f64);

const ROWS: [Row; 10] = [
    ("p50", |f| f.request.p50, SLACK, SLACK_MS),
    ("p90", |f| f.request.p90, SLACK, SLACK_MS),
    ("p99", |f| f.request.p99, SLACK, SLACK_MS),
    ("mean", |f| Some(f.request.mean), SLACK, SLACK_MS),
    ("group p50", |f| f.group.p50, SLACK, SLACK_MS),
    ("group p90", |f| f.group.p90, SLACK, SLACK_MS),
    ("group p99", |f| f.group.p99, SLACK, SLACK_MS),
    (
        "by collage %",
        |f| Some(100.0 * f.by_collage),
        0.0,
        100.0 * SLACK_SHARE,
    ),
    (
        "by copy %",
        |f| Some(100.0 * f.by_copy),
        0.0,
        100.0 * SLACK_SHARE,
    ),
    (
        "extra runs %",
        |f| Some(100.0 * f.extra_runs),
        0.0,
        100.0 * SLACK_SHARE,
    ),
];

fn compare_policy(case: &Case) -> bool {
    let simulated = case.simulated();
    let others: Vec<Figures> = (1..=SEEDS)
        .map(|i| {
            Case {
                seed: case.seed + i,
                ..case.clone()
            }
            .simulated()
        })
        .collect();
    let (live, late) = case.live();
    println!(
        "\n{:<28}{:>9}{:>11}{:>9}   allowed",
        case.policy.to_string(),
        "live",
        "simulated",
        "ratio"
    );
    let mut all_within = live.answered == 1.0;
    for (name, of, share, constant) in ROWS {
        let (Some(here), Some(there)) = (of(&live), of(&simulated)) else {
            continue; // too few samples
        };
        let spread = || others.iter().chain([&simulated]).filter_map(of);
        let least = spread().fold(there, f64::min) * (1.0 - share) - constant;
        let most = spread().fold(there, f64::max) * (1.0 + share) + constant;
        let within = (least..=most).contains(&here);
        all_within &= within;
        let ratio = if there > 0.0 {
            format!("{:.3}", here / there)
        } else {
            "-".into()
        };
        let verdict = if within { "within" } else { "OUTSIDE" };
        println!(
            "  {name:<26}{here:>9.2}{there:>11.2}{ratio:>9}   {:.2} to {most:.2}: {verdict}",
            least.max(0.0)
        );
    }
    let p90 = late.p90.map_or("-".into(), |ms| format!("{ms:.2}"));
    println!(
        "  requests were sent late by: p90 {p90}, most {:.2}",
        late.max
    );
    if live.answered < 1.0 {
        println!("  only {:.2}% were answered live", 100.0 * live.answered);
    }
    all_within
}
