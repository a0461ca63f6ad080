//! Models: from a safetensors file to a checked network, and from a network to a plan that a backend can run.
//!
//! Data goes one way, and each file is one station:
//!
//! | file | from | to |
//! |---|---|---|
//! | [`mmap`] | a path | its bytes, for the time of loading |
//! | [`file`](mod@file) | bytes | [`Container`]: tensors whose ranges, types and shapes agree |
//! | [`metadata`] | the container's JSON | [`Metadata`]: what the file says of itself, checked |
//! | [`resnet`], [`layer`] | a family's numbers, or a list | layers, then a [`Network`] with names resolved |
//! | [`weights`] | container and layers | parameters: finite, batch normalisation folded, channels last |
//! | [`collage`] | network and tile | the proof that cells keep to their tiles, for every grid |
//! | [`compile`] | a [`Model`], a batch, a grid | a [`Plan`](plan::Plan): fused steps over one arena ([`arena`]) |
//! | [`check`] | a plan, whoever made it | the proof that it keeps its promises |
//! | [`summary`] | model and plan | what `collage inspect` shows |
//! | [`hashed`] | a name | a model with made-up weights, for measuring |
//!
//! A file is believed in nothing. Whatever it holds, opening it gives a model or a [`ModelError`] that names the
//! file and the tensor, field or layer; nothing panics, and nothing is allocated that the header has not proven to
//! be there. Nothing of the file stays mapped once [`Model::open`] returns.
//!
//! ```no_run
//! use collage::model::{Model, compile::PlanOptions, plan::{Grid, Plan}};
//! # fn main() -> Result<(), collage::model::ModelError> {
//! let model = Model::open("digits-collage.safetensors")?;
//! let options = PlanOptions { grid: Grid { rows: 3, cols: 3 }, ..PlanOptions::default() };
//! let plan = Plan::compile(&model, &options)?;
//! println!("{} bytes of activations", plan.arena_bytes());
//! # Ok(()) }
//! ```

use std::path::Path;
use std::sync::Arc;

pub mod arena;
pub mod check;
pub mod collage;
pub mod compile;
mod error;
pub mod file;
mod grid;
pub mod hashed;
pub mod layer;
pub mod metadata;
pub mod mmap;
pub mod plan;
pub mod resnet;
mod shape;
pub mod summary;
pub mod weights;

pub use error::{Fault, ModelError};
pub use grid::{GRID_LIMIT, GridSyntax};
pub use metadata::{Kind, Metadata};
pub use shape::Shape;

use file::Container;
use layer::Network;
use plan::{Grid, Preprocessing, Weights};
use resnet::Named;

/// A checked model. Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct Model {
    file: Arc<str>,
    metadata: Arc<Metadata>,
    network: Arc<Network>,
    weights: Arc<Weights>,
}

impl Model {
    /// Opens a file that describes itself. The file must not be written to or truncated during the call.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::open_file(path.as_ref(), None)
    }

    /// Opens a file of plain weights as the named network, such as `resnet20`: a base model with the preprocessing of
    /// its original training. A file that describes itself must be of that architecture.
    pub fn open_with_arch(path: impl AsRef<Path>, arch: &str) -> Result<Self, ModelError> {
        Self::open_file(path.as_ref(), Some(arch))
    }

    /// As [`Model::open`], from a file's bytes; `name` stands for the file in messages.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        Self::load(name, bytes, None)
    }

    /// As [`Model::open_with_arch`], from a file's bytes.
    pub fn from_bytes_with_arch(name: &str, bytes: &[u8], arch: &str) -> Result<Self, ModelError> {
        Self::load(name, bytes, Some(arch))
    }

    fn open_file(path: &Path, arch: Option<&str>) -> Result<Self, ModelError> {
        let name = path.display().to_string();
        mmap::with_file(path, |bytes| Self::load(&name, bytes, arch))
            .unwrap_or_else(|e| Err(Fault::Io(e).in_file(&name)))
    }

    fn load(file: &str, bytes: &[u8], arch: Option<&str>) -> Result<Self, ModelError> {
        let (metadata, network, weights) =
            read(bytes, arch).map_err(|fault| fault.in_file(file))?;
        Ok(Self {
            file: file.into(),
            metadata: Arc::new(metadata),
            network: Arc::new(network),
            weights: Arc::new(weights),
        })
    }

    /// What it was opened from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The name that it gives itself.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// All that it says of itself; made up for a file without metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether it classifies one image or a grid of tiles.
    pub fn kind(&self) -> Kind {
        self.metadata.kind
    }

    /// Class names, in the order of the outputs.
    pub fn classes(&self) -> &[String] {
        &self.metadata.classes
    }

    /// From a decoded image to its input, or to one of its tiles.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.metadata.preprocessing
    }

    /// The grids that it was trained on: 1x1 for a base model.
    pub fn grids(&self) -> &[Grid] {
        self.metadata
            .collage
            .as_ref()
            .map_or(&[Grid::ONE], |c| &c.grids)
    }

    /// Whether it can be compiled for `grid`: whether that fits into one of [`Model::grids`].
    pub fn takes(&self, grid: Grid) -> bool {
        collage::takes(self.grids(), grid)
    }

    /// Its layers.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its parameters, shared by all its plans.
    pub fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }
}

fn read(bytes: &[u8], arch: Option<&str>) -> Result<(Metadata, Network, Weights), Fault> {
    let container = Container::parse(bytes)?;
    let named = arch.map(|arch| {
        Named::find(arch).ok_or_else(|| Fault::UnknownFamily {
            family: arch.to_owned(),
        })
    });
    let named = named.transpose()?;
    let Some(json) = container.metadata(metadata::KEY) else {
        return read_plain(&container, named);
    };
    let metadata = Metadata::parse(json)?;
    let layers = metadata.architecture.layers()?;
    if let Some(named) = named
        && named.resnet().layers()? != *layers
    {
        return Err(Fault::ArchContradicted {
            arch: named.name().to_owned(),
        });
    }
    let found = metadata::checksum(&container);
    if found != metadata.sha256 {
        return Err(Fault::Checksum {
            found,
            expected: metadata.sha256.clone(),
        });
    }
    let (network, weights) = weights::load(&container, &layers)?;
    drop(layers);
    check_network(&network, &metadata)?;
    Ok((metadata, network, weights))
}

fn read_plain(
    container: &Container<'_>,
    named: Option<Named>,
) -> Result<(Metadata, Network, Weights), Fault> {
    if container.tensor("images").is_some() && container.tensor("labels").is_some() {
        return Err(Fault::Dataset);
    }
    let named = named.ok_or(Fault::NoMetadata)?;
    let (network, weights) = weights::load(container, &named.resnet().layers()?)?;
    let metadata = Metadata::of_named(named, network.head.classes, metadata::checksum(container));
    check_network(&network, &metadata)?;
    Ok((metadata, network, weights))
}

/// That metadata and network fit each other, so that a plan can fail only by what is asked of it.
fn check_network(network: &Network, metadata: &Metadata) -> Result<(), Fault> {
    let (names, outputs) = (metadata.classes.len(), network.head.classes);
    if names != outputs {
        return Err(Fault::ClassCount {
            names,
            outputs,
            layer: network.head.name.clone(),
        });
    }
    let size = metadata.preprocessing.size;
    if let Some(spec) = &metadata.collage {
        collage::check(network, size, spec)?;
    }
    network.shapes(size, size).map(|_| ())
}
