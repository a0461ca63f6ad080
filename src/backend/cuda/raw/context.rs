//! The devices that the driver lists, and a device's primary context.

use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::sys;

use super::library::{self, Device, Driver};
use super::status::{Refused, Unavailable};

/// What the driver says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Among the driver's devices.
    pub index: usize,
    /// As the driver calls it.
    pub name: String,
    /// The newest CUDA that the driver supports, as 1000 * major + 10 * minor.
    pub driver: u32,
    /// Of the device.
    pub memory_bytes: u64,
    /// Compute capability, major and minor.
    pub capability: [u32; 2],
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The most shared memory that a block can ask for.
    pub shared_bytes: u32,
    /// Such as "0000:01:00.0", as NVML has it in its short form.
    pub pci_bus_id: String,
}

fn attribute(
    driver: &Driver,
    device: Device,
    attribute: sys::CUdevice_attribute,
) -> Result<u32, Refused> {
    let mut value: c_int = 0;
    // SAFETY: the driver writes one int to a live, aligned int.
    let status = unsafe { (driver.cuDeviceGetAttribute)(&mut value, attribute as u32, device) };
    status.of(driver, "cuDeviceGetAttribute")?;
    Ok(value.unsigned_abs())
}

fn handle(driver: &Driver, index: usize) -> Result<Device, Refused> {
    let mut device: Device = 0;
    let index = c_int::try_from(index).unwrap_or(c_int::MAX);
    // SAFETY: the driver writes one handle to a live, aligned int, and refuses an index that it does not have.
    let status = unsafe { (driver.cuDeviceGet)(&mut device, index) };
    status.of(driver, "cuDeviceGet")?;
    Ok(device)
}

fn describe_with(driver: &Driver, index: usize) -> Result<Description, Refused> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = handle(driver, index)?;
    let mut name = [0 as c_char; 256];
    // SAFETY: the driver writes at most 256 bytes with the terminating zero, to as many live ones.
    let status = unsafe { (driver.cuDeviceGetName)(name.as_mut_ptr(), 256, device) };
    status.of(driver, "cuDeviceGetName")?;
    // SAFETY: the text is zero-terminated within the array, as it was zeroed and the driver terminates what it writes.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    let mut memory = 0usize;
    // SAFETY: the driver writes one size to a live, aligned one.
    let status = unsafe { (driver.cuDeviceTotalMem_v2)(&mut memory, device) };
    status.of(driver, "cuDeviceTotalMem")?;
    Ok(Description {
        index,
        name: name.to_string_lossy().into_owned(),
        driver: library::version(driver)?,
        memory_bytes: memory as u64,
        capability: [
            attribute(
                driver,
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            )?,
            attribute(
                driver,
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )?,
        ],
        multiprocessors: attribute(
            driver,
            device,
            Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
        )?,
        shared_bytes: attribute(
            driver,
            device,
            Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
        )?,
        pci_bus_id: format!(
            "{:04x}:{:02x}:{:02x}.0",
            attribute(driver, device, Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?,
            attribute(driver, device, Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?,
            attribute(driver, device, Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?,
        ),
    })
}

/// Every device, or why each cannot be described; or why there is none.
pub fn devices() -> Result<Vec<Result<Description, Refused>>, Unavailable> {
    let driver = library::driver()?;
    let mut count: c_int = 0;
    // SAFETY: the driver writes one int to a live, aligned int.
    let status = unsafe { (driver.cuDeviceGetCount)(&mut count) };
    status
        .of(driver, "cuDeviceGetCount")
        .map_err(Unavailable::Refused)?;
    Ok((0..count.unsigned_abs() as usize)
        .map(|index| describe_with(driver, index))
        .collect())
}

/// A device's primary context, which all that this process does on the device shares.
pub struct Context {
    pub(super) driver: &'static Driver,
    handle: sys::CUcontext,
    device: Device,
    lost: AtomicBool,
}

// SAFETY: the driver's functions may be called from any thread; a context handle is only an address to it.
unsafe impl Send for Context {}
// SAFETY: as above; the one field that changes is atomic.
unsafe impl Sync for Context {}

impl Context {
    /// Takes part in the device's primary context.
    pub fn open(index: usize) -> Result<Self, Unavailable> {
        let driver = library::driver()?;
        Self::retain(driver, index).map_err(Unavailable::Refused)
    }

    fn retain(driver: &'static Driver, index: usize) -> Result<Self, Refused> {
        let device = handle(driver, index)?;
        let mut handle: sys::CUcontext = std::ptr::null_mut();
        // SAFETY: the driver writes one handle to a live, aligned pointer.
        let status = unsafe { (driver.cuDevicePrimaryCtxRetain)(&mut handle, device) };
        status.of(driver, "cuDevicePrimaryCtxRetain")?;
        let context = Self {
            driver,
            handle,
            device,
            lost: AtomicBool::new(false),
        };
        context.enter()?;
        Ok(context)
    }

    /// Makes it this thread's context. Every call that follows needs that, and may come from any thread.
    pub fn enter(&self) -> Result<(), Refused> {
        // SAFETY: the context is retained until `self` is dropped.
        let status = unsafe { (self.driver.cuCtxSetCurrent)(self.handle) };
        status.of(self.driver, "cuCtxSetCurrent")
    }

    /// From now on nothing is given back to the driver.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether something may still be given back; makes the context this thread's if so.
    pub(super) fn can_free(&self) -> bool {
        !self.lost.load(Ordering::Acquire) && self.enter().is_ok()
    }

    /// Bytes of device memory that are free now.
    pub fn free_bytes(&self) -> Result<u64, Refused> {
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: the driver writes two sizes to live, aligned ones.
        let status = unsafe { (self.driver.cuMemGetInfo_v2)(&mut free, &mut total) };
        status.of(self.driver, "cuMemGetInfo")?;
        Ok(free as u64)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.lost.load(Ordering::Acquire) {
            // SAFETY: it was retained once by `retain`, and all that was made in it holds it alive, so is gone by now.
            unsafe { (self.driver.cuDevicePrimaryCtxRelease_v2)(self.device) };
        }
    }
}
