//! A span of readings in figures: shares of the time, medians under load, how far counters rose.
//!
//! Each reading speaks for the time until the next one, so uneven intervals do no harm. What says something only of a
//! GPU that works (its clocks, its link) is taken from the readings under load.

use serde::Serialize;

use super::reading::{Link, State};
use super::reason::Reason;
use super::xid::Xid;

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
    /// Share of the span under load: a kernel ran in 5% of a reading's sampling period at least. Where the GPU does not
    /// tell its utilisation: not idle by its clock-event reasons.
    pub loaded: f64,
    /// Reasons that held at any time, longest first.
    pub reasons: Vec<ReasonShare>,
    /// Of the multiprocessors.
    pub sm_clock: Clock,
    /// Of the memory.
    pub memory_clock: Clock,
    /// The lowest link under load against the best that there could be; `None` without load.
    pub link: Option<f64>,
    /// That link.
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
    /// Median of the readings while a fault held it back, over the highest; `None` where none did.
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
