//! An open device: its context, and what all programs on it share: loaded cubins and weights.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use super::architecture::Architecture;
use super::cache::Cache;
use super::compile::{Compiler, Unit};
use super::conv2d::DeviceDescription;
use super::kernels::Kernel;
use super::lock;
use super::options::CudaOptions;
use super::outline;
use super::pack::{self, Packing};
use super::program::CudaProgram;
use super::raw::{Context, Description, Function, Memory, Module, Refused, Stream, Unavailable};
use crate::backend::timing::Choice;
use crate::backend::{BackendError, Device, DeviceInfo, Program, check};
use crate::model::plan::{Plan, TensorId, Weights};
use crate::tensor::DType;

/// What the programs of a device share.
pub(super) struct Shared {
    pub info: DeviceInfo,
    pub description: DeviceDescription,
    pub pci_bus_id: String,
    /// As 1000 * major + 10 * minor.
    pub driver: u32,
    pub options: CudaOptions,
    pub context: Arc<Context>,
    compiler: Compiler,
    modules: Mutex<HashMap<Unit, Arc<Module>>>,
    weights: Mutex<Residents>,
    /// Why the device is gone, once it is.
    lost: Mutex<Option<String>>,
}

/// Weights that are on the device.
struct Residents {
    /// On which they are uploaded.
    stream: Stream,
    all: Vec<Resident>,
}

/// Those of one model, as long as someone holds it.
struct Resident {
    weights: Weak<Weights>,
    tensors: HashMap<WeightKey, Arc<Memory>>,
}

/// A tensor as a kernel reads it.
pub(super) type WeightKey = (TensorId, Packing, DType);

impl Shared {
    fn open(
        info: DeviceInfo,
        description: &Description,
        options: CudaOptions,
    ) -> Result<Self, Unavailable> {
        let context = Arc::new(Context::open(description.index)?);
        let stream = Stream::new(&context, false).map_err(Unavailable::Refused)?;
        let cache = options.cache_dir.clone();
        let cache = cache.map_or_else(Cache::of_user, Cache::at);
        Ok(Self {
            compiler: Compiler::for_device(&info.name, description.driver / 1000, cache),
            description: DeviceDescription {
                architecture: Architecture::of_device(description.capability),
                multiprocessors: description.multiprocessors,
                shared_bytes: description.shared_bytes,
            },
            pci_bus_id: description.pci_bus_id.clone(),
            driver: description.driver,
            modules: Mutex::default(),
            weights: Mutex::new(Residents {
                stream,
                all: Vec::new(),
            }),
            lost: Mutex::default(),
            info,
            options,
            context,
        })
    }

    /// An error if the device is gone; else its context is this thread's.
    pub fn enter(&self) -> Result<(), BackendError> {
        if let Some(reason) = &*lock(&self.lost) {
            return Err(self.lost_because(reason));
        }
        self.context.enter().map_err(|r| self.failed(r))
    }

    fn lost_because(&self, reason: &str) -> BackendError {
        BackendError::DeviceLost {
            device: self.info.name.clone(),
            reason: reason.into(),
        }
    }

    /// From now on every program of the device fails, and nothing is given back to the driver, which could hang on it.
    pub fn lose(&self, reason: String) -> BackendError {
        self.context.lose();
        let mut lost = lock(&self.lost);
        let reason = lost.get_or_insert(reason).clone();
        self.lost_because(&reason)
    }

    /// What a refused call means for the device.
    pub fn failed(&self, refused: Refused) -> BackendError {
        if refused.is_fatal() {
            return self.lose(format!("{}: {}", refused.call, refused.reason));
        }
        BackendError::Driver {
            device: self.info.name.clone(),
            call: refused.call,
            reason: refused.reason,
        }
    }

    /// A refused allocation of `needed` bytes in a plan that is loaded.
    pub fn short_of_memory(&self, plan: &Plan, needed: u64, refused: Refused) -> BackendError {
        if !refused.is_out_of_memory() {
            return self.failed(refused);
        }
        BackendError::DeviceFull {
            device: self.info.name.clone(),
            plan: plan.name.clone(),
            needed,
            free: self.context.free_bytes().unwrap_or(0),
            fits: 0,
        }
    }

    pub fn unsupported(&self, what: String) -> BackendError {
        BackendError::Unsupported {
            device: self.info.name.clone(),
            what,
        }
    }

