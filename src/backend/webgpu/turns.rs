//! How often one invocation of a step's shader goes round its loops, because one driver counts.
//!
//! Mesa's llvmpipe ends the loops of an invocation after 65,535 turns in all, says nothing and gives a wrong result.
//! A step that could reach that is refused at load on software adapters instead.

use crate::backend::BackendError;
use crate::model::plan::{Plan, Step, ValueId};

/// Turns that a software adapter is known to make.
const SOFTWARE: usize = 65_535;

/// Invocations that share a row in top_k.wgsl.
const TOP_K_WIDTH: usize = 64;

/// At least as many turns as any invocation makes in this step, whichever convolution runs it.
fn turns(plan: &Plan, step: &Step) -> usize {
    let channels = |id: ValueId| plan.values[id.0].shape[3];
    match step {
        // The image decides, not the plan: at most four taps for each pixel of its shorter side, and the largest that
        // is decoded has 13,377.
        Step::Encode(_) => 0,
        // conv2d_tiled makes the most: for every four vectors of four channels one, and sixteen for their channels.
        Step::Conv2d(c) => 5 * c.kernel[0] * c.kernel[1] * (channels(c.input).div_ceil(4) + 1),
        Step::MaxPool2d(p) => p.kernel * (p.kernel + 1),
        Step::AvgPool2d(p) => p.kernel[0] * (p.kernel[1] + 1),
        Step::Linear(l) => channels(l.input).div_ceil(4),
        // A share of the row for every result and once more for the sum, each with its reduction.
        Step::TopK(t) => (t.k + 1) * (channels(t.input).div_ceil(TOP_K_WIDTH) + 8),
    }
}

/// Refuses a plan that a software adapter would not finish.
pub(super) fn check_software(plan: &Plan, device: &str) -> Result<(), BackendError> {
    for step in &plan.steps {
        let turns = turns(plan, step);
        if turns > SOFTWARE {
            let what = format!(
                "plan {}: {} takes {turns} turns of its loops, and this adapter ends them after {SOFTWARE} without \
                 a word; use --device cpu",
                plan.name,
                step.op()
            );
            return Err(BackendError::Unsupported {
                device: device.to_owned(),
                what,
            });
        }
    }
    Ok(())
}
