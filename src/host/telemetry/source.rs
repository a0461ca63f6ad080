//! Where readings come from: NVIDIA's management library, loaded at run time, or the reason why there are none.
//!
//! A machine without it is as good as any other, so its absence is an answer with advice and never a crash.

use std::path::Path;

use super::reading::{Gpu, Reading};
use crate::error::Classify;

/// The GPUs that NVML knows, ready to be read. Closed when it is dropped.
#[derive(Debug)]
pub struct Source {
    #[cfg(feature = "nvml")]
    driver: super::nvml::Driver,
    #[cfg(not(feature = "nvml"))]
    never: std::convert::Infallible,
}

#[cfg(feature = "nvml")]
impl Source {
    /// Loads `library`, or what the variable `COLLAGE_NVML` names, or the driver's own, and opens every GPU. A GPU that
    /// does not answer is there too, with its state.
    pub fn open(library: Option<&Path>) -> Result<Source, Unavailable> {
        let driver = super::nvml::Driver::open(library)?;
        Ok(Source { driver })
    }

    /// Such as "580.65.06".
    pub fn driver(&self) -> &str {
        self.driver.driver()
    }

    /// By NVML's index.
    pub fn gpus(&self) -> &[Gpu] {
        self.driver.gpus()
    }

    /// Reads every GPU now, in the order of [`gpus`](Self::gpus). Counters of errors, limits and processes are asked once
    /// a second at most, and repeated in between.
    pub fn read(&mut self) -> Vec<Reading> {
        let at_us = self.driver.now_us();
        self.read_at(at_us)
    }

    /// As [`read`](Self::read), by the caller's own clock, which must not go back.
    pub fn read_at(&mut self, at_us: u64) -> Vec<Reading> {
        self.driver.read_at(at_us)
    }
}

#[cfg(not(feature = "nvml"))]
impl Source {
    /// Fails: this build has no NVML.
    pub fn open(_library: Option<&Path>) -> Result<Source, Unavailable> {
        Err(Unavailable::NotBuilt)
    }

    /// Such as "580.65.06".
    pub fn driver(&self) -> &str {
        match self.never {}
    }

    /// By NVML's index.
    pub fn gpus(&self) -> &[Gpu] {
        match self.never {}
    }

    /// Reads every GPU now.
    pub fn read(&mut self) -> Vec<Reading> {
        match self.never {}
    }

    /// As [`read`](Self::read), by the caller's own clock.
    pub fn read_at(&mut self, _at_us: u64) -> Vec<Reading> {
        match self.never {}
    }
}

/// Why there is nothing to read. Nothing else fails because of this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// This build leaves it out.
    #[error("this binary was built without it; build with --features nvml")]
    NotBuilt,
    /// No such library: most machines without an NVIDIA driver.
    #[error("the NVML library is not installed; it comes with the NVIDIA driver")]
    NoLibrary,
    /// A library was named, and it is not there or not NVML.
    #[error("{file} is not a library that can be loaded as NVML: {reason}")]
    NotLoaded {
        /// As it was named.
        file: String,
        /// As the loader says.
        reason: String,
    },
    /// The library is there and the kernel module is not.
    #[error(
        "NVML is installed, but the NVIDIA kernel driver is not loaded; load it, or expose the GPU to this container"
    )]
    NoDriver,
    /// The driver did not let this user in.
    #[error("NVML refuses this user; run as one who may use the GPU devices")]
    NoPermission,
    /// The driver was updated under a running kernel module.
    #[error(
        "NVML and the loaded NVIDIA kernel driver are of different versions; restart the machine, or reload the driver"
    )]
    VersionMismatch,
    /// Anything else that NVML names.
    #[error("NVML: {reason}")]
    Failed {
        /// In its words.
        reason: String,
    },
}

impl Classify for Unavailable {
    fn code(&self) -> u32 {
        match self {
            Unavailable::NotBuilt => 800,
            Unavailable::NoLibrary => 801,
            Unavailable::NotLoaded { .. } => 802,
            Unavailable::NoDriver => 803,
            Unavailable::NoPermission => 804,
            Unavailable::VersionMismatch => 805,
            Unavailable::Failed { .. } => 806,
        }
    }

    /// A driver can be loaded, and what failed once can pass.
    fn can_retry(&self) -> bool {
        matches!(self, Unavailable::NoDriver | Unavailable::Failed { .. })
    }
}
