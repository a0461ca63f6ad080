//! The CUDA backend: hand-written kernels (kernels/) on NVIDIA's GPUs from sm_75 on.
//!
//! A [`Program`](crate::backend::Program) builds everything once: cubins, memory, arguments, and one CUDA graph of all its
//! steps and the download of their result. A run copies its images to pinned memory, uploads them in one piece, launches
//! the graph and waits. Cubins and weights are shared by the programs of a device; each program has a stream of its own.
//!
//! `device` is an open device; `program` a plan on it, which `outline` turns into kernels and grids (`conv2d` chooses among
//! the convolutions), `budget` into bytes and `builder` into launches; `encode` is the part whose size differs from run to
//! run, `measure` times it; `pack` orders weights and `args` mirrors the kernels' arguments. `kernels` is the table of entries, `compile` makes
//! cubins of them, `cache` keeps those, `usage` reads what they use. `raw` holds the driver, NVRTC and all unsafe code.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::discover::Found;
use crate::backend::{BackendError, BackendKind, Device, DeviceInfo};

mod architecture;
mod args;
mod budget;
mod builder;
pub mod cache;
mod compile;
pub mod conv2d;
mod described;
mod device;
mod encode;
pub mod kernels;
mod measure;
mod options;
mod outline;
mod pack;
mod program;
mod raw;
mod usage;

pub use architecture::{Architecture, ArchitectureError};
pub use compile::{Unit, compile_all};
pub use conv2d::DeviceDescription;
pub use device::CudaDevice;
pub use kernels::{Kernel, Tile, Variant};
pub use options::CudaOptions;
pub use outline::{ExplainedStep, explain};
pub use raw::device_image;
pub use usage::Usage;

use raw::{Description, Unavailable};

/// A panic while the lock was held leaves the data whole: every change under it is a single insertion.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every CUDA device, or why there is none, each with what to do where it is not usable.
pub fn discover() -> Vec<Found> {
    let unusable = |info: Option<DeviceInfo>, (reason, remedy): (String, &str)| Found::Unusable {
        backend: BackendKind::Cuda,
        info,
        reason,
        remedy: remedy.into(),
    };
    let devices = match raw::devices() {
        Err(why) => return vec![unusable(None, unavailable(&why))],
        Ok(devices) if devices.is_empty() => {
            let reason = "the driver lists no device".into();
            return vec![unusable(None, (reason, OTHERWISE))];
        }
        Ok(devices) => devices,
    };
    let found = devices.into_iter().map(|device| {
        let description = match device {
            Ok(description) => description,
            Err(refused) => return unusable(None, unavailable(&Unavailable::Refused(refused))),
        };
        match usable(&description) {
            (info, Ok(())) => Found::Usable(info),
            (info, Err(why)) => unusable(Some(info), why),
        }
    });
    found.collect()
}

const OTHERWISE: &str = "use --device wgpu or --device cpu, or install NVIDIA's driver";

/// Why there is no CUDA at all, and what to do.
fn unavailable(why: &Unavailable) -> (String, &'static str) {
    let update = "update NVIDIA's driver to one for CUDA 12.0 or newer";
    match why {
        Unavailable::NoLibrary => (
            "NVIDIA's driver library (libcuda.so.1, nvcuda.dll) was not found".into(),
            OTHERWISE,
        ),
        Unavailable::NoFunction(name) => (format!("NVIDIA's driver has no {name}"), update),
        Unavailable::TooOld(version) => {
            let version = device::version_text(*version);
            (format!("NVIDIA's driver supports {version}"), update)
        }
        Unavailable::Refused(r) => (format!("{}: {}", r.call, r.reason), OTHERWISE),
    }
}

/// The device as it would be opened; and if it cannot be, why not and what to do.
fn usable(description: &Description) -> (DeviceInfo, Result<(), (String, &'static str)>) {
    let architecture = Architecture::of_device(description.capability);
    let mut info = DeviceInfo {
        backend: BackendKind::Cuda,
        index: description.index,
        name: description.name.clone(),
        driver: device::version_text(description.driver),
        memory_bytes: Some(description.memory_bytes),
        features: vec![
            architecture.to_string(),
            format!("{} multiprocessors", description.multiprocessors),
        ],
        software: false,
    };
    if architecture.number() < Architecture::OLDEST {
        let reason = format!("its architecture, {architecture}, is older than sm_75");
        let remedy = "use --device wgpu, which runs on the same GPU through its Vulkan driver";
        return (info, Err((reason, remedy)));
    }
    match compile::check_source(architecture) {
        Ok(source) => {
            info.features.push(source);
            (info, Ok(()))
        }
        Err(reason) => {
            let reason = format!("{reason}, and this build has no cubins for {architecture}");
            (info, Err((reason, compile::GET_NVRTC)))
        }
    }
}

/// Opens device `index` of the driver's.
///
/// # Errors
/// As [`open_device`].
pub fn open(index: usize) -> Result<Arc<dyn Device>, BackendError> {
    Ok(Arc::new(open_device(index, CudaOptions::default())?))
}

/// Opens device `index` of the driver's, with these options.
///
/// # Errors
/// [`BackendError::NoDevice`] when there is no such device or it cannot run kernels, with why and what to do;
/// [`BackendError::DeviceLost`] or [`BackendError::Driver`] when the driver refuses it.
pub fn open_device(index: usize, options: CudaOptions) -> Result<CudaDevice, BackendError> {
    let none = |reason: String| BackendError::NoDevice {
        backend: BackendKind::Cuda,
        index,
        reason,
    };
    let explained = |why: Unavailable| {
        let (reason, remedy) = unavailable(&why);
        none(format!("{reason}; {remedy}"))
    };
    let devices = raw::devices().map_err(explained)?;
    let count = devices.len();
    let device = devices.into_iter().nth(index);
    let device = device.ok_or_else(|| match count {
        0 => none(format!("the driver lists no device; {OTHERWISE}")),
        n => none(format!("this machine has {n}, numbered from 0")),
    })?;
    let description = device.map_err(|r| explained(Unavailable::Refused(r)))?;
    let (info, can) = usable(&description);
    can.map_err(|(reason, remedy)| none(format!("{reason}; {remedy}")))?;
    let name = info.name.clone();
    CudaDevice::open(info, &description, options).map_err(|why| match why {
        Unavailable::Refused(r) if r.is_fatal() => BackendError::DeviceLost {
            device: name,
            reason: format!("{}: {}", r.call, r.reason),
        },
        Unavailable::Refused(r) => BackendError::Driver {
            device: name,
            call: r.call,
            reason: r.reason,
        },
        why => explained(why),
    })
}
