//! What NVIDIA's compiler makes of every kernel, without a GPU: each compiles for every architecture that it claims, none
//! spills, and none takes more registers than let as many blocks reside as its entry asks for.
//!
//! Needs NVRTC (pip install nvidia-cuda-nvrtc); without it the claims count as skipped. What is compiled is kept under
//! target/, so that a second run compiles what has changed.
#![cfg(feature = "cuda")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use collage::backend::BackendError;
use collage::backend::cuda::cache::Entry;
use collage::backend::cuda::kernels::{KERNELS, Source};
use collage::backend::cuda::{self, Architecture, Usage};
use collage::tensor::DType;

mod skip;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cubins")
}

/// Of every kernel on every architecture, compiled once for all claims; `None` counts as skipped.
fn usages(test: &str) -> Option<&'static [Usage]> {
    static COMPILED: OnceLock<Result<Vec<Usage>, BackendError>> = OnceLock::new();
    match COMPILED.get_or_init(|| cuda::compile_all(&Architecture::ALL, Some(&kept()))) {
        Ok(usages) => Some(usages),
        Err(e @ BackendError::NoCompiler { .. }) => {
            skip::skip(test, &e.to_string());
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn every_kernel_compiles_for_every_architecture_that_it_claims() {
    let Some(usages) = usages("every kernel compiles") else {
        return;
    };
    let mut failures = Vec::new();
    let mut most: BTreeMap<&str, u32> = BTreeMap::new();
    for architecture in Architecture::ALL {
        for kernel in KERNELS.iter().filter(|k| k.source.runs_on(architecture)) {
            let ours = |u: &&Usage| u.entry == kernel.entry && u.architecture == architecture;
            let found: Vec<&Usage> = usages.iter().filter(ours).collect();
            let [usage] = found[..] else {
                failures.push(format!(
                    "{architecture} {}: found {}",
                    kernel.entry,
                    found.len()
                ));
                continue;
            };
            let spilled = usage.spill_loads + usage.spill_stores;
            let within = 1..=kernel.registers();
            if spilled > 0 || !within.contains(&usage.registers) || usage.shared_bytes > 0 {
                failures.push(format!("{architecture} {}: {usage:?}", kernel.entry));
            }
            let most = most.entry(kernel.entry).or_default();
            *most = usage.registers.max(*most);
        }
    }
    let mut table = String::from("registers, the most on any architecture:");
    for kernel in KERNELS {
        let used = most.get(kernel.entry).copied().unwrap_or(0);
        table += &format!(" {} {used}/{},", kernel.entry, kernel.registers());
    }
    skip::report(table.trim_end_matches(','));
    skip::report(&format!(
        "cuda: {} entries for {} architectures compile without spills",
        usages.len(),
        Architecture::ALL.len()
    ));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_op_has_a_kernel_of_every_type_on_every_architecture() {
    let ops = [
        Source::Encode,
        Source::Conv2dTiled,
        Source::MaxPool2d,
        Source::AvgPool2d,
        Source::Linear,
        Source::TopK,
    ];
    for architecture in Architecture::ALL {
        for source in ops {
            for dtype in DType::ALL {
                let there = KERNELS.iter().any(|k| {
                    k.source == source && k.dtype == dtype && source.runs_on(architecture)
                });
                assert!(there, "{source:?} {dtype} {architecture}");
            }
        }
    }
}

#[test]
fn damaged_files_are_compiled_anew() {
    let architecture: Architecture = "90a".parse().expect("one of ours");
    if usages("damaged files are compiled anew").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(kept())
        .expect("compiled before")
        .flatten()
    {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.contains("sm_90a") {
            std::fs::copy(file.path(), folder.path().join(name)).expect("copies");
        }
    }
    let victim = std::fs::read_dir(folder.path())
        .expect("a folder")
        .flatten()
        .map(|file| file.path())
        .find(|path| path.to_string_lossy().contains("top_k-f32"))
        .expect("top_k is compiled");
    let read = || Entry::from_bytes(&std::fs::read(&victim).expect("reads"));
    let whole = read().expect("a whole entry");
    let bytes = whole.to_bytes();
    std::fs::write(&victim, &bytes[..bytes.len() / 2]).expect("writes");
    assert!(read().is_none(), "damaged");
    cuda::compile_all(&[architecture], Some(folder.path())).expect("compiles");
    // The log tells how long it took, so that the files need not be equal.
    let same = read().is_some_and(|again| again.cubin == whole.cubin);
    assert!(same, "the same cubin by the same compiler");
}
