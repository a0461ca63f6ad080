//! What NVIDIA's management library says of the GPUs of this machine: the driver, names, memory and temperatures, or
//! why it says nothing. The library is loaded at run time, so a machine without it still starts.

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

/// The driver and its GPUs.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Such as "580.65.06".
    pub driver: String,
    /// By index.
    pub gpus: Vec<Gpu>,
}

/// One GPU. A figure that it does not report is `None`.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// NVML's, which need not be CUDA's.
    pub index: u32,
    /// Such as "NVIDIA H200".
    pub name: String,
    /// On the device.
    pub memory_bytes: Option<u64>,
    /// Of these, taken by anyone.
    pub memory_used_bytes: Option<u64>,
    /// Of the die, in degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Of the multiprocessors, at this moment.
    pub sm_clock_mhz: Option<u32>,
    /// Of the memory, at this moment.
    pub memory_clock_mhz: Option<u32>,
    /// The highest that the multiprocessors can have.
    pub sm_clock_limit_mhz: Option<u32>,
    /// Why the clocks are lower than they could be, in NVML's words, such as `HW_SLOWDOWN`; empty where nothing
    /// lowers them.
    pub slowed_by: Vec<String>,
}

/// Why there is nothing to monitor. NVML is optional: nothing fails because of this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NvmlUnavailable {
    /// No such library: most machines without an NVIDIA driver.
    #[error("the NVML library is not installed; it comes with the NVIDIA driver")]
    NoLibrary,
    /// The library is there and the kernel module is not.
    #[error(
        "NVML is installed, but the NVIDIA kernel driver is not loaded; load it, or expose the GPU to this container"
    )]
    NoDriver,
    /// The driver did not let this user in.
    #[error("NVML refuses this user; run as one who may use the GPU devices")]
    NoPermission,
    /// Anything else that NVML names.
    #[error("NVML: {0}")]
    Other(String),
}

impl From<NvmlError> for NvmlUnavailable {
    fn from(error: NvmlError) -> Self {
        match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => Self::NoLibrary,
            NvmlError::DriverNotLoaded => Self::NoDriver,
            NvmlError::NoPermission => Self::NoPermission,
            other => Self::Other(other.to_string()),
        }
    }
}

/// Loads NVML, asks it once and lets it go.
///
/// # Errors
/// Where NVML is absent or does not answer at all. A GPU that does not report one figure is no error.
pub fn survey() -> Result<Survey, NvmlUnavailable> {
    let nvml = load()?;
    let driver = nvml.sys_driver_version()?;
    let mut gpus = Vec::new();
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        let memory = device.memory_info().ok();
        gpus.push(Gpu {
            index,
            name: device.name()?,
            memory_bytes: memory.as_ref().map(|m| m.total),
            memory_used_bytes: memory.as_ref().map(|m| m.used),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
            sm_clock_mhz: device.clock_info(Clock::SM).ok(),
            memory_clock_mhz: device.clock_info(Clock::Memory).ok(),
            sm_clock_limit_mhz: device.max_clock_info(Clock::SM).ok(),
            slowed_by: slowed_by(&device),
        });
    }
    Ok(Survey { driver, gpus })
}

/// An idle GPU is slow by choice: that is left out.
fn slowed_by(device: &nvml_wrapper::Device<'_>) -> Vec<String> {
    let reasons = device.current_throttle_reasons();
    let reasons = reasons.unwrap_or(ThrottleReasons::NONE) - ThrottleReasons::GPU_IDLE;
    reasons.iter_names().map(|(name, _)| name.into()).collect()
}

/// The unversioned name is only there with development packages; containers carry the versioned one alone.
fn load() -> Result<Nvml, NvmlError> {
    let found = Nvml::init();
    match found {
        Err(NvmlError::LibloadingError(_)) if cfg!(target_os = "linux") => Nvml::builder()
            .lib_path("libnvidia-ml.so.1".as_ref())
            .init(),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_is_an_answer_or_a_reason_and_never_a_panic() {
        match survey() {
            Ok(survey) => assert!(
                !survey.driver.is_empty() && survey.gpus.iter().all(|gpu| !gpu.name.is_empty())
            ),
            Err(reason) => assert!(!reason.to_string().is_empty()),
        }
    }

    #[test]
    fn each_cause_keeps_its_own_advice() {
        let advice = |e: NvmlError| NvmlUnavailable::from(e).to_string();
        assert!(advice(NvmlError::LibraryNotFound).contains("comes with the NVIDIA driver"));
        assert!(advice(NvmlError::DriverNotLoaded).contains("kernel driver"));
        assert!(advice(NvmlError::NoPermission).contains("user"));
        assert!(advice(NvmlError::GpuLost).contains("fell off the bus"));
    }
}
