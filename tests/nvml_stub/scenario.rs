//! What the stub's GPUs do, from a text: one figure a line, and when it changes.
//!
//! ```text
//! driver 580.65.06
//! tick 100ms                       # or `tick reading`, the default: a GPU's n-th reading is its tick n-1
//! init driver_not_loaded           # what nvmlInit gives
//! gpu NVIDIA H100 80GB HBM3        # begins a GPU; its figures follow, healthy and busy where nothing is said
//!   temperature 60 ~40 88          # 60 at tick 0, in a straight line to 88 at tick 40, and so on from there
//!   reasons none @40 hw_slowdown+hw_thermal_slowdown
//!   sm_clock 1980 @40 990
//!   utilisation !not_supported     # an error: not_supported, no_permission, lost, reset, unknown
//!   state ok @30 !lost             # what every call gives
//!   repeat 4                       # its ticks begin anew after 4
//!   xid 79 @30                     # an event
//!   process 4242 8e9 0 @10 80      # pid, bytes, percent of the multiprocessors' time
//! gpu ... x8                       # eight of them
//! ```

use std::collections::HashMap;
use std::time::Instant;

use super::abi;

/// A busy H100 that lacks nothing.
const DEFAULT: &str = "\
sm_clock 1980
sm_clock_max 1980
memory_clock 2619
memory_clock_max 2619
reasons none
utilisation 90
memory_utilisation 40
temperature 55
slowdown 87
shutdown 92
power 550000
power_limit 700000
memory_used 20e9
memory_total 85e9
ecc 1
ecc_volatile_corrected 0
ecc_volatile_uncorrected 0
ecc_aggregate_corrected 0
ecc_aggregate_uncorrected 0
retired_pages !not_supported
retirement_pending !not_supported
rows_corrected 0
rows_uncorrected 0
rows_pending 0
rows_failed 0
link_generation 5
link_generation_max 5
link_width 16
link_width_max 16
pcie_replays 0
pcie_tx_bytes 0 ~1000000 1e15
pcie_rx_bytes 0 ~1000000 1e15
pcie_throughput 500000
power_violation_ns 0
thermal_violation_ns 0
mig 0
events 1
processes 0
process_samples 0
";

const REASONS: [(&str, f64); 10] = [
    ("none", 0.0),
    ("gpu_idle", 1.0),
    ("applications_clocks_setting", 2.0),
    ("sw_power_cap", 4.0),
    ("hw_slowdown", 8.0),
    ("sync_boost", 16.0),
    ("sw_thermal_slowdown", 32.0),
    ("hw_thermal_slowdown", 64.0),
    ("hw_power_brake_slowdown", 128.0),
    ("display_clock_setting", 256.0),
];

const ERRORS: [(&str, u32); 8] = [
    ("not_supported", abi::NOT_SUPPORTED),
    ("no_permission", abi::NO_PERMISSION),
    ("lost", abi::GPU_IS_LOST),
    ("reset", abi::RESET_REQUIRED),
    ("unknown", abi::UNKNOWN),
    ("driver_not_loaded", abi::DRIVER_NOT_LOADED),
    ("version_mismatch", abi::LIB_RM_VERSION_MISMATCH),
    ("ok", abi::SUCCESS),
];

type Figure = Result<f64, u32>;

/// All GPUs.
pub struct World {
    pub driver: String,
    pub init: u32,
    pub gpus: Vec<Gpu>,
    tick_ms: Option<u128>,
    started: Instant,
}

#[derive(Clone, Default)]
pub struct Gpu {
    pub name: String,
    figures: HashMap<String, Timeline>,
    repeat: Option<u64>,
    pub xids: Vec<(u64, u64)>,
    pub processes: Vec<Process>,
    /// Readings so far.
    pub readings: u64,
    /// Events that were taken.
    pub taken: usize,
}

#[derive(Clone)]
pub struct Process {
    pub pid: u32,
    pub bytes: f64,
    percent: Timeline,
}

#[derive(Clone, Default)]
struct Timeline(Vec<Point>);

#[derive(Clone, Copy)]
struct Point {
    tick: u64,
    /// Reached in a straight line from the point before.
    ramp: bool,
    figure: Figure,
}

impl Timeline {
    fn parse(words: &[&str]) -> Timeline {
        let mut points = Vec::new();
        let mut at = (0, false);
        for word in words {
            if let Some(tick) = word.strip_prefix('@') {
                at = (number(tick) as u64, false);
            } else if let Some(tick) = word.strip_prefix('~') {
                at = (number(tick) as u64, true);
            } else {
                let (tick, ramp) = at;
                points.push(Point {
                    tick,
                    ramp,
                    figure: figure(word),
                });
            }
        }
        Timeline(points)
    }

