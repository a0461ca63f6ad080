//! What the driver says when a call does not succeed.

use std::ffi::CStr;

use cudarc::driver::sys::CUresult;

use super::library::Driver;

/// A status of the driver, as the number it is.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

/// Why there is no driver to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Its library was not found.
    NoLibrary,
    /// It lacks this function: it is older than CUDA 12.0.
    NoFunction(&'static str),
    /// It supports no newer CUDA than this, as 1000 * major + 10 * minor.
    TooOld(u32),
    /// It would not start, or lists no device.
    Refused(Refused),
}

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The driver's function.
    pub call: &'static str,
    /// Its status.
    pub code: u32,
    /// As the driver says.
    pub reason: String,
}

/// After these the context is of no more use.
const FATAL: &[CUresult] = &[
    CUresult::CUDA_ERROR_DEINITIALIZED,
    CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE,
    CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
    CUresult::CUDA_ERROR_ASSERT,
    CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUresult::CUDA_ERROR_INVALID_PC,
    CUresult::CUDA_ERROR_LAUNCH_FAILED,
    CUresult::CUDA_ERROR_EXTERNAL_DEVICE,
    CUresult::CUDA_ERROR_UNKNOWN,
];

impl Refused {
    fn is(&self, code: CUresult) -> bool {
        self.code == code as u32
    }
    /// The device is gone, or its context is.
    pub fn is_fatal(&self) -> bool {
        FATAL.iter().any(|&code| self.is(code))
    }
    /// There was not enough memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.is(CUresult::CUDA_ERROR_OUT_OF_MEMORY)
    }
    /// A cubin is for another architecture.
    pub fn is_wrong_architecture(&self) -> bool {
        self.is(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU)
            || self.is(CUresult::CUDA_ERROR_INVALID_IMAGE)
    }
    /// A cubin is newer than the driver.
    pub fn is_too_new(&self) -> bool {
        self.is(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
    }
}

impl Code {
    const READY: u32 = CUresult::CUDA_SUCCESS as u32;
    const NOT_READY: u32 = CUresult::CUDA_ERROR_NOT_READY as u32;

    /// `Ok` on success.
    pub fn of(self, driver: &Driver, call: &'static str) -> Result<(), Refused> {
        if self.0 == Self::READY {
            return Ok(());
        }
        Err(Refused {
            call,
            code: self.0,
            reason: reason(driver, self.0),
        })
    }

    /// As [`of`](Self::of), where "not ready" is an answer too.
    pub fn ready(self, driver: &Driver, call: &'static str) -> Result<bool, Refused> {
        if self.0 == Self::NOT_READY {
            return Ok(false);
        }
        self.of(driver, call).map(|()| true)
    }
}

fn reason(driver: &Driver, code: u32) -> String {
    let mut text = std::ptr::null();
    // SAFETY: the driver writes one pointer to a live, aligned pointer, or nothing.
    unsafe { (driver.cuGetErrorString)(code, &mut text) };
    if text.is_null() {
        return format!("status {code}");
    }
    // SAFETY: a non-null text is one of the driver's own zero-terminated constants.
    let text = unsafe { CStr::from_ptr(text) };
    format!("{} ({code})", text.to_string_lossy())
}
