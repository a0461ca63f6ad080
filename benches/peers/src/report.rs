//! What comes out: a JSON with everything, and the same as two tables for people.

use std::fmt::Write;

use serde::Serialize;

use crate::measure::Outcome;

/// Everything about one run of the harness.
#[derive(Serialize)]
pub struct Report {
    /// Of this layout.
    pub schema: u32,
    /// As typed.
    pub command: String,
    /// Of this repository.
    pub commit: String,
    /// UTC.
    pub date: String,
    /// Of the machine.
    pub cpu: String,
    /// What WebGPU runs on.
    pub adapter: String,
    /// Turns of each runtime.
    pub rounds: usize,
    /// Threads that each CPU runtime was given.
    pub threads: usize,
    /// Columns.
    pub runtimes: Vec<Runtime>,
    /// Rows.
    pub cases: Vec<Row>,
}

/// A column.
#[derive(Serialize)]
pub struct Runtime {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// `cpu` or `wgpu`.
    pub runs_on: String,
}

/// A row.
#[derive(Serialize)]
pub struct Row {
    /// Case.
    pub id: String,
    /// Of one run; 0 where the case has no multiply-accumulates.
    pub flops: f64,
    /// In the order of the columns, of those that take the case.
    pub outcomes: Vec<Outcome>,
}

impl Row {
    fn seconds(&self, name: &str) -> Option<f64> {
        self.outcomes.iter().find(|o| o.peer == name)?.seconds
    }

    fn cell(&self, name: &str) -> String {
        let Some(outcome) = self.outcomes.iter().find(|o| o.peer == name) else {
            return "-".into();
        };
        match outcome.seconds {
            Some(s) if self.flops > 0.0 => {
                format!("{} ({:.1})", milliseconds(s), self.flops / s / 1e9)
            }
            Some(s) => milliseconds(s),
            None => "failed".into(),
        }
    }
}

/// A ratio that the project has a goal for: how many times as fast we are.
struct Ratio {
    title: &'static str,
    ours: &'static str,
    /// The fastest of these.
    theirs: &'static [&'static str],
}

const RATIOS: [Ratio; 5] = [
    Ratio {
        title: "cpu / best Rust peer (goal 1)",
        ours: "collage-cpu",
        theirs: &["tract", "candle", "burn-flex"],
    },
    Ratio {
        title: "cpu / onnxruntime (goal 0.6)",
        ours: "collage-cpu",
        theirs: &["onnxruntime"],
    },
    Ratio {
        title: "wgpu / burn-wgpu (goal 10)",
        ours: "collage-wgpu",
        theirs: &["burn-wgpu"],
    },
    Ratio {
        title: "wgpu / wonnx (goal 10)",
        ours: "collage-wgpu",
        theirs: &["wonnx"],
    },
    Ratio {
        title: "wgpu / onnxruntime (goal 0.33)",
        ours: "collage-wgpu",
        theirs: &["onnxruntime"],
    },
];

impl Ratio {
    fn of(&self, row: &Row) -> String {
        let best = self
            .theirs
            .iter()
            .filter_map(|name| row.seconds(name))
            .min_by(f64::total_cmp);
        match (row.seconds(self.ours), best) {
            (Some(ours), Some(theirs)) => format!("{:.2}", theirs / ours),
            _ => "-".into(),
        }
    }
}

impl Report {
    /// For people, and for the README.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "# Beside our peers\n");
        let _ = writeln!(out, "`{}`\n", self.command);
        let _ = writeln!(
            out,
            "commit {}, {}; {}; adapter {}; f32;",
            self.commit, self.date, self.cpu, self.adapter
        );
        let _ = writeln!(
            out,
            "medians of {} rounds in which the runtimes took turns; {} threads each. From input in host memory to output in \
             host memory; milliseconds, and in brackets GFLOP/s. Every result was compared with collage-cpu's first.\n",
            self.rounds, self.threads
        );
        let names: Vec<&str> = self.runtimes.iter().map(|r| r.name.as_str()).collect();
        let columns: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let rows = self
            .cases
            .iter()
            .map(|row| (row.id.as_str(), names.iter().map(|n| row.cell(n)).collect()));
        table(&mut out, &columns, rows);
        let _ = writeln!(out, "\nHow many times as fast as they:\n");
        let columns: Vec<String> = RATIOS.iter().map(|r| r.title.to_owned()).collect();
        let rows = self
            .cases
            .iter()
            .map(|row| (row.id.as_str(), RATIOS.iter().map(|r| r.of(row)).collect()));
        table(&mut out, &columns, rows);
        let _ = writeln!(out);
        for r in &self.runtimes {
            let _ = writeln!(out, "- {} {} ({})", r.name, r.version, r.runs_on);
        }
        for row in &self.cases {
            for o in &row.outcomes {
                if let Some(error) = &o.error {
                    let _ = writeln!(out, "- {} failed on {}: {error}", o.peer, row.id);
                }
            }
        }
        out
    }
}

fn table<'a>(
    out: &mut String,
    columns: &[String],
    rows: impl Iterator<Item = (&'a str, Vec<String>)>,
) {
    let rows: Vec<_> = rows.collect();
    let first = rows
        .iter()
        .map(|(id, _)| id.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let width = |i: usize| {
        rows.iter()
            .map(|(_, cells)| cells[i].len())
            .chain([columns[i].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut line = |id: &str, cells: &[String]| {
        let cells: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(c, w)| format!("{c:>w$}"))
            .collect();
        let _ = writeln!(out, "| {id:first$} | {} |", cells.join(" | "));
    };
    line("case", columns);
    let rule: Vec<String> = widths
        .iter()
        .map(|w| format!("{}:", "-".repeat(w - 1)))
        .collect();
    line(&"-".repeat(first), &rule);
    rows.iter().for_each(|(id, cells)| line(id, cells));
}

/// Three figures.
fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    let decimals = if ms >= 100.0 {
        0
    } else if ms >= 10.0 {
        1
    } else if ms >= 1.0 {
        2
    } else {
        3
    };
    format!("{ms:.decimals$}")
}
