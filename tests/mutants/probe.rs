//! What runs a kernel: the cases of its op, by each of its variants, under each policy.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::cuda::{self, CudaDevice, CudaOptions, Variant};
use collage::backend::{Device, Input, Output};
use collage::model::plan::Plan;
use collage::tensor::DType;

use crate::case::{self, CaseInput};
use crate::mutation::ALONE;
use crate::network;

/// The orders of threads, and when asynchronous work is done.
const POLICIES: [[&str; 2]; 4] = [
    ["forward", "late"],
    ["reverse", "early"],
    ["random:7", "late"],
    ["reverse", "late"],
];

/// A kernel's file, what else it is made of, and what runs it: the op, in which type, by which convolution in how many
/// parts.
pub struct Suite {
    pub unit: &'static str,
    pub headers: &'static [&'static str],
    pub probes: &'static [Probe],
}

pub struct Probe {
    op: &'static str,
    dtype: DType,
    convolution: Option<(Variant, u32)>,
}

const fn op(op: &'static str, dtype: DType) -> Probe {
    Probe {
        op,
        dtype,
        convolution: None,
    }
}

const fn by(variant: Variant, dtype: DType, splits: u32) -> Probe {
    Probe {
        op: "conv2d",
        dtype,
        convolution: Some((variant, splits)),
    }
}

/// A ResNet, whose kernels start while those before them run.
const fn network(variant: Variant, dtype: DType, splits: u32) -> Probe {
    Probe {
        op: "network",
        dtype,
        convolution: Some((variant, splits)),
    }
}

use DType::{F16, F32};
use Variant::{
    MmaLarge, MmaSmall, MmaTall, Stem, TiledLarge, TiledSmall, WgmmaLarge, WgmmaNarrow, WgmmaWide,
};

pub const SUITES: [Suite; 9] = [
    Suite {
        unit: "conv2d_tiled.cu",
        headers: &["conv2d.cuh", "number.cuh"],
        probes: &[
            by(TiledSmall, F32, 1),
            by(TiledLarge, F32, 1),
            by(TiledSmall, F16, 1),
            by(TiledLarge, F16, 1),
            network(TiledSmall, F32, 1),
        ],
    },
    Suite {
        unit: "conv2d_mma.cu",
        headers: &["conv2d_epilogue.cuh", "conv2d_parts.cuh"],
        probes: &[
            by(MmaSmall, F16, 1),
            by(MmaSmall, F16, 3),
            by(MmaTall, F16, 1),
            by(MmaLarge, F16, 2),
            network(MmaSmall, F16, 1),
            network(MmaSmall, F16, 2),
        ],
    },
    Suite {
        unit: "conv2d_stem.cu",
        headers: &[],
        probes: &[by(Stem, F16, 1), op("chain", F16)],
    },
    Suite {
        unit: "conv2d_wgmma.cu",
        headers: &["conv2d_wgmma.cuh"],
        probes: &[
            by(WgmmaNarrow, F16, 1),
            by(WgmmaWide, F16, 1),
            by(WgmmaWide, F16, 3),
            by(WgmmaNarrow, F16, 2),
            by(WgmmaLarge, F16, 1),
            network(WgmmaWide, F16, 1),
            network(WgmmaNarrow, F16, 2),
        ],
    },
    Suite {
        unit: "encode.cu",
        headers: &[],
        probes: &[op("encode", F32), op("encode", F16), op("chain", F32)],
    },
    Suite {
        unit: "max_pool2d.cu",
        headers: &[],
        probes: &[
            op("max_pool2d", F32),
            op("max_pool2d", F16),
            network(TiledSmall, F32, 1),
        ],
    },
    Suite {
        unit: "avg_pool2d.cu",
        headers: &[],
        probes: &[
            op("avg_pool2d", F32),
            op("avg_pool2d", F16),
            op("chain", F32),
        ],
    },
    Suite {
        unit: "linear.cu",
        headers: &[],
        probes: &[op("linear", F32), op("linear", F16), op("chain", F32)],
    },
    Suite {
        unit: "top_k.cu",
        headers: &[],
        probes: &[op("top_k", F32), op("top_k", F16), op("chain", F32)],
    },
];

