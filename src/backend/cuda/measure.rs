//! Where a run's time goes, by the device's own clock: what `collage bench engine` asks.
//!
//! A run's one graph is taken apart here, into upload, steps and download, so that events can be put between them.

use std::time::{Duration, Instant};

use super::program::{CudaProgram, result_place};
use crate::backend::timing::Timings;
use crate::backend::{BackendError, Input};

impl CudaProgram {
    /// As a run, with an event between its parts.
    pub(super) fn time(&mut self, input: Input<'_>) -> Result<Timings, BackendError> {
        let device = self.device.clone();
        let failed = |refused| device.failed(refused);
        let start = Instant::now();
        self.events[0].record(&self.stream).map_err(failed)?;
        self.upload(input)?;
        self.captured_steps().map_err(failed)?;
        let mut submit = || {
            self.events[1].record(&self.stream)?;
            if let Some(steps) = &self.steps {
                self.stream.replay(steps)?;
            }
            self.events[2].record(&self.stream)?;
            let result = result_place(&self.plan, &self.buffers);
            let (from, at) = (result.memory, result.at);
            self.stream
                .download(&mut self.download, from, at, result.bytes)?;
            self.events[3].record(&self.stream)
        };
        submit().map_err(failed)?;
        let enqueue = start.elapsed();
        self.wait()?;
        let between = |a: usize, b: usize| self.events[b].since(&self.events[a]).map_err(failed);
        Ok(Timings {
            enqueue,
            upload: between(0, 1)?,
            compute: between(1, 2)?,
            download: between(2, 3)?,
        })
    }

    /// The steps so often, on what the last run left.
    pub(super) fn repeat(&mut self, times: u32) -> Result<Duration, BackendError> {
        let device = self.device.clone();
        let failed = |refused| device.failed(refused);
        self.captured_steps().map_err(failed)?;
        let submit = || {
            self.events[0].record(&self.stream)?;
            for steps in (0..times).filter_map(|_| self.steps.as_ref()) {
                self.stream.replay(steps)?;
            }
            self.events[3].record(&self.stream)
        };
        submit().map_err(failed)?;
        self.wait()?;
        self.events[3].since(&self.events[0]).map_err(failed)
    }
}
