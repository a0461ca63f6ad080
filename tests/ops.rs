//! Every op on every backend, from one table of cases (tests/cases/ops.toml).
//!
//! The CPU's specification is judged by an independent computation in f64 (ops/naive.rs); the CPU's fast path and each
//! WebGPU adapter are judged by the specification. A case's program first runs on other data, so that an element that
//! it forgets to write keeps a wrong value instead of a lucky zero. `OPS_CASES=text` runs only the cases whose op or
//! name contains the text.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
#[cfg(feature = "cuda")]
use collage::backend::cuda::{self, CudaOptions};
use collage::backend::{Device, Input};
use collage::tensor::DType;

#[path = "ops/case.rs"]
mod case;
#[path = "ops/compare.rs"]
mod compare;
#[cfg(all(feature = "cuda", target_os = "linux"))]
mod cuda_support;
#[path = "ops/naive.rs"]
mod naive;
mod skip;

use case::{Case, CaseInput};
#[cfg(feature = "cuda")]
use compare::check_cases;
use compare::{as_input, bits, check_all, compare, exact, run};
use skip::report;

#[test]
fn specification_agrees_with_independent_f64() {
    let spec = CpuDevice::reference();
    for dtype in DType::ALL {
        check_all(
            &format!("cpu specification, {dtype}, against f64"),
            |case| {
                // Exact from what the dtype stores of weights and input, without rounding between steps.
                let (plan, input) = case.stored(dtype);
                compare(
                    &naive::run(&plan, &input),
                    &run(&spec, case, dtype)?,
                    case.tolerance(dtype),
                )
            },
        );
    }
}