pub fn probe(suite: &Suite) {
    for policy in POLICIES {
        for probe in suite.probes {
            // SAFETY: this process runs one test, and its only other threads read no variables.
            unsafe {
                std::env::set_var("SIMT_ORDER", policy[0]);
                std::env::set_var("SIMT_ASYNC", policy[1]);
            }
            let options = CudaOptions {
                convolution: probe.convolution.map(|(variant, _)| variant),
                splits: probe.convolution.map(|(_, splits)| splits),
                ..CudaOptions::default()
            };
            let device = cuda::open_device(0, options).expect("the simulated device opens");
            for (plan, tolerance, input) in cases(probe, &device) {
                if is_there(suite, &plan, &device) {
                    agree(&device, plan, tolerance, &input);
                }
            }
        }
    }
}

/// Whether the driver has every kernel of the plan: of a changed file it has those of that file alone.
fn is_there(suite: &Suite, plan: &Plan, device: &CudaDevice) -> bool {
    let file = suite.unit.trim_end_matches(".cu");
    let steps = cuda::explain(plan, device.description(), device.options());
    std::env::var_os(ALONE).is_none() || steps.iter().all(|step| step.entry.starts_with(file))
}

/// Multiply-accumulates beyond which a case is left to tests/ops.rs.
const LARGEST: u64 = 30_000_000;

fn cases(probe: &Probe, device: &CudaDevice) -> Vec<(Arc<Plan>, f32, CaseInput)> {
    if probe.op == "network" {
        let (plan, input) = network::resnet(probe.dtype);
        return vec![(plan, 2e-2, input)];
    }
    let runs = |plan: &Plan| {
        let steps = cuda::explain(plan, device.description(), device.options());
        let variant = |entry| cuda::kernels::KERNELS.iter().find(|k| k.entry == entry);
        probe.convolution.is_none_or(|(wanted, splits)| {
            steps.iter().any(|step| {
                let found = variant(step.entry).map(|k| k.variant);
                found == Some(wanted) && (splits == 1 || step.splits > 1)
            })
        })
    };
    let small = |plan: &Plan| plan.steps.iter().map(|s| plan.macs(s)).sum::<u64>() <= LARGEST;
    let cases = case::all()
        .into_iter()
        .filter(|c| c.op == probe.op && small(&c.plan));
    let cases: Vec<_> = cases
        .map(|c| (c.plan(probe.dtype), c.tolerance(probe.dtype), c.input))
        .filter(|(plan, _, _)| runs(plan))
        .collect();
    assert!(!cases.is_empty(), "no case is for this probe");
    cases
}

/// Panics unless the device computes what the specification does.
fn agree(device: &CudaDevice, plan: Arc<Plan>, tolerance: f32, input: &CaseInput) {
    let input = match input {
        CaseInput::Images(images) => Input::Images(images),
        CaseInput::Tensor(data) => Input::Tensor(data),
    };
    let run = |device: &dyn Device| {
        let mut program = device.load(plan.clone()).expect("loads");
        program.run(input).expect("runs")
    };
    match (run(&CpuDevice::reference()), run(device)) {
        (Output::Tensor(expected), Output::Tensor(found)) => {
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            let close = |(e, f): (&f32, &f32)| (e - f).abs() <= tolerance * largest;
            assert_eq!(expected.len(), found.len());
            assert!(expected.iter().zip(&found).all(close), "{}", plan.name);
        }
        (Output::TopK(expected), Output::TopK(found)) => {
            let rows = |rows: &[Vec<collage::backend::Scored>]| rows.concat();
            let (expected, found) = (rows(&expected), rows(&found));
            assert_eq!(expected.len(), found.len());
            for (e, f) in expected.iter().zip(&found) {
                assert!(
                    (e.score - f.score).abs() <= tolerance,
                    "{}: {e:?} {f:?}",
                    plan.name
                );
                let tie = expected
                    .iter()
                    .any(|x| x.class == f.class && (x.score - e.score).abs() <= tolerance);
                assert!(tie, "{}: {e:?} {f:?}", plan.name);
            }
        }
        _ => panic!("{}: outputs of two kinds", plan.name),
    }
}
