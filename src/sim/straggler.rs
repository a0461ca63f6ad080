//! What makes workers slow on purpose, in virtual time.
//!
//! ```text
//! slow:WORKER:FACTOR[:PROB]   a run takes FACTOR times as long     pareto:WORKER:SHAPE[:PROB]  as a Pareto draw times
//! pause:WORKER:MS[:PROB]      a run takes so much longer           burst:EVERY_S:FOR_S:FACTOR  all are, now and then
//! ```
//!
//! WORKER is an index or `*` for all. Any of them may end in `@FROM-TO`, seconds of virtual time in which it counts.

use std::fmt;
use std::str::FromStr;

use super::Dice;
use crate::error::Classify;
use crate::sched::Micros;

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Straggler {
    /// `None` for all.
    worker: Option<usize>,
    effect: Effect,
    probability: f64,
    /// Microseconds, from and until.
    window: Option<(Micros, Micros)>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Effect {
    Slow(f64),
    Pause(f64),
    Pareto(f64),
    Burst {
        every: Micros,
        lasts: Micros,
        factor: f64,
    },
}

/// Why a text is no straggler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("straggler \"{given}\": \"{field}\"; expected {FORM}")]
pub struct StragglerError {
    /// The whole text.
    pub given: String,
    /// The field at fault.
    pub field: String,
}

const FORM: &str = "slow:WORKER:FACTOR[:PROB], pause:WORKER:MS[:PROB], pareto:WORKER:SHAPE[:PROB] or \
                    burst:EVERY_S:FOR_S:FACTOR, each with @FROM-TO in seconds if it is not for ever";

impl Classify for StragglerError {
    fn code(&self) -> u32 {
        420
    }

    fn can_retry(&self) -> bool {
        false
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Straggler {
    type Err = StragglerError;

    fn from_str(s: &str) -> Result<Self, StragglerError> {
        let wrong = |field: &str| StragglerError {
            given: s.to_owned(),
            field: field.to_owned(),
        };
        let number = |field: &str, least: f64, most: f64| {
            let number = field.parse().ok().filter(|n| (least..=most).contains(n));
            number.ok_or_else(|| wrong(field))
        };
        let us = |field: &str| number(field, 0.0, 1e9).map(|s| (s * 1e6) as Micros);
        let (what, window) = match s.split_once('@') {
            None => (s, None),
            Some((what, window)) => {
                let (from, to) = window.split_once('-').ok_or_else(|| wrong(window))?;
                (what, Some((us(from)?, us(to)?)))
            }
        };
        let fields: Vec<&str> = what.split(':').collect();
        let (name, first, second, third) = match fields[..] {
            [name, first, second] => (name, first, second, None),
            [name, first, second, third] => (name, first, second, Some(third)),
            _ => return Err(wrong(what)),
        };
        let (effect, worker) = match (name, third) {
            ("slow", _) => (Effect::Slow(number(second, 1.0, 1e6)?), first),
            ("pause", _) => (Effect::Pause(number(second, 0.0, 3.6e6)? * 1e3), first),
            ("pareto", _) => (Effect::Pareto(number(second, 0.1, 1e3)?), first),
            ("burst", Some(factor)) => {
                let (every, lasts) = (us(first)?.max(1), us(second)?);
                let factor = number(factor, 1.0, 1e6)?;
                let effect = Effect::Burst {
                    every,
                    lasts,
                    factor,
                };
                (effect, "*")
            }
            _ => return Err(wrong(name)),
        };
        let probability = match (effect, third) {
            (Effect::Burst { .. }, _) | (_, None) => 1.0,
            (_, Some(probability)) => number(probability, 0.0, 1.0)?,
        };
        let worker = match worker {
            "*" => None,
            index => Some(index.parse().map_err(|_| wrong(index))?),
        };
        Ok(Straggler {
            worker,
            effect,
            probability,
            window,
            text: s.to_owned(),
        })
    }
}

impl Straggler {
    /// The worker that it needs to be there.
    pub fn worker(&self) -> Option<usize> {
        self.worker
    }

    /// What becomes of a run of `time` us on this worker that begins now.
    pub(super) fn apply(&self, time: f64, worker: usize, now: Micros, dice: &mut Dice) -> f64 {
        let is_on = |(from, to): (Micros, Micros)| (from..to).contains(&now);
        let is_meant = self.worker.is_none_or(|w| w == worker);
        if !is_meant || !self.window.is_none_or(is_on) {
            return time;
        }
        if self.probability < 1.0 && dice.uniform() >= self.probability {
            return time;
        }
        match self.effect {
            Effect::Slow(factor) => time * factor,
            Effect::Pause(us) => time + us,
            // Of least value 1; the uniform draw is below 1, so that this is finite.
            Effect::Pareto(shape) => time * (1.0 - dice.uniform()).powf(-1.0 / shape),
            Effect::Burst {
                every,
                lasts,
                factor,
            } if now % every < lasts => time * factor,
            Effect::Burst { .. } => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, worker: usize, at_s: f64) -> f64 {
        let straggler: Straggler = text.parse().expect(text);
        assert_eq!(straggler.to_string(), text);
        straggler.apply(1e3, worker, (at_s * 1e6) as Micros, &mut Dice::new(0, 0))
    }

    #[test]
    fn each_does_what_it_says_where_and_when_it_says_so() {
        assert_eq!(run("slow:2:5", 2, 0.0), 5e3);
        assert_eq!(run("slow:2:5", 1, 0.0), 1e3);
        assert_eq!(run("slow:*:5@10-20", 1, 10.0), 5e3);
        assert_eq!(run("slow:*:5@10-20", 1, 20.0), 1e3);
        assert_eq!(run("pause:0:50", 0, 0.0), 51e3);
        assert_eq!(run("pause:0:50:0", 0, 0.0), 1e3);
        assert_eq!(run("burst:60:5:3", 0, 64.9), 3e3);
        assert_eq!(run("burst:60:5:3", 0, 65.0), 1e3);
        assert!(run("pareto:*:1.5", 0, 0.0) >= 1e3);
    }

    #[test]
    fn a_wrong_one_is_told_which_field_is_wrong() {
        for (text, field) in [
            ("slow", "slow"),
            ("slow:0:0.5", "0.5"),
            ("slow:x:2", "x"),
            ("slow:0:2:2", "2"),
            ("sloww:0:2", "sloww"),
            ("slow:0:NaN", "NaN"),
            ("slow:0:2@5", "5"),
            ("burst:1:2", "burst"),
        ] {
            let error = text.parse::<Straggler>().expect_err(text);
            assert_eq!(error.field, field, "{text}");
        }
    }
}
