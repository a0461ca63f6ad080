//! Promises: a latency objective and an accuracy budget, what each asks for, and whether it was kept.
//!
//! An objective such as `p99=50ms` is a time and the share of requests that may miss it. With it alone accuracy is
//! dearest: a collage answers no sooner than shortly before that time, and not even then while fewer requests missed it
//! than may; those wait on for their base run. With an accuracy budget beside it the purse of [`accuracy`](super::accuracy)
//! says how many collage answers there may be, and at the objective's time they are given.
//!
//! Kept true: both promises are judged by whole counts, over all requests that were accepted and not cancelled. One that
//! failed missed the objective, whenever it failed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Scheduler;
use super::event::{Answer, Error, Micros, RequestId};
use super::histogram::Lasting;
use super::policy::After;
use super::request::{Base, Request};

/// Of the misses that an objective allows, the share that may be made on purpose: others come unasked.
const ON_PURPOSE: f64 = 0.75;
/// Misses that may be saved up, in those that a thousand requests allow, and at least.
const SAVED_UP: f64 = 1e3;
const SAVED_UP_LEAST: f64 = 4.0;

/// A latency objective: this share of the requests is to be answered within this time of their submission.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// 0.5..1.
    pub quantile: f64,
    /// More than nothing.
    pub latency: Duration,
}

impl Objective {
    /// In the scheduler's unit.
    fn micros(&self) -> Micros {
        Micros::try_from(self.latency.as_micros()).unwrap_or(Micros::MAX)
    }

    /// From submission: when a collage answers in time for it. Timers and the way back to the caller take their own.
    pub(super) fn release(&self) -> Micros {
        let latency = self.micros();
        latency - (latency / 64).max(200).min(latency / 4)
    }

    /// Misses that a request allows.
    fn slack(&self) -> f64 {
        1.0 - self.quantile
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // To the hundredth of a percent, as it is read.
        let percent = (self.quantile * 1e4).round() / 1e2;
        write!(f, "p{percent}={}", After::Micros(self.micros()))
    }
}

/// A text that is no [`Objective`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{given}\" is no objective; expected a percentile from p50 to p99.99 and a time up to a day, such as p99=50ms"
)]
pub struct ObjectiveError {
    /// What was given.
    pub given: String,
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(s: &str) -> Result<Self, ObjectiveError> {
        let read = || {
            let (percentile, time) = s.split_once('=')?;
            let percent: f64 = percentile.strip_prefix('p')?.parse().ok()?;
            let hundredths = percent * 1e2;
            let is_exact = (hundredths - hundredths.round()).abs() < 1e-6;
            let is_within = (50.0..=99.99).contains(&percent);
            let After::Micros(us) = time.parse().ok()? else {
                return None;
            };
            (is_exact && is_within).then_some(Objective {
                quantile: hundredths.round() / 1e4,
                latency: Duration::from_micros(us),
            })
        };
        read().ok_or_else(|| ObjectiveError {
            given: s.to_owned(),
        })
    }
}

/// What was promised and what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Promise {
    /// Of a latency objective: its time, in microseconds. Of an accuracy budget: the share.
    pub promised: f64,
    /// The same, as it came out; 0 where nothing was measured yet.
    pub measured: f64,
    /// Whether no more requests missed it than may.
    pub kept: bool,
    /// Requests counted.
    pub over: u64,
}

/// Both, where they were made; since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Promises {
    /// The latency at the objective's quantile, of all requests that were accepted and not cancelled; one that failed
    /// counts with its deadline, or as missed where that is earlier.
    pub latency: Option<Promise>,
    /// Accuracy lost in expectation: the share of the answers that collages, or parities, gave, times
    /// what one of them loses.
    pub accuracy: Option<Promise>,
}

/// Shortly before a deadline: better a collage's answer than none.
pub(super) fn last_moment(due_at: Micros, deadline_at: Micros) -> Micros {
    deadline_at.saturating_sub(deadline_at.saturating_sub(due_at) / 64)
}

/// How an objective fares.
#[derive(Debug)]
pub(super) struct Ledger {
    objective: Objective,
    times: Lasting,
    counted: u64,
    in_time: u64,
    /// Misses that may still be made on purpose.
    slack: f64,
}

impl Ledger {
    pub(super) fn new(objective: Objective) -> Self {
        Self {
            objective,
            times: Lasting::new(),
            counted: 0,
            in_time: 0,
            slack: 0.0,
        }
    }

    pub(super) fn objective(&self) -> Objective {
        self.objective
    }

    /// Takes the right to miss the objective with one more request; it is given back if the request is in time.
    fn take(&mut self) -> bool {
        let is_enough = self.slack >= 1.0;
        self.slack -= f64::from(u8::from(is_enough));
        is_enough
    }

