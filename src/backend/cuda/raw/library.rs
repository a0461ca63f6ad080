//! NVIDIA's libraries, found at run time: the functions that are called, each by its name.

use std::ffi::{OsStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys;
use libloading::Library;

use super::status::{Code, Unavailable};

pub type Device = c_int;
pub type DevicePtr = u64;

/// Declares a struct of functions that are looked up by their names.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident -> $result:ty { $(fn $name:ident($($type:ty),* $(,)?);)* }) => {
        $(#[$doc])*
        #[allow(non_snake_case)] // As in NVIDIA's manuals.
        pub struct $table {
            $(
                // SAFETY: a type; each call of it says why it may be made.
                pub $name: unsafe extern "C" fn($($type),*) -> $result,
            )*
        }

        impl $table {
            /// Looks all of them up; the name of the first that is missing otherwise.
            pub fn of(library: &'static Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        // SAFETY: a type, the field's.
                        type Function = unsafe extern "C" fn($($type),*) -> $result;
                        // SAFETY: NVIDIA's manual gives the function of this name this signature, in every version that
                        // has the name; the library is never closed.
                        let found = unsafe { library.get::<Function>(stringify!($name).as_bytes()) };
                        *found.map_err(|_| stringify!($name))?
                    },)*
                })
            }
        }
    };
}
pub(super) use functions;

functions! {
    /// The driver's functions, as CUDA 12.0 and later have them.
    Driver -> Code {
        fn cuInit(c_uint);
        fn cuDriverGetVersion(*mut c_int);
        fn cuGetErrorString(u32, *mut *const c_char);
        fn cuDeviceGetCount(*mut c_int);
        fn cuDeviceGet(*mut Device, c_int);
        fn cuDeviceGetName(*mut c_char, c_int, Device);
        fn cuDeviceTotalMem_v2(*mut usize, Device);
        fn cuDeviceGetAttribute(*mut c_int, c_uint, Device);
        fn cuDevicePrimaryCtxRetain(*mut sys::CUcontext, Device);
        fn cuDevicePrimaryCtxRelease_v2(Device);
        fn cuCtxSetCurrent(sys::CUcontext);
        fn cuCtxGetStreamPriorityRange(*mut c_int, *mut c_int);
        fn cuMemGetInfo_v2(*mut usize, *mut usize);
        fn cuMemAlloc_v2(*mut DevicePtr, usize);
        fn cuMemFree_v2(DevicePtr);
        fn cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
        fn cuMemFreeHost(*mut c_void);
        fn cuMemcpyHtoDAsync_v2(DevicePtr, *const c_void, usize, sys::CUstream);
        fn cuMemcpyDtoHAsync_v2(*mut c_void, DevicePtr, usize, sys::CUstream);
        fn cuMemcpyDtoDAsync_v2(DevicePtr, DevicePtr, usize, sys::CUstream);
        fn cuMemsetD8Async(DevicePtr, u8, usize, sys::CUstream);
        fn cuStreamCreateWithPriority(*mut sys::CUstream, c_uint, c_int);
        fn cuStreamDestroy_v2(sys::CUstream);
        fn cuStreamWaitEvent(sys::CUstream, sys::CUevent, c_uint);
        fn cuStreamSynchronize(sys::CUstream);
        fn cuStreamBeginCapture_v2(sys::CUstream, c_uint);
        fn cuStreamEndCapture(sys::CUstream, *mut sys::CUgraph);
        fn cuGraphInstantiateWithFlags(*mut sys::CUgraphExec, sys::CUgraph, c_ulonglong);
        fn cuGraphUpload(sys::CUgraphExec, sys::CUstream);
        fn cuGraphLaunch(sys::CUgraphExec, sys::CUstream);
        fn cuGraphDestroy(sys::CUgraph);
        fn cuGraphExecDestroy(sys::CUgraphExec);
        fn cuEventCreate(*mut sys::CUevent, c_uint);
        fn cuEventDestroy_v2(sys::CUevent);
        fn cuEventRecord(sys::CUevent, sys::CUstream);
        fn cuEventQuery(sys::CUevent);
        fn cuEventElapsedTime(*mut f32, sys::CUevent, sys::CUevent);
        fn cuModuleLoadData(*mut sys::CUmodule, *const c_void);
        fn cuModuleUnload(sys::CUmodule);
        fn cuModuleGetFunction(*mut sys::CUfunction, sys::CUmodule, *const c_char);
        fn cuFuncSetAttribute(sys::CUfunction, c_uint, c_int);
        fn cuLaunchKernelEx(*const sys::CUlaunchConfig, sys::CUfunction, *mut *mut c_void, *mut *mut c_void);
        fn cuTensorMapEncodeTiled(*mut c_void, c_uint, u32, *mut c_void, *const u64, *const u64, *const u32, *const u32, c_uint, c_uint, c_uint, c_uint);
        fn cuTensorMapEncodeIm2col(*mut c_void, c_uint, u32, *mut c_void, *const u64, *const u64, *const c_int, *const c_int, u32, u32, *const u32, c_uint, c_uint, c_uint, c_uint);
    }
}

/// Opens a library and keeps it open to the end of the process.
pub fn open(name: &OsStr) -> Option<&'static Library> {
    // SAFETY: NVIDIA's libraries have no constructor that harms the process; the name is one of theirs, or one that the
    // user has given for one of theirs.
    let library = unsafe { Library::new(name) }.ok()?;
    Some(Box::leak(Box::new(library)))
}

/// The oldest CUDA whose drivers have every function above, as the driver writes versions.
const OLDEST: u32 = 12_000;

/// The driver, started; looked for once in the life of the process.
pub fn driver() -> Result<&'static Driver, Unavailable> {
    static DRIVER: OnceLock<Result<Driver, Unavailable>> = OnceLock::new();
    DRIVER.get_or_init(start).as_ref().map_err(Clone::clone)
}

fn start() -> Result<Driver, Unavailable> {
    let names = ["libcuda.so.1", "libcuda.so", "nvcuda.dll"];
    let library = names.iter().find_map(|name| open(name.as_ref()));
    let library = library.ok_or(Unavailable::NoLibrary)?;
    let driver = Driver::of(library).map_err(Unavailable::NoFunction)?;
    // SAFETY: takes no pointer; 0 is the one value that the manual allows.
    let started = unsafe { (driver.cuInit)(0) };
    started
        .of(&driver, "cuInit")
        .map_err(Unavailable::Refused)?;
    match version(&driver).map_err(Unavailable::Refused)? {
        old if old < OLDEST => Err(Unavailable::TooOld(old)),
        _ => Ok(driver),
    }
}

/// The newest CUDA that the driver supports, as 1000 * major + 10 * minor.
pub fn version(driver: &Driver) -> Result<u32, super::Refused> {
    let mut version: c_int = 0;
    // SAFETY: the driver writes one int to a live, aligned int.
    let status = unsafe { (driver.cuDriverGetVersion)(&mut version) };
    status.of(driver, "cuDriverGetVersion")?;
    Ok(version.unsigned_abs())
}
