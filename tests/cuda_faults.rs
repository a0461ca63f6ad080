//! What the CUDA backend does when the device, the driver or the compiler fails: typed errors, no hang, other devices go on.
//!
//! All on the simulated driver, which fails on demand.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use std::sync::Arc;
use std::time::{Duration, Instant};

use collage::backend::cuda::{self, CudaOptions};
use collage::backend::{BackendError, Device, Found, Input, Output, Program};
use collage::error::Classify;
use collage::model::plan::*;
use collage::tensor::{DType, Tensor};

mod cuda_support;
mod skip;

use cuda_support::simulated;

/// A 1x1 convolution of a small map; its launches are one a run.
fn plan(batch: usize) -> Arc<Plan> {
    let value = |offset| Value {
        shape: [batch, 4, 4, 8],
        offset,
    };
    let room = (batch * 4 * 4 * 8).next_multiple_of(ARENA_ALIGN);
    let tensors = vec![
        Tensor::new([8, 1, 1, 8], vec![0.5; 64]).expect("lengths agree"),
        Tensor::new([8], vec![1.0; 8]).expect("lengths agree"),
    ];
    Arc::new(Plan {
        name: "small".into(),
        batch,
        dtype: DType::F32,
        weights: Arc::new(Weights { tensors }),
        values: vec![value(0), value(room)],
        steps: vec![Step::Conv2d(Conv2d {
            input: ValueId(0),
            output: ValueId(1),
            weight: TensorId(0),
            bias: TensorId(1),
            kernel: [1, 1],
            stride: 1,
            padding: 0,
            residual: None,
            activation: Activation::None,
        })],
        arena_len: 2 * room,
    })
}

fn load(device: &dyn Device, batch: usize) -> Box<dyn Program> {
    device.load(plan(batch)).expect("loads")
}

fn run(program: &mut dyn Program, batch: usize) -> Result<Output, BackendError> {
    program.run(Input::Tensor(&vec![1.0; batch * 128]))
}

fn assert_fives(output: &Output) {
    let Output::Tensor(data) = output else {
        panic!("{output:?}");
    };
    assert!(data.iter().all(|x| *x == 5.0), "{data:?}");
}

#[test]
fn a_lost_device_fails_its_programs_at_once_and_no_others() {
    let test = "a_lost_device_fails_its_programs_at_once_and_no_others";
    // Launches 1 and 2 warm up two programs; the third is the run.
    simulated(test, &[("SIMT_LOSE", "3"), ("SIMT_DEVICES", "2")], || {
        let device = cuda::open_device(0, CudaOptions::default()).expect("opens");
        let mut programs = [load(&device, 1), load(&device, 1)];
        for program in &mut programs {
            let error = run(&mut **program, 1).expect_err("the device is lost");
            assert!(matches!(error, BackendError::DeviceLost { .. }), "{error}");
            assert!(error.can_retry());
        }
        let error = device.load(plan(1)).err().expect("the device is lost");
        assert!(matches!(error, BackendError::DeviceLost { .. }), "{error}");
        let other = cuda::open(1).expect("another device opens");
        assert_fives(&run(&mut *load(&*other, 1), 1).expect("and runs"));
    });
}

