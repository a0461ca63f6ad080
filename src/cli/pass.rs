//! One model on one device over many images, a batch at a time, outside the engine: no queue, no deadline.

use std::sync::Arc;

use collage::backend::{Device, Input, Output, Program, Scored};
use collage::image::Image;
use collage::model::Model;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{Grid, Plan};
use collage::tensor::DType;

use super::failure::Failure;

/// A loaded model.
pub struct Pass {
    program: Box<dyn Program>,
    capacity: usize,
    /// Multiply-accumulates of one canvas.
    pub macs: u64,
}

impl Pass {
    /// Loads `model` in f32 so that a run takes about `images` images (at least one canvas) and gives `top_k` classes
    /// of each.
    pub fn load(
        device: &dyn Device,
        model: &Model,
        grid: Grid,
        images: usize,
        top_k: usize,
    ) -> Result<Self, Failure> {
        Self::load_as(DType::F32, device, model, grid, images, top_k)
    }

    /// As [`load`](Self::load), with weights and activations of this type.
    pub fn load_as(
        dtype: DType,
        device: &dyn Device,
        model: &Model,
        grid: Grid,
        images: usize,
        top_k: usize,
    ) -> Result<Self, Failure> {
        let batch = (images / grid.tiles()).max(1);
        let output = PlanOutput::TopK(top_k);
        let plan = Plan::compile(
            model,
            &PlanOptions {
                batch,
                grid,
                dtype,
                input: PlanInput::Images,
                output,
            },
        )?;
        let macs = plan.steps.iter().map(|step| plan.macs(step)).sum::<u64>() / batch as u64;
        let capacity = plan.capacity();
        Ok(Self {
            program: device.load(Arc::new(plan))?,
            capacity,
            macs,
        })
    }

    /// Most images of one [`run`](Self::run).
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// One entry an image, best class first. At least one image and at most the capacity; they fill the grid's tiles
    /// in order, and the last canvas may stay partly blank.
    pub fn run(&mut self, images: &[Image]) -> Result<Vec<Vec<Scored>>, Failure> {
        match self.program.run(Input::Images(images))? {
            Output::TopK(rows) => Ok(rows),
            Output::Tensor(_) => Err(Failure::other("a plan that ends with top_k gave a tensor")),
        }
    }

    /// As [`run`](Self::run), for any number of images.
    pub fn run_all(&mut self, images: &[Image]) -> Result<Vec<Vec<Scored>>, Failure> {
        let mut rows = Vec::with_capacity(images.len());
        for batch in images.chunks(self.capacity) {
            rows.extend(self.run(batch)?);
        }
        Ok(rows)
    }
}
