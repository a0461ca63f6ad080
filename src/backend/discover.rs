//! Which devices this machine has, and the device flag that chooses one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::backend::cpu::CpuDevice;
use crate::backend::{BackendError, BackendKind, Device, DeviceInfo};
use crate::error::Classify;

/// The device flag: `auto | cuda[:INDEX] | wgpu[:INDEX] | cpu[:THREADS]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// The best usable device: a GPU if there is one, else the CPU. Never a GPU interface emulated on the CPU, which
    /// is slower than the CPU backend itself.
    #[default]
    Auto,
    /// A CUDA device.
    Cuda(usize),
    /// A WebGPU adapter.
    Wgpu(usize),
    /// This processor, with so many threads; all of its cores when `None`.
    Cpu(Option<usize>),
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceSpec::Auto => f.write_str("auto"),
            DeviceSpec::Cuda(index) => write!(f, "cuda:{index}"),
            DeviceSpec::Wgpu(index) => write!(f, "wgpu:{index}"),
            DeviceSpec::Cpu(None) => f.write_str("cpu"),
            DeviceSpec::Cpu(Some(threads)) => write!(f, "cpu:{threads}"),
        }
    }
}

/// A device flag that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--device {given}: expected auto, cuda[:INDEX], wgpu[:INDEX] or cpu[:THREADS] with 1 to 1024 threads"
)]
pub struct DeviceSpecError {
    /// As given.
    pub given: String,
}

impl Classify for DeviceSpecError {
    fn code(&self) -> u32 {
        320
    }
    fn can_retry(&self) -> bool {
        false
    }
}

impl FromStr for DeviceSpec {
    type Err = DeviceSpecError;

    fn from_str(given: &str) -> Result<Self, DeviceSpecError> {
        let (backend, number) = match given.split_once(':') {
            Some((backend, number)) => (backend, Some(number.parse::<usize>().ok())),
            None => (given, None),
        };
        match (backend, number) {
            ("auto", None) => Ok(DeviceSpec::Auto),
            ("cuda", None) => Ok(DeviceSpec::Cuda(0)),
            ("cuda", Some(Some(index))) => Ok(DeviceSpec::Cuda(index)),
            ("wgpu", None) => Ok(DeviceSpec::Wgpu(0)),
            ("wgpu", Some(Some(index))) => Ok(DeviceSpec::Wgpu(index)),
            ("cpu", None) => Ok(DeviceSpec::Cpu(None)),
            ("cpu", Some(Some(threads))) if (1..=1024).contains(&threads) => {
                Ok(DeviceSpec::Cpu(Some(threads)))
            }
            _ => Err(DeviceSpecError {
                given: given.into(),
            }),
        }
    }
}

/// What a look at one backend found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A device that plans run on.
    Usable(DeviceInfo),
    /// A backend, or one of its devices, that cannot run plans.
    Unusable {
        /// The backend.
        backend: BackendKind,
        /// The device, when there is one.
        info: Option<DeviceInfo>,
        /// Why not.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
}

/// Every device of every backend, usable or not, in the order in which `auto` prefers them.
pub fn discover() -> Vec<Found> {
    let mut found = cuda();
    let mut adapters = wgpu();
    // Stable: real adapters first, in their own order.
    adapters.sort_by_key(|f| matches!(f, Found::Usable(info) if info.software));
    found.append(&mut adapters);
    found.push(Found::Usable(CpuDevice::describe()));
    found
}

/// All usable devices of a kind. An adapter that is emulated on the CPU counts only where there is no other.
///
/// # Errors
/// [`BackendError::NoDevice`] if there is none, with the reason.
pub(super) fn all_of(kind: BackendKind) -> Result<Vec<DeviceSpec>, BackendError> {
    let (mut real, mut software) = (Vec::new(), Vec::new());
    let mut reason = "none is usable".to_owned();
    for found in discover() {
        match found {
            Found::Usable(info) if info.backend == kind => {
                let spec = match kind {
                    BackendKind::Cuda => DeviceSpec::Cuda(info.index),
                    BackendKind::Wgpu => DeviceSpec::Wgpu(info.index),
                    BackendKind::Cpu => DeviceSpec::Cpu(None),
                };
                let list = if info.software {
                    &mut software
                } else {
                    &mut real
                };
                list.push(spec);
            }
            Found::Unusable {
                backend,
                reason: why,
                remedy,
                ..
            } if backend == kind => reason = format!("{why}; {remedy}"),
            _ => {}
        }
    }
    let found = if real.is_empty() { software } else { real };
    if found.is_empty() {
        return Err(BackendError::NoDevice {
            backend: kind,
            index: 0,
            reason,
        });
    }
    Ok(found)
}

