//! Backends: where a plan runs. A [`Device`] loads plans; a [`Program`] is a plan that is ready to run.
//!
//! The trait is small on purpose: a plan is data, so a new op is a new [`Step`](crate::model::plan::Step) and not a
//! new method. `cpu` is the specification that the others are tested against.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Classify;
use crate::image::Image;
use crate::model::check::PlanError;
use crate::model::plan::Plan;

pub mod check;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod device_list;
pub mod discover;
pub mod resample;
pub mod timing;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod top_k;
#[cfg(feature = "wgpu")]
pub mod webgpu;

pub use device_list::{DeviceList, DeviceListError};
pub use discover::{DeviceSpec, DeviceSpecError, Found, discover, open};
pub use timing::{Choice, Timings};

/// Which implementation runs the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// Portable and SIMD Rust.
    Cpu,
    /// WGSL on Vulkan, Metal or DirectX 12.
    Wgpu,
    /// CUDA kernels.
    Cuda,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendKind::Cpu => "cpu",
            BackendKind::Wgpu => "wgpu",
            BackendKind::Cuda => "cuda",
        })
    }
}

/// What is known of a device before anything runs on it.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Its backend.
    pub backend: BackendKind,
    /// Among the devices of its backend.
    pub index: usize,
    /// As its driver calls it.
    pub name: String,
    /// Driver name and version; empty for the CPU.
    pub driver: String,
    /// Device memory, where known.
    pub memory_bytes: Option<u64>,
    /// Features that the kernels use here, such as "avx512f" or "shader-f16".
    pub features: Vec<String>,
    /// A GPU interface emulated on the CPU.
    pub software: bool,
}

/// One result of a top-k row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Class index.
    pub class: u32,
    /// Softmax probability, 0..=1.
    pub score: f32,
}

/// A row of logits as [`top_k`](crate::model::plan::TopK) answers it, `k` of 1 or more: for answers that are worked out on
/// the host.
pub fn best(k: usize, temperature: f32, logits: &[f32]) -> Vec<Scored> {
    cpu::best(k, temperature, logits)
}

