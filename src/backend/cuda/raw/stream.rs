//! Streams, events, and what is put on a stream.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::sys;

use super::context::Context;
use super::foreign::Foreign;
use super::graph::Graph;
use super::memory::{Memory, Pinned};
use super::module::Function;
use super::status::Refused;

/// A queue of work on the device.
pub struct Stream {
    pub(super) context: Arc<Context>,
    pub(super) handle: sys::CUstream,
}

// SAFETY: the driver's functions may be called from any thread; the handle is only an address to it.
unsafe impl Send for Stream {}

/// One launch of a kernel.
#[derive(Clone)]
pub struct Launch {
    /// The entry.
    pub function: Function,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads a block.
    pub threads: u32,
    /// Its one argument, as bytes, aligned as the strictest kernel needs.
    pub args: Args,
    /// Its blocks may start before the kernel before it on the stream has ended.
    pub overlaps: bool,
}

/// The bytes of an argument struct; `align` as tensor maps need it.
#[repr(C, align(64))]
#[derive(Clone)]
pub struct Args([u8; 384]);

impl Args {
    /// Of a plain struct of at most 384 bytes.
    pub fn of<T: bytemuck::Pod>(args: &T) -> Self {
        const { assert!(size_of::<T>() <= 384 && align_of::<T>() <= 64) };
        let mut bytes = [0; 384];
        bytes[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(args));
        Self(bytes)
    }
}

/// A copy or a range that does not fit; the callers size their memory so that there is none.
fn outside(call: &'static str) -> Refused {
    Refused {
        call,
        code: sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32,
        reason: "outside the memory".into(),
    }
}

impl Stream {
    /// A stream that waits for no other, of high priority or of the ordinary one.
    pub fn new(context: &Arc<Context>, high_priority: bool) -> Result<Self, Refused> {
        let driver = context.driver;
        let (mut least, mut greatest): (c_int, c_int) = (0, 0);
        // SAFETY: the driver writes two ints to live, aligned ones.
        let status = unsafe { (driver.cuCtxGetStreamPriorityRange)(&mut least, &mut greatest) };
        status.of(driver, "cuCtxGetStreamPriorityRange")?;
        let priority = if high_priority { greatest } else { least };
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        let mut handle: sys::CUstream = std::ptr::null_mut();
        // SAFETY: the driver writes one handle to a live, aligned pointer.
        let status = unsafe { (driver.cuStreamCreateWithPriority)(&mut handle, flags, priority) };
        status.of(driver, "cuStreamCreateWithPriority")?;
        Ok(Self {
            context: context.clone(),
            handle,
        })
    }

    /// The first `bytes` of `from`, to `at` bytes into `to`. Neither may be touched before the stream was waited for.
    pub fn upload(
        &self,
        to: &Memory,
        at: usize,
        from: &Pinned,
        bytes: usize,
    ) -> Result<(), Refused> {
        let call = "cuMemcpyHtoDAsync";
        let (Some(to), Some(from)) = (to.range(at, bytes), from.prefix(bytes)) else {
            return Err(outside(call));
        };
        let status =
            // SAFETY: both ranges lie inside live memory, which the caller keeps until the stream was waited for.
            unsafe { (self.context.driver.cuMemcpyHtoDAsync_v2)(to, from, bytes, self.handle) };
        status.of(self.context.driver, call)
    }

    /// All of `from`, and waits.
    pub fn upload_slice(&self, to: &Memory, at: usize, from: &[u8]) -> Result<(), Refused> {
        let call = "cuMemcpyHtoDAsync";
        let driver = self.context.driver;
        let address = to.range(at, from.len()).ok_or_else(|| outside(call))?;
        // SAFETY: both ranges lie inside live memory; the stream is waited for before either can go.
        let status = unsafe {
            (driver.cuMemcpyHtoDAsync_v2)(address, from.as_ptr().cast(), from.len(), self.handle)
        };
        status.of(driver, call)?;
        self.wait()
    }

    /// `bytes` from `at` bytes into `from`, to the beginning of `to`, which may not be touched before the stream was waited
    /// for.
    pub fn download(
        &self,
        to: &mut Pinned,
        from: &Memory,
        at: usize,
        bytes: usize,
    ) -> Result<(), Refused> {
        let call = "cuMemcpyDtoHAsync";
        let (Some(to), Some(from)) = (to.prefix(bytes), from.range(at, bytes)) else {
            return Err(outside(call));
        };
        let status =
            // SAFETY: both ranges lie inside live memory, which the caller keeps until the stream was waited for.
            unsafe { (self.context.driver.cuMemcpyDtoHAsync_v2)(to, from, bytes, self.handle) };
        status.of(self.context.driver, call)
    }

    /// What follows on the stream waits for the event, which may be another stream's.
    fn wait_for(&self, event: &Event) -> Result<(), Refused> {
        let driver = self.context.driver;
        // SAFETY: both are live.
        let status = unsafe { (driver.cuStreamWaitEvent)(self.handle, event.handle, 0) };
        status.of(driver, "cuStreamWaitEvent")
    }

    /// A caller's pixels on this device, once they are there, to `at` bytes into `to`. They are held until the stream was
    /// waited for.
    pub fn copy_foreign(&self, to: &Memory, at: usize, from: &Foreign) -> Result<(), Refused> {
        let call = "cuMemcpyDtoDAsync";
        let driver = self.context.driver;
        let to = to.range(at, from.bytes).ok_or_else(|| outside(call))?;
        from.ready
            .as_ref()
            .map_or(Ok(()), |ready| self.wait_for(ready))?;
        let status =
            // SAFETY: the range lies inside live memory; the caller of `device_image` has promised as many bytes there.
            unsafe { (driver.cuMemcpyDtoDAsync_v2)(to, from.address, from.bytes, self.handle) };
        status.of(driver, call)
    }

