//! From a plan's outline to launches: every kernel found, every argument filled in, once.

use std::sync::Arc;

use super::args::{
    AvgPool2dArgs, Conv2dArgs, Conv2dWgmmaArgs, LinearArgs, MaxPool2dArgs, TopKArgs,
};
use super::budget::{Budget, packing};
use super::conv2d::Shape;
use super::device::Shared;
use super::kernels::Source;
use super::outline::{Outline, rows};
use super::pack::Packing;
use super::raw::{Args, Im2col, Launch, Memory, Refused, Rows, Stream, TensorMap};
use crate::backend::BackendError;
use crate::model::plan::{
    Activation, AvgPool2d, Conv2d, Linear, MaxPool2d, Plan, Residual, Step, TensorId, TopK, ValueId,
};
use crate::tensor::DType;

/// The device memory of a program, images apart.
pub(super) struct Buffers {
    pub arena: Memory,
    /// (splits, pixels, O) f32.
    partial: Memory,
    /// Zero before and after every launch.
    tickets: Memory,
    pub top_k: Memory,
}

impl Buffers {
    pub fn take(device: &Shared, stream: &Stream, budget: &Budget) -> Result<Self, Refused> {
        let take = |bytes: u64| Memory::take(&device.context, bytes as usize);
        let buffers = Self {
            arena: take(budget.arena)?,
            partial: take(budget.partial)?,
            tickets: take(budget.tickets)?,
            top_k: take(budget.top_k)?,
        };
        stream.zero(&buffers.tickets)?;
        stream.wait()?;
        Ok(buffers)
    }
}

/// Builds the launches of one plan.
pub(super) struct Builder<'a> {
    pub device: &'a Shared,
    pub plan: &'a Plan,
    pub buffers: &'a Buffers,
    /// What the launches read, to be held as long as they are.
    pub weights: Vec<Arc<Memory>>,
}

impl Builder<'_> {
    /// The launches after `encode`, in order.
    pub fn build(&mut self, outlines: &[Outline]) -> Result<Vec<Launch>, BackendError> {
        let steps = self.plan.steps.iter().zip(outlines);
        let mut launches = Vec::new();
        for (step, outline) in steps {
            let args = match step {
                Step::Encode(_) => continue,
                Step::Conv2d(c) => self.conv2d(c, outline),
                Step::MaxPool2d(p) => Ok(self.max_pool2d(p)),
                Step::AvgPool2d(p) => Ok(self.avg_pool2d(p)),
                Step::Linear(l) => self.linear(l, outline),
                Step::TopK(t) => Ok(self.top_k(t)),
            };
            let args = args.map_err(|refused| self.device.failed(refused))?;
            launches.push(launch(self.device, outline, args)?);
        }
        Ok(launches)
    }

    fn shape(&self, id: ValueId) -> [u32; 4] {
        self.plan.values[id.0].shape.map(|d| d as u32)
    }

    fn address(&self, id: ValueId) -> u64 {
        value_address(self.plan, &self.buffers.arena, id)
    }

    fn weight(&mut self, tensor: TensorId, packing: Packing) -> Result<u64, Refused> {
        let key = (tensor, packing, self.plan.dtype);
        let memory = self.device.weight(self.plan, key)?;
        let address = memory.address();
        self.weights.push(memory);
        Ok(address)
    }

    fn conv2d(&mut self, c: &Conv2d, outline: &Outline) -> Result<Args, Refused> {
        let mut args = self.convolution(c.input, c.output, (c.weight, c.bias), outline)?;
        args.relu = u32::from(c.activation == Activation::Relu);
        if let Some(Residual {
            value,
            stride,
            channel_offset,
        }) = c.residual
        {
            let [_, h, w, channels] = self.shape(value);
            args.residual = self.address(value);
            (args.res_h, args.res_w, args.res_c) = (h, w, channels);
            (args.res_stride, args.res_offset) = (stride as u32, channel_offset as u32);
        }
        finish_conv2d(args, outline)
    }

    /// The arguments of a convolution without residual and activation.
    fn convolution(
        &mut self,
        input: ValueId,
        output: ValueId,
        (weight, bias): (TensorId, TensorId),
        outline: &Outline,
    ) -> Result<Conv2dArgs, Refused> {
        let Some(shape) = outline.shape else {
            return Ok(Conv2dArgs::default()); // the outline of every convolution has a shape
        };
        let Shape {
            input: [n, h, w, c],
            output: [_, out_h, out_w, out_c],
            kernel: [kernel_h, kernel_w],
            stride,
            padding,
            ..
        } = shape;
        let divided = outline.splits > 1;
        Ok(Conv2dArgs {
            input: self.address(input),
            output: self.address(output),
            weight: self.weight(weight, packing(outline))?,
            bias: self.weight(bias, Packing::Bias)?,
            partial: if divided {
                self.buffers.partial.address()
            } else {
                0
            },
            tickets: if divided {
                self.buffers.tickets.address()
            } else {
                0
            },
            n,
            h,
            w,
            c,
            out_h,
            out_w,
            out_c,
            kernel_h,
            kernel_w,
            stride,
            padding,
            splits: outline.splits,
            ..Conv2dArgs::default()
        })
    }

    fn linear(&mut self, l: &Linear, outline: &Outline) -> Result<Args, Refused> {
        if outline.shape.is_some() {
            let args = self.convolution(l.input, l.output, (l.weight, l.bias), outline)?;
            return finish_conv2d(args, outline);
        }
        Ok(Args::of(&LinearArgs {
            input: self.address(l.input),
            output: self.address(l.output),
            weight: self.weight(l.weight, Packing::Plain)?,
            bias: self.weight(l.bias, Packing::Bias)?,
            rows: rows(&self.plan.values[l.input.0]) as u32,
            c: self.shape(l.input)[3],
            out_c: self.shape(l.output)[3],
            pad: 0,
        }))
    }

    fn max_pool2d(&self, p: &MaxPool2d) -> Args {
        let [n, h, w, c] = self.shape(p.input);
        let [_, out_h, out_w, _] = self.shape(p.output);
        Args::of(&MaxPool2dArgs {
            input: self.address(p.input),
            output: self.address(p.output),
            n,
            h,
            w,
            c,
            out_h,
            out_w,
            kernel: p.kernel as u32,
            stride: p.stride as u32,
            padding: p.padding as u32,
            pad: 0,
        })
    }

    fn avg_pool2d(&self, p: &AvgPool2d) -> Args {
        let [n, h, w, c] = self.shape(p.input);
        Args::of(&AvgPool2dArgs {
            input: self.address(p.input),
            output: self.address(p.output),
            n,
            h,
            w,
            c,
            kernel_h: p.kernel[0] as u32,
            kernel_w: p.kernel[1] as u32,
        })
    }

    fn top_k(&self, t: &TopK) -> Args {
        Args::of(&TopKArgs {
            input: self.address(t.input),
            output: self.buffers.top_k.address(),
            rows: rows(&self.plan.values[t.input.0]) as u32,
            c: self.shape(t.input)[3],
            k: t.k as u32,
            inverse_temperature: 1.0 / t.temperature,
        })
    }
}

