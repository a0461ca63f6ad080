//! From a plan to a program: every pipeline, argument buffer and bind group, made once.

use std::sync::Arc;

use super::args::{AvgPool2dArgs, LinearArgs, MaxPool2dArgs, TopKArgs};
use super::conv2d;
use super::device::{Pipeline, Shared};
use super::encode::EncodeStage;
use super::pack::Packing;
use super::shaders::{self, Shader};
use crate::backend::BackendError;
use crate::backend::top_k::TopKEntry;
use crate::model::plan::{AvgPool2d, Linear, MaxPool2d, Plan, Step, TopK, Value, ValueId};

/// One dispatch.
pub(super) struct Launch {
    pub pipeline: Arc<Pipeline>,
    pub bound: wgpu::BindGroup,
    pub groups: [u32; 3],
}

/// What a builder makes.
pub(super) struct Built {
    pub arena: wgpu::Buffer,
    pub encode: Option<(EncodeStage, Value)>,
    pub launches: Vec<Launch>,
    /// What a run gives back: a buffer, where in it, and how many bytes.
    pub result: (wgpu::Buffer, u64, u64),
}

/// The value that a plan without top_k gives back.
pub(super) fn output_of(plan: &Plan) -> Option<Value> {
    let id = plan.steps.last()?.writes()?;
    plan.values.get(id.0).copied()
}

/// The product of all axes but the last.
pub(super) fn rows(value: &Value) -> usize {
    value.shape[..3].iter().product()
}

/// Bytes of a value's binding: whole vectors of four, which cannot reach the next value, since each begins at a
/// multiple of [`ARENA_ALIGN`](crate::model::plan::ARENA_ALIGN).
pub(super) fn value_bytes(plan: &Plan, value: &Value) -> u64 {
    (value.len() * plan.dtype.bytes()).next_multiple_of(16) as u64
}

pub(super) fn arena_bytes(plan: &Plan) -> u64 {
    (plan.arena_bytes() as u64).next_multiple_of(256).max(256)
}

pub(super) fn range<'a>(
    arena: &'a wgpu::Buffer,
    plan: &Plan,
    value: &Value,
) -> wgpu::BufferBinding<'a> {
    wgpu::BufferBinding {
        buffer: arena,
        offset: (value.offset * plan.dtype.bytes()) as u64,
        size: wgpu::BufferSize::new(value_bytes(plan, value)),
    }
}

/// Builds the launches of one plan.
pub(super) struct Builder<'a> {
    pub device: &'a Arc<Shared>,
    pub plan: &'a Arc<Plan>,
    arena: wgpu::Buffer,
    /// What the convolutions keep between their own dispatches.
    pub scratch: wgpu::Buffer,
    /// Bound where a shader declares a buffer that a step does not use.
    pub unused: wgpu::Buffer,
}

impl<'a> Builder<'a> {
    pub fn new(device: &'a Arc<Shared>, plan: &'a Arc<Plan>) -> Self {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let scratch = conv2d::scratch_bytes(device, plan).max(256);
        Self {
            device,
            plan,
            arena: device.buffer("arena", arena_bytes(plan), usage),
            scratch: device.buffer("scratch", scratch, Usage::STORAGE),
            unused: device.buffer("unused", 256, Usage::STORAGE),
        }
    }

    pub fn build(self) -> Result<Built, BackendError> {
        let mut encode = None;
        let mut launches = Vec::new();
        let mut top = None;
        for step in &self.plan.steps {
            match step {
                Step::Encode(e) => {
                    let stage = EncodeStage::new(self.device, self.plan, e)?;
                    encode = Some((stage, self.plan.values[e.output.0]));
                }
                Step::Conv2d(c) => launches.extend(self.conv2d(c)?),
                Step::MaxPool2d(p) => launches.push(self.max_pool2d(p)?),
                Step::AvgPool2d(p) => launches.push(self.avg_pool2d(p)?),
                Step::Linear(l) => launches.push(self.linear(l)?),
                Step::TopK(t) => {
                    let (launch, buffer) = self.top_k(t)?;
                    launches.push(launch);
                    top = Some(buffer);
                }
            }
        }
        let result = match (top, output_of(self.plan)) {
            (Some(buffer), _) => {
                let size = buffer.size();
                (buffer, 0, size)
            }
            (None, Some(value)) => {
                let start = (value.offset * self.plan.dtype.bytes()) as u64;
                let size = value_bytes(self.plan, &value);
                (self.arena.clone(), start, size)
            }
            (None, None) => (self.arena.clone(), 0, 16),
        };
        Ok(Built {
            arena: self.arena,
            encode,
            launches,
            result,
        })
    }

    pub fn shape(&self, id: ValueId) -> [usize; 4] {
        self.plan.values[id.0].shape
    }

