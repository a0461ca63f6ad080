//! The measured rows as people read them: one table of speed, one of times, and what to make of both.

use super::measure::Row;
use super::spread::Spread;
use crate::cli::text::{percent, table, thousands};

/// Both tables, then the warnings.
pub fn text(rows: &[Row]) -> String {
    let mut text = format!("{}\n{}", speed(rows), times(rows));
    for row in rows {
        for warning in &row.warnings {
            text += &format!("\nunstable: {}: {warning}", name(row));
        }
    }
    text
}

fn name(row: &Row) -> String {
    format!("{}, {}, batch {}", row.network, row.dtype, row.batch)
}

fn speed(rows: &[Row]) -> String {
    let head = [
        "network", "dtype", "batch", "images/s", "TFLOP/s", "of peak", "GB/s", "of peak", "by",
    ];
    let mut cells = vec![head.map(String::from)];
    let share = |s: Option<f64>| s.map_or_else(String::new, percent);
    for row in rows {
        cells.push([
            row.network.clone(),
            row.dtype.clone(),
            row.batch.to_string(),
            thousands(row.images_per_s.round() as u64),
            digits(row.tflops),
            share(row.share_of_peak_tflops),
            digits(row.gb_per_s),
            share(row.share_of_peak_gb_per_s),
            row.basis.to_string(),
        ]);
    }
    table(&cells, 2)
}

fn times(rows: &[Row]) -> String {
    let head = [
        "ms a run", "", "", "time", "runs", "min", "mean", "median", "p90", "p95", "p99",
    ];
    let mut cells = vec![head.map(String::from)];
    for row in rows {
        let parts = [
            ("latency", Some(row.latency_ms)),
            ("enqueue", row.enqueue_ms),
            ("upload", row.upload_ms),
            ("compute", row.compute_ms),
            ("download", row.download_ms),
            ("resident", row.resident_ms),
        ];
        let there = parts.into_iter().filter_map(|(part, s)| Some((part, s?)));
        for (part, spread) in there {
            cells.push(line(row, part, spread));
        }
    }
    table(&cells, 4)
}

fn line(row: &Row, part: &str, s: Spread) -> [String; 11] {
    // The other parts are of the same runs; `resident` is of blocks.
    let first = part == "latency";
    let once = |text: String| if first { text } else { String::new() };
    let figures = [s.min, s.mean, s.median, s.p90, s.p95, s.p99].map(digits);
    let [min, mean, median, p90, p95, p99] = figures;
    [
        once(row.network.clone()),
        once(row.dtype.clone()),
        once(format!("batch {}", row.batch)),
        part.to_string(),
        once(row.runs.to_string()),
        min,
        mean,
        median,
        p90,
        p95,
        p99,
    ]
}

/// Four significant digits.
fn digits(value: f64) -> String {
    let before = if value < 1.0 {
        1
    } else {
        value.log10() as usize + 1
    };
    format!("{value:.*}", 4usize.saturating_sub(before))
}
