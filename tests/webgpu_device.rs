//! What the WebGPU backend does beyond computing: both convolutions, several threads, limits, and losing the device.
//!
//! Without an adapter every test here counts as skipped, in CI as failed.
#![cfg(feature = "wgpu")]

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::webgpu::{self, Convolution, WebGpuDevice};
use collage::backend::{BackendError, Device, Input, Output, Scored};
use collage::image::Image;
use collage::model::plan::*;
use collage::tensor::{DType, Tensor};

#[path = "ops/case.rs"]
#[allow(dead_code)] // tests/ops.rs uses the rest.
mod case;
mod skip;
mod window;

use case::{Case, CaseInput};
use skip::report;

/// The first adapter, with this convolution if one is given; `None` counts as skipped.
fn device(test: &str, convolution: Option<Convolution>) -> Option<WebGpuDevice> {
    match webgpu::open_device(0, convolution) {
        Ok(device) => Some(device),
        Err(e @ (BackendError::NoDevice { .. } | BackendError::Unsupported { .. })) => {
            match e {
                BackendError::NoDevice { .. } => skip::skip(test, &e.to_string()),
                _ => report(&format!("SKIPPED {test}: {e}")),
            }
            None
        }
        Err(e) => panic!("{e}"),
    }
}

fn run(device: &dyn Device, case: &Case, dtype: DType) -> Result<Output, BackendError> {
    let input = match &case.input {
        CaseInput::Images(images) => Input::Images(images),
        CaseInput::Tensor(data) => Input::Tensor(data),
    };
    device.load(case.plan(dtype))?.run(input)
}

