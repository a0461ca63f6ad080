//! Specification of `avg_pool2d`: the mean of each window; windows tile the map.

use crate::model::plan::AvgPool2d;

/// (N, H, W, C) to (N, H / KH, W / KW, C). Sums are in f64.
pub fn avg_pool2d(
    pool: &AvgPool2d,
    input: &[f32],
    shape: [usize; 4],
    output: [usize; 4],
) -> Vec<f32> {
    let [_, height, width, channels] = shape;
    let [batch, out_height, out_width, _] = output;
    let [kernel_height, kernel_width] = pool.kernel;
    let mut out = Vec::with_capacity(output.iter().product());
    for n in 0..batch {
        for oy in 0..out_height {
            for ox in 0..out_width {
                for c in 0..channels {
                    let mut sum = 0.0;
                    for y in oy * kernel_height..(oy + 1) * kernel_height {
                        for x in ox * kernel_width..(ox + 1) * kernel_width {
                            sum += f64::from(input[((n * height + y) * width + x) * channels + c]);
                        }
                    }
                    out.push((sum / (kernel_height * kernel_width) as f64) as f32);
                }
            }
        }
    }
    out
}
