//! A device that need not be there, described in a word, and what a plan would run by on it.

use std::fmt;
use std::str::FromStr;

use super::architecture::{Architecture, ArchitectureError};
use super::conv2d::DeviceDescription;
use super::options::CudaOptions;
use super::outline;
use crate::backend::{BackendError, Choice, check};
use crate::model::plan::Plan;

impl FromStr for DeviceDescription {
    type Err = ArchitectureError;

    /// `sm_90a`, or `sm_90a:114` with another number of multiprocessors than the largest device of the architecture has
    /// that is sold for servers.
    fn from_str(given: &str) -> Result<Self, ArchitectureError> {
        let wrong = || ArchitectureError {
            given: given.into(),
        };
        let (name, count) = match given.split_once(':') {
            Some((name, count)) => {
                let count = count.parse().ok().filter(|n| (1..=1024).contains(n));
                (name, Some(count.ok_or_else(wrong)?))
            }
            None => (given, None),
        };
        let architecture: Architecture = name.parse()?;
        // Multiprocessors, and KiB of shared memory that a block can ask for (CUDA C++ Programming Guide, compute
        // capabilities).
        let (multiprocessors, shared) = match architecture.number() {
            ..80 => (72, 64),
            80 => (108, 163),
            81..86 => (108, 99),
            86 => (84, 99),
            87 => (16, 163),
            88..90 => (142, 99),
            90 => (132, 227),
            91..120 => (148, 227),
            _ => (188, 99),
        };
        Ok(Self {
            architecture,
            multiprocessors: count.unwrap_or(multiprocessors),
            shared_bytes: shared * 1024,
        })
    }
}

impl fmt::Display for DeviceDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.shared_bytes / 1024;
        write!(
            f,
            "{} with {} multiprocessors and {kib} KiB of shared memory a block, described",
            self.architecture, self.multiprocessors
        )
    }
}

impl DeviceDescription {
    /// As [`Device::explain`](crate::backend::Device::explain), for such a device with the usual options.
    pub fn explain(&self, plan: &Plan) -> Result<Vec<Choice>, BackendError> {
        check::check(plan)?;
        let steps = outline::explain(plan, self, &CudaOptions::default());
        Ok(steps.into_iter().map(super::device::choice).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_described_by_its_architecture_and_perhaps_its_size() {
        let described = |text: &str| text.parse::<DeviceDescription>().unwrap();
        let whole = described("sm_90a");
        assert_eq!((whole.multiprocessors, whole.shared_bytes), (132, 232_448));
        assert_eq!(described("90a:114").multiprocessors, 114);
        assert_eq!(described("75").shared_bytes, 65_536);
        for wrong in ["", "sm_90a:", "sm_90a:0", "sm_60:10", "H100"] {
            let error = wrong.parse::<DeviceDescription>().unwrap_err();
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }
}
