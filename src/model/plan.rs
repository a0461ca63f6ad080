//! A plan: one model at one batch size as a flat list of fused steps over one arena.
//!
//! A plan is all that a backend sees of a model. It is data: it can be printed, compared and executed by any backend.
//! Batch normalisation is already folded into the convolutions, shapes are already checked, and every activation
//! already has its place in the arena, so that a backend allocates once and decides nothing about shapes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::tensor::{DType, Tensor};

/// Index of a [`Value`] in [`Plan::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// Index of a tensor in [`Weights::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// The parameters of a network. One `Arc<Weights>` is shared by the plans of all batch sizes and grids, so a device
/// uploads it once.
#[derive(Debug, Default)]
pub struct Weights {
    /// Convolution weights are (O, KH, KW, I), linear weights (O, I), biases (O).
    pub tensors: Vec<Tensor>,
}

/// An activation: (N, H, W, C) row-major (C fastest), at `offset` elements from the start of the arena.
///
/// A value that no step writes is a view: it is whatever lies exactly at its place, in another shape of as many elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// N, H, W, C.
    pub shape: [usize; 4],
    /// In elements; a multiple of [`ARENA_ALIGN`].
    pub offset: usize,
}

impl Value {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Alignment of every value in the arena, in elements: 256 bytes in f16, 512 in f32, which satisfies the strictest
/// storage-buffer offset alignment that WebGPU permits.
pub const ARENA_ALIGN: usize = 128;

/// r x c tiles of one canvas. The base model is the case 1x1: one image, one canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Grid {
    /// Tiles from top to bottom.
    pub rows: usize,
    /// Tiles from left to right.
    pub cols: usize,
}

impl Grid {
    /// One tile.
    pub const ONE: Grid = Grid { rows: 1, cols: 1 };
    /// Tiles in the canvas.
    pub fn tiles(self) -> usize {
        self.rows * self.cols
    }
}

/// Resampling kernel, with Pillow's definitions (bilinear support 1, bicubic a = -0.5 support 2, both scaled by the
/// shrink factor, which is what "antialias" means).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Keys' cubic, a = -0.5.
    Bicubic,
}

/// From a decoded u8 RGB image of any size to `size` x `size` normalised floats, as torchvision does on PIL images:
/// `Resize(resize)` (shorter side to `resize`, longer side truncated), `CenterCrop(size)`, `/255`, `-mean`, `/std`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The shorter side after resizing; at least `size`.
    pub resize: usize,
    /// Side of the centre crop: the base's input, or the collage's tile.
    pub size: usize,
    /// Resampling kernel.
    pub filter: Filter,
    /// Per RGB channel, of values in 0..1.
    pub mean: [f32; 3],
    /// Per RGB channel, of values in 0..1.
    pub std: [f32; 3],
}

/// u8 images to normalised canvases. Image i goes to canvas `i / tiles`, tile `i % tiles`, row by row; a tile without
/// an image is blank: 0.0 after normalisation, that is the mean colour.
/// output: (N, rows * size, cols * size, 3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encode {
    /// Written canvases.
    pub output: ValueId,
    /// Of each tile.
    pub preprocessing: Preprocessing,
    /// Tiles of a canvas; the base model's is 1x1.
    pub grid: Grid,
}

/// Applied last, after bias and residual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Identity.
    #[default]
    None,
    /// max(x, 0).
    Relu,
}

/// Added before the activation: `out[n,y,x,k] += value[n, y*stride, x*stride, k - channel_offset]` where that channel
/// exists, else 0. Stride 1 and offset 0 is the ordinary residual; the rest is He et al.'s option-A shortcut
/// (subsample, and pad channels with zeros on both sides), which so costs no step of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// What is added.
    pub value: ValueId,
    /// Spatial subsampling.
    pub stride: usize,
    /// First output channel that receives something.
    pub channel_offset: usize,
}

/// Cross-correlation with zero padding (padding, padding) on both axes, as PyTorch's `conv2d`, groups 1, dilation 1.
/// input (N,H,W,I), weight (O,KH,KW,I), bias (O), output (N,(H+2p-KH)/s+1,(W+2p-KW)/s+1,O).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Read.
    pub input: ValueId,
    /// Written. Never overlaps `input`; may be the same place as a stride-1, offset-0 residual.
    pub output: ValueId,
    /// (O, KH, KW, I).
    pub weight: TensorId,
    /// (O).
    pub bias: TensorId,
    /// KH, KW.
    pub kernel: [usize; 2],
    /// Both axes.
    pub stride: usize,
    /// Both axes, both sides.
    pub padding: usize,
    /// Optional shortcut.
    pub residual: Option<Residual>,
    /// Applied last.
    pub activation: Activation,
}

/// Square window, -inf padding, floor mode, as PyTorch's `max_pool2d`. input and output (N,H,W,C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool2d {
    /// Read.
    pub input: ValueId,
    /// Written; never overlaps `input`.
    pub output: ValueId,
    /// Side of the window.
    pub kernel: usize,
    /// Both axes.
    pub stride: usize,
    /// Both axes, both sides; at most kernel / 2.
    pub padding: usize,
}

/// Mean over non-overlapping windows (KH, KW) that cover the input exactly: the whole map for a base model, one
/// tile's cells for a collage. input (N,H,W,C), output (N,H/KH,W/KW,C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool2d {
    /// Read.
    pub input: ValueId,
    /// Written; never overlaps `input`.
    pub output: ValueId,
    /// KH, KW; divide H and W.
    pub kernel: [usize; 2],
}

