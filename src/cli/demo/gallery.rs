//! Collages to look at: groups of the demo's own requests, encoded and answered once more, outside the engine.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::{Device, Input, Output, Scored};
use collage::image::Image;
use collage::model::Model;
use collage::model::compile::PlanOptions;
use collage::model::plan::{Grid, Plan, Preprocessing, Step};

use crate::cli::failure::Failure;
use crate::cli::pass::Pass;
use crate::cli::report::demo::picture::{Guess, Picture, Tile};
use crate::cli::text::{percent, thousands};

/// What the pictures are made from.
pub struct Gallery<'a> {
    /// Where the models run.
    pub device: &'a dyn Device,
    /// The base model.
    pub base: &'a Model,
    /// The collage model.
    pub collage: &'a Model,
    /// Of the collage.
    pub grid: Grid,
    /// A collage answer below it abstains.
    pub min_confidence: f32,
    /// What may be asked.
    pub images: &'a [Image],
    /// Their classes.
    pub labels: &'a [u32],
    /// Which image each request of the demo asked.
    pub order: &'a [usize],
}

/// Held-out accuracy without serving.
pub struct Accuracy {
    /// Of the base.
    pub base: f64,
    /// Of the collage, every image once, in the demo's first round of groups.
    pub collage: f64,
}

impl Gallery<'_> {
    /// The accuracy of both models on every image, the first collage of the demo, and the first in which something
    /// went wrong, if any did: both kinds are real, and the second is the more instructive.
    pub fn hang(&self) -> Result<(Accuracy, Vec<Picture>), Failure> {
        let round: Vec<usize> = self.order.iter().copied().take(self.images.len()).collect();
        let images: Vec<Image> = round.iter().map(|i| self.images[*i].clone()).collect();
        let batch = 64;
        let base = Pass::load(self.device, self.base, Grid::ONE, batch, 1)?.run_all(&images)?;
        let collage =
            Pass::load(self.device, self.collage, self.grid, batch, 1)?.run_all(&images)?;
        let right =
            |row: &[Scored], i: usize| row.first().is_some_and(|best| best.class == self.labels[i]);
        let correct = |rows: &[Vec<Scored>]| {
            rows.iter()
                .zip(&round)
                .filter(|(row, i)| right(row, **i))
                .count()
        };
        let accuracy = |rows: &[Vec<Scored>]| correct(rows) as f64 / rows.len().max(1) as f64;

        let tiles = self.grid.tiles();
        let groups: Vec<Vec<Tile>> = (0..round.len().div_ceil(tiles))
            .map(|g| {
                (g * tiles..((g + 1) * tiles).min(round.len()))
                    .map(|i| self.tile(round[i], &base[i], &collage[i]))
                    .collect()
            })
            .collect();
        let wrong = |group: &Vec<Tile>| {
            group
                .iter()
                .any(|tile| tile.abstained || tile.collage.class != tile.truth)
        };
        let faulty = groups.iter().filter(|group| wrong(group)).count();
        let first_faulty = groups.iter().position(wrong).filter(|g| *g > 0);
        let mut pictures = Vec::new();
        for (i, tiles) in groups.into_iter().enumerate() {
            let caption = match i {
                0 => "The first requests of the run, in the order in which they came.".to_string(),
                i if Some(i) == first_faulty => format!(
                    "Chosen because not every tile is right: the first such collage. Of the {} that hold every held-out \
                     digit once, {} ({}) have a tile that is wrong or unsure.",
                    thousands(round.len().div_ceil(self.grid.tiles()) as u64),
                    faulty,
                    percent(faulty as f64 / round.len().div_ceil(self.grid.tiles()) as f64),
                ),
                _ => continue,
            };
            let canvas = self.canvas(&tiles)?;
            pictures.push(Picture {
                grid: (self.grid.rows, self.grid.cols),
                caption,
                canvas,
                tiles,
            });
        }
        Ok((
            Accuracy {
                base: accuracy(&base),
                collage: accuracy(&collage),
            },
            pictures,
        ))
    }

    fn tile(&self, image: usize, base: &[Scored], collage: &[Scored]) -> Tile {
        let name = |class: u32| {
            self.base
                .classes()
                .get(class as usize)
                .cloned()
                .unwrap_or_default()
        };
        let guess = |row: &[Scored]| {
            row.first().map_or(
                Guess {
                    class: String::new(),
                    confidence: 0.0,
                },
                |best| Guess {
                    class: name(best.class),
                    confidence: best.score,
                },
            )
        };
        let collage = guess(collage);
        Tile {
            image: self.images[image].clone(),
            truth: name(self.labels[image]),
            base: guess(base),
            abstained: collage.confidence < self.min_confidence,
            collage,
        }
    }

    /// The canvas that the network is given, as colours: the plan's own `encode` step, run alone.
    fn canvas(&self, tiles: &[Tile]) -> Result<Image, Failure> {
        let whole = Plan::compile(
            self.collage,
            &PlanOptions {
                grid: self.grid,
                ..PlanOptions::default()
            },
        )?;
        let Some(Step::Encode(encode)) = whole.steps.first().copied() else {
            return Err(Failure::other(
                "a plan for images does not begin with encode",
            ));
        };
        let plan = Plan {
            steps: vec![Step::Encode(encode)],
            ..whole
        };
        let [_, height, width, _] = plan
            .values
            .get(encode.output.0)
            .map_or([0; 4], |value| value.shape);
        let images: Vec<Image> = tiles.iter().map(|tile| tile.image.clone()).collect();
        let normalised = match CpuDevice::reference()
            .load(Arc::new(plan))?
            .run(Input::Images(&images))?
        {
            Output::Tensor(canvas) => canvas,
            Output::TopK(_) => return Err(Failure::other("encode alone gave a top-k")),
        };
        Image::from_rgb(
            width,
            height,
            colours(&normalised, self.collage.preprocessing()),
        )
        .ok_or_else(|| {
            Failure::other(format!(
                "a canvas of {width}x{height} pixels and {} values",
                normalised.len()
            ))
        })
    }
}

/// Takes normalisation back. normalised: (H, W, 3).
fn colours(normalised: &[f32], preprocessing: &Preprocessing) -> Vec<u8> {
    let Preprocessing { mean, std, .. } = preprocessing;
    let colour = |(i, value): (usize, &f32)| {
        ((value * std[i % 3] + mean[i % 3]) * 255.0)
            .round()
            .clamp(0.0, 255.0) as u8
    };
    normalised.iter().enumerate().map(colour).collect()
}
