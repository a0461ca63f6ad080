//! A plan on a device: all that its runs need, built once.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use half::{bf16, f16};

use super::builder::{Builder, Launch, arena_bytes, output_of, range, rows, value_bytes};
use super::device::Shared;
use super::encode::EncodeStage;
use super::pack;
use super::turns;
use crate::backend::top_k::{self, TopKEntry};
use crate::backend::{BackendError, Input, Output, Program, check};
use crate::image::Image;
use crate::model::plan::{Plan, Step, Value};
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
        if device.info.software {
            turns::check_software(&plan, &device.info.name)?;
        }
        let mut program = device.guarded("load", &plan.name, bytes, || {
            let built = Builder::new(&device, &plan).build()?;
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            Ok(Self {
                download: device.buffer("download", built.result.2, usage),
                device: device.clone(),
                plan: plan.clone(),
                arena: built.arena,
                encode: built.encode,
                launches: built.launches,
                result: built.result,
            })
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
            // `check::input` has refused it.
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
                    Input::Images(images) => images.len(),
                    Input::Tensor(_) => rows(&self.plan.values[top.input.0]),
                };
                Output::TopK(top_k::answers(entries, top.k, rows))
            }
            _ => {
                let len = output_of(&self.plan).map_or(0, |v| v.len());
                Output::Tensor(match self.plan.dtype {
                    DType::F32 => bytemuck::cast_slice(&view)[..len].to_vec(),
                    DType::F16 => {
                        let halves: &[f16] = bytemuck::cast_slice(&view);
                        halves[..len].iter().map(|v| v.to_f32()).collect()
                    }
                    DType::Bf16 => {
                        let halves: &[bf16] = bytemuck::cast_slice(&view);
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
        check::input(&self.plan, input, None)?;
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
