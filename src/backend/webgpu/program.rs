//! A plan on a device: all that its runs need, built once.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use half::f16;

use super::args::{AvgPool2dArgs, LinearArgs, MaxPool2dArgs, TopKArgs, TopKEntry};
use super::conv2d::{self, ResidualSource};
use super::device::{Pipeline, Shared};
use super::encode::EncodeStage;
use super::pack::{self, Packing};
use super::shaders;
use crate::backend::{BackendError, Input, Output, Program, Scored};
use crate::image::Image;
use crate::model::plan::{Conv2d, Linear, Plan, Step, TopK, Value, ValueId};
use crate::tensor::DType;

/// A plan ready to run.
pub(super) struct WebGpuProgram {
    device: Arc<Shared>,
    plan: Arc<Plan>,
    arena: wgpu::Buffer,
    encode: Option<(EncodeStage, Value)>,
    launches: Vec<Launch>,
    /// What a run gives back: a buffer and the bytes of it that matter.
    result: (wgpu::Buffer, u64, u64),
    download: wgpu::Buffer,
}

/// One dispatch.
struct Launch {
    pipeline: Arc<Pipeline>,
    bound: wgpu::BindGroup,
    groups: [u32; 3],
}

impl WebGpuProgram {
    pub(super) fn load(device: Arc<Shared>, plan: Arc<Plan>) -> Result<Self, BackendError> {
        let bytes = arena_bytes(&plan);
        let limit = device.limits.max_buffer_size;
        if bytes > limit {
            return Err(device.out_of_memory(&plan.name, bytes, limit));
        }
        for value in &plan.values {
            let needed = value_bytes(&plan, value);
            if needed > device.binding_limit() {
                return Err(device.out_of_memory(&plan.name, needed, device.binding_limit()));
            }
        }
        let mut program = device.guarded("load", &plan.name, bytes, || {
            Builder::new(&device, &plan, bytes).build()
        })?;
        program.warm_up()?;
        Ok(program)
    }

    /// One run on a blank input: drivers compile at the first dispatch, which must not be a request's.
    fn warm_up(&mut self) -> Result<(), BackendError> {
        if self.encode.is_some() {
            let black = Image::from_rgb(1, 1, [0; 3]);
            self.run(Input::Images(black.as_slice())).map(drop)
        } else {
            let zeros = vec![0.0; self.plan.values.first().map_or(0, Value::len)];
            self.run(Input::Tensor(&zeros)).map(drop)
        }
    }

    fn check_input(&self, input: Input<'_>) -> Result<(), BackendError> {
        let (what, expected) = match (input, &self.encode) {
            (Input::Images(images), Some(_)) => {
                if (1..=self.plan.capacity()).contains(&images.len()) {
                    return Ok(());
                }
                let expected = format!("1 to {}", self.plan.capacity());
                (format!("was given {} images", images.len()), expected)
            }
            (Input::Tensor(_), Some(_)) => ("was given a tensor".into(), "images".into()),
            (input, None) => {
                let shape = self.plan.values.first().map_or([0; 4], |v| v.shape);
                let what = match input {
                    Input::Tensor(data) if data.len() == shape.iter().product::<usize>() => {
                        return Ok(());
                    }
                    Input::Tensor(data) => format!("was given {} elements", data.len()),
                    Input::Images(_) => "was given images".into(),
                };
                (what, format!("a tensor of {shape:?}"))
            }
        };
        Err(BackendError::Input {
            plan: self.plan.name.clone(),
            what,
            expected,
        })
    }

