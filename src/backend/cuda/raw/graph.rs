//! Captured graphs: what was put on a stream once, to be put there again with one call.

use std::sync::Arc;

use cudarc::driver::sys;

use super::context::Context;
use super::status::Refused;
use super::stream::Stream;

/// An instantiated graph. The memory that its nodes name must be held by whoever replays it.
pub struct Graph {
    context: Arc<Context>,
    pub(super) exec: sys::CUgraphExec,
}

// SAFETY: the driver's functions may be called from any thread; the handle is only an address to it.
unsafe impl Send for Graph {}

impl Graph {
    /// What `calls` put on the stream, which does not run now.
    pub fn capture(
        stream: &Stream,
        calls: impl FnOnce() -> Result<(), Refused>,
    ) -> Result<Self, Refused> {
        let driver = stream.context.driver;
        // Of this thread alone: other threads load plans and allocate meanwhile.
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as u32;
        // SAFETY: the stream is live and nothing else uses it, as a program owns its stream.
        let status = unsafe { (driver.cuStreamBeginCapture_v2)(stream.handle, mode) };
        status.of(driver, "cuStreamBeginCapture")?;
        let recorded = calls();
        let mut graph: sys::CUgraph = std::ptr::null_mut();
        // SAFETY: the capture was begun above on this thread; the driver writes one handle.
        let status = unsafe { (driver.cuStreamEndCapture)(stream.handle, &mut graph) };
        let ended = status.of(driver, "cuStreamEndCapture");
        let made = recorded
            .and(ended)
            .and_then(|()| Self::instantiate(stream, graph));
        if !graph.is_null() {
            // SAFETY: the graph is of the capture above and destroyed once; what was instantiated from it does not need it.
            unsafe { (driver.cuGraphDestroy)(graph) };
        }
        made
    }

    fn instantiate(stream: &Stream, graph: sys::CUgraph) -> Result<Self, Refused> {
        let driver = stream.context.driver;
        let mut exec: sys::CUgraphExec = std::ptr::null_mut();
        // SAFETY: the graph is of a capture that has ended well; the driver writes one handle.
        let status = unsafe { (driver.cuGraphInstantiateWithFlags)(&mut exec, graph, 0) };
        status.of(driver, "cuGraphInstantiate")?;
        let made = Self {
            context: stream.context.clone(),
            exec,
        };
        // SAFETY: both are live. The first replay then finds the graph on the device.
        let status = unsafe { (driver.cuGraphUpload)(made.exec, stream.handle) };
        status.of(driver, "cuGraphUpload")?;
        Ok(made)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.can_free() {
            // SAFETY: instantiated once, destroyed once; the program has waited for its stream.
            unsafe { (self.context.driver.cuGraphExecDestroy)(self.exec) };
        }
    }
}
