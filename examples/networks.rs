//! Speed of whole networks on our own backends: GFLOP/s of ResNet-18 at 224 and CIFAR ResNet-32, weights from a hash.
//!
//! `cargo run --release --example networks [-- DEVICE [layers]]`, DEVICE `cpu` or `wgpu`; without one, both. Results
//! are compared with the other backend's before anything is timed. `layers` also times each distinct convolution alone.
//! Times are the best of several runs, since what else runs on the machine can only add to them; `by cpu` divides the
//! work by the process's own processor time on all cores, which other load changes least.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use collage::backend::cpu::CpuDevice;
use collage::backend::{BackendKind, Device, Input, Output, Program, webgpu};
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{ARENA_ALIGN, Conv2d, Plan, Step, Value, ValueId};
use collage::model::resnet::Named;

#[path = "../tests/model_support/mod.rs"]
mod model_support;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let only = arguments.first().map(String::as_str);
    let layers = arguments.get(1).is_some_and(|a| a == "layers");
    let cpu: Arc<dyn Device> = Arc::new(CpuDevice::new(0)?);
    let wgpu = webgpu::open(0)?;
    println!("{cpu:?}, {wgpu:?}");
    let networks = [
        ("resnet18 at 224", Named::ResNet18, 224, 1000, [1, 8]),
        ("resnet32 at 32", Named::ResNet32, 32, 10, [1, 64]),
    ];
    for (name, family, size, classes, batches) in networks {
        let architecture = model_support::named(family);
        let model =
            model_support::model(&model_support::metadata(architecture, size, classes, None));
        for batch in batches {
            let options = PlanOptions {
                batch,
                input: PlanInput::Tensor,
                output: PlanOutput::Logits,
                ..PlanOptions::default()
            };
            let plan = Arc::new(Plan::compile(&model, &options)?);
            let input = input(&plan);
            let mut programs = [cpu.load(plan.clone())?, wgpu.load(plan.clone())?];
            let difference = difference(&mut programs, &input)?;
            for (device, program) in [&cpu, &wgpu].into_iter().zip(&mut programs) {
                let backend = device.info().backend;
                if only.is_none_or(|o| o == backend.to_string()) {
                    let flops: u64 = plan.steps.iter().map(|s| 2 * plan.macs(s)).sum();
                    let speed = measure(program.as_mut(), &input, flops)?;
                    println!(
                        "{name} batch {batch} on {backend}: {speed}; largest difference {difference:.1e}"
                    );
                }
            }
            if layers && batch != 1 {
                time_layers(&[&cpu, &wgpu], &plan, only)?;
            }
        }
    }
    Ok(())
}

fn input(plan: &Plan) -> Vec<f32> {
    let len = plan.values.first().map_or(0, Value::len) as u64;
    (0..len).map(model_support::noise).collect()
}

/// The largest difference of the two programs' results, relative to the largest result.
fn difference(programs: &mut [Box<dyn Program>; 2], input: &[f32]) -> Result<f32, Failure> {
    let [a, b] = programs;
    let (Output::Tensor(a), Output::Tensor(b)) =
        (a.run(Input::Tensor(input))?, b.run(Input::Tensor(input))?)
    else {
        return Err("a plan of logits gives a tensor".into());
    };
    let largest = a.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = a
        .iter()
        .zip(&b)
        .fold(0f32, |m, (x, y)| m.max((x - y).abs()));
    Ok(off / largest)
}

/// Time, and GFLOP/s by the wall clock and by processor time.
fn measure(program: &mut dyn Program, input: &[f32], flops: u64) -> Result<String, Failure> {
    let (mut wall, mut busy) = (f64::MAX, f64::MAX);
    let begin = Instant::now();
    let mut runs = 0;
    while runs < 3 || (begin.elapsed().as_secs_f64() < 1.5 && runs < 50) {
        let (start, used) = (Instant::now(), processor_seconds());
        program.run(Input::Tensor(input))?;
        wall = wall.min(start.elapsed().as_secs_f64());
        busy = busy.min((processor_seconds() - used) / cores());
        runs += 1;
    }
    let giga = flops as f64 / 1e9;
    let (wall_speed, busy_speed) = (giga / wall, giga / busy);
    Ok(format!(
        "{:.2} ms, {wall_speed:.1} GFLOP/s (by cpu {busy_speed:.1})",
        wall * 1e3
    ))
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

/// Of all threads of this process, in ns resolution; 0 where the system does not say.
fn processor_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() * 1e-9
}

/// Each distinct convolution of the plan, alone.
fn time_layers(
    devices: &[&Arc<dyn Device>],
    plan: &Plan,
    only: Option<&str>,
) -> Result<(), Failure> {
    let mut seen: BTreeMap<String, (usize, Plan)> = BTreeMap::new();
    for step in &plan.steps {
        let Step::Conv2d(conv) = step else { continue };
        let alone = single(plan, conv);
        let (from, to) = (alone.values[0].shape, alone.values[1].shape);
        let name = format!("{from:?} to {to:?} {:?}/{}", conv.kernel, conv.stride);
        seen.entry(name).or_insert((0, alone)).0 += 1;
    }
    for (name, (count, alone)) in seen {
        let alone = Arc::new(alone);
        let flops = alone.steps.iter().map(|s| 2 * alone.macs(s)).sum();
        for device in devices {
            let backend: BackendKind = device.info().backend;
            if only.is_none_or(|o| o == backend.to_string()) {
                let mut program = device.load(alone.clone())?;
                println!(
                    "  {count} x {name} on {backend}: {}",
                    measure(program.as_mut(), &input(&alone), flops)?
                );
            }
        }
    }
    Ok(())
}

/// A plan of this convolution only; its residual, if any, is in the output's place.
fn single(plan: &Plan, conv: &Conv2d) -> Plan {
    let mut values = vec![plan.values[conv.input.0], plan.values[conv.output.0]];
    values[0].offset = 0;
    values[1].offset = values[0].len().next_multiple_of(ARENA_ALIGN);
    let arena_len = values[1].offset + values[1].len().next_multiple_of(ARENA_ALIGN);
    let conv = Conv2d {
        input: ValueId(0),
        output: ValueId(1),
        residual: None,
        ..*conv
    };
    Plan {
        values,
        steps: vec![Step::Conv2d(conv)],
        arena_len,
        ..plan.clone()
    }
}