#[test]
fn a_hung_device_is_lost_when_the_watchdog_says_so() {
    let test = "a_hung_device_is_lost_when_the_watchdog_says_so";
    simulated(test, &[("SIMT_HANG", "2")], || {
        let options = CudaOptions {
            watchdog: Some(Duration::from_millis(300)),
            ..CudaOptions::default()
        };
        let device = cuda::open_device(0, options).expect("opens");
        let mut program = load(&device, 1);
        let start = Instant::now();
        let error = run(&mut *program, 1).expect_err("the kernel never ends");
        assert!(matches!(error, BackendError::DeviceLost { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
        let start = Instant::now();
        let error = run(&mut *program, 1).expect_err("still lost");
        assert!(matches!(error, BackendError::DeviceLost { .. }), "{error}");
        drop((program, device)); // gives nothing back to a driver that would wait for the kernel
        assert!(start.elapsed() < Duration::from_millis(250), "at once");
    });
}

#[test]
fn a_plan_that_does_not_fit_says_what_would() {
    let test = "a_plan_that_does_not_fit_says_what_would";
    simulated(test, &[("SIMT_MEMORY", "1000000")], || {
        let device = cuda::open_device(0, CudaOptions::default()).expect("opens");
        let error = device.load(plan(2000)).err().expect("2 MB do not fit");
        let BackendError::DeviceFull {
            needed, free, fits, ..
        } = error
        else {
            panic!("{error}");
        };
        assert!(needed > free && free <= 1_000_000, "{needed} {free}");
        assert!((1..2000).contains(&fits), "{fits}");
        let mut program = load(&device, fits / 2);
        assert_fives(&run(&mut *program, fits / 2).expect("runs"));
    });
}

#[test]
fn a_driver_that_is_too_old_is_named_with_what_to_do() {
    let test = "a_driver_that_is_too_old_is_named_with_what_to_do";
    simulated(test, &[("SIMT_DRIVER", "11080")], || {
        let error = cuda::open(0).expect_err("too old");
        let BackendError::NoDevice { reason, .. } = &error else {
            panic!("{error}");
        };
        assert!(
            reason.contains("CUDA 11.8") && reason.contains("update"),
            "{reason}"
        );
        let found = cuda::discover();
        assert!(matches!(&found[..], [Found::Unusable { .. }]), "{found:?}");
    });
    // Newer than 12.0, but older than what the compiler makes.
    let options = [("SIMT_DRIVER", "12040"), ("SIMT_NVRTC", "13.1")];
    simulated(test, &options, || {
        let options = CudaOptions {
            cache_dir: Some(tempfile::tempdir().expect("a folder").keep()),
            ..CudaOptions::default()
        };
        let device = cuda::open_device(0, options).expect("opens");
        let error = device.load(plan(1)).err().expect("cubins are too new");
        assert!(
            matches!(error, BackendError::DriverTooOld { .. }),
            "{error}"
        );
        assert_eq!((error.code(), error.can_retry()), (309, false));
    });
}

#[test]
fn a_device_that_is_too_old_or_too_new_is_named() {
    let test = "a_device_that_is_too_old_or_too_new_is_named";
    simulated(test, &[("SIMT_ARCH", "70")], || {
        let error = cuda::open(0).expect_err("no kernels for it");
        assert!(error.to_string().contains("sm_70"), "{error}");
    });
    simulated(test, &[("SIMT_ARCH", "150")], || {
        let device = cuda::open(0).expect("opens");
        let error = device.load(plan(1)).err().expect("no compiler knows it");
        let wrong = matches!(error, BackendError::WrongArchitecture { .. });
        assert!(wrong, "{error}");
    });
}

#[test]
fn a_source_that_does_not_compile_gives_its_log() {
    let test = "a_source_that_does_not_compile_gives_its_log";
    simulated(test, &[("SIMT_NVRTC_FAILS", "conv2d_tiled")], || {
        let options = CudaOptions {
            cache_dir: Some(tempfile::tempdir().expect("a folder").keep()),
            ..CudaOptions::default()
        };
        let device = cuda::open_device(0, options).expect("opens");
        let error = device.load(plan(1)).err().expect("does not compile");
        let BackendError::Compile { unit, .. } = &error else {
            panic!("{error}");
        };
        assert!(unit.starts_with("conv2d_tiled-f32"), "{unit}");
    });
}

#[test]
fn absent_devices_are_refused_with_how_many_there_are() {
    let test = "absent_devices_are_refused_with_how_many_there_are";
    simulated(test, &[("SIMT_DEVICES", "2")], || {
        let found = cuda::discover();
        assert_eq!(found.len(), 2, "{found:?}");
        let error = cuda::open(7).expect_err("there are two");
        assert!(error.to_string().contains("this machine has 2"), "{error}");
        for index in 0..2 {
            let device = cuda::open(index).expect("opens");
            let mut program = load(&*device, 1);
            assert_fives(&run(&mut *program, 1).expect("runs"));
        }
    });
}

#[test]
fn wrong_inputs_leave_the_program_usable() {
    simulated("wrong_inputs_leave_the_program_usable", &[], || {
        let device = cuda::open(0).expect("opens");
        let mut program = load(&*device, 1);
        for wrong in [Input::Tensor(&[1.0; 3]), Input::Images(&[])] {
            let error = program.run(wrong).expect_err("not this plan's input");
            assert!(matches!(error, BackendError::Input { .. }), "{error}");
        }
        assert_fives(&run(&mut *program, 1).expect("still runs"));
        let (output, timings) = program.run_timed(Input::Tensor(&[1.0; 128])).expect("runs");
        assert_fives(&output);
        assert!(timings.is_some());
        assert!(program.run_resident(3).expect("runs").is_some());
    });
}

#[test]
fn programs_of_several_threads_share_one_device() {
    simulated("programs_of_several_threads_share_one_device", &[], || {
        let device = cuda::open(0).expect("opens");
        std::thread::scope(|scope| {
            for batch in 1..4 {
                let device = &device;
                scope.spawn(move || {
                    let mut program = load(&**device, batch);
                    for _ in 0..10 {
                        assert_fives(&run(&mut *program, batch).expect("runs"));
                    }
                });
            }
        });
    });
}
