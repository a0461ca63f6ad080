//! The last readings of one GPU, up to a span.

use std::collections::VecDeque;

use super::reading::{Gpu, Reading};

/// A ring of readings.
#[derive(Clone, Debug)]
pub struct History {
    pub(super) gpu: Gpu,
    pub(super) readings: VecDeque<Reading>,
    span_us: u64,
}

impl History {
    /// Keeps what is not older than `span_us` before the newest.
    pub fn new(gpu: Gpu, span_us: u64) -> Self {
        Self {
            gpu,
            readings: VecDeque::new(),
            span_us,
        }
    }

    /// Whose they are.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Takes the next one. One that is not later than the last is left out.
    pub fn push(&mut self, reading: Reading) {
        if self
            .latest()
            .is_some_and(|last| last.at_us >= reading.at_us)
        {
            return;
        }
        let oldest = reading.at_us.saturating_sub(self.span_us);
        self.readings.push_back(reading);
        while self
            .readings
            .front()
            .is_some_and(|first| first.at_us < oldest)
        {
            self.readings.pop_front();
        }
    }

    /// The newest.
    pub fn latest(&self) -> Option<&Reading> {
        self.readings.back()
    }

    /// Oldest first.
    pub fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.readings.iter()
    }
}