/// The largest difference, relative to the largest expected value.
fn difference(expected: &Output, got: &Output) -> f32 {
    let (Output::Tensor(expected), Output::Tensor(got)) = (expected, got) else {
        panic!("not tensors");
    };
    assert_eq!(expected.len(), got.len());
    let largest = expected.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    let pairs = expected.iter().zip(got);
    pairs.fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn every_convolution_agrees_with_specification() {
    let spec = CpuDevice::reference();
    for convolution in [Convolution::Tiled, Convolution::Broadcast] {
        let Some(device) = device("every convolution", Some(convolution)) else {
            continue;
        };
        assert_eq!(device.convolution(), convolution);
        let has_f16 = device.info().features.iter().any(|f| f == "shader-f16");
        for dtype in [DType::F32, DType::F16] {
            if dtype == DType::F16 && !has_f16 {
                report("SKIPPED every convolution, f16: the adapter has no shader-f16");
                continue;
            }
            let cases: Vec<Case> = case::all()
                .into_iter()
                .filter(|c| c.op == "conv2d")
                .collect();
            for case in &cases {
                let expected = run(&spec, case, dtype).expect("the specification runs every case");
                let got =
                    run(&device, case, dtype).unwrap_or_else(|e| panic!("{}: {e}", case.name));
                let off = difference(&expected, &got);
                let allowed = case.tolerance(dtype);
                assert!(
                    off <= allowed,
                    "{convolution:?} {dtype} {}: {off:e} > {allowed:e}",
                    case.name
                );
            }
            report(&format!(
                "{convolution:?} {dtype}: {} cases agree",
                cases.len()
            ));
        }
    }
}

/// 3x3 convolution with residual, pool and head on small random maps; `seed` makes plans differ.
fn small_plan(seed: u64, batch: usize) -> Arc<Plan> {
    let c = 8 + seed as usize % 3 * 4;
    let shapes = [
        [batch, 12, 12, c],
        [batch, 12, 12, c],
        [batch, 1, 1, c],
        [batch, 1, 1, 5],
    ];
    let mut arena_len = 0;
    let values = shapes.map(|shape| {
        let value = Value {
            shape,
            offset: arena_len,
        };
        arena_len += value.len().next_multiple_of(ARENA_ALIGN);
        value
    });
    let tensor = |shape: &[usize], salt| {
        let data = case::signed(seed ^ salt, shape.iter().product());
        Tensor::new(shape, data).expect("lengths agree")
    };
    let tensors = vec![
        tensor(&[c, 3, 3, c], 1),
        tensor(&[c], 2),
        tensor(&[5, c], 3),
        tensor(&[5], 4),
    ];
    let steps = vec![
        Step::Conv2d(Conv2d {
            input: ValueId(0),
            output: ValueId(1),
            weight: TensorId(0),
            bias: TensorId(1),
            kernel: [3, 3],
            stride: 1,
            padding: 1,
            residual: Some(Residual {
                value: ValueId(0),
                stride: 1,
                channel_offset: 0,
            }),
            activation: Activation::Relu,
        }),
        Step::AvgPool2d(AvgPool2d {
            input: ValueId(1),
            output: ValueId(2),
            kernel: [12, 12],
        }),
        Step::Linear(Linear {
            input: ValueId(2),
            output: ValueId(3),
            weight: TensorId(2),
            bias: TensorId(3),
        }),
    ];
    Arc::new(Plan {
        name: format!("small {seed}"),
        batch,
        dtype: DType::F32,
        weights: Arc::new(Weights { tensors }),
        values: values.to_vec(),
        steps,
        arena_len,
    })
}

/// A 3x3 convolution of `channels` to 64 whose residual is (0) the input, (1) in the output's place, (2) in its own.
fn shortcut_plan([h, w]: [usize; 2], channels: usize, residual: usize, dtype: DType) -> Arc<Plan> {
    let value = |offset, c: usize| Value {
        shape: [1, h, w, c],
        offset,
    };
    let room = (h * w * channels.max(64)).next_multiple_of(ARENA_ALIGN);
    let tensor = |shape: &[usize], salt| {
        let data = case::signed(salt, shape.iter().product());
        let scale = (shape[1..].iter().product::<usize>() as f32).sqrt();
        Tensor::new(shape, data.iter().map(|x| x / scale).collect::<Vec<_>>())
            .expect("lengths agree")
    };
    let tensors = vec![
        tensor(&[64, 3, 3, channels], 1),
        tensor(&[64], 2),
        tensor(&[64, 1, 1, channels], 3),
    ];
    let conv = |output, weight, kernel, padding, residual| {
        Step::Conv2d(Conv2d {
            input: ValueId(0),
            output: ValueId(output),
            weight: TensorId(weight),
            bias: TensorId(1),
            kernel: [kernel, kernel],
            stride: 1,
            padding,
            residual,
            activation: Activation::Relu,
        })
    };
    let from = Residual {
        value: ValueId([0, 1, 1][residual]),
        stride: 1,
        channel_offset: 0,
    };
    let output = [2 * room, room, 2 * room][residual];
    Arc::new(Plan {
        name: format!("shortcut {residual}"),
        batch: 1,
        dtype,
        weights: Arc::new(Weights { tensors }),
        values: vec![value(0, channels), value(room, 64), value(output, 64)],
        steps: vec![conv(1, 2, 1, 0, None), conv(2, 0, 3, 1, Some(from))],
        arena_len: 3 * room,
    })
}

#[test]
fn wide_convolutions_agree_wherever_their_residual_is() {
    let Some(device) = device("wide convolutions", None) else {
        return;
    };
    let cpu = CpuDevice::new(0).expect("starts");
    let has_f16 = device.info().features.iter().any(|f| f == "shader-f16");
    // More tiles than one part of the transformed ones holds, odd sides, and a map of less than one tile.
    for (sides, channels) in [([71, 69], 64), ([1, 1], 64), ([9, 7], 96), ([8, 6], 30)] {
        for (residual, dtype) in [
            (0, DType::F32),
            (1, DType::F32),
            (2, DType::F32),
            (1, DType::F16),
        ] {
            let same_shape = channels == 64 || residual != 0;
            if !same_shape || (dtype == DType::F16 && !has_f16) {
                continue;
            }
            let plan = shortcut_plan(sides, channels, residual, dtype);
            let input = case::signed(7, plan.values[0].len());
            let run = |device: &dyn Device| {
                device
                    .load(plan.clone())
                    .and_then(|mut p| p.run(Input::Tensor(&input)))
            };
            let expected = run(&cpu).expect("runs on the CPU");
            let got = run(&device).expect("runs");
            let off = difference(&expected, &got);
            let allowed = if dtype == DType::F16 { 2e-3 } else { 1e-5 };
            assert!(
                off <= allowed,
                "{sides:?} {channels} residual {residual} {dtype}: {off:e}"
            );
        }
    }
}

#[test]
fn programs_of_several_threads_share_one_device() {
    let Some(device) = device("several threads", None) else {
        return;
    };
    let spec = CpuDevice::reference();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (device, spec) = (&device, &spec);
            scope.spawn(move || {
                let plan = small_plan(seed, 1 + seed as usize);
                let mut expected = spec.load(plan.clone()).expect("loads");
                let mut program = device.load(plan.clone()).expect("loads");
                for turn in 0..20 {
                    let input = case::signed(seed ^ turn << 8, plan.values[0].len());
                    let expected = expected.run(Input::Tensor(&input)).expect("runs");
                    let got = program.run(Input::Tensor(&input)).expect("runs");
                    assert!(
                        difference(&expected, &got) < 1e-5,
                        "thread {seed}, turn {turn}"
                    );
                }
            });
        }
    });
}

