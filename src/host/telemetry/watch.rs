//! A source with the last readings of each of its GPUs: what both the monitor and the engine look at.

use std::path::Path;
use std::time::Duration;

use super::history::History;
use super::source::{Source, Unavailable};

/// Every GPU, and what it did of late.
#[derive(Debug)]
pub struct Watch {
    source: Source,
    histories: Vec<History>,
}

impl Watch {
    /// Opens the source as [`Source::open`] does; remembers this span of readings.
    pub fn open(library: Option<&Path>, span: Duration) -> Result<Watch, Unavailable> {
        let source = Source::open(library)?;
        let span_us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let gpus = source.gpus().iter().cloned();
        let histories = gpus.map(|gpu| History::new(gpu, span_us)).collect();
        Ok(Watch { source, histories })
    }

    /// Such as "580.65.06".
    pub fn driver(&self) -> &str {
        self.source.driver()
    }

    /// Reads every GPU once.
    pub fn read(&mut self) {
        let readings = self.source.read();
        for (history, reading) in self.histories.iter_mut().zip(readings) {
            history.push(reading);
        }
    }

    /// By NVML's index.
    pub fn histories(&self) -> &[History] {
        &self.histories
    }
}
