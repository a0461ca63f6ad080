//! The latency of both runs, the release time, and what was gained between them.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::cli::demo::outcome::Run;
use crate::cli::report::chart::axes::{BOTTOM, LEFT, Percentiles, RIGHT, Times};
use crate::cli::text::{ms, setting_ms};

/// One request in so many is at the right edge.
const LAST: f64 = 10_000.0;

/// Where things are drawn.
struct Scales {
    percentiles: Percentiles,
    times: Times,
}

impl Scales {
    fn x(&self, one_in: f64) -> f64 {
        self.percentiles.x(one_in)
    }
    fn y(&self, ms: f64) -> f64 {
        self.times.y(ms)
    }
}

/// Draws both runs, the release time and the p99 of each.
pub fn latency_cdf(none: &Run, collage: &Run, release_ms: f64) -> String {
    let curves = [curve(&none.histogram), curve(&collage.histogram)];
    let values = curves.iter().flatten().map(|p| p.1).chain([release_ms]);
    let scales = Scales {
        percentiles: Percentiles::to(LAST),
        times: Times::around(values),
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 960 462\" role=\"img\" aria-label=\"Latency by percentile: at 99% {} without redundancy, {} with the collage\">\n",
        ms(none.latency_ms.p99),
        ms(collage.latency_ms.p99),
    );
    scales.times.rules(&mut svg);
    let of = "share of requests answered within that time";
    scales.percentiles.rules(&mut svg, of);
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
    let point = |one_in: f64| {
        let us = histogram.value_at_quantile(1.0 - 1.0 / one_in).max(1);
        (one_in, us as f64 / 1e3)
    };
    Percentiles::to(LAST).steps().map(point).collect()
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