#[test]
fn lost_device_is_reported_by_every_program() {
    let Some(device) = device("lost device", None) else {
        return;
    };
    let plan = small_plan(1, 1);
    let input = vec![0.5; plan.values[0].len()];
    let mut programs = [
        device.load(plan.clone()).expect("loads"),
        device.load(plan.clone()).expect("loads"),
    ];
    programs[0]
        .run(Input::Tensor(&input))
        .expect("runs while the device is there");
    device.destroy();
    for program in &mut programs {
        let error = program
            .run(Input::Tensor(&input))
            .expect_err("the device is gone");
        assert!(matches!(error, BackendError::DeviceLost { .. }), "{error}");
    }
    let error = device.load(plan).err().expect("the device is gone");
    assert!(matches!(error, BackendError::DeviceLost { .. }), "{error}");
}

#[test]
fn device_lost_in_the_middle_of_runs_is_an_error_and_no_hang() {
    let Some(device) = device("lost in the middle", None) else {
        return;
    };
    let plan = small_plan(2, 8);
    let input = vec![0.5; plan.values[0].len()];
    let mut program = device.load(plan).expect("loads");
    let runner = std::thread::spawn(move || {
        loop {
            if let Err(error) = program.run(Input::Tensor(&input)) {
                return error;
            }
        }
    });
    std::thread::sleep(std::time::Duration::from_millis(30));
    device.destroy();
    let error = runner.join().expect("no panic");
    assert!(matches!(error, BackendError::DeviceLost { .. }), "{error}");
}

#[test]
fn absent_adapter_is_named_with_what_to_do() {
    let error = webgpu::open(1000).expect_err("no machine has a thousand adapters");
    let BackendError::NoDevice { index, reason, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*index, 1000);
    assert!(
        reason.contains("numbered from 0") || reason.contains("mesa-vulkan-drivers"),
        "{reason}"
    );
}

