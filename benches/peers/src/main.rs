//! Ours beside other people's inference software: whole networks and single ops, in one run on one machine.
//!
//! ```text
//! cd benches/peers
//! pip install -r requirements.txt
//! cargo build --release --manifest-path wonnx/Cargo.toml
//! cargo run --release
//! ```
//!
//! writes `benches/runs/<date>-<device>/peers.{json,md}`. With `--only` or `--runtimes` it only prints.

mod burn;
mod candle;
#[path = "../../cases/mod.rs"]
mod cases;
mod child;
mod measure;
mod onnx;
mod ours;
mod peer;
mod report;
mod tract;
mod versions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::measure::Effort;
use crate::peer::{Error, Peer};
use crate::report::{Report, Row, Runtime};

/// Measures collage beside other people's inference software.
#[derive(Parser)]
struct Flags {
    /// Turns of each runtime; its figure is their median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of a turn; a run that takes longer is run once.
    #[arg(long, default_value_t = 300)]
    turn_ms: u64,
    /// Only cases whose id contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these runtimes; collage-cpu is always there, because the others are compared with it.
    #[arg(long, value_delimiter = ',')]
    runtimes: Vec<String>,
    /// A Python that has what requirements.txt names.
    #[arg(long, env = "COLLAGE_PEERS_PYTHON", default_value = "python3")]
    python: String,
    /// The folder to write to; benches/runs/<date>-<device> by default.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), Error> {
    // All cores for everyone; not every runtime can be told otherwise. `taskset` gives fewer to all of them.
    let threads = std::thread::available_parallelism()?.get();
    let folder = tempfile::tempdir()?;
    let mut peers = open(flags, threads, folder.path())?;
    let webgpu = peers.iter().find(|p| p.name() == "collage-wgpu");
    let adapter = webgpu.and_then(|p| {
        p.version()
            .split_once(" on ")
            .map(|(_, name)| name.to_owned())
    });
    let effort = Effort {
        rounds: flags.rounds.max(1),
        turn: Duration::from_millis(flags.turn_ms),
    };

    let wanted = |id: &str| {
        flags.only.is_empty() || flags.only.iter().any(|part| id.contains(part.as_str()))
    };
    let mut rows = Vec::new();
    for case in cases::networks::all()
        .into_iter()
        .chain(cases::ops::all())
        .filter(|c| wanted(&c.id))
    {
        eprintln!("{} ({:.3} GFLOP)", case.id, case.flops() / 1e9);
        rows.push(Row {
            outcomes: measure::case(&case, &mut peers, effort),
            flops: case.flops(),
            id: case.id,
        });
    }
    let runtime = |p: &Box<dyn Peer>| Runtime {
        name: p.name().into(),
        version: p.version(),
        runs_on: p.runs_on().to_string(),
    };
    let report = Report {
        schema: 1,
        command: command(),
        commit: versions::commit(),
        date: versions::today(),
        cpu: versions::cpu(threads),
        adapter: adapter.unwrap_or_else(|| "none".into()),
        rounds: effort.rounds,
        threads,
        runtimes: peers.iter().map(runtime).collect(),
        cases: rows,
    };
    println!("{}", report.markdown());
    write(flags, &report)
}

/// As typed, but for where the binary lies on this machine.
fn command() -> String {
    let arguments = std::env::args().skip(1);
    [env!("CARGO_PKG_NAME").to_owned()]
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// All runtimes, ours first. One that cannot start is named and left out.
fn open(flags: &Flags, threads: usize, folder: &Path) -> Result<Vec<Box<dyn Peer>>, Error> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wanted = |name: &str| flags.runtimes.is_empty() || flags.runtimes.iter().any(|r| r == name);
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(ours::Ours::cpu(threads)?)];
    let mut add = |name: &str, open: &dyn Fn() -> Result<Box<dyn Peer>, Error>| {
        if wanted(name) {
            match open() {
                Ok(peer) => peers.push(peer),
                Err(error) => eprintln!("{name} is left out: {error}"),
            }
        }
    };
    add("collage-wgpu", &|| Ok(Box::new(ours::Ours::webgpu()?)));
    add("onnxruntime", &|| {
        Ok(Box::new(child::Child::onnxruntime(
            &flags.python,
            &here.join("onnxruntime_child.py"),
            folder,
            threads,
        )?))
    });
    add("tract", &|| Ok(Box::new(tract::Tract::open(threads))));
    add("candle", &|| Ok(Box::new(candle::Candle)));
    add("burn-flex", &|| Ok(Box::new(burn::Burn::flex())));
    add("burn-wgpu", &|| Ok(Box::new(burn::Burn::wgpu())));
    add("wonnx", &|| {
        Ok(Box::new(child::Child::wonnx(&wonnx_binary(here)?, folder)?))
    });
    Ok(peers)
}

/// Built by its own manifest, into the target folder that this binary is in or into its own.
fn wonnx_binary(here: &Path) -> Result<PathBuf, Error> {
    let name = format!("collage-peers-wonnx{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe()?.with_file_name(&name);
    let own = here.join("wonnx/target/release").join(&name);
    let found = [beside, own].into_iter().find(|path| path.exists());
    found.ok_or_else(|| "not built: cargo build --release --manifest-path wonnx/Cargo.toml".into())
}

fn write(flags: &Flags, report: &Report) -> Result<(), Error> {
    let partial = !flags.only.is_empty() || !flags.runtimes.is_empty();
    let folder = match &flags.out {
        Some(folder) => folder.clone(),
        None if partial => return Ok(()),
        None => {
            let device = versions::slug(&report.cpu);
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../runs")
                .join(format!("{}-{device}", report.date))
        }
    };
    std::fs::create_dir_all(&folder)?;
    std::fs::write(
        folder.join("peers.json"),
        serde_json::to_string_pretty(report)? + "\n",
    )?;
    std::fs::write(folder.join("peers.md"), report.markdown())?;
    eprintln!("written to {}", folder.display());
    Ok(())
}
