//! Models for the tests of the model room: any architecture, with weights from an integer hash.

#![allow(dead_code)] // Each test file uses its own part.

pub mod lies;

use std::collections::BTreeMap;

use collage::model::compile::PlanOptions;
use collage::model::file::Stored;
use collage::model::metadata::{Architecture, CollageSpec, FORMAT, Fields, LayerList, NamedFamily};
use collage::model::plan::{ARENA_ALIGN, Filter, Grid, Plan, Preprocessing, Step};
use collage::model::resnet::{Block, HeadName, Named, ResNet, ShortcutKind, Stage, Stem};
use collage::model::{Kind, Metadata, Model, weights};

/// splitmix64's finaliser: the same bits on every machine.
pub fn hash(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// -1..1.
pub fn noise(seed: u64) -> f32 {
    (hash(seed) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Values such as training leaves: small weights, scales near 1, variances above 0.
pub fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let seed = name.bytes().fold(0u64, |h, b| hash(h ^ u64::from(b)));
    let fan_in = shape[1..].iter().product::<usize>().max(1) as f32;
    let value = |i: usize| {
        let x = noise(seed ^ i as u64);
        match name.rsplit('.').next() {
            Some("running_var") => 1.0 + 0.5 * x,
            Some("running_mean" | "bias") => 0.1 * x,
            _ if shape.len() == 1 => 1.0 + 0.2 * x,
            _ => x / fan_in.sqrt(),
        }
    };
    (0..shape.iter().product()).map(value).collect()
}

pub fn tensors(architecture: &Architecture, classes: usize) -> Vec<Stored> {
    let layers = architecture.layers().expect("valid architecture");
    let wanted = weights::wanted(&layers, classes)
        .expect("valid layers")
        .expect("all shapes given");
    wanted
        .iter()
        .map(|w| Stored::f32(&w.name, &w.shape, &values(&w.name, &w.shape)))
        .collect()
}

pub fn metadata(
    architecture: Architecture,
    size: usize,
    classes: usize,
    collage: Option<CollageSpec>,
) -> Metadata {
    Fields {
        format: FORMAT,
        name: "test".to_owned(),
        kind: if collage.is_some() {
            Kind::Collage
        } else {
            Kind::Base
        },
        architecture,
        preprocessing: Preprocessing {
            resize: size,
            size,
            filter: Filter::Bilinear,
            mean: [0.5, 0.25, 0.125],
            std: [0.25, 0.5, 1.0],
        },
        classes: (0..classes).map(|i| i.to_string()).collect(),
        sha256: String::new(),
        collage,
        temperature: 1.0,
        min_confidence: 0.0,
        source: None,
        licence: None,
        accuracy: BTreeMap::new(),
    }
}

/// Two stages of one block each: every kind of step, few weights.
pub fn small(block: Block, shortcut: ShortcutKind, max_pool: bool) -> Architecture {
    Architecture::ResNet(ResNet {
        block,
        stem: Stem {
            channels: 8,
            kernel: 3,
            stride: 1,
            max_pool,
        },
        stages: vec![
            Stage {
                blocks: 1,
                channels: 8,
                stride: 1,
            },
            Stage {
                blocks: 2,
                channels: 16,
                stride: 2,
            },
        ],
        shortcut,
        head: HeadName::Fc,
    })
}

pub fn named(family: Named) -> Architecture {
    Architecture::Named(NamedFamily { family })
}

pub fn layer_list(json: &str) -> Architecture {
    let layers = serde_json::from_str(json).expect("valid layers");
    Architecture::Layers(LayerList { layers })
}

pub fn grids(list: &str) -> Vec<Grid> {
    list.split(',')
        .map(|g| g.parse().expect("a grid"))
        .collect()
}

/// A collage of tiles of `size`, stride 2, from `small` without max pool.
pub fn collage_model(size: usize, list: &str) -> Model {
    let architecture = small(Block::Basic, ShortcutKind::Projection, false);
    let spec = CollageSpec {
        stride: 2,
        grids: grids(list),
    };
    model(&metadata(architecture, size, 3, Some(spec)))
}

pub fn model(metadata: &Metadata) -> Model {
    let bytes = metadata
        .write(&tensors(&metadata.architecture, metadata.classes.len()))
        .expect("writable");
    Model::from_bytes("test.safetensors", &bytes).expect("a model")
}

/// A network by name at its own size, from weights without metadata.
pub fn named_model(family: Named, classes: usize) -> Model {
    let bytes = collage::model::file::write(&BTreeMap::new(), &tensors(&named(family), classes))
        .expect("writable");
    Model::from_bytes_with_arch("named.safetensors", &bytes, family.name()).expect("a model")
}

/// A plan, checked.
pub fn compile(model: &Model, options: PlanOptions) -> Plan {
    let plan = Plan::compile(model, &options).unwrap();
    plan.check().unwrap();
    plan
}

/// The most elements that are alive at one step, counted from the plan alone: a value is alive from the step that
/// writes it to the last that reads it, and a value in its shortcut's place does not count beside it.
pub fn most_alive(plan: &Plan) -> usize {
    let len = |v: usize| plan.values[v].len().next_multiple_of(ARENA_ALIGN);
    let written = |v: usize| {
        plan.steps
            .iter()
            .position(|s| s.writes().is_some_and(|w| w.0 == v))
            .unwrap_or(0)
    };
    let last_read = |v: usize| {
        plan.steps
            .iter()
            .rposition(|s| s.reads().any(|r| r.0 == v))
            .unwrap_or(usize::MAX)
    };
    let spans: Vec<_> = (0..plan.values.len())
        .map(|v| (written(v), last_read(v), len(v)))
        .collect();
    let at_step = |(at, step): (usize, &Step)| {
        let alive: usize = spans
            .iter()
            .filter(|s| s.0 <= at && at <= s.1)
            .map(|s| s.2)
            .sum();
        let shared = step.writes().is_some_and(|out| {
            step.reads()
                .any(|r| plan.values[r.0] == plan.values[out.0] && spans[r.0].1 == at)
        });
        alive
            - if shared {
                spans[step.writes().unwrap().0].2
            } else {
                0
            }
    };
    plan.steps.iter().enumerate().map(at_step).max().unwrap()
}

pub fn grid(rows: usize, cols: usize) -> Grid {
    Grid { rows, cols }
}
