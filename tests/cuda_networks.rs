//! Whole networks on CUDA against the CPU, on the simulated device: logits of hash-made networks, and answers from images.
//!
//! Each prints the kernels that were chosen; together they choose every one.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use std::collections::BTreeSet;
use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::cuda::{self, CudaOptions, DeviceDescription};
use collage::backend::{Device, Input, Output};
use collage::image::Image;
use collage::model::Model;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{Grid, Plan, Value};
use collage::model::resnet::Named;
use collage::tensor::DType;

mod cuda_support;
mod model_support;
mod skip;

fn named(family: Named, size: usize, classes: usize) -> Model {
    let architecture = model_support::named(family);
    model_support::model(&model_support::metadata(architecture, size, classes, None))
}

/// Runs the plan on both and compares all logits, relative to the largest; prints the kernels.
fn check_logits(label: &str, plan: &Arc<Plan>, allowed: f32) {
    let cuda = cuda::open_device(0, CudaOptions::default()).expect("opens");
    let cpu = CpuDevice::new(0).expect("threads can be started");
    let len = plan.values.first().map_or(0, Value::len) as u64;
    let input: Vec<f32> = (0..len).map(model_support::noise).collect();
    let run = |device: &dyn Device| {
        let mut program = device.load(plan.clone()).expect("loads");
        match program.run(Input::Tensor(&input)).expect("runs") {
            Output::Tensor(logits) => logits,
            Output::TopK(_) => panic!("a plan of logits"),
        }
    };
    let (got, expected) = (run(&cuda), run(&cpu));
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let pairs = got.iter().zip(&expected);
    let off = pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    print_kernels(label, plan, cuda.description());
    assert!(off <= allowed * largest, "{label}: {off:e} of {largest}");
}

fn print_kernels(label: &str, plan: &Plan, device: &DeviceDescription) {
    let steps = cuda::explain(plan, device, &CudaOptions::default());
    let entries: BTreeSet<&str> = steps.iter().map(|step| step.entry).collect();
    let entries: Vec<&str> = entries.into_iter().collect();
    skip::report(&format!(
        "cuda {} {label}, {}: {}",
        device.architecture,
        plan.dtype,
        entries.join(", ")
    ));
}

fn logits(model: &Model, batch: usize, dtype: DType) -> Arc<Plan> {
    let options = PlanOptions {
        batch,
        dtype,
        input: PlanInput::Tensor,
        output: PlanOutput::Logits,
        ..PlanOptions::default()
    };
    Arc::new(Plan::compile(model, &options).expect("compiles"))
}

#[test]
fn resnet18_agrees_with_the_cpu_in_every_type() {
    let test = "resnet18_agrees_with_the_cpu_in_every_type";
    for (arch, dtype, allowed) in [
        ("90", DType::F16, 1e-2),
        ("80", DType::Bf16, 8e-2),
        ("75", DType::F32, 1e-5),
    ] {
        let options = [("SIMT_ARCH", arch), ("SIMT_ASYNC", "late")];
        cuda_support::simulated(test, &options, || {
            let plan = logits(&named(Named::ResNet18, 64, 10), 2, dtype);
            check_logits("resnet18 at 64", &plan, allowed);
        });
    }
}

#[test]
fn collage_of_images_gets_the_answers_of_the_cpu() {
    let test = "collage_of_images_gets_the_answers_of_the_cpu";
    for arch in ["90", "75"] {
        cuda_support::simulated(test, &[("SIMT_ARCH", arch)], || {
            check_answers(DType::F32, 1e-4);
            check_answers(DType::F16, 2e-2);
        });
    }
}

fn check_answers(dtype: DType, allowed: f32) {
    let cuda = cuda::open_device(0, CudaOptions::default()).expect("opens");
    let cpu = CpuDevice::new(0).expect("threads can be started");
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
        dtype,
        ..PlanOptions::default()
    };
    let plan = Arc::new(Plan::compile(&model, &options).expect("compiles"));
    let run = |device: &dyn Device| {
        let mut program = device.load(plan.clone()).expect("loads");
        // First with fewer, other images: what they leave must not be seen.
        program.run(Input::Images(&images[4..])).expect("runs");
        match program.run(Input::Images(&images)).expect("runs") {
            Output::TopK(rows) => rows,
            Output::Tensor(_) => panic!("a plan of answers"),
        }
    };
    let (got, expected) = (run(&cuda), run(&cpu));
    assert_eq!(got.len(), images.len(), "blank tiles have no answer");
    for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
        assert!(got.class == expected.class || dtype != DType::F32);
        assert!(
            (got.score - expected.score).abs() < allowed,
            "{got:?} {expected:?}"
        );
    }
    print_kernels("collage 3x3", &plan, cuda.description());
}

