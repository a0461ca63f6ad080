//! What is measured: whole networks and single ops, as plans with hash-made weights and inputs.
//!
//! Shared by `ops.rs` and `networks.rs` (ours alone, `cargo bench`) and by `peers/` (ours beside other people's
//! software), so that an id names the same work in both. Nothing here is trained or random: a case is the same bytes
//! on every machine.

#![allow(dead_code)] // Each bench uses its part.

pub mod build;
pub mod hash;
pub mod networks;
pub mod ops;

use std::sync::Arc;

use collage::backend::{Input, Output};
use collage::model::plan::{Encode, Filter, Grid, Plan, Preprocessing, Step};

/// One thing to measure.
pub struct Case {
    /// `<network>-<side>-b<batch>`, or `<op>/<shape>`; the same in every table and in every JSON.
    pub id: String,
    /// What runs.
    pub plan: Arc<Plan>,
    /// What it runs on.
    pub data: Data,
}

/// The input of a case.
pub enum Data {
    /// (N, H, W, C), for plans without `encode`.
    Tensor(Vec<f32>),
    /// For plans that begin with `encode`.
    Images(Vec<collage::image::Image>),
}

impl Case {
    /// A case whose input is a hash-made tensor in `0..1`, the range of an activation after its ReLU.
    fn on_tensor(id: impl Into<String>, plan: Plan) -> Case {
        let len = plan.values.first().map_or(0, |v| v.len());
        let data = Data::Tensor(hash::units(hash::seed("input"), len));
        Case {
            id: id.into(),
            plan: Arc::new(plan),
            data,
        }
    }

    /// As a backend takes it.
    pub fn input(&self) -> Input<'_> {
        match &self.data {
            Data::Tensor(x) => Input::Tensor(x),
            Data::Images(images) => Input::Images(images),
        }
    }

    /// Floating-point operations of one run: two a multiply-accumulate of `conv2d` and `linear`, zero padding
    /// included, which is how published figures count. 0 for cases that have neither.
    pub fn flops(&self) -> f64 {
        self.plan
            .steps
            .iter()
            .map(|step| 2.0 * self.plan.macs(step) as f64)
            .sum()
    }
}

/// Largest difference of two results over the largest magnitude of `expected`; `None` where their shapes differ or
/// classes disagree.
pub fn relative_error(expected: &Output, actual: &Output) -> Option<f64> {
    let (a, b) = (flatten(expected), flatten(actual));
    if a.len() != b.len() {
        return None;
    }
    relative_error_of(&a, &b)
}

/// As [`relative_error`], of bare elements.
pub fn relative_error_of(expected: &[f32], actual: &[f32]) -> Option<f64> {
    if expected.len() != actual.len() || actual.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let largest = expected
        .iter()
        .fold(0f64, |m, &v| m.max(f64::from(v).abs()));
    let difference = expected
        .iter()
        .zip(actual)
        .map(|(&e, &a)| (f64::from(e) - f64::from(a)).abs())
        .fold(0f64, f64::max);
    Some(if difference == 0.0 {
        0.0
    } else {
        difference / largest
    })
}

/// A result as numbers: for top-k, each row's scores in order.
pub fn flatten(output: &Output) -> Vec<f32> {
    match output {
        Output::Tensor(x) => x.clone(),
        Output::TopK(rows) => rows.iter().flatten().map(|s| s.score).collect(),
    }
}

/// The preprocessing of an ImageNet network whose input is `size` x `size`: torchvision's.
pub fn imagenet(resize: usize, size: usize) -> Preprocessing {
    Preprocessing {
        resize,
        size,
        filter: Filter::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

/// Whether a plan starts from decoded images.
pub fn takes_images(plan: &Plan) -> Option<(&Encode, Grid)> {
    match plan.steps.first() {
        Some(Step::Encode(e)) => Some((e, e.grid)),
        _ => None,
    }
}
