//! Arguments that several commands share: which models, which device.

use std::path::{Path, PathBuf};

use clap::Args;
use collage::embedded;
use collage::model::{Kind, Model};

use super::failure::Failure;

/// Names an embedded model instead of a file.
pub const DIGITS: &str = "digits";

/// The base model.
#[derive(Args, Debug)]
pub struct BaseModel {
    /// Model file (safetensors), or `digits` for the embedded one
    #[arg(long, value_name = "FILE", default_value = DIGITS)]
    pub model: PathBuf,
    /// Architecture of a model file that does not say what it is: resnet18, resnet34, resnet50, resnet101 with
    /// torchvision's or timm's names, resnet20, resnet32, resnet44, resnet56, resnet110 of CIFAR-10
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
}

impl BaseModel {
    /// Opens it.
    pub fn open(&self) -> Result<Model, Failure> {
        open("--model", &self.model, self.arch.as_deref(), Kind::Base)
    }
    /// Whether it is the embedded one.
    pub fn is_embedded(&self) -> bool {
        self.model == Path::new(DIGITS)
    }
}

/// Opens a collage model: a file, or `digits`.
pub fn open_collage(file: &Path) -> Result<Model, Failure> {
    open("--collage", file, None, Kind::Collage)
}

/// Opens a model file of either kind.
pub fn open_any(file: &Path, arch: Option<&str>) -> Result<Model, Failure> {
    Ok(match arch {
        Some(arch) => Model::open_with_arch(file, arch)?,
        None => Model::open(file)?,
    })
}

fn open(flag: &str, file: &Path, arch: Option<&str>, kind: Kind) -> Result<Model, Failure> {
    let embedded = file == Path::new(DIGITS);
    let model = match (arch, kind) {
        (Some(_), _) if embedded => {
            return Err(Failure::usage(
                "--arch goes with --model FILE: the embedded model has its own",
            ));
        }
        (None, Kind::Base) if embedded => embedded::base()?,
        (None, Kind::Collage) if embedded => embedded::collage()?,
        _ => open_any(file, arch)?,
    };
    if model.kind() != kind {
        let (found, wanted) = (kind_name(model.kind()), kind_name(kind));
        return Err(Failure::input(format!(
            "{flag} {}: this is a {found} model; expected a {wanted} model",
            file.display()
        )));
    }
    Ok(model)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Base => "base",
        Kind::Collage => "collage",
    }
}

/// Refuses a collage whose answers would not mean what the base's do.
pub fn same_classes(base: &Model, collage: &Model) -> Result<(), Failure> {
    if base.classes() == collage.classes() {
        return Ok(());
    }
    Err(Failure::input(format!(
        "--collage {}: its {} classes are not the {} classes of {}; expected a collage model for the same classes",
        collage.file(),
        collage.classes().len(),
        base.classes().len(),
        base.file(),
    )))
}
