//! Decoding by subtraction, judged by networks for which it is exact: a linear network is its own parity model. So the
//! query that a device makes, the networks' logits and the decoding are held against answers that nobody decoded.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::{Device, Input, Output};
use collage::host::decode;
use collage::image::Image;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{AvgPool2d, Encode, Grid, Plan, Step};
use collage::model::resnet::Named;
use collage::model::{Fault, Model};
use collage::tensor::DType;

#[cfg(all(feature = "cuda", target_os = "linux"))]
mod cuda_support;
mod model_support;
mod skip;

const CLASSES: usize = 5;

/// Convolutions without activation, and the head.
fn linear() -> Model {
    let layers = model_support::layer_list(
        r#"[{"op": "conv2d", "name": "a", "channels": 6, "kernel": 3, "stride": 2, "padding": 1},
            {"op": "conv2d", "name": "b", "channels": 8, "kernel": 3, "padding": 1, "norm": "n"},
            {"op": "linear", "name": "fc"}]"#,
    );
    model_support::model(&model_support::metadata(layers, 20, CLASSES, None))
}

fn options(input: PlanInput, batch: usize) -> PlanOptions {
    PlanOptions {
        batch,
        input,
        output: PlanOutput::Logits,
        ..PlanOptions::default()
    }
}

/// Photographs of different sizes, of noise.
fn images(count: usize) -> Vec<Image> {
    let image = |i: usize| {
        let (w, h) = (30 + 9 * i, 70 - 7 * i);
        let byte = |j| model_support::hash((i * 100_000 + j) as u64) as u8;
        let pixels: Vec<u8> = (0..w * h * 3).map(byte).collect();
        Image::from_rgb(w, h, pixels).expect("sides are positive")
    };
    (0..count).map(image).collect()
}

fn logits(device: &dyn Device, plan: Plan, images: &[Image]) -> Vec<f32> {
    let mut program = device.load(Arc::new(plan)).expect("loads");
    match program.run(Input::Images(images)).expect("runs") {
        Output::Tensor(logits) => logits,
        Output::TopK(_) => panic!("a plan of logits"),
    }
}

/// Every member of a full group and of partial ones, missing in turn, is decoded as its own run has it.
fn every_missing_answer_is_decoded(device: &dyn Device, dtype: DType, allowed: f32) {
    let model = linear();
    for (slots, members) in [(1, 1), (2, 2), (3, 3), (3, 2), (4, 3), (3, 1)] {
        let base = options(PlanInput::Images, members);
        let images = images(members);
        let plan = |o| Plan::compile(&model, &PlanOptions { dtype, ..o }).expect("compiles");
        let own = logits(device, plan(base), &images);
        let own: Vec<&[f32]> = own.chunks(CLASSES).collect();
        let filled: Vec<Image> = (0..slots).map(|i| images[i % members].clone()).collect();
        let parity = logits(device, plan(options(PlanInput::Mean(slots), 1)), &filled);
        assert_eq!(parity.len(), CLASSES);
        let largest = own
            .iter()
            .copied()
            .flatten()
            .fold(0f32, |m, v| m.max(v.abs()));
        for missing in 0..members {
            let times = |i: usize| collage::sched::repeats(slots, members, i);
            let others = (0..members).filter(|&i| i != missing);
            let others: Vec<(usize, &[f32])> = others.map(|i| (times(i), own[i])).collect();
            let found = decode(&parity, times(missing), &others);
            for (found, truth) in found.iter().zip(own[missing]) {
                assert!(
                    (found - truth).abs() <= allowed * largest,
                    "{missing} of {members} in {slots}: {found} for {truth}"
                );
            }
        }
    }
}

#[test]
fn the_specification_decodes_a_linear_network_exactly() {
    every_missing_answer_is_decoded(&CpuDevice::reference(), DType::F32, 1e-5);
    every_missing_answer_is_decoded(&CpuDevice::reference(), DType::Bf16, 1e-1);
}

#[test]
fn the_cpu_decodes_a_linear_network_exactly_with_every_instruction_set() {
    for threads in [1, 2] {
        for device in CpuDevice::every_instruction_set(threads).expect("threads can be started") {
            every_missing_answer_is_decoded(&device, DType::F32, 1e-5);
        }
    }
}

#[test]
#[cfg(feature = "wgpu")]
fn webgpu_decodes_a_linear_network_exactly() {
    use collage::backend::webgpu;
    if webgpu::enumerate().unwrap_or_default().is_empty() {
        return skip::skip("webgpu_decodes_a_linear_network_exactly", "no adapter");
    }
    let device = webgpu::open(0).expect("opens");
    every_missing_answer_is_decoded(&*device, DType::F32, 1e-5);
}

#[test]
#[cfg(all(feature = "cuda", target_os = "linux"))]
fn cuda_decodes_a_linear_network_exactly() {
    use collage::backend::cuda::{self, CudaOptions};
    for arch in ["90", "75"] {
        let test = "cuda_decodes_a_linear_network_exactly";
        cuda_support::simulated(test, &[("SIMT_ARCH", arch)], || {
            let device = cuda::open_device(0, CudaOptions::default()).expect("opens");
            every_missing_answer_is_decoded(&device, DType::F32, 1e-5);
            every_missing_answer_is_decoded(&device, DType::F16, 2e-2);
        });
    }
}

#[test]
fn a_query_is_an_encoding_and_a_mean_in_front_of_the_network() {
    let model = model_support::named_model(Named::ResNet20, 10);
    let plan = model_support::compile(&model, options(PlanInput::Mean(4), 3));
    let plain = model_support::compile(&model, options(PlanInput::Images, 3));
    let [Step::Encode(encode), Step::AvgPool2d(mean), rest @ ..] = &plan.steps[..] else {
        panic!("{:?}", plan.steps)
    };
    let (rows, cols) = (4, 1);
    let (output, preprocessing) = (encode.output, *model.preprocessing());
    let grid = Grid { rows, cols };
    assert_eq!(
        *encode,
        Encode {
            output,
            preprocessing,
            grid
        }
    );
    let kernel = [4, 1];
    assert_eq!(*mean, AvgPool2d { kernel, ..*mean });
    assert_eq!(rest, &plain.steps[1..]);
    let shape = |value: collage::model::plan::ValueId| plan.values[value.0].shape;
    assert_eq!(shape(output), [3, 4 * 32, 32, 3]);
    assert_eq!(
        (shape(mean.input), shape(mean.output)),
        ([3, 4, 32, 96], [3, 1, 32, 96])
    );
    assert_eq!(plan.values[0].shape, [3, 32, 32, 3]);
    assert_eq!(plan.capacity(), 12);
}

#[test]
fn a_mean_of_none_of_too_many_or_on_a_grid_is_refused() {
    let base = linear();
    let collage = model_support::collage_model(12, "2x2");
    let two = Grid { rows: 2, cols: 2 };
    for (model, images, grid) in [
        (&base, 0, Grid::ONE),
        (&base, 17, Grid::ONE),
        (&collage, 2, two),
    ] {
        let options = PlanOptions {
            grid,
            ..options(PlanInput::Mean(images), 1)
        };
        let error = Plan::compile(model, &options).expect_err("refused");
        assert!(matches!(error.fault, Fault::MeanNotTaken { .. }), "{error}");
    }
}
