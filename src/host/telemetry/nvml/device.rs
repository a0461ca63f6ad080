//! One GPU's answers, put into a [`Gpu`] and a [`Reading`].

use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, PcieUtilCounter, PerformancePolicy, RetirementCause,
    TemperatureSensor, TemperatureThreshold,
};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::{Bits, NvmlError};
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id as fields;

use super::Handle;
use super::question::Questions;
use crate::host::telemetry::reading::{
    Ecc, Gpu, Link, Missing, Process, Reading, RowRemapping, State,
};
use crate::host::telemetry::reason::Reasons;
use crate::host::telemetry::xid::Xid;

/// How often what changes rarely is asked: each question costs the driver tens of microseconds.
const RARELY_US: u64 = 1_000_000;

/// More Xids than this in one reading would be a driver that reports without end.
const MOST_XIDS: usize = 64;

/// Kept from one reading of a GPU to the next.
#[derive(Default)]
pub(super) struct Memory {
    rare: Option<Rare>,
    /// Time stamp, by the driver's clock, of the newest sample of any process.
    sampled_us: u64,
    /// Whether this GPU counts the bytes on its link; `None` before it was asked.
    counts_bytes: Option<bool>,
}

/// What is asked rarely, with the time of the answer.
#[derive(Clone, Default)]
struct Rare {
    at_us: u64,
    power_limit_w: Option<f64>,
    ecc: Ecc,
    retired_pages: Option<u64>,
    retirement_pending: Option<bool>,
    rows: RowRemapping,
    pcie_tx_bytes_per_s: Option<u64>,
    pcie_rx_bytes_per_s: Option<u64>,
    processes: Option<Vec<Process>>,
    missing: Vec<Missing>,
}

/// What does not change.
pub(super) fn facts(device: &Device<'_>, index: u32) -> Gpu {
    let mut q = Questions::default();
    let gpu = Gpu {
        index,
        name: q.ask("name", || device.name()).unwrap_or_default(),
        uuid: q.ask("uuid", || device.uuid()),
        pci_bus_id: q
            .ask("pci_bus_id", || device.pci_info())
            .map(|pci| format!("{:04x}:{:02x}:{:02x}.0", pci.domain, pci.bus, pci.device)),
        memory_total_bytes: q
            .ask("memory_total_bytes", || device.memory_info())
            .map(|memory| memory.total),
        sm_clock_max_mhz: q.ask("sm_clock_max_mhz", || device.max_clock_info(Clock::SM)),
        memory_clock_max_mhz: q.ask("memory_clock_max_mhz", || {
            device.max_clock_info(Clock::Memory)
        }),
        slowdown_c: q.ask("slowdown_c", || {
            device.temperature_threshold(TemperatureThreshold::Slowdown)
        }),
        shutdown_c: q.ask("shutdown_c", || {
            device.temperature_threshold(TemperatureThreshold::Shutdown)
        }),
        link_max: Link {
            generation: q.ask("link_max.generation", || device.max_pcie_link_gen()),
            width: q.ask("link_max.width", || device.max_pcie_link_width()),
        },
        ecc: q
            .ask("ecc", || device.is_ecc_enabled())
            .map(|mode| mode.currently_enabled),
        mig: q
            .ask("mig", || device.mig_mode())
            .map(|mode| mode.current == 1),
        missing: Vec::new(),
    };
    let (_, missing) = q.end();
    Gpu { missing, ..gpu }
}

/// What changes.
pub(super) fn read(handle: &Handle<'_>, memory: &mut Memory, reading: &mut Reading) {
    let device = &handle.device;
    let mut q = Questions::default();
    reading.sm_clock_mhz = q.ask("sm_clock_mhz", || device.clock_info(Clock::SM));
    reading.memory_clock_mhz = q.ask("memory_clock_mhz", || device.clock_info(Clock::Memory));
    reading.reasons = q.ask("reasons", || reasons(device));
    let utilisation = q.ask("utilisation", || device.utilization_rates());
    let share = |percent: u32| f64::from(percent) / 100.0;
    reading.utilisation = utilisation.as_ref().map(|u| share(u.gpu));
    reading.memory_utilisation = utilisation.as_ref().map(|u| share(u.memory));
    reading.temperature_c = q.ask("temperature_c", || {
        device.temperature(TemperatureSensor::Gpu)
    });
    reading.power_w = q.ask("power_w", || device.power_usage()).map(watts);
    reading.memory_used_bytes = q
        .ask("memory_used_bytes", || device.memory_info())
        .map(|memory| memory.used);
    reading.link = Link {
        generation: q.ask("link.generation", || device.current_pcie_link_gen()),
        width: q.ask("link.width", || device.current_pcie_link_width()),
    };
    reading.pcie_replays = q
        .ask("pcie_replays", || device.pcie_replay_counter())
        .map(u64::from);
    let lost_time = |policy: PerformancePolicy| {
        move || device.violation_status(policy).map(|v| v.violation_time)
    };
    reading.power_violation_ns = q.ask("power_violation_ns", lost_time(PerformancePolicy::Power));
    reading.thermal_violation_ns = q.ask(
        "thermal_violation_ns",
        lost_time(PerformancePolicy::Thermal),
    );
    bytes_on_the_link(device, memory, reading, &mut q);
    reading.xids = q.ask("xids", || xids(handle)).unwrap_or_default();
    (reading.state, reading.missing) = q.end();
    if reading.state == State::Answers {
        rarely(device, memory, reading);
    }
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1000.0
}

