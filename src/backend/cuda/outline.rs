//! What each step of a plan becomes on a device: kernels and grids, and nothing that needs a device to say.

use super::conv2d::{self, Conv2dChoice, DeviceDescription, Shape, Shortcut};
use super::kernels::{Kernel, Tile, Variant};
use super::options::CudaOptions;
use crate::model::plan::{
    AvgPool2d, Conv2d, Linear, MaxPool2d, Plan, Residual, Step, Value, ValueId,
};
use crate::tensor::DType;

/// Up to so many rows, `linear` reads the weights once for eight of them; beyond, it is a convolution.
const LINEAR_ROWS: u32 = 16;

/// How one step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// By what.
    pub kernel: &'static Kernel,
    /// Blocks.
    pub grid: [u32; 3],
    /// Parts of the depth; 1 where it is not divided.
    pub splits: u32,
    /// What a convolution's kernel is given: the step's own, or a linear step's as a convolution.
    pub shape: Option<Shape>,
}

/// One step, for people: what `collage bench engine --explain` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedStep {
    /// Index in the plan.
    pub step: usize,
    /// `conv2d`, ...
    pub op: &'static str,
    /// Input and output, and what is between.
    pub shape: String,
    /// The kernel's entry.
    pub entry: &'static str,
    /// What a block computes in one turn, of a convolution.
    pub tile: Option<Tile>,
    /// Blocks.
    pub grid: [u32; 3],
    /// Parts of the depth.
    pub splits: u32,
}

/// The product of all axes but the last.
pub fn rows(value: &Value) -> usize {
    value.shape[..3].iter().product()
}

fn shape(plan: &Plan, id: ValueId) -> [u32; 4] {
    plan.values[id.0].shape.map(|d| d as u32)
}

/// Of every step in order. The plan has passed [`check`](crate::backend::check::check), and its tensors are within
/// [`conv2d::MOST_ELEMENTS`].
pub fn outline(plan: &Plan, device: &DeviceDescription, options: &CudaOptions) -> Vec<Outline> {
    let steps = plan.steps.iter();
    steps
        .map(|step| outline_step(plan, step, device, options))
        .collect()
}

fn outline_step(
    plan: &Plan,
    step: &Step,
    device: &DeviceDescription,
    options: &CudaOptions,
) -> Outline {
    let dtype = plan.dtype;
    match step {
        Step::Encode(e) => {
            let tiles = (plan.batch * e.grid.tiles()) as u32;
            let size = e.preprocessing.size as u32;
            one(Variant::Encode, dtype, encode_grid(tiles, size, device))
        }
        Step::Conv2d(c) => {
            let shape = convolution(plan, c);
            convolve(shape, conv2d::choose(&shape, device, options))
        }
        Step::MaxPool2d(p) => one(Variant::MaxPool2d, dtype, max_pool2d_grid(plan, p)),
        Step::AvgPool2d(p) => one(Variant::AvgPool2d, dtype, avg_pool2d_grid(plan, p)),
        Step::Linear(l) => {
            let shape = linear(plan, l);
            let [_, _, rows, _] = shape.input;
            if rows <= LINEAR_ROWS || options.batch_invariant {
                let outputs = shape.output[3].div_ceil(8);
                one(Variant::Linear, dtype, [outputs, rows.div_ceil(8), 1])
            } else {
                convolve(shape, conv2d::choose(&shape, device, options))
            }
        }
        Step::TopK(t) => {
            let rows = rows(&plan.values[t.input.0]) as u32;
            one(Variant::TopK, dtype, [rows, 1, 1])
        }
    }
}

fn one(variant: Variant, dtype: DType, grid: [u32; 3]) -> Outline {
    let kernel = variant.kernel(dtype);
    Outline {
        // The table has every op in every type; a test proves it.
        kernel: kernel.unwrap_or(&super::kernels::KERNELS[0]),
        grid,
        splits: 1,
        shape: None,
    }
}

fn convolve(shape: Shape, choice: Conv2dChoice) -> Outline {
    Outline {
        kernel: choice.kernel,
        grid: choice.grid,
        splits: choice.splits,
        shape: Some(shape),
    }
}