/// Without running: the networks that are measured take every kernel on one device or another.
#[test]
fn networks_choose_every_kernel() {
    let device = |architecture: &str, multiprocessors, kib: u32| DeviceDescription {
        architecture: architecture.parse().expect("one of ours"),
        multiprocessors,
        shared_bytes: kib * 1024,
    };
    let devices = [
        device("75", 40, 64),
        device("80", 108, 163),
        device("90a", 132, 227),
        device("100", 148, 227),
        device("120", 84, 99),
    ];
    let mut chosen = BTreeSet::new();
    for model in [
        named(Named::ResNet50, 224, 1000),
        named(Named::ResNet32, 32, 10),
    ] {
        for (batch, dtype) in [1, 8, 256]
            .into_iter()
            .flat_map(|b| DType::ALL.map(|d| (b, d)))
        {
            let options = PlanOptions {
                batch,
                dtype,
                output: PlanOutput::TopK(1),
                ..PlanOptions::default()
            };
            let plan = Plan::compile(&model, &options).expect("compiles");
            for device in &devices {
                let steps = cuda::explain(&plan, device, &CudaOptions::default());
                chosen.extend(steps.iter().map(|step| step.entry));
            }
        }
    }
    let all = cuda::kernels::KERNELS.iter().map(|k| k.entry);
    let never: Vec<&str> = all.filter(|entry| !chosen.contains(entry)).collect();
    assert!(never.is_empty(), "never chosen: {never:?}");
}

#[test]
fn batches_do_not_change_a_bit_where_that_was_asked_for() {
    let test = "batches_do_not_change_a_bit_where_that_was_asked_for";
    for arch in ["90", "80"] {
        cuda_support::simulated(test, &[("SIMT_ARCH", arch), ("SIMT_ASYNC", "late")], || {
            let options = CudaOptions {
                batch_invariant: true,
                ..CudaOptions::default()
            };
            let cuda = cuda::open_device(0, options).expect("opens");
            let model = named(Named::ResNet18, 32, 10);
            let run = |batch, input: &[f32]| {
                let plan = logits(&model, batch, DType::F16);
                let mut program = cuda.load(plan).expect("loads");
                match program.run(Input::Tensor(input)).expect("runs") {
                    Output::Tensor(logits) => logits,
                    Output::TopK(_) => panic!("a plan of logits"),
                }
            };
            let image = 32 * 32 * 3;
            let input: Vec<f32> = (0..3 * image as u64).map(model_support::noise).collect();
            let singles: Vec<f32> = input.chunks(image).flat_map(|one| run(1, one)).collect();
            let together = run(3, &input);
            let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&together), bits(&singles));
        });
    }
}

#[test]
fn digits_are_read_as_on_the_cpu() {
    let test = "digits_are_read_as_on_the_cpu";
    cuda_support::simulated(test, &[], || {
        let cuda = cuda::open_device(0, CudaOptions::default()).expect("opens");
        let cpu = CpuDevice::new(0).expect("threads can be started");
        let model = collage::embedded::base().expect("embedded");
        let digits = collage::embedded::held_out().expect("embedded");
        let options = PlanOptions {
            batch: 32,
            output: PlanOutput::TopK(1),
            ..PlanOptions::default()
        };
        let plan = Arc::new(Plan::compile(&model, &options).expect("compiles"));
        let images: Vec<Image> = (0..32)
            .map(|i| digits.image(i).expect("embedded"))
            .collect();
        let run = |device: &dyn Device| {
            let mut program = device.load(plan.clone()).expect("loads");
            match program.run(Input::Images(&images)).expect("runs") {
                Output::TopK(rows) => rows.iter().map(|row| row[0].class).collect::<Vec<_>>(),
                Output::Tensor(_) => panic!("a plan of answers"),
            }
        };
        assert_eq!(run(&cuda), run(&cpu));
        print_kernels("digits", &plan, cuda.description());
    });
}
