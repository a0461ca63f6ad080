//! A span of readings in figures: shares of the time, medians under load, how far counters rose.
//!
//! Each reading speaks for half the time to each of its neighbours, so uneven intervals do no harm. What says something
//! only of a GPU that works (its clocks, its link) is taken from the readings under load.

mod figures;

use serde::Serialize;

use self::figures::Timed;
use super::history::History;
use super::reading::{Gpu, Link, Reading, State};
use super::reason::Reason;
use super::xid::Xid;

/// From this utilisation on a GPU is under load.
pub const LOADED: f64 = 0.05;
/// A reason that holds for less of the time is brief: NVML reports `hw_slowdown` also while clocks change.
pub const BRIEF: f64 = 0.1;
/// A reason that holds for more of the time is sustained.
const SUSTAINED: f64 = 0.9;
/// From two full cycles on a reason oscillates.
const OSCILLATING_CHANGES: usize = 4;

/// What a GPU did over a span.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Window {
    /// NVML's index.
    pub gpu: u32,
    /// From the first reading to the last.
    pub span_us: u64,
    /// How many there were, also before and after a loss.
    pub readings: usize,
    /// At the last one.
    pub state: State,
    /// Share of the span under load: a kernel ran in 5% of a reading's sampling period at least, and the GPU
    /// does not call itself idle. One that does not tell its utilisation is under load when it does not call itself idle.
    pub loaded: f64,
    /// Reasons that held at any time, longest first.
    pub reasons: Vec<ReasonShare>,
    /// Of the multiprocessors.
    pub sm_clock: Clock,
    /// Of the memory.
    pub memory_clock: Clock,
    /// The usual link under load against the best that there could be, width times speed; `None` without load.
    pub link_of_max: Option<f64>,
    /// That link: the median by width times speed.
    pub link_under_load: Link,
    /// Mean.
    pub utilisation: Option<f64>,
    /// Mean.
    pub memory_utilisation: Option<f64>,
    /// Highest.
    pub temperature_c: Option<u32>,
    /// Mean.
    pub power_w: Option<f64>,
    /// At the last reading that told it.
    pub power_limit_w: Option<f64>,
    /// At the last reading that told it.
    pub memory_used_bytes: Option<u64>,
    /// How far the counters rose.
    pub rise: Rise,
    /// Share of the span in which power limits held the clocks back, as the driver counted it.
    pub power_violation: Option<f64>,
    /// Share of the span in which heat held the clocks back, as the driver counted it.
    pub thermal_violation: Option<f64>,
    /// Sent by the GPU.
    pub pcie_tx_bytes_per_s: Option<f64>,
    /// Received by the GPU.
    pub pcie_rx_bytes_per_s: Option<f64>,
    /// Rows or pages wait for a restart.
    pub remapping_pending: Option<bool>,
    /// Rows or pages could not be replaced.
    pub remapping_failed: Option<bool>,
    /// Reported in the span.
    pub xids: Vec<Xid>,
    /// Those on the GPU at any time of it, the busiest first.
    pub processes: Vec<ProcessLoad>,
}

/// How long a reason held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReasonShare {
    /// Which.
    pub reason: Reason,
    /// Of the span.
    pub share: f64,
    /// Of the time under load.
    pub share_of_load: f64,
    /// Times that it began or ended.
    pub changes: usize,
    /// In one word.
    pub pattern: Pattern,
}

/// How a reason held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Nearly always.
    Sustained,
    /// On and off: what holds the clocks back is at its limit, and lets them go again.
    Oscillating,
    /// For a while, or in one short stretch.
    Passing,
}

/// A clock under load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Clock {
    /// Median of the readings under load; `None` without load.
    pub loaded_mhz: Option<u32>,
    /// That over the highest that there could be.
    pub of_max: Option<f64>,
    /// Median of the readings under load while a fault held it back, over the highest; `None` where none did.
    pub slowed: Option<f64>,
    /// At the last reading that told it.
    pub now_mhz: Option<u32>,
}

/// How far counters rose from the first reading to the last. `None`: not counted, or it went back (a driver that was
/// started anew).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rise {
    /// Corrected memory errors.
    pub ecc_corrected: Option<u64>,
    /// Uncorrected memory errors.
    pub ecc_uncorrected: Option<u64>,
    /// Pages taken out of use.
    pub retired_pages: Option<u64>,
    /// Rows replaced.
    pub remapped_rows: Option<u64>,
    /// Packets sent again.
    pub pcie_replays: Option<u64>,
}

