//! Which convolution runs a step, and how it is launched.

use super::args::Conv2dArgs;
use super::device::Convolution;
use super::pack::{Packing, padded_channels};
use super::shaders::{self, Shader};
use crate::model::plan::{Activation, Conv2d, Plan, Value};

/// One convolution, ready to be compiled and bound.
pub(super) struct Launch {
    pub shader: &'static Shader,
    pub packing: Packing,
    pub args: Conv2dArgs,
    pub constants: Vec<(&'static str, u32)>,
    /// Workgroups along pixels and along output channels.
    pub groups: [usize; 2],
    /// Where the residual is read.
    pub residual: ResidualSource,
}

/// RESIDUAL of shaders/conv2d.wgsl: WebGPU forbids binding one range twice for writing, so that a residual in the place
/// of the output or of the input is read through that binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResidualSource {
    None = 0,
    Own = 1,
    Output = 2,
    Input = 3,
}

/// Decides everything about one step. `None` when an extent is beyond 32 bits.
pub(super) fn plan_launch(conv: &Conv2d, plan: &Plan, chosen: Convolution) -> Option<Launch> {
    let (input, output) = (plan.values[conv.input.0], plan.values[conv.output.0]);
    let residual_value = conv.residual.map(|r| plan.values[r.value.0]);
    let residual = source(residual_value, &input, &output);
    let (shader, packing, groups) = variant(conv, &output, chosen);
    let args = arguments(conv, &input, &output, residual_value, packing)?;
    let constants = vec![
        ("VECTOR", u32::from(input.shape[3] % 4 == 0)),
        ("RESIDUAL", residual as u32),
        ("RELU", u32::from(conv.activation == Activation::Relu)),
    ];
    Some(Launch {
        shader,
        packing,
        args,
        constants,
        groups,
        residual,
    })
}

fn source(residual: Option<Value>, input: &Value, output: &Value) -> ResidualSource {
    match residual {
        None => ResidualSource::None,
        Some(r) if r.offset == output.offset => ResidualSource::Output,
        Some(r) if r.offset == input.offset => ResidualSource::Input,
        Some(_) => ResidualSource::Own,
    }
}

/// The shader for a shape: three-wide rows at stride 1 have one of their own, since neighbouring pixels share inputs.
fn variant(
    conv: &Conv2d,
    output: &Value,
    chosen: Convolution,
) -> (&'static Shader, Packing, [usize; 2]) {
    let [n, h, w, c] = output.shape;
    let (shader, packing) = match chosen {
        Convolution::Tiled => {
            let groups = [(n * h * w).div_ceil(64), c.div_ceil(64)];
            return (&shaders::CONV2D_TILED, Packing::Tiled, groups);
        }
        Convolution::Broadcast if conv.kernel[1] == 3 && conv.stride == 1 => {
            (&shaders::CONV2D_BROADCAST_ROWS, Packing::Broadcast)
        }
        Convolution::Broadcast => (&shaders::CONV2D_BROADCAST, Packing::Broadcast),
    };
    let groups = [(n * h * w.div_ceil(4)).div_ceil(8), c.div_ceil(16)];
    (shader, packing, groups)
}

fn arguments(
    conv: &Conv2d,
    input: &Value,
    output: &Value,
    residual: Option<Value>,
    packing: Packing,
) -> Option<Conv2dArgs> {
    let u = |v: usize| u32::try_from(v).ok();
    let [n, h, w, c] = input.shape;
    let [_, out_h, out_w, out_c] = output.shape;
    let [_, res_h, res_w, res_c] = residual.map_or([0; 4], |r| r.shape);
    Some(Conv2dArgs {
        n: u(n)?,
        h: u(h)?,
        w: u(w)?,
        c: u(c)?,
        out_h: u(out_h)?,
        out_w: u(out_w)?,
        out_c: u(out_c)?,
        kernel_h: u(conv.kernel[0])?,
        kernel_w: u(conv.kernel[1])?,
        stride: u(conv.stride)?,
        padding: u(conv.padding)?,
        c4: u(c.div_ceil(4))?,
        res_h: u(res_h)?,
        res_w: u(res_w)?,
        res_c: u(res_c)?,
        res_stride: u(conv.residual.map_or(0, |r| r.stride))?,
        res_offset: u(conv.residual.map_or(0, |r| r.channel_offset))?,
        out_pad: u(padded_channels(packing, out_c))?,
        pad: [0; 2],
    })
}
