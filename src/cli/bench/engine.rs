//! `collage bench engine`: how fast a device runs networks, in the manner of trtexec.

use std::time::Duration;

use clap::Args;
use collage::backend::Device;
use collage::backend::discover::{self, DeviceSpec};
#[cfg(not(feature = "cuda"))]
use collage::backend::{BackendError, Choice};
use collage::config;
use collage::model::plan::Plan;
use collage::tensor::DType;
use serde::Serialize;

use super::check::{self, Checked};
use super::clocks::{self, Clocks};
use super::explain::{self, Explained};
use super::layers::{self, Layer};
use super::measure::{self, Loaded, Peak, Row};
use super::networks::{Network, Networks};
use super::show;
use super::soak::{self, Stream};
use super::together::{self, Together};
use crate::cli::console::Console;
use crate::cli::devices;
use crate::cli::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  collage bench engine --arch resnet50 --dtype f32,f16            no file: weights from a hash
  collage bench engine --model base.safetensors --batch 1,32 --device cuda
  collage bench engine --arch resnet34 --batch 256 --dtype f16 --input tensor --peak-tflops 780
  collage bench engine --arch resnet50 --dtype f16 --explain      which kernel runs each layer
  collage bench engine --arch resnet50 --dtype f16 --explain=sm_90a:132    and where there is no GPU
  collage bench engine --arch resnet50 --dtype f16 --check        whether its answers are right
  collage bench engine --arch resnet34 --dtype f16 --layers       each distinct convolution alone
  collage bench engine --arch resnet18 --collage hashed --together
  collage bench engine --arch resnet18 --collage hashed --soak 300s

`resident` is the device's time for a network's layers, input and weights on the device, many
runs back to back. `latency` is a caller's: from the input in host memory to the result in host
memory. Backends without a clock on the device, cpu and wgpu, have latency alone. A peak is to
be measured on the same device in the same hour: data sheets promise more.
";

/// Measure how fast a device runs networks: throughput, latency, where the time goes
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Engine {
    #[command(flatten)]
    networks: Networks,
    /// Canvases a run; a base's canvas is one image [default: 1,8,32,256; with --check, --layers, --together, --soak: 32]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Vec<u32>,
    /// Element types of weights and activations on the device: f32, f16, bf16
    #[arg(
        long,
        value_name = "TYPE,...",
        value_delimiter = ',',
        default_value = "f32"
    )]
    dtype: Vec<DType>,
    /// auto, cpu, cpu:THREADS, wgpu, wgpu:INDEX, cuda, cuda:INDEX
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceSpec,
    /// For each network, batch and type
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// Of a large matrix product in the same type on this device, to show shares of it
    #[arg(long, value_name = "N", value_parser = positive)]
    peak_tflops: Option<f64>,
    /// Of a large copy in this device's memory, bytes read and written, to show shares of it
    #[arg(long, value_name = "N", value_parser = positive)]
    peak_gbs: Option<f64>,
    #[command(flatten)]
    instead: Instead,
}

/// Something else than the networks' speed.
#[derive(Args)]
#[group(multiple = false)]
struct Instead {
    /// Show which kernel runs each layer, and run nothing: on --device, or on a CUDA device that need not be there, of
    /// this architecture and, after a colon, so many multiprocessors, such as sm_90a:132
    #[arg(long, value_name = "ARCH[:N]", num_args = 0..=1, require_equals = true)]
    explain: Option<Option<Described>>,
    /// Compare the device's answers with the processor's, in the same type
    #[arg(long)]
    check: bool,
    /// Measure each distinct convolution alone, with weights and results out of the caches
    #[arg(long)]
    layers: bool,
    /// Measure base and collage at once, against each alone
    #[arg(long)]
    together: bool,
    /// Run all networks at once for so long, and compare each answer with the first
    #[arg(long, value_name = "TIME", value_parser = config::duration)]
    soak: Option<Duration>,
}

/// Where a plan can be explained without a device.
#[cfg(feature = "cuda")]
type Described = collage::backend::cuda::DeviceDescription;

/// This build describes none.
#[cfg(not(feature = "cuda"))]
#[derive(Clone, Debug)]
enum Described {}

#[cfg(not(feature = "cuda"))]
impl std::str::FromStr for Described {
    type Err = &'static str;

    fn from_str(_: &str) -> Result<Self, &'static str> {
        Err("this binary was built without CUDA; build with --features cuda")
    }
}

#[cfg(not(feature = "cuda"))]
impl std::fmt::Display for Described {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

#[cfg(not(feature = "cuda"))]
impl Described {
    fn explain(&self, _: &Plan) -> Result<Vec<Choice>, BackendError> {
        match *self {}
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n| (0.0..=86_400.0).contains(n));
    number.ok_or_else(|| "expected a number of seconds up to a day".to_string())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_string())
}

