//! The turns: every runtime loads a case and shows that it computes the same; then they run it in turn, round after
//! round, so that whatever else the machine does falls on all of them alike.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cases::{Case, relative_error_of};
use crate::peer::{Error, Loaded, Peer, SETTLE};

/// Largest relative error at which a result counts as the same. Sums of 4,608 products in other orders, through 50
/// layers, differ by less; a wrong layer by far more.
pub const TOLERANCE: f64 = 1e-3;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Turns of each runtime; its figure is their median.
    pub rounds: usize,
    /// A turn repeats the run until about this is spent, and does it at least once.
    pub turn: Duration,
}

/// What one runtime did with one case.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Its name.
    pub peer: String,
    /// Median over the turns of the median run, in seconds.
    pub seconds: Option<f64>,
    /// Fastest turn.
    pub fastest: Option<f64>,
    /// Slowest turn.
    pub slowest: Option<f64>,
    /// Loading, and the first run with its compilation and tuning; once.
    pub first_seconds: Option<f64>,
    /// Largest difference from our cpu backend over its largest magnitude.
    pub relative_error: Option<f64>,
    /// Why there is no figure.
    pub error: Option<String>,
}

struct Entrant {
    loaded: Box<dyn Loaded>,
    outcome: Outcome,
    estimate: f64,
    turns: Vec<f64>,
}

/// Runs one case on all `peers` that take it. The first of them is the reference for the others' results.
pub fn case(case: &Case, peers: &mut [Box<dyn Peer>], effort: Effort) -> Vec<Outcome> {
    let mut reference: Option<Vec<f32>> = None;
    let mut entrants = Vec::new();
    let mut outcomes = Vec::new();
    for peer in peers.iter_mut().filter(|p| p.takes(case)) {
        let name = peer.name();
        match guarded(|| enter(case, peer.as_mut(), &mut reference)) {
            Ok(entrant) => entrants.push(entrant),
            Err(error) => {
                eprintln!("  {name}: {error}");
                outcomes.push(Outcome {
                    peer: name.into(),
                    error: Some(error.to_string()),
                    ..Outcome::default()
                });
            }
        }
    }
    for _ in 0..effort.rounds {
        for entrant in entrants.iter_mut().filter(|e| e.outcome.error.is_none()) {
            sleep(SETTLE);
            let repeats =
                (effort.turn.as_secs_f64() / entrant.estimate).clamp(1.0, 1000.0) as usize;
            match guarded(|| entrant.loaded.time(repeats)) {
                Ok(mut seconds) if !seconds.is_empty() => entrant.turns.push(median(&mut seconds)),
                Ok(_) => entrant.outcome.error = Some("no time came back".into()),
                Err(error) => entrant.outcome.error = Some(error.to_string()),
            }
        }
    }
    outcomes.extend(entrants.into_iter().map(Entrant::finish));
    outcomes
}

/// Loads the case and checks the result.
fn enter(
    case: &Case,
    peer: &mut dyn Peer,
    reference: &mut Option<Vec<f32>>,
) -> Result<Entrant, Error> {
    let start = Instant::now();
    let mut loaded = peer.load(case)?;
    let actual = loaded.run()?;
    let first_seconds = start.elapsed().as_secs_f64();
    let expected = reference.get_or_insert_with(|| actual.clone());
    let error = relative_error_of(expected, &actual).ok_or_else(|| {
        format!(
            "gave {} numbers, of which some may be infinite; expected {}",
            actual.len(),
            expected.len()
        )
    })?;
    if error > TOLERANCE {
        return Err(format!("wrong result: relative error {error:.1e}").into());
    }
    let start = Instant::now();
    loaded.run()?;
    let estimate = start.elapsed().as_secs_f64().max(1e-6);
    eprintln!(
        "  {:12} error {error:.1e}  first run {first_seconds:7.2} s  then {:9.3} ms",
        peer.name(),
        estimate * 1e3
    );
    let outcome = Outcome {
        peer: peer.name().into(),
        first_seconds: Some(first_seconds),
        relative_error: Some(error),
        ..Outcome::default()
    };
    Ok(Entrant {
        loaded,
        outcome,
        estimate,
        turns: vec![],
    })
}

impl Entrant {
    fn finish(mut self) -> Outcome {
        if self.outcome.error.is_none() && !self.turns.is_empty() {
            self.outcome.seconds = Some(median(&mut self.turns));
            self.outcome.fastest = self.turns.first().copied();
            self.outcome.slowest = self.turns.last().copied();
        }
        self.outcome
    }
}

/// A peer that panics loses its figure, not everyone's.
fn guarded<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", message.unwrap_or("without a message")).into())
    })
}

/// The middle one; sorts. Not empty.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
