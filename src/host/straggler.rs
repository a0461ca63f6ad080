//! Injected stragglers: workers that are made slow on purpose, and are always called injected.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Classify;

/// One injected straggler: `slow:WORKER:FACTOR[:PROB]` or `pause:WORKER:MS[:PROB]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Straggler {
    /// Index of the worker: base workers first, then collage workers.
    pub worker: usize,
    /// What happens to its runs.
    pub effect: Effect,
    /// To which share of them, 0..=1.
    pub probability: f64,
}

/// What an injected straggler does to a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    /// It takes this many times as long; at least 1.
    Slow(f64),
    /// It takes this much longer.
    Pause(Duration),
}

/// Longest pause that can be asked for: an hour.
const LONGEST_MS: f64 = 3_600_000.0;

/// Why a straggler's description is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stragglers: \"{given}\": {what}; expected {expected}")]
pub struct StragglerError {
    /// The whole description.
    pub given: String,
    /// What is wrong with it.
    pub what: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Classify for StragglerError {
    fn code(&self) -> u32 {
        420
    }

    fn can_retry(&self) -> bool {
        false
    }
}

impl FromStr for Straggler {
    type Err = StragglerError;

    fn from_str(s: &str) -> Result<Self, StragglerError> {
        const FORM: &str = "slow:WORKER:FACTOR[:PROB] or pause:WORKER:MS[:PROB]";
        let error = |what: String, expected| StragglerError {
            given: s.to_owned(),
            what,
            expected,
        };
        let number = |name: &str, text: &str, range: std::ops::RangeInclusive<f64>, expected| {
            text.parse()
                .ok()
                .filter(|n| range.contains(n))
                .ok_or_else(|| error(format!("{name} is \"{text}\""), expected))
        };
        let fields: Vec<&str> = s.split(':').collect();
        let (kind, worker, amount, probability) = match fields[..] {
            [kind, worker, amount] => (kind, worker, amount, 1.0),
            [kind, worker, amount, p] => (
                kind,
                worker,
                amount,
                number("PROB", p, 0.0..=1.0, "a share from 0 to 1")?,
            ),
            _ => return Err(error(format!("it has {} fields", fields.len()), FORM)),
        };
        let effect = match kind {
            "slow" => Effect::Slow(number(
                "FACTOR",
                amount,
                1.0..=1e6,
                "a factor of 1 or more",
            )?),
            "pause" => {
                let ms = number(
                    "MS",
                    amount,
                    0.0..=LONGEST_MS,
                    "milliseconds from 0 to an hour",
                )?;
                Effect::Pause(Duration::from_secs_f64(ms / 1e3))
            }
            _ => return Err(error(format!("no straggler is called \"{kind}\""), FORM)),
        };
        let worker = worker
            .parse()
            .map_err(|_| error(format!("WORKER is \"{worker}\""), "a worker's index from 0"))?;
        Ok(Straggler {
            worker,
            effect,
            probability,
        })
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.effect {
            Effect::Slow(factor) => write!(f, "slow:{}:{factor}", self.worker)?,
            Effect::Pause(pause) => {
                write!(f, "pause:{}:{}", self.worker, pause.as_secs_f64() * 1e3)?
            }
        }
        if self.probability < 1.0 {
            write!(f, ":{}", self.probability)?;
        }
        Ok(())
    }
}

/// The stragglers of one worker and the dice they throw: the same seed gives the same throws, run by run.
#[derive(Debug)]
pub(super) struct Injector {
    stragglers: Vec<Straggler>,
    state: u64,
}

impl Injector {
    pub(super) fn new(all: &[Straggler], worker: usize, seed: u64) -> Self {
        let stragglers = all.iter().copied().filter(|s| s.worker == worker).collect();
        Self {
            stragglers,
            state: seed ^ (worker as u64 + 1).wrapping_mul(0xD1B5_4A32_D192_ED03),
        }
    }

    /// How much longer a run that took `service` is to take.
    pub(super) fn delay(&mut self, service: Duration) -> Duration {
        let mut delay = Duration::ZERO;
        for i in 0..self.stragglers.len() {
            let Straggler {
                effect,
                probability,
                ..
            } = self.stragglers[i];
            if self.uniform() < probability {
                delay += match effect {
                    Effect::Slow(factor) => service.mul_f64(factor - 1.0),
                    Effect::Pause(pause) => pause,
                };
            }
        }
        delay
    }

    /// In 0..1; splitmix64 (Steele, Lea, Flood 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_is_written_as_it_is_read() {
        for text in [
            "slow:0:8",
            "slow:3:1.5:0.1",
            "pause:1:50:0.01",
            "pause:2:0.5",
        ] {
            let straggler: Straggler = text.parse().expect(text);
            assert_eq!(straggler.to_string(), text);
        }
    }

    #[test]
    fn a_wrong_straggler_is_told_which_field_is_wrong() {
        let cases = [
            ("slow", "1 fields"),
            ("slow:0:8:1:1", "5 fields"),
            ("sloww:0:8", "\"sloww\""),
            ("slow:x:8", "WORKER is \"x\""),
            ("slow:-1:8", "WORKER is \"-1\""),
            ("slow:0:0.5", "FACTOR is \"0.5\""),
            ("slow:0:NaN", "FACTOR is \"NaN\""),
            ("slow:0:inf", "FACTOR is \"inf\""),
            ("pause:0:-1", "MS is \"-1\""),
            ("pause:0:1:2", "PROB is \"2\""),
        ];
        for (text, what) in cases {
            let error = text.parse::<Straggler>().expect_err(text).to_string();
            assert!(
                error.starts_with("stragglers: ") && error.contains(what),
                "{error}"
            );
        }
    }

    #[test]
    fn the_same_seed_slows_the_same_runs_and_about_the_share_that_was_asked_for() {
        let all = ["pause:1:5:0.1".parse().expect("valid")];
        let throws = |seed| {
            let mut injector = Injector::new(&all, 1, seed);
            (0..10_000)
                .map(|_| injector.delay(Duration::ZERO) > Duration::ZERO)
                .collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        let hits = throws(7).iter().filter(|&&hit| hit).count();
        assert!((900..1100).contains(&hits), "{hits}");
        assert_eq!(
            Injector::new(&all, 0, 7).delay(Duration::from_secs(1)),
            Duration::ZERO
        );
    }
}