    /// A request was answered after so long, or failed with so long until its deadline.
    fn record(&mut self, latency: Micros, is_answered: bool, is_paid: bool) {
        let limit = self.objective.micros();
        let in_time = is_answered && latency <= limit;
        self.counted += 1;
        self.in_time += u64::from(in_time);
        self.times.record(if in_time {
            latency
        } else {
            latency.max(limit.saturating_add(1))
        });
        let most = (SAVED_UP * self.objective.slack()).max(SAVED_UP_LEAST) * ON_PURPOSE;
        self.slack += self.objective.slack() * ON_PURPOSE;
        self.slack += f64::from(u8::from(is_paid)) - f64::from(u8::from(!in_time));
        self.slack = self.slack.min(most);
    }

    /// Nobody waits any more: what was taken for it is given back.
    fn give_back(&mut self) {
        self.slack += 1.0;
    }

    fn promise(&self) -> Promise {
        let promised = self.objective.micros() as f64;
        let wanted = (self.objective.quantile * self.counted as f64 - 1e-9).ceil();
        let kept = self.in_time as f64 >= wanted;
        let measured = self.times.quantile(self.objective.quantile) as f64;
        Promise {
            promised,
            // The histogram's steps must not contradict the count.
            measured: match kept {
                true => measured.min(promised),
                false => measured.max(promised + 1.0),
            },
            kept,
            over: self.counted,
        }
    }
}

impl Scheduler {
    /// What was promised, and whether it was kept so far.
    pub fn promises(&self) -> Promises {
        let answered = self.stats.answered();
        let accuracy = self.config.accuracy.map(|accuracy| {
            let approximate = self.stats.collage + self.stats.parity;
            let share = approximate as f64 / answered.max(1) as f64;
            let measured = share * accuracy.drop;
            Promise {
                promised: accuracy.budget,
                measured,
                kept: measured <= accuracy.budget + 1e-9,
                over: answered,
            }
        });
        Promises {
            latency: self.ledger.as_ref().map(Ledger::promise),
            accuracy,
        }
    }

    /// A request whose held collage answer may be given now: whether it waits on for its base run, because accuracy
    /// is dearest and its time may be missed.
    pub(super) fn waits_on(&mut self, id: RequestId) -> Option<Micros> {
        let ledger = self.ledger.as_mut().filter(|_| self.purse.is_none())?;
        let request = self.requests.get_mut(&id).filter(|r| !r.waits_on)?;
        if request.base == Base::Exhausted && request.copies.count() == 0 {
            return None; // nothing is left to wait for
        }
        let last = last_moment(request.due_at, request.deadline_at);
        if last <= self.now || !ledger.take() {
            return None;
        }
        request.waits_on = true;
        Some(last)
    }

    /// Notes how a request ended that was accepted.
    pub(super) fn note(&mut self, request: &Request, outcome: &Result<Answer, Error>) {
        if let (Some(purse), Ok(_)) = (&mut self.purse, outcome) {
            purse.earn();
        }
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        let until = match outcome {
            Err(Error::Cancelled) if request.waits_on => return ledger.give_back(),
            Err(Error::Cancelled) => return,
            Ok(_) => self.now,
            Err(_) => request.deadline_at,
        };
        let latency = until.saturating_sub(request.due_at);
        ledger.record(latency, outcome.is_ok(), request.waits_on);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(text: &str) -> Objective {
        text.parse().expect(text)
    }

    #[test]
    fn an_objective_is_written_as_it_is_read() {
        for text in [
            "p99=50ms",
            "p99.9=1.5ms",
            "p50=2s",
            "p99.99=20ms",
            "p95=0.25ms",
        ] {
            assert_eq!(objective(text).to_string(), text);
        }
        assert_eq!(objective("p99=50ms").latency, Duration::from_millis(50));
        for wrong in [
            "",
            "p99",
            "p99=",
            "99=50ms",
            "p100=1ms",
            "p49=1ms",
            "p99=p50",
            "p99.999=1ms",
            "p99=-1ms",
            "pNaN=1ms",
        ] {
            assert!(wrong.parse::<Objective>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_promise_is_kept_up_to_the_very_request_that_breaks_it() {
        let mut ledger = Ledger::new(objective("p90=1ms"));
        (0..9).for_each(|_| ledger.record(1_000, true, false));
        ledger.record(1_001, true, false);
        let promise = ledger.promise();
        assert!(promise.kept && promise.measured <= 1_000.0, "{promise:?}");
        ledger.record(10, false, false);
        let promise = ledger.promise();
        assert!(!promise.kept && promise.measured > 1_000.0, "{promise:?}");
        assert_eq!(promise.over, 11);
    }

    #[test]
    fn misses_on_purpose_stay_within_three_quarters_of_what_is_allowed() {
        let mut ledger = Ledger::new(objective("p99=1ms"));
        let mut missed = 0;
        for _ in 0..100_000 {
            let is_paid = ledger.take();
            missed += u32::from(is_paid);
            ledger.record(if is_paid { 5_000 } else { 500 }, true, is_paid);
        }
        assert!((700..=750).contains(&missed), "{missed}");
        assert!(ledger.promise().kept);
    }
}
