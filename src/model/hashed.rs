//! Networks and inputs made from an integer hash: for measuring, where only shapes matter, without any file. The same
//! bytes on every machine; neither trained nor random.

use super::file::Stored;
use super::metadata::{Architecture, CollageSpec, Kind, Metadata};
use super::plan::Grid;
use super::resnet::{Block, HeadName, Named, ResNet, ShortcutKind, Stage, Stem};
use super::{Model, ModelError, weights};

/// A stream of its own for each name: FNV-1a.
pub fn seed(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

/// Element `i` of stream `seed`: 32 well-mixed bits (murmur3's finaliser).
pub fn bits(seed: u32, i: u32) -> u32 {
    let mut h = seed ^ i.wrapping_mul(0x9e37_79b9);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// `len` numbers in `0..1`, exact in f32.
pub fn units(seed: u32, len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| (bits(seed, i as u32) >> 8) as f32 / (1 << 24) as f32)
        .collect()
}

/// `len` numbers in `-bound..bound`.
pub fn symmetric(seed: u32, len: usize, bound: f32) -> Vec<f32> {
    units(seed, len)
        .into_iter()
        .map(|u| (2.0 * u - 1.0) * bound)
        .collect()
}

/// (height, width, 3) bytes that vary slowly over an image's pixels, with some noise, so that resizing has something to
/// smooth.
pub fn pixels(seed: u32, width: usize, height: usize) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let noise = bits(seed, ((y * width + x) * 3 + c) as u32) % 64;
                rgb.push((((x * (c + 1) + y * (3 - c)) / 4 % 192) as u32 + noise) as u8);
            }
        }
    }
    rgb
}

/// The named network: of 1000 classes at 224 x 224 for ImageNet's, of 10 at 32 x 32 for CIFAR-10's.
pub fn base(named: Named) -> Result<Model, ModelError> {
    let classes = if named.is_cifar() { 10 } else { 1000 };
    model(Metadata::of_named(named, classes, String::new()))
}

/// A collage network for grids up to 12x12: a ResNet trunk of stride 4, pooled over each 32 x 32 tile, 10 classes; 28 M
/// multiply-accumulates a tile.
pub fn collage() -> Result<Model, ModelError> {
    let stage = |channels, stride| Stage {
        blocks: 2,
        channels,
        stride,
    };
    let trunk = ResNet {
        block: Block::Basic,
        stem: Stem {
            channels: 16,
            kernel: 3,
            stride: 1,
            max_pool: false,
        },
        stages: vec![stage(16, 1), stage(32, 2), stage(64, 2)],
        shortcut: ShortcutKind::Projection,
        head: HeadName::Fc,
    };
    model(Metadata {
        name: "collage".into(),
        kind: Kind::Collage,
        architecture: Architecture::ResNet(trunk),
        collage: Some(CollageSpec {
            stride: 4,
            grids: vec![Grid { rows: 12, cols: 12 }],
        }),
        ..Metadata::of_named(Named::ResNet20, 10, String::new())
    })
}

/// A model of this metadata whose weights are made from their names, by the way of every model: a file's bytes, opened
/// and checked.
fn model(metadata: Metadata) -> Result<Model, ModelError> {
    let file = format!("{} (hashed)", metadata.name);
    let in_file = |fault: super::Fault| fault.in_file(&file);
    let layers = metadata.architecture.layers().map_err(in_file)?;
    let wanted = weights::wanted(&layers, metadata.classes.len()).map_err(in_file)?;
    let stored = |w: weights::Wanted| Stored::f32(&w.name, &w.shape, &values(&w.name, &w.shape));
    let tensors: Vec<Stored> = wanted.into_iter().flatten().map(stored).collect();
    let bytes = metadata.write(&tensors).map_err(in_file)?;
    Model::from_bytes(&file, &bytes)
}

/// Values under which activations neither vanish nor explode over 50 layers.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = seed(name);
    let len = shape.iter().product();
    let around = |centre: f32, bound: f32| -> Vec<f32> {
        let noise = symmetric(seed, len, bound).into_iter();
        noise.map(|v| centre + v).collect()
    };
    match name.rsplit('.').next() {
        Some("running_var") => around(1.0, 0.5),
        Some("running_mean" | "bias") => around(0.0, 0.1),
        _ if shape.len() == 1 => around(0.8, 0.2), // the scale of a batch normalisation
        _ => {
            let fan_in = shape[1..].iter().product::<usize>() as f32;
            around(0.0, (3.0 / fan_in).sqrt())
        }
    }
}
