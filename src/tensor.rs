//! Dense host tensors: a shape and its f32 elements, row-major, whose lengths always agree.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use crate::error::Classify;

/// Element type of activations and weights on a device. Accumulation is always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE binary32.
    #[default]
    F32,
    /// IEEE binary16 storage, f32 accumulation.
    F16,
    /// The upper half of an IEEE binary32, f32 accumulation: f32's range with 8 bits of precision.
    Bf16,
}

impl DType {
    /// Every one, in the order of their names in messages.
    pub const ALL: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
        }
    }

    /// What storing `value` makes of it: the nearest value of this type, ties to even; infinite beyond its range.
    pub fn rounded(self, value: f32) -> f32 {
        match self {
            DType::F32 => value,
            DType::F16 => f16::from_f32(value).to_f32(),
            DType::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// The largest finite value.
    pub fn largest(self) -> f32 {
        match self {
            DType::F32 => f32::MAX,
            DType::F16 => f16::MAX.to_f32(),
            DType::Bf16 => bf16::MAX.to_f32(),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
        })
    }
}

/// An element type that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given}: expected f32, f16 or bf16")]
pub struct DTypeError {
    /// As given.
    pub given: String,
}

impl Classify for DTypeError {
    fn code(&self) -> u32 {
        120
    }
    fn can_retry(&self) -> bool {
        false
    }
}

impl FromStr for DType {
    type Err = DTypeError;

    fn from_str(given: &str) -> Result<Self, DTypeError> {
        let found = DType::ALL.into_iter().find(|d| d.to_string() == given);
        found.ok_or_else(|| DTypeError {
            given: given.into(),
        })
    }
}

/// A row-major f32 tensor. `data.len()` equals the product of `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// Wraps `data` as `shape`; `None` when their lengths differ or the product of `shape` overflows.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Option<Self> {
        let shape = shape.into();
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (len == data.len()).then_some(Self { shape, data })
    }

    /// Extent of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_types_print_as_they_are_read() {
        for dtype in DType::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        let error = "fp16".parse::<DType>().unwrap_err();
        assert_eq!(error.to_string(), "fp16: expected f32, f16 or bf16");
    }

    #[test]
    fn storing_rounds_to_nearest_and_ties_to_even() {
        let step = 1.0 / 256.0; // half of bf16's at 1
        let rounded = |x: f32| DType::ALL.map(|d| d.rounded(x));
        assert_eq!(rounded(1.0 + step), [1.0 + step, 1.0 + step, 1.0]);
        assert_eq!(rounded(1.0 + 3.0 * step)[2], 1.0 + 4.0 * step);
        assert_eq!(rounded(1e6), [1e6, f32::INFINITY, 999_424.0]);
        for dtype in DType::ALL {
            assert_eq!(dtype.rounded(dtype.largest()), dtype.largest());
        }
    }
}