/// 64 rows a block do the least work; where that makes too few blocks for the device, fewer rows each.
fn encode_grid(tiles: u32, size: u32, device: &DeviceDescription) -> [u32; 3] {
    let columns = size.div_ceil(32);
    let mut rows = size.div_ceil(64);
    while rows * 2 <= size && tiles * columns * rows < 2 * device.multiprocessors {
        rows *= 2;
    }
    [tiles, rows, columns]
}

/// Vectors of 16 bytes in a row of channels, or the channels themselves.
fn units(channels: u32, dtype: DType) -> u32 {
    let vector = (16 / dtype.bytes()) as u32;
    if channels.is_multiple_of(vector) {
        channels / vector
    } else {
        channels
    }
}

fn max_pool2d_grid(plan: &Plan, p: &MaxPool2d) -> [u32; 3] {
    let [n, h, w, c] = shape(plan, p.output);
    [(n * h * w * units(c, plan.dtype)).div_ceil(256), 1, 1]
}

fn avg_pool2d_grid(plan: &Plan, p: &AvgPool2d) -> [u32; 3] {
    let [n, h, w, c] = shape(plan, p.output);
    [n * h * w, units(c, plan.dtype).div_ceil(8), 1]
}

fn convolution(plan: &Plan, c: &Conv2d) -> Shape {
    let output = shape(plan, c.output);
    let plain =
        |r: &Residual| r.stride == 1 && r.channel_offset == 0 && shape(plan, r.value) == output;
    Shape {
        dtype: plan.dtype,
        input: shape(plan, c.input),
        output,
        kernel: c.kernel.map(|k| k as u32),
        stride: c.stride as u32,
        padding: c.padding as u32,
        shortcut: match &c.residual {
            None => Shortcut::None,
            Some(r) if plain(r) => Shortcut::Plain,
            Some(_) => Shortcut::Other,
        },
    }
}

/// A 1x1 convolution of one row of pixels.
fn linear(plan: &Plan, l: &Linear) -> Shape {
    let rows = rows(&plan.values[l.input.0]) as u32;
    Shape {
        dtype: plan.dtype,
        input: [1, 1, rows, shape(plan, l.input)[3]],
        output: [1, 1, rows, shape(plan, l.output)[3]],
        kernel: [1, 1],
        stride: 1,
        padding: 0,
        shortcut: Shortcut::None,
    }
}

/// How a plan would run on such a device, which need not be there. The plan has passed
/// [`check`](crate::backend::check::check).
pub fn explain(
    plan: &Plan,
    device: &DeviceDescription,
    options: &CudaOptions,
) -> Vec<ExplainedStep> {
    let outlines = outline(plan, device, options);
    let explained = plan.steps.iter().zip(outlines).enumerate();
    explained
        .map(|(step, (of, outline))| ExplainedStep {
            step,
            op: of.op(),
            shape: describe(plan, of),
            entry: outline.kernel.entry,
            tile: outline.shape.map(|_| outline.kernel.variant.tile()),
            grid: outline.grid,
            splits: outline.splits,
        })
        .collect()
}

fn describe(plan: &Plan, step: &Step) -> String {
    let values = step.reads().take(1).chain(step.writes());
    let shapes: Vec<String> = values
        .map(|id| plan.values[id.0].shape.map(|d| d.to_string()).join("x"))
        .collect();
    let between = match step {
        Step::Conv2d(c) => format!(
            ", {}x{} stride {} padding {}{}",
            c.kernel[0],
            c.kernel[1],
            c.stride,
            c.padding,
            if c.residual.is_some() {
                ", residual"
            } else {
                ""
            }
        ),
        Step::MaxPool2d(p) => format!(", {0}x{0} stride {1}", p.kernel, p.stride),
        Step::TopK(t) => format!(", k {}", t.k),
        _ => String::new(),
    };
    format!("{}{between}", shapes.join(" -> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_op_has_a_kernel_of_every_type() {
        for variant in [
            Variant::Encode,
            Variant::TiledLarge,
            Variant::TiledSmall,
            Variant::MaxPool2d,
            Variant::AvgPool2d,
            Variant::Linear,
            Variant::TopK,
        ] {
            for dtype in DType::ALL {
                assert_eq!(one(variant, dtype, [1; 3]).kernel.variant, variant);
            }
        }
    }
}
