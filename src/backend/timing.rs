//! Where a run's time goes and by which kernels it runs: what `collage bench engine` asks a backend, and what a backend
//! that cannot tell answers with nothing.

use std::time::Duration;

use crate::model::plan::Plan;

/// The parts of one run. All but `enqueue` are the device's own time, by its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The host's time to hand the run to the driver.
    pub enqueue: Duration,
    /// The input, from the host's memory to the device's.
    pub upload: Duration,
    /// The plan's steps.
    pub compute: Duration,
    /// The result, back to the host's memory.
    pub download: Duration,
}

/// What runs one step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index of the step in the plan.
    pub step: usize,
    /// The kernels, in their order, by their one name; the op's name where a backend has but one way.
    pub kernel: String,
    /// What else was chosen, such as a tile or the parts of a sum; empty where there is no choice.
    pub detail: String,
}

/// The answer of a backend that has one way to run each op.
pub fn by_op(plan: &Plan) -> Vec<Choice> {
    let choice = |(step, op): (usize, &'static str)| Choice {
        step,
        kernel: op.into(),
        detail: String::new(),
    };
    let ops = plan.steps.iter().map(|step| step.op());
    ops.enumerate().map(choice).collect()
}
