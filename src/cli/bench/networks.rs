//! What is measured: model files, or networks whose weights are made from a hash, for which no file is needed.

use std::path::{Path, PathBuf};

use clap::Args;
use collage::image::Image;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::hashed;
use collage::model::plan::{Grid, Plan};
use collage::model::resnet::Named;
use collage::model::{Fault, Model};
use collage::tensor::DType;

use crate::cli::arguments::{self, BaseModel, DIGITS};
use crate::cli::failure::Failure;

/// Names the network with hashed weights instead of a collage file.
const HASHED: &str = "hashed";

/// Side of the images that networks of photographs are given: ImageNet's mean.
const PHOTOGRAPH: [usize; 2] = [500, 375];

/// Different images of one input.
const DISTINCT: usize = 16;

/// Which networks.
#[derive(Args, Debug)]
pub struct Networks {
    /// Base model file (safetensors), or `digits` for the embedded one, which is the default without --arch and --collage
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Architecture of a file that does not say it; without --model, that network with weights made from a hash:
    /// resnet18, resnet34, resnet50, resnet101 at 224, resnet20, resnet32, resnet44, resnet56, resnet110 at 32
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Collage model file, `digits`, or `hashed` for a network of 28 M multiply-accumulates a tile of 32x32
    #[arg(long, value_name = "FILE")]
    collage: Option<PathBuf>,
    /// Tiles of the collage's canvas; hashed takes up to 12x12, a canvas of 384x384 [default: 3x3, or the largest below]
    #[arg(long, value_name = "RxC")]
    grid: Option<Grid>,
    /// What a run is given: images, which it resizes, or the canvas as a tensor
    #[arg(long, value_name = "KIND", default_value = "images")]
    input: InputKind,
}

/// What a run is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum InputKind {
    Images,
    Tensor,
}

/// A network at one grid.
pub struct Network {
    /// "base" or "collage".
    pub role: &'static str,
    /// "resnet50", or "collage 3x3".
    pub name: String,
    pub model: Model,
    pub grid: Grid,
    input: InputKind,
}

/// The input of one run.
pub enum Data {
    Images(Vec<Image>),
    Tensor(Vec<f32>),
}

impl Data {
    /// As a backend takes it.
    pub fn input(&self) -> collage::backend::Input<'_> {
        match self {
            Data::Images(images) => collage::backend::Input::Images(images),
            Data::Tensor(data) => collage::backend::Input::Tensor(data),
        }
    }
}

impl Networks {
    /// The base, if one is meant, then the collage.
    pub fn open(&self) -> Result<Vec<Network>, Failure> {
        if self.grid.is_some() && self.collage.is_none() {
            return Err(Failure::usage("--grid goes with --collage"));
        }
        let base = self.base()?;
        let base = base.map(|model| self.network("base", model, Grid::ONE));
        let collage = self.collage.as_deref().map(|file| {
            let model = open_collage(file)?;
            let grid = self.grid.unwrap_or(usual_grid(&model));
            Ok::<_, Failure>(self.network("collage", model, grid))
        });
        Ok(base.into_iter().chain(collage.transpose()?).collect())
    }

    fn base(&self) -> Result<Option<Model>, Failure> {
        let from_file = |model: &Path| {
            let arch = self.arch.clone();
            let model = model.to_owned();
            BaseModel { model, arch }.open().map(Some)
        };
        match (&self.model, &self.arch) {
            (Some(file), _) => from_file(file),
            (None, Some(arch)) => {
                let unknown = || {
                    let family = arch.clone();
                    Failure::from(Fault::UnknownFamily { family }.in_file("--arch"))
                };
                let named = Named::find(arch).ok_or_else(unknown)?;
                Ok(Some(hashed::base(named)?))
            }
            (None, None) if self.collage.is_none() => from_file(DIGITS.as_ref()),
            (None, None) => Ok(None),
        }
    }

    fn network(&self, role: &'static str, model: Model, grid: Grid) -> Network {
        let name = match grid {
            Grid::ONE => model.name().to_string(),
            grid => format!("{} {grid}", model.name()),
        };
        Network {
            role,
            name,
            model,
            grid,
            input: self.input,
        }
    }
}

fn open_collage(file: &Path) -> Result<Model, Failure> {
    if file == Path::new(HASHED) {
        return Ok(hashed::collage()?);
    }
    arguments::open_collage(file)
}

/// 3x3, as in the paper, where the model takes it.
fn usual_grid(model: &Model) -> Grid {
    let usual = Grid { rows: 3, cols: 3 };
    if model.takes(usual) {
        return usual;
    }
    let grids = model.grids().iter().copied();
    grids.max_by_key(|g| g.tiles()).unwrap_or(Grid::ONE)
}

impl Network {
    /// What its plans are compiled for.
    pub fn options(&self, batch: usize, dtype: DType) -> PlanOptions {
        PlanOptions {
            batch,
            grid: self.grid,
            dtype,
            input: match self.input {
                InputKind::Images => PlanInput::Images,
                InputKind::Tensor => PlanInput::Tensor,
            },
            output: PlanOutput::TopK(1),
        }
    }

    /// Input number `set` of a plan: hash-made values of about unit variance, or photographs.
    pub fn data(&self, plan: &Plan, set: usize) -> Result<Data, Failure> {
        let seed = |part: usize| hashed::seed(&format!("input {set} {part}"));
        Ok(match self.input {
            InputKind::Tensor => {
                let len = plan.values.first().map_or(0, |v| v.len());
                Data::Tensor(hashed::symmetric(seed(0), len, 3f32.sqrt()))
            }
            InputKind::Images => {
                let size = self.model.preprocessing().size;
                let [width, height] = if size >= 96 { PHOTOGRAPH } else { [size; 2] };
                let image = |i: usize| {
                    let rgb = hashed::pixels(seed(i), width, height);
                    Image::from_rgb(width, height, rgb)
                        .ok_or_else(|| Failure::other("an image of three bytes a pixel is none"))
                };
                let made = (0..plan.capacity().min(DISTINCT)).map(image);
                let made = made.collect::<Result<Vec<_>, _>>()?;
                Data::Images(made.into_iter().cycle().take(plan.capacity()).collect())
            }
        })
    }
}
