//! A small ResNet for the mutants: every kind of step after every other, so that a kernel that does not wait for the one
//! before it shows.

use std::sync::Arc;

use collage::model::Model;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{Plan, Value};
use collage::model::resnet::Named;
use collage::tensor::DType;

use crate::case::{CaseInput, signed};

#[path = "../model_support/mod.rs"]
mod model_support;

/// ResNet-18 at 32x32, from a tensor to logits.
pub fn resnet(dtype: DType) -> (Arc<Plan>, CaseInput) {
    let metadata = model_support::metadata(model_support::named(Named::ResNet18), 32, 10, None);
    let model: Model = model_support::model(&metadata);
    let options = PlanOptions {
        dtype,
        input: PlanInput::Tensor,
        output: PlanOutput::Logits,
        ..PlanOptions::default()
    };
    let plan = Plan::compile(&model, &options).expect("compiles");
    let len = plan.values.first().map_or(0, Value::len);
    (Arc::new(plan), CaseInput::Tensor(signed(3, len)))
}
