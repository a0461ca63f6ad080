//! Specification of `linear`: y = x W^T + b over the last axis.

use super::conv2d::dot;

/// input (rows, I), weight (O, I), bias (O), to (rows, O). Sums are in f64.
pub fn linear(input: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let inner = weight.len() / bias.len();
    let row = |x: &[f32]| -> Vec<f32> {
        bias.iter()
            .zip(weight.chunks_exact(inner))
            .map(|(&b, w)| (f64::from(b) + dot(x, w)) as f32)
            .collect()
    };
    input.chunks_exact(inner).flat_map(row).collect()
}