/// What a run is given.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// For plans that begin with `encode`: 1 to `plan.capacity()` images, of any sizes. The remaining tiles are blank.
    Images(&'a [Image]),
    /// For plans without `encode`: value 0, (N, H, W, C) of the whole batch.
    Tensor(&'a [f32]),
}

/// What a run gives back.
#[derive(Clone, Debug)]
pub enum Output {
    /// From a plan that ends with `top_k`: one entry an image (blank tiles left out), or a row for a tensor input;
    /// each holds k results, best first.
    TopK(Vec<Vec<Scored>>),
    /// From other plans: the last value, whole batch.
    Tensor(Vec<f32>),
}

/// A device that plans can be loaded onto. Opened once; shared by its workers.
pub trait Device: Send + Sync + fmt::Debug {
    /// What it is.
    fn info(&self) -> &DeviceInfo;
    /// Where an NVIDIA GPU is on its machine, as "0000:01:00.0", by which NVML knows it too; `None` for other devices.
    fn pci_bus_id(&self) -> Option<String> {
        None
    }
    /// Puts the plan's weights on the device (once for all plans that share them), builds its pipelines and takes
    /// all the memory that its runs need.
    fn load(&self, plan: Arc<Plan>) -> Result<Box<dyn Program>, BackendError>;
    /// What each step of the plan would be run by, in order. Loads nothing.
    fn explain(&self, plan: &Plan) -> Result<Vec<Choice>, BackendError> {
        Ok(timing::by_op(plan))
    }
}

/// A plan ready to run on one device. Not shared: each worker has its own.
pub trait Program: Send {
    /// Runs the whole plan and waits for its result.
    fn run(&mut self, input: Input<'_>) -> Result<Output, BackendError>;
    /// As [`run`](Self::run), and where its time went; `None` where the backend cannot tell.
    fn run_timed(&mut self, input: Input<'_>) -> Result<(Output, Option<Timings>), BackendError> {
        Ok((self.run(input)?, None))
    }
    /// Runs the plan's steps `times` times, back to back, on what the last run left on the device: nothing is uploaded
    /// or downloaded. Gives the device's time for all of them; `None`, and runs nothing, where the backend cannot tell
    /// or nothing has run yet.
    fn run_resident(&mut self, _times: u32) -> Result<Option<Duration>, BackendError> {
        Ok(None)
    }
}

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The input does not fit the plan.
    #[error("plan {plan}: {what}; expected {expected}")]
    Input {
        /// Plan name.
        plan: String,
        /// What was given.
        what: String,
        /// What the plan takes.
        expected: String,
    },
    /// The plan contradicts itself; the plan compiler makes no such plan.
    #[error(transparent)]
    InvalidPlan(#[from] PlanError),
    /// The plan asks for something that this device cannot do.
    #[error("{device}: {what}")]
    Unsupported {
        /// Device name.
        device: String,
        /// What it lacks.
        what: String,
    },
    /// More memory than the device gives.
    #[error(
        "{device}: plan {plan} needs {needed} bytes in one buffer, the device allows {allowed}"
    )]
    OutOfMemory {
        /// Device name.
        device: String,
        /// Plan name.
        plan: String,
        /// Bytes asked for.
        needed: u64,
        /// Bytes possible.
        allowed: u64,
    },
    /// The device went away; its work must be placed elsewhere.
    #[error("{device}: device lost: {reason}")]
    DeviceLost {
        /// Device name.
        device: String,
        /// As the driver says.
        reason: String,
    },
    /// No such device on this machine.
    #[error("no {backend} device {index}: {reason}")]
    NoDevice {
        /// Which backend was asked for.
        backend: BackendKind,
        /// Which of its devices.
        index: usize,
        /// Why not, and what to do.
        reason: String,
    },
    /// The driver refused a call that was expected to work.
    #[error("{device}: {call}: {reason}")]
    Driver {
        /// Device name.
        device: String,
        /// The call.
        call: &'static str,
        /// As the driver says.
        reason: String,
    },
    /// A kernel must be compiled, and there is nothing to compile it with.
    #[error("{device}: {unit} is not compiled: {reason}")]
    NoCompiler {
        /// Device name, or the architecture that is compiled for.
        device: String,
        /// Kernel file, element type and architecture.
        unit: String,
        /// Why not, and how to get a compiler.
        reason: String,
    },
    /// A kernel does not compile.
    #[error("{device}: {unit} does not compile:\n{log}")]
    Compile {
        /// Device name, or the architecture that is compiled for.
        device: String,
        /// Kernel file, element type and architecture.
        unit: String,
        /// The compiler's.
        log: String,
    },
    /// The driver is older than what it is given.
    #[error(
        "{device}: the driver supports {driver}, but {needed} is needed; update NVIDIA's driver"
    )]
    DriverTooOld {
        /// Device name.
        device: String,
        /// What it supports.
        driver: String,
        /// What it is given.
        needed: String,
    },
    /// A compiled kernel, or the compiler, is for other architectures than the device's.
    #[error("{device}: {what}")]
    WrongArchitecture {
        /// Device name, or the architecture that is compiled for.
        device: String,
        /// Which does not fit, and what to do.
        what: String,
    },
    /// The device has too little memory left.
    #[error("{device}: plan {plan} needs {needed} bytes, {free} are free; {}", would_fit(*.fits))]
    DeviceFull {
        /// Device name.
        device: String,
        /// Plan name.
        plan: String,
        /// Bytes that are not on the device yet.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The largest batch that would fit, roughly; 0: none.
        fits: usize,
    },
}

fn would_fit(batch: usize) -> String {
    match batch {
        0 => "free some, or use a device with more".into(),
        n => format!("a batch of about {n} would fit"),
    }
}

impl Classify for BackendError {
    fn code(&self) -> u32 {
        match self {
            BackendError::Input { .. } => 300,
            BackendError::InvalidPlan(_) => 301,
            BackendError::Unsupported { .. } => 302,
            BackendError::OutOfMemory { .. } => 303,
            BackendError::DeviceLost { .. } => 304,
            BackendError::NoDevice { .. } => 305,
            BackendError::Driver { .. } => 306,
            BackendError::NoCompiler { .. } => 307,
            BackendError::Compile { .. } => 308,
            BackendError::DriverTooOld { .. } => 309,
            BackendError::WrongArchitecture { .. } => 310,
            BackendError::DeviceFull { .. } => 311,
        }
    }
    /// A lost device can come back after it is opened anew; memory can become free.
    fn can_retry(&self) -> bool {
        matches!(
            self,
            BackendError::DeviceLost { .. }
                | BackendError::OutOfMemory { .. }
                | BackendError::DeviceFull { .. }
        )
    }
}
