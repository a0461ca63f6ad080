//! The scheduler in virtual time: the same [`Scheduler`](crate::sched::Scheduler) as in the engine, with arrivals and
//! service times drawn instead of waited for. A million requests take seconds; the same seed gives the same result.
//!
//! Every policy that runs on one [`Setup`] meets the same arrivals and machines, and each worker's n-th run draws the
//! same luck. Nothing tells the scheduler which machine is slow.
//!
//! | file | what it is |
//! |---|---|
//! | `trace` | recorded latencies, from `.npy` or `.csv` |
//! | `straggler` | what makes workers slow |
//! | `service` | how long a run takes on a worker |
//! | `run` | arrivals, runs and settlements, in order |
//! | `report`, `promise` | what came out, by request and by group, and whether promises were kept |

mod promise;
mod report;
mod run;
mod service;
mod straggler;
mod trace;

pub use promise::{Promise, Promises};
pub use report::{Figures, Latency, Outcome};
pub use run::run;
pub use straggler::{Straggler, StragglerError};
pub use trace::{Draw, Trace, TraceError};

use crate::sched::{Config, Micros};

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
    /// Base runs take their times from here, or else 10 ms each.
    pub trace: Option<Trace>,
    /// What makes runs slower than that.
    pub stragglers: Vec<Straggler>,
    /// Of all that is drawn.
    pub seed: u64,
}

/// Draws; splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    /// An own sequence for each place in which something is drawn.
    fn new(seed: u64, place: u64) -> Self {
        let mut dice = Dice(seed ^ place.wrapping_mul(0xD1B5_4A32_D192_ED03));
        Dice(dice.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In 0..1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In 0..n; 0 for none.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}
