//! One GPU at one instant, as its driver tells it.
//!
//! A figure that a GPU does not give is `None`, and [`Missing`] says why: a GPU without ECC, a user without permission
//! and a GPU that fell off the bus are three different things, and none is an error of whoever asks.

use serde::Serialize;

use super::reason::Reasons;
use super::xid::Xid;

/// What does not change while a GPU is watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gpu {
    /// NVML's, which need not be CUDA's.
    pub index: u32,
    /// Such as "NVIDIA H200"; empty for a GPU that was lost before it was opened.
    pub name: String,
    /// Such as "GPU-4f7b...".
    pub uuid: Option<String>,
    /// In the short form of CUDA and `lspci -D`: "0000:01:00.0".
    pub pci_bus_id: Option<String>,
    /// On the device.
    pub memory_total_bytes: Option<u64>,
    /// The highest that the multiprocessors can have.
    pub sm_clock_max_mhz: Option<u32>,
    /// The highest that the memory can have.
    pub memory_clock_max_mhz: Option<u32>,
    /// From this temperature on the hardware halves the clocks.
    pub slowdown_c: Option<u32>,
    /// At this temperature the GPU turns itself off.
    pub shutdown_c: Option<u32>,
    /// The best link that this GPU and this machine can have.
    pub link_max: Link,
    /// Whether memory errors are counted.
    pub ecc: Option<bool>,
    /// Whether it is split into instances. Utilisation is not reported then.
    pub mig: Option<bool>,
    /// What it does not tell, and why.
    pub missing: Vec<Missing>,
}

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reading {
    /// NVML's index.
    pub gpu: u32,
    /// Since the source was opened, by a clock that never goes back.
    pub at_us: u64,
    /// Whether it answers at all.
    pub state: State,
    /// Of the multiprocessors.
    pub sm_clock_mhz: Option<u32>,
    /// Of the memory.
    pub memory_clock_mhz: Option<u32>,
    /// Why the clocks are what they are.
    pub reasons: Option<Reasons>,
    /// Share of the last sampling period (a sixth of a second to a second) in which any kernel ran.
    pub utilisation: Option<f64>,
    /// Share of it in which memory was read or written.
    pub memory_utilisation: Option<f64>,
    /// Of the die, in degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Drawn by the board.
    pub power_w: Option<f64>,
    /// What it may draw: the lowest of all limits that hold.
    pub power_limit_w: Option<f64>,
    /// Taken by anyone.
    pub memory_used_bytes: Option<u64>,
    /// Memory errors.
    pub ecc: Ecc,
    /// Pages taken out of use (before Ampere): two single-bit errors or a double-bit one.
    pub retired_pages: Option<u64>,
    /// Pages wait for a restart to be taken out of use.
    pub retirement_pending: Option<bool>,
    /// Rows replaced by spare ones (Ampere and later).
    pub rows: RowRemapping,
    /// The link as it is now: GPUs lower it while they are idle.
    pub link: Link,
    /// Packets sent again since the driver started.
    pub pcie_replays: Option<u64>,
    /// Sent by the GPU since the driver started; wraps.
    pub pcie_tx_bytes: Option<u64>,
    /// Received by the GPU since the driver started; wraps.
    pub pcie_rx_bytes: Option<u64>,
    /// Sent by the GPU over the last 20 ms, from GPUs that do not count bytes.
    pub pcie_tx_bytes_per_s: Option<u64>,
    /// Received by the GPU over the last 20 ms, from GPUs that do not count bytes.
    pub pcie_rx_bytes_per_s: Option<u64>,
    /// Time for which power limits held the clocks back, since the driver started.
    pub power_violation_ns: Option<u64>,
    /// Time for which heat held the clocks back, since the driver started.
    pub thermal_violation_ns: Option<u64>,
    /// Errors that the driver reported since the last reading.
    pub xids: Vec<Xid>,
    /// Those with a context on it.
    pub processes: Option<Vec<Process>>,
    /// What it did not tell, and why.
    pub missing: Vec<Missing>,
}

/// Whether a GPU answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It does.
    #[default]
    Answers,
    /// It fell off the bus, or the driver gave it up.
    Lost,
    /// It answers no more before it is reset.
    NeedsReset,
}

/// Why a figure is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// This GPU, driver or mode (MIG, a virtual machine) does not have it.
    NotSupported,
    /// The driver keeps it from this user.
    NoPermission,
    /// The GPU is gone.
    GpuLost,
    /// The driver failed to say.
    Failed,
}

/// A figure that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The field's name.
    pub figure: &'static str,
    /// Why.
    pub why: Absent,
}

/// Memory errors: corrected ones cost nothing, uncorrected ones end the process. Volatile counts begin with the driver,
/// aggregate ones with the board's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ecc {
    /// Since the driver started.
    pub volatile_corrected: Option<u64>,
    /// Since the driver started.
    pub volatile_uncorrected: Option<u64>,
    /// Since it was made.
    pub aggregate_corrected: Option<u64>,
    /// Since it was made.
    pub aggregate_uncorrected: Option<u64>,
}

/// Rows of memory that were replaced by spare ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowRemapping {
    /// For corrected errors.
    pub corrected: Option<u64>,
    /// For uncorrected errors.
    pub uncorrected: Option<u64>,
    /// Some wait for a reset.
    pub pending: Option<bool>,
    /// There was no spare row left: the board is to be replaced.
    pub failed: Option<bool>,
}

/// A PCI Express link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Each doubles the speed of the one before.
    pub generation: Option<u32>,
    /// Lanes.
    pub width: Option<u32>,
}

impl Link {
    /// Width times speed, in lanes of generation 1. Generation 3 changed the encoding, so the step from 2 to 3 is a
    /// little less than the doubling that this takes it for.
    pub fn capacity(self) -> Option<f64> {
        let (generation, width) = (self.generation?, self.width?);
        let known = (1..=16).contains(&generation) && width > 0;
        known.then(|| f64::from(width) * f64::from(1u32 << (generation - 1)))
    }
}

/// A process with a context on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Process {
    /// As the host numbers it: inside a container it is not the container's number.
    pub pid: u32,
    /// Taken by it.
    pub memory_bytes: Option<u64>,
    /// Its share of the multiprocessors' time since the last reading.
    pub utilisation: Option<f64>,
}
