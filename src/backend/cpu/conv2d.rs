//! Specification of `conv2d`: cross-correlation, then bias, residual and activation.

use crate::model::plan::{Activation, Conv2d};

/// What a convolution reads beside its [`Conv2d`].
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// (N, H, W, I).
    pub input: (&'a [f32], [usize; 4]),
    /// (O, KH, KW, I).
    pub weight: &'a [f32],
    /// (O).
    pub bias: &'a [f32],
    /// (N, RH, RW, RC).
    pub residual: Option<(&'a [f32], [usize; 4])>,
}

/// out[n,y,x,k] = act(bias[k] + sum over r,s,c of input[n, y*stride+r-p, x*stride+s-p, c] * weight[k,r,s,c] + residual),
/// with 0 outside of the input. Sums are in f64, so that this rounds once and can judge the others.
pub fn conv2d(conv: &Conv2d, x: Operands<'_>, output: [usize; 4]) -> Vec<f32> {
    let (input, [_, height, width, channels]) = x.input;
    let [batch, out_height, out_width, out_channels] = output;
    let [kernel_height, kernel_width] = conv.kernel;
    let mut out = Vec::with_capacity(output.iter().product());
    for n in 0..batch {
        for oy in 0..out_height {
            for ox in 0..out_width {
                for k in 0..out_channels {
                    let mut sum = f64::from(x.bias[k]);
                    for r in 0..kernel_height {
                        for s in 0..kernel_width {
                            let Some(iy) = (oy * conv.stride + r).checked_sub(conv.padding) else {
                                continue;
                            };
                            let Some(ix) = (ox * conv.stride + s).checked_sub(conv.padding) else {
                                continue;
                            };
                            if iy >= height || ix >= width {
                                continue;
                            }
                            let pixel =
                                &input[((n * height + iy) * width + ix) * channels..][..channels];
                            let tap = ((k * kernel_height + r) * kernel_width + s) * channels;
                            sum += dot(pixel, &x.weight[tap..][..channels]);
                        }
                    }
                    sum += f64::from(shortcut(conv, x.residual, n, oy, ox, k));
                    out.push(match conv.activation {
                        Activation::None => sum as f32,
                        Activation::Relu => sum.max(0.0) as f32,
                    });
                }
            }
        }
    }
    out
}

/// What the residual adds to one output.
fn shortcut(
    conv: &Conv2d,
    value: Option<(&[f32], [usize; 4])>,
    n: usize,
    y: usize,
    x: usize,
    k: usize,
) -> f32 {
    let (Some(r), Some((data, [_, height, width, channels]))) = (conv.residual, value) else {
        return 0.0;
    };
    match k.checked_sub(r.channel_offset) {
        Some(c) if c < channels => {
            data[((n * height + y * r.stride) * width + x * r.stride) * channels + c]
        }
        _ => 0.0,
    }
}

/// In f64.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}
