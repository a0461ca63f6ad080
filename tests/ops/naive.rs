//! A second opinion on every op, in f64 and by other means than the CPU's specification: convolutions scatter instead
//! of gathering, images are resized whole and cropped afterwards, top-k sorts probabilities in place.
//! It shares no code with src/backend, so a mistake in the specification shows as a difference here.

use collage::image::Image;
use collage::model::plan::*;

use crate::case::CaseInput;

/// What a plan gives back, exactly: f64 values, or rows of (class, score).
#[derive(Debug)]
pub enum Exact {
    Tensor(Vec<f64>),
    TopK(Vec<Vec<(u32, f64)>>),
}

/// Runs the plan with a fresh buffer for every value.
pub fn run(plan: &Plan, input: &CaseInput) -> Exact {
    let mut values: Vec<Vec<f64>> = plan
        .values
        .iter()
        .map(|v| vec![f64::NAN; v.len()])
        .collect();
    if let CaseInput::Tensor(data) = input {
        values[0] = data.iter().map(|&x| f64::from(x)).collect();
    }
    let shape = |id: ValueId| plan.values[id.0].shape;
    let weights = |id: TensorId| plan.weights.tensors[id.0].data();
    let mut last = 0;
    for step in &plan.steps {
        let (output, data) = match step {
            Step::Encode(e) => {
                let CaseInput::Images(images) = input else {
                    panic!("encode takes images")
                };
                (e.output, encode(e, plan.batch, images))
            }
            Step::Conv2d(c) => {
                let mut out = convolve(
                    c,
                    &values[c.input.0],
                    shape(c.input),
                    weights(c.weight),
                    shape(c.output),
                );
                for (o, b) in out.iter_mut().zip(weights(c.bias).iter().cycle()) {
                    *o += f64::from(*b);
                }
                if let Some(r) = c.residual {
                    add_shortcut(
                        r,
                        &values[r.value.0],
                        shape(r.value),
                        &mut out,
                        shape(c.output),
                    );
                }
                if c.activation == Activation::Relu {
                    out.iter_mut().filter(|x| **x < 0.0).for_each(|x| *x = 0.0);
                }
                (c.output, out)
            }
            Step::MaxPool2d(p) => (
                p.output,
                max_pool(p, &values[p.input.0], shape(p.input), shape(p.output)),
            ),
            Step::AvgPool2d(p) => (
                p.output,
                avg_pool(p, &values[p.input.0], shape(p.input), shape(p.output)),
            ),
            Step::Linear(l) => {
                let (i, o) = (shape(l.input)[3], shape(l.output)[3]);
                let mut out: Vec<f64> = weights(l.bias)
                    .iter()
                    .cycle()
                    .take(values[l.output.0].len())
                    .map(|&b| b.into())
                    .collect();
                for (row, x) in values[l.input.0].chunks(i).enumerate() {
                    for (j, w) in weights(l.weight).iter().enumerate() {
                        out[row * o + j / i] += x[j % i] * f64::from(*w);
                    }
                }
                (l.output, out)
            }
            Step::TopK(t) => {
                let classes = shape(t.input)[3];
                let rows = match input {
                    CaseInput::Images(images) => images.len(),
                    CaseInput::Tensor(_) => values[t.input.0].len() / classes,
                };
                return Exact::TopK(
                    values[t.input.0]
                        .chunks(classes)
                        .take(rows)
                        .map(|r| best(t, r))
                        .collect(),
                );
            }
        };
        values[output.0] = data;
        last = output.0;
    }
    Exact::Tensor(values.swap_remove(last))
}

/// Each input element is added to every output that sees it.
fn convolve(c: &Conv2d, x: &[f64], from: [usize; 4], weight: &[f32], to: [usize; 4]) -> Vec<f64> {
    let ([n, h, w, i], [_, oh, ow, o], [kh, kw]) = (from, to, c.kernel);
    let mut out = vec![0.0; n * oh * ow * o];
    let at = |position: usize, tap: usize, len: usize| {
        let shifted = (position + c.padding).checked_sub(tap)?;
        (shifted % c.stride == 0 && shifted / c.stride < len).then_some(shifted / c.stride)
    };
    for (index, &value) in x.iter().enumerate() {
        let (channel, ix, iy, image) = (
            index % i,
            index / i % w,
            index / i / w % h,
            index / i / w / h,
        );
        for r in 0..kh {
            let Some(y) = at(iy, r, oh) else { continue };
            for s in 0..kw {
                let Some(x) = at(ix, s, ow) else { continue };
                let place = &mut out[((image * oh + y) * ow + x) * o..][..o];
                for (k, sum) in place.iter_mut().enumerate() {
                    *sum += value * f64::from(weight[((k * kh + r) * kw + s) * i + channel]);
                }
            }
        }
    }
    out
}

fn add_shortcut(r: Residual, x: &[f64], from: [usize; 4], out: &mut [f64], to: [usize; 4]) {
    let ([n, h, w, i], [_, oh, ow, o]) = (from, to);
    for (image, y, x_out) in
        (0..n).flat_map(|n| (0..oh).flat_map(move |y| (0..ow).map(move |x| (n, y, x))))
    {
        for c in (0..i).filter(|c| c + r.channel_offset < o) {
            out[((image * oh + y) * ow + x_out) * o + c + r.channel_offset] +=
                x[((image * h + y * r.stride) * w + x_out * r.stride) * i + c];
        }
    }
}

