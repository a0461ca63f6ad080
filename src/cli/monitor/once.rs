//! One look: figures and a verdict for each GPU, as text and as JSON.

use std::fmt::Write;
use std::time::Duration;

use collage::attach as engine;
use collage::engine::Attach;
use collage::error::Classify;
use collage::host::telemetry::{
    Gpu, History, Link, Pattern, Reading, State, Unavailable, Verdict, Watch, Window,
};
use serde::Serialize;

use super::super::console::Console;
use super::super::failure::Failure;
use super::super::text::{bytes, ms, whole_percent};
use super::snapshot::{EngineNow, Snapshot, Wanted, states};
use super::{absent, each_interval};

/// What is known without a GPU too.
#[derive(Serialize)]
struct Report<'a> {
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The reason's stable number.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'a str>,
    interval_s: f64,
    window_s: f64,
    gpus: Vec<Watched<'a>>,
    /// Why engines cannot be looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    engines_reason: Option<String>,
    engines: Vec<Attached>,
}

/// An engine that runs on this machine.
#[derive(Serialize)]
struct Attached {
    pid: u32,
    engine: u32,
    /// As docs/json.md has it under `attach`; null where it did not answer.
    state: Option<engine::State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// One for each worker.
    verdicts: Vec<Verdict>,
}

#[derive(Serialize)]
struct Watched<'a> {
    #[serde(flatten)]
    gpu: &'a Gpu,
    reading: Option<&'a Reading>,
    window: Window,
    verdict: Verdict,
}

pub fn run(
    console: &Console,
    watch: Result<Watch, Unavailable>,
    wanted: Wanted,
    interval: Duration,
    window: Duration,
) -> Result<(), Failure> {
    let mut report = Report {
        available: false,
        reason: None,
        code: None,
        driver: None,
        interval_s: interval.as_secs_f64(),
        window_s: window.as_secs_f64(),
        gpus: Vec::new(),
        engines_reason: None,
        engines: Vec::new(),
    };
    let watch = match watch {
        Ok(mut watch) => {
            let intervals = window.as_nanos().div_ceil(interval.as_nanos().max(1));
            let mut read = 0;
            each_interval(&mut watch, interval, |_| {
                read += 1;
                Ok(read <= intervals)
            })?;
            Some(watch)
        }
        Err(reason) => {
            report.reason = Some(reason.to_string());
            report.code = Some(reason.code());
            None
        }
    };
    let histories = watch.as_ref().map_or(&[][..], Watch::histories);
    let found = match states(&Attach::Auto, wanted) {
        Ok(found) => found,
        Err(reason) => {
            report.engines_reason = Some(reason);
            Vec::new()
        }
    };
    if let (Wanted::Pid(pid), true) = (wanted, found.is_empty()) {
        let given = format!("--attach {pid}");
        return Err(Failure::other(format!(
            "{given}: no engine of this process; expected one that this user may see"
        )));
    }
    let own: Vec<u32> = found.iter().map(|(found, _)| found.pid).collect();
    report.available = watch.is_some();
    report.driver = watch.as_ref().map(Watch::driver);
    report.gpus = histories.iter().map(|h| Watched::of(h, &own)).collect();
    let snapshot = Snapshot::of(Ok(String::new()), histories, found);
    report.engines = snapshot.engines.into_iter().map(Attached::from).collect();
    console.finish(&report, &text(&report))
}

