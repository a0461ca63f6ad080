//! Which convolution runs a step, and how it is launched.
//!
//! | adapter | shape | shader |
//! |---|---|---|
//! | GPU | any | `conv2d_tiled` |
//! | software | 3x3, stride 1, C and O multiples of 16 and at least [`WINOGRAD_CHANNELS`] | `conv2d_winograd` |
//! | software | three wide, stride 1 | `conv2d_broadcast_rows` |
//! | software | any other | `conv2d_broadcast` |
//!
//! On software, inputs whose channels are not a multiple of 4 first go through `conv2d_unfold`, which makes columns of
//! the kernel into channels.

use std::ops::Range;

use super::args::{Conv2dArgs, UnfoldArgs, WinogradArgs};
use super::builder::{Builder, Launch};
use super::device::{Convolution, Shared};
use super::pack::{Packing, padded_channels, winograd_block};
use super::shaders::{self, Shader};
use crate::backend::BackendError;
use crate::model::plan::{Activation, Conv2d, Plan, Step, Value};

/// Below this many channels, the transforms cost more than they save.
const WINOGRAD_CHANNELS: usize = 16;
/// Bytes of transformed inputs and products that one part of the tiles may take. Less stays in a core's own cache and
/// costs less processor time; more makes fewer dispatches, at whose ends cores wait for each other (shaders/README.md).
const WINOGRAD_PART: usize = 2 << 20;

/// RESIDUAL of the shaders: WebGPU forbids binding one range twice for writing, so that a residual in the place of the
/// output or of the input is read through that binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResidualSource {
    None = 0,
    Own = 1,
    Output = 2,
    Input = 3,
}

fn residual_source(conv: &Conv2d, plan: &Plan) -> ResidualSource {
    let offset = |id: crate::model::plan::ValueId| plan.values[id.0].offset;
    match conv.residual {
        None => ResidualSource::None,
        Some(r) if offset(r.value) == offset(conv.output) => ResidualSource::Output,
        Some(r) if offset(r.value) == offset(conv.input) => ResidualSource::Input,
        Some(_) => ResidualSource::Own,
    }
}

fn winograd_suits(device: &Shared, conv: &Conv2d, plan: &Plan) -> bool {
    let channels = [
        plan.values[conv.input.0].shape[3],
        plan.values[conv.output.0].shape[3],
    ];
    let plain = conv.residual.is_none_or(|r| {
        r.stride == 1
            && r.channel_offset == 0
            && plan.values[r.value.0].shape == plan.values[conv.output.0].shape
    });
    conv.kernel == [3, 3]
        && conv.stride == 1
        && plain
        && channels
            .iter()
            .all(|c| c.is_multiple_of(16) && *c >= WINOGRAD_CHANNELS)
        // Transformed weights are four times as many.
        && (36 * 4 * channels[0] * channels[1]) as u64 <= device.binding_limit()
}

/// Whether the input is unfolded first: where its channels do not make whole vectors, if the result can be bound.
fn unfolds(device: &Shared, conv: &Conv2d, plan: &Plan) -> bool {
    let channels = plan.values[conv.input.0].shape[3];
    !channels.is_multiple_of(4) && unfolded_bytes(conv, plan) <= device.binding_limit()
}

/// N * H, OW, vectors of four channels of the unfolded input.
fn unfolded_shape(conv: &Conv2d, plan: &Plan) -> [usize; 3] {
    let [n, h, _, c] = plan.values[conv.input.0].shape;
    let out_w = plan.values[conv.output.0].shape[2];
    [n * h, out_w, (conv.kernel[1] * c).div_ceil(4)]
}

fn unfolded_bytes(conv: &Conv2d, plan: &Plan) -> u64 {
    let vectors: usize = unfolded_shape(conv, plan).iter().product();
    (vectors * 4 * plan.dtype.bytes()) as u64
}

