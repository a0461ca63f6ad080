//! `collage inspect`: what a model file holds and what running it takes.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use collage::model::Kind;
use collage::model::compile::PlanOptions;
use collage::model::plan::Grid;
use collage::model::summary::Summary;

use super::arguments::{self, BaseModel, DIGITS};
use super::console::Console;
use super::failure::Failure;
use super::text::{bytes, table, thousands};

const EXAMPLES: &str = "\
Examples:
  collage inspect digits                              the embedded base model
  collage inspect digits-collage --grid 4x4           the embedded collage model
  collage inspect resnet32.safetensors --arch resnet32 --batch 64
";

/// Show a model: layers, shapes, multiply-accumulates, parameters, memory, metadata
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// Model file (safetensors), or `digits` or `digits-collage` for the embedded ones
    model: PathBuf,
    /// Architecture of a model file that does not say what it is
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Canvases a run
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Tiles of a collage's canvas [default: the largest grid that the model was trained on]
    #[arg(long, value_name = "RxC")]
    grid: Option<Grid>,
}

impl Inspect {
    /// Parses, compiles, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let model = match self.model.to_str() {
            Some("digits-collage") => arguments::open_collage(DIGITS.as_ref())?,
            Some(DIGITS) => BaseModel {
                model: self.model,
                arch: self.arch,
            }
            .open()?,
            _ => arguments::open_any(&self.model, self.arch.as_deref())?,
        };
        let grid = self.grid.unwrap_or(largest(model.grids()));
        let options = PlanOptions {
            batch: self.batch as usize,
            grid,
            ..PlanOptions::default()
        };
        let summary = Summary::new(&model, &options)?;
        console.finish(&summary, &text(&summary))
    }
}

fn largest(grids: &[Grid]) -> Grid {
    grids
        .iter()
        .copied()
        .max_by_key(|grid| grid.tiles())
        .unwrap_or(Grid::ONE)
}

fn text(summary: &Summary) -> String {
    let mut text = String::new();
    for (name, value) in said(summary).into_iter().chain(counted(summary)) {
        let _ = writeln!(text, "{name:<14} {value}");
    }
    text + "\n" + &layers(summary)
}

/// What the file says of itself.
fn said(summary: &Summary) -> Vec<(&'static str, String)> {
    let metadata = &summary.metadata;
    let kind = match summary.kind {
        Kind::Base => "base",
        Kind::Collage => "collage",
    };
    let p = &metadata.preprocessing;
    let input = format!(
        "shorter side to {}, centre {2}x{2}, {1:?}",
        p.resize, p.filter, p.size
    );
    let mut facts = vec![
        (
            "model",
            format!("{} ({kind}, {})", metadata.name, summary.file),
        ),
        ("architecture", metadata.architecture.family().to_string()),
        ("input", input.to_lowercase()),
        ("classes", classes(&metadata.classes)),
    ];
    if let Some(collage) = &metadata.collage {
        let span = match (collage.grids.as_slice(), largest(&collage.grids)) {
            ([one], _) => one.to_string(),
            (grids, largest) => format!("{} grids up to {largest}", grids.len()),
        };
        let cell = format!("one cell of the last map is {0}x{0} pixels", collage.stride);
        let abstains = match metadata.min_confidence {
            0.0 => "never".to_string(),
            threshold => format!("below a confidence of {threshold}"),
        };
        facts.extend([
            ("trained on", format!("{span}; {cell}")),
            ("abstains", abstains),
        ]);
    }
    // Of 25 grids, five are square; --json has all.
    let square = |of: &str| of.split_once('x').is_none_or(|(rows, cols)| rows == cols);
    let shown = metadata.accuracy.iter().filter(|(of, _)| square(of));
    let shown: Vec<String> = shown
        .map(|(of, accuracy)| format!("{of} {accuracy:.4}"))
        .collect();
    if !shown.is_empty() {
        facts.push((
            "accuracy",
            format!("{} (held out, as the file says)", shown.join(", ")),
        ));
    }
    let optional = [("source", &metadata.source), ("licence", &metadata.licence)];
    facts.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?))),
    );
    facts
}

/// What was counted in it.
fn counted(summary: &Summary) -> Vec<(&'static str, String)> {
    let (params, weights) = (thousands(summary.params), bytes(summary.weight_bytes));
    let canvases = match summary.batch {
        1 => "1 canvas".to_string(),
        batch => format!("{batch} canvases"),
    };
    let (macs, arena) = (thousands(summary.macs), bytes(summary.arena_bytes));
    vec![
        ("sha256", summary.metadata.sha256.clone()),
        (
            "parameters",
            format!("{params}, {weights} on a device in {}", summary.dtype),
        ),
        (
            "one run",
            format!("{canvases} of {}: {macs} MACs, arena {arena}", summary.grid),
        ),
    ]
}

fn layers(summary: &Summary) -> String {
    let shape = |s: &[usize; 4]| s.map(|n| n.to_string()).join("x");
    let mut rows = vec![
        [
            "layer",
            "op",
            "output N,H,W,C",
            "window",
            "adds",
            "MACs",
            "parameters",
        ]
        .map(String::from),
    ];
    for layer in &summary.layers {
        let window = match (layer.kernel, layer.stride) {
            (Some([h, w]), Some(stride)) if stride > 1 => format!("{h}x{w} /{stride}"),
            (Some([h, w]), _) => format!("{h}x{w}"),
            (None, _) => String::new(),
        };
        rows.push([
            layer.name.clone(),
            layer.op.to_string(),
            shape(&layer.output),
            window,
            layer.residual.clone().unwrap_or_default(),
            thousands(layer.macs),
            thousands(layer.params),
        ]);
    }
    table(&rows, 5)
}

fn classes(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let more = if names.len() > 10 { ", ..." } else { "" };
    format!("{}: {}{more}", names.len(), shown.join(", "))
}