    /// A caller's pixels on this stream's device, once they are there; waits.
    pub fn download_foreign(&self, to: &mut [u8], from: &Foreign) -> Result<(), Refused> {
        let call = "cuMemcpyDtoHAsync";
        let driver = self.context.driver;
        if to.len() != from.bytes {
            return Err(outside(call));
        }
        from.ready
            .as_ref()
            .map_or(Ok(()), |ready| self.wait_for(ready))?;
        // SAFETY: as many bytes as the caller of `device_image` has promised at the address; the stream is waited for.
        let status = unsafe {
            (driver.cuMemcpyDtoHAsync_v2)(
                to.as_mut_ptr().cast(),
                from.address,
                from.bytes,
                self.handle,
            )
        };
        status.of(driver, call)?;
        self.wait()
    }

    /// Makes all of `memory` zeros.
    pub fn zero(&self, memory: &Memory) -> Result<(), Refused> {
        let driver = self.context.driver;
        let status =
            // SAFETY: the range is all of the live memory.
            unsafe { (driver.cuMemsetD8Async)(memory.address(), 0, memory.bytes(), self.handle) };
        status.of(driver, "cuMemsetD8Async")
    }

    /// Launches a kernel.
    pub fn launch(&self, launch: &Launch) -> Result<(), Refused> {
        use sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION as OVERLAP;
        let mut overlap = sys::CUlaunchAttribute {
            id: OVERLAP,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { pad: [0; 64] },
        };
        overlap.value.programmaticStreamSerializationAllowed = 1;
        let [x, y, z] = launch.grid;
        let config = sys::CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.function.shared_bytes,
            hStream: self.handle,
            attrs: &mut overlap,
            numAttrs: u32::from(launch.overlaps),
        };
        let mut params = [launch.args.0.as_ptr().cast_mut().cast::<c_void>()];
        let driver = launch.function.module.context.driver;
        // SAFETY: the driver copies the argument, whose 384 bytes cover the entry's one struct, during the call. The kernels
        // are this crate's own; the builder makes their arguments from a plan that passed `check`, with addresses of memory
        // that its program holds.
        let status = unsafe {
            (driver.cuLaunchKernelEx)(
                &config,
                launch.function.handle,
                params.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        status.of(driver, "cuLaunchKernelEx")
    }

    /// Puts a captured graph on the stream.
    pub fn replay(&self, graph: &Graph) -> Result<(), Refused> {
        // SAFETY: the graph is instantiated, and what it names is held by the program that captured it.
        let status = unsafe { (self.context.driver.cuGraphLaunch)(graph.exec, self.handle) };
        status.of(self.context.driver, "cuGraphLaunch")
    }

    /// Blocks until all that is on the stream is done.
    pub fn wait(&self) -> Result<(), Refused> {
        // SAFETY: the stream is live.
        let status = unsafe { (self.context.driver.cuStreamSynchronize)(self.handle) };
        status.of(self.context.driver, "cuStreamSynchronize")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.context.can_free() {
            // SAFETY: created by `new`, destroyed once.
            unsafe { (self.context.driver.cuStreamDestroy_v2)(self.handle) };
        }
    }
}

/// A moment on a stream.
pub struct Event {
    context: Arc<Context>,
    handle: sys::CUevent,
}

// SAFETY: the driver's functions may be called from any thread; the handle is only an address to it.
unsafe impl Send for Event {}

impl Event {
    /// One that has not happened.
    pub fn new(context: &Arc<Context>) -> Result<Self, Refused> {
        let mut handle: sys::CUevent = std::ptr::null_mut();
        // SAFETY: the driver writes one handle to a live, aligned pointer.
        let status = unsafe { (context.driver.cuEventCreate)(&mut handle, 0) };
        status.of(context.driver, "cuEventCreate")?;
        Ok(Self {
            context: context.clone(),
            handle,
        })
    }

    /// Happens when all that is on the stream now is done.
    pub fn record(&self, stream: &Stream) -> Result<(), Refused> {
        // SAFETY: both are live, of one context.
        let status = unsafe { (self.context.driver.cuEventRecord)(self.handle, stream.handle) };
        status.of(self.context.driver, "cuEventRecord")
    }

    /// As [`record`](Self::record), on a stream that is not ours.
    ///
    /// # Safety
    /// A live stream of this event's context, or one of the driver's constants for such.
    pub unsafe fn record_on(&self, stream: sys::CUstream) -> Result<(), Refused> {
        // SAFETY: the event is live, and the stream as the caller promises.
        let status = unsafe { (self.context.driver.cuEventRecord)(self.handle, stream) };
        status.of(self.context.driver, "cuEventRecord")
    }

    /// Whether it has happened.
    pub fn happened(&self) -> Result<bool, Refused> {
        // SAFETY: the event is live.
        let status = unsafe { (self.context.driver.cuEventQuery)(self.handle) };
        status.ready(self.context.driver, "cuEventQuery")
    }

    /// From `earlier` to this one; both have happened.
    pub fn since(&self, earlier: &Event) -> Result<Duration, Refused> {
        let mut ms = 0f32;
        // SAFETY: both are live, of one context, and the driver writes one float.
        let status = unsafe {
            (self.context.driver.cuEventElapsedTime)(&mut ms, earlier.handle, self.handle)
        };
        status.of(self.context.driver, "cuEventElapsedTime")?;
        Ok(Duration::try_from_secs_f64(f64::from(ms) / 1e3).unwrap_or_default())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.can_free() {
            // SAFETY: created by `new`, destroyed once.
            unsafe { (self.context.driver.cuEventDestroy_v2)(self.handle) };
        }
    }
}