/// Tiles of the output, how many of them are a part, and how many one invocation of the product takes.
fn winograd_tiles(input: &Value, output: &Value) -> [usize; 3] {
    let [n, h, w, o] = output.shape;
    let tiles = n * h.div_ceil(4) * w.div_ceil(4);
    // In lavapipe's cycles a vector of input channels: 90 a load of each tile and of four vectors of weights, 128 a tile's sums.
    let cost = |each: usize| tiles.div_ceil(8 * each) * (360 + 218 * each);
    let each = [4, 2, 1].into_iter().min_by_key(|e| cost(*e)).unwrap_or(4);
    let part = WINOGRAD_PART / (36 * 4 * (input.shape[3] + o));
    // Whole workgroups of the product.
    let part = part
        .max(1)
        .next_multiple_of(32)
        .min(tiles.next_multiple_of(each));
    [tiles, part, each]
}

/// Rows of v and m that a part takes: whole invocations of the product, and an odd number of those, or the 36 rows
/// that one tile writes would compete for the same lines of the cache.
fn winograd_rows(tiles: usize) -> usize {
    (tiles.div_ceil(4) | 1) * 4
}

/// Bytes of v and of m.
fn winograd_bytes(input: &Value, output: &Value) -> [u64; 2] {
    let [_, part, _] = winograd_tiles(input, output);
    [input, output]
        .map(|value| ((36 * 4 * winograd_rows(part) * value.shape[3]) as u64).next_multiple_of(256))
}

/// The most that any convolution of the plan keeps between its dispatches.
pub(super) fn scratch_bytes(device: &Shared, plan: &Plan) -> u64 {
    let needs = plan.steps.iter().map(|step| {
        let Step::Conv2d(conv) = step else { return 0 };
        let (input, output) = (&plan.values[conv.input.0], &plan.values[conv.output.0]);
        match device.convolution {
            Convolution::Tiled => 0,
            Convolution::Broadcast if winograd_suits(device, conv, plan) => {
                winograd_bytes(input, output).iter().sum()
            }
            Convolution::Broadcast if unfolds(device, conv, plan) => unfolded_bytes(conv, plan),
            Convolution::Broadcast => 0,
        }
    });
    needs.max().unwrap_or(0)
}

fn part_of(buffer: &wgpu::Buffer, offset: u64, size: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer,
        offset,
        size: wgpu::BufferSize::new(size),
    })
}

