//! What makes workers slow on purpose, in the engine and in virtual time, described in one grammar.
//!
//! ```text
//! slow:WORKER:FACTOR[:PROB]   a run takes FACTOR times as long
//! pause:WORKER:MS[:PROB]      a run takes MS milliseconds longer
//! pareto:WORKER:SHAPE[:PROB]  a run takes as many times as long as a draw from a Pareto distribution, 1 at least
//! burst:EVERY_S:FOR_S:FACTOR  of every EVERY_S seconds, all runs that begin in the first FOR_S take FACTOR times as long
//! trace:FILE[:iid | :machines[=N][:with=K][:without=K]][:scale=S]
//!                             a run takes as long as a recorded one, drawn from a .npy or .csv of seconds
//! contention:WORKER[:SHARE]   another load runs on the worker's device, SHARE of the time
//! ```
//!
//! WORKER is an index, base workers first, or `*` for all. PROB is the share of runs that are hit, 1 if it is not said.
//! Any of them may end in `@FROM-TO`: it counts for runs that begin in those seconds since the engine opened, or since
//! the simulation began.
//!
//! **Traces.** `iid`, the default, draws every run from the whole file. `machines` takes the file as N machines one after
//! another (50), of which each worker is one, drawn from the seed; `with=K` makes sure that machine K, from 1, is among
//! them, `without=K` that it is not. `scale=0.1` makes .138 s 13.8 ms. What is drawn is the time of a base run of one
//! image: other runs (batches, collages) take their work's multiple of it. A run takes the longer of its own time and the
//! drawn one, as the workers of the paper's authors do; in virtual time a run has a time of its own only if service times
//! were given. Traces come first, then all others in the order in which they were given, each on what the earlier ones
//! made of the run.
//!
//! **Luck.** The n-th run of each worker draws the same luck from the same seed, whatever else happens: policies can be
//! compared run by run, and the engine draws what the first repetition of a simulation draws.
//!
//! The room has no clock, no thread and no device: drivers say when a run begins and how long it took, and are told how
//! long it is to take. It reads trace files and nothing else. Contention is real work, so that a driver with devices does
//! it, and one without refuses it.
//!
//! | file | what it is |
//! |---|---|
//! | `parse` | the grammar |
//! | `trace` | recorded times, from `.npy` or `.csv`, and which worker is which machine |
//! | `luck` | what is drawn, run by run |

mod error;
mod luck;
mod parse;
mod trace;

use std::fmt;

pub use error::StragglerError;
pub(crate) use luck::{Dice, LOTS, repetition};
pub use luck::{Luck, Own, Stragglers};
use trace::Draw;

/// For the command line's help.
pub const HELP: &str = "\
Stragglers are injected, and called so. The flag repeats, and takes several with commas between:
  slow:WORKER:FACTOR[:PROB]    a run takes FACTOR times as long
  pause:WORKER:MS[:PROB]       a run takes MS milliseconds longer
  pareto:WORKER:SHAPE[:PROB]   a run takes as many times as long as a Pareto draw, 1 at least
  burst:EVERY_S:FOR_S:FACTOR   all runs that begin in the first FOR_S of every EVERY_S seconds
  trace:FILE[:iid][:scale=S]   a run takes as long as a time of a .npy or .csv of seconds, times S
  trace:FILE:machines[=N][:with=K][:without=K][:scale=S]
                               the file is N machines (50) one after another, each worker is one;
                               machine K, from 1, is surely among them, or is not
  contention:WORKER[:SHARE]    another load runs on the worker's device, SHARE (1) of the time;
                               not in virtual time
WORKER is an index, base workers first, or *. PROB is the share of runs that are hit (1). @FROM-TO
at the end limits any of them to runs that begin in those seconds. A trace's times are those of a
base run of one image; batches and collages take as many times as long as they are work.
";

/// One of them, as it was described. [`FromStr`](std::str::FromStr) reads the module's grammar; files are read by
/// [`Stragglers::open`].
#[derive(Clone, Debug, PartialEq)]
pub struct Straggler {
    /// `None` for all.
    worker: Option<usize>,
    effect: Effect,
    /// 0..=1.
    probability: f64,
    window: Option<Window>,
    text: String,
}

/// What it does; times in microseconds.
#[derive(Clone, Debug, PartialEq)]
enum Effect {
    Slow(f64),
    Pause(f64),
    Pareto(f64),
    Burst {
        every: u64,
        lasts: u64,
        factor: f64,
    },
    Trace {
        file: String,
        draw: Draw,
        scale: f64,
    },
    Contention(f64),
}

/// Microseconds in which a straggler counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub from: u64,
    /// The first after it.
    pub to: u64,
}

impl Window {
    /// Whether this is in it.
    pub fn holds(&self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl Straggler {
    /// The one worker that it is about; `None` for all.
    pub fn worker(&self) -> Option<usize> {
        self.worker
    }

    /// When it counts; `None` for ever.
    pub fn window(&self) -> Option<Window> {
        self.window
    }

    /// The share of the time that a load of its own is to run on the worker's device, of those that are such a load.
    pub fn contention(&self) -> Option<f64> {
        match self.effect {
            Effect::Contention(share) => Some(share),
            _ => None,
        }
    }

    /// Whether it is about this worker.
    fn is_meant(&self, worker: usize) -> bool {
        self.worker.is_none_or(|w| w == worker)
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
