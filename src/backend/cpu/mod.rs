//! The CPU backend: the specification of every op, and a fast path that is tested against it.
//!
//! The files named after ops hold the specification: plain loops with f64 sums, one op a file. [`CpuDevice::reference`]
//! runs them, and every other backend is judged by them. [`CpuDevice::new`] runs the same plans fast.
//! In f16 and bf16 plans, weights and every activation are rounded to that type where a device would store them, so
//! that the specification covers these too.

use std::fmt;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::backend::{
    BackendError, BackendKind, Device, DeviceInfo, Input, Output, Program, check,
};
use crate::image::Image;
use crate::model::plan::{Plan, Step, Value, ValueId, Weights};
use crate::tensor::DType;

mod avg_pool2d;
mod conv2d;
mod encode;
mod encoder;
mod fast;
mod linear;
mod max_pool2d;
mod simd;
mod top_k;

use simd::Kernels;

/// This machine's processor.
pub struct CpuDevice {
    info: DeviceInfo,
    /// `None` for the specification.
    fast: Option<FastPath>,
}

/// What the fast path shares among its programs.
struct FastPath {
    kernels: Kernels,
    /// `None` for one thread: programs then run in the threads of their callers.
    pool: Option<Arc<ThreadPool>>,
    store: fast::Store,
}

impl fmt::Debug for CpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuDevice({})", self.info.name)
    }
}

impl CpuDevice {
    /// The fast path on `threads` threads; 0 takes every core.
    ///
    /// One thread means the caller's own: programs of several workers then run side by side. More are a pool that the
    /// device's programs share.
    pub fn new(threads: usize) -> Result<Self, BackendError> {
        Self::with_kernels(threads, Kernels::detect())
    }

    /// The fast path once for each instruction set that this processor has, best first; for tests and measurements.
    pub fn every_instruction_set(threads: usize) -> Result<Vec<Self>, BackendError> {
        Kernels::all()
            .into_iter()
            .map(|kernels| Self::with_kernels(threads, kernels))
            .collect()
    }

    fn with_kernels(threads: usize, kernels: Kernels) -> Result<Self, BackendError> {
        let threads = if threads == 0 {
            available_cores()
        } else {
            threads
        };
        let info = DeviceInfo {
            features: vec![kernels.name.into(), format!("{threads} threads")],
            ..Self::describe()
        };
        let pool = || {
            let refused = |e: rayon::ThreadPoolBuildError| BackendError::Driver {
                device: info.name.clone(),
                call: "starting threads",
                reason: e.to_string(),
            };
            let name = |i| format!("collage-cpu-{i}");
            ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(name)
                .build()
                .map(Arc::new)
                .map_err(refused)
        };
        let pool = if threads > 1 { Some(pool()?) } else { None };
        Ok(Self {
            info,
            fast: Some(FastPath {
                kernels,
                pool,
                store: fast::Store::default(),
            }),
        })
    }

    /// This processor, and what of it the fast path uses.
    pub fn describe() -> DeviceInfo {
        DeviceInfo {
            backend: BackendKind::Cpu,
            index: 0,
            name: processor_name(),
            driver: String::new(),
            memory_bytes: memory_bytes(),
            features: vec![
                Kernels::detect().name.into(),
                format!("{} cores", available_cores()),
            ],
            software: false,
        }
    }

    /// Runs the specification: slow, one thread, nothing to tune.
    pub fn reference() -> Self {
        let info = DeviceInfo {
            name: "cpu reference".into(),
            features: Vec::new(),
            ..Self::describe()
        };
        Self { info, fast: None }
    }
}

fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// All of the machine's memory, where the kernel reports it in a file.
fn memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// As the kernel reports it where that is a file, else the architecture.
fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(
        || std::env::consts::ARCH.to_string(),
        |(_, name)| name.trim().to_string(),
    )
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn load(&self, plan: Arc<Plan>) -> Result<Box<dyn Program>, BackendError> {
        check::check(&plan)?;
        // A file can ask for any arena, and the system may promise memory that it does not have.
        let allowed = self.info.memory_bytes.unwrap_or(u64::MAX);
        if arena_bytes(&plan) > allowed {
            return Err(out_of_memory(&self.info, &plan, allowed));
        }
        Ok(match &self.fast {
            Some(f) => Box::new(fast::Fast::new(
                plan,
                &self.info,
                &f.store,
                f.kernels,
                f.pool.clone(),
            )?),
            None => Box::new(Reference::new(plan)),
        })
    }
}

/// Of the arena, which is f32 here whatever the plan's dtype.
fn arena_bytes(plan: &Plan) -> u64 {
    (plan.arena_len as u64).saturating_mul(size_of::<f32>() as u64)
}

