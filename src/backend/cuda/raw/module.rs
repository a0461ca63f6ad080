//! Loaded cubins and their entries.

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::sys;

use super::context::Context;
use super::status::Refused;

/// A cubin on the device.
pub struct Module {
    pub(super) context: Arc<Context>,
    handle: sys::CUmodule,
}

// SAFETY: the driver's functions may be called from any thread; the handle is only an address to it.
unsafe impl Send for Module {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Module {}

impl Module {
    /// Loads a cubin, whose length its own headers say: it must be whole, which the cache's checksum proves.
    pub fn load(context: &Arc<Context>, cubin: &[u8]) -> Result<Self, Refused> {
        let mut handle: sys::CUmodule = std::ptr::null_mut();
        // Sixteen zeros behind it, so that a damaged image that is taken for a text or a header ends.
        let mut image = cubin.to_vec();
        image.extend([0; 16]);
        let status =
            // SAFETY: the driver reads the image during the call, as far as its headers say, and writes one handle.
            unsafe { (context.driver.cuModuleLoadData)(&mut handle, image.as_ptr().cast()) };
        status.of(context.driver, "cuModuleLoadData")?;
        Ok(Self {
            context: context.clone(),
            handle,
        })
    }

    /// The entry of this name, allowed so much shared memory.
    pub fn function(self: &Arc<Self>, name: &str, shared_bytes: u32) -> Result<Function, Refused> {
        let driver = self.context.driver;
        let text = CString::new(name).unwrap_or_default();
        let mut handle: sys::CUfunction = std::ptr::null_mut();
        let status =
            // SAFETY: the name is zero-terminated, the module is loaded, and the driver writes one handle.
            unsafe { (driver.cuModuleGetFunction)(&mut handle, self.handle, text.as_ptr()) };
        status.of(driver, "cuModuleGetFunction")?;
        let attribute =
            sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // Below 48 KiB nothing needs to be asked for.
        if shared_bytes > 48 * 1024 {
            // SAFETY: the function is the driver's own of just now; the value is only a number.
            let status = unsafe {
                (driver.cuFuncSetAttribute)(handle, attribute as u32, shared_bytes as i32)
            };
            status.of(driver, "cuFuncSetAttribute")?;
        }
        Ok(Function {
            module: self.clone(),
            handle,
            shared_bytes,
        })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.can_free() {
            // SAFETY: loaded by `load`, unloaded once; every function of it holds it alive.
            unsafe { (self.context.driver.cuModuleUnload)(self.handle) };
        }
    }
}

/// An entry of a loaded cubin.
#[derive(Clone)]
pub struct Function {
    pub(super) module: Arc<Module>,
    pub(super) handle: sys::CUfunction,
    pub(super) shared_bytes: u32,
}

// SAFETY: as for the module that it holds.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}