    /// Loads the cubins of these kernels that are not loaded yet.
    pub fn prepare(&self, kernels: &[&'static Kernel]) -> Result<(), BackendError> {
        let mut modules = lock(&self.modules);
        let units: BTreeSet<Unit> = kernels.iter().map(|k| Unit::of(k)).collect();
        let missing: Vec<Unit> = units
            .into_iter()
            .filter(|u| !modules.contains_key(u))
            .collect();
        let entries = self
            .compiler
            .entries(&missing, self.description.architecture)?;
        for (unit, entry) in missing.into_iter().zip(entries) {
            let module = Module::load(&self.context, &entry.cubin);
            let module = module.map_err(|r| self.not_loaded(unit, r, entry.compiler))?;
            modules.insert(unit, Arc::new(module));
        }
        Ok(())
    }

    fn not_loaded(&self, unit: Unit, refused: Refused, compiler: [u32; 2]) -> BackendError {
        let device = self.info.name.clone();
        if refused.is_too_new() {
            return BackendError::DriverTooOld {
                device,
                driver: version_text(self.driver),
                needed: format!(
                    "CUDA {}.{} for {}",
                    compiler[0],
                    compiler[1],
                    unit.source.file()
                ),
            };
        }
        if refused.is_wrong_architecture() {
            return BackendError::WrongArchitecture {
                device,
                what: format!(
                    "the compiled {} is not for {}: {}",
                    unit.source.file(),
                    self.description.architecture,
                    refused.reason
                ),
            };
        }
        self.failed(refused)
    }

    /// A kernel's entry; its cubin is loaded.
    pub fn function(&self, kernel: &Kernel) -> Result<Function, BackendError> {
        self.prepare_one(kernel)?
            .function(kernel.entry, kernel.shared_bytes)
            .map_err(|r| self.failed(r))
    }

    fn prepare_one(&self, kernel: &Kernel) -> Result<Arc<Module>, BackendError> {
        let module = lock(&self.modules).get(&Unit::of(kernel)).cloned();
        module.ok_or_else(|| self.unsupported(format!("{} is not loaded", kernel.entry)))
    }

    /// Bytes of those weights that are not on the device yet.
    pub fn missing_bytes(&self, plan: &Plan, keys: &[WeightKey]) -> u64 {
        let residents = lock(&self.weights);
        let held = Arc::as_ptr(&plan.weights);
        let resident = residents.all.iter().find(|r| r.weights.as_ptr() == held);
        let unique: BTreeSet<usize> = (0..keys.len()).collect();
        let mut seen = Vec::new();
        let mut bytes = 0;
        for key in unique.into_iter().map(|i| keys[i]) {
            let there = resident.is_some_and(|r| r.tensors.contains_key(&key));
            if there || seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let shape = plan.weights.tensors[key.0.0].shape();
            bytes += pack::packed_bytes(shape, key.1, key.2) as u64;
        }
        bytes
    }

    /// The packed tensor on this device, uploaded by whoever asks first.
    pub fn weight(&self, plan: &Plan, key: WeightKey) -> Result<Arc<Memory>, Refused> {
        let mut residents = lock(&self.weights);
        let Residents { stream, all } = &mut *residents;
        all.retain(|resident| resident.weights.strong_count() > 0);
        let held = Arc::as_ptr(&plan.weights);
        let at = all.iter().position(|r| r.weights.as_ptr() == held);
        let at = at.unwrap_or_else(|| {
            all.push(Resident {
                weights: Arc::downgrade(&plan.weights),
                tensors: HashMap::new(),
            });
            all.len() - 1
        });
        if let Some(memory) = all[at].tensors.get(&key) {
            return Ok(memory.clone());
        }
        let data = pack::pack(&plan.weights.tensors[key.0.0], key.1, key.2);
        let memory = Arc::new(Memory::take(&self.context, data.len())?);
        stream.upload_slice(&memory, 0, &data)?;
        all[at].tensors.insert(key, memory.clone());
        Ok(memory)
    }
}

/// "CUDA 13.0"
pub(super) fn version_text(version: u32) -> String {
    format!("CUDA {}.{}", version / 1000, version % 1000 / 10)
}

/// An open CUDA device. Several programs may run on it from several threads.
#[derive(Clone)]
pub struct CudaDevice {
    shared: Arc<Shared>,
}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = &self.shared.info;
        write!(f, "CudaDevice({} {})", info.index, info.name)
    }
}

impl CudaDevice {
    pub(super) fn open(
        info: DeviceInfo,
        description: &Description,
        options: CudaOptions,
    ) -> Result<Self, Unavailable> {
        let shared = Arc::new(Shared::open(info, description, options)?);
        Ok(Self { shared })
    }

    /// What the choice of kernels depends on.
    pub fn description(&self) -> &DeviceDescription {
        &self.shared.description
    }

    /// How it was opened.
    pub fn options(&self) -> &CudaOptions {
        &self.shared.options
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    fn pci_bus_id(&self) -> Option<String> {
        Some(self.shared.pci_bus_id.clone())
    }

    fn load(&self, plan: Arc<Plan>) -> Result<Box<dyn Program>, BackendError> {
        check::check(&plan)?;
        self.shared.enter()?;
        Ok(Box::new(CudaProgram::load(self.shared.clone(), plan)?))
    }

    fn explain(&self, plan: &Plan) -> Result<Vec<Choice>, BackendError> {
        check::check(plan)?;
        let Shared {
            description,
            options,
            ..
        } = &*self.shared;
        let steps = outline::explain(plan, description, options);
        Ok(steps.into_iter().map(choice).collect())
    }
}

/// The kernel and its launch; shapes are the plan's to show.
pub(super) fn choice(step: outline::ExplainedStep) -> Choice {
    let mut detail = step.grid.map(|n| n.to_string()).join("x") + " blocks";
    if let Some(tile) = step.tile {
        detail += &format!("; {} pixels x {} channels", tile.pixels, tile.channels);
    }
    if step.splits > 1 {
        detail += &format!("; {} parts", step.splits);
    }
    Choice {
        step: step.step,
        kernel: step.entry.into(),
        detail,
    }
}
