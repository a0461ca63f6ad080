//! The latency CDF as an SVG: percentiles on a log scale of what is above them, so that the tail gets most of the room.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::cli::demo::outcome::Run;
use crate::cli::text::{ms, setting_ms};

const LEFT: f64 = 62.0;
const RIGHT: f64 = 820.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 400.0;
/// Decades of "slower than one in ...": 50% is one in 2, 99.99% is one in 10,000.
const FIRST: f64 = 2.0;
const LAST: f64 = 10_000.0;
const STEPS: usize = 240;

/// Maps "one in n" and milliseconds to the drawing.
struct Scales {
    low: f64,
    high: f64,
}

impl Scales {
    fn x(&self, one_in: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (one_in / FIRST).ln() / (LAST / FIRST).ln()
    }
    fn y(&self, ms: f64) -> f64 {
        let ms = ms.clamp(self.low, self.high);
        BOTTOM - (BOTTOM - TOP) * (ms / self.low).ln() / (self.high / self.low).ln()
    }
}

/// Draws both runs, the release time and the p99 of each.
pub fn latency_cdf(none: &Run, collage: &Run, release_ms: f64) -> String {
    let curves = [curve(&none.histogram), curve(&collage.histogram)];
    let values = || {
        curves
            .iter()
            .flatten()
            .map(|p| p.1)
            .chain([release_ms])
            .filter(|v| *v > 0.0)
    };
    let low = step_below(values().fold(f64::INFINITY, f64::min));
    let high = step_above(values().fold(0.0, f64::max));
    let scales = Scales {
        low,
        high: high.max(low * 10.0),
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 960 462\" role=\"img\" aria-label=\"Latency by percentile: at 99% {} without redundancy, {} with the collage\">\n",
        ms(none.latency_ms.p99),
        ms(collage.latency_ms.p99),
    );
    axes(&mut svg, &scales);
    let points = |curve: &[(f64, f64)]| {
        let to = |p: &(f64, f64)| format!("{:.1},{:.1}", scales.x(p.0), scales.y(p.1));
        curve.iter().map(to).collect::<Vec<_>>()
    };
    let (a, b) = (points(&curves[0]), points(&curves[1]));
    // Only where the collage was faster was anything gained.
    let faster = curves[0]
        .iter()
        .zip(&curves[1])
        .map(|(none, collage)| (collage.0, collage.1.min(none.1)));
    let faster = points(&faster.collect::<Vec<_>>());
    let between: Vec<_> = a.iter().chain(faster.iter().rev()).cloned().collect();
    let _ = writeln!(
        svg,
        "<polygon class=\"gain\" points=\"{}\"/>",
        between.join(" ")
    );
    release(&mut svg, &scales, release_ms);
    let _ = writeln!(
        svg,
        "<polyline class=\"curve none\" points=\"{}\"/>",
        a.join(" ")
    );
    let _ = writeln!(
        svg,
        "<polyline class=\"curve collage\" points=\"{}\"/>",
        b.join(" ")
    );
    p99(&mut svg, &scales, none, collage);
    names(&mut svg, &scales, &curves);
    svg + "</svg>"
}

/// (one in n, milliseconds), evenly spaced on the drawing.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    (0..=STEPS)
        .map(|i| {
            let one_in = FIRST * (LAST / FIRST).powf(i as f64 / STEPS as f64);
            (
                one_in,
                histogram.value_at_quantile(1.0 - 1.0 / one_in).max(1) as f64 / 1e3,
            )
        })
        .collect()
}

fn axes(svg: &mut String, scales: &Scales) {
    for tick in ticks(scales.low, scales.high) {
        let y = scales.y(tick);
        let _ = writeln!(
            svg,
            "<line class=\"rule\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>"
        );
        let label = if tick >= 1.0 {
            format!("{tick:.0}")
        } else {
            format!("{tick}")
        };
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 10.0,
            y + 4.5
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"end\">ms</text>",
        LEFT - 10.0,
        TOP - 14.0
    );
    let percentiles = [
        ("50%", 2.0),
        ("90%", 10.0),
        ("99%", 100.0),
        ("99.9%", 1e3),
        ("99.99%", 1e4),
    ];
    for (label, one_in) in percentiles {
        let x = scales.x(one_in);
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
    let middle = (LEFT + RIGHT) / 2.0;
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">share of requests answered within that time</text>",
        BOTTOM + 48.0
    );
}

fn release(svg: &mut String, scales: &Scales, release_ms: f64) {
    let y = scales.y(release_ms);
    let _ = writeln!(
        svg,
        "<line class=\"release\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>"
    );
    let _ = writeln!(
        svg,
        "<text class=\"small halo\" x=\"{}\" y=\"{:.1}\">release time {}</text>",
        LEFT + 12.0,
        y - 8.0,
        setting_ms(release_ms)
    );
}

/// A guide at 99% with both values: below its curve for the lower, above for the higher.
fn p99(svg: &mut String, scales: &Scales, none: &Run, collage: &Run) {
    let x = scales.x(100.0);
    let (a, b) = (
        scales.y(none.latency_ms.p99),
        scales.y(collage.latency_ms.p99),
    );
    let _ = writeln!(
        svg,
        "<line class=\"guide\" x1=\"{x:.1}\" y1=\"{a:.1}\" x2=\"{x:.1}\" y2=\"{b:.1}\"/>"
    );
    for (class, y, value, higher) in [
        ("none", a, none.latency_ms.p99, a <= b),
        ("collage", b, collage.latency_ms.p99, b < a),
    ] {
        let (dx, anchor, dy) = if higher {
            (-10.0, "end", -10.0)
        } else {
            (10.0, "start", 22.0)
        };
        let _ = writeln!(
            svg,
            "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5.5\"/>"
        );
        let _ = writeln!(
            svg,
            "<text class=\"{class} label halo\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">p99 {}</text>",
            x + dx,
            y + dy,
            ms(value)
        );
    }
}

/// Each curve's name beside its right end, kept apart where the ends meet.
fn names(svg: &mut String, scales: &Scales, curves: &[Vec<(f64, f64)>; 2]) {
    let end = |i: usize| curves[i].last().map_or(BOTTOM, |p| scales.y(p.1));
    let (mut a, mut b) = (end(0) + 5.0, end(1) + 5.0);
    if (a - b).abs() < 20.0 {
        let middle = (a + b) / 2.0;
        let up = if a <= b { -10.0 } else { 10.0 };
        (a, b) = (middle + up, middle - up);
    }
    let x = RIGHT + 12.0;
    let _ = writeln!(
        svg,
        "<text class=\"none label\" x=\"{x}\" y=\"{a:.1}\">no redundancy</text>"
    );
    let _ = writeln!(
        svg,
        "<text class=\"collage label\" x=\"{x}\" y=\"{b:.1}\">collage</text>"
    );
}

/// 1, 2 and 5 times powers of ten, from `low` to `high`.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let mut ticks = Vec::new();
    let mut power = 10f64.powf(low.log10().floor());
    while power <= high * 1.001 {
        ticks.extend(
            [1.0, 2.0, 5.0]
                .map(|m| m * power)
                .into_iter()
                .filter(|t| *t >= low * 0.999 && *t <= high * 1.001),
        );
        power *= 10.0;
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
        let scales = Scales {
            low: 1.0,
            high: 100.0,
        };
        assert!((scales.x(2.0) - LEFT).abs() < 1e-9 && (scales.x(10_000.0) - RIGHT).abs() < 1e-9);
        assert!(scales.y(10.0) < scales.y(5.0) && (scales.y(1.0) - BOTTOM).abs() < 1e-9);
    }
}
