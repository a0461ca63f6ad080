//! Specification of `encode`: u8 images to normalised canvases, as Pillow and torchvision do it.

use crate::backend::resample::{Axis, PRECISION_BITS, ROUNDING, Resample};
use crate::image::Image;
use crate::model::plan::{Encode, Preprocessing};

/// Images of any sizes to (N, rows * size, cols * size, 3); tiles without an image are 0.0.
/// `None` when an image cannot be cropped, which a checked plan makes impossible.
pub fn encode(e: &Encode, batch: usize, images: &[Image]) -> Option<Vec<f32>> {
    let size = e.preprocessing.size;
    let (height, width) = (e.grid.rows * size, e.grid.cols * size);
    let mut canvases = vec![0.0; batch * height * width * 3];
    for (i, image) in images.iter().enumerate() {
        let tile = resize_and_crop(image, &e.preprocessing)?;
        let (canvas, place) = (i / e.grid.tiles(), i % e.grid.tiles());
        let (top, left) = (place / e.grid.cols * size, place % e.grid.cols * size);
        for y in 0..size {
            for x in 0..size {
                for c in 0..3 {
                    let to = ((canvas * height + top + y) * width + left + x) * 3 + c;
                    canvases[to] = normalise(&e.preprocessing, c, tile[(y * size + x) * 3 + c]);
                }
            }
        }
    }
    Some(canvases)
}

/// In torchvision's order of operations, so that the rounding is the same too.
pub fn normalise(p: &Preprocessing, channel: usize, byte: u8) -> f32 {
    (f32::from(byte) / 255.0 - p.mean[channel]) / p.std[channel]
}

/// The resized and centre-cropped image, (size, size, 3).
pub fn resize_and_crop(image: &Image, p: &Preprocessing) -> Option<Vec<u8>> {
    let r = Resample::new(image.width(), image.height(), p)?;
    let (first, rows) = r.rows();
    let pixels = image.pixels();

    // (rows, size, 3): columns first, and rounded to u8 in between, as Pillow does.
    let mut narrow = vec![0; rows * p.size * 3];
    for y in 0..rows {
        for x in 0..p.size {
            for c in 0..3 {
                let row = (first + y) * image.width();
                narrow[(y * p.size + x) * 3 + c] =
                    weigh(&r.horizontal, x, |i| pixels[(row + i) * 3 + c]);
            }
        }
    }
    let mut tile = vec![0; p.size * p.size * 3];
    for y in 0..p.size {
        for x in 0..p.size {
            for c in 0..3 {
                tile[(y * p.size + x) * 3 + c] = weigh(&r.vertical, y, |i| {
                    narrow[((i - first) * p.size + x) * 3 + c]
                });
            }
        }
    }
    Some(tile)
}

/// Output `i` of an axis whose input `t` is `input(t)`.
fn weigh(axis: &Axis, i: usize, input: impl Fn(usize) -> u8) -> u8 {
    let start = axis.starts[i] as usize;
    let coefficients = &axis.coefficients[i * axis.taps..][..axis.counts[i] as usize];
    let sum = coefficients
        .iter()
        .enumerate()
        .fold(ROUNDING, |sum, (t, &k)| {
            sum + i32::from(input(start + t)) * k
        });
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}