    fn at(&self, tick: u64) -> Figure {
        let next = self.0.iter().position(|point| point.tick > tick);
        let before = match next {
            Some(0) => return Err(abi::UNKNOWN),
            Some(next) => self.0[next - 1],
            None => *self.0.last().ok_or(abi::UNKNOWN)?,
        };
        match next.map(|next| self.0[next]) {
            Some(after) if after.ramp => {
                let (from, to) = (before.figure?, after.figure?);
                let part = (tick - before.tick) as f64 / (after.tick - before.tick) as f64;
                Ok(from + (to - from) * part)
            }
            _ => before.figure,
        }
    }
}

fn number(word: &str) -> f64 {
    word.parse().unwrap_or_else(|_| panic!("scenario: {word} is no number"))
}

fn figure(word: &str) -> Figure {
    if let Some(error) = word.strip_prefix('!') {
        return Err(error_code(error));
    }
    if word == "ok" {
        return Ok(0.0);
    }
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    let bit = |name: &str| {
        let named = REASONS.iter().find(|(known, _)| *known == name);
        named.unwrap_or_else(|| panic!("scenario: {name} is no reason")).1
    };
    Ok(word.split('+').map(bit).sum())
}

fn error_code(word: &str) -> u32 {
    let named = ERRORS.iter().find(|(name, _)| *name == word);
    named.unwrap_or_else(|| panic!("scenario: {word} is no error")).1
}

impl World {
    pub fn parse(text: &str) -> World {
        let mut world = World {
            driver: "580.65.06".into(),
            init: abi::SUCCESS,
            gpus: Vec::new(),
            tick_ms: None,
            started: Instant::now(),
        };
        let mut copies = 1;
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            let [key, rest @ ..] = &words[..] else { continue };
            match (*key, rest) {
                ("driver", [version]) => world.driver = (*version).into(),
                ("init", [error]) => world.init = error_code(error),
                ("tick", ["reading"]) => world.tick_ms = None,
                ("tick", [time]) => {
                    world.tick_ms = Some(number(time.trim_end_matches("ms")) as u128);
                }
                ("gpu", name) => {
                    world.copy(copies);
                    let (name, count) = match name {
                        [name @ .., last] if is_count(last) => (name, number(&last[1..]) as usize),
                        name => (name, 1),
                    };
                    copies = count;
                    world.gpus.push(Gpu::healthy(name.join(" ")));
                }
                (key, rest) => {
                    let gpu = world.gpus.last_mut().expect("a figure belongs to a gpu");
                    gpu.set(key, rest);
                }
            }
        }
        world.copy(copies);
        world
    }

    /// Makes the last GPU as many.
    fn copy(&mut self, count: usize) {
        if let Some(last) = self.gpus.last().cloned() {
            self.gpus.extend(std::iter::repeat_n(last, count - 1));
        }
    }

    /// The GPU's own time.
    pub fn tick(&self, gpu: usize) -> u64 {
        let Some(gpu) = self.gpus.get(gpu) else { return 0 };
        let tick = match self.tick_ms {
            Some(ms) => (self.started.elapsed().as_millis() / ms.max(1)) as u64,
            None => gpu.readings.saturating_sub(1),
        };
        gpu.repeat.map_or(tick, |repeat| tick % repeat)
    }

    /// A figure now, or the error of a GPU that is not well.
    pub fn figure(&self, gpu: usize, key: &str) -> Figure {
        let tick = self.tick(gpu);
        let gpu = self.gpus.get(gpu).ok_or(abi::INVALID_ARGUMENT)?;
        gpu.state(tick)?;
        gpu.figures.get(key).ok_or(abi::NOT_SUPPORTED)?.at(tick)
    }
}

fn is_count(word: &str) -> bool {
    word.strip_prefix('x').is_some_and(|n| n.parse::<usize>().is_ok())
}

impl Gpu {
    fn healthy(name: String) -> Gpu {
        let mut gpu = Gpu {
            name,
            ..Gpu::default()
        };
        for line in DEFAULT.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            gpu.set(words[0], &words[1..]);
        }
        gpu
    }

    fn set(&mut self, key: &str, words: &[&str]) {
        match (key, words) {
            ("repeat", [ticks]) => self.repeat = Some(number(ticks) as u64),
            ("xid", [code]) => self.xids.push((0, number(code) as u64)),
            ("xid", [code, at]) => {
                let at = number(at.trim_start_matches('@')) as u64;
                self.xids.push((at, number(code) as u64));
            }
            ("process", [pid, bytes, percent @ ..]) => self.processes.push(Process {
                pid: number(pid) as u32,
                bytes: number(bytes),
                percent: Timeline::parse(percent),
            }),
            (key, words) => {
                self.figures.insert(key.into(), Timeline::parse(words));
            }
        }
    }

    /// The error that every call gives, if one does.
    pub fn state(&self, tick: u64) -> Result<(), u32> {
        self.figures.get("state").map_or(Ok(()), |state| state.at(tick).map(|_| ()))
    }
}

impl Process {
    pub fn percent(&self, tick: u64) -> u32 {
        self.percent.at(tick).unwrap_or(0.0) as u32
    }
}
