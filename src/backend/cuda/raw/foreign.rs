//! Images in device memory that is not ours: what a caller hands over, for as long as the images are held.

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use super::context::Context;
use super::stream::{Event, Stream};
use super::{Refused, Unavailable};
use crate::backend::{BackendError, BackendKind};
use crate::image::{DevicePixels, Image, Reads};

/// Pixels in the memory of a CUDA device, in its primary context.
pub struct Foreign {
    context: Arc<Context>,
    index: usize,
    pub(super) address: u64,
    pub(super) bytes: usize,
    /// When they are there; `None`: now.
    pub(super) ready: Option<Event>,
    /// How they were read.
    pub reads: Arc<Reads>,
    /// Dropped with the last image.
    _owner: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foreign(cuda:{} {:#x})", self.index, self.address)
    }
}

// SAFETY: the driver's functions may be called from any thread; what changes is behind atomics and the driver.
unsafe impl Sync for Foreign {}

/// An image whose pixels, packed (H, W, 3) bytes, lie at `address` on CUDA device `index`. The work that is on `stream` now is
/// waited for, on the device, before they are read; `None`: they are there. `owner` is dropped when they are not read any more.
///
/// # Errors
/// [`BackendError::NoDevice`] without such a device or for an image without pixels, [`BackendError::Driver`] if the driver
/// refuses the stream.
///
/// # Safety
/// The memory is of the device's primary context, holds that many bytes, and is neither freed nor written to before `owner` is
/// dropped. `stream` is one of that context.
// SAFETY: a declaration; it passes its duties on.
pub unsafe fn device_image(
    index: usize,
    address: u64,
    [width, height]: [usize; 2],
    stream: Option<u64>,
    reads: Arc<Reads>,
    owner: Box<dyn Any + Send + Sync>,
) -> Result<Image, BackendError> {
    let none = |reason: String| BackendError::NoDevice {
        backend: BackendKind::Cuda,
        index,
        reason,
    };
    let context = Context::open(index).map_err(|why| {
        none(match why {
            Unavailable::Refused(refused) => refused.reason,
            Unavailable::NoLibrary => "there is no CUDA driver".to_owned(),
            Unavailable::NoFunction(name) => format!("the driver lacks {name}"),
            Unavailable::TooOld(version) => format!("the driver is of CUDA {version}"),
        })
    })?;
    let context = Arc::new(context);
    let refused = |r: Refused| BackendError::Driver {
        device: format!("cuda:{index}"),
        call: r.call,
        reason: r.reason,
    };
    let ready = match stream {
        None => None,
        Some(stream) => {
            let event = Event::new(&context).map_err(refused)?;
            let handle = std::ptr::without_provenance_mut::<c_void>(stream as usize);
            // SAFETY: the caller promises a stream of this context.
            unsafe { event.record_on(handle.cast()) }.map_err(refused)?;
            Some(event)
        }
    };
    let pixels = Foreign {
        context,
        index,
        address,
        bytes: width.saturating_mul(height).saturating_mul(3),
        ready,
        reads,
        _owner: owner,
    };
    Image::in_device_memory(width, height, Arc::new(pixels))
        .ok_or_else(|| none("an image without pixels".to_owned()))
}

impl DevicePixels for Foreign {
    fn device(&self) -> usize {
        self.index
    }

    fn download(&self) -> Result<Vec<u8>, String> {
        let mut pixels = vec![0; self.bytes];
        let mut copy = || {
            self.context.enter()?;
            Stream::new(&self.context, false)?.download_foreign(&mut pixels, self)
        };
        copy().map_err(|r: Refused| format!("{}: {}", r.call, r.reason))?;
        self.reads.count_staged();
        Ok(pixels)
    }
}
