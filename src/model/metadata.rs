//! What a model file says of itself: one JSON string under `collage` in the safetensors metadata.
//!
//! Unknown fields are ignored, so that a later version may add some; a change of meaning raises [`FORMAT`]. Missing
//! and mistyped fields are errors that name the field's path.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Fault;
use super::file::{self, Container, Stored};
use super::layer::Layer;
use super::plan::{Filter, Grid, Preprocessing};
use super::resnet::{Named, ResNet};

/// Key of the JSON in the safetensors metadata.
pub const KEY: &str = "collage";

/// Version of the JSON's meaning.
pub const FORMAT: u32 = 1;

/// Longest accepted JSON: room for the class names of ImageNet-21k many times over.
pub const METADATA_LIMIT: usize = 16 << 20;

/// Longest side of an image after resizing, and so of a tile.
pub const SIDE_LIMIT: usize = 8192;

/// Most grids that a file may list: all up to 32x32.
pub const GRIDS_LIMIT: usize = 1024;

/// What a model classifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One image.
    Base,
    /// A grid of tiles.
    Collage,
}

/// The network, by name or in full.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Architecture {
    /// A residual network from a few numbers.
    ResNet(ResNet),
    /// A list of layers.
    Layers(LayerList),
    /// A network with a name of its own.
    #[serde(untagged)]
    Named(NamedFamily),
}

/// `architecture` of family `layers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerList {
    /// In order of execution.
    pub layers: Vec<Layer>,
}

/// `architecture` of a named family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedFamily {
    /// Its name.
    pub family: Named,
}

impl Architecture {
    /// Its layers: those of the list, or generated ones.
    pub fn layers(&self) -> Result<Cow<'_, [Layer]>, Fault> {
        match self {
            Architecture::ResNet(resnet) => resnet.layers().map(Cow::Owned),
            Architecture::Layers(list) => Ok(Cow::Borrowed(&list.layers)),
            Architecture::Named(named) => named.family.resnet().layers().map(Cow::Owned),
        }
    }

    /// `resnet`, `layers` or the network's own name.
    pub fn family(&self) -> &'static str {
        match self {
            Architecture::ResNet(_) => "resnet",
            Architecture::Layers(_) => "layers",
            Architecture::Named(named) => named.family.name(),
        }
    }
}

/// All names that `--arch` and `architecture.family` know, for messages and help.
pub fn named_families() -> String {
    Named::ALL.map(Named::name).join(", ")
}

/// How a collage network's canvas is divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollageSpec {
    /// Pixels of the canvas per cell of the last map, along each side; divides the tile.
    pub stride: usize,
    /// Grids that it was trained on. It takes any grid that fits into one of them.
    pub grids: Vec<Grid>,
}

/// The JSON's fields; `A` is the architecture of the file's family, so that errors inside it keep their path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fields<A> {
    /// [`FORMAT`].
    pub format: u32,
    /// For people, and for plans' messages.
    pub name: String,
    /// Base or collage.
    pub kind: Kind,
    /// The network.
    pub architecture: A,
    /// From an image to the base's input, or to one tile of a collage.
    pub preprocessing: Preprocessing,
    /// Names, one an output.
    pub classes: Vec<String>,
    /// Lower-case hex SHA-256 of the data section.
    pub sha256: String,
    /// For a collage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collage: Option<CollageSpec>,
    /// Divides the logits before softmax, so that confidence means what it says.
    #[serde(default = "unit")]
    pub temperature: f32,
    /// A collage answer below it abstains; 0 never does.
    #[serde(default)]
    pub min_confidence: f32,
    /// Where the weights are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Under which terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Fractions on held-out data: `base`, or a grid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accuracy: BTreeMap<String, f64>,
}

/// A model's metadata, checked.
pub type Metadata = Fields<Architecture>;

fn unit() -> f32 {
    1.0
}

/// What must be known before the rest can be read.
#[derive(Deserialize)]
struct Envelope {
    format: u32,
    kind: String,
    architecture: Option<Family>,
}

#[derive(Deserialize)]
struct Family {
    family: String,
}

impl Metadata {
    /// Reads and checks the JSON.
    pub fn parse(json: &str) -> Result<Self, Fault> {
        if json.len() > METADATA_LIMIT {
            return Err(Fault::MetadataTooLarge {
                bytes: json.len(),
                limit: METADATA_LIMIT,
            });
        }
        let envelope: Envelope = read(json)?;
        if envelope.format != FORMAT {
            return Err(Fault::MetadataFormat {
                found: envelope.format,
                expected: FORMAT,
            });
        }
        if envelope.kind == "dataset" {
            return Err(Fault::Dataset);
        }
        // Without an architecture the full reading says so, whichever family it is made for.
        let family = envelope
            .architecture
            .map_or_else(|| "layers".to_owned(), |a| a.family);
        let metadata = match family.as_str() {
            "resnet" => read::<Fields<ResNet>>(json)?.map(Architecture::ResNet),
            "layers" => read::<Fields<LayerList>>(json)?.map(Architecture::Layers),
            name if Named::find(name).is_some() => {
                read::<Fields<NamedFamily>>(json)?.map(Architecture::Named)
            }
            _ => return Err(Fault::UnknownFamily { family }),
        };
        metadata.check()?;
        Ok(metadata)
    }

