//! `--layers`: each distinct convolution of a network alone, to be set beside another library's on the same shape.
//!
//! A plan of one convolution repeated, each time with weights and a place for the result of its own, so that neither
//! is found in a cache because the last repetition left it there. The input is the same: in a network, too, it has
//! just been written. Shortcuts are left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use collage::backend::{Device, Input, Program};
use collage::model::hashed;
use collage::model::plan::{ARENA_ALIGN, Conv2d, Plan, Step, TensorId, Value, ValueId, Weights};
use collage::tensor::DType;
use serde::Serialize;

use super::measure::resident;
use super::networks::Network;
use super::spread::{Spread, unstable};
use crate::cli::failure::Failure;
use crate::cli::text::table;

/// Weights and results of one plan are more than this, where that takes no more repetitions than [`MOST`].
const BEYOND_CACHES: usize = 128 << 20;
const MOST: usize = 16;

/// One shape.
#[derive(Debug, Serialize)]
pub struct Layer {
    pub network: String,
    pub dtype: String,
    pub batch: usize,
    /// The first layer of this shape.
    pub name: String,
    /// Layers of this shape in the network.
    pub count: usize,
    /// N, H, W, C.
    pub input: [usize; 4],
    pub output: [usize; 4],
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: usize,
    pub by: String,
    /// `resident` (the device's time) or `latency` (the host's, the transfer of the input included).
    pub basis: &'static str,
    /// Of one convolution.
    pub ms: f64,
    pub tflops: f64,
    pub gb_per_s: f64,
    pub warnings: Vec<String>,
}

/// Every distinct convolution of the network, in order.
pub fn measure(
    device: &dyn Device,
    network: &Network,
    batch: usize,
    dtype: DType,
    budget: Duration,
) -> Result<Vec<Layer>, Failure> {
    let plan = Plan::compile(&network.model, &network.options(batch, dtype))?;
    let mut shapes: Vec<(String, Conv2d, usize)> = Vec::new();
    for step in &plan.steps {
        let Step::Conv2d(conv) = step else { continue };
        let shape = |c: &Conv2d| {
            let of = |v: ValueId| plan.values[v.0].shape;
            (of(c.input), of(c.output), c.kernel, c.stride, c.padding)
        };
        match shapes
            .iter_mut()
            .find(|(_, other, _)| shape(other) == shape(conv))
        {
            Some((.., count)) => *count += 1,
            None => {
                let node = conv.output.0.checked_sub(1);
                let node = node.and_then(|i| network.model.network().trunk.get(i));
                let name = node.map_or_else(String::new, |n| n.name.clone());
                shapes.push((name, *conv, 1));
            }
        }
    }
    let each = budget / u32::try_from(shapes.len().max(1)).unwrap_or(1);
    let mut layers = Vec::with_capacity(shapes.len());
    for (name, conv, count) in shapes {
        let repeated = repeated(&plan, &conv);
        let by = device.explain(&repeated)?.into_iter().next();
        let by = by.map_or_else(String::new, |c| format!("{} {}", c.kernel, c.detail));
        let (basis, times) = times(device, repeated, each)?;
        let ms = Spread::of(&times).map_or(0.0, |s| s.median);
        let step = Step::Conv2d(Conv2d {
            residual: None,
            ..conv
        });
        let seconds = (ms / 1e3).max(1e-12);
        layers.push(Layer {
            network: network.name.clone(),
            dtype: dtype.to_string(),
            batch,
            name,
            count,
            input: plan.values[conv.input.0].shape,
            output: plan.values[conv.output.0].shape,
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding,
            by: by.trim_end().to_string(),
            basis,
            ms,
            tflops: 2.0 * plan.macs(&step) as f64 / seconds / 1e12,
            gb_per_s: plan.bytes_moved(&step) as f64 / seconds / 1e9,
            warnings: unstable(&times).into_iter().collect(),
        });
    }
    Ok(layers)
}

/// The convolution several times over one input.
fn repeated(plan: &Plan, conv: &Conv2d) -> Plan {
    let (input, output) = (plan.values[conv.input.0], plan.values[conv.output.0]);
    let [weight, bias] = [conv.weight, conv.bias].map(|t| &plan.weights.tensors[t.0]);
    let bytes = (output.len() + weight.data().len()) * plan.dtype.bytes();
    let times = BEYOND_CACHES.div_ceil(bytes.max(1)).clamp(1, MOST);
    let mut values = vec![Value { offset: 0, ..input }];
    let mut arena_len = input.len().next_multiple_of(ARENA_ALIGN);
    let mut tensors = Vec::with_capacity(2 * times);
    let steps = (0..times).map(|i| {
        values.push(Value {
            offset: arena_len,
            ..output
        });
        arena_len += output.len().next_multiple_of(ARENA_ALIGN);
        tensors.extend([weight.clone(), bias.clone()]);
        Step::Conv2d(Conv2d {
            input: ValueId(0),
            output: ValueId(i + 1),
            weight: TensorId(2 * i),
            bias: TensorId(2 * i + 1),
            residual: None,
            ..*conv
        })
    });
    let steps = steps.collect();
    Plan {
        weights: Arc::new(Weights { tensors }),
        values,
        steps,
        arena_len,
        ..plan.clone()
    }
}

/// Of one repetition.
fn times(
    device: &dyn Device,
    plan: Plan,
    budget: Duration,
) -> Result<(&'static str, Vec<Duration>), Failure> {
    let repetitions = u32::try_from(plan.steps.len()).unwrap_or(1);
    let input = hashed::units(hashed::seed("layer"), plan.values[0].len());
    let mut program = device.load(Arc::new(plan))?;
    program.run(Input::Tensor(&input))?;
    let resident = resident(program.as_mut(), budget)?;
    let (basis, times) = if resident.is_empty() {
        ("latency", latencies(program.as_mut(), &input, budget)?)
    } else {
        ("resident", resident)
    };
    Ok((basis, times.into_iter().map(|t| t / repetitions).collect()))
}

fn latencies(
    program: &mut dyn Program,
    input: &[f32],
    budget: Duration,
) -> Result<Vec<Duration>, Failure> {
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || begin.elapsed() < budget {
        let start = Instant::now();
        program.run(Input::Tensor(input))?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// For people.
pub fn text(layers: &[Layer]) -> String {
    let head = [
        "network",
        "dtype",
        "layer",
        "times",
        "input N,H,W,C",
        "output",
        "window",
        "runs by",
        "us",
        "TFLOP/s",
        "GB/s",
    ];
    let mut rows = vec![head.map(String::from)];
    for layer in layers {
        let shape = |s: &[usize; 4]| s.map(|n| n.to_string()).join("x");
        let [h, w] = layer.kernel;
        rows.push([
            layer.network.clone(),
            layer.dtype.clone(),
            layer.name.clone(),
            layer.count.to_string(),
            shape(&layer.input),
            shape(&layer.output),
            format!("{h}x{w} /{}", layer.stride),
            layer.by.clone(),
            format!("{:.1}", layer.ms * 1e3),
            format!("{:.2}", layer.tflops),
            format!("{:.0}", layer.gb_per_s),
        ]);
    }
    table(&rows, 8)
}
