//! A row for each GPU each interval, for spreadsheets and scripts. Empty: the GPU does not tell it.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use collage::host::telemetry::{History, State, Unavailable, Verdict, Watch};

use super::super::console::Console;
use super::super::failure::Failure;
use super::{absent, each_interval};

/// Each with its unit where it has one. New ones come last.
const COLUMNS: [&str; 28] = [
    "time_unix_ms",
    "gpu",
    "name",
    "pci_bus_id",
    "state",
    "sm_clock_mhz",
    "sm_clock_max_mhz",
    "memory_clock_mhz",
    "memory_clock_max_mhz",
    "reasons",
    "utilisation_percent",
    "memory_utilisation_percent",
    "temperature_c",
    "slowdown_c",
    "power_w",
    "power_limit_w",
    "memory_used_bytes",
    "memory_total_bytes",
    "link_generation",
    "link_generation_max",
    "link_width",
    "link_width_max",
    "ecc_corrected_rise",
    "ecc_uncorrected_rise",
    "pcie_replays_rise",
    "xids",
    "verdict",
    "confidence",
];

/// Without GPUs there is the header, and why on standard error.
pub fn run(
    console: &Console,
    watch: Result<Watch, Unavailable>,
    interval: Duration,
    count: Option<u64>,
) -> Result<(), Failure> {
    if console.is_json() {
        return Err(Failure::usage("--csv and --json: expected one of them"));
    }
    console.say(&COLUMNS.join(","))?;
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(reason) => {
            eprint!("collage monitor: {}", absent(&reason));
            return Ok(());
        }
    };
    let mut left = count.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(());
    }
    each_interval(&mut watch, interval, |watch| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let rows = watch.histories().iter().map(|gpu| row(now, gpu));
        console.say(&rows.collect::<Vec<_>>().join("\n"))?;
        left -= 1;
        Ok(left > 0)
    })
}

fn row(now: Duration, history: &History) -> String {
    let (gpu, window) = (history.gpu(), history.window());
    let Some(reading) = history.latest() else {
        return String::new();
    };
    let verdict = Verdict::of_gpu(gpu, &window, Some(reading), &[]);
    let percent = |share: Option<f64>| share.map(|share| (share * 100.0).round());
    let reasons = reading.reasons.map(|reasons| list(reasons.iter()));
    let state = match reading.state {
        State::Answers => "answers",
        State::Lost => "lost",
        State::NeedsReset => "needs_reset",
    };
    let cells: [String; COLUMNS.len()] = [
        now.as_millis().to_string(),
        gpu.index.to_string(),
        quoted(&gpu.name),
        cell(gpu.pci_bus_id.as_ref()),
        state.to_owned(),
        cell(reading.sm_clock_mhz),
        cell(gpu.sm_clock_max_mhz),
        cell(reading.memory_clock_mhz),
        cell(gpu.memory_clock_max_mhz),
        reasons.unwrap_or_default(),
        cell(percent(reading.utilisation)),
        cell(percent(reading.memory_utilisation)),
        cell(reading.temperature_c),
        cell(gpu.slowdown_c),
        cell(reading.power_w),
        cell(reading.power_limit_w),
        cell(reading.memory_used_bytes),
        cell(gpu.memory_total_bytes),
        cell(reading.link.generation),
        cell(gpu.link_max.generation),
        cell(reading.link.width),
        cell(gpu.link_max.width),
        cell(window.rise.ecc_corrected),
        cell(window.rise.ecc_uncorrected),
        cell(window.rise.pcie_replays),
        list(reading.xids.iter().map(|xid| xid.0)),
        verdict.cause.to_string(),
        verdict.confidence.to_string(),
    ];
    cells.join(",")
}

fn cell(value: Option<impl Display>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

/// Several values in one cell.
fn list(values: impl Iterator<Item = impl Display>) -> String {
    values.map(|v| v.to_string()).collect::<Vec<_>>().join(" ")
}

/// As RFC 4180 has it, where a comma or a quote asks for it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}
