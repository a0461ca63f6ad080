//! An open adapter: its queue, and what all programs on it share: pipelines and weights.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::pack::{self, Packing};
use super::program::WebGpuProgram;
use super::raw;
use super::shaders::{Bind, Shader};
use crate::backend::{BackendError, BackendKind, Device, DeviceInfo, Program, check};
use crate::model::plan::{Plan, TensorId, Weights};
use crate::tensor::DType;

/// Which convolution runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convolution {
    /// Workgroup memory and register tiles: for GPUs.
    Tiled,
    /// Weights handed from lane to lane by subgroup broadcasts: for adapters that run on a CPU.
    Broadcast,
}

/// What the programs of a device share.
pub(super) struct Shared {
    pub(super) info: DeviceInfo,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: wgpu::Limits,
    /// Why the device is gone, once it is.
    lost: Arc<Mutex<Option<String>>>,
    pub(super) convolution: Convolution,
    pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    weights: Mutex<Vec<Resident>>,
}

/// A compiled entry point.
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

#[derive(PartialEq, Eq, Hash)]
struct PipelineKey {
    name: &'static str,
    dtype: DType,
    constants: Vec<(&'static str, u32)>,
}

/// Weights that are on the device as long as someone holds them.
struct Resident {
    weights: Weak<Weights>,
    buffers: HashMap<(TensorId, Packing, DType), wgpu::Buffer>,
}

/// A panic while the lock was held leaves the data whole: every change under it is a single insertion.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The features that the shaders can use.
const FEATURES: wgpu::Features = wgpu::Features::SHADER_F16
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::SHADER_INT64);

/// What is known of an adapter without opening it.
pub(super) fn describe(index: usize, adapter: &wgpu::Adapter) -> DeviceInfo {
    let info = adapter.get_info();
    let features = adapter.features();
    let mut names = vec![format!("{:?}", info.backend).to_lowercase()];
    if features.contains(wgpu::Features::SHADER_F16) {
        names.push("shader-f16".into());
    }
    if features.contains(wgpu::Features::SUBGROUP) {
        names.push(format!(
            "subgroup-{}-{}",
            info.subgroup_min_size, info.subgroup_max_size
        ));
    }
    DeviceInfo {
        backend: BackendKind::Wgpu,
        index,
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .into(),
        memory_bytes: None,
        features: names,
        software: info.device_type == wgpu::DeviceType::Cpu,
    }
}

