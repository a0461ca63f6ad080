//! NVIDIA's management library through `nvml-wrapper`: opened once, asked often.
//!
//! One GPU that is lost, or refuses an answer, takes neither the others nor this with it: what it does not tell is
//! `None` with the reason beside it, and once it is lost it is asked one question a reading and no more.

mod device;
mod question;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};
use self_cell::self_cell;

use super::reading::{Gpu, Reading};
use super::source::Unavailable;
use device::Memory;
use question::Questions;

/// The library's file where it is not the driver's own: odd installations, and tests.
const LIBRARY: &str = "COLLAGE_NVML";

self_cell!(
    /// The library, and what borrows from it.
    struct Session {
        owner: Nvml,
        #[covariant]
        dependent: Handles,
    }
);

/// By NVML's index. A GPU that was lost before it was opened has no handle.
struct Handles<'nvml> {
    devices: Vec<Result<Handle<'nvml>, NvmlError>>,
}

/// A GPU, and the events that it was asked to report.
struct Handle<'nvml> {
    device: Device<'nvml>,
    /// One set a GPU: an event tells its GPU by the set it is in, and one GPU without events costs no other its own.
    events: Result<EventSet<'nvml>, NvmlError>,
}

/// All GPUs of this machine.
pub(super) struct Driver {
    session: Session,
    driver: String,
    gpus: Vec<Gpu>,
    memories: Vec<Memory>,
    started: Instant,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("driver", &self.driver)
            .field("gpus", &self.gpus.len())
            .finish_non_exhaustive()
    }
}

impl Driver {
    pub(super) fn open(library: Option<&Path>) -> Result<Driver, Unavailable> {
        let nvml = load(library)?;
        let driver = nvml.sys_driver_version()?;
        let count = nvml.device_count()?;
        let session = Session::new(nvml, |nvml| Handles {
            devices: (0..count).map(|index| Handle::open(nvml, index)).collect(),
        });
        let handles = &session.borrow_dependent().devices;
        let gpus: Vec<Gpu> = handles
            .iter()
            .zip(0..)
            .map(|(handle, index)| match handle {
                Ok(handle) => device::facts(&handle.device, index),
                Err(error) => Gpu {
                    index,
                    missing: vec![question::missing("handle", error)],
                    ..Gpu::default()
                },
            })
            .collect();
        let memories = gpus.iter().map(|_| Memory::default()).collect();
        Ok(Driver {
            session,
            driver,
            gpus,
            memories,
            started: Instant::now(),
        })
    }

    pub(super) fn driver(&self) -> &str {
        &self.driver
    }

    pub(super) fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn read_at(&mut self, at_us: u64) -> Vec<Reading> {
        let handles = &self.session.borrow_dependent().devices;
        let gpus = handles.iter().zip(&mut self.memories).zip(0..);
        gpus.map(|((handle, memory), gpu)| {
            let mut reading = Reading {
                gpu,
                at_us,
                ..Reading::default()
            };
            match handle {
                Ok(handle) => device::read(handle, memory, &mut reading),
                Err(error) => {
                    let mut questions = Questions::default();
                    let _: Option<()> = questions.ask("handle", || Err(question::again(error)));
                    (reading.state, reading.missing) = questions.end();
                }
            }
            reading
        })
        .collect()
    }
}

impl<'nvml> Handle<'nvml> {
    fn open(nvml: &'nvml Nvml, index: u32) -> Result<Self, NvmlError> {
        let device = nvml.device_by_index(index)?;
        let events = events(nvml, &device);
        Ok(Self { device, events })
    }
}

/// Only Xids: clock and power events are read as reasons and shares of time.
fn events<'nvml>(nvml: &'nvml Nvml, device: &Device<'nvml>) -> Result<EventSet<'nvml>, NvmlError> {
    let wanted = EventTypes::CRITICAL_XID_ERROR;
    if !device.supported_event_types()?.contains(wanted) {
        return Err(NvmlError::NotSupported);
    }
    let set = nvml.create_event_set()?;
    device.register_events(wanted, set).map_err(|e| e.error)
}

fn load(library: Option<&Path>) -> Result<Nvml, Unavailable> {
    let named = library.map(Path::to_path_buf);
    let Some(path) = named.or_else(|| std::env::var_os(LIBRARY).map(PathBuf::from)) else {
        return Ok(Nvml::init()?);
    };
    Nvml::builder()
        .lib_path(path.as_os_str())
        .init()
        .map_err(|error| match error {
            NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_) => {
                Unavailable::NotLoaded {
                    file: path.display().to_string(),
                    reason: error.to_string(),
                }
            }
            other => other.into(),
        })
}

impl From<NvmlError> for Unavailable {
    fn from(error: NvmlError) -> Self {
        match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => Self::NoLibrary,
            NvmlError::DriverNotLoaded => Self::NoDriver,
            NvmlError::NoPermission => Self::NoPermission,
            NvmlError::LibRmVersionMismatch => Self::VersionMismatch,
            other => Self::Failed {
                reason: other.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_keeps_its_own_advice() {
        let advice = |e: NvmlError| Unavailable::from(e).to_string();
        assert!(advice(NvmlError::LibraryNotFound).contains("comes with the NVIDIA driver"));
        assert!(advice(NvmlError::DriverNotLoaded).contains("kernel driver"));
        assert!(advice(NvmlError::NoPermission).contains("user"));
        assert!(advice(NvmlError::LibRmVersionMismatch).contains("restart the machine"));
        assert!(advice(NvmlError::GpuLost).contains("fell off the bus"));
    }
}