    /// Uploads, submits one command buffer and starts the download.
    fn submit(
        &mut self,
        input: Input<'_>,
    ) -> Result<(wgpu::SubmissionIndex, Receiver<Mapped>), BackendError> {
        let device = &self.device;
        let mut encoder = device.device.create_command_encoder(&Default::default());
        match (input, &mut self.encode) {
            (Input::Images(images), Some((stage, canvases))) => {
                let output = range(&self.arena, &self.plan, canvases);
                stage.record(device, &self.plan, images, &output, &mut encoder)?;
            }
            (Input::Tensor(data), _) => {
                let at = self.plan.values.first().map_or(0, |v| v.offset) * self.plan.dtype.bytes();
                let bytes = pack::bytes(data, self.plan.dtype);
                device.queue.write_buffer(&self.arena, at as u64, &bytes);
            }
            // `check_input` has refused it.
            (Input::Images(_), None) => {}
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for launch in &self.launches {
            let [x, y, z] = launch.groups;
            pass.set_pipeline(&launch.pipeline.pipeline);
            pass.set_bind_group(0, &launch.bound, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        let (buffer, from, bytes) = &self.result;
        encoder.copy_buffer_to_buffer(buffer, *from, &self.download, 0, *bytes);
        let index = device.queue.submit([encoder.finish()]);
        let (sender, receiver) = channel();
        self.download
            .map_async(wgpu::MapMode::Read, .., move |mapped| {
                // Nobody listens any more when the run has already failed.
                let _ = sender.send(mapped);
            });
        Ok((index, receiver))
    }

    /// Waits for the device, and for the callback that another thread's wait may have taken over.
    fn wait(
        &self,
        index: wgpu::SubmissionIndex,
        mapped: &Receiver<Mapped>,
    ) -> Result<(), BackendError> {
        let device = &self.device;
        let waited = device.device.poll(wgpu::PollType::Wait {
            submission_index: Some(index),
            timeout: None,
        });
        waited.map_err(|e| device.failed("poll", e.to_string()))?;
        loop {
            match mapped.recv_timeout(Duration::from_millis(20)) {
                Ok(Ok(())) => return device.alive(),
                Ok(Err(e)) => return Err(device.failed("map_async", e.to_string())),
                Err(_) => {
                    device.alive()?;
                    // The work is done, so this only runs callbacks.
                    let polled = device.device.poll(wgpu::PollType::Poll);
                    polled.map_err(|e| device.failed("poll", e.to_string()))?;
                }
            }
        }
    }

    /// What the download holds, once it is mapped.
    fn read(&self, input: Input<'_>) -> Result<Output, BackendError> {
        let view = self
            .download
            .get_mapped_range(..)
            .map_err(|e| self.device.failed("get_mapped_range", e.to_string()))?;
        Ok(match self.plan.steps.last() {
            Some(Step::TopK(top)) => {
                let entries: &[TopKEntry] = bytemuck::cast_slice(&view);
                let rows = match input {
                    // Rows are tiles in order, so those without an image are the last.
                    Input::Images(images) => images.len(),
                    Input::Tensor(_) => rows(&self.plan.values[top.input.0]),
                };
                let scored = |e: &TopKEntry| Scored {
                    class: e.class,
                    score: if e.score.is_nan() { 0.0 } else { e.score },
                };
                let row = |row: &[TopKEntry]| row.iter().map(scored).collect();
                Output::TopK(entries.chunks_exact(top.k).take(rows).map(row).collect())
            }
            _ => {
                let len = output_of(&self.plan).map_or(0, |v| v.len());
                Output::Tensor(match self.plan.dtype {
                    DType::F32 => bytemuck::cast_slice(&view)[..len].to_vec(),
                    DType::F16 => {
                        let halves: &[f16] = bytemuck::cast_slice(&view);
                        halves[..len].iter().map(|v| v.to_f32()).collect()
                    }
                })
            }
        })
    }
}

type Mapped = Result<(), wgpu::BufferAsyncError>;

impl Program for WebGpuProgram {
    fn run(&mut self, input: Input<'_>) -> Result<Output, BackendError> {
        self.check_input(input)?;
        let device = self.device.clone();
        device.alive()?;
        let plan = self.plan.clone();
        device.guarded("run", &plan.name, arena_bytes(&plan), || {
            let (index, mapped) = self.submit(input)?;
            let waited = self.wait(index, &mapped);
            let output = waited.and_then(|()| self.read(input));
            // Also after a failure, so that the next run can map it again.
            self.download.unmap();
            output
        })
    }
}

/// The value that a plan without top_k gives back.
fn output_of(plan: &Plan) -> Option<Value> {
    let id = match plan.steps.last()? {
        Step::Encode(s) => s.output,
        Step::Conv2d(s) => s.output,
        Step::MaxPool2d(s) => s.output,
        Step::AvgPool2d(s) => s.output,
        Step::Linear(s) => s.output,
        Step::TopK(_) => return None,
    };
    Some(plan.values[id.0])
}

/// The product of all axes but the last.
fn rows(value: &Value) -> usize {
    value.shape[..3].iter().product()
}

/// Bytes of a value's binding: whole vectors of four, which cannot reach the next value, since each begins at a
/// multiple of [`ARENA_ALIGN`](crate::model::plan::ARENA_ALIGN).
fn value_bytes(plan: &Plan, value: &Value) -> u64 {
    (value.len() * plan.dtype.bytes()).next_multiple_of(16) as u64
}

fn arena_bytes(plan: &Plan) -> u64 {
    (plan.arena_bytes() as u64).next_multiple_of(256).max(256)
}

fn range<'a>(arena: &'a wgpu::Buffer, plan: &Plan, value: &Value) -> wgpu::BufferBinding<'a> {
    wgpu::BufferBinding {
        buffer: arena,
        offset: (value.offset * plan.dtype.bytes()) as u64,
        size: wgpu::BufferSize::new(value_bytes(plan, value)),
    }
}

/// Builds a program.
struct Builder<'a> {
    device: &'a Arc<Shared>,
    plan: &'a Arc<Plan>,
    arena: wgpu::Buffer,
    /// Bound where a shader declares a buffer that a step does not use.
    unused: wgpu::Buffer,
}

