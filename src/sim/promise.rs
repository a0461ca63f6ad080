//! Promises as a simulation saw them: counted from the outside, over all repetitions together, and not as the
//! schedulers say.

use serde::Serialize;

use super::Setup;
use crate::sched::{Micros, Stats};

/// One promise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Promise {
    /// Of a latency objective: its time, in milliseconds. Of an accuracy budget: the share.
    pub promised: f64,
    /// The same, as it came out.
    pub measured: f64,
    /// Whether no more requests missed it than may.
    pub kept: bool,
    /// Requests counted.
    pub over: usize,
}

/// Both, where they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Promises {
    /// Latency at the objective's quantile; a request that failed counts with its deadline.
    pub latency: Option<Promise>,
    /// Accuracy lost in expectation.
    pub accuracy: Option<Promise>,
}

impl Promises {
    /// Of these latencies, ascending, and these counts.
    pub(super) fn of(setup: &Setup, sorted: &[Micros], stats: &Stats) -> Self {
        let count = sorted.len();
        let latency = setup.scheduler.objective.map(|objective| {
            let rank = (objective.quantile * count as f64 - 1e-9).ceil() as usize;
            let at = sorted.get(rank.max(1) - 1).copied().unwrap_or(0);
            let (promised, measured) = (objective.latency.as_secs_f64() * 1e3, at as f64 / 1e3);
            Promise {
                promised,
                measured,
                kept: measured <= promised,
                over: count,
            }
        });
        let accuracy = setup.scheduler.accuracy.map(|accuracy| {
            let share = stats.collage as f64 / stats.answered().max(1) as f64;
            let measured = share * accuracy.drop;
            Promise {
                promised: accuracy.budget,
                measured,
                kept: measured <= accuracy.budget + 1e-9,
                over: stats.answered() as usize,
            }
        });
        Self { latency, accuracy }
    }
}
