//! The WebGPU backend: hand-written WGSL (shaders/) on Vulkan, Metal or DirectX 12.
//!
//! A [`Program`](crate::backend::Program) builds everything once: pipelines, arguments, bind groups, the arena. A run
//! uploads its input, submits one command buffer and waits for the few bytes that it asked for. Pipelines and weights
//! are shared by the programs of a device; programs on several threads run at the same time.
//!
//! `device` is an open adapter; `program` a plan on it, put together by `builder`; `conv2d` chooses among the
//! convolutions; `encode` is the part whose size differs from run to run; `pack` orders weights, `args` mirrors the
//! shaders' arguments, `shaders` holds the sources, `turns` knows what software adapters cannot finish, and `raw` is
//! where the only unsafe call is.

use std::sync::Arc;

use crate::backend::{BackendError, BackendKind, Device, DeviceInfo};

mod args;
mod builder;
mod conv2d;
mod device;
mod encode;
mod pack;
mod program;
mod raw;
mod shaders;
mod turns;

pub use device::{Convolution, WebGpuDevice};

/// What to do where there is no adapter.
const INSTALL: &str = "no adapter; install a Vulkan driver (for software rendering on Debian or Ubuntu: mesa-vulkan-drivers)";

fn adapters() -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        // Validation layers are a matter of this crate's tests, not of its users.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    // GPUs before adapters that a CPU emulates; otherwise in the driver's order.
    adapters.sort_by_key(|a| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => 2,
        wgpu::DeviceType::Cpu => 3,
    });
    adapters
}

/// The adapters of this machine, GPUs first. Empty where there is none.
pub fn enumerate() -> Result<Vec<DeviceInfo>, BackendError> {
    Ok(adapters()
        .iter()
        .enumerate()
        .map(|(i, adapter)| device::describe(i, adapter))
        .collect())
}

/// Opens adapter `index` of [`enumerate`].
///
/// # Errors
/// [`BackendError::NoDevice`] when there is no such adapter, [`BackendError::Driver`] when it cannot be opened.
pub fn open(index: usize) -> Result<Arc<dyn Device>, BackendError> {
    Ok(Arc::new(open_device(index, None)?))
}

/// Opens adapter `index`, running this convolution instead of the one that suits the adapter.
///
/// # Errors
/// As [`open`], and [`BackendError::Unsupported`] when the adapter cannot run that convolution.
pub fn open_device(
    index: usize,
    convolution: Option<Convolution>,
) -> Result<WebGpuDevice, BackendError> {
    let adapters = adapters();
    let adapter = adapters.get(index).ok_or_else(|| BackendError::NoDevice {
        backend: BackendKind::Wgpu,
        index,
        reason: match adapters.len() {
            0 => INSTALL.into(),
            n => format!("this machine has {n}, numbered from 0"),
        },
    })?;
    WebGpuDevice::open(index, adapter, convolution)
}