impl Shared {
    fn open(
        index: usize,
        adapter: &wgpu::Adapter,
        convolution: Option<Convolution>,
    ) -> Result<Self, BackendError> {
        let info = describe(index, adapter);
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("collage"),
            required_features: adapter.features() & FEATURES,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|e| {
                BackendError::Driver {
                    device: info.name.clone(),
                    call: "request_device",
                    reason: e.to_string(),
                }
            })?;
        let lost = Arc::new(Mutex::new(None));
        let noted = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            *lock(&noted) = Some(format!("{reason:?}: {message}"));
        });
        // Errors are caught by the scopes of each call; one that no scope sees must not end the process, as wgpu's
        // own handler would.
        device.on_uncaptured_error(Arc::new(|error| tracing::error!("WebGPU: {error}")));
        let broadcasts = can_broadcast(adapter);
        let convolution = match convolution {
            Some(Convolution::Broadcast) if !broadcasts => {
                return Err(BackendError::Unsupported {
                    device: info.name,
                    what: "conv2d_broadcast needs subgroups of exactly 8 lanes and 64-bit integers"
                        .into(),
                });
            }
            Some(chosen) => chosen,
            None if broadcasts && info.software => Convolution::Broadcast,
            None => Convolution::Tiled,
        };
        Ok(Self {
            info,
            device,
            queue,
            limits,
            lost,
            convolution,
            pipelines: Mutex::default(),
            weights: Mutex::default(),
        })
    }

    /// An error if the device is gone.
    pub(super) fn alive(&self) -> Result<(), BackendError> {
        match &*lock(&self.lost) {
            Some(reason) => Err(BackendError::DeviceLost {
                device: self.info.name.clone(),
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A refused call, unless it was refused because the device is gone.
    pub(super) fn failed(&self, call: &'static str, reason: String) -> BackendError {
        self.alive().err().unwrap_or_else(|| BackendError::Driver {
            device: self.info.name.clone(),
            call,
            reason,
        })
    }

    pub(super) fn out_of_memory(&self, plan: &str, needed: u64, allowed: u64) -> BackendError {
        BackendError::OutOfMemory {
            device: self.info.name.clone(),
            plan: plan.into(),
            needed,
            allowed,
        }
    }

    /// Runs `calls` and turns what the driver says about them into a typed error. `bytes` is what they allocate.
    pub(super) fn guarded<T>(
        &self,
        call: &'static str,
        plan: &str,
        bytes: u64,
        calls: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        // Scopes belong to this thread, so that programs on other threads do not see each other's errors.
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = calls();
        let refused = pollster::block_on(validation.pop()).or(pollster::block_on(internal.pop()));
        let exhausted = pollster::block_on(memory.pop());
        self.alive()?;
        if exhausted.is_some() {
            return Err(self.out_of_memory(plan, bytes, 0));
        }
        if let Some(error) = refused {
            return Err(self.failed(call, error.to_string()));
        }
        result
    }

    pub(super) fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// The most bytes that one storage binding may have.
    pub(super) fn binding_limit(&self) -> u64 {
        self.limits
            .max_storage_buffer_binding_size
            .min(self.limits.max_buffer_size)
    }

    /// The compiled shader, made on first use. Constants are the values of its `override`s.
    pub(super) fn pipeline(
        &self,
        shader: &Shader,
        dtype: DType,
        constants: &[(&'static str, u32)],
    ) -> Result<Arc<Pipeline>, BackendError> {
        let key = PipelineKey {
            name: shader.name,
            dtype,
            constants: constants.to_vec(),
        };
        let mut pipelines = lock(&self.pipelines);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.guarded(shader.name, shader.name, 0, || {
            Ok(Arc::new(self.compile(shader, dtype, constants)))
        })?;
        pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(
        &self,
        shader: &Shader,
        dtype: DType,
        constants: &[(&'static str, u32)],
    ) -> Pipeline {
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..)
            .zip(shader.bindings)
            .map(|(binding, &bind)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match bind {
                        Bind::Uniform => wgpu::BufferBindingType::Uniform,
                        Bind::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Bind::Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(shader.name),
                entries: &entries,
            });
        let constants: Vec<(&str, f64)> = constants.iter().map(|&(k, v)| (k, v.into())).collect();
        let module = raw::own_shader(&self.device, shader.name, shader.source(dtype));
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(shader.name),
                layout: Some(&self.device.create_pipeline_layout(
                    &wgpu::PipelineLayoutDescriptor {
                        label: Some(shader.name),
                        bind_group_layouts: &[Some(&layout)],
                        immediate_size: 0,
                    },
                )),
                module: &module,
                entry_point: Some(shader.name),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // Every shader writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
        Pipeline { pipeline, layout }
    }

    pub(super) fn bind(
        &self,
        pipeline: &Pipeline,
        resources: &[wgpu::BindingResource<'_>],
    ) -> wgpu::BindGroup {
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
            .zip(resources)
            .map(|(binding, resource)| wgpu::BindGroupEntry {
                binding,
                resource: resource.clone(),
            })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        })
    }

    /// The packed tensor on this device, uploaded by whoever asks first.
    pub(super) fn weight(
        &self,
        plan: &Plan,
        tensor: TensorId,
        packing: Packing,
    ) -> Result<wgpu::Buffer, BackendError> {
        let mut all = lock(&self.weights);
        all.retain(|resident| resident.weights.strong_count() > 0);
        let held = Arc::as_ptr(&plan.weights);
        let at = all.iter().position(|r| r.weights.as_ptr() == held);
        let at = at.unwrap_or_else(|| {
            all.push(Resident {
                weights: Arc::downgrade(&plan.weights),
                buffers: HashMap::new(),
            });
            all.len() - 1
        });
        let key = (tensor, packing, plan.dtype);
        if let Some(buffer) = all[at].buffers.get(&key) {
            return Ok(buffer.clone());
        }
        let data = pack::pack(&plan.weights.tensors[tensor.0], packing, plan.dtype);
        let size = (data.len() as u64).next_multiple_of(16);
        if size > self.binding_limit() {
            return Err(self.out_of_memory(&plan.name, size, self.binding_limit()));
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.buffer("weights", size, usage);
        self.queue.write_buffer(&buffer, 0, &data);
        all[at].buffers.insert(key, buffer.clone());
        Ok(buffer)
    }
}

/// Whether conv2d_broadcast and its companions can run: they are written for subgroups of 8 and 64-bit words.
fn can_broadcast(adapter: &wgpu::Adapter) -> bool {
    let info = adapter.get_info();
    let needs = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_INT64;
    adapter.features().contains(needs) && info.subgroup_min_size == 8 && info.subgroup_max_size == 8
}

/// An open WebGPU adapter. Several programs may run on it from several threads.
#[derive(Clone)]
pub struct WebGpuDevice {
    shared: Arc<Shared>,
}

impl fmt::Debug for WebGpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = &self.shared.info;
        write!(f, "WebGpuDevice({} {})", info.index, info.name)
    }
}

impl WebGpuDevice {
    /// Opens an adapter, with the convolution that suits it unless one is given.
    pub(super) fn open(
        index: usize,
        adapter: &wgpu::Adapter,
        convolution: Option<Convolution>,
    ) -> Result<Self, BackendError> {
        let shared = Arc::new(Shared::open(index, adapter, convolution)?);
        Ok(Self { shared })
    }

    /// Which convolution its programs run.
    pub fn convolution(&self) -> Convolution {
        self.shared.convolution
    }

    /// Ends the device, as a driver reset would: every program on it then fails with
    /// [`BackendError::DeviceLost`].
    pub fn destroy(&self) {
        self.shared.device.destroy();
        lock(&self.shared.lost).get_or_insert_with(|| "destroyed".into());
    }
}

impl Device for WebGpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    fn load(&self, plan: Arc<Plan>) -> Result<Box<dyn Program>, BackendError> {
        check::check(&plan)?;
        self.shared.alive()?;
        let features = self.shared.device.features();
        let what = match plan.dtype {
            DType::F16 if !features.contains(wgpu::Features::SHADER_F16) => {
                "f16 needs shader-f16; run the model in f32"
            }
            DType::Bf16 => "WebGPU has no bf16; run the model in f16 or f32",
            DType::F32 | DType::F16 => {
                return Ok(Box::new(WebGpuProgram::load(self.shared.clone(), plan)?));
            }
        };
        Err(BackendError::Unsupported {
            device: self.shared.info.name.clone(),
            what: what.into(),
        })
    }
}
