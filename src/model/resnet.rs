//! Residual networks (He et al., arXiv 1512.03385) from a few numbers: torchvision's and timm's ResNets, the CIFAR-10
//! ResNets with option-A shortcuts, and everything between. Tensor names are torchvision's.

use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::layer::{ConvLayer, LAYER_LIMIT, Layer, LinearLayer, PoolLayer, Shortcut};
use super::plan::Activation;

/// `architecture` of family `resnet`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResNet {
    /// What the stages are made of.
    pub block: Block,
    /// What comes before them.
    pub stem: Stem,
    /// `layer1`, `layer2`, ...
    pub stages: Vec<Stage>,
    /// Where a block changes its shape.
    pub shortcut: ShortcutKind,
    /// Name of the last layer.
    pub head: HeadName,
}

/// A residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Block {
    /// 3x3, 3x3; the first carries the stride.
    Basic,
    /// 1x1, 3x3, 1x1 to four times the channels; the 3x3 carries the stride, as in torchvision.
    Bottleneck,
}

impl Block {
    /// (kernel, output channels over the stage's channels) of its convolutions.
    fn convolutions(self) -> &'static [(usize, usize)] {
        match self {
            Block::Basic => &[(3, 1), (3, 1)],
            Block::Bottleneck => &[(1, 1), (3, 1), (1, 4)],
        }
    }
    /// Which of them carries the stride.
    fn strided(self) -> usize {
        match self {
            Block::Basic => 0,
            Block::Bottleneck => 1,
        }
    }
}

/// `conv1`, `bn1`, ReLU and perhaps a 3x3 max pool of stride 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stem {
    /// Output channels.
    pub channels: usize,
    /// Side of the window; padding is half of it.
    pub kernel: usize,
    /// Of the convolution.
    pub stride: usize,
    /// Whether the max pool follows.
    pub max_pool: bool,
}

/// Blocks of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// How many.
    pub blocks: usize,
    /// Of the 3x3 convolutions; a bottleneck's output has four times as many.
    pub channels: usize,
    /// Of the first block.
    pub stride: usize,
}

/// What a shortcut does where the shape changes; elsewhere it is the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortcutKind {
    /// Option A: subsample, and pad channels with zeros on both sides.
    Pad,
    /// Option B: a 1x1 convolution `downsample.0` with batch normalisation `downsample.1`.
    Projection,
}

/// Name of the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadName {
    /// torchvision, timm.
    Fc,
    /// CIFAR ResNets.
    Linear,
}

/// The networks that have a name of their own, for metadata and for `--arch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // Their names say it.
pub enum Named {
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet20,
    ResNet32,
    ResNet44,
    ResNet56,
    ResNet110,
}

impl Named {
    /// All, ImageNet's first.
    pub const ALL: [Named; 9] = {
        use Named::*;
        [
            ResNet18, ResNet34, ResNet50, ResNet101, ResNet20, ResNet32, ResNet44, ResNet56,
            ResNet110,
        ]
    };

    /// As written in files and flags.
    pub fn name(self) -> &'static str {
        use Named::*;
        match self {
            ResNet18 => "resnet18",
            ResNet34 => "resnet34",
            ResNet50 => "resnet50",
            ResNet101 => "resnet101",
            ResNet20 => "resnet20",
            ResNet32 => "resnet32",
            ResNet44 => "resnet44",
            ResNet56 => "resnet56",
            ResNet110 => "resnet110",
        }
    }

    /// The one of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|n| n.name() == name)
    }

    /// Whether it is one of the CIFAR-10 networks of 6n + 2 layers.
    pub fn is_cifar(self) -> bool {
        self.resnet().head == HeadName::Linear
    }

    /// Its numbers.
    pub fn resnet(self) -> ResNet {
        use Block::{Basic, Bottleneck};
        match self {
            Named::ResNet18 => imagenet(Basic, [2, 2, 2, 2]),
            Named::ResNet34 => imagenet(Basic, [3, 4, 6, 3]),
            Named::ResNet50 => imagenet(Bottleneck, [3, 4, 6, 3]),
            Named::ResNet101 => imagenet(Bottleneck, [3, 4, 23, 3]),
            Named::ResNet20 => cifar(3),
            Named::ResNet32 => cifar(5),
            Named::ResNet44 => cifar(7),
            Named::ResNet56 => cifar(9),
            Named::ResNet110 => cifar(18),
        }
    }
}

fn imagenet(block: Block, blocks: [usize; 4]) -> ResNet {
    let stage = |i: usize| Stage {
        blocks: blocks[i],
        channels: 64 << i,
        stride: if i == 0 { 1 } else { 2 },
    };
    ResNet {
        block,
        stem: Stem {
            channels: 64,
            kernel: 7,
            stride: 2,
            max_pool: true,
        },
        stages: (0..4).map(stage).collect(),
        shortcut: ShortcutKind::Projection,
        head: HeadName::Fc,
    }
}

fn cifar(blocks: usize) -> ResNet {
    let stage = |i: usize| Stage {
        blocks,
        channels: 16 << i,
        stride: if i == 0 { 1 } else { 2 },
    };
    ResNet {
        block: Block::Basic,
        stem: Stem {
            channels: 16,
            kernel: 3,
            stride: 1,
            max_pool: false,
        },
        stages: (0..3).map(stage).collect(),
        shortcut: ShortcutKind::Pad,
        head: HeadName::Linear,
    }
}

