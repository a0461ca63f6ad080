//! Pillow's two resampling passes in loops that vectorise: the same integers as the specification's, so the same bytes.

use crate::backend::resample::{Axis, PRECISION_BITS, ROUNDING, Resample};
use crate::image::Image;

/// Memory of one resize, kept between images.
#[derive(Default)]
pub struct Scratch {
    /// One row by channel, (3, W).
    planes: Vec<i32>,
    /// After the first pass, (rows, size, 3).
    narrow: Vec<u8>,
    /// Sums of one output row, (size, 3).
    sums: Vec<i32>,
}

/// The resized and cropped image, (size, size, 3), into `tile`.
pub fn resize(image: &Image, r: &Resample, scratch: &mut Scratch, tile: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { resize_avx2(image, r, scratch, tile) };
    }
    both_passes(image, r, scratch, tile);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn resize_avx2(image: &Image, r: &Resample, scratch: &mut Scratch, tile: &mut [u8]) {
    both_passes(image, r, scratch, tile);
}

#[inline(always)]
fn both_passes(image: &Image, r: &Resample, scratch: &mut Scratch, tile: &mut [u8]) {
    let Scratch {
        planes,
        narrow,
        sums,
    } = scratch;
    let (first, rows) = r.rows();
    let line = r.horizontal.starts.len() * 3;
    planes.resize(image.width() * 3, 0);
    narrow.resize(rows * line, 0);
    sums.resize(line, 0);
    let source = image.pixels().chunks_exact(image.width() * 3).skip(first);
    for (row, out) in source.zip(narrow.chunks_exact_mut(line)) {
        split_channels(row, planes);
        shrink_row(&r.horizontal, planes, out);
    }
    for (y, out) in tile.chunks_exact_mut(line).enumerate() {
        sums.fill(ROUNDING);
        let start = r.vertical.starts[y] as usize - first;
        for (&k, row) in taps(&r.vertical, y)
            .iter()
            .zip(narrow[start * line..].chunks_exact(line))
        {
            for (sum, &byte) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(k));
            }
        }
        for (out, &sum) in out.iter_mut().zip(sums.iter()) {
            *out = to_byte(sum);
        }
    }
}

#[inline(always)]
fn taps(axis: &Axis, i: usize) -> &[i32] {
    &axis.coefficients[i * axis.taps..][..axis.counts[i] as usize]
}

/// The sums fit 32 bits by the choice of PRECISION_BITS; wrapping operations only spare the checks.
#[inline(always)]
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// (W, 3) bytes to (3, W).
#[inline(always)]
fn split_channels(row: &[u8], planes: &mut [i32]) {
    let (red, rest) = planes.split_at_mut(row.len() / 3);
    let (green, blue) = rest.split_at_mut(row.len() / 3);
    for (((pixel, r), g), b) in row.chunks_exact(3).zip(red).zip(green).zip(blue) {
        (*r, *g, *b) = (
            i32::from(pixel[0]),
            i32::from(pixel[1]),
            i32::from(pixel[2]),
        );
    }
}

#[inline(always)]
fn shrink_row(axis: &Axis, planes: &[i32], out: &mut [u8]) {
    let width = planes.len() / 3;
    for (x, out) in out.chunks_exact_mut(3).enumerate() {
        let (start, taps) = (axis.starts[x] as usize, taps(axis, x));
        for (out, plane) in out.iter_mut().zip(planes.chunks_exact(width)) {
            let products = plane[start..]
                .iter()
                .zip(taps)
                .map(|(&x, &k)| x.wrapping_mul(k));
            *out = to_byte(products.fold(ROUNDING, i32::wrapping_add));
        }
    }
}
