//! The fast path: a plan's steps prepared at load, so that a run only computes.
//!
//! Convolutions and linear layers go to `simd`; the small ops are loops here that the compiler vectorises. Every
//! output is one chain of sums whose order depends on the step alone, so that an image's answer is the same to the bit
//! in any batch and on any number of threads.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rayon::ThreadPool;

use super::encoder::Encoder;
use super::max_pool2d::window;
use super::simd::{Conv, Geometry, Kernels, Lines, Packed, Place, Residual, Workers};
use super::{out_of_memory, result, round, uncroppable};
use crate::backend::{BackendError, DeviceInfo, Input, Output, Program, check};
use crate::model::check::PlanError;
use crate::model::plan::{
    Activation, AvgPool2d, Conv2d, Linear, MaxPool2d, Plan, Step, TensorId, Value, ValueId, Weights,
};
use crate::tensor::DType;

/// Packed weights of every network on a device, shared by the programs of all its batch sizes.
#[derive(Default)]
pub struct Store(Mutex<Vec<Entry>>);

/// Those of one network in one dtype; gone when the network is.
struct Entry {
    weights: Weak<Weights>,
    dtype: DType,
    packed: HashMap<(TensorId, TensorId), Arc<Packed>>,
}

impl Store {
    /// The packed weight and bias, made at first use.
    fn get(&self, plan: &Plan, weight: TensorId, bias: TensorId, lanes: usize) -> Arc<Packed> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|e| e.weights.strong_count() > 0);
        let same =
            |e: &Entry| e.weights.as_ptr() == Arc::as_ptr(&plan.weights) && e.dtype == plan.dtype;
        let at = entries.iter().position(same).unwrap_or_else(|| {
            let weights = Arc::downgrade(&plan.weights);
            entries.push(Entry {
                weights,
                dtype: plan.dtype,
                packed: HashMap::new(),
            });
            entries.len() - 1
        });
        let pack = || {
            let rounded = |id: TensorId| {
                let mut data = plan.weights.tensors[id.0].data().to_vec();
                round(&mut data, plan.dtype);
                data
            };
            Arc::new(Packed::new(&rounded(weight), &rounded(bias), lanes))
        };
        entries[at]
            .packed
            .entry((weight, bias))
            .or_insert_with(pack)
            .clone()
    }
}

/// A step that is ready to run.
enum Ready {
    Encode(Encoder),
    Conv(Conv),
    MaxPool2d(MaxPool2d),
    AvgPool2d(AvgPool2d),
    TopK,
}

/// A plan on the fast path.
pub struct Fast {
    plan: Arc<Plan>,
    steps: Vec<Ready>,
    /// Activations, in f32 whatever the dtype.
    arena: Lines,
    workers: Workers,
}

impl Fast {
    /// From a checked plan.
    pub fn new(
        plan: Arc<Plan>,
        info: &DeviceInfo,
        store: &Store,
        kernels: Kernels,
        pool: Option<Arc<ThreadPool>>,
    ) -> Result<Self, BackendError> {
        let threads = pool.as_ref().map_or(1, |p| p.current_num_threads());
        let conv = |step: usize, g: Geometry, weight, bias| {
            let packed = store.get(&plan, weight, bias, kernels.lanes);
            let conv = Conv::new(g, packed, kernels, threads);
            conv.map(Ready::Conv)
                .ok_or_else(|| mismatch(&plan, step, "the shapes contradict each other"))
        };
        let steps: Vec<Ready> = plan
            .steps
            .iter()
            .enumerate()
            .map(|(i, step)| {
                Ok(match step {
                    Step::Encode(e) => Ready::Encode(Encoder::new(*e, plan.capacity())),
                    Step::Conv2d(c) => conv(i, conv2d_geometry(&plan, c), c.weight, c.bias)?,
                    Step::Linear(l) => conv(i, linear_geometry(&plan, l), l.weight, l.bias)?,
                    Step::MaxPool2d(p) => Ready::MaxPool2d(*p),
                    Step::AvgPool2d(p) => Ready::AvgPool2d(*p),
                    Step::TopK(_) => Ready::TopK,
                })
            })
            .collect::<Result<_, BackendError>>()?;
        let scratch = |s: &Ready| {
            if let Ready::Conv(c) = s {
                c.scratch_len()
            } else {
                0
            }
        };
        let scratch_len = steps.iter().map(scratch).max().unwrap_or(0);
        let arena = Lines::try_zeroed(plan.arena_len)
            .ok_or_else(|| out_of_memory(info, &plan, info.memory_bytes.unwrap_or(0)))?;
        Ok(Self {
            plan,
            steps,
            arena,
            workers: Workers::new(pool, scratch_len),
        })
    }
}

impl Program for Fast {
    fn run(&mut self, input: Input<'_>) -> Result<Output, BackendError> {
        check::input(&self.plan, input, None)?;
        let Self {
            plan,
            steps,
            arena,
            workers,
        } = self;
        let arena = arena.as_mut_slice();
        workers.enter(|| {
            if let Input::Tensor(data) = input {
                let place = &mut arena[range(plan, ValueId(0))];
                place.copy_from_slice(data);
                round(place, plan.dtype);
            }
            for (i, (ready, step)) in steps.iter_mut().zip(&plan.steps).enumerate() {
                run_step(plan, i, ready, input, arena, workers)?;
                if let (DType::F16 | DType::Bf16, Some(id)) = (plan.dtype, step.writes()) {
                    let output = &mut arena[range(plan, id)];
                    workers.for_each_chunk(output, 1 << 14, |_, part| round(part, plan.dtype));
                }
            }
            let arena = &*arena;
            Ok(result(plan, input, |id| &arena[range(plan, id)]))
        })
    }
}