impl<'a> Builder<'a> {
    fn new(device: &'a Arc<Shared>, plan: &'a Arc<Plan>, bytes: u64) -> Self {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        Self {
            device,
            plan,
            arena: device.buffer("arena", bytes, usage),
            unused: device.buffer("unused", 256, Usage::STORAGE),
        }
    }

    fn build(self) -> Result<WebGpuProgram, BackendError> {
        let (device, plan) = (self.device, self.plan);
        let mut encode = None;
        let mut launches = Vec::new();
        let mut top = None;
        for step in &plan.steps {
            match step {
                Step::Encode(e) => {
                    let stage = EncodeStage::new(device, plan, e)?;
                    encode = Some((stage, plan.values[e.output.0]));
                }
                Step::Conv2d(c) => launches.push(self.conv2d(c)?),
                Step::MaxPool2d(p) => {
                    let ([n, h, w, c], out) = (self.shape(p.input), self.shape(p.output));
                    let args = MaxPool2dArgs {
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
                    };
                    let args = bytemuck::bytes_of(&args);
                    launches.push(self.pool(&shaders::MAX_POOL2D, args, p.input, p.output)?);
                }
                Step::AvgPool2d(p) => {
                    let [n, h, w, c] = self.shape(p.input);
                    let args = AvgPool2dArgs {
                        n: n as u32,
                        h: h as u32,
                        w: w as u32,
                        c: c as u32,
                        kernel_h: p.kernel[0] as u32,
                        kernel_w: p.kernel[1] as u32,
                        pad: [0; 2],
                    };
                    let args = bytemuck::bytes_of(&args);
                    launches.push(self.pool(&shaders::AVG_POOL2D, args, p.input, p.output)?);
                }
                Step::Linear(l) => launches.push(self.linear(l)?),
                Step::TopK(t) => {
                    let (launch, buffer) = self.top_k(t)?;
                    launches.push(launch);
                    top = Some(buffer);
                }
            }
        }
        let result = match (top, output_of(plan)) {
            (Some(buffer), _) => {
                let size = buffer.size();
                (buffer, 0, size)
            }
            (None, value) => {
                let value = value.unwrap_or(Value {
                    shape: [0; 4],
                    offset: 0,
                });
                let from = (value.offset * plan.dtype.bytes()) as u64;
                (self.arena.clone(), from, value_bytes(plan, &value).max(16))
            }
        };
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let download = device.buffer("download", result.2, usage);
        Ok(WebGpuProgram {
            device: device.clone(),
            plan: plan.clone(),
            arena: self.arena,
            encode,
            launches,
            result,
            download,
        })
    }

    fn shape(&self, id: ValueId) -> [usize; 4] {
        self.plan.values[id.0].shape
    }