    pub fn value(&self, id: ValueId) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(range(&self.arena, self.plan, &self.plan.values[id.0]))
    }

    /// The arguments in a buffer of their own, written once.
    pub fn arguments<T: bytemuck::Pod>(&self, args: &T) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let bytes = bytemuck::bytes_of(args);
        let buffer = self.device.buffer("args", bytes.len() as u64, usage);
        self.device.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// Compiles and binds.
    pub fn launch(
        &self,
        shader: &'static Shader,
        constants: &[(&'static str, u32)],
        resources: &[wgpu::BindingResource<'_>],
        groups: [u32; 3],
    ) -> Result<Launch, BackendError> {
        let pipeline = self.device.pipeline(shader, self.plan.dtype, constants)?;
        Ok(Launch {
            bound: self.device.bind(&pipeline, resources),
            pipeline,
            groups,
        })
    }

    /// `count` workgroups over one dimension and, where that has too few, another.
    pub fn spread(&self, count: usize) -> Result<[u32; 2], BackendError> {
        let most = self.device.limits.max_compute_workgroups_per_dimension as usize;
        let (first, second) = (count.clamp(1, most), count.div_ceil(most).max(1));
        if second > most {
            return Err(self.too_large(count));
        }
        Ok([first as u32, second as u32])
    }

    /// `count` workgroups over the one dimension that is left.
    pub fn within(&self, count: usize) -> Result<u32, BackendError> {
        let most = self.device.limits.max_compute_workgroups_per_dimension as usize;
        if count > most {
            return Err(self.too_large(count));
        }
        Ok(count.max(1) as u32)
    }

    pub fn too_large(&self, count: usize) -> BackendError {
        BackendError::Unsupported {
            device: self.device.info.name.clone(),
            what: format!("plan {}: a step of {count} workgroups", self.plan.name),
        }
    }

    fn max_pool2d(&self, p: &MaxPool2d) -> Result<Launch, BackendError> {
        let ([n, h, w, c], out) = (self.shape(p.input), self.shape(p.output));
        let args = self.arguments(&MaxPool2dArgs {
            n: n as u32,
            h: h as u32,
            w: w as u32,
            c: c as u32,
            out_h: out[1] as u32,
            out_w: out[2] as u32,
            kernel: p.kernel as u32,
            stride: p.stride as u32,
            padding: p.padding as u32,
            pad: [0; 3],
        });
        let tasks = rows(&self.plan.values[p.output.0]) * c.div_ceil(4);
        let [x, y] = self.spread(tasks.div_ceil(64))?;
        let resources = [
            args.as_entire_binding(),
            self.value(p.input),
            self.value(p.output),
        ];
        let constants = [("VECTOR", u32::from(c.is_multiple_of(4)))];
        self.launch(&shaders::MAX_POOL2D, &constants, &resources, [x, y, 1])
    }

    fn avg_pool2d(&self, p: &AvgPool2d) -> Result<Launch, BackendError> {
        let [n, h, w, c] = self.shape(p.input);
        let args = self.arguments(&AvgPool2dArgs {
            n: n as u32,
            h: h as u32,
            w: w as u32,
            c: c as u32,
            kernel_h: p.kernel[0] as u32,
            kernel_w: p.kernel[1] as u32,
            pad: [0; 2],
        });
        let elements = self.plan.values[p.output.0].len();
        let [x, y] = self.spread(elements.div_ceil(64))?;
        let resources = [
            args.as_entire_binding(),
            self.value(p.input),
            self.value(p.output),
        ];
        self.launch(&shaders::AVG_POOL2D, &[], &resources, [x, y, 1])
    }

    fn linear(&self, l: &Linear) -> Result<Launch, BackendError> {
        let (input, output) = (self.shape(l.input), self.shape(l.output));
        let rows = rows(&self.plan.values[l.input.0]);
        let args = self.arguments(&LinearArgs {
            rows: rows as u32,
            c: input[3] as u32,
            out_c: output[3] as u32,
            c4: input[3].div_ceil(4) as u32,
        });
        let weight = self.device.weight(self.plan, l.weight, Packing::Linear)?;
        let bias = self.device.weight(self.plan, l.bias, Packing::Bias)?;
        let resources = [
            args.as_entire_binding(),
            self.value(l.input),
            self.value(l.output),
            weight.as_entire_binding(),
            bias.as_entire_binding(),
        ];
        let x = self.within(output[3].div_ceil(64))?;
        let [y, z] = self.spread(rows.div_ceil(4))?;
        let constants = [("VECTOR", u32::from(input[3].is_multiple_of(4)))];
        self.launch(&shaders::LINEAR, &constants, &resources, [x, y, z])
    }

    /// The launch, and where it leaves its results.
    fn top_k(&self, t: &TopK) -> Result<(Launch, wgpu::Buffer), BackendError> {
        let rows = rows(&self.plan.values[t.input.0]);
        let args = self.arguments(&TopKArgs {
            rows: rows as u32,
            c: self.shape(t.input)[3] as u32,
            k: t.k as u32,
            inverse_temperature: 1.0 / t.temperature,
        });
        let size = ((rows * t.k).max(1) * size_of::<TopKEntry>()) as u64;
        if size > self.device.binding_limit() {
            let limit = self.device.binding_limit();
            return Err(self.device.out_of_memory(&self.plan.name, size, limit));
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.device.buffer("top_k", size, usage);
        let resources = [
            args.as_entire_binding(),
            self.value(t.input),
            buffer.as_entire_binding(),
        ];
        let [x, y] = self.spread(rows)?;
        let launch = self.launch(&shaders::TOP_K, &[], &resources, [x, y, 1])?;
        Ok((launch, buffer))
    }
}
