//! One network at one batch size in one type: runs, the times of their parts, and what these say of the device.

use std::sync::Arc;
use std::time::{Duration, Instant};

use collage::backend::{BackendError, Device, Program, Timings};
use collage::model::plan::{Grid, Plan};
use collage::tensor::DType;
use serde::Serialize;

use super::networks::{Data, Network};
use super::spread::{Spread, unstable};
use crate::cli::failure::Failure;

/// What the device can do at most, as someone measured it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Peak {
    /// Of a large matrix product in the type.
    pub tflops: Option<f64>,
    /// Of a large copy in device memory, read and written bytes counted.
    pub gb_per_s: Option<f64>,
}

/// One row of the result.
#[derive(Debug, Serialize)]
pub struct Row {
    /// "base" or "collage".
    pub role: &'static str,
    pub network: String,
    pub grid: Grid,
    pub dtype: String,
    /// Canvases a run.
    pub batch: usize,
    /// Images a run.
    pub images: usize,
    /// Runs whose times are in `latency_ms`.
    pub runs: usize,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// The least device memory traffic of one run, weights read once.
    pub bytes: u64,
    /// By the median of `basis`.
    pub images_per_s: f64,
    pub tflops: f64,
    pub gb_per_s: f64,
    /// Of the two ceilings: the time that the higher one would take over the time that was taken.
    pub share_of_roofline: Option<f64>,
    pub share_of_peak_tflops: Option<f64>,
    pub share_of_peak_gb_per_s: Option<f64>,
    /// Which of the times below the figures above are from: the first of `resident`, `compute`, `latency` that is there.
    pub basis: &'static str,
    /// From a call of the backend to its result, in host memory.
    pub latency_ms: Spread,
    /// Of the host, to hand a run to the driver.
    pub enqueue_ms: Option<Spread>,
    pub upload_ms: Option<Spread>,
    /// The device's time for the steps of one run.
    pub compute_ms: Option<Spread>,
    pub download_ms: Option<Spread>,
    /// The device's time for the steps of a run, many back to back, input and weights on the device.
    pub resident_ms: Option<Spread>,
    /// Loading the plan, kernels included.
    pub load_ms: f64,
    pub warnings: Vec<String>,
}

/// A plan and its program, ready to measure.
pub struct Loaded {
    pub plan: Arc<Plan>,
    pub program: Box<dyn Program>,
    pub load: Duration,
}

impl Loaded {
    /// Compiles the network's plan and loads it.
    pub fn new(
        device: &dyn Device,
        network: &Network,
        batch: usize,
        dtype: DType,
    ) -> Result<Self, Failure> {
        let plan = Plan::compile(&network.model, &network.options(batch, dtype))?;
        let plan = Arc::new(plan);
        let begin = Instant::now();
        let program = device.load(Arc::clone(&plan))?;
        Ok(Self {
            plan,
            program,
            load: begin.elapsed(),
        })
    }
}

/// Times in the order in which they were measured.
#[derive(Default)]
struct Samples {
    latency: Vec<Duration>,
    parts: Vec<Timings>,
    resident: Vec<Duration>,
}

/// Runs the program for about `budget` and sums up.
pub fn measure(
    network: &Network,
    mut loaded: Loaded,
    peak: Peak,
    budget: Duration,
) -> Result<Row, Failure> {
    let data = network.data(&loaded.plan, 0)?;
    let program = loaded.program.as_mut();
    warm_up(program, &data, budget / 5)?;
    let mut samples = Samples {
        resident: resident(program, budget / 2)?,
        ..Samples::default()
    };
    let left = if samples.resident.is_empty() {
        budget
    } else {
        budget / 2
    };
    let begin = Instant::now();
    while samples.latency.len() < 2 || begin.elapsed() < left {
        let start = Instant::now();
        let (_, parts) = program.run_timed(data.input())?;
        samples.latency.push(start.elapsed());
        samples.parts.extend(parts);
    }
    row(network, &loaded, peak, &samples)
}

