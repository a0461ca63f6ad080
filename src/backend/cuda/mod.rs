//! The CUDA backend's discovery: what NVIDIA hardware this machine has.
//!
//! This version has no CUDA kernels. It finds the devices, so that `collage devices` can name them and say how to use
//! them all the same: through their Vulkan driver.

use crate::backend::discover::Found;
use crate::backend::{BackendKind, DeviceInfo};

mod raw;

/// Every CUDA device, or why there is none.
pub fn discover() -> Vec<Found> {
    let unusable = |info: Option<DeviceInfo>, reason: String, remedy: &str| Found::Unusable {
        backend: BackendKind::Cuda,
        info,
        reason,
        remedy: remedy.into(),
    };
    match raw::devices() {
        Err(reason) => vec![unusable(
            None,
            reason,
            "use --device wgpu or --device cpu, or install NVIDIA's driver",
        )],
        Ok(devices) => devices
            .into_iter()
            .map(|info| {
                let reason = "CUDA kernels are not part of this version".into();
                unusable(
                    Some(info),
                    reason,
                    "use --device wgpu, which runs on the same GPU through its Vulkan driver",
                )
            })
            .collect(),
    }
}
