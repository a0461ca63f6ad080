//! Of one GPU: DCGM's names first, then what DCGM does not tell.

use collage::host::telemetry::{Cause, State};

use super::super::super::snapshot::GpuNow;
use super::family::Families;

const MIB: f64 = 1_048_576.0;

/// Every cause, so that each has its series from the first scrape on.
pub const CAUSES: [Cause; 9] = [
    Cause::None,
    Cause::Hardware,
    Cause::Thermal,
    Cause::Power,
    Cause::Link,
    Cause::Contention,
    Cause::Host,
    Cause::Load,
    Cause::Unknown,
];

/// All that is known of it.
pub fn add(all: &mut Families, now: &GpuNow, host: &str) {
    let index = now.gpu.index.to_string();
    let device = format!("nvidia{index}");
    let labels = [
        ("gpu", index.as_str()),
        ("UUID", now.gpu.uuid.as_deref().unwrap_or_default()),
        ("device", device.as_str()),
        ("modelName", now.gpu.name.as_str()),
        ("Hostname", host),
    ];
    clocks(all, now, &labels);
    load(all, now, &labels);
    link(all, now, &labels);
    errors(all, now, &labels);
    // Prometheus' conventions know no camel case; gpu and UUID are enough to join by.
    let own_labels: Vec<(&str, &str)> = labels
        .into_iter()
        .filter(|(name, _)| *name != "modelName")
        .collect();
    own(all, now, &own_labels);
}

fn number(n: Option<impl Into<f64>>) -> Option<f64> {
    n.map(Into::into)
}

fn count(n: Option<u64>) -> Option<f64> {
    n.map(|n| n as f64)
}

fn clocks(all: &mut Families, now: &GpuNow, labels: &[(&str, &str)]) {
    let (gpu, r) = (&now.gpu, &now.reading);
    let reasons = r.reasons.map(|reasons| reasons.0 as f64);
    let mut gauge = |name: &str, help: &str, value| all.gauge(name, help, labels, value);
    gauge(
        "DCGM_FI_DEV_SM_CLOCK",
        "SM clock frequency (in MHz).",
        number(r.sm_clock_mhz),
    );
    gauge(
        "DCGM_FI_DEV_MEM_CLOCK",
        "Memory clock frequency (in MHz).",
        number(r.memory_clock_mhz),
    );
    gauge(
        "DCGM_FI_DEV_MAX_SM_CLOCK",
        "Highest SM clock (in MHz).",
        number(gpu.sm_clock_max_mhz),
    );
    gauge(
        "DCGM_FI_DEV_MAX_MEM_CLOCK",
        "Highest memory clock (in MHz).",
        number(gpu.memory_clock_max_mhz),
    );
    gauge(
        "DCGM_FI_DEV_GPU_TEMP",
        "GPU temperature (in C).",
        number(r.temperature_c),
    );
    gauge(
        "DCGM_FI_DEV_SLOWDOWN_TEMP",
        "Slowdown temperature (in C).",
        number(gpu.slowdown_c),
    );
    gauge(
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        "Current clock event reasons (bitmask of NVML).",
        reasons,
    );
}

fn load(all: &mut Families, now: &GpuNow, labels: &[(&str, &str)]) {
    let (gpu, r) = (&now.gpu, &now.reading);
    let percent = |share: Option<f64>| share.map(|share| (share * 100.0).round());
    let mib = |bytes: Option<u64>| bytes.map(|bytes| (bytes as f64 / MIB).round());
    let free = gpu.memory_total_bytes.zip(r.memory_used_bytes);
    let free = free.map(|(total, used)| total.saturating_sub(used));
    let mut gauge = |name: &str, help: &str, value| all.gauge(name, help, labels, value);
    gauge("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", r.power_w);
    gauge(
        "DCGM_FI_DEV_POWER_MGMT_LIMIT",
        "Power limit (in W).",
        r.power_limit_w,
    );
    gauge(
        "DCGM_FI_DEV_GPU_UTIL",
        "GPU utilization (in %).",
        percent(r.utilisation),
    );
    gauge(
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "Memory utilization (in %).",
        percent(r.memory_utilisation),
    );
    gauge(
        "DCGM_FI_DEV_FB_USED",
        "Framebuffer memory used (in MiB).",
        mib(r.memory_used_bytes),
    );
    gauge(
        "DCGM_FI_DEV_FB_FREE",
        "Framebuffer memory free (in MiB).",
        mib(free),
    );
}

