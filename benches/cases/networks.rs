//! The whole networks that are measured, by the way of every model: a file's bytes, opened, checked and compiled.

use std::collections::BTreeMap;

use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::file::Stored;
use collage::model::metadata::{Architecture, CollageSpec, FORMAT, Fields, NamedFamily};
use collage::model::plan::{Grid, Plan};
use collage::model::resnet::{Block, HeadName, Named, ResNet, ShortcutKind, Stage, Stem};
use collage::model::{Kind, Model, weights};

use super::{Case, hash, imagenet};

/// Every network, at every batch size and canvas that is measured.
pub fn all() -> Vec<Case> {
    let resnet32 = base(Named::ResNet32, 32, 10);
    let resnet18 = base(Named::ResNet18, 224, 1000);
    let collage = collage();
    vec![
        case("resnet32-32-b1", &resnet32, 1, 1),
        case("resnet32-32-b64", &resnet32, 64, 1),
        case("resnet18-224-b1", &resnet18, 1, 1),
        case("resnet18-224-b8", &resnet18, 8, 1),
        case("collage-96-b1", &collage, 1, 3),
        case("collage-384-b1", &collage, 1, 12),
    ]
}

fn case(id: &str, model: &Model, batch: usize, side: usize) -> Case {
    let options = PlanOptions {
        batch,
        grid: Grid {
            rows: side,
            cols: side,
        },
        input: PlanInput::Tensor,
        output: PlanOutput::Logits,
        ..PlanOptions::default()
    };
    Case::on_tensor(
        id,
        Plan::compile(model, &options).expect("a plan of a valid model"),
    )
}

/// ResNet-32 has 69 M multiply-accumulates an image at 32, ResNet-18 1.81 G at 224.
fn base(family: Named, size: usize, classes: usize) -> Model {
    model(
        Architecture::Named(NamedFamily { family }),
        Kind::Base,
        size,
        classes,
        None,
    )
}

/// A ResNet trunk of stride 4, pooled over each 32 x 32 tile: 28 M multiply-accumulates a tile.
fn collage() -> Model {
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
    let spec = CollageSpec {
        stride: 4,
        grids: vec![Grid { rows: 12, cols: 12 }],
    };
    model(
        Architecture::ResNet(trunk),
        Kind::Collage,
        32,
        10,
        Some(spec),
    )
}

/// A model whose weights are made from their names.
fn model(
    architecture: Architecture,
    kind: Kind,
    size: usize,
    classes: usize,
    collage: Option<CollageSpec>,
) -> Model {
    let layers = architecture.layers().expect("a valid architecture");
    let wanted = weights::wanted(&layers, classes)
        .expect("valid layers")
        .expect("all shapes known");
    let tensors: Vec<Stored> = wanted
        .iter()
        .map(|w| Stored::f32(&w.name, &w.shape, &values(&w.name, &w.shape)))
        .collect();
    let metadata = Fields {
        format: FORMAT,
        name: "bench".to_owned(),
        kind,
        architecture,
        preprocessing: imagenet(size, size),
        classes: (0..classes).map(|class| class.to_string()).collect(),
        sha256: String::new(), // set by `write`
        collage,
        temperature: 1.0,
        min_confidence: 0.0,
        source: None,
        licence: None,
        accuracy: BTreeMap::new(),
    };
    let bytes = metadata.write(&tensors).expect("a writable model");
    Model::from_bytes("bench.safetensors", &bytes).expect("a model that was just written")
}

/// Values under which activations neither vanish nor explode over 50 layers.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = hash::seed(name);
    let len = shape.iter().product();
    let around = |centre: f32, bound: f32| -> Vec<f32> {
        hash::symmetric(seed, len, bound)
            .into_iter()
            .map(|v| centre + v)
            .collect()
    };
    match name.rsplit('.').next() {
        Some("running_var") => around(1.0, 0.5),
        Some("running_mean" | "bias") => around(0.0, 0.1),
        _ if shape.len() == 1 => around(0.8, 0.2), // the scale of a batch normalisation
        _ => around(
            0.0,
            (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt(),
        ),
    }
}
