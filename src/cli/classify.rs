//! `collage classify`: what the models make of a few image files.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use collage::backend::discover::{self, DeviceSpec};
use collage::backend::{Device, Scored};
use collage::image::Image;
use collage::model::Model;
use collage::model::plan::Grid;
use rayon::prelude::*;
use serde::Serialize;

use super::arguments::{self, BaseModel};
use super::console::Console;
use super::devices;
use super::failure::Failure;
use super::pass::Pass;
use super::text::percent;

const EXAMPLES: &str = "\
Examples:
  collage classify digit.png                             the embedded digits model
  collage classify *.png --collage digits --grid 2x2     the collage's answers beside the base's
  collage classify cat.jpg --model resnet50.safetensors --arch resnet50 --top 5

Takes JPEG (EXIF orientation honoured), PNG, WebP and BMP.
";

/// Classify image files
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Classify {
    /// Image files
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    base: BaseModel,
    /// Collage model file, or `digits`: answers from collages of the images too
    #[arg(long, value_name = "FILE")]
    collage: Option<PathBuf>,
    /// Tiles of a collage [default: the smallest trained grid that holds all the images, else the largest]
    #[arg(long, value_name = "RxC", requires = "collage")]
    grid: Option<Grid>,
    /// Show the best K classes
    #[arg(long, value_name = "K", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// auto, cpu, cpu:THREADS, wgpu, wgpu:INDEX, cuda, cuda:INDEX
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceSpec,
}

/// Images a run of the base model.
const BATCH: usize = 32;

#[derive(Serialize)]
struct Report {
    device: String,
    model: String,
    images: Vec<Answers>,
}

#[derive(Serialize)]
struct Answers {
    file: PathBuf,
    base: Vec<Guess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collage: Option<TileAnswer>,
}

#[derive(Serialize)]
struct TileAnswer {
    grid: Grid,
    /// Which collage of this command.
    canvas: usize,
    /// Which of its tiles, row by row.
    tile: usize,
    top: Vec<Guess>,
    /// Whether an engine would wait for the base instead of giving this answer.
    abstained: bool,
}

#[derive(Serialize)]
struct Guess {
    class: String,
    index: u32,
    score: f32,
}

impl Classify {
    /// Parses, classifies, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let base = self.base.open()?;
        let collage = self
            .collage
            .as_deref()
            .map(arguments::open_collage)
            .transpose()?;
        if let Some(collage) = &collage {
            arguments::same_classes(&base, collage)?;
        }
        let images: Vec<Image> = self
            .images
            .par_iter()
            .map(Image::open)
            .collect::<Result<_, _>>()?;
        let device = discover::open(&self.device)?;
        let top = self.top as usize;
        let mut pass = Pass::load(&*device, &base, Grid::ONE, BATCH.min(images.len()), top)?;
        let rows = pass.run_all(&images)?;
        let tiles = collage
            .as_ref()
            .map(|model| self.tiles(&*device, model, &images))
            .transpose()?;
        let mut tiles = tiles.into_iter().flatten();
        let answers = self.images.iter().zip(rows).map(|(file, row)| Answers {
            file: file.clone(),
            base: guesses(&base, &row),
            collage: tiles.next(),
        });
        let report = Report {
            device: devices::describe(device.info()),
            model: base.name().to_string(),
            images: answers.collect(),
        };
        console.finish(&report, &text(&report))
    }

    fn tiles(
        &self,
        device: &dyn Device,
        model: &Model,
        images: &[Image],
    ) -> Result<Vec<TileAnswer>, Failure> {
        let holds = |grid: &&Grid| grid.tiles() >= images.len();
        let smallest = model
            .grids()
            .iter()
            .filter(holds)
            .min_by_key(|grid| grid.tiles());
        let largest = model.grids().iter().max_by_key(|grid| grid.tiles());
        let grid = self
            .grid
            .or(smallest.or(largest).copied())
            .unwrap_or(Grid::ONE);
        let mut pass = Pass::load(
            device,
            model,
            grid,
            BATCH.min(images.len()),
            self.top as usize,
        )?;
        let rows = pass.run_all(images)?;
        let answer = |(i, row): (usize, Vec<Scored>)| TileAnswer {
            grid,
            canvas: i / grid.tiles(),
            tile: i % grid.tiles(),
            abstained: row
                .first()
                .is_none_or(|best| best.score < model.metadata().min_confidence),
            top: guesses(model, &row),
        };
        Ok(rows.into_iter().enumerate().map(answer).collect())
    }
}

fn guesses(model: &Model, row: &[Scored]) -> Vec<Guess> {
    let name = |index: u32| {
        model
            .classes()
            .get(index as usize)
            .cloned()
            .unwrap_or_default()
    };
    row.iter()
        .map(|s| Guess {
            class: name(s.class),
            index: s.class,
            score: s.score,
        })
        .collect()
}

fn text(report: &Report) -> String {
    let line = |guesses: &[Guess]| {
        guesses
            .iter()
            .map(|g| format!("{} {}", g.class, percent(f64::from(g.score))))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = String::new();
    for image in &report.images {
        let _ = writeln!(text, "{}: {}", image.file.display(), line(&image.base));
        if let Some(tile) = &image.collage {
            let abstained = if tile.abstained {
                "  (unsure: would abstain)"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "    collage {} tile {}: {}{abstained}",
                tile.grid,
                tile.tile,
                line(&tile.top)
            );
        }
    }
    text
}