fn run_step(
    plan: &Plan,
    at: usize,
    ready: &mut Ready,
    input: Input<'_>,
    arena: &mut [f32],
    workers: &Workers,
) -> Result<(), BackendError> {
    let value = |id: ValueId| plan.values[id.0];
    let broken = || mismatch(plan, at, "the input and the output overlap");
    match (ready, input) {
        (Ready::Encode(encoder), Input::Images(images)) => {
            let canvases = &mut arena[range(plan, encoder.encode.output)];
            encoder
                .run(images, canvases, workers)
                .ok_or_else(|| uncroppable(plan))?;
        }
        (Ready::Conv(conv), _) => conv.run(arena, workers),
        (Ready::MaxPool2d(p), _) => {
            let (from, to) = two(plan, arena, p.input, p.output).ok_or_else(broken)?;
            max_pool(p, from, value(p.input), to, value(p.output), workers);
        }
        (Ready::AvgPool2d(p), _) => {
            let (from, to) = two(plan, arena, p.input, p.output).ok_or_else(broken)?;
            avg_pool(p, from, value(p.input), to, value(p.output), workers);
        }
        (Ready::TopK, _) | (Ready::Encode(_), Input::Tensor(_)) => {}
    }
    Ok(())
}

/// A step that the plan's check should not have let through.
fn mismatch(plan: &Plan, step: usize, what: &'static str) -> BackendError {
    PlanError::Mismatch {
        plan: plan.name.clone(),
        step,
        op: plan.steps[step].op(),
        what,
    }
    .into()
}

/// A value's place in the arena.
fn range(plan: &Plan, id: ValueId) -> Range<usize> {
    let v = plan.values[id.0];
    v.offset..v.offset + v.len()
}

/// An input and an output at once.
fn two<'a>(
    plan: &Plan,
    arena: &'a mut [f32],
    from: ValueId,
    to: ValueId,
) -> Option<(&'a [f32], &'a mut [f32])> {
    let [from, to] = arena
        .get_disjoint_mut([range(plan, from), range(plan, to)])
        .ok()?;
    Some((from, to))
}

fn place(value: Value) -> Place {
    Place {
        offset: value.offset,
        shape: value.shape,
    }
}

fn conv2d_geometry(plan: &Plan, c: &Conv2d) -> Geometry {
    let at = |id: ValueId| place(plan.values[id.0]);
    Geometry {
        input: at(c.input),
        output: at(c.output),
        kernel: c.kernel,
        stride: c.stride,
        padding: c.padding,
        relu: c.activation == Activation::Relu,
        residual: c.residual.map(|r| Residual {
            place: at(r.value),
            stride: r.stride,
            channel_offset: r.channel_offset,
        }),
    }
}

/// A linear layer is a pointwise convolution of one row, whose pixels are all the rows of the input.
fn linear_geometry(plan: &Plan, l: &Linear) -> Geometry {
    let row = |id: ValueId| {
        let Value {
            shape: [n, h, w, c],
            offset,
        } = plan.values[id.0];
        Place {
            offset,
            shape: [1, 1, n * h * w, c],
        }
    };
    let (input, output) = (row(l.input), row(l.output));
    Geometry {
        input,
        output,
        kernel: [1, 1],
        stride: 1,
        padding: 0,
        relu: false,
        residual: None,
    }
}

fn max_pool(
    p: &MaxPool2d,
    input: &[f32],
    from: Value,
    output: &mut [f32],
    to: Value,
    workers: &Workers,
) {
    let ([_, height, width, channels], [_, out_height, out_width, _]) = (from.shape, to.shape);
    workers.for_each_chunk(output, out_width * channels, |row, out| {
        let (n, oy) = (row / out_height, row % out_height);
        out.fill(f32::NEG_INFINITY);
        for iy in window(oy, p, height) {
            let line = &input[(n * height + iy) * width * channels..][..width * channels];
            for (ox, out) in out.chunks_exact_mut(channels).enumerate() {
                for ix in window(ox, p, width) {
                    for (o, &x) in out.iter_mut().zip(&line[ix * channels..][..channels]) {
                        *o = if x > *o { x } else { *o };
                    }
                }
            }
        }
    });
}

/// In the specification's order and precision.
fn avg_pool(
    p: &AvgPool2d,
    input: &[f32],
    from: Value,
    output: &mut [f32],
    to: Value,
    workers: &Workers,
) {
    let ([_, height, width, channels], [_, out_height, out_width, _]) = (from.shape, to.shape);
    let [kernel_height, kernel_width] = p.kernel;
    let area = (kernel_height * kernel_width) as f64;
    workers.for_each_chunk(output, out_width * channels, |row, out| {
        let (n, oy) = (row / out_height, row % out_height);
        let mut sums = vec![0.0; channels];
        for (ox, out) in out.chunks_exact_mut(channels).enumerate() {
            sums.fill(0.0);
            for iy in oy * kernel_height..(oy + 1) * kernel_height {
                let start = ((n * height + iy) * width + ox * kernel_width) * channels;
                for pixel in input[start..][..kernel_width * channels].chunks_exact(channels) {
                    for (sum, &x) in sums.iter_mut().zip(pixel) {
                        *sum += f64::from(x);
                    }
                }
            }
            for (out, &sum) in out.iter_mut().zip(&sums) {
                *out = (sum / area) as f32;
            }
        }
    });
}
