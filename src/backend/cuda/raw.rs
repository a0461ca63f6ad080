//! Calls into NVIDIA's driver library, which is loaded at run time and may be missing.

use std::ffi::c_int;

use cudarc::driver::{DriverError, result, sys};

use crate::backend::{BackendKind, DeviceInfo};

/// The devices that the driver lists, or why it lists none.
pub fn devices() -> Result<Vec<DeviceInfo>, String> {
    // SAFETY: only tries to open the driver's shared library; NVIDIA's has no constructor that misbehaves.
    if !unsafe { sys::is_culib_present() } {
        return Err("NVIDIA's driver library (libcuda.so.1, nvcuda.dll) was not found".into());
    }
    let refused = |call: &'static str| move |e: DriverError| format!("{call}: {}", describe(e));
    result::init().map_err(refused("cuInit"))?;
    let count = result::device::get_count().map_err(refused("cuDeviceGetCount"))?;
    if count == 0 {
        return Err("the driver lists no device".into());
    }
    let driver = version()?;
    (0..count)
        .map(|i| device(i, &driver).map_err(refused("cuDeviceGet")))
        .collect()
}

fn device(ordinal: c_int, driver: &str) -> Result<DeviceInfo, DriverError> {
    let device = result::device::get(ordinal)?;
    // SAFETY: `device` is a handle that the driver has just given.
    let memory = unsafe { result::device::total_mem(device)? };
    Ok(DeviceInfo {
        backend: BackendKind::Cuda,
        index: ordinal as usize,
        name: result::device::get_name(device)?,
        driver: driver.into(),
        memory_bytes: Some(memory as u64),
        features: Vec::new(),
        software: false,
    })
}

/// "CUDA 13.0": the newest CUDA that the driver supports.
fn version() -> Result<String, String> {
    let mut version: c_int = 0;
    // SAFETY: the driver writes one int to a live, aligned int.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    status
        .result()
        .map_err(|e| format!("cuDriverGetVersion: {}", describe(e)))?;
    Ok(format!("CUDA {}.{}", version / 1000, version % 1000 / 10))
}

/// The driver's own words, such as "no CUDA-capable device is detected".
fn describe(error: DriverError) -> String {
    error.error_string().map_or_else(
        |_| format!("{error:?}"),
        |s| s.to_string_lossy().into_owned(),
    )
}
