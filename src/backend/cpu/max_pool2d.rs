//! Specification of `max_pool2d`: the largest element of each window; padding never wins.

use crate::model::plan::MaxPool2d;

/// (N, H, W, C) to (N, OH, OW, C).
pub fn max_pool2d(
    pool: &MaxPool2d,
    input: &[f32],
    shape: [usize; 4],
    output: [usize; 4],
) -> Vec<f32> {
    let [_, height, width, channels] = shape;
    let [batch, out_height, out_width, _] = output;
    let mut out = Vec::with_capacity(output.iter().product());
    for n in 0..batch {
        for oy in 0..out_height {
            for ox in 0..out_width {
                for c in 0..channels {
                    let mut largest = f32::NEG_INFINITY;
                    for iy in window(oy, pool, height) {
                        for ix in window(ox, pool, width) {
                            largest =
                                largest.max(input[((n * height + iy) * width + ix) * channels + c]);
                        }
                    }
                    out.push(largest);
                }
            }
        }
    }
    out
}

/// The inputs, inside of the map, that output `o` sees along one axis.
pub fn window(o: usize, pool: &MaxPool2d, len: usize) -> std::ops::Range<usize> {
    let start = o * pool.stride;
    start.saturating_sub(pool.padding)..(start + pool.kernel - pool.padding).min(len)
}