/// The wrapper's strict reading is the one that keeps bits which have no name yet: it gives them as its error.
fn reasons(device: &Device<'_>) -> Result<Reasons, NvmlError> {
    match device.current_throttle_reasons_strict() {
        Ok(named) => Ok(Reasons(ThrottleReasons::bits(&named))),
        Err(NvmlError::IncorrectBits(Bits::U64(mask))) => Ok(Reasons(mask)),
        Err(error) => Err(error),
    }
}

/// Counters where there are any: a rate from the driver takes it 20 ms for each direction.
fn bytes_on_the_link(
    device: &Device<'_>,
    memory: &mut Memory,
    reading: &mut Reading,
    q: &mut Questions,
) {
    if memory.counts_bytes == Some(false) {
        return;
    }
    let wanted = [
        fields::NVML_FI_DEV_PCIE_COUNT_TX_BYTES,
        fields::NVML_FI_DEV_PCIE_COUNT_RX_BYTES,
    ];
    let counts = q.ask("pcie_tx_bytes", || field_values(device, wanted));
    let Some([tx, rx]) = counts else { return };
    let counted = tx.is_ok() && rx.is_ok();
    memory.counts_bytes = Some(counted);
    if counted {
        reading.pcie_tx_bytes = q.ask("pcie_tx_bytes", || tx);
        reading.pcie_rx_bytes = q.ask("pcie_rx_bytes", || rx);
    }
}

