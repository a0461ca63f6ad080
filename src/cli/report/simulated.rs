//! The frontier of a simulation, in the same picture as that of `collage bench policies`.

use std::path::Path;

use collage::sim::{Latency, Outcome};

use super::chart::{self, Point};
use crate::cli::failure::Failure;

/// What the cost is: there is no device whose time could be measured.
const EXTRA: &str = "extra work: backup runs over base runs, collages by their work";

/// Writes it as an SVG of its own: the latency of groups after the warm-up, at the highest percentile that all have.
pub fn write(path: &Path, outcomes: &[Outcome]) -> Result<(), Failure> {
    std::fs::write(path, frontier(outcomes)).map_err(|e| {
        Failure::other(format!(
            "--chart {}: cannot be written: {e}",
            path.display()
        ))
    })
}

fn frontier(outcomes: &[Outcome]) -> String {
    let of = |figure: fn(&Latency) -> Option<f64>| {
        let figures = outcomes.iter().map(|outcome| figure(&outcome.steady.group));
        figures.collect::<Option<Vec<f64>>>()
    };
    let p999 = of(|latency| latency.p999).map(|tails| ("p99.9 by group", tails));
    let p99 = || of(|latency| latency.p99).map(|tails| ("p99 by group", tails));
    let max = || {
        (
            "maximum by group",
            outcomes.iter().map(|o| o.steady.group.max).collect(),
        )
    };
    let (name, tails) = p999.or_else(p99).unwrap_or_else(max);
    let points: Vec<Point<'_>> = outcomes
        .iter()
        .zip(tails)
        .map(|(outcome, tail)| Point {
            name: &outcome.policy,
            extra: outcome.steady.extra_work,
            tail,
        })
        .collect();
    chart::standalone(&chart::frontier(&points, name, EXTRA))
}
