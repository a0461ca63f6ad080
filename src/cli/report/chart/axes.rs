//! The frame of a chart: times upwards on a log scale, and to the right percentiles on a log scale of what is above them,
//! so that the tail gets most of the room.

use std::fmt::Write;

/// Edges of the drawing.
pub const LEFT: f64 = 62.0;
/// Beyond it are the series' names.
pub const RIGHT: f64 = 820.0;
/// Of the highest value.
pub const TOP: f64 = 28.0;
/// Of the lowest value.
pub const BOTTOM: f64 = 400.0;
/// Below are ticks and a caption.
pub const HEIGHT: usize = 462;

/// Milliseconds, upwards.
pub struct Times {
    low: f64,
    high: f64,
}

impl Times {
    /// Encloses all of these; zeros have no place on a log scale.
    pub fn around(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|v| *v > 0.0).collect();
        let low = step_below(
            values
                .iter()
                .copied()
                .fold(f64::INFINITY, f64::min)
                .min(1e9),
        );
        let high = step_above(values.iter().copied().fold(low, f64::max));
        let high = high.max(low * 4.0); // small differences shall look small
        Self { low, high }
    }

    /// Where a time is drawn.
    pub fn y(&self, ms: f64) -> f64 {
        let ms = ms.clamp(self.low, self.high);
        BOTTOM - (BOTTOM - TOP) * (ms / self.low).ln() / (self.high / self.low).ln()
    }

    /// Rules and their times.
    pub fn rules(&self, svg: &mut String) {
        for tick in ticks(self.low, self.high) {
            let y = self.y(tick);
            let _ = writeln!(
                svg,
                "<line class=\"rule\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>"
            );
            let x = LEFT - 10.0;
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                y + 4.5,
                plain(tick)
            );
        }
        unit(svg, "ms");
    }
}

/// What the upward axis counts in.
pub fn unit(svg: &mut String, unit: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{unit}</text>",
        LEFT - 10.0,
        TOP - 14.0
    );
}

/// "Slower than one in ...": 50% is one in 2, 99.99% is one in 10,000.
#[derive(Clone, Copy)]
pub struct Percentiles {
    last: f64,
}

impl Percentiles {
    const FIRST: f64 = 2.0;
    const STEPS: usize = 240;

    /// From the median to one in `last`.
    pub fn to(last: f64) -> Self {
        Self { last }
    }

    /// Where one in so many is drawn.
    pub fn x(self, one_in: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (one_in / Self::FIRST).ln() / (self.last / Self::FIRST).ln()
    }

    /// Evenly spaced on the drawing.
    pub fn steps(self) -> impl Iterator<Item = f64> {
        (0..=Self::STEPS).map(move |i| {
            Self::FIRST * (self.last / Self::FIRST).powf(i as f64 / Self::STEPS as f64)
        })
    }

    /// Rules, percentiles and what they are of.
    pub fn rules(self, svg: &mut String, caption: &str) {
        let percentiles = [
            ("50%", 2.0),
            ("90%", 10.0),
            ("99%", 100.0),
            ("99.9%", 1e3),
            ("99.99%", 1e4),
            ("99.999%", 1e5),
        ];
        for (label, one_in) in percentiles {
            if one_in <= self.last * 1.001 {
                rule(svg, self.x(one_in), label);
            }
        }
        self::caption(svg, caption);
    }
}

/// An upright rule with a label below.
pub fn rule(svg: &mut String, x: f64, label: &str) {
    let _ = writeln!(
        svg,
        "<line class=\"rule\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>"
    );
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
        BOTTOM + 22.0
    );
}

/// Below the ticks: what the axis to the right is.
pub fn caption(svg: &mut String, caption: &str) {
    let middle = (LEFT + RIGHT) / 2.0;
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{caption}</text>",
        BOTTOM + 48.0
    );
}

/// Points as a polyline has them.
pub fn points(points: impl Iterator<Item = (f64, f64)>) -> String {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    points.join(" ")
}

/// Without decimals that say nothing.
pub fn plain(value: f64) -> String {
    if value >= 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

/// 1, 2 and 5 times powers of ten, from `low` to `high`.
pub fn ticks(low: f64, high: f64) -> Vec<f64> {
    let mut ticks = Vec::new();
    let mut exponent = low.log10().floor() as i32;
    while 10f64.powi(exponent) <= high * 1.001 {
        let power = 10f64.powi(exponent);
        ticks.extend(
            [1.0, 2.0, 5.0]
                .map(|m| m * power)
                .into_iter()
                .filter(|t| *t >= low * 0.999 && *t <= high * 1.001),
        );
        exponent += 1;
    }
    ticks
}

fn step_below(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0]
        .map(|m| m * power)
        .into_iter()
        .find(|s| *s <= value * 1.0001)
        .unwrap_or(power)
}

fn step_above(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|s| *s >= value * 0.9999)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_ends_enclose_their_values() {
        for value in [0.07, 0.1, 0.9, 1.0, 3.3, 49.0, 50.0, 51.0, 812.0] {
            assert!(
                step_below(value) <= value * 1.001 && step_above(value) >= value * 0.999,
                "{value}"
            );
        }
        let expected = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0];
        let found = ticks(0.2, 20.0);
        assert_eq!(found.len(), expected.len());
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a / b - 1.0).abs() < 1e-9),
            "{found:?}"
        );
    }

    #[test]
    fn a_slower_percentile_lies_to_the_right_and_a_longer_wait_above() {
        let percentiles = Percentiles::to(10_000.0);
        assert!((percentiles.x(2.0) - LEFT).abs() < 1e-9);
        assert!((percentiles.x(10_000.0) - RIGHT).abs() < 1e-9);
        let times = Times::around([1.0, 100.0].into_iter());
        assert!(times.y(10.0) < times.y(5.0) && (times.y(1.0) - BOTTOM).abs() < 1e-9);
    }

    #[test]
    fn a_scale_without_a_value_is_still_one() {
        let times = Times::around(std::iter::empty());
        assert!(times.y(1.0).is_finite() && times.y(0.0).is_finite());
    }
}
