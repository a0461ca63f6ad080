//! A tail against what it cost: one point a policy, and the frontier through those that no other beats in both.

use std::fmt::Write;

use super::axes::{self, BOTTOM, LEFT, RIGHT, TOP, Times};
use super::{colour, escape, name_width, open};
use crate::cli::text::{ms, percent};

/// One policy.
pub struct Point<'a> {
    /// Beside it.
    pub name: &'a str,
    /// Extra work as a share of the base's, 0 or more.
    pub extra: f64,
    /// The tail, in milliseconds.
    pub tail: f64,
}

/// Shares below this lie close together.
const UNIT: f64 = 0.01;

/// Draws all of them. `tail` names the percentile, `extra` says in what the work was measured.
pub fn frontier(points: &[Point<'_>], tail: &str, extra: &str) -> String {
    let times = Times::around(points.iter().map(|point| point.tail));
    let most = points.iter().map(|point| point.extra).fold(0.1, f64::max) * 1.1;
    // Between even and logarithmic: zero has a place, and so have 1% and 100%.
    let x =
        |share: f64| LEFT + (RIGHT - LEFT) * (1.0 + share / UNIT).ln() / (1.0 + most / UNIT).ln();
    let label = format!("{tail} against {extra}, one point a policy");
    let mut svg = open(std::iter::empty(), &label);
    times.rules(&mut svg);
    for tick in [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0] {
        if tick <= most {
            axes::rule(&mut svg, x(tick), &format!("{:.0}%", tick * 100.0));
        }
    }
    axes::caption(&mut svg, &escape(extra));
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{LEFT}\" y=\"{}\">{}</text>",
        TOP - 14.0,
        escape(tail)
    );
    let place = |point: &Point<'_>| (x(point.extra), times.y(point.tail));
    let best: Vec<(f64, f64)> = unbeaten(points)
        .into_iter()
        .map(|i| place(&points[i]))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline class=\"frontier\" points=\"{}\"/>",
        axes::points(best.into_iter())
    );
    let places: Vec<(f64, f64)> = points.iter().map(place).collect();
    for (i, (x, y)) in places.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6.5\"/>",
            colour(i)
        );
    }
    names(&mut svg, points, &places);
    svg + "</svg>"
}

/// Indices of the points that no other beats in cost without losing in the tail, by cost.
fn unbeaten(points: &[Point<'_>]) -> Vec<usize> {
    let beats = |a: &Point<'_>, b: &Point<'_>| {
        a.extra <= b.extra && a.tail <= b.tail && (a.extra < b.extra || a.tail < b.tail)
    };
    let is_best = |i: &usize| !points.iter().any(|other| beats(other, &points[*i]));
    let mut best: Vec<usize> = (0..points.len()).filter(is_best).collect();
    best.sort_by(|a, b| points[*a].extra.total_cmp(&points[*b].extra));
    best
}

/// A box that text fills.
#[derive(Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    middle: f64,
}

impl Area {
    fn touches(self, other: Area) -> bool {
        self.left < other.right
            && other.left < self.right
            && (self.middle - other.middle).abs() < 19.0
    }
}

/// A name with its figures beside each point, on the first side that is free.
fn names(svg: &mut String, points: &[Point<'_>], places: &[(f64, f64)]) {
    let dot = |(x, y): &(f64, f64)| Area {
        left: x - 8.0,
        right: x + 8.0,
        middle: *y,
    };
    let mut taken: Vec<Area> = places.iter().map(dot).collect();
    for (i, (x, y)) in places.iter().enumerate() {
        let point = &points[i];
        let figures = format!("{} at {}", ms(point.tail), percent(point.extra));
        let width = name_width(point.name) + 8.0 + 7.2 * figures.chars().count() as f64;
        let side = |(right, up): (bool, f64)| {
            let left = if right { x + 12.0 } else { x - 12.0 - width };
            Area {
                left,
                right: left + width,
                middle: y + up,
            }
        };
        let ups = [0.0, -20.0, 20.0, -40.0, 40.0, -60.0, 60.0];
        let free = |area: &Area| {
            let inside = (LEFT..950.0).contains(&area.left) && area.right < 955.0;
            let inside = inside && (TOP - 4.0..BOTTOM + 4.0).contains(&area.middle);
            inside && !taken.iter().any(|other| area.touches(*other))
        };
        let sides = ups.into_iter().flat_map(|up| [(true, up), (false, up)]);
        let area = sides.map(side).find(free).unwrap_or(side((true, 0.0)));
        let _ = writeln!(
            svg,
            "<text class=\"name halo {}\" x=\"{:.1}\" y=\"{:.1}\">{}<tspan class=\"small\" dx=\"6\">{figures}</tspan></text>",
            colour(i),
            area.left,
            area.middle + 5.0,
            escape(point.name)
        );
        taken.push(area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, extra: f64, tail: f64) -> Point<'_> {
        Point { name, extra, tail }
    }

    #[test]
    fn the_frontier_holds_what_nothing_beats_in_both() {
        let points = [
            point("twice", 1.0, 30.0),
            point("none", 0.0, 100.0),
            point("hedge", 0.05, 60.0),
            point("worse", 0.06, 70.0),
            point("collage", 0.11, 30.0),
        ];
        let names: Vec<&str> = unbeaten(&points)
            .into_iter()
            .map(|i| points[i].name)
            .collect();
        assert_eq!(names, ["none", "hedge", "collage"]);
    }

    #[test]
    fn every_policy_is_on_the_chart_with_its_figures() {
        let points = [
            point("none", 0.0, 100.0),
            point("a<b", 1.0, 30.0),
            point("c", 1.0, 30.0),
        ];
        let svg = frontier(&points, "p99", "extra time");
        for text in ["none", "a&lt;b", "100 ms at 0.00%", "30.0 ms at 100.00%"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
    }
}
