//! Whole networks on the first WebGPU adapter, against the CPU: logits of hash-made ResNets, and answers from images.
//!
//! Without an adapter these count as skipped, in CI as failed.
#![cfg(feature = "wgpu")]

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::{Device, Input, Output, webgpu};
use collage::image::Image;
use collage::model::Model;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{Grid, Plan, Value};
use collage::model::resnet::Named;

mod model_support;
mod skip;

/// The adapter and the CPU; `None` counts as skipped.
fn devices(test: &str) -> Option<[Arc<dyn Device>; 2]> {
    let cpu = Arc::new(CpuDevice::new(0).expect("threads can be started"));
    if webgpu::enumerate().unwrap_or_default().is_empty() {
        skip::skip(test, "no adapter");
        return None;
    }
    Some([webgpu::open(0).expect("opens"), cpu])
}

fn named(family: Named, size: usize, classes: usize) -> Model {
    let architecture = model_support::named(family);
    model_support::model(&model_support::metadata(architecture, size, classes, None))
}

#[test]
fn logits_of_whole_networks_agree_with_the_cpu() {
    let Some([wgpu, cpu]) = devices("logits") else {
        return;
    };
    let networks = [
        (Named::ResNet32, 32, 10, 3),
        (Named::ResNet18, 224, 1000, 1),
        (Named::ResNet50, 64, 20, 2),
    ];
    for (family, size, classes, batch) in networks {
        let options = PlanOptions {
            batch,
            input: PlanInput::Tensor,
            output: PlanOutput::Logits,
            ..PlanOptions::default()
        };
        let plan = Plan::compile(&named(family, size, classes), &options).expect("compiles");
        let plan = Arc::new(plan);
        let len = plan.values.first().map_or(0, Value::len) as u64;
        let input: Vec<f32> = (0..len).map(model_support::noise).collect();
        let run = |device: &Arc<dyn Device>| {
            let mut program = device.load(plan.clone()).expect("loads");
            match program.run(Input::Tensor(&input)).expect("runs") {
                Output::Tensor(logits) => logits,
                Output::TopK(_) => panic!("a plan of logits"),
            }
        };
        let (got, expected) = (run(&wgpu), run(&cpu));
        assert_eq!(got.len(), batch * classes);
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let pairs = got.iter().zip(&expected);
        let off = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(
            off <= 1e-5 * largest,
            "{}: {off:e} of {largest}",
            family.name()
        );
    }
}

#[test]
fn collage_of_images_gets_the_answers_of_the_cpu() {
    let Some([wgpu, cpu]) = devices("collage") else {
        return;
    };
    let model = model_support::collage_model(16, "2x2,3x3");
    let images: Vec<Image> = (0..7)
        .map(|i| {
            let (w, h) = (40 + 9 * i, 70 - 7 * i);
            let byte = |j| model_support::hash((i * 100_000 + j) as u64) as u8;
            let pixels: Vec<u8> = (0..w * h * 3).map(byte).collect();
            Image::from_rgb(w, h, pixels).expect("sides are positive")
        })
        .collect();
    let options = PlanOptions {
        grid: Grid { rows: 3, cols: 3 },
        output: PlanOutput::TopK(3),
        ..PlanOptions::default()
    };
    let plan = Arc::new(Plan::compile(&model, &options).expect("compiles"));
    let run = |device: &Arc<dyn Device>| {
        let mut program = device.load(plan.clone()).expect("loads");
        match program.run(Input::Images(&images)).expect("runs") {
            Output::TopK(rows) => rows,
            Output::Tensor(_) => panic!("a plan of answers"),
        }
    };
    let (got, expected) = (run(&wgpu), run(&cpu));
    assert_eq!(got.len(), images.len(), "blank tiles have no answer");
    for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
        assert_eq!(got.class, expected.class);
        assert!((got.score - expected.score).abs() < 1e-4);
    }
}