/// A process over the span.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProcessLoad {
    /// As the host numbers it.
    pub pid: u32,
    /// Highest.
    pub memory_bytes: Option<u64>,
    /// Mean share of the multiprocessors' time; `None` where the driver does not tell it by process.
    pub utilisation: Option<f64>,
}

impl History {
    /// What its readings say together.
    pub fn window(&self) -> Window {
        let readings: Vec<&Reading> = self.readings.iter().collect();
        Window::of(&self.gpu, &readings)
    }
}

impl Window {
    /// Of readings of one GPU, oldest first.
    pub fn of(gpu: &Gpu, readings: &[&Reading]) -> Window {
        let Some(last) = readings.last() else {
            return Window {
                gpu: gpu.index,
                ..Window::default()
            };
        };
        let timed = Timed::of(readings);
        let loaded: Vec<Timed> = timed
            .iter()
            .copied()
            .filter(|t| figures::is_loaded(t.reading))
            .collect();
        let link_under_load = figures::usual_link(&loaded);
        let of_max = |link: Link| Some(link.capacity()? / gpu.link_max.capacity()?);
        let span_us = figures::span_us(readings);
        Window {
            gpu: gpu.index,
            span_us,
            readings: readings.len(),
            state: last.state,
            loaded: figures::share(&timed, figures::is_loaded),
            reasons: figures::reasons(&timed, &loaded),
            sm_clock: figures::clock(readings, &loaded, gpu.sm_clock_max_mhz, |r| r.sm_clock_mhz),
            memory_clock: figures::clock(readings, &loaded, gpu.memory_clock_max_mhz, |r| {
                r.memory_clock_mhz
            }),
            link_of_max: of_max(link_under_load),
            link_under_load,
            utilisation: figures::mean(&timed, |r| r.utilisation),
            memory_utilisation: figures::mean(&timed, |r| r.memory_utilisation),
            temperature_c: readings.iter().filter_map(|r| r.temperature_c).max(),
            power_w: figures::mean(&timed, |r| r.power_w),
            power_limit_w: figures::newest(readings, |r| r.power_limit_w),
            memory_used_bytes: figures::newest(readings, |r| r.memory_used_bytes),
            rise: Rise::of(readings),
            power_violation: figures::time_lost(readings, |r| r.power_violation_ns),
            thermal_violation: figures::time_lost(readings, |r| r.thermal_violation_ns),
            pcie_tx_bytes_per_s: figures::per_second(readings, |r| r.pcie_tx_bytes)
                .or_else(|| figures::mean(&timed, |r| r.pcie_tx_bytes_per_s.map(|n| n as f64))),
            pcie_rx_bytes_per_s: figures::per_second(readings, |r| r.pcie_rx_bytes)
                .or_else(|| figures::mean(&timed, |r| r.pcie_rx_bytes_per_s.map(|n| n as f64))),
            remapping_pending: figures::newest(readings, |r| {
                figures::either(r.rows.pending, r.retirement_pending)
            }),
            remapping_failed: figures::newest(readings, |r| r.rows.failed),
            xids: readings
                .iter()
                .flat_map(|r| r.xids.iter().copied())
                .collect(),
            processes: figures::processes(readings),
        }
    }

    /// How long this reason held.
    pub fn reason(&self, reason: Reason) -> Option<&ReasonShare> {
        self.reasons.iter().find(|held| held.reason == reason)
    }

    /// The clocks' share of their highest while a fault holds them back, if one does for more than a brief while.
    pub fn slowed(&self) -> Option<f64> {
        let held = |r: &ReasonShare| r.reason.is_fault() && r.share_of_load >= BRIEF;
        self.reasons
            .iter()
            .any(held)
            .then_some(self.sm_clock.slowed)?
    }

    /// The link's share of what it could be under load, if it is less than that.
    pub fn link_lost(&self) -> Option<f64> {
        self.link_of_max.filter(|share| *share < 1.0)
    }

    /// Whether the GPU cannot be trusted: it is gone, or it reported a fatal error.
    pub fn is_faulty(&self) -> bool {
        self.state != State::Answers
            || self.xids.iter().any(|xid| xid.is_fatal())
            || self.rise.ecc_uncorrected.is_some_and(|n| n > 0)
    }

    /// From the first reading to the last.
    pub fn span_s(&self) -> f64 {
        self.span_us as f64 / 1e6
    }
}