#[test]
fn value_beyond_the_binding_limit_is_refused_with_its_bytes() {
    let Some(device) = device("binding limit", None) else {
        return;
    };
    // 64 GiB of one value: beyond any adapter, and never allocated.
    let plan = window::average(1 << 17);
    let error = device
        .load(Arc::new(plan))
        .err()
        .expect("no adapter has 64 GiB in one binding");
    let BackendError::OutOfMemory {
        needed, allowed, ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(needed >= 1 << 36 && allowed < needed, "{needed} {allowed}");
}

#[test]
fn a_software_adapter_averages_any_window_rightly_or_refuses_it() {
    let Some(device) = device("large windows", None) else {
        return;
    };
    // llvmpipe ends an invocation's loops after 65,535 turns.
    for side in [255, 256, 300] {
        let mut plan = window::average(side);
        plan.name = format!("{side}x{side}");
        let ones = vec![1.0; plan.values[0].len()];
        match device.load(Arc::new(plan)) {
            Ok(mut program) => {
                let output = program.run(Input::Tensor(&ones)).expect("runs");
                let Output::Tensor(mean) = output else {
                    panic!("{output:?}");
                };
                assert!((mean[0] - 1.0).abs() < 1e-4, "{side}: {mean:?}");
            }
            Err(BackendError::Unsupported { what, .. }) => {
                assert!(device.info().software && side > 255, "{side}: {what}");
                assert!(what.contains("avg_pool2d"), "{what}");
            }
            Err(error) => panic!("{side}: {error}"),
        }
    }
}

#[test]
fn refused_input_leaves_the_program_usable() {
    let Some(device) = device("refused input", None) else {
        return;
    };
    let plan = small_plan(0, 1);
    let mut program = device.load(plan.clone()).expect("loads");
    for wrong in [Input::Tensor(&[1.0; 3]), Input::Images(&[])] {
        let error = program.run(wrong).expect_err("not this plan's input");
        assert!(matches!(error, BackendError::Input { .. }), "{error}");
    }
    let input = vec![0.25; plan.values[0].len()];
    program.run(Input::Tensor(&input)).expect("still runs");
}

fn encode_plan(batch: usize, side: usize) -> Arc<Plan> {
    let values = vec![Value {
        shape: [batch, side, side, 3],
        offset: 0,
    }];
    Arc::new(Plan {
        name: "encode".into(),
        batch,
        dtype: DType::F32,
        weights: Arc::default(),
        arena_len: values[0].len().next_multiple_of(ARENA_ALIGN),
        values,
        steps: vec![Step::Encode(Encode {
            output: ValueId(0),
            preprocessing: Preprocessing {
                resize: side,
                size: side,
                filter: Filter::Bilinear,
                mean: [0.485, 0.456, 0.406],
                std: [0.229, 0.224, 0.225],
            },
            grid: Grid::ONE,
        })],
    })
}

#[test]
fn images_beyond_one_binding_are_encoded_in_parts() {
    let Some(device) = device("encode in parts", None) else {
        return;
    };
    // 3 x 60 MB against a limit of 128 MiB on software adapters; where the limit is higher it is one part.
    let image = |seed: usize| {
        let pixels: Vec<u8> = (0..5000 * 4000 * 3)
            .map(|i| (i / 977 * (seed + 3)) as u8)
            .collect();
        Image::from_rgb(5000, 4000, pixels).expect("sides are positive")
    };
    let images: Vec<Image> = (0..3).map(image).collect();
    let plan = encode_plan(4, 4);
    let mut program = device.load(plan.clone()).expect("loads");
    let got = program.run(Input::Images(&images)).expect("runs");
    for (i, image) in images.iter().enumerate() {
        let mut single = device.load(encode_plan(1, 4)).expect("loads");
        let alone = single
            .run(Input::Images(std::slice::from_ref(image)))
            .expect("runs");
        let (Output::Tensor(got), Output::Tensor(alone)) = (&got, alone) else {
            panic!("not tensors");
        };
        assert_eq!(got[i * 48..][..48], alone, "image {i}");
    }
    let Output::Tensor(got) = got else {
        panic!("not a tensor");
    };
    assert!(
        got[3 * 48..].iter().all(|v| *v == 0.0),
        "the fourth canvas is blank"
    );
    // Smaller images fit again into the buffers that have grown.
    let small = Image::from_rgb(2, 2, [255; 12]).expect("sides are positive");
    program.run(Input::Images(&[small])).expect("runs");
}

#[test]
fn logits_that_are_no_numbers_rank_last() {
    let Some(device) = device("no numbers", None) else {
        return;
    };
    let values = vec![Value {
        shape: [1, 1, 2, 4],
        offset: 0,
    }];
    let plan = Arc::new(Plan {
        name: "top".into(),
        batch: 1,
        dtype: DType::F32,
        weights: Arc::default(),
        values,
        steps: vec![Step::TopK(TopK {
            input: ValueId(0),
            k: 4,
            temperature: 2.0,
        })],
        arena_len: ARENA_ALIGN,
    });
    let input = [
        1.0,
        f32::NAN,
        3.0,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::NAN,
        f32::NAN,
        f32::NAN,
    ];
    let run = |device: &dyn Device| match device
        .load(plan.clone())
        .expect("loads")
        .run(Input::Tensor(&input))
    {
        Ok(Output::TopK(rows)) => rows,
        other => panic!("{other:?}"),
    };
    let classes = |rows: &[Vec<Scored>]| -> Vec<Vec<u32>> {
        rows.iter()
            .map(|row| row.iter().map(|s| s.class).collect())
            .collect()
    };
    let (expected, got) = (run(&CpuDevice::reference()), run(&device));
    assert_eq!(classes(&expected), classes(&got));
    assert_eq!(classes(&got)[0], [2, 0, 1, 3]);
    assert!(got.iter().flatten().all(|s| s.score.is_finite()));
}

#[test]
fn bf16_is_refused_by_name_since_webgpu_has_none() {
    let Some(device) = device("bf16 is refused", None) else {
        return;
    };
    let case = case::all().remove(0);
    let error = run(&device, &case, DType::Bf16).expect_err("WebGPU has no bf16");
    assert!(
        matches!(&error, BackendError::Unsupported { what, .. } if what.contains("bf16")),
        "{error}"
    );
}
