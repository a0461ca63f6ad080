//! Latency by percentile, one curve a series. A curve ends where fewer than ten samples lie beyond it.

use std::fmt::Write;

use super::axes::{self, BOTTOM, Percentiles, RIGHT, Times};
use super::{colour, escape, open, spread};

/// Fewer samples beyond a percentile than this are luck.
const BEYOND: usize = 10;

/// One series.
pub struct Curve<'a> {
    /// Beside its end.
    pub name: &'a str,
    /// In order, microseconds.
    pub waits: &'a [u64],
}

/// Draws all of them; `of` says whose latencies they are.
pub fn percentiles(curves: &[Curve<'_>], of: &str) -> String {
    let most = curves.iter().map(|c| c.waits.len()).max().unwrap_or(0);
    let scale = Percentiles::to((most / BEYOND).max(100) as f64);
    let drawn: Vec<Vec<(f64, f64)>> = curves.iter().map(|curve| curve.at(scale)).collect();
    let times = Times::around(drawn.iter().flatten().map(|point| point.1));
    let label = format!("Latency by percentile of {of}, one curve a policy");
    let mut svg = open(curves.iter().map(|curve| curve.name), &label);
    times.rules(&mut svg);
    scale.rules(
        &mut svg,
        &format!("share of {of} answered within that time"),
    );
    for (i, curve) in drawn.iter().enumerate() {
        let line = curve
            .iter()
            .map(|(one_in, ms)| (scale.x(*one_in), times.y(*ms)));
        let _ = writeln!(
            svg,
            "<polyline class=\"curve {}\" points=\"{}\"/>",
            colour(i),
            axes::points(line)
        );
    }
    let end = |curve: &Vec<(f64, f64)>| curve.last().map_or(BOTTOM, |(_, ms)| times.y(*ms));
    let heights: Vec<f64> = drawn.iter().map(end).collect();
    for (i, y) in spread(&heights, 19.0, BOTTOM).into_iter().enumerate() {
        let end = drawn[i]
            .last()
            .map_or(RIGHT, |(one_in, _)| scale.x(*one_in));
        let _ = writeln!(
            svg,
            "<text class=\"name halo {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            colour(i),
            end + 10.0,
            y + 5.0,
            escape(curves[i].name)
        );
    }
    svg + "</svg>"
}

impl Curve<'_> {
    /// (one in n, milliseconds).
    fn at(&self, scale: Percentiles) -> Vec<(f64, f64)> {
        let count = self.waits.len();
        let point = |one_in: f64| {
            let left = (count as f64 / one_in) as usize;
            let index = count.checked_sub(left + 1).filter(|_| left >= BEYOND)?;
            Some((one_in, self.waits[index].max(1) as f64 / 1e3))
        };
        scale.steps().map_while(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ends_where_ten_samples_are_left() {
        let waits: Vec<u64> = (1..=1_000).map(|n| n * 1_000).collect();
        let curve = Curve {
            name: "",
            waits: &waits,
        }
        .at(Percentiles::to(1_000.0));
        let (last, ms) = *curve.last().unwrap();
        assert!((95.0..=100.0).contains(&last), "{last}");
        assert!((985.0..=990.0).contains(&ms), "{ms}");
        let few = Curve {
            name: "",
            waits: &waits[..5],
        };
        assert!(few.at(Percentiles::to(100.0)).is_empty());
        percentiles(&[few], "requests"); // draws a frame
    }
}