fn link(all: &mut Families, now: &GpuNow, labels: &[(&str, &str)]) {
    let (gpu, r) = (&now.gpu, &now.reading);
    let mut gauge = |name: &str, help: &str, value| all.gauge(name, help, labels, value);
    gauge(
        "DCGM_FI_DEV_PCIE_LINK_GEN",
        "PCIe link generation now.",
        number(r.link.generation),
    );
    gauge(
        "DCGM_FI_DEV_PCIE_LINK_WIDTH",
        "PCIe lanes now.",
        number(r.link.width),
    );
    gauge(
        "DCGM_FI_DEV_PCIE_MAX_LINK_GEN",
        "Best PCIe link generation.",
        number(gpu.link_max.generation),
    );
    gauge(
        "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH",
        "Most PCIe lanes.",
        number(gpu.link_max.width),
    );
}

fn errors(all: &mut Families, now: &GpuNow, labels: &[(&str, &str)]) {
    let r = &now.reading;
    let last = now.window.xids.last().map_or(0, |xid| xid.0);
    let flag = |f: Option<bool>| f.map(|f| f64::from(u8::from(f)));
    all.gauge(
        "DCGM_FI_DEV_XID_ERRORS",
        "Value of the last XID error encountered (0: none in the window).",
        labels,
        Some(last as f64),
    );
    all.gauge(
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "Whether remapping of rows has failed.",
        labels,
        flag(r.rows.failed),
    );
    let mut counter = |name: &str, help: &str, value| all.counter(name, help, labels, value);
    counter(
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "Total number of single-bit volatile ECC errors.",
        count(r.ecc.volatile_corrected),
    );
    counter(
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "Total number of double-bit volatile ECC errors.",
        count(r.ecc.volatile_uncorrected),
    );
    counter(
        "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL",
        "Total number of single-bit persistent ECC errors.",
        count(r.ecc.aggregate_corrected),
    );
    counter(
        "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
        "Total number of double-bit persistent ECC errors.",
        count(r.ecc.aggregate_uncorrected),
    );
    counter(
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        "Number of remapped rows for correctable errors.",
        count(r.rows.corrected),
    );
    counter(
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "Number of remapped rows for uncorrectable errors.",
        count(r.rows.uncorrected),
    );
    counter(
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
        "Total number of PCIe retries.",
        count(r.pcie_replays),
    );
    counter(
        "DCGM_FI_DEV_POWER_VIOLATION",
        "Throttling duration due to power constraints (in ns).",
        count(r.power_violation_ns),
    );
    counter(
        "DCGM_FI_DEV_THERMAL_VIOLATION",
        "Throttling duration due to thermal constraints (in ns).",
        count(r.thermal_violation_ns),
    );
}

fn own(all: &mut Families, now: &GpuNow, labels: &[(&str, &str)]) {
    let window = &now.window;
    all.gauge(
        "collage_gpu_up",
        "Whether the GPU answers (1) or is lost or waits for a reset (0).",
        labels,
        Some(f64::from(u8::from(now.reading.state == State::Answers))),
    );
    all.gauge(
        "collage_gpu_loaded_ratio",
        "Share of the window under load.",
        labels,
        Some(window.loaded),
    );
    all.gauge(
        "collage_gpu_sm_clock_ratio",
        "Median SM clock under load over the highest.",
        labels,
        window.sm_clock.of_max,
    );
    all.gauge(
        "collage_gpu_link_ratio",
        "PCIe width times speed under load over the best.",
        labels,
        window.link_of_max,
    );
    for held in &window.reasons {
        let reason = held.reason.to_string();
        let mut labels = labels.to_vec();
        labels.push(("reason", &reason));
        all.gauge(
            "collage_gpu_clock_event_ratio",
            "Share of the window in which a clock-event reason held.",
            &labels,
            Some(held.share),
        );
    }
    for cause in CAUSES {
        let name = cause.to_string();
        let mut labels = labels.to_vec();
        labels.push(("cause", &name));
        let is = cause == now.verdict.cause;
        all.gauge(
            "collage_gpu_verdict",
            "1 for the cause that the verdict names, 0 for the others.",
            &labels,
            Some(f64::from(u8::from(is))),
        );
    }
}