/// Where a value is on the device.
pub(super) fn value_address(plan: &Plan, arena: &Memory, id: ValueId) -> u64 {
    arena.address() + (plan.values[id.0].offset * plan.dtype.bytes()) as u64
}

/// A launch that waits for the one before it; which may overlap, the program decides.
pub(super) fn launch(
    device: &Shared,
    outline: &Outline,
    args: Args,
) -> Result<Launch, BackendError> {
    Ok(Launch {
        function: device.function(outline.kernel)?,
        grid: outline.grid,
        threads: outline.kernel.threads,
        args,
        overlaps: false,
    })
}

/// The argument struct of the kernel that the outline has.
fn finish_conv2d(mut args: Conv2dArgs, outline: &Outline) -> Result<Args, Refused> {
    if outline.kernel.source != Source::Conv2dWgmma {
        return Ok(Args::of(&args));
    }
    // Pixels of a pointwise convolution are rows of a matrix, whatever map they form.
    if [args.kernel_h, args.kernel_w, args.stride, args.padding] == [1, 1, 1, 0] {
        args.w *= args.n * args.h;
        args.out_w = args.w;
        (args.n, args.h, args.out_h) = (1, 1, 1);
        (args.res_h, args.res_w) = (1, args.w);
    }
    let dtype: DType = outline.kernel.dtype;
    let tile = outline.kernel.variant.tile();
    let weights = Rows {
        address: args.weight,
        rows: u64::from(args.out_c),
        columns: u64::from(args.kernel_h * args.kernel_w * args.c),
        box_rows: tile.channels,
    };
    let pixels = Im2col {
        address: args.input,
        shape: [args.n, args.h, args.w, args.c].map(u64::from),
        kernel: [args.kernel_h as i32, args.kernel_w as i32],
        stride: args.stride,
        padding: args.padding as i32,
        pixels: tile.pixels,
    };
    Ok(Args::of(&Conv2dWgmmaArgs {
        weights: TensorMap::rows(dtype, &weights)?,
        pixels: TensorMap::im2col(dtype, &pixels)?,
        conv: args,
    }))
}