/// Takes all that are waiting, and waits for none.
fn xids(handle: &Handle<'_>) -> Result<Vec<Xid>, NvmlError> {
    let set = match &handle.events {
        Ok(set) => set,
        Err(error) => return Err(super::question::again(error)),
    };
    let mut found = Vec::new();
    while found.len() < MOST_XIDS {
        match set.wait(0) {
            Ok(event) => found.extend(event.event_data.map(|xid| match xid {
                XidError::Value(code) => Xid(code),
                XidError::Unknown => Xid(999),
            })),
            Err(NvmlError::Timeout) => break,
            // A GPU's last event says why it is gone.
            Err(_) if !found.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Asks anew if it is time, and repeats the last answers otherwise.
fn rarely(device: &Device<'_>, memory: &mut Memory, reading: &mut Reading) {
    let at_us = reading.at_us;
    let is_due = |rare: &Rare| at_us.saturating_sub(rare.at_us) >= RARELY_US;
    if memory.rare.as_ref().is_none_or(is_due) {
        let mut q = Questions::default();
        let mut rare = ask(device, memory, &mut q);
        (reading.state, rare.missing) = q.end();
        rare.at_us = at_us;
        memory.rare = Some(rare);
    }
    let Some(rare) = memory.rare.clone() else {
        return;
    };
    reading.power_limit_w = rare.power_limit_w;
    reading.ecc = rare.ecc;
    reading.retired_pages = rare.retired_pages;
    reading.retirement_pending = rare.retirement_pending;
    reading.rows = rare.rows;
    reading.pcie_tx_bytes_per_s = rare.pcie_tx_bytes_per_s;
    reading.pcie_rx_bytes_per_s = rare.pcie_rx_bytes_per_s;
    reading.processes = rare.processes;
    reading.missing.extend(rare.missing);
}

/// The counters of errors, the limits and the processes.
fn ask(device: &Device<'_>, memory: &mut Memory, q: &mut Questions) -> Rare {
    let errors =
        |kind: MemoryError, since: EccCounter| move || device.total_ecc_errors(kind, since);
    use EccCounter::{Aggregate, Volatile};
    use MemoryError::{Corrected, Uncorrected};
    let ecc = Ecc {
        volatile_corrected: q.ask("ecc.volatile_corrected", errors(Corrected, Volatile)),
        volatile_uncorrected: q.ask("ecc.volatile_uncorrected", errors(Uncorrected, Volatile)),
        aggregate_corrected: q.ask("ecc.aggregate_corrected", errors(Corrected, Aggregate)),
        aggregate_uncorrected: q.ask("ecc.aggregate_uncorrected", errors(Uncorrected, Aggregate)),
    };
    let [tx, rx] = rates_on_the_link(device, memory, q);
    Rare {
        at_us: 0,
        power_limit_w: q
            .ask("power_limit_w", || device.enforced_power_limit())
            .map(watts),
        ecc,
        retired_pages: q.ask("retired_pages", || retired_pages(device)),
        retirement_pending: q.ask("retirement_pending", || device.are_pages_pending_retired()),
        rows: rows(device, q),
        pcie_tx_bytes_per_s: tx,
        pcie_rx_bytes_per_s: rx,
        processes: processes(device, memory, q),
        missing: Vec::new(),
    }
}

/// From GPUs that do not count bytes.
fn rates_on_the_link(device: &Device<'_>, memory: &Memory, q: &mut Questions) -> [Option<u64>; 2] {
    if memory.counts_bytes != Some(false) {
        return [None, None];
    }
    let rates = [
        ("pcie_tx_bytes_per_s", PcieUtilCounter::Send),
        ("pcie_rx_bytes_per_s", PcieUtilCounter::Receive),
    ];
    rates.map(|(figure, counter)| {
        let kilobytes = q.ask(figure, || device.pcie_throughput(counter));
        kilobytes.map(|kb| u64::from(kb) * 1000)
    })
}

fn retired_pages(device: &Device<'_>) -> Result<u64, NvmlError> {
    let corrected = device.retired_pages(RetirementCause::MultipleSingleBitEccErrors)?;
    let uncorrected = device.retired_pages(RetirementCause::DoubleBitEccError)?;
    Ok(corrected.len() as u64 + uncorrected.len() as u64)
}

/// The wrapper has no call for these; they are fields too.
fn rows(device: &Device<'_>, q: &mut Questions) -> RowRemapping {
    let wanted = [
        fields::NVML_FI_DEV_REMAPPED_COR,
        fields::NVML_FI_DEV_REMAPPED_UNC,
        fields::NVML_FI_DEV_REMAPPED_PENDING,
        fields::NVML_FI_DEV_REMAPPED_FAILURE,
    ];
    let Some([corrected, uncorrected, pending, failed]) =
        q.ask("rows", || field_values(device, wanted))
    else {
        return RowRemapping::default();
    };
    RowRemapping {
        corrected: q.ask("rows.corrected", || corrected),
        uncorrected: q.ask("rows.uncorrected", || uncorrected),
        pending: q.ask("rows.pending", || pending).map(|n| n != 0),
        failed: q.ask("rows.failed", || failed).map(|n| n != 0),
    }
}

type FieldAnswer = Result<u64, NvmlError>;

/// Several figures in one call.
fn field_values<const N: usize>(
    device: &Device<'_>,
    wanted: [u32; N],
) -> Result<[FieldAnswer; N], NvmlError> {
    let answers = device.field_values_for(&wanted.map(FieldId))?;
    let mut answers = answers.into_iter().map(|answer| match answer?.value? {
        SampleValue::U32(n) => Ok(u64::from(n)),
        SampleValue::U64(n) => Ok(n),
        SampleValue::I64(n) => u64::try_from(n).map_err(|_| NvmlError::Unknown),
        SampleValue::F64(_) => Err(NvmlError::Unknown),
    });
    Ok(std::array::from_fn(|_| {
        answers.next().unwrap_or(Err(NvmlError::Unknown))
    }))
}

/// Those with a context, and the mean of each one's samples since the last time. A driver that does not tell the
/// utilisation by process leaves that out only.
fn processes(device: &Device<'_>, memory: &mut Memory, q: &mut Questions) -> Option<Vec<Process>> {
    let mut running = q.ask("processes", || device.running_compute_processes())?;
    running.sort_unstable_by_key(|process| process.pid);
    running.dedup_by_key(|process| process.pid); // one entry a MIG instance
    let since = memory.sampled_us;
    let samples = q.ask("processes.utilisation", || {
        match device.process_utilization_stats(since) {
            // Nobody did anything since then.
            Err(NvmlError::NotFound) => Ok(Vec::new()),
            other => other,
        }
    });
    // The buffer can hold samples from before `since`, and stale ones without a time.
    let samples = samples.map(|mut samples| {
        samples.retain(|sample| sample.timestamp > since);
        samples
    });
    if let Some(newest) = samples.iter().flatten().map(|s| s.timestamp).max() {
        memory.sampled_us = newest;
    }
    let utilisation = |pid: u32| {
        let own = samples.as_ref()?.iter().filter(|sample| sample.pid == pid);
        let shares: Vec<f64> = own.map(|s| f64::from(s.sm_util.min(100)) / 100.0).collect();
        Some(shares.iter().sum::<f64>() / shares.len().max(1) as f64)
    };
    let processes = running.into_iter().map(|process| Process {
        pid: process.pid,
        memory_bytes: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
        utilisation: utilisation(process.pid),
    });
    Some(processes.collect())
}