#[test]
fn fast_cpu_agrees_with_specification() {
    let spec = CpuDevice::reference();
    for threads in [1, 3] {
        for fast in CpuDevice::every_instruction_set(threads).expect("threads can be started") {
            let features = fast.info().features.join(", ");
            for dtype in DType::ALL {
                check_all(&format!("cpu ({features}), {dtype}"), |case| {
                    compare(
                        &exact(run(&spec, case, dtype)?),
                        &run(&fast, case, dtype)?,
                        case.tolerance(dtype),
                    )
                });
            }
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn webgpu_agrees_with_specification() {
    let spec = CpuDevice::reference();
    let adapters = collage::backend::webgpu::enumerate().unwrap_or_default();
    if adapters.is_empty() {
        let reason =
            "no adapter on this machine (install a Vulkan driver, such as mesa-vulkan-drivers)";
        skip::skip("webgpu agrees with the specification", reason);
    }
    for info in adapters {
        let device = collage::backend::webgpu::open(info.index)
            .unwrap_or_else(|e| panic!("{}: {e}", info.name));
        let has_f16 = info.features.iter().any(|f| f == "shader-f16");
        for dtype in [DType::F32, DType::F16] {
            if dtype == DType::F16 && !has_f16 {
                report(&format!(
                    "SKIPPED webgpu {}, f16: the adapter has no shader-f16",
                    info.name
                ));
                continue;
            }
            check_all(&format!("webgpu {}, {dtype}", info.name), |case| {
                compare(
                    &exact(run(&spec, case, dtype)?),
                    &run(&*device, case, dtype)?,
                    case.tolerance(dtype),
                )
            });
        }
    }
}

/// On real devices. CI has none by design, so that this skip alone is no failure there: the claims below stand in for it.
#[cfg(feature = "cuda")]
#[test]
fn cuda_devices_agree_with_specification() {
    let test = "cuda devices agree with the specification";
    let found = cuda::discover();
    if let [collage::backend::Found::Unusable { reason, .. }] = &found[..] {
        return report(&format!("SKIPPED {test}: {reason}"));
    }
    for device in cuda_devices(test, &CudaOptions::default()) {
        for dtype in DType::ALL {
            check_cuda(&device, dtype, None);
        }
    }
    every_cuda_convolution(test);
}

/// On the simulated Hopper, which has every kernel.
#[cfg(all(feature = "cuda", target_os = "linux"))]
#[test]
fn every_cuda_convolution_agrees_with_specification() {
    let test = "every_cuda_convolution_agrees_with_specification";
    cuda_support::simulated(test, &[("SIMT_ASYNC", "late")], || {
        every_cuda_convolution(test);
    });
}

/// What older and newer architectures choose instead.
#[cfg(all(feature = "cuda", target_os = "linux"))]
#[test]
fn every_cuda_architecture_agrees_with_specification() {
    let test = "every_cuda_architecture_agrees_with_specification";
    for arch in ["75", "80", "120"] {
        cuda_support::simulated(test, &[("SIMT_ARCH", arch)], || {
            for device in cuda_devices(test, &CudaOptions::default()) {
                for dtype in DType::ALL {
                    check_cuda(&device, dtype, None);
                }
            }
        });
    }
}

/// The sums in one piece, and in more than there often are steps.
#[cfg(feature = "cuda")]
fn every_cuda_convolution(test: &str) {
    for convolution in cuda::conv2d::CONVOLUTIONS {
        for splits in [Some(1), Some(5)] {
            let options = CudaOptions {
                convolution: Some(convolution),
                splits,
                ..CudaOptions::default()
            };
            for device in cuda_devices(test, &options) {
                for dtype in DType::ALL {
                    check_cuda(&device, dtype, Some(convolution));
                }
            }
        }
    }
}

/// Every case on one device; those alone that `only` runs a step of, if it is given.
#[cfg(feature = "cuda")]
fn check_cuda(device: &cuda::CudaDevice, dtype: DType, only: Option<cuda::Variant>) {
    let spec = CpuDevice::reference();
    let runs = |case: &Case| {
        let steps = cuda::explain(&case.plan(dtype), device.description(), device.options());
        let splits = device.options().splits.unwrap_or(1);
        let wanted = |step: &cuda::ExplainedStep| {
            let kernel = cuda::kernels::KERNELS
                .iter()
                .find(|k| k.entry == step.entry);
            // Where nothing can be divided, another run has done the same.
            kernel.map(|k| k.variant) == only && (splits == 1 || step.splits > 1)
        };
        only.is_none() || steps.iter().any(wanted)
    };
    let cases: Vec<Case> = case::all().into_iter().filter(runs).collect();
    if cases.is_empty() {
        return;
    }
    let forced = only.map_or(String::new(), |v| {
        format!(", {v:?} in {:?} parts", device.options().splits)
    });
    let label = format!("cuda {}, {dtype}{forced}", device.info().name);
    check_cases(&label, &cases, |case| {
        compare(
            &exact(run(&spec, case, dtype)?),
            &run(device, case, dtype)?,
            case.tolerance(dtype),
        )
    });
}

/// Every usable device; none counts as skipped.
#[cfg(feature = "cuda")]
fn cuda_devices(test: &str, options: &CudaOptions) -> Vec<cuda::CudaDevice> {
    use collage::backend::Found;
    let mut devices = Vec::new();
    for found in cuda::discover() {
        match found {
            Found::Usable(info) => {
                let device = cuda::open_device(info.index, options.clone());
                devices.push(device.unwrap_or_else(|e| panic!("{}: {e}", info.name)));
            }
            Found::Unusable { reason, .. } => skip::skip(test, &reason),
        }
    }
    devices
}

/// On the simulated device, under each order of threads and each time of asynchronous work; the last with sanitizers.
#[cfg(all(feature = "cuda", target_os = "linux"))]
#[test]
fn cuda_agrees_with_specification() {
    use cuda_support::Build::{Plain, Sanitized};
    for (build, order, time) in [
        (Plain, "forward", "early"),
        (Plain, "reverse", "late"),
        (Sanitized, "random:1", "late"),
    ] {
        let options = [("SIMT_ORDER", order), ("SIMT_ASYNC", time)];
        let test = "cuda_agrees_with_specification";
        cuda_support::simulated_by(build, test, &options, || {
            let spec = CpuDevice::reference();
            let device = collage::backend::cuda::open(0).expect("the simulated device");
            for dtype in DType::ALL {
                check_all(
                    &format!("cuda simulated, {order}, {time}, {dtype}"),
                    |case| {
                        compare(
                            &exact(run(&spec, case, dtype)?),
                            &run(&*device, case, dtype)?,
                            case.tolerance(dtype),
                        )
                    },
                );
            }
        });
    }
}

#[test]
fn fast_cpu_is_bit_identical_for_any_batch_and_thread_count() {
    let one = CpuDevice::new(1).expect("no thread is started");
    let three = CpuDevice::new(3).expect("threads can be started");
    let mut compared = 0;
    for case in case::all() {
        let whole = run(&one, &case, DType::F32).expect(&case.name);
        assert_eq!(
            bits(&whole),
            bits(&run(&three, &case, DType::F32).expect(&case.name)),
            "{}: threads",
            case.name
        );
        let (CaseInput::Tensor(data), batch) = (&case.input, case.plan.batch) else {
            continue;
        };
        if batch == 1 {
            continue;
        }
        let single = single_image(&case);
        let parts: Vec<u32> = data
            .chunks(data.len() / batch)
            .flat_map(|part| {
                let mut program = one.load(Arc::new(single.clone())).expect(&case.name);
                bits(&program.run(Input::Tensor(part)).expect(&case.name))
            })
            .collect();
        assert_eq!(bits(&whole), parts, "{}: batch", case.name);
        compared += 1;
    }
    report(&format!(
        "cpu: {compared} cases are bit-identical one image at a time"
    ));
    assert!(compared >= 10);
}

#[test]
fn programs_of_one_device_run_side_by_side() {
    let device = CpuDevice::new(2).expect("threads can be started");
    let cases = case::all();
    let case = cases
        .iter()
        .find(|c| c.name == "batch 9")
        .expect("in the table");
    let expected = bits(&run(&device, case, DType::F32).expect(&case.name));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let found = run(&device, case, DType::F32).expect(&case.name);
                    assert_eq!(bits(&found), expected);
                }
            });
        }
    });
}

#[test]
fn wrong_inputs_are_errors_that_name_the_plan() {
    use collage::error::Classify;
    let images = vec![case::image(9, 7, "noise", 1); 40];
    for device in [
        CpuDevice::reference(),
        CpuDevice::new(2).expect("threads can be started"),
    ] {
        for case in case::all() {
            let mut program = device.load(case.plan(DType::F32)).expect(&case.name);
            let wrong = match &case.input {
                CaseInput::Tensor(data) => [
                    Input::Images(&images),
                    Input::Tensor(&data[1..]),
                    Input::Tensor(&[]),
                ],
                CaseInput::Images(_) => [
                    Input::Images(&images),
                    Input::Images(&[]),
                    Input::Tensor(&[]),
                ],
            };
            for input in wrong {
                let error = program.run(input).expect_err("a wrong input");
                assert_eq!((error.code(), error.can_retry()), (300, false), "{error}");
                assert!(error.to_string().contains(&case.name), "{error}");
            }
            program
                .run(as_input(&case.input))
                .expect("still works afterwards");
        }
    }
}

/// The case's plan at batch 1.
fn single_image(case: &Case) -> collage::model::plan::Plan {
    let mut plan = case.plan.clone();
    plan.values.iter_mut().for_each(|v| v.shape[0] = 1);
    plan.batch = 1;
    plan
}
