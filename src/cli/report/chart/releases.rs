//! Accuracy against release time: the earlier a collage may answer, the more answers are its own.

use std::fmt::Write;

use super::axes::{self, BOTTOM, LEFT, RIGHT, TOP};
use super::{colour, escape, open, spread};

/// One policy: (release in milliseconds, accuracy).
pub struct Line<'a> {
    /// Which colour: the same as on the other charts.
    pub series: usize,
    /// Beside its end.
    pub name: &'a str,
    /// In any order.
    pub points: Vec<(f64, f64)>,
}

/// Draws all of them, over the accuracy without redundancy where it is known.
pub fn releases(lines: &[Line<'_>], none: Option<f64>) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let accuracies = || all().map(|point| point.1).chain(none);
    let lowest = accuracies().fold(1.0, f64::min);
    let highest = accuracies().fold(0.0, f64::max);
    // A tenth of the span around it, in whole tenths of a percent.
    let margin = ((highest - lowest) * 0.1).max(0.001);
    let low = ((lowest - margin) * 1e3).floor() / 1e3;
    let high = ((highest + margin) * 1e3).ceil().min(1e3) / 1e3;
    let y = |share: f64| BOTTOM - (BOTTOM - TOP) * (share - low) / (high - low).max(1e-9);
    let first = all()
        .map(|point| point.0)
        .fold(f64::INFINITY, f64::min)
        .max(1e-3);
    let last = all().map(|point| point.0).fold(first * 1.01, f64::max);
    let x = |ms: f64| LEFT + 20.0 + (RIGHT - LEFT - 60.0) * (ms / first).ln() / (last / first).ln();
    let mut svg = open(
        lines.iter().map(|line| line.name),
        "Accuracy by release time, one line a policy",
    );
    frame(&mut svg, (low, high), y);
    let mut times: Vec<f64> = all().map(|point| point.0).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    for time in times {
        axes::rule(&mut svg, x(time), &format!("{time}"));
    }
    axes::caption(&mut svg, "release time, ms after a request was due");
    if let Some(none) = none {
        let y = y(none);
        let _ = writeln!(
            svg,
            "<line class=\"release\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\n<text class=\"small halo\" \
             x=\"{}\" y=\"{:.1}\">none</text>",
            LEFT + 12.0,
            y - 8.0
        );
    }
    let sorted = lines.iter().map(|line| {
        let mut points = line.points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
            .into_iter()
            .map(|(ms, share)| (x(ms), y(share)))
            .collect()
    });
    let drawn: Vec<Vec<(f64, f64)>> = sorted.collect();
    let ends: Vec<f64> = drawn
        .iter()
        .map(|line| line.last().map_or(BOTTOM, |p| p.1))
        .collect();
    for (i, height) in spread(&ends, 19.0, BOTTOM).into_iter().enumerate() {
        draw(&mut svg, &lines[i], &drawn[i], height);
    }
    svg + "</svg>"
}

/// Rules at whole steps of accuracy.
fn frame(svg: &mut String, (low, high): (f64, f64), y: impl Fn(f64) -> f64) {
    let step = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];
    let step = step
        .into_iter()
        .find(|step| (high - low) / step <= 8.0)
        .unwrap_or(0.5);
    let mut tick = (low / step).ceil() * step;
    while tick <= high + 1e-9 {
        let y = y(tick);
        let _ = writeln!(
            svg,
            "<line class=\"rule\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>\n<text class=\"tick\" x=\"{}\" \
             y=\"{:.1}\" text-anchor=\"end\">{:.1}</text>",
            LEFT - 10.0,
            y + 4.5,
            tick * 100.0
        );
        tick += step;
    }
    axes::unit(svg, "%");
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{LEFT}\" y=\"{}\">of all requests answered rightly</text>",
        TOP - 14.0
    );
}

fn draw(svg: &mut String, of: &Line<'_>, line: &[(f64, f64)], height: f64) {
    let colour = colour(of.series);
    let _ = writeln!(
        svg,
        "<polyline class=\"curve {colour}\" points=\"{}\"/>",
        axes::points(line.iter().copied())
    );
    for (x, y) in line {
        let _ = writeln!(
            svg,
            "<circle class=\"dot {colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>"
        );
    }
    let x = line.last().map_or(RIGHT, |point| point.0) + 12.0;
    let _ = writeln!(
        svg,
        "<text class=\"name halo {colour}\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
        height + 5.0,
        escape(of.name)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_accuracy_lies_above_and_a_later_release_to_the_right() {
        let lines = [Line {
            series: 3,
            name: "collage",
            points: vec![(20.0, 0.98), (5.0, 0.95)],
        }];
        let svg = releases(&lines, Some(0.99));
        let points = svg.split("<polyline").nth(1).unwrap();
        let points = points
            .split("points=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let points: Vec<f64> = points
            .split([' ', ','])
            .map(|number| number.parse().unwrap())
            .collect();
        assert!(points[0] < points[2] && points[1] > points[3], "{points:?}");
    }
}
