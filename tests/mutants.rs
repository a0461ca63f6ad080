//! The tests of the CUDA kernels, tested: with any barrier, fence or wait lost, or any index shifted, some case fails.
//!
//! Calls that can be lost are found in the sources, so that none is forgotten; shifted indices are the list in
//! tests/cases/mutants.toml. Each mutant runs on the simulated device (tests/simt) in a process of its own, under one
//! policy after another, until a result is wrong or a launch fails. Calls that may be lost without notice stand in the
//! list too, each with its reason, and must indeed survive: an entry that has become wrong fails as well.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use std::ffi::OsString;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

#[allow(dead_code)] // tests/ops.rs uses all of it
#[path = "ops/case.rs"]
mod case;
mod cuda_support;
#[path = "mutants/mutation.rs"]
mod mutation;
#[path = "mutants/network.rs"]
mod network;
#[path = "mutants/probe.rs"]
mod probe;
mod skip;

use cuda_support::Build;
use mutation::{List, Mutation, Survivor};

macro_rules! mutants_of {
    ($($test:ident $unit:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            every_mutant_fails(stringify!($test), $unit);
        })*

        #[test]
        fn every_kernel_has_its_mutants() {
            let mut files: Vec<String> = std::fs::read_dir(mutation::kernels())
                .expect("kernels/")
                .map(|entry| entry.expect("kernels/").file_name().into_string().expect("a name"))
                .filter(|name| name.ends_with(".cu"))
                .collect();
            files.sort();
            let mut units = vec![$($unit.to_owned()),*];
            units.sort();
            assert_eq!(files, units);
        }
    };
}

mutants_of! {
    mutants_of_encode_fail "encode.cu",
    mutants_of_conv2d_tiled_fail "conv2d_tiled.cu",
    mutants_of_conv2d_mma_fail "conv2d_mma.cu",
    mutants_of_conv2d_stem_fail "conv2d_stem.cu",
    mutants_of_conv2d_wgmma_fail "conv2d_wgmma.cu",
    mutants_of_max_pool2d_fail "max_pool2d.cu",
    mutants_of_avg_pool2d_fail "avg_pool2d.cu",
    mutants_of_linear_fail "linear.cu",
    mutants_of_top_k_fail "top_k.cu",
}

/// In a mutant's process: runs the probes under every policy; ends the process at the first that goes wrong.
const PROBED: &str = "MUTANT_PROBED";

fn every_mutant_fails(test: &str, unit: &str) {
    let suite = probe::SUITES
        .iter()
        .find(|s| s.unit == unit)
        .expect("a suite");
    if std::env::var_os(PROBED).is_some() {
        return probe::probe(suite);
    }
    let list: List = toml::from_str(include_str!("cases/mutants.toml")).expect("mutants.toml");
    let files: Vec<&str> = [unit]
        .into_iter()
        .chain(suite.headers.iter().copied())
        .collect();
    // One multiprocessor, so that blocks which take several turns have several.
    let machine = [("SIMT_SMS", "1")];
    let Some(base) = cuda_support::environment(Build::Plain, test, &machine) else {
        return;
    };
    let run = |environment: &[(String, OsString)]| fails(test, environment);
    assert!(!run(&base), "{unit}: the cases fail without any mutation");
    let alone = mutation::environment(&base, unit, &mutation::nothing(unit));
    assert!(
        !run(&alone),
        "{unit}: the cases fail where it is built alone"
    );

    let mut mutations: Vec<Mutation> = files
        .iter()
        .flat_map(|file| mutation::losses(file))
        .collect();
    let edits = list
        .edit
        .iter()
        .filter(|e| files.contains(&e.file.as_str()));
    mutations.extend(edits.cloned().map(Mutation::Edit));
    let survivors: Vec<&Survivor> = list
        .survives
        .iter()
        .filter(|s| files.contains(&s.file.as_str()))
        .collect();
    let (next, wrong) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(mutation) = mutations.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (name, survivor) = (
                        mutation::name(mutation),
                        mutation::survives(mutation, &survivors),
                    );
                    let died = run(&mutation::environment(&base, unit, mutation));
                    let complaint = match (died, survivor) {
                        (false, None) => format!("{name}: nothing fails"),
                        (true, Some(s)) => format!("{name}: fails, though \"{}\"", s.reason),
                        _ => continue,
                    };
                    wrong.lock().expect("no thread panics").push(complaint);
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no thread panics");
    skip::report(&format!(
        "mutants of {unit}: {} made, {} right to survive, {} unexplained",
        mutations.len(),
        survivors.len(),
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{unit}:\n  {}", wrong.join("\n  "));
}

/// Whether the probes fail in a process with this environment.
fn fails(test: &str, environment: &[(String, OsString)]) -> bool {
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .envs(environment.iter().cloned())
        .env(PROBED, "1")
        .env("COLLAGE_CUDA_WATCHDOG", "20000")
        .output()
        .expect("this program starts");
    !output.status.success()
}
