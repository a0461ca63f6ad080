//! Checks a plan before a backend trusts it, and a run's input before it is touched.
//!
//! The plan compiler makes only plans that pass. Plans are public data, though, and a backend indexes memory by what
//! they say, so every backend calls [`check`] once at load; afterwards no run can leave its buffers.

use crate::backend::{BackendError, Input};
use crate::image::Image;
use crate::model::check::PlanError;
use crate::model::plan::{Encode, Plan, Step};

/// `Ok` when the plan keeps [its promises](Plan::check) and its first and last step fit each other.
pub fn check(plan: &Plan) -> Result<(), BackendError> {
    plan.check()?;
    let mismatch = |step: usize, what| {
        let op = plan.steps[step].op();
        Err(PlanError::Mismatch {
            plan: plan.name.clone(),
            step,
            op,
            what,
        }
        .into())
    };
    let Some(Step::Encode(e)) = plan.steps.first() else {
        return Ok(());
    };
    if !can_normalise(e) {
        return mismatch(0, "the mean and standard deviation cannot normalise");
    }
    if let Some(Step::TopK(t)) = plan.steps.last() {
        let [_, rows, cols, _] = plan.values[t.input.0].shape;
        if rows * cols != e.grid.tiles() {
            return mismatch(
                plan.steps.len() - 1,
                "there is not one row of logits for each tile",
            );
        }
    }
    Ok(())
}

/// `Ok` when a run of the plan can take this input: images where it begins with `encode`, else a tensor of value 0.
/// Images may be in the memory of `here`, the program's device by its number among CUDA's, and of no other.
pub fn input(plan: &Plan, input: Input<'_>, here: Option<usize>) -> Result<(), BackendError> {
    let fail = |what, expected| {
        Err(BackendError::Input {
            plan: plan.name.clone(),
            what,
            expected,
        })
    };
    let encodes = matches!(plan.steps.first(), Some(Step::Encode(_)));
    let shape = plan.values.first().map_or([0; 4], |v| v.shape);
    let is_elsewhere = |image: &Image| image.in_memory_of().is_some_and(|d| Some(d) != here);
    match input {
        Input::Images(images) if images.iter().any(is_elsewhere) => fail(
            "was given an image in another device's memory".into(),
            "one that `Image::readable_on` has made for this device".into(),
        ),
        Input::Images(images) if encodes && (1..=plan.capacity()).contains(&images.len()) => Ok(()),
        Input::Images(images) if encodes => fail(
            format!("was given {} images", images.len()),
            format!("1 to {}", plan.capacity()),
        ),
        Input::Images(_) => fail("was given images".into(), format!("a tensor of {shape:?}")),
        Input::Tensor(_) if encodes => fail("was given a tensor".into(), "images".into()),
        Input::Tensor(data) if data.len() == shape.iter().product::<usize>() => Ok(()),
        Input::Tensor(data) => fail(
            format!("was given {} elements", data.len()),
            format!("a tensor of {shape:?}"),
        ),
    }
}

fn can_normalise(e: &Encode) -> bool {
    let p = &e.preprocessing;
    p.std.iter().all(|s| s.is_normal()) && p.mean.iter().all(|m| m.is_finite())
}
