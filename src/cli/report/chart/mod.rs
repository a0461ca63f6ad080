//! Charts as SVG text: a latency distribution, a tail against what it cost, accuracy against release time.

use super::escape;
use axes::{HEIGHT, RIGHT};

pub mod axes;
mod frontier;
mod percentiles;
mod releases;

pub use frontier::{Point, frontier};
pub use percentiles::{Curve, percentiles};
pub use releases::{Line, releases};

/// Colours and strokes.
pub const STYLE: &str = include_str!("../chart.css");

/// Series have so many colours; more of them begin anew.
const COLOURS: usize = 8;

/// The class of a series' colour.
fn colour(series: usize) -> String {
    format!("s{}", series % COLOURS)
}

/// Opens a chart that has room for these names to the right; `label` is for those who cannot see it.
fn open<'a>(names: impl Iterator<Item = &'a str>, label: &str) -> String {
    let longest = names.map(name_width).fold(120.0, f64::max);
    format!(
        "<svg viewBox=\"0 0 {:.0} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        RIGHT + 20.0 + longest,
        escape(label)
    )
}

/// What a series' name takes on average, generously.
fn name_width(name: &str) -> f64 {
    8.4 * name.chars().count() as f64
}

/// A file of its own from a chart of a page.
pub fn standalone(chart: &str) -> String {
    let inside = chart.strip_prefix("<svg ").unwrap_or(chart);
    let (attributes, rest) = inside.split_once('>').unwrap_or((inside, ""));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" {attributes}>\n<style>\n{STYLE}\
         svg {{ font-family: system-ui, -apple-system, \"Segoe UI\", Roboto, \"Liberation Sans\", sans-serif; \
         font-variant-numeric: tabular-nums; }}\n</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>{rest}\n"
    )
}

/// Moves heights apart that are closer than `gap`, each as little as the order allows, and keeps them below `lowest`.
fn spread(heights: &[f64], gap: f64, lowest: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|a, b| heights[*a].total_cmp(&heights[*b]));
    let mut placed = heights.to_vec();
    let mut limit = lowest;
    // From the bottom up: each at most where it wants to be, and a gap above the one below it.
    for i in order.into_iter().rev() {
        placed[i] = placed[i].min(limit);
        limit = placed[i] - gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lie_on_each_other() {
        let placed = spread(&[50.0, 52.0, 10.0, 90.0], 18.0, 92.0);
        assert_eq!(placed, [34.0, 52.0, 10.0, 90.0]);
        let mut crowded = spread(&[88.0, 89.0, 91.0], 18.0, 90.0);
        crowded.sort_by(f64::total_cmp);
        assert!(crowded.windows(2).all(|pair| pair[1] - pair[0] >= 18.0));
        assert!(crowded.iter().all(|y| *y <= 90.0));
    }

    #[test]
    fn a_chart_by_itself_carries_its_colours() {
        let alone = standalone("<svg viewBox=\"0 0 9 9\" role=\"img\">\n<g/></svg>");
        assert!(alone.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\""));
        assert!(alone.contains("--paper") && alone.contains("<g/></svg>"));
        assert_eq!(alone.matches("<svg").count(), 1);
    }
}
