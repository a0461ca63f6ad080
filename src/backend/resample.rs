//! Pillow's resampling coefficients for the part of an image that a centre crop keeps.
//!
//! Every backend resizes with the tables made here, so that all agree with Pillow (and so with torchvision on PIL
//! images) to the bit: two passes, horizontal then vertical, each in fixed point with the result clipped to u8.
//! Only the rows and columns that the crop keeps have coefficients; the others would be thrown away.

use crate::model::plan::{Filter, Preprocessing};

/// Fraction bits of a coefficient: 32 bits less 8 of a pixel and 2 of overshoot.
pub const PRECISION_BITS: u32 = 22;
/// What a sum of products starts from, so that the final shift rounds to nearest.
pub const ROUNDING: i32 = 1 << (PRECISION_BITS - 1);

/// One axis of a resize: output i is the sum over t of `coefficients[i * taps + t] * input[starts[i] + t]`,
/// from [`ROUNDING`], shifted right by [`PRECISION_BITS`] and clipped to 0..=255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Coefficients of each output; the shorter ones end in zeros.
    pub taps: usize,
    /// First input of each output, (outputs).
    pub starts: Vec<u32>,
    /// Coefficients that are in use for each output, at least 1; reading further could leave the input. (outputs)
    pub counts: Vec<u32>,
    /// (outputs, taps).
    pub coefficients: Vec<i32>,
}

/// How one image becomes one tile: both axes of the resize, already cropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resample {
    /// First pass, over columns.
    pub horizontal: Axis,
    /// Second pass, over rows.
    pub vertical: Axis,
}

impl Resample {
    /// For an image of `width` x `height`. `None` when the preprocessing cannot be done: a side of 0, or a crop that
    /// is larger than the resized image.
    pub fn new(width: usize, height: usize, p: &Preprocessing) -> Option<Self> {
        if width == 0 || height == 0 || p.size == 0 || p.resize < p.size {
            return None;
        }
        let (new_width, new_height) = resized(width, height, p.resize)?;
        Some(Self {
            horizontal: Axis::new(
                width,
                new_width,
                crop_start(new_width, p.size),
                p.size,
                p.filter,
            ),
            vertical: Axis::new(
                height,
                new_height,
                crop_start(new_height, p.size),
                p.size,
                p.filter,
            ),
        })
    }

    /// The input rows that the vertical pass reads: first, and how many. The horizontal pass needs no others.
    pub fn rows(&self) -> (usize, usize) {
        let v = &self.vertical;
        let first = v.starts.iter().copied().min().unwrap_or(0) as usize;
        let end = v
            .starts
            .iter()
            .zip(&v.counts)
            .map(|(&s, &n)| (s + n) as usize)
            .max()
            .unwrap_or(0);
        (first, end - first)
    }
}

/// torchvision's `Resize(resize)`: the shorter side becomes `resize`, the longer keeps the aspect, truncated.
fn resized(width: usize, height: usize, resize: usize) -> Option<(usize, usize)> {
    let (short, long) = if width <= height {
        (width, height)
    } else {
        (height, width)
    };
    let new_long = resize.checked_mul(long)? / short;
    Some(if width <= height {
        (resize, new_long)
    } else {
        (new_long, resize)
    })
}

/// torchvision's `CenterCrop`: `int(round((full - size) / 2.0))`, where Python rounds halves to even.
fn crop_start(full: usize, size: usize) -> usize {
    let margin = full - size;
    let half = margin / 2;
    half + (margin % 2) * (half % 2)
}

impl Axis {
    /// Outputs `first..first + count` of a resize from `input` to `output` elements.
    fn new(input: usize, output: usize, first: usize, count: usize, filter: Filter) -> Self {
        if input == output {
            return Self::identity(first, count);
        }
        // The order of these f64 operations is Pillow's: another order would round some coefficients differently.
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = support(filter) * filter_scale;
        let inverse = 1.0 / filter_scale;
        let rows: Vec<(usize, Vec<f64>)> = (first..first + count)
            .map(|i| {
                let center = (i as f64 + 0.5) * scale;
                let start = (center - support + 0.5).max(0.0) as usize;
                let end = ((center + support + 0.5) as usize).min(input);
                let mut weights: Vec<f64> = (start..end)
                    .map(|x| weight(filter, (x as f64 - center + 0.5) * inverse))
                    .collect();
                let sum: f64 = weights.iter().fold(0.0, |sum, w| sum + w);
                if sum != 0.0 {
                    weights.iter_mut().for_each(|w| *w /= sum);
                }
                (start, weights)
            })
            .collect();
        Self::from_weights(&rows)
    }