/// y = x W^T + b over the last axis. input (N,H,W,I), weight (O,I), bias (O), output (N,H,W,O).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Read.
    pub input: ValueId,
    /// Written; never overlaps `input`.
    pub output: ValueId,
    /// (O, I).
    pub weight: TensorId,
    /// (O).
    pub bias: TensorId,
}

/// For each row of the last axis: softmax(x / temperature), then its k largest, largest first, lower index first among
/// equals. input (N,H,W,C); the result leaves the device, so it has no place in the arena.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopK {
    /// Read; logits.
    pub input: ValueId,
    /// 1..=C.
    pub k: usize,
    /// Calibration; 1.0 leaves softmax as it is.
    pub temperature: f32,
}

/// One fused step. The variant's snake-case name is the op's one name everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// [`Encode`]; only as the first step.
    Encode(Encode),
    /// [`Conv2d`].
    Conv2d(Conv2d),
    /// [`MaxPool2d`].
    MaxPool2d(MaxPool2d),
    /// [`AvgPool2d`].
    AvgPool2d(AvgPool2d),
    /// [`Linear`].
    Linear(Linear),
    /// [`TopK`]; only as the last step.
    TopK(TopK),
}

impl Step {
    /// The op's name: of the Rust function, the WGSL and CUDA files, the test cases and the benches.
    pub fn op(&self) -> &'static str {
        match self {
            Step::Encode(_) => "encode",
            Step::Conv2d(_) => "conv2d",
            Step::MaxPool2d(_) => "max_pool2d",
            Step::AvgPool2d(_) => "avg_pool2d",
            Step::Linear(_) => "linear",
            Step::TopK(_) => "top_k",
        }
    }
    /// The values that it reads: its input, then its residual.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> {
        let (input, residual) = match *self {
            Step::Encode(_) => (None, None),
            Step::Conv2d(s) => (Some(s.input), s.residual.map(|r| r.value)),
            Step::MaxPool2d(s) => (Some(s.input), None),
            Step::AvgPool2d(s) => (Some(s.input), None),
            Step::Linear(s) => (Some(s.input), None),
            Step::TopK(s) => (Some(s.input), None),
        };
        input.into_iter().chain(residual)
    }
    /// The value that it writes; `None` for `top_k`, whose result leaves the device.
    pub fn writes(&self) -> Option<ValueId> {
        match *self {
            Step::Encode(s) => Some(s.output),
            Step::Conv2d(s) => Some(s.output),
            Step::MaxPool2d(s) => Some(s.output),
            Step::AvgPool2d(s) => Some(s.output),
            Step::Linear(s) => Some(s.output),
            Step::TopK(_) => None,
        }
    }
}

/// A model at one batch size. Made by the plan compiler, or step by step in the tests of single ops.
///
/// Without an [`Encode`] step, value 0 is the input and is given as a tensor. Without a [`TopK`] step, the last
/// step's output is given back as a tensor.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For messages: the model's name.
    pub name: String,
    /// Canvases a run; N of every value.
    pub batch: usize,
    /// Of activations and weights on the device.
    pub dtype: DType,
    /// Parameters.
    pub weights: Arc<Weights>,
    /// Activations.
    pub values: Vec<Value>,
    /// In order of execution.
    pub steps: Vec<Step>,
    /// Arena length in elements; its bytes are this times `dtype.bytes()`.
    pub arena_len: usize,
}

impl Plan {
    /// Most images of one run: canvases times tiles.
    pub fn capacity(&self) -> usize {
        match self.steps.first() {
            Some(Step::Encode(e)) => self.batch * e.grid.tiles(),
            _ => self.batch,
        }
    }
    /// Multiply-accumulates of one step over the whole batch, zero padding included as in published counts. Only
    /// `conv2d` and `linear` have any.
    pub fn macs(&self, step: &Step) -> u64 {
        let (output, weight) = match *step {
            Step::Conv2d(s) => (s.output, s.weight),
            Step::Linear(s) => (s.output, s.weight),
            _ => return 0,
        };
        let outputs = self.values.get(output.0).map_or(0, Value::len) as u64;
        let shape = self
            .weights
            .tensors
            .get(weight.0)
            .map_or(&[][..], Tensor::shape);
        let per_output: u64 = shape.iter().skip(1).map(|&d| d as u64).product();
        outputs.saturating_mul(per_output)
    }
    /// The fewest bytes of device memory that one step can move: each operand read once, the result written once.
    /// Without `encode`'s images, whose sizes a plan does not know, and without what leaves the device.
    pub fn bytes_moved(&self, step: &Step) -> u64 {
        let value = |v: ValueId| self.values.get(v.0).map_or(0, Value::len);
        let tensor = |t: TensorId| {
            let tensor = self.weights.tensors.get(t.0);
            tensor.map_or(0, |t| t.data().len())
        };
        let parameters = match *step {
            Step::Conv2d(s) => tensor(s.weight) + tensor(s.bias),
            Step::Linear(s) => tensor(s.weight) + tensor(s.bias),
            _ => 0,
        };
        let activations: usize = step.reads().chain(step.writes()).map(value).sum();
        ((activations + parameters) * self.dtype.bytes()) as u64
    }
    /// Activation memory of one run.
    pub fn arena_bytes(&self) -> usize {
        self.arena_len * self.dtype.bytes()
    }
}