impl Builder<'_> {
    /// The dispatches of one convolution, in order.
    pub(super) fn conv2d(&self, conv: &Conv2d) -> Result<Vec<Launch>, BackendError> {
        let [n, h, w, c] = self.shape(conv.output);
        match self.device.convolution {
            Convolution::Tiled => {
                let groups = [(n * h * w).div_ceil(64), c.div_ceil(64)];
                let launch = self.direct(conv, &shaders::CONV2D_TILED, Packing::Tiled, groups)?;
                Ok(vec![launch])
            }
            Convolution::Broadcast if winograd_suits(self.device, conv, self.plan) => {
                self.winograd(conv)
            }
            Convolution::Broadcast => {
                let groups = [(n * h * w.div_ceil(4)).div_ceil(8), c.div_ceil(16)];
                if unfolds(self.device, conv, self.plan) {
                    let unfold = self.unfold(conv)?;
                    let shader = &shaders::CONV2D_BROADCAST;
                    let product = self.direct(conv, shader, Packing::Unfolded, groups)?;
                    return Ok(vec![unfold, product]);
                }
                let shader = if conv.kernel[1] == 3 && conv.stride == 1 {
                    &shaders::CONV2D_BROADCAST_ROWS
                } else {
                    &shaders::CONV2D_BROADCAST
                };
                Ok(vec![self.direct(
                    conv,
                    shader,
                    Packing::Broadcast,
                    groups,
                )?])
            }
        }
    }

    /// One dispatch that reads the input, or what `unfold` has made of it.
    fn direct(
        &self,
        conv: &Conv2d,
        shader: &'static Shader,
        packing: Packing,
        groups: [usize; 2],
    ) -> Result<Launch, BackendError> {
        let input = &self.plan.values[conv.input.0];
        let unfolded = packing == Packing::Unfolded;
        let mut source = residual_source(conv, self.plan);
        if unfolded && source == ResidualSource::Input {
            // The input itself is not bound then.
            source = ResidualSource::Own;
        }
        let residual = match (source, conv.residual) {
            (ResidualSource::Own, Some(r)) => self.value(r.value),
            _ => self.unused.as_entire_binding(),
        };
        let x = if unfolded {
            part_of(&self.scratch, 0, unfolded_bytes(conv, self.plan))
        } else {
            self.value(conv.input)
        };
        let weight = self.device.weight(self.plan, conv.weight, packing)?;
        let bias = self.device.weight(self.plan, conv.bias, Packing::Bias)?;
        let mut args = conv2d_args(conv, self.plan, packing);
        if unfolded {
            let [_, width, vectors] = unfolded_shape(conv, self.plan);
            args.w = width as u32;
            args.c4 = vectors as u32;
            args.c = args.c4 * 4;
            args.kernel_w = 1;
            args.stride_w = 1;
            args.padding_w = 0;
        }
        let args = self.arguments(&args);
        let resources = [
            args.as_entire_binding(),
            x,
            self.value(conv.output),
            residual,
            weight.as_entire_binding(),
            bias.as_entire_binding(),
        ];
        let constants = [
            (
                "VECTOR",
                u32::from(unfolded || input.shape[3].is_multiple_of(4)),
            ),
            ("RESIDUAL", source as u32),
            ("RELU", u32::from(conv.activation == Activation::Relu)),
        ];
        let [x, z] = self.spread(groups[0])?;
        let y = self.within(groups[1])?;
        self.launch(shader, &constants, &resources, [x, y, z])
    }

    /// Writes the input to the scratch buffer, the kernel's columns beside each other as channels.
    fn unfold(&self, conv: &Conv2d) -> Result<Launch, BackendError> {
        let [_, _, w, c] = self.shape(conv.input);
        let [rows, out_w, vectors] = unfolded_shape(conv, self.plan);
        let args = self.arguments(&UnfoldArgs {
            rows: rows as u32,
            w: w as u32,
            c: c as u32,
            out_w: out_w as u32,
            kernel_w: conv.kernel[1] as u32,
            stride: conv.stride as u32,
            padding: conv.padding as u32,
            c4: vectors as u32,
        });
        let resources = [
            args.as_entire_binding(),
            self.value(conv.input),
            part_of(&self.scratch, 0, unfolded_bytes(conv, self.plan)),
        ];
        let [x, y] = self.spread((rows * out_w).div_ceil(64))?;
        self.launch(&shaders::CONV2D_UNFOLD, &[], &resources, [x, y, 1])
    }

    /// Three dispatches for each part of the tiles.
    fn winograd(&self, conv: &Conv2d) -> Result<Vec<Launch>, BackendError> {
        let (input, output) = (
            self.plan.values[conv.input.0],
            self.plan.values[conv.output.0],
        );
        let [tiles, part, each] = winograd_tiles(&input, &output);
        let [v_bytes, m_bytes] = winograd_bytes(&input, &output);
        // The dispatch that reads the residual does not read the input.
        let source = match residual_source(conv, self.plan) {
            ResidualSource::Input => ResidualSource::Own,
            other => other,
        };
        let residual = match (source, conv.residual) {
            (ResidualSource::Own, Some(r)) => self.value(r.value),
            _ => self.unused.as_entire_binding(),
        };
        let weight = self
            .device
            .weight(self.plan, conv.weight, Packing::Winograd)?;
        let bias = self.device.weight(self.plan, conv.bias, Packing::Bias)?;
        let constants = [
            ("RESIDUAL", source as u32),
            ("RELU", u32::from(conv.activation == Activation::Relu)),
        ];
        let (c, o) = (input.shape[3], output.shape[3]);
        let block = winograd_block(o);
        let mut launches = Vec::new();
        for first in (0..tiles).step_by(part) {
            let args = winograd_args(conv, self.plan, first..tiles.min(first + part));
            let buffer = self.arguments(&args);
            let bind = |x: wgpu::BindingResource<'_>,
                        r: wgpu::BindingResource<'_>,
                        shader,
                        constants: &[(&'static str, u32)],
                        groups| {
                let resources = [
                    buffer.as_entire_binding(),
                    x,
                    self.value(conv.output),
                    r,
                    part_of(&self.scratch, 0, v_bytes),
                    part_of(&self.scratch, v_bytes, m_bytes),
                    weight.as_entire_binding(),
                    bias.as_entire_binding(),
                ];
                self.launch(shader, constants, &resources, groups)
            };
            let none = || self.unused.as_entire_binding();
            let x = self.value(conv.input);
            let [gx, gy] = self.spread((args.tiles as usize * c / 4).div_ceil(64))?;
            launches.push(bind(
                x,
                none(),
                &shaders::CONV2D_WINOGRAD_INPUT,
                &[],
                [gx, gy, 1],
            )?);
            let gx = self.within((args.tiles as usize).div_ceil(8 * each))?;
            let gy = self.within(o / block)?;
            launches.push(bind(
                none(),
                none(),
                &shaders::CONV2D_WINOGRAD_PRODUCT,
                &[("WIDE", u32::from(block == 32)), ("TILES", each as u32)],
                [gx, gy, 36],
            )?);
            let [gx, gy] = self.spread((args.tiles as usize * o / 4).div_ceil(64))?;
            launches.push(bind(
                none(),
                residual.clone(),
                &shaders::CONV2D_WINOGRAD_OUTPUT,
                &constants,
                [gx, gy, 1],
            )?);
        }
        Ok(launches)
    }
}

fn winograd_args(conv: &Conv2d, plan: &Plan, part: Range<usize>) -> WinogradArgs {
    let [n, h, w, c] = plan.values[conv.input.0].shape;
    let [_, out_h, out_w, o] = plan.values[conv.output.0].shape;
    WinogradArgs {
        n: n as u32,
        h: h as u32,
        w: w as u32,
        c4: (c / 4) as u32,
        out_h: out_h as u32,
        out_w: out_w as u32,
        o4: (o / 4) as u32,
        padding: conv.padding as u32,
        tiles_h: out_h.div_ceil(4) as u32,
        tiles_w: out_w.div_ceil(4) as u32,
        first: part.start as u32,
        tiles: part.len() as u32,
        tiles_pad: winograd_rows(part.len()) as u32,
        pad: [0; 3],
    }
}

fn conv2d_args(conv: &Conv2d, plan: &Plan, packing: Packing) -> Conv2dArgs {
    let [n, h, w, c] = plan.values[conv.input.0].shape;
    let [_, out_h, out_w, out_c] = plan.values[conv.output.0].shape;
    let residual = conv.residual.map(|r| plan.values[r.value.0].shape);
    let [_, res_h, res_w, res_c] = residual.unwrap_or_default();
    Conv2dArgs {
        n: n as u32,
        h: h as u32,
        w: w as u32,
        c: c as u32,
        out_h: out_h as u32,
        out_w: out_w as u32,
        out_c: out_c as u32,
        kernel_h: conv.kernel[0] as u32,
        kernel_w: conv.kernel[1] as u32,
        stride: conv.stride as u32,
        padding: conv.padding as u32,
        c4: c.div_ceil(4) as u32,
        res_h: res_h as u32,
        res_w: res_w as u32,
        res_c: res_c as u32,
        res_stride: conv.residual.map_or(0, |r| r.stride as u32),
        res_offset: conv.residual.map_or(0, |r| r.channel_offset as u32),
        out_pad: padded_channels(packing, out_c) as u32,
        stride_w: conv.stride as u32,
        padding_w: conv.padding as u32,
    }
}
