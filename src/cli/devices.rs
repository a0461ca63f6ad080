//! `collage devices`: what this machine can run on, and why not on the rest.

use std::fmt::Write;

use clap::Args;
use collage::backend::DeviceInfo;
use collage::backend::discover::{Found, discover};
use collage::host::telemetry::Source;
use serde::Serialize;

use super::console::Console;
use super::failure::Failure;
use super::text::bytes;

const EXAMPLES: &str = "\
Examples:
  collage devices             every backend: its devices, or why it has none and what to do
  collage devices --json      the same for scripts

A device is named to the other commands as --device BACKEND:INDEX, such as wgpu:0. `auto` takes the first one marked so.
Commands with workers deal them over several: --device cuda:0,cuda:1, or --device cuda:* for all of a kind.
";

/// Show the devices of this machine, and why a backend is not usable
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Devices {}

#[derive(Serialize)]
struct Report {
    devices: Vec<Row>,
    nvml: Nvml,
}

#[derive(Serialize)]
struct Row {
    backend: String,
    usable: bool,
    /// What `--device auto` opens.
    auto: bool,
    #[serde(flatten)]
    device: Option<Described>,
    /// Of a backend or device that is not usable.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Serialize)]
struct Described {
    index: usize,
    name: String,
    driver: String,
    memory_bytes: Option<u64>,
    features: Vec<String>,
    software: bool,
}

/// What the GPU monitor sees.
#[derive(Serialize, Default)]
struct Nvml {
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    gpus: Vec<Gpu>,
}

#[derive(Serialize)]
struct Gpu {
    index: u32,
    name: String,
    memory_bytes: Option<u64>,
    memory_used_bytes: Option<u64>,
    temperature_c: Option<u32>,
}

impl Devices {
    /// Looks, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let mut devices: Vec<Row> = discover().into_iter().map(Row::from).collect();
        let is_auto = |row: &&mut Row| {
            row.usable && row.device.as_ref().is_some_and(|device| !device.software)
        };
        if let Some(first) = devices.iter_mut().find(is_auto) {
            first.auto = true;
        }
        let report = Report {
            devices,
            nvml: nvml(),
        };
        console.finish(&report, &text(&report))
    }
}

impl From<Found> for Row {
    fn from(found: Found) -> Self {
        let (usable, backend, info, why) = match found {
            Found::Usable(info) => (true, info.backend, Some(info), None),
            Found::Unusable {
                backend,
                info,
                reason,
                remedy,
            } => (false, backend, info, Some((reason, remedy))),
        };
        let (reason, remedy) = why.unzip();
        Self {
            backend: backend.to_string(),
            usable,
            auto: false,
            device: info.map(Described::from),
            reason,
            remedy,
        }
    }
}

impl From<DeviceInfo> for Described {
    fn from(info: DeviceInfo) -> Self {
        let DeviceInfo {
            index,
            name,
            driver,
            memory_bytes,
            features,
            software,
            ..
        } = info;
        Self {
            index,
            name,
            driver,
            memory_bytes,
            features,
            software,
        }
    }
}

fn nvml() -> Nvml {
    let mut source = match Source::open(None) {
        Ok(source) => source,
        Err(reason) => {
            return Nvml {
                reason: Some(reason.to_string()),
                ..Nvml::default()
            };
        }
    };
    let readings = source.read();
    let both = source.gpus().iter().zip(readings);
    let gpus = both.map(|(gpu, reading)| Gpu {
        index: gpu.index,
        name: gpu.name.clone(),
        memory_bytes: gpu.memory_total_bytes,
        memory_used_bytes: reading.memory_used_bytes,
        temperature_c: reading.temperature_c,
    });
    Nvml {
        available: true,
        reason: None,
        driver: Some(source.driver().to_owned()),
        gpus: gpus.collect(),
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for row in &report.devices {
        let at = row
            .device
            .as_ref()
            .map_or(String::new(), |device| format!(":{}", device.index));
        let name = row
            .device
            .as_ref()
            .map_or("", |device| device.name.as_str());
        let state = match (row.usable, row.auto) {
            (true, true) => "usable, taken by auto",
            (true, false) => "usable",
            (false, _) => "not usable",
        };
        let _ = writeln!(
            text,
            "{:<8} {state}{}{name}",
            format!("{}{at}", row.backend),
            if name.is_empty() { "" } else { ": " }
        );
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(text, "         {name:<9} {value}");
            }
        };
        if let Some(device) = &row.device {
            line("driver", &device.driver);
            line(
                "memory",
                &device.memory_bytes.map(bytes).unwrap_or_default(),
            );
            line("features", &device.features.join(", "));
            if device.software {
                line(
                    "note",
                    "a GPU interface emulated on the processor: right, but slower than cpu",
                );
            }
        }
        line("because", row.reason.as_deref().unwrap_or_default());
        line("to do", row.remedy.as_deref().unwrap_or_default());
    }
    let nvml = &report.nvml;
    match (&nvml.driver, &nvml.reason) {
        (Some(driver), _) => {
            let _ = writeln!(text, "nvml     watching: driver {driver}");
        }
        (None, reason) => {
            let _ = writeln!(
                text,
                "nvml     not watching: {}",
                reason.as_deref().unwrap_or_default()
            );
        }
    }
    for gpu in &nvml.gpus {
        let memory = gpu.memory_used_bytes.zip(gpu.memory_bytes);
        let memory = memory.map_or(String::new(), |(used, all)| {
            format!(", {} of {} used", bytes(used), bytes(all))
        });
        let heat = gpu
            .temperature_c
            .map_or(String::new(), |celsius| format!(", {celsius} °C"));
        let _ = writeln!(
            text,
            "         gpu {}: {}{memory}{heat}",
            gpu.index, gpu.name
        );
    }
    text
}

/// One line that tells a device from others, for reports: "cpu: AMD EPYC ... (avx2, fma)".
pub fn describe(info: &DeviceInfo) -> String {
    let driver = if info.driver.is_empty() {
        String::new()
    } else {
        format!(", {}", info.driver)
    };
    let features = if info.features.is_empty() {
        String::new()
    } else {
        format!(" ({})", info.features.join(", "))
    };
    format!(
        "{}:{} {}{driver}{features}",
        info.backend, info.index, info.name
    )
}