/// In signed coordinates, over a map that is explicitly padded.
fn max_pool(
    p: &MaxPool2d,
    x: &[f64],
    [_, h, w, c]: [usize; 4],
    [n, oh, ow, _]: [usize; 4],
) -> Vec<f64> {
    let padded = |image: usize, y: i64, x_in: i64, channel: usize| {
        let inside = y >= 0 && x_in >= 0 && y < h as i64 && x_in < w as i64;
        if inside {
            x[((image * h + y as usize) * w + x_in as usize) * c + channel]
        } else {
            f64::NEG_INFINITY
        }
    };
    let mut out = Vec::new();
    for index in 0..n * oh * ow * c {
        let (channel, ox, oy, image) = (
            index % c,
            index / c % ow,
            index / c / ow % oh,
            index / c / ow / oh,
        );
        let corner = |o: usize| (o * p.stride) as i64 - p.padding as i64;
        let side = p.kernel as i64;
        let window = (0..side * side)
            .map(|i| padded(image, corner(oy) + i / side, corner(ox) + i % side, channel));
        out.push(window.fold(f64::NEG_INFINITY, f64::max));
    }
    out
}

/// Each element is added to its window.
fn avg_pool(
    p: &AvgPool2d,
    x: &[f64],
    [_, h, w, c]: [usize; 4],
    [n, oh, ow, _]: [usize; 4],
) -> Vec<f64> {
    let mut out = vec![0.0; n * oh * ow * c];
    for (index, &value) in x.iter().enumerate() {
        let (channel, ix, iy, image) = (
            index % c,
            index / c % w,
            index / c / w % h,
            index / c / w / h,
        );
        out[((image * oh + iy / p.kernel[0]) * ow + ix / p.kernel[1]) * c + channel] +=
            value / (p.kernel[0] * p.kernel[1]) as f64;
    }
    out
}

fn best(t: &TopK, logits: &[f64]) -> Vec<(u32, f64)> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|x| ((x - max) / f64::from(t.temperature)).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    let mut ranked: Vec<(u32, f64)> = (0..).zip(weights.iter().map(|w| w / sum)).collect();
    // Stable, so the lower class stays first; 0.0 and -0.0 are equal.
    ranked.sort_by(|a, b| {
        logits[b.0 as usize]
            .partial_cmp(&logits[a.0 as usize])
            .expect("no NaN")
    });
    ranked.truncate(t.k);
    ranked
}

fn encode(e: &Encode, batch: usize, images: &[Image]) -> Vec<f64> {
    let p = &e.preprocessing;
    let (h, w) = (e.grid.rows * p.size, e.grid.cols * p.size);
    let mut out = vec![0.0; batch * h * w * 3];
    for (i, image) in images.iter().enumerate() {
        let tile = resize_then_crop(image, p);
        let (canvas, row, col) = (
            i / e.grid.tiles(),
            i % e.grid.tiles() / e.grid.cols,
            i % e.grid.cols,
        );
        for (j, &byte) in tile.iter().enumerate() {
            let (c, x, y) = (j % 3, j / 3 % p.size, j / 3 / p.size);
            let value = (f64::from(byte) / 255.0 - f64::from(p.mean[c])) / f64::from(p.std[c]);
            out[((canvas * h + row * p.size + y) * w + col * p.size + x) * 3 + c] = value;
        }
    }
    out
}

/// The whole image is resized; then its centre is cut out.
pub fn resize_then_crop(image: &Image, p: &Preprocessing) -> Vec<u8> {
    let (w, h) = (image.width(), image.height());
    let (short, long) = (w.min(h), w.max(h));
    let new_long = (p.resize as f64 * long as f64 / short as f64) as usize;
    let (nw, nh) = if w <= h {
        (p.resize, new_long)
    } else {
        (new_long, p.resize)
    };
    let rows: Vec<Vec<u8>> = image
        .pixels()
        .chunks(w * 3)
        .map(|row| resize_line(row, w, nw, p.filter))
        .collect();
    let column = |x: usize| -> Vec<u8> {
        rows.iter()
            .flat_map(|row| row[x * 3..x * 3 + 3].to_vec())
            .collect()
    };
    let columns: Vec<Vec<u8>> = (0..nw)
        .map(|x| resize_line(&column(x), h, nh, p.filter))
        .collect();
    let start = |full: usize| {
        let half = (full - p.size) as f64 / 2.0;
        half.round_ties_even() as usize
    };
    let (top, left) = (start(nh), start(nw));
    (0..p.size * p.size)
        .flat_map(|i| columns[left + i % p.size][(top + i / p.size) * 3..][..3].to_vec())
        .collect()
}

/// A line of RGB pixels from `len` to `new` pixels, to u8 as Pillow rounds it.
fn resize_line(line: &[u8], len: usize, new: usize, filter: Filter) -> Vec<u8> {
    if len == new {
        return line.to_vec();
    }
    let scale = len as f64 / new as f64;
    let stretch = if scale < 1.0 { 1.0 } else { scale };
    let reach = stretch * if filter == Filter::Bicubic { 2.0 } else { 1.0 };
    let kernel = |x: f64| {
        let x = x.abs();
        match filter {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic if x < 1.0 => 1.5 * x * x * x - 2.5 * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => -0.5 * x * x * x + 2.5 * x * x - 4.0 * x + 2.0,
            Filter::Bicubic => 0.0,
        }
    };
    let mut out = Vec::with_capacity(new * 3);
    for i in 0..new {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(len);
        let weights: Vec<f64> = (first..end)
            .map(|x| kernel((x as f64 + 0.5 - center) / stretch))
            .collect();
        let sum: f64 = weights.iter().sum();
        for c in 0..3 {
            let fixed = |w: &f64| (w / sum * 4_194_304.0).round() as i64;
            let total: i64 = weights
                .iter()
                .enumerate()
                .map(|(t, w)| fixed(w) * i64::from(line[(first + t) * 3 + c]))
                .sum();
            out.push(((total + (1 << 21)) >> 22).clamp(0, 255) as u8);
        }
    }
    out
}