impl From<EngineNow> for Attached {
    fn from(now: EngineNow) -> Self {
        let (state, reason) = match now.state {
            Ok(state) => (Some(state), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            pid: now.pid,
            engine: now.engine,
            state,
            reason,
            verdicts: now.verdicts,
        }
    }
}

impl<'a> Watched<'a> {
    /// `own` are the processes of engines.
    fn of(history: &'a History, own: &[u32]) -> Self {
        let (gpu, reading, window) = (history.gpu(), history.latest(), history.window());
        let verdict = Verdict::of_gpu(gpu, &window, reading, own);
        Self {
            gpu,
            reading,
            window,
            verdict,
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = match (report.driver, &report.reason) {
        (Some(driver), _) => {
            let window = report.window_s;
            format!("driver {driver}, watched for {window:.1} s\n")
        }
        (None, reason) => absent(reason.as_deref().unwrap_or_default()),
    };
    if report.available && report.gpus.is_empty() {
        text += "no GPU is there\n";
    }
    for watched in &report.gpus {
        text += &gpu_text(watched);
    }
    if let Some(reason) = &report.engines_reason {
        let _ = writeln!(text, "engines cannot be looked for: {reason}");
    }
    for attached in &report.engines {
        text += &engine_text(attached);
    }
    text
}

fn engine_text(attached: &Attached) -> String {
    let Attached { pid, engine, .. } = attached;
    let Some(state) = &attached.state else {
        let reason = attached.reason.as_deref().unwrap_or_default();
        return format!("\nengine {pid}.{engine}: {reason}\n");
    };
    let (process, requests) = (&state.process, &state.requests);
    let mut text = format!(
        "\nengine {pid}.{engine}: {} {}, policy {}, {} requests, {} pending, {} deadlines missed\n",
        process.name,
        process.version,
        process.policy,
        requests.submitted,
        state.pending,
        requests.deadline_exceeded
    );
    for (worker, verdict) in state.workers.iter().zip(&attached.verdicts) {
        let time = |us: u64| ms(us as f64 / 1e3);
        let scores = worker.scores.map_or("-".to_owned(), |scores| {
            format!("{:.2}/{:.2}", scores.relative, scores.individual)
        });
        let backups = worker.backup_share().map_or("-".into(), whole_percent);
        let _ = writeln!(
            text,
            "  worker {:<3} {:<8} {:<11} p50 {:>8}  p99 {:>8}  scores {scores:>9}  queue {}  missed {}  by backups {backups}  verdict {} ({})",
            worker.index,
            worker.role,
            worker.health,
            time(worker.service.recent_p50_us),
            time(worker.service.recent_p99_us),
            worker.queued,
            worker.deadline_exceeded,
            verdict.cause,
            verdict.confidence
        );
    }
    text
}

fn gpu_text(watched: &Watched) -> String {
    let Watched { gpu, window, .. } = watched;
    let bus = gpu.pci_bus_id.as_deref().unwrap_or("bus unknown");
    let name = match gpu.name.as_str() {
        "" => "a GPU that does not tell its name",
        name => name,
    };
    let mut text = format!("\ngpu {}: {name}, {bus}\n", gpu.index);
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<10} {value}");
        }
    };
    line("state", state(window.state));
    line("load", load(window));
    line("clocks", clocks(gpu, window));
    line("reasons", reasons(window));
    line("heat", heat(gpu, window));
    line("power", of("W", window.power_w, window.power_limit_w));
    line("memory", memory(gpu, window));
    line("errors", watched.reading.and_then(|r| errors(r, window)));
    line("link", link(gpu, watched.reading, window));
    line("processes", processes(window));
    let Verdict {
        cause,
        confidence,
        evidence,
        notes,
    } = &watched.verdict;
    line("verdict", Some(format!("{cause} ({confidence})")));
    for sentence in evidence {
        let _ = writeln!(text, "  {:<10} - {sentence}", "");
    }
    for note in notes {
        let _ = writeln!(text, "  {:<10} note: {note}", "");
    }
    text
}

fn state(state: State) -> Option<String> {
    match state {
        State::Answers => None,
        State::Lost => Some("lost".into()),
        State::NeedsReset => Some("needs a reset".into()),
    }
}

fn load(window: &Window) -> Option<String> {
    let busy = window.utilisation.map(whole_percent)?;
    let memory = window.memory_utilisation.map(whole_percent);
    let memory = memory.map_or(String::new(), |share| format!(", its memory {share}"));
    let loaded = whole_percent(window.loaded);
    Some(format!(
        "busy {busy}{memory}; under load {loaded} of the time"
    ))
}

