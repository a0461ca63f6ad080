//! How a shape is written in a message: `(64, 3, 7, 7)`, or `(any, 64, any, any)` where a file may choose.

use std::fmt;

/// A tensor's shape in a message; `None` is a dimension that may have any size from 1 up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<Option<usize>>);

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(dims.iter().map(|&d| Some(d)).collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, dim) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match dim {
                Some(d) => write!(f, "{comma}{d}")?,
                None => write!(f, "{comma}any")?,
            }
        }
        f.write_str(")")
    }
}
