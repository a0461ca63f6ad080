//! One row of `max_pool2d`, in loops that vectorise.

use crate::backend::cpu::max_pool2d::window;
use crate::model::plan::MaxPool2d;

/// Row `y` of an image's output, (OW, C), from the image, (H, W, C) of `[height, width, channels]`.
pub fn max_pool_row(pool: &MaxPool2d, image: &[f32], shape: [usize; 3], y: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { max_pool_row_avx2(pool, image, shape, y, out) };
    }
    rows_of_windows(pool, image, shape, y, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn max_pool_row_avx2(
    pool: &MaxPool2d,
    image: &[f32],
    shape: [usize; 3],
    y: usize,
    out: &mut [f32],
) {
    rows_of_windows(pool, image, shape, y, out);
}

#[inline(always)]
fn rows_of_windows(pool: &MaxPool2d, image: &[f32], shape: [usize; 3], y: usize, out: &mut [f32]) {
    let [height, width, channels] = shape;
    out.fill(f32::NEG_INFINITY);
    for iy in window(y, pool, height) {
        let line = &image[iy * width * channels..][..width * channels];
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let seen = window(x, pool, width);
            for pixel in line[seen.start * channels..seen.end * channels].chunks_exact(channels) {
                for (o, &x) in out.iter_mut().zip(pixel) {
                    *o = if x > *o { x } else { *o };
                }
            }
        }
    }
}