fn clocks(gpu: &Gpu, window: &Window) -> Option<String> {
    let number = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
    let sm = window.sm_clock;
    sm.now_mhz.or(window.memory_clock.now_mhz)?;
    let share = sm.of_max.map(whole_percent);
    let share = share.map_or(String::new(), |share| {
        format!(" (median under load {share})")
    });
    Some(format!(
        "multiprocessors {} of {} MHz{share}, memory {} of {} MHz",
        number(sm.now_mhz),
        number(gpu.sm_clock_max_mhz),
        number(window.memory_clock.now_mhz),
        number(gpu.memory_clock_max_mhz)
    ))
}

fn reasons(window: &Window) -> Option<String> {
    let each = window.reasons.iter().map(|held| {
        let how = match held.pattern {
            Pattern::Sustained => "all along".to_owned(),
            Pattern::Oscillating => format!("on and off, {} changes", held.changes),
            Pattern::Passing => "for a while".to_owned(),
        };
        format!("{} {} ({how})", held.reason, whole_percent(held.share))
    });
    let all: Vec<String> = each.collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn heat(gpu: &Gpu, window: &Window) -> Option<String> {
    let now = window.temperature_c?;
    let from = gpu.slowdown_c;
    let from = from.map_or(String::new(), |c| format!(", slows down from {c} °C"));
    let off = gpu.shutdown_c;
    let off = off.map_or(String::new(), |c| format!(", off at {c} °C"));
    Some(format!("{now} °C{from}{off}"))
}

fn of(unit: &str, now: Option<f64>, limit: Option<f64>) -> Option<String> {
    let now = now?;
    Some(match limit {
        Some(limit) => format!("{now:.0} of {limit:.0} {unit}"),
        None => format!("{now:.0} {unit}"),
    })
}

fn memory(gpu: &Gpu, window: &Window) -> Option<String> {
    let used = bytes(window.memory_used_bytes?);
    Some(match gpu.memory_total_bytes {
        Some(total) => format!("{used} of {}", bytes(total)),
        None => used,
    })
}

fn errors(reading: &Reading, window: &Window) -> Option<String> {
    let mut parts = Vec::new();
    let mut count = |name: &str, all: Option<u64>, rise: Option<u64>| {
        if let Some(all) = all {
            let new = rise.map_or(String::new(), |n| format!(" (+{n})"));
            parts.push(format!("{name} {all}{new}"));
        }
    };
    let (ecc, rise) = (&reading.ecc, &window.rise);
    count("corrected", ecc.volatile_corrected, rise.ecc_corrected);
    count(
        "uncorrected",
        ecc.volatile_uncorrected,
        rise.ecc_uncorrected,
    );
    count("retired pages", reading.retired_pages, rise.retired_pages);
    let rows = reading.rows;
    let rows = rows.corrected.zip(rows.uncorrected).map(|(c, u)| c + u);
    count("remapped rows", rows, rise.remapped_rows);
    parts.extend(window.xids.iter().map(|xid| format!("Xid {}", xid.0)));
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn link(gpu: &Gpu, reading: Option<&Reading>, window: &Window) -> Option<String> {
    let now = reading?.link;
    now.generation.or(now.width)?;
    let rate = |name: &str, rate: Option<f64>| {
        rate.map_or(String::new(), |rate| {
            format!(", {name} {}/s", bytes(rate as u64))
        })
    };
    Some(format!(
        "{} of {}{}{}",
        named(now),
        named(gpu.link_max),
        rate("sends", window.pcie_tx_bytes_per_s),
        rate("receives", window.pcie_rx_bytes_per_s)
    ))
}

fn named(link: Link) -> String {
    let number = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
    format!(
        "generation {} x{}",
        number(link.generation),
        number(link.width)
    )
}

fn processes(window: &Window) -> Option<String> {
    let each = window.processes.iter().map(|process| {
        let share = process.utilisation.map(whole_percent);
        let share = share.map_or(String::new(), |share| format!(" {share}"));
        let memory = process.memory_bytes.map(bytes);
        let memory = memory.map_or(String::new(), |bytes| format!(" {bytes}"));
        format!("{}{share}{memory}", process.pid)
    });
    let all: Vec<String> = each.collect();
    (!all.is_empty()).then(|| all.join(", "))
}
