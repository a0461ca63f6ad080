//! A GPU's clocks before and after a measurement: what a figure is worth depends on them.

use collage::backend::DeviceInfo;
use collage::host::telemetry::{Gpu, Reading, Reason, Source};
use serde::Serialize;

/// At one moment. Empty where nothing tells: no GPU, no NVML.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Clocks {
    pub sm_clock_mhz: Option<u32>,
    pub sm_clock_limit_mhz: Option<u32>,
    pub memory_clock_mhz: Option<u32>,
    pub temperature_c: Option<u32>,
    /// By NVIDIA's names, such as `hw_slowdown`; empty where nothing lowers the clocks.
    pub slowed_by: Vec<String>,
}

/// Of the GPU of this device's name and, among those of the name, index.
pub fn read(info: &DeviceInfo) -> Option<Clocks> {
    let mut source = Source::open(None).ok()?;
    let readings = source.read();
    let both = source.gpus().iter().zip(readings);
    let mut same: Vec<(&Gpu, Reading)> = both.filter(|(gpu, _)| gpu.name == info.name).collect();
    // Another order than NVML's, or fewer devices, makes the index another GPU's; the first is then as good.
    let at = if info.index < same.len() {
        info.index
    } else {
        0
    };
    let (gpu, reading) = (!same.is_empty()).then(|| same.swap_remove(at))?;
    // An idle GPU is slow by choice.
    let reasons = reading.reasons.unwrap_or_default().iter();
    let slowing = reasons.filter(|reason| *reason != Reason::Idle);
    Some(Clocks {
        sm_clock_mhz: reading.sm_clock_mhz,
        sm_clock_limit_mhz: gpu.sm_clock_max_mhz,
        memory_clock_mhz: reading.memory_clock_mhz,
        temperature_c: reading.temperature_c,
        slowed_by: slowing.map(|reason| reason.to_string()).collect(),
    })
}

impl Clocks {
    /// "SM 1980 of 1980 MHz, memory 3201 MHz, 45 °C".
    pub fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or("?".to_string(), |n| n.to_string());
        let mut line = format!(
            "SM {} of {} MHz, memory {} MHz, {} °C",
            number(self.sm_clock_mhz),
            number(self.sm_clock_limit_mhz),
            number(self.memory_clock_mhz),
            number(self.temperature_c)
        );
        if !self.slowed_by.is_empty() {
            line += &format!(", slowed by {}", self.slowed_by.join(" and "));
        }
        line
    }
}
