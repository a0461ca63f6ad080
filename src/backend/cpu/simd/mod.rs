//! Convolution by vector instructions; the only unsafe code of the CPU backend.
//!
//! [`Conv`] is built once for a step, from a checked plan, and run on an arena of at least that plan's length; within
//! that contract everything here is safe to call.

mod conv;
mod kernel;
mod packed;
pub mod resize;
mod vector;
mod workers;

pub use conv::{Conv, Geometry, Place, Residual};
pub use kernel::Kernels;
pub use packed::{Lines, Packed};
pub use workers::Workers;
