//! What a caller can ask of an opened CUDA device.

use std::path::PathBuf;
use std::time::Duration;

use super::kernels::Variant;

/// Of [`open_device`](super::open_device).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CudaOptions {
    /// An image's result has the same bits in any batch. Costs what dividing the sums of small batches would have saved.
    pub batch_invariant: bool,
    /// After how long without an end a run counts as hung, and its device as lost. `COLLAGE_CUDA_WATCHDOG` in milliseconds
    /// where `None`, else 10 seconds.
    pub watchdog: Option<Duration>,
    /// Where compiled kernels are kept; `COLLAGE_CACHE_DIR`, else the platform's folder for caches, where `None`.
    pub cache_dir: Option<PathBuf>,
    /// Runs every convolution that it can, instead of what suits the shape. For tests and measurements.
    pub convolution: Option<Variant>,
    /// Divides every sum that can be divided into so many parts. For tests and measurements.
    pub splits: Option<u32>,
}

impl CudaOptions {
    /// The watchdog's time.
    pub fn watchdog(&self) -> Duration {
        let given = || {
            let text = std::env::var("COLLAGE_CUDA_WATCHDOG").ok()?;
            text.parse().ok().map(Duration::from_millis)
        };
        let time = self.watchdog.or_else(given);
        time.unwrap_or(Duration::from_secs(10))
    }
}
