//! What NVIDIA's compiler makes of every kernel, without a GPU: each compiles for every architecture that it claims, none
//! spills, none takes more registers than let as many blocks reside as its entry asks for, and each is made of the
//! instructions that it is written for.
//!
//! Needs NVRTC (pip install nvidia-cuda-nvrtc, and COLLAGE_NVRTC where it is not found), and for the last claim cuobjdump and
//! nvdisasm (nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm; COLLAGE_TEST_CUOBJDUMP names the first, the other is beside it);
//! without them the claims count as skipped. What is compiled is kept under target/, so that a second run compiles what has
//! changed.
#![cfg(feature = "cuda")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use collage::backend::BackendError;
use collage::backend::cuda::kernels::{KERNELS, Source};
use collage::backend::cuda::{self, Architecture, Usage};
use collage::tensor::DType;

mod skip;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cubins")
}

/// Of every kernel on every architecture; `None` counts as skipped. Tests in other processes wait for the one that compiles.
fn usages(test: &str) -> Option<Vec<Usage>> {
    std::fs::create_dir_all(kept()).expect("a folder");
    let lock = std::fs::File::create(kept().join("lock")).expect("a file");
    lock.lock().expect("locks");
    match cuda::compile_all(&Architecture::ALL, Some(&kept())) {
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
    let whole = std::fs::read(&victim).expect("reads");
    std::fs::write(&victim, &whole[..whole.len() / 2]).expect("writes");
    cuda::compile_all(&[architecture], Some(folder.path())).expect("compiles");
    let again = std::fs::read(&victim).expect("reads");
    // Not the whole files: the compiler's log says how long it took.
    let cubin = |bytes: &[u8]| cuda::cache::Entry::from_bytes(bytes).expect("whole").cubin;
    assert!(cubin(&again) == cubin(&whole), "not the same cubin");
}

/// Of entries whose names begin so: what their machine code must contain, each of one of these spellings.
const MEANT: [(&str, &[&[&str]]); 10] = [
    (
        "conv2d_mma",
        &[&["HMMA.16816.F32"], &["LDSM.16.M"], &["LDGSTS.E.BYPASS"]],
    ),
    (
        "conv2d_stem",
        &[&["HMMA.16816.F32"], &["LDSM.16.M"], &["LDGSTS.E.BYPASS"]],
    ),
    (
        "conv2d_wgmma_large",
        &[
            &["HGMMA.64x256x16.F32"],
            &["UTMALDG.2D"],
            &["UTMALDG.4D.IM2COL"],
            &["USETMAXREG"],
        ],
    ),
    (
        "conv2d_wgmma_narrow",
        &[
            &["HGMMA.64x256x16.F32"],
            &["UTMALDG.2D"],
            &["UTMALDG.4D.IM2COL"],
            &["USETMAXREG"],
        ],
    ),
    (
        "conv2d_wgmma_wide",
        &[
            &["HGMMA.64x128x16.F32"],
            &["UTMALDG.2D"],
            &["UTMALDG.4D.IM2COL"],
            &["USETMAXREG"],
        ],
    ),
    // sm_100 and later multiply pairs.
    (
        "conv2d_tiled",
        &[
            &["FFMA ", "FFMA2 "],
            &["LDS.128", "LDS.U.128"],
            &["LDG.E.128"],
        ],
    ),
    ("encode", &[&["IMAD "], &["PRMT "]]),
    ("max_pool2d", &[&["LDG.E.128"], &["STG.E.128"]]),
    ("avg_pool2d", &[&["LDG.E.128"], &["SHFL.BFLY"]]),
    ("linear", &[&["LDG.E.128"], &["SHFL.BFLY"]]),
];

#[test]
fn kernels_are_made_of_the_instructions_meant() {
    let test = "kernels are made of the instructions meant";
    let Some(disassembler) = std::env::var_os("COLLAGE_TEST_CUOBJDUMP").map(PathBuf::from) else {
        return skip::skip(test, "COLLAGE_TEST_CUOBJDUMP does not name a cuobjdump");
    };
    if usages(test).is_none() {
        return;
    }
    let (mut failures, mut read) = (Vec::new(), 0);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, file) in newest() {
        let bytes = std::fs::read(file).expect("reads");
        let entry = cuda::cache::Entry::from_bytes(&bytes).expect("whole");
        let cubin = folder.path().join(&name);
        std::fs::write(&cubin, entry.cubin).expect("writes");
        for (kernel, code) in disassemble(&disassembler, &cubin) {
            read += 1;
            // Registers that did not suffice, or arrays that are indexed at run time, would be in local memory.
            if let Some(line) = code
                .lines()
                .find(|l| l.contains(" LDL") || l.contains(" STL"))
            {
                failures.push(format!("{name} {kernel}: {}", line.trim()));
            }
            let (_, meant) = MEANT
                .iter()
                .find(|(prefix, _)| kernel.starts_with(prefix))
                .copied()
                .unwrap_or(("", &[]));
            for spellings in meant {
                if !spellings
                    .iter()
                    .any(|instruction| code.contains(instruction))
                {
                    failures.push(format!("{name} {kernel}: no {spellings:?}"));
                }
            }
        }
    }
    skip::report(&format!(
        "cuda: the machine code of {read} entries is as meant"
    ));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(read >= KERNELS.len(), "{read} entries were read");
}

/// The functions of a cubin, by name.
fn disassemble(disassembler: &Path, cubin: &Path) -> Vec<(String, String)> {
    let mut path = disassembler
        .parent()
        .map(Path::as_os_str)
        .unwrap_or_default()
        .to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = std::process::Command::new(disassembler)
        .arg("--dump-sass")
        .arg(cubin)
        .env("PATH", path) // where it looks for nvdisasm
        .output()
        .expect("cuobjdump starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let functions = text.split("Function : ").skip(1);
    functions
        .filter_map(|f| f.split_once('\n'))
        .map(|(name, code)| (name.trim().to_owned(), code.to_owned()))
        .collect()
}

/// What was compiled last of each unit: a name without its key.
fn newest() -> BTreeMap<String, PathBuf> {
    let files = std::fs::read_dir(kept())
        .expect("compiled before")
        .flatten();
    let mut dated: Vec<_> = files
        .filter(|file| file.file_name() != "lock")
        .map(|file| {
            (
                file.metadata().and_then(|m| m.modified()).expect("a date"),
                file.path(),
            )
        })
        .collect();
    dated.sort();
    let unit = |path: &Path| {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        name.rsplit_once('-')
            .map_or(name.clone(), |(unit, _)| unit.to_owned())
    };
    dated
        .into_iter()
        .map(|(_, path)| (unit(&path), path))
        .collect()
}
