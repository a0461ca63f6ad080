//! The scheduler in virtual time: the same [`Scheduler`](crate::sched::Scheduler) as in the engine, with arrivals and
//! service times drawn instead of waited for. A million requests take seconds; the same seed gives the same result.
//!
//! Every policy that runs on one [`Setup`] meets the same arrivals and machines, and each worker's n-th run draws the
//! same luck. Nothing tells the scheduler which machine is slow.
//!
//! | file | what it is |
//! |---|---|
//! | `service` | how long a run takes on a worker |
//! | `measured` | service times as `bench engine` measured them |
//! | `run` | arrivals, runs and settlements, in order |
//! | `report`, `promise` | what came out, by request and by group, and whether promises were kept |

mod measured;
mod promise;
mod report;
mod run;
mod service;

pub use measured::{Service, ServiceError};
pub use promise::{Promise, Promises};
pub use report::{Figures, Latency, Outcome};
pub use run::{arrivals, run};

use crate::sched::{Config, Micros};
use crate::straggler::Stragglers;

/// When bursts of requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// By a Poisson process with so many requests a second, whatever becomes of the earlier ones.
    Poisson(f64),
    /// Evenly, with so many requests a second.
    Even(f64),
    /// Of so many bursts at a time, each follows one that is settled.
    Closed(usize),
}

/// A simulation.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of the scheduler: workers, policy and limits.
    pub scheduler: Config,
    /// When requests arrive.
    pub arrivals: Arrivals,
    /// Requests that arrive together and count as a group; 1 or more.
    pub burst: usize,
    /// Groups of each repetition.
    pub groups: usize,
    /// First groups of each repetition that are counted apart: the scheduler learns on them.
    pub warm_up: usize,
    /// Repetitions with fresh schedulers and machines, whose figures are pooled.
    pub repeats: usize,
    /// From submission: when a backup may answer.
    pub release: Micros,
    /// From submission: answered by then, or failed.
    pub deadline: Micros,
    /// How long runs take of themselves; without, a base run takes what a trace among the stragglers says, or else 10 ms
    /// an image.
    pub service: Option<Service>,
    /// What makes runs slower than that.
    pub stragglers: Stragglers,
    /// Of all that is drawn.
    pub seed: u64,
}
