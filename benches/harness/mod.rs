//! Our backends under criterion: each case on each device, its result compared with the specification's first.

use std::sync::Arc;
use std::time::Duration;

use collage::backend::cpu::CpuDevice;
use collage::backend::{Device, Output};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::cases::{Case, relative_error};

/// Largest relative error of a result that is worth timing.
const TOLERANCE: f64 = 1e-3;

/// Benchmarks all cases. A case `<group>/<shape>` or `<network>` is found as `<group>/<device>/<shape>`, so that
/// `cargo bench -- conv2d/wgpu` and the like select. Elements a second are FLOP/s. `judge` says what is right.
pub fn bench(c: &mut Criterion, cases: Vec<Case>, judge: &dyn Device) {
    let devices = devices();
    for case in cases {
        let expected = run(judge, &case);
        let (group, shape) = case.id.split_once('/').unwrap_or((&case.id, "run"));
        let mut group = c.benchmark_group(group);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        if case.flops() > 0.0 {
            group.throughput(Throughput::Elements(case.flops() as u64));
        }
        for (name, device) in &devices {
            let mut program = device
                .load(Arc::clone(&case.plan))
                .unwrap_or_else(|e| panic!("{}: {e}", case.id));
            let actual = program
                .run(case.input())
                .unwrap_or_else(|e| panic!("{}: {e}", case.id));
            let error = relative_error(&expected, &actual);
            assert!(
                error.is_some_and(|e| e <= TOLERANCE),
                "{} on {name} computes something else: relative error {error:?}",
                case.id
            );
            group.bench_function(BenchmarkId::new(*name, shape), |b| {
                b.iter(|| program.run(case.input()))
            });
        }
    }
}

fn run(device: &dyn Device, case: &Case) -> Output {
    let program = device.load(Arc::clone(&case.plan));
    let output = program.and_then(|mut program| program.run(case.input()));
    output.unwrap_or_else(|e| panic!("{}: {e}", case.id))
}

/// The CPU's fast path, and the first adapter if there is one.
fn devices() -> Vec<(&'static str, Arc<dyn Device>)> {
    let cpu = CpuDevice::new(0).unwrap_or_else(|e| panic!("the cpu backend: {e}"));
    let mut devices: Vec<(&'static str, Arc<dyn Device>)> = vec![("cpu", Arc::new(cpu))];
    #[cfg(feature = "wgpu")]
    match collage::backend::webgpu::open(0) {
        Ok(device) => devices.push(("wgpu", device)),
        Err(error) => eprintln!("skipped: everything on wgpu, because {error}"),
    }
    #[cfg(not(feature = "wgpu"))]
    eprintln!("skipped: everything on wgpu, because this build is without it");
    for (name, device) in &devices {
        eprintln!("{name}: {} {}", device.info().name, device.info().driver);
    }
    devices
}
