//! `collage eval`: the accuracy of a base model, and of a collage model at several grids, on labelled images.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use collage::backend::Scored;
use collage::backend::discover::{self, DeviceSpec};
use collage::dataset::Dataset;
use collage::embedded;
use collage::image::Image;
use collage::model::Model;
use collage::model::plan::Grid;
use collage::tensor::DType;
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::Serialize;

use super::arguments::{self, BaseModel, DIGITS};
use super::console::Console;
use super::devices;
use super::failure::Failure;
use super::pass::Pass;
use super::shuffle::shuffled;
use super::text::{percent, table, thousands};

const EXAMPLES: &str = "\
Examples:
  collage eval                                          the embedded models on the embedded held-out digits
  collage eval --model resnet32.safetensors --arch resnet32 --data cifar-10-batches-bin
  collage eval --model base.safetensors --collage tiles.safetensors --grids 1x1,2x2,3x3 --data photos/

PATH is a CIFAR-10 binary file, a folder of them (test_batch.bin alone if it is there, else every *.bin), or a folder of
class folders with JPEG, PNG, WebP or BMP files. Folders are matched to the model's classes by name or, if there are as
many of them as classes and not all names match, by sorted order.

A collage's accuracy scores every tile by its best class, whether or not the collage would have abstained; `abstained`
counts those that are under its confidence, `precision` is the share of right ones among the others. ECE is the expected
calibration error, over 15 bins. Images are grouped in an order shuffled by --seed; the last canvas may be partly blank.
";

/// Of confidence, for the calibration error.
const BINS: usize = 15;

/// Measure accuracy on labelled images: the base's, and the collage's at each grid
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    #[command(flatten)]
    base: BaseModel,
    /// Collage model file, or `digits` [default: the embedded one beside the embedded base, else none]
    #[arg(long, value_name = "FILE")]
    collage: Option<PathBuf>,
    /// Grids to measure the collage at [default: the square ones that it was trained on]
    #[arg(long, value_name = "RxC,...", value_delimiter = ',')]
    grids: Vec<Grid>,
    /// Labelled images [default: the embedded held-out digits, for the embedded model]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// auto, cpu, cpu:THREADS, wgpu, wgpu:INDEX, cuda, cuda:INDEX
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceSpec,
    /// Element type of weights and activations on the device: f32, f16, bf16
    #[arg(long, value_name = "TYPE", default_value_t)]
    dtype: DType,
    /// Use only the first N images
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Images a run
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Of the order in which images are grouped into collages
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
}

#[derive(Serialize)]
struct Report {
    images: usize,
    data: String,
    device: String,
    dtype: String,
    seed: u64,
    base: Score,
    collage: Vec<CollageScore>,
    /// Of the base: images over the device's time for them, encoding included, decoding files not.
    images_per_second: f64,
}

#[derive(Serialize)]
struct Score {
    model: String,
    correct: usize,
    accuracy: f64,
    /// Expected calibration error.
    ece: f64,
}

#[derive(Serialize)]
struct CollageScore {
    model: String,
    grid: Grid,
    images: usize,
    correct: usize,
    accuracy: f64,
    /// Tiles under the model's own least confidence.
    abstained: usize,
    /// Share of right answers among those that are not; nothing if all are.
    precision: Option<f64>,
    /// Expected calibration error.
    ece: f64,
    /// Share of images of which the collage's best class is the base's.
    agreement_with_base: f64,
    images_per_second: f64,
}

impl Eval {
    /// Parses, measures, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let base = self.base.open()?;
        let collage = self.open_collage(&base)?;
        let grids = self.grids(collage.as_ref())?;
        let data = self.open_data(&base)?;
        let images = self.limit.map_or(data.len(), |limit| {
            data.len().min(usize::try_from(limit).unwrap_or(usize::MAX))
        });
        let device = discover::open(&self.device)?;
        let order: Vec<usize> = (0..images).collect();
        let set = Images {
            data: &data,
            images,
        };

        let load = |model: &Model, grid| {
            Pass::load_as(self.dtype, &*device, model, grid, self.batch as usize, 1)
        };
        let mut pass = load(&base, Grid::ONE)?;
        let base_rows = set.measure(&mut pass, &order, &console.progress(images as u64, "base"))?;
        let mut report = Report {
            images,
            data: data.name().to_string(),
            device: devices::describe(device.info()),
            dtype: self.dtype.to_string(),
            seed: self.seed,
            base: Score {
                model: base.name().to_string(),
                correct: base_rows.correct(),
                accuracy: base_rows.accuracy(),
                ece: base_rows.calibration_error(),
            },
            collage: Vec::new(),
            images_per_second: base_rows.images_per_second(),
        };
        let order = shuffled(images, self.seed);
        for (collage, grid) in collage
            .iter()
            .flat_map(|collage| grids.iter().map(move |grid| (collage, *grid)))
        {
            let mut pass = load(collage, grid)?;
            let rows = set.measure(
                &mut pass,
                &order,
                &console.progress(images as u64, format!("collage {grid}")),
            )?;
            report
                .collage
                .push(collage_score(collage, grid, &rows, &base_rows));
        }
        console.finish(&report, &text(&report))
    }

    fn open_collage(&self, base: &Model) -> Result<Option<Model>, Failure> {
        let embedded = self.base.is_embedded().then(|| PathBuf::from(DIGITS));
        let Some(file) = self.collage.clone().or(embedded) else {
            return Ok(None);
        };
        let collage = arguments::open_collage(&file)?;
        arguments::same_classes(base, &collage)?;
        Ok(Some(collage))
    }

    fn grids(&self, collage: Option<&Model>) -> Result<Vec<Grid>, Failure> {
        match collage {
            None if !self.grids.is_empty() => Err(Failure::usage("--grids needs --collage FILE")),
            None => Ok(Vec::new()),
            Some(collage) if self.grids.is_empty() => Ok(squares(collage)),
            Some(_) => Ok(self.grids.clone()),
        }
    }

    fn open_data(&self, base: &Model) -> Result<Dataset, Failure> {
        match &self.data {
            Some(path) => Ok(Dataset::open(path, base.classes())?),
            None if self.base.is_embedded() => Ok(embedded::held_out()?),
            None => Err(Failure::usage(
                "--data PATH is needed: only the embedded model has images of its own",
            )),
        }
    }
}