/// What `--json` writes; keys of what was not asked for are left out.
#[derive(Serialize, Default)]
struct Report {
    bench: &'static str,
    device: String,
    version: &'static str,
    seconds: f64,
    peak: Peak,
    #[serde(skip_serializing_if = "Option::is_none")]
    clocks_before: Option<Clocks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clocks_after: Option<Clocks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: Option<Vec<Explained>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<Vec<Checked>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Layer>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    together: Option<Vec<Together>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    soak: Option<Vec<Stream>>,
}

impl Engine {
    /// Parses, measures, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let networks = self.networks.open()?;
        if let Some(Some(described)) = &self.instead.explain {
            return self.explain(described, &networks, console);
        }
        let device = discover::open(&self.device)?;
        let mut report = Report {
            bench: "engine",
            device: devices::describe(device.info()),
            version: env!("CARGO_PKG_VERSION"),
            seconds: self.seconds,
            peak: Peak {
                tflops: self.peak_tflops,
                gb_per_s: self.peak_gbs,
            },
            clocks_before: clocks::read(device.info()),
            ..Report::default()
        };
        let body = self.measure(&*device, &networks, &mut report, console)?;
        report.clocks_after = clocks::read(device.info());
        let text = format!("{}\n\n{body}{}", report.device, clocks_text(&report));
        console.finish(&report, &text)
    }

    /// On a device that need not be there.
    fn explain(
        &self,
        described: &Described,
        networks: &[Network],
        console: &Console,
    ) -> Result<(), Failure> {
        let plans = self.each(networks, console, |network, batch, dtype| {
            explain::explain(network, batch, dtype, &|plan: &Plan| {
                described.explain(plan)
            })
        })?;
        let text = explain::text(&plans);
        let report = Report {
            bench: "engine",
            device: described.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            seconds: self.seconds,
            explained: Some(plans),
            ..Report::default()
        };
        console.finish(&report, &format!("{}\n\n{text}", report.device))
    }

    /// Fills the report with what is asked for; gives it as text.
    fn measure(
        &self,
        device: &dyn Device,
        networks: &[Network],
        report: &mut Report,
        console: &Console,
    ) -> Result<String, Failure> {
        let budget = Duration::from_secs_f64(self.seconds);
        Ok(if self.instead.explain.is_some() {
            let of_device = |plan: &_| device.explain(plan);
            let plans = self.each(networks, console, |network, batch, dtype| {
                explain::explain(network, batch, dtype, &of_device)
            })?;
            explain::text(report.explained.insert(plans))
        } else if self.instead.check {
            let rows = self.each(networks, console, |network, batch, dtype| {
                check::check(device, network, batch, dtype)
            })?;
            check::text(report.checked.insert(rows))
        } else if self.instead.layers {
            let layers = self.each(networks, console, |network, batch, dtype| {
                layers::measure(device, network, batch, dtype, budget)
            })?;
            layers::text(report.layers.insert(layers.into_iter().flatten().collect()))
        } else if self.instead.together {
            let [base, collage] = networks else {
                return Err(Failure::usage(
                    "--together takes a base (--model or --arch) and a --collage",
                ));
            };
            let rows = self.each(std::slice::from_ref(base), console, |base, batch, dtype| {
                together::measure(device, [base, collage], batch, dtype, budget)
            })?;
            together::text(report.together.insert(rows))
        } else if let Some(time) = self.instead.soak {
            let all = networks;
            let streams = self.each(&networks[..1], console, |_, batch, dtype| {
                soak::soak(device, all, batch, dtype, time)
            })?;
            soak::text(report.soak.insert(streams.into_iter().flatten().collect()))
        } else {
            let peak = report.peak;
            let rows = self.each(networks, console, |network, batch, dtype| {
                let loaded = Loaded::new(device, network, batch, dtype)?;
                measure::measure(network, loaded, peak, budget)
            })?;
            show::text(report.rows.insert(rows))
        })
    }

    /// Every network, type and batch, in this order.
    fn each<T>(
        &self,
        networks: &[Network],
        console: &Console,
        mut one: impl FnMut(&Network, usize, DType) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let plain = !(self.instead.check
            || self.instead.layers
            || self.instead.together
            || self.instead.soak.is_some());
        let batches = match (&self.batch[..], plain) {
            ([], true) => &[1, 8, 32, 256],
            ([], false) => &[32][..],
            (given, _) => given,
        };
        let count = networks.len() * batches.len() * self.dtype.len();
        let bar = console.progress(count as u64, "bench engine");
        let mut results = Vec::with_capacity(count);
        for network in networks {
            for &dtype in &self.dtype {
                for &batch in batches {
                    bar.set_message(format!("{} {dtype} batch {batch}", network.name));
                    results.push(one(network, batch as usize, dtype)?);
                    bar.inc(1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(results)
    }
}

fn clocks_text(report: &Report) -> String {
    let line = |when: &str, clocks: &Option<Clocks>| {
        let clocks = clocks.as_ref();
        clocks.map_or_else(String::new, |c| format!("\nclocks {when}: {}", c.line()))
    };
    line("before", &report.clocks_before) + &line("after", &report.clocks_after)
}