/// Kernels built, clocks up, caches filled: at least one run, and then some.
fn warm_up(program: &mut dyn Program, data: &Data, budget: Duration) -> Result<(), BackendError> {
    let begin = Instant::now();
    loop {
        program.run(data.input())?;
        if begin.elapsed() >= budget {
            return Ok(());
        }
    }
}

/// The time of a run, from blocks of so many back to back that starting and ending a block does not count. Empty where
/// the backend cannot.
pub fn resident(
    program: &mut dyn Program,
    budget: Duration,
) -> Result<Vec<Duration>, BackendError> {
    const BLOCK: Duration = Duration::from_millis(10);
    let Some(once) = program.run_resident(1)? else {
        return Ok(Vec::new());
    };
    let times = BLOCK.as_nanos() / once.as_nanos().max(1);
    let times = u32::try_from(times).unwrap_or(u32::MAX).clamp(1, 1000);
    let begin = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < 3 || begin.elapsed() < budget {
        let Some(block) = program.run_resident(times)? else {
            break;
        };
        samples.push(block / times);
    }
    Ok(samples)
}

fn row(network: &Network, loaded: &Loaded, peak: Peak, samples: &Samples) -> Result<Row, Failure> {
    let plan = &loaded.plan;
    let part = |of: fn(&Timings) -> Duration| {
        let times: Vec<Duration> = samples.parts.iter().map(of).collect();
        Spread::of(&times)
    };
    let latency_ms =
        Spread::of(&samples.latency).ok_or_else(|| Failure::other("no run was measured"))?;
    let (compute_ms, resident_ms) = (part(|t| t.compute), Spread::of(&samples.resident));
    let (basis, time) = match (resident_ms, compute_ms) {
        (Some(resident), _) => ("resident", resident),
        (None, Some(compute)) => ("compute", compute),
        (None, None) => ("latency", latency_ms),
    };
    let seconds = (time.median / 1e3).max(1e-12);
    let macs: u64 = plan.steps.iter().map(|step| plan.macs(step)).sum();
    let bytes: u64 = plan.steps.iter().map(|step| plan.bytes_moved(step)).sum();
    let (tflops, gb_per_s) = (
        2.0 * macs as f64 / seconds / 1e12,
        bytes as f64 / seconds / 1e9,
    );
    let share_of_peak_tflops = peak.tflops.map(|p| tflops / p);
    let share_of_peak_gb_per_s = peak.gb_per_s.map(|p| gb_per_s / p);
    Ok(Row {
        role: network.role,
        network: network.name.clone(),
        grid: network.grid,
        dtype: plan.dtype.to_string(),
        batch: plan.batch,
        images: plan.batch * network.grid.tiles(),
        runs: samples.latency.len(),
        macs,
        bytes,
        images_per_s: (plan.batch * network.grid.tiles()) as f64 / seconds,
        tflops,
        gb_per_s,
        share_of_roofline: share_of_peak_tflops
            .zip(share_of_peak_gb_per_s)
            .map(|(a, b)| a.max(b)),
        share_of_peak_tflops,
        share_of_peak_gb_per_s,
        basis,
        latency_ms,
        enqueue_ms: part(|t| t.enqueue),
        upload_ms: part(|t| t.upload),
        compute_ms,
        download_ms: part(|t| t.download),
        resident_ms,
        load_ms: loaded.load.as_secs_f64() * 1e3,
        warnings: warnings(basis, samples),
    })
}

/// Of the times that the figures are from.
fn warnings(basis: &str, samples: &Samples) -> Vec<String> {
    let compute: Vec<Duration> = samples.parts.iter().map(|t| t.compute).collect();
    let of_basis = match basis {
        "resident" => &samples.resident,
        "compute" => &compute,
        _ => &samples.latency,
    };
    let mut warnings = Vec::new();
    if of_basis.len() < 10 {
        warnings.push(format!(
            "only {} measurements; give more --seconds",
            of_basis.len()
        ));
    }
    warnings.extend(unstable(of_basis));
    warnings
}
