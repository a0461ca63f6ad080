//! Layers: the list that a model file gives or a family generates, and the network that it becomes once its weights
//! are known: names resolved to indices, batch normalisation gone, shapes inferable for any canvas.
//!
//! A network is a trunk of convolutions and max pools and a linear head. The head reads one vector a tile, so the
//! mean over each tile's cells comes before it: over the whole map of a base model, which is one tile.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::plan::{Activation, TensorId};
use super::shape::Shape;

/// The name by which a layer reads the canvas, (rows * size, cols * size, 3).
pub const CANVAS: &str = "input";

/// Most layers of a list: far above any network, so that a lying `blocks` costs an error and not the memory.
pub const LAYER_LIMIT: usize = 4096;

/// One layer as written in a model file's `architecture.layers`. Each reads the layer before it unless `input` names
/// an earlier one or [`CANVAS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Layer {
    /// Convolution, normalisation, shortcut, activation: in this order.
    Conv2d(ConvLayer),
    /// Maximum over windows.
    MaxPool2d(PoolLayer),
    /// The head: mean over each tile's cells, then a linear map to the classes. The last layer, and the only one.
    Linear(LinearLayer),
}

/// Weight `{name}.weight` (O, I, KH, KW), bias `{name}.bias` (O) where the file has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvLayer {
    /// Of the layer and of its tensors.
    pub name: String,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Output channels, where the weight must have so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Side of the window, where the weight must have it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<usize>,
    /// Batch normalisation: `{norm}.weight`, `.bias`, `.running_mean`, `.running_var`, each (O).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<String>,
    /// Both axes.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros on all sides.
    #[serde(default)]
    pub padding: usize,
    /// Applied last.
    #[serde(default)]
    pub activation: Activation,
    /// Added before the activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<Shortcut>,
}

/// Adds an earlier layer's output; see [`Residual`](super::plan::Residual).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortcut {
    /// What is added.
    pub layer: String,
    /// Spatial subsampling.
    #[serde(default = "one")]
    pub stride: usize,
    /// First output channel that receives something.
    #[serde(default)]
    pub channel_offset: usize,
}

/// Maximum over `kernel` x `kernel` windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLayer {
    /// Of the layer.
    pub name: String,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Side of the window.
    pub kernel: usize,
    /// Both axes.
    pub stride: usize,
    /// All sides; at most half the kernel.
    #[serde(default)]
    pub padding: usize,
}

/// Weight `{name}.weight` (O, I), bias `{name}.bias` (O) where the file has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinearLayer {
    /// Of the layer and of its tensors.
    pub name: String,
    /// What it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

fn one() -> usize {
    1
}

impl Layer {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Layer::Conv2d(l) => &l.name,
            Layer::MaxPool2d(l) => &l.name,
            Layer::Linear(l) => &l.name,
        }
    }

    fn input(&self) -> Option<&str> {
        match self {
            Layer::Conv2d(l) => l.input.as_deref(),
            Layer::MaxPool2d(l) => l.input.as_deref(),
            Layer::Linear(l) => l.input.as_deref(),
        }
    }
}

/// What a node reads: 0 is the canvas, i + 1 the output of trunk node i. The plan numbers its values in the same way.
pub type Source = usize;

/// A layer list with every name resolved.
pub struct Graph<'a> {
    /// All layers but the head, with their inputs and, for convolutions that have one, their shortcuts' sources.
    pub trunk: Vec<(&'a Layer, Source, Option<Source>)>,
    /// The last layer and what it reads.
    pub head: (&'a LinearLayer, Source),
}

impl<'a> Graph<'a> {
    /// Checks names, order and use: each layer reads what is before it, and each is read.
    pub fn resolve(layers: &'a [Layer]) -> Result<Self, Fault> {
        if layers.len() > LAYER_LIMIT {
            return Err(Fault::TooManyLayers { limit: LAYER_LIMIT });
        }
        let misplaced = |layer: &str| Fault::HeadMisplaced {
            layer: layer.to_owned(),
        };
        let Some((last, trunk_layers)) = layers.split_last() else {
            return Err(misplaced(CANVAS));
        };
        let Layer::Linear(head) = last else {
            return Err(misplaced(last.name()));
        };
        let mut known: BTreeMap<&str, Source> = BTreeMap::from([(CANVAS, 0)]);
        let mut read = BTreeSet::new();
        let mut find =
            |known: &BTreeMap<&str, Source>, layer: &str, input: Option<&str>, previous: Source| {
                let source = input.map_or(Some(previous), |name| known.get(name).copied());
                let unknown = || Fault::UnknownInput {
                    layer: layer.into(),
                    input: input.unwrap_or(CANVAS).into(),
                };
                read.insert(source.ok_or_else(unknown)?);
                source.ok_or_else(unknown)
            };
        let mut trunk = Vec::with_capacity(trunk_layers.len());
        for (i, layer) in trunk_layers.iter().enumerate() {
            let source = find(&known, layer.name(), layer.input(), i)?;
            let residual = match layer {
                Layer::Conv2d(ConvLayer {
                    name,
                    residual: Some(r),
                    ..
                }) => Some(find(&known, name, Some(&r.layer), i)?),
                Layer::Linear(_) => return Err(misplaced(layer.name())),
                _ => None,
            };
            trunk.push((layer, source, residual));
            if known.insert(layer.name(), i + 1).is_some() {
                return Err(Fault::DuplicateLayer {
                    layer: layer.name().into(),
                });
            }
        }
        let head_source = find(&known, &head.name, head.input.as_deref(), trunk.len())?;
        if known.contains_key(head.name.as_str()) {
            return Err(Fault::DuplicateLayer {
                layer: head.name.clone(),
            });
        }
        if let Some(unread) = (0..trunk.len()).find(|i| !read.contains(&(i + 1))) {
            return Err(Fault::UnreadLayer {
                layer: trunk[unread].0.name().into(),
            });
        }
        Ok(Self {
            trunk,
            head: (head, head_source),
        })
    }
}

/// A checked network: the trunk in order of execution, then the head.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Convolutions and max pools.
    pub trunk: Vec<Node>,
    /// Mean over each tile, and linear.
    pub head: Head,
}