/// One grid of each size; all of them if none is square.
fn squares(collage: &Model) -> Vec<Grid> {
    let squares: Vec<Grid> = collage
        .grids()
        .iter()
        .copied()
        .filter(|grid| grid.rows == grid.cols)
        .collect();
    if squares.is_empty() {
        collage.grids().to_vec()
    } else {
        squares
    }
}

/// The first `images` of a data set.
struct Images<'a> {
    data: &'a Dataset,
    images: usize,
}

/// What one pass answered, by the images' own order.
struct Rows {
    answers: Vec<Scored>,
    correct: Vec<bool>,
    busy: Duration,
}

impl Rows {
    fn correct(&self) -> usize {
        self.correct.iter().filter(|right| **right).count()
    }
    fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.answers.len().max(1) as f64
    }
    /// Answers and right ones among those of at least this confidence.
    fn given(&self, threshold: f32) -> (usize, usize) {
        let given = self.answers.iter().zip(&self.correct);
        given
            .filter(|(answer, _)| answer.score >= threshold)
            .fold((0, 0), |(all, right), (_, is_right)| {
                (all + 1, right + usize::from(*is_right))
            })
    }
    /// Mean over [`BINS`] equal bins of confidence of |accuracy - confidence|, weighted by the answers in the bin
    /// (Guo et al., arXiv 1706.04599).
    fn calibration_error(&self) -> f64 {
        let mut excess = [0.0; BINS];
        for (answer, is_right) in self.answers.iter().zip(&self.correct) {
            let bin = (answer.score * BINS as f32) as usize;
            excess[bin.min(BINS - 1)] += f64::from(answer.score) - f64::from(u8::from(*is_right));
        }
        excess.iter().map(|e: &f64| e.abs()).sum::<f64>() / self.answers.len().max(1) as f64
    }
    fn images_per_second(&self) -> f64 {
        self.answers.len() as f64 / self.busy.as_secs_f64().max(1e-9)
    }
}

impl Images<'_> {
    /// Runs the images in this order; only as many are decoded at a time as one run takes.
    fn measure(
        &self,
        pass: &mut Pass,
        order: &[usize],
        bar: &ProgressBar,
    ) -> Result<Rows, Failure> {
        let nothing = Scored {
            class: u32::MAX,
            score: 0.0,
        };
        let mut rows = Rows {
            answers: vec![nothing; self.images],
            correct: vec![false; self.images],
            busy: Duration::ZERO,
        };
        for batch in order.chunks(pass.capacity()) {
            let images: Vec<Image> = batch
                .par_iter()
                .map(|i| self.data.image(*i))
                .collect::<Result<_, _>>()?;
            let begin = Instant::now();
            let found = pass.run(&images)?;
            rows.busy += begin.elapsed();
            for (index, best) in batch.iter().zip(found) {
                let answer = best.first().copied().unwrap_or(nothing);
                rows.correct[*index] = self.data.label(*index) == Some(answer.class);
                rows.answers[*index] = answer;
            }
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(rows)
    }
}

fn collage_score(model: &Model, grid: Grid, rows: &Rows, base: &Rows) -> CollageScore {
    let (given, right) = rows.given(model.metadata().min_confidence);
    let agreeing = rows
        .answers
        .iter()
        .zip(&base.answers)
        .filter(|(a, b)| a.class == b.class)
        .count();
    CollageScore {
        model: model.name().to_string(),
        grid,
        images: rows.answers.len(),
        correct: rows.correct(),
        accuracy: rows.accuracy(),
        abstained: rows.answers.len() - given,
        precision: (given > 0).then(|| right as f64 / given as f64),
        ece: rows.calibration_error(),
        agreement_with_base: agreeing as f64 / rows.answers.len().max(1) as f64,
        images_per_second: rows.images_per_second(),
    }
}

fn text(report: &Report) -> String {
    let head = [
        "",
        "correct",
        "accuracy",
        "abstained",
        "precision",
        "ECE",
        "as the base",
        "images/s",
    ]
    .map(String::from);
    let mut rows = vec![head];
    let correct = |n: usize| format!("{n} of {}", report.images);
    rows.push([
        format!("base {}", report.base.model),
        correct(report.base.correct),
        percent(report.base.accuracy),
        String::new(),
        String::new(),
        format!("{:.4}", report.base.ece),
        String::new(),
        thousands(report.images_per_second.round() as u64),
    ]);
    for score in &report.collage {
        rows.push([
            format!("collage {} {}", score.model, score.grid),
            correct(score.correct),
            percent(score.accuracy),
            score.abstained.to_string(),
            score.precision.map_or_else(String::new, percent),
            format!("{:.4}", score.ece),
            percent(score.agreement_with_base),
            thousands(score.images_per_second.round() as u64),
        ]);
    }
    format!(
        "{} images of {} in {} on {}\n\n{}",
        thousands(report.images as u64),
        report.data,
        report.dtype,
        report.device,
        table(&rows, 1)
    )
}