impl ResNet {
    /// Its layers. Fails on numbers that make no network, naming the field.
    pub fn layers(&self) -> Result<Vec<Layer>, Fault> {
        self.check()?;
        let mut layers = vec![Layer::Conv2d(ConvLayer {
            padding: self.stem.kernel / 2,
            stride: self.stem.stride,
            activation: Activation::Relu,
            ..conv("conv1", "bn1", self.stem.channels, self.stem.kernel)
        })];
        if self.stem.max_pool {
            let name = "maxpool".to_owned();
            layers.push(Layer::MaxPool2d(PoolLayer {
                name,
                input: None,
                kernel: 3,
                stride: 2,
                padding: 1,
            }));
        }
        let mut channels = self.stem.channels;
        for (i, stage) in self.stages.iter().enumerate() {
            for j in 0..stage.blocks {
                let stride = if j == 0 { stage.stride } else { 1 };
                channels = self.push_block(
                    &mut layers,
                    &format!("layer{}.{j}", i + 1),
                    channels,
                    stage,
                    stride,
                )?;
            }
        }
        let name = match self.head {
            HeadName::Fc => "fc",
            HeadName::Linear => "linear",
        };
        layers.push(Layer::Linear(LinearLayer {
            name: name.to_owned(),
            input: None,
        }));
        Ok(layers)
    }

    /// Appends one block and gives back its output channels. A projection comes right before the convolution that it
    /// is added to, so that it occupies memory for as short as possible.
    fn push_block(
        &self,
        layers: &mut Vec<Layer>,
        block: &str,
        inputs: usize,
        stage: &Stage,
        stride: usize,
    ) -> Result<usize, Fault> {
        let convolutions = self.block.convolutions();
        let outputs = stage.channels * convolutions[convolutions.len() - 1].1;
        let input = layers[layers.len() - 1].name().to_owned();
        let mut previous = input.clone();
        for (i, &(kernel, widen)) in convolutions.iter().enumerate() {
            let n = i + 1;
            let mut layer = ConvLayer {
                input: Some(previous),
                stride: if i == self.block.strided() { stride } else { 1 },
                padding: kernel / 2,
                activation: Activation::Relu,
                ..conv(
                    &format!("{block}.conv{n}"),
                    &format!("{block}.bn{n}"),
                    stage.channels * widen,
                    kernel,
                )
            };
            if n == convolutions.len() {
                layer.residual =
                    Some(self.shortcut(layers, block, &input, inputs, outputs, stride)?);
            }
            previous = layer.name.clone();
            layers.push(Layer::Conv2d(layer));
        }
        Ok(outputs)
    }

    fn shortcut(
        &self,
        layers: &mut Vec<Layer>,
        block: &str,
        input: &str,
        inputs: usize,
        outputs: usize,
        stride: usize,
    ) -> Result<Shortcut, Fault> {
        if stride == 1 && inputs == outputs {
            return Ok(Shortcut {
                layer: input.to_owned(),
                stride: 1,
                channel_offset: 0,
            });
        }
        match self.shortcut {
            ShortcutKind::Pad => {
                let Some(grown) = outputs.checked_sub(inputs) else {
                    let expected = format!(
                        "projection, since {block} goes from {inputs} channels to {outputs}"
                    );
                    return Err(field("shortcut", "pad", &expected));
                };
                Ok(Shortcut {
                    layer: input.to_owned(),
                    stride,
                    channel_offset: grown / 2,
                })
            }
            ShortcutKind::Projection => {
                let name = format!("{block}.downsample.0");
                layers.push(Layer::Conv2d(ConvLayer {
                    input: Some(input.to_owned()),
                    stride,
                    ..conv(&name, &format!("{block}.downsample.1"), outputs, 1)
                }));
                Ok(Shortcut {
                    layer: name,
                    stride: 1,
                    channel_offset: 0,
                })
            }
        }
    }

    fn check(&self) -> Result<(), Fault> {
        let bounded = |path: &str, value: usize, limit: usize| match value {
            0 => Err(field(path, "0", "1 or more")),
            v if v > limit => Err(field(path, &v.to_string(), &format!("{limit} at most"))),
            _ => Ok(()),
        };
        bounded("stem.channels", self.stem.channels, CHANNEL_LIMIT)?;
        bounded("stem.kernel", self.stem.kernel, WINDOW_LIMIT)?;
        bounded("stem.stride", self.stem.stride, WINDOW_LIMIT)?;
        if self.stem.kernel.is_multiple_of(2) {
            return Err(field(
                "stem.kernel",
                &self.stem.kernel.to_string(),
                "an odd number",
            ));
        }
        bounded("stages", self.stages.len(), STAGE_LIMIT)?;
        for (i, stage) in self.stages.iter().enumerate() {
            bounded(
                &format!("stages[{i}].blocks"),
                stage.blocks,
                LAYER_LIMIT / STAGE_LIMIT / 4,
            )?;
            bounded(
                &format!("stages[{i}].channels"),
                stage.channels,
                CHANNEL_LIMIT,
            )?;
            bounded(&format!("stages[{i}].stride"), stage.stride, WINDOW_LIMIT)?;
        }
        Ok(())
    }
}

/// Limits far above any network, so that the numbers of a lying file stay numbers that can be multiplied.
const CHANNEL_LIMIT: usize = 1 << 20;
const WINDOW_LIMIT: usize = 64;
const STAGE_LIMIT: usize = 8;

fn conv(name: &str, norm: &str, channels: usize, kernel: usize) -> ConvLayer {
    ConvLayer {
        name: name.to_owned(),
        input: None,
        channels: Some(channels),
        kernel: Some(kernel),
        norm: Some(norm.to_owned()),
        stride: 1,
        padding: 0,
        activation: Activation::None,
        residual: None,
    }
}

fn field(path: &str, found: &str, expected: &str) -> Fault {
    Fault::MetadataValue {
        path: format!("architecture.{path}"),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}