/// One layer of the trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// As in the file.
    pub name: String,
    /// What it reads.
    pub input: Source,
    /// What it computes.
    pub op: NodeOp,
    /// Learnable parameters in the file, batch normalisation's scale and shift included: the published count. Folding
    /// leaves one number of the latter two.
    pub params: u64,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeOp {
    /// With batch normalisation folded.
    Conv2d {
        /// (O, KH, KW, I).
        weight: TensorId,
        /// (O).
        bias: TensorId,
        /// O.
        channels: usize,
        /// KH, KW.
        kernel: [usize; 2],
        /// Both axes.
        stride: usize,
        /// All sides.
        padding: usize,
        /// Applied last.
        activation: Activation,
        /// Added before the activation.
        residual: Option<ResidualSource>,
    },
    /// Maximum over square windows.
    MaxPool2d {
        /// Side of the window.
        kernel: usize,
        /// Both axes.
        stride: usize,
        /// All sides.
        padding: usize,
    },
}

/// A shortcut with its source resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidualSource {
    /// What is added.
    pub source: Source,
    /// Spatial subsampling.
    pub stride: usize,
    /// First output channel that receives something.
    pub channel_offset: usize,
}

/// The last layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// As in the file.
    pub name: String,
    /// What is pooled and read.
    pub input: Source,
    /// (O, I).
    pub weight: TensorId,
    /// (O).
    pub bias: TensorId,
    /// O.
    pub classes: usize,
    /// Learnable parameters in the file.
    pub params: u64,
}

impl Node {
    /// Its window and how that moves: (kernel sides, stride, padding).
    pub fn window(&self) -> ([usize; 2], usize, usize) {
        match self.op {
            NodeOp::Conv2d {
                kernel,
                stride,
                padding,
                ..
            } => (kernel, stride, padding),
            NodeOp::MaxPool2d {
                kernel,
                stride,
                padding,
            } => ([kernel; 2], stride, padding),
        }
    }

    /// Its output's (H, W, C), given the shapes of all sources before it.
    pub fn shape(&self, sources: &[[usize; 3]], names: &[Node]) -> Result<[usize; 3], Fault> {
        let [h, w, c] = sources[self.input];
        let (kernel, stride, padding) = self.window();
        let side = |input: usize, window: usize| {
            let outside = || Fault::WindowTooLarge {
                layer: self.name.clone(),
                window,
                input,
                padding,
            };
            let padded = padding.checked_mul(2).and_then(|p| p.checked_add(input));
            let room = padded
                .and_then(|p| p.checked_sub(window))
                .ok_or_else(outside)?;
            Ok(room / stride + 1)
        };
        let (oh, ow) = (side(h, kernel[0])?, side(w, kernel[1])?);
        let NodeOp::Conv2d {
            channels, residual, ..
        } = self.op
        else {
            return Ok([oh, ow, c]);
        };
        let output = [oh, ow, channels];
        if let Some(r) = residual {
            let [rh, rw, rc] = sources[r.source];
            let added = [
                rh.div_ceil(r.stride),
                rw.div_ceil(r.stride),
                rc.saturating_add(r.channel_offset),
            ];
            if added[..2] != output[..2] || added[2] > channels {
                let residual = r.source.checked_sub(1).map_or(CANVAS, |i| &names[i].name);
                return Err(Fault::ResidualShape {
                    layer: self.name.clone(),
                    residual: residual.to_owned(),
                    found: Shape::from(&added[..]),
                    expected: Shape::from(&output[..]),
                });
            }
        }
        Ok(output)
    }
}

impl Network {
    /// (H, W, C) of the canvas and of every trunk node's output, in order.
    pub fn shapes(&self, height: usize, width: usize) -> Result<Vec<[usize; 3]>, Fault> {
        let mut shapes = Vec::with_capacity(self.trunk.len() + 1);
        shapes.push([height, width, 3]);
        for node in &self.trunk {
            let shape = node.shape(&shapes, &self.trunk)?;
            shapes.push(shape);
        }
        Ok(shapes)
    }
}