/// Opens what the flag names.
pub fn open(spec: &DeviceSpec) -> Result<Arc<dyn Device>, BackendError> {
    match *spec {
        DeviceSpec::Auto => open_best(),
        DeviceSpec::Cuda(index) => open_cuda(index),
        DeviceSpec::Wgpu(index) => open_wgpu(index),
        DeviceSpec::Cpu(threads) => Ok(Arc::new(CpuDevice::new(threads.unwrap_or(0))?)),
    }
}

/// The first CUDA device that opens, else the first real adapter, else the CPU.
fn open_best() -> Result<Arc<dyn Device>, BackendError> {
    for found in cuda() {
        if let Found::Usable(info) = found
            && let Ok(device) = open_cuda(info.index)
        {
            return Ok(device);
        }
    }
    for found in wgpu() {
        if let Found::Usable(info) = found
            && !info.software
            && let Ok(device) = open_wgpu(info.index)
        {
            return Ok(device);
        }
    }
    open(&DeviceSpec::Cpu(None))
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Vec<Found> {
    let none = |reason: String| {
        vec![Found::Unusable {
            backend: BackendKind::Wgpu,
            info: None,
            reason,
            remedy: "install a Vulkan driver (on Debian and Ubuntu: mesa-vulkan-drivers, or the GPU vendor's)".into(),
        }]
    };
    match crate::backend::webgpu::enumerate() {
        Ok(adapters) if adapters.is_empty() => none("no adapter was found".into()),
        Ok(adapters) => adapters.into_iter().map(Found::Usable).collect(),
        Err(error) => none(error.to_string()),
    }
}

#[cfg(feature = "wgpu")]
fn open_wgpu(index: usize) -> Result<Arc<dyn Device>, BackendError> {
    crate::backend::webgpu::open(index)
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Vec<Found> {
    vec![left_out(BackendKind::Wgpu)]
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(index: usize) -> Result<Arc<dyn Device>, BackendError> {
    let reason = "this binary was built without it; build with --features wgpu".into();
    Err(BackendError::NoDevice {
        backend: BackendKind::Wgpu,
        index,
        reason,
    })
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Found> {
    crate::backend::cuda::discover()
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Arc<dyn Device>, BackendError> {
    crate::backend::cuda::open(index)
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Found> {
    vec![left_out(BackendKind::Cuda)]
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> Result<Arc<dyn Device>, BackendError> {
    let reason = "this binary was built without it; build with --features cuda".into();
    Err(BackendError::NoDevice {
        backend: BackendKind::Cuda,
        index,
        reason,
    })
}

/// A backend that this binary does not have.
#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn left_out(backend: BackendKind) -> Found {
    Found::Unusable {
        backend,
        info: None,
        reason: "this binary was built without it".into(),
        remedy: format!("build with --features {backend}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_flags_print_as_they_are_read() {
        for flag in ["auto", "cuda:0", "cuda:3", "wgpu:1", "cpu", "cpu:2"] {
            assert_eq!(flag.parse::<DeviceSpec>().unwrap().to_string(), flag);
        }
        assert_eq!("cuda".parse(), Ok(DeviceSpec::Cuda(0)));
        assert_eq!("wgpu".parse(), Ok(DeviceSpec::Wgpu(0)));
    }

    #[test]
    fn wrong_device_flags_are_named() {
        for flag in [
            "", "gpu", "auto:1", "cpu:0", "cpu:", "cpu:-1", "cpu:1025", "cuda:x", "wgpu:1:2", "CPU",
        ] {
            let error = flag.parse::<DeviceSpec>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("--device {flag}: expected auto")),
                "{error}"
            );
        }
    }

    #[test]
    fn every_backend_is_reported_and_the_cpu_is_usable() {
        let found = discover();
        for kind in [BackendKind::Cpu, BackendKind::Wgpu, BackendKind::Cuda] {
            let is = |f: &&Found| match f {
                Found::Usable(info) => info.backend == kind,
                Found::Unusable {
                    backend, remedy, ..
                } => *backend == kind && !remedy.is_empty(),
            };
            assert!(found.iter().any(|f| is(&f)), "{kind}");
        }
        assert!(
            matches!(found.last(), Some(Found::Usable(info)) if info.backend == BackendKind::Cpu)
        );
    }

    #[test]
    fn auto_never_opens_a_software_adapter() {
        assert!(!open(&DeviceSpec::Auto).unwrap().info().software);
    }

    #[test]
    fn devices_that_cannot_be_opened_say_what_to_do() {
        let error = open(&DeviceSpec::Cuda(0)).unwrap_err();
        assert!(
            error.to_string().starts_with("no cuda device 0: "),
            "{error}"
        );
        assert!(open(&DeviceSpec::Wgpu(1000)).is_err());
    }
}