    /// What a file without metadata is taken for: a base model of its original training.
    pub fn of_named(named: Named, classes: usize, sha256: String) -> Self {
        let cifar = named.is_cifar();
        let (resize, size) = if cifar { (32, 32) } else { (256, 224) };
        let classes = match classes {
            10 if cifar => CIFAR_10.map(str::to_owned).to_vec(),
            n => (0..n).map(|i| format!("class_{i}")).collect(),
        };
        Self {
            format: FORMAT,
            name: named.name().to_owned(),
            kind: Kind::Base,
            architecture: Architecture::Named(NamedFamily { family: named }),
            preprocessing: Preprocessing {
                resize,
                size,
                filter: Filter::Bilinear,
                mean: [0.485, 0.456, 0.406],
                std: [0.229, 0.224, 0.225],
            },
            classes,
            sha256,
            collage: None,
            temperature: 1.0,
            min_confidence: 0.0,
            source: None,
            licence: None,
            accuracy: BTreeMap::new(),
        }
    }

    /// A model file's bytes: this metadata, with `sha256` set, and the tensors. The round trip of [`Metadata::parse`].
    pub fn write(&self, tensors: &[Stored]) -> Result<Vec<u8>, Fault> {
        let mut hash = Sha256::new();
        for stored in file::data_order(tensors) {
            hash.update(&stored.bytes);
        }
        let described = Self {
            sha256: hex(&hash.finalize()),
            ..self.clone()
        };
        let json = serde_json::to_string(&described).map_err(|e| Fault::HeaderJson {
            reason: e.to_string(),
        })?;
        file::write(&BTreeMap::from([(KEY.to_owned(), json)]), tensors)
    }

    fn check(&self) -> Result<(), Fault> {
        let p = &self.preprocessing;
        expect(
            "preprocessing.size",
            p.size,
            "1 to 8192",
            (1..=SIDE_LIMIT).contains(&p.size),
        )?;
        expect(
            "preprocessing.resize",
            p.resize,
            "size to 8192",
            (p.size..=SIDE_LIMIT).contains(&p.resize),
        )?;
        for (i, (&mean, &std)) in p.mean.iter().zip(&p.std).enumerate() {
            expect(
                &format!("preprocessing.mean[{i}]"),
                mean,
                "a finite number",
                mean.is_finite(),
            )?;
            // The smallest std that any data has is far above this; below it, 1 / std would overflow.
            let usable = std.is_finite() && std >= 1e-6;
            expect(
                &format!("preprocessing.std[{i}]"),
                std,
                "a finite number above 0",
                usable,
            )?;
        }
        let t = self.temperature;
        expect(
            "temperature",
            t,
            "a number from 0.001 to 1000",
            (1e-3..=1e3).contains(&t),
        )?;
        let confidence = self.min_confidence;
        expect(
            "min_confidence",
            confidence,
            "0 to 1",
            (0.0..=1.0).contains(&confidence),
        )?;
        match (&self.collage, self.kind) {
            (None, Kind::Collage) => expect(
                "collage",
                "nothing",
                "stride and grids, since kind is collage",
                false,
            ),
            (Some(_), Kind::Base) => {
                expect("collage", "an object", "nothing, since kind is base", false)
            }
            (None, Kind::Base) => Ok(()),
            (Some(spec), Kind::Collage) => {
                expect("collage.stride", spec.stride, "1 or more", spec.stride > 0)?;
                let (n, path) = (spec.grids.len(), "collage.grids");
                let found = format!("a list of {n}");
                expect(
                    path,
                    found,
                    "1 to 1024 grids",
                    (1..=GRIDS_LIMIT).contains(&n),
                )
            }
        }
    }
}

impl<A> Fields<A> {
    fn map<B>(self, architecture: impl FnOnce(A) -> B) -> Fields<B> {
        Fields {
            format: self.format,
            name: self.name,
            kind: self.kind,
            architecture: architecture(self.architecture),
            preprocessing: self.preprocessing,
            classes: self.classes,
            sha256: self.sha256,
            collage: self.collage,
            temperature: self.temperature,
            min_confidence: self.min_confidence,
            source: self.source,
            licence: self.licence,
            accuracy: self.accuracy,
        }
    }
}

/// Lower-case hex SHA-256 of a container's data section.
pub fn checksum(container: &Container<'_>) -> String {
    hex(&Sha256::digest(container.data()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let wrong = |path: String, reason: String| Fault::MetadataJson { path, reason };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|e| wrong(e.path().to_string(), e.inner().to_string()))?;
    deserializer
        .end()
        .map_err(|e| wrong(".".to_owned(), e.to_string()))?;
    Ok(value)
}

fn expect(path: &str, found: impl ToString, expected: &str, holds: bool) -> Result<(), Fault> {
    if holds {
        return Ok(());
    }
    Err(Fault::MetadataValue {
        path: path.to_owned(),
        found: found.to_string(),
        expected: expected.to_owned(),
    })
}

/// In the order of the data set's labels.
const CIFAR_10: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];
