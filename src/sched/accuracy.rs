//! The other promise: how much accuracy may be given up. The release time follows from it, and from how long base
//! runs take; a purse of answers makes sure that it is kept.
//!
//! A collage answer costs `drop` in expectation. With a budget of `budget`, a share of `budget / drop` of the requests
//! may be answered by a collage, so that the release time is that percentile of the base runs' recent times: no later,
//! or latency would be given away, and no earlier, or the budget would be spent on requests that are not the slowest.
//! Each answered request puts its share into the purse, and a collage answer takes one out of it; an empty purse makes
//! a request wait for its base run although its collage is there. So the budget is kept over the answers that were given,
//! at any time.

use super::event::Micros;

/// Shares, 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AccuracyBudget {
    /// Accuracy that may be lost over all requests, in expectation: 0.001 is a tenth of a point.
    pub budget: f64,
    /// Accuracy of the base over that of the collage, as measured on images like those that are served.
    pub drop: f64,
}

/// Collage answers that may be saved up: those that so many requests earn, and a few at least.
const SAVED_UP: f64 = 1e3;
const SAVED_UP_LEAST: f64 = 4.0;

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(super) struct Purse {
    share: f64,
    answers: f64,
}

impl Purse {
    pub(super) fn new(of: AccuracyBudget) -> Self {
        // A collage that loses nothing may answer everything.
        let share = if of.drop > 0.0 {
            of.budget / of.drop
        } else {
            1.0
        };
        Self {
            share: share.clamp(0.0, 1.0),
            answers: 0.0,
        }
    }

    /// Which of the base runs' times is the release time, in tenths of a percent.
    pub(super) fn percentile(&self) -> u16 {
        (1000.0 * (1.0 - self.share)).round().clamp(1.0, 999.0) as u16
    }

    pub(super) fn earn(&mut self) {
        self.answers = (self.answers + self.share).min(SAVED_UP_LEAST.max(SAVED_UP * self.share));
    }

    pub(super) fn take(&mut self) -> bool {
        // A share of all needs no purse, and must not wait for the first answer.
        let is_enough = self.answers >= 1.0 || self.share >= 1.0;
        self.answers -= f64::from(u8::from(is_enough));
        is_enough
    }
}

/// How long a held answer waits for the purse before it asks again: a sixteenth of what a run may take.
pub(super) fn patience(release: Micros) -> Micros {
    (release / 16).max(100)
}