    /// A copy: one coefficient of 1 for each output, exact in fixed point.
    fn identity(first: usize, count: usize) -> Self {
        Self {
            taps: 1,
            starts: (first..first + count).map(|i| i as u32).collect(),
            counts: vec![1; count],
            coefficients: vec![1 << PRECISION_BITS; count],
        }
    }

    fn from_weights(rows: &[(usize, Vec<f64>)]) -> Self {
        let taps = rows.iter().map(|(_, w)| w.len()).max().unwrap_or(1).max(1);
        let mut coefficients = vec![0; rows.len() * taps];
        for ((_, weights), out) in rows.iter().zip(coefficients.chunks_exact_mut(taps)) {
            for (&w, out) in weights.iter().zip(out) {
                *out = fixed(w);
            }
        }
        Self {
            taps,
            starts: rows.iter().map(|&(start, _)| start as u32).collect(),
            counts: rows.iter().map(|(_, w)| w.len() as u32).collect(),
            coefficients,
        }
    }
}

/// To fixed point, halves away from zero.
fn fixed(w: f64) -> i32 {
    let scaled = w * f64::from(1 << PRECISION_BITS);
    (scaled + if w < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// Half width of the kernel at scale 1.
fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
    }
}

/// The kernel; the cubic is Keys' with a = -0.5, in Horner form as Pillow evaluates it.
fn weight(filter: Filter, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match filter {
        Filter::Bilinear if x < 1.0 => 1.0 - x,
        Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crop_rounds_halves_to_even_as_python_does() {
        let starts: Vec<usize> = (0..8).map(|margin| crop_start(32 + margin, 32)).collect();
        assert_eq!(starts, [0, 0, 1, 2, 2, 2, 3, 4]);
    }

    #[test]
    fn longer_side_is_truncated() {
        assert_eq!(resized(500, 375, 32), Some((42, 32)));
        assert_eq!(resized(375, 500, 138), Some((138, 184)));
        assert_eq!(resized(7, 7, 9), Some((9, 9)));
    }

    #[test]
    fn same_size_is_a_copy_of_the_crop() {
        let p = Preprocessing {
            resize: 8,
            size: 5,
            filter: Filter::Bicubic,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let r = Resample::new(8, 8, &p).unwrap();
        assert_eq!(
            (r.horizontal.taps, r.horizontal.starts),
            (1, vec![2, 3, 4, 5, 6])
        );
        assert_eq!(r.vertical.coefficients, [1 << PRECISION_BITS; 5]);
    }

    #[test]
    fn coefficients_stay_inside_the_image_and_sum_to_one() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for (width, height) in [(500, 375), (1, 9), (33, 32), (3, 1000), (5000, 11)] {
                let p = Preprocessing {
                    resize: 40,
                    size: 32,
                    filter,
                    mean: [0.0; 3],
                    std: [1.0; 3],
                };
                let r = Resample::new(width, height, &p).unwrap();
                for (axis, len) in [(&r.horizontal, width), (&r.vertical, height)] {
                    for i in 0..32 {
                        assert!(
                            (axis.starts[i] + axis.counts[i]) as usize <= len
                                && axis.counts[i] >= 1
                        );
                        let sum: i32 = axis.coefficients[i * axis.taps..][..axis.taps].iter().sum();
                        assert!((sum - (1 << PRECISION_BITS)).unsigned_abs() as usize <= axis.taps);
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_crops_are_refused() {
        let p = Preprocessing {
            resize: 8,
            size: 9,
            filter: Filter::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        assert_eq!(Resample::new(8, 8, &p), None);
        assert_eq!(Resample::new(0, 8, &p), None);
    }
}