/// The arena of `plan` cannot be had.
fn out_of_memory(info: &DeviceInfo, plan: &Plan, allowed: u64) -> BackendError {
    BackendError::OutOfMemory {
        device: info.name.clone(),
        plan: plan.name.clone(),
        needed: arena_bytes(plan),
        allowed,
    }
}

/// A plan run by the specification.
struct Reference {
    plan: Arc<Plan>,
    /// As the plan's dtype holds them.
    weights: Vec<Vec<f32>>,
    /// Activations, in f32 whatever the dtype.
    arena: Vec<f32>,
}

impl Reference {
    fn new(plan: Arc<Plan>) -> Self {
        let weights = rounded_weights(&plan.weights, plan.dtype);
        let arena = vec![0.0; plan.arena_len];
        Self {
            plan,
            weights,
            arena,
        }
    }

    fn read(&self, id: ValueId) -> (&[f32], [usize; 4]) {
        let v = self.plan.values[id.0];
        (&self.arena[v.offset..][..v.len()], v.shape)
    }

    /// One step's output, in full precision; `None` for `top_k`, whose result leaves the device.
    fn compute(
        &self,
        step: &Step,
        images: &[Image],
    ) -> Result<Option<(ValueId, Vec<f32>)>, BackendError> {
        let shape = |id: ValueId| self.plan.values[id.0].shape;
        Ok(Some(match step {
            Step::Encode(e) => {
                let canvases = encode::encode(e, self.plan.batch, images)
                    .ok_or_else(|| uncroppable(&self.plan))?;
                (e.output, canvases)
            }
            Step::Conv2d(c) => {
                let operands = conv2d::Operands {
                    input: self.read(c.input),
                    weight: &self.weights[c.weight.0],
                    bias: &self.weights[c.bias.0],
                    residual: c.residual.map(|r| self.read(r.value)),
                };
                (c.output, conv2d::conv2d(c, operands, shape(c.output)))
            }
            Step::MaxPool2d(p) => {
                let (input, from) = self.read(p.input);
                (
                    p.output,
                    max_pool2d::max_pool2d(p, input, from, shape(p.output)),
                )
            }
            Step::AvgPool2d(p) => {
                let (input, from) = self.read(p.input);
                (
                    p.output,
                    avg_pool2d::avg_pool2d(p, input, from, shape(p.output)),
                )
            }
            Step::Linear(l) => {
                let (input, _) = self.read(l.input);
                (
                    l.output,
                    linear::linear(input, &self.weights[l.weight.0], &self.weights[l.bias.0]),
                )
            }
            Step::TopK(_) => return Ok(None),
        }))
    }

    fn store(&mut self, value: Value, data: &[f32]) {
        let place = &mut self.arena[value.offset..][..value.len()];
        place.copy_from_slice(data);
        round(place, self.plan.dtype);
    }
}

impl Program for Reference {
    fn run(&mut self, input: Input<'_>) -> Result<Output, BackendError> {
        check::input(&self.plan, input, None)?;
        let plan = self.plan.clone();
        let images = match input {
            Input::Images(images) => images,
            Input::Tensor(data) => {
                self.store(plan.values[0], data);
                &[]
            }
        };
        for step in &plan.steps {
            if let Some((id, data)) = self.compute(step, images)? {
                self.store(plan.values[id.0], &data);
            }
        }
        Ok(result(&plan, input, |id| self.read(id).0))
    }
}

/// The weights as the plan's dtype holds them.
fn rounded_weights(weights: &Weights, dtype: DType) -> Vec<Vec<f32>> {
    let rounded = |data: &[f32]| {
        let mut data = data.to_vec();
        round(&mut data, dtype);
        data
    };
    weights.tensors.iter().map(|t| rounded(t.data())).collect()
}

/// What storing `data` as `dtype` does to it.
fn round(data: &mut [f32], dtype: DType) {
    if dtype != DType::F32 {
        data.iter_mut().for_each(|x| *x = dtype.rounded(*x));
    }
}

fn uncroppable(plan: &Plan) -> BackendError {
    BackendError::Input {
        plan: plan.name.clone(),
        what: "was given an image that cannot be resized".into(),
        expected: "sides that fit in memory after resizing".into(),
    }
}

/// A run's result, from the values that the last step left.
fn result<'a>(plan: &Plan, input: Input<'_>, read: impl Fn(ValueId) -> &'a [f32]) -> Output {
    let last = plan.steps.last();
    match last {
        Some(Step::TopK(t)) => {
            let classes = plan.values[t.input.0].shape[3];
            let mut logits = read(t.input);
            if let Input::Images(images) = input {
                // Rows are tiles in order, so those without an image are the last.
                logits = logits.get(..images.len() * classes).unwrap_or(logits);
            }
            Output::TopK(top_k::top_k(t, logits, classes))
        }
        _ => Output::Tensor(
            last.and_then(Step::writes)
                .map_or_else(Vec::new, |id| read(id).to_vec()),
        ),
    }
}
