//! What every error of this crate can be asked: whether a retry can help, and its stable number.
//!
//! Each room has an error enum of its own, one variant a cause, because the rooms must not know each other.
//! The numbers are part of the C ABI: they are never reused, and each room has a hundred of its own.

/// Implemented by every error of this crate.
pub trait Classify: std::error::Error {
    /// Stable number of the cause: 1xx tensor and image, 2xx model, 3xx backend, 4xx scheduling and serving,
    /// 5xx configuration and command line, 6xx calls that only C can make, 8xx telemetry, 9xx attaching to engines.
    /// Each that a C caller can meet has a row in `ffi::STATUSES`.
    fn code(&self) -> u32;
    /// Whether the same call may succeed later without changing its arguments.
    fn can_retry(&self) -> bool;
}
