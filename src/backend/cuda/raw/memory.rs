//! Device memory, and page-locked host memory that the device copies from and to.

use std::ffi::c_void;
use std::sync::Arc;

use super::context::Context;
use super::library::DevicePtr;
use super::status::Refused;

/// Device memory.
pub struct Memory {
    pub(super) context: Arc<Context>,
    address: DevicePtr,
    bytes: usize,
}

impl Memory {
    /// Takes at least one byte; the content is undefined.
    pub fn take(context: &Arc<Context>, bytes: usize) -> Result<Self, Refused> {
        let mut address = 0;
        let bytes = bytes.max(1);
        // SAFETY: the driver writes one address to a live, aligned integer.
        let status = unsafe { (context.driver.cuMemAlloc_v2)(&mut address, bytes) };
        status.of(context.driver, "cuMemAlloc")?;
        Ok(Self {
            context: context.clone(),
            address,
            bytes,
        })
    }

    /// On the device; a multiple of 256.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of a range, which must lie inside.
    pub(super) fn range(&self, from: usize, bytes: usize) -> Option<DevicePtr> {
        let end = from.checked_add(bytes)?;
        (end <= self.bytes).then(|| self.address + from as u64)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.context.can_free() {
            // SAFETY: the address is of `take`, freed once; the program that held it has waited for its stream.
            unsafe { (self.context.driver.cuMemFree_v2)(self.address) };
        }
    }
}

/// Page-locked host memory. Whoever starts an asynchronous copy with it waits for the stream before touching it again.
pub struct Pinned {
    context: Arc<Context>,
    start: *mut u8,
    bytes: usize,
}

// SAFETY: it owns plain bytes, which any thread may read and write; the driver's functions may be called from any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Takes at least one byte, zeroed.
    pub fn take(context: &Arc<Context>, bytes: usize) -> Result<Self, Refused> {
        let mut start: *mut c_void = std::ptr::null_mut();
        let bytes = bytes.max(1);
        // SAFETY: the driver writes one address to a live, aligned pointer.
        let status = unsafe { (context.driver.cuMemHostAlloc)(&mut start, bytes, 0) };
        status.of(context.driver, "cuMemHostAlloc")?;
        // SAFETY: the driver has just given so many bytes there, which are ours alone.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, bytes) };
        Ok(Self {
            context: context.clone(),
            start: start.cast(),
            bytes,
        })
    }

    /// Its bytes; page-aligned.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `take` got and zeroed so many bytes, which are freed when `self` is dropped; no copy into them is under
        // way, as whoever starts one waits for it.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }

    /// Its bytes; page-aligned.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    /// The address of the first `bytes`, if there are so many.
    pub(super) fn prefix(&self, bytes: usize) -> Option<*mut c_void> {
        (bytes <= self.bytes).then(|| self.start.cast())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.can_free() {
            // SAFETY: the address is of `take`, freed once; the program that held it has waited for its stream.
            unsafe { (self.context.driver.cuMemFreeHost)(self.start.cast()) };
        }
    }
}
