//! Plans written step by step, for cases that are smaller than a network. Values are laid end to end: nothing is
//! reused, as in the tests of single ops.

use std::sync::Arc;

use collage::model::plan::*;
use collage::tensor::{DType, Tensor};

use super::hash;

/// A plan under construction. Every method appends one step and gives back the value that it writes.
pub struct Builder {
    name: String,
    values: Vec<Value>,
    steps: Vec<Step>,
    tensors: Vec<Tensor>,
}

/// The numbers of a convolution.
#[derive(Clone, Copy)]
pub struct Conv {
    pub channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub relu: bool,
    pub residual: Option<Residual>,
}

impl Conv {
    /// Padded so that stride 1 keeps the size; with ReLU.
    pub fn new(channels: usize, kernel: usize, stride: usize) -> Conv {
        Conv {
            channels,
            kernel,
            stride,
            relu: true,
            residual: None,
        }
    }
}

impl Builder {
    /// A plan whose value 0 is (N, H, W, C).
    pub fn new(name: &str, input: [usize; 4]) -> (Builder, ValueId) {
        let mut b = Builder {
            name: name.to_owned(),
            values: vec![],
            steps: vec![],
            tensors: vec![],
        };
        let x = b.value(input);
        (b, x)
    }

    fn value(&mut self, shape: [usize; 4]) -> ValueId {
        let offset = self
            .values
            .last()
            .map_or(0, |v| (v.offset + v.len()).next_multiple_of(ARENA_ALIGN));
        self.values.push(Value { shape, offset });
        ValueId(self.values.len() - 1)
    }

    /// Uniform with the variance that a ReLU network keeps (He et al.).
    fn tensor(&mut self, shape: &[usize], fan_in: usize) -> TensorId {
        let id = self.tensors.len();
        let seed = hash::seed(&format!("tensor {id}"));
        let data = hash::symmetric(seed, shape.iter().product(), (6.0 / fan_in as f32).sqrt());
        self.tensors
            .push(Tensor::new(shape, data).expect("the length is the shape's product"));
        TensorId(id)
    }

    pub fn shape(&self, value: ValueId) -> [usize; 4] {
        self.values[value.0].shape
    }

    pub fn encode(&mut self, output: ValueId, preprocessing: Preprocessing, grid: Grid) {
        self.steps.push(Step::Encode(Encode {
            output,
            preprocessing,
            grid,
        }));
    }

    pub fn conv2d(&mut self, input: ValueId, conv: Conv) -> ValueId {
        let [n, h, w, c] = self.shape(input);
        let (k, padding) = (conv.kernel, conv.kernel / 2);
        let side = |s: usize| (s + 2 * padding - k) / conv.stride + 1;
        let weight = self.tensor(&[conv.channels, k, k, c], k * k * c);
        let bias = self.tensor(&[conv.channels], 100);
        let output = self.value([n, side(h), side(w), conv.channels]);
        let activation = if conv.relu {
            Activation::Relu
        } else {
            Activation::None
        };
        let (stride, residual, kernel) = (conv.stride, conv.residual, [k, k]);
        self.steps.push(Step::Conv2d(Conv2d {
            input,
            output,
            weight,
            bias,
            kernel,
            stride,
            padding,
            residual,
            activation,
        }));
        output
    }

    pub fn max_pool2d(&mut self, input: ValueId, kernel: usize, stride: usize) -> ValueId {
        let [n, h, w, c] = self.shape(input);
        let padding = kernel / 2;
        let side = |s: usize| (s + 2 * padding - kernel) / stride + 1;
        let output = self.value([n, side(h), side(w), c]);
        self.steps.push(Step::MaxPool2d(MaxPool2d {
            input,
            output,
            kernel,
            stride,
            padding,
        }));
        output
    }

    /// Down to `rows` x `cols` cells.
    pub fn avg_pool2d(&mut self, input: ValueId, rows: usize, cols: usize) -> ValueId {
        let [n, h, w, c] = self.shape(input);
        let output = self.value([n, rows, cols, c]);
        self.steps.push(Step::AvgPool2d(AvgPool2d {
            input,
            output,
            kernel: [h / rows, w / cols],
        }));
        output
    }

    pub fn linear(&mut self, input: ValueId, classes: usize) -> ValueId {
        let [n, h, w, c] = self.shape(input);
        let weight = self.tensor(&[classes, c], c);
        let bias = self.tensor(&[classes], 100);
        let output = self.value([n, h, w, classes]);
        self.steps.push(Step::Linear(Linear {
            input,
            output,
            weight,
            bias,
        }));
        output
    }

    pub fn top_k(&mut self, input: ValueId, k: usize) {
        self.steps.push(Step::TopK(TopK {
            input,
            k,
            temperature: 1.0,
        }));
    }

    pub fn finish(self) -> Plan {
        let arena_len = self
            .values
            .last()
            .map_or(0, |v| (v.offset + v.len()).next_multiple_of(ARENA_ALIGN));
        Plan {
            name: self.name,
            batch: self.values.first().map_or(0, |v| v.shape[0]),
            dtype: DType::F32,
            weights: Arc::new(Weights {
                tensors: self.tensors,
            }),
            values: self.values,
            steps: self.steps,
            arena_len,
        }
    }
}
