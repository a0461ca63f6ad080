//! What a program takes on a device, known before anything is taken: so that a plan that does not fit is refused with what
//! would.

use super::conv2d::MOST_ELEMENTS;
use super::device::{Shared, WeightKey};
use super::encode::EncodeStage;
use super::kernels::{Source, Variant};
use super::outline::{Outline, rows};
use super::pack::Packing;
use crate::backend::BackendError;
use crate::model::plan::{Plan, Step, Value};

/// Bytes of device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// Activations.
    pub arena: u64,
    /// Sums of the parts of divided depths, of the step that has most.
    pub partial: u64,
    /// A counter for each tile of such a step.
    pub tickets: u64,
    /// What a run gives back, if not a part of the arena.
    pub top_k: u64,
    /// Images and their tables.
    pub encode: u64,
    /// Weights that are not on the device yet.
    pub weights: u64,
}

impl Budget {
    pub fn of(device: &Shared, plan: &Plan, outlines: &[Outline]) -> Self {
        let mut budget = Self {
            arena: plan.arena_bytes() as u64,
            weights: device.missing_bytes(plan, &weight_keys(plan, outlines)),
            ..Self::default()
        };
        for outline in outlines.iter().filter(|o| o.splits > 1) {
            if let Some(shape) = outline.shape {
                let outputs = u64::from(shape.pixels()) * u64::from(shape.output[3]);
                let [pixels, channels] = shape.tiles(outline.kernel.variant);
                let tiles = u64::from(pixels) * u64::from(channels);
                budget.partial = budget.partial.max(outputs * u64::from(outline.splits) * 4);
                budget.tickets = budget.tickets.max(tiles * 4);
            }
        }
        if let Some(Step::Encode(e)) = plan.steps.first() {
            budget.encode = EncodeStage::bytes(plan, e) as u64;
        }
        if let Some(Step::TopK(t)) = plan.steps.last() {
            budget.top_k = (rows(&plan.values[t.input.0]) * t.k * 8) as u64;
        }
        budget
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let Self {
            arena,
            partial,
            tickets,
            top_k,
            encode,
            weights,
        } = self;
        arena + partial + tickets + top_k + encode + weights
    }

    /// The largest batch of the same model that would fit, roughly: all but the weights grows with it.
    fn fits(&self, plan: &Plan, free: u64) -> usize {
        let one = (self.total() - self.weights).div_ceil(plan.batch.max(1) as u64);
        (free.saturating_sub(self.weights) / one.max(1)) as usize
    }

    /// An error when the device has not so much free.
    pub fn check(&self, device: &Shared, plan: &Plan) -> Result<(), BackendError> {
        let free = device.context.free_bytes().map_err(|r| device.failed(r))?;
        if self.total() <= free {
            return Ok(());
        }
        Err(self.exceeds(device, plan, free))
    }

    pub fn exceeds(&self, device: &Shared, plan: &Plan, free: u64) -> BackendError {
        BackendError::DeviceFull {
            device: device.info.name.clone(),
            plan: plan.name.clone(),
            needed: self.total(),
            free,
            fits: self.fits(plan, free).min(plan.batch.saturating_sub(1)),
        }
    }
}

/// Refuses what 32-bit indices cannot count.
pub(super) fn check_sizes(device: &Shared, plan: &Plan) -> Result<(), BackendError> {
    let values = plan.values.iter().map(Value::len);
    let tensors = plan.weights.tensors.iter().map(|t| t.data().len());
    // Twice: packing pads at most to 16 by 128, which matters only for small tensors.
    match values.chain(tensors).max().unwrap_or(0) as u64 {
        most if most < MOST_ELEMENTS => Ok(()),
        most => Err(device.unsupported(format!(
            "plan {}: a tensor of {most} elements; kernels count to 2^31: use a smaller batch",
            plan.name
        ))),
    }
}

/// How a kernel reads its weights.
pub(super) fn packing(outline: &Outline) -> Packing {
    match (outline.kernel.source, outline.kernel.variant) {
        (Source::Conv2dTiled, _) => Packing::Tiled,
        (_, Variant::Stem) => Packing::Stem,
        _ => Packing::Plain,
    }
}

/// Every tensor that a plan reads on the device, as it reads it.
fn weight_keys(plan: &Plan, outlines: &[Outline]) -> Vec<WeightKey> {
    let steps = plan.steps.iter().zip(outlines);
    let keys = steps.filter_map(|(step, outline)| {
        let (weight, bias) = match step {
            Step::Conv2d(c) => (c.weight, c.bias),
            Step::Linear(l) => (l.weight, l.bias),
            _ => return None,
        };
        let weight = (weight, packing(outline), plan.dtype);
        Some([weight, (bias, Packing::Bias, plan.dtype)])
    });
    keys.flatten().collect()
}