    fn value(&self, id: ValueId) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(range(&self.arena, self.plan, &self.plan.values[id.0]))
    }

    /// The arguments in a buffer of their own, written once.
    fn arguments(&self, args: &[u8]) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = self.device.buffer("args", args.len() as u64, usage);
        self.device.queue.write_buffer(&buffer, 0, args);
        buffer
    }

    /// `count` workgroups over one dimension and, where that has too few, another.
    fn spread(&self, count: usize) -> Result<[u32; 2], BackendError> {
        let most = self.device.limits.max_compute_workgroups_per_dimension as usize;
        let (first, second) = (count.clamp(1, most), count.div_ceil(most).max(1));
        if second > most {
            return Err(self.too_large(count));
        }
        Ok([first as u32, second as u32])
    }

    fn too_large(&self, count: usize) -> BackendError {
        BackendError::Unsupported {
            device: self.device.info.name.clone(),
            what: format!("plan {}: a step of {count} workgroups", self.plan.name),
        }
    }

    fn conv2d(&self, conv: &Conv2d) -> Result<Launch, BackendError> {
        let launch = conv2d::plan_launch(conv, self.plan, self.device.convolution)
            .ok_or_else(|| self.too_large(usize::MAX))?;
        let residual = match (launch.residual, conv.residual) {
            (ResidualSource::Own, Some(r)) => self.value(r.value),
            _ => self.unused.as_entire_binding(),
        };
        let weight = self.device.weight(self.plan, conv.weight, launch.packing)?;
        let bias = self.device.weight(self.plan, conv.bias, Packing::Bias)?;
        let args = self.arguments(bytemuck::bytes_of(&launch.args));
        let pipeline = self
            .device
            .pipeline(launch.shader, self.plan.dtype, &launch.constants)?;
        let resources = [
            args.as_entire_binding(),
            self.value(conv.input),
            self.value(conv.output),
            residual,
            weight.as_entire_binding(),
            bias.as_entire_binding(),
        ];
        let [x, z] = self.spread(launch.groups[0])?;
        let [y, over] = self.spread(launch.groups[1])?;
        if over > 1 {
            return Err(self.too_large(launch.groups[1]));
        }
        Ok(Launch {
            bound: self.device.bind(&pipeline, &resources),
            pipeline,
            groups: [x, y, z],
        })
    }

    fn pool(
        &self,
        shader: &'static shaders::Shader,
        args: &[u8],
        input: ValueId,
        output: ValueId,
    ) -> Result<Launch, BackendError> {
        let elements = self.plan.values[output.0].len();
        let [x, y] = self.spread(elements.div_ceil(64))?;
        let pipeline = self.device.pipeline(shader, self.plan.dtype, &[])?;
        let args = self.arguments(args);
        let resources = [
            args.as_entire_binding(),
            self.value(input),
            self.value(output),
        ];
        Ok(Launch {
            bound: self.device.bind(&pipeline, &resources),
            pipeline,
            groups: [x, y, 1],
        })
    }

    fn linear(&self, l: &Linear) -> Result<Launch, BackendError> {
        let (input, output) = (self.shape(l.input), self.shape(l.output));
        let rows = rows(&self.plan.values[l.input.0]);
        let args = LinearArgs {
            rows: rows as u32,
            c: input[3] as u32,
            out_c: output[3] as u32,
            c4: input[3].div_ceil(4) as u32,
        };
        let args = self.arguments(bytemuck::bytes_of(&args));
        let weight = self.device.weight(self.plan, l.weight, Packing::Linear)?;
        let bias = self.device.weight(self.plan, l.bias, Packing::Bias)?;
        let pipeline = self
            .device
            .pipeline(&shaders::LINEAR, self.plan.dtype, &[])?;
        let resources = [
            args.as_entire_binding(),
            self.value(l.input),
            self.value(l.output),
            weight.as_entire_binding(),
            bias.as_entire_binding(),
        ];
        let [x, over] = self.spread(output[3].div_ceil(64))?;
        if over > 1 {
            return Err(self.too_large(output[3].div_ceil(64)));
        }
        let [y, z] = self.spread(rows.div_ceil(4))?;
        Ok(Launch {
            bound: self.device.bind(&pipeline, &resources),
            pipeline,
            groups: [x, y, z],
        })
    }

    fn top_k(&self, t: &TopK) -> Result<(Launch, wgpu::Buffer), BackendError> {
        let rows = rows(&self.plan.values[t.input.0]);
        let args = TopKArgs {
            rows: rows as u32,
            c: self.shape(t.input)[3] as u32,
            k: t.k as u32,
            inverse_temperature: 1.0 / t.temperature,
        };
        let size = ((rows * t.k).max(1) * size_of::<TopKEntry>()) as u64;
        if size > self.device.binding_limit() {
            let limit = self.device.binding_limit();
            return Err(self.device.out_of_memory(&self.plan.name, size, limit));
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.device.buffer("top_k", size, usage);
        let args = self.arguments(bytemuck::bytes_of(&args));
        let pipeline = self
            .device
            .pipeline(&shaders::TOP_K, self.plan.dtype, &[])?;
        let resources = [
            args.as_entire_binding(),
            self.value(t.input),
            buffer.as_entire_binding(),
        ];
        let [x, y] = self.spread(rows)?;
        let launch = Launch {
            bound: self.device.bind(&pipeline, &resources),
            pipeline,
            groups: [x, y, 1],
        };
        Ok((launch, buffer))
    }
}
