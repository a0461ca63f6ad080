//! Checks a plan before a backend trusts it.
//!
//! The plan compiler makes only plans that pass. Plans are public data, though, and a backend indexes memory by what
//! they say, so every backend calls [`check`] once at load; afterwards no run can leave its buffers.

use crate::backend::BackendError;
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

fn can_normalise(e: &Encode) -> bool {
    let p = &e.preprocessing;
    p.std.iter().all(|s| s.is_normal()) && p.mean.iter().all(|m| m.is_finite())
}
