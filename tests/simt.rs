//! The emulator that the CUDA backend is tested on, held to its own claims before anything else relies on it: fibers,
//! barriers, streams, graphs and faults, and what is asynchronous within a kernel.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

mod skip;

/// Runs one of the programs of tests/simt/check, which prints what does not hold.
fn check(claim: &str, program: &str, options: &[&str]) {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return skip::skip(claim, "it needs a C++20 compiler");
    }
    let folder = if options.is_empty() {
        "core"
    } else {
        "core-sanitized"
    };
    let output = Command::new("bash")
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/simt/check")
                .join(program),
        )
        .args(options)
        .arg(
            Path::new(env!("CARGO_TARGET_TMPDIR"))
                .join("../simt")
                .join(folder),
        )
        .output()
        .expect("bash starts");
    assert!(
        output.status.success(),
        "{program}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn fibers_and_driver_keep_their_claims() {
    check("fibers_and_driver_keep_their_claims", "core", &[]);
}

#[test]
fn fibers_and_driver_keep_their_claims_sanitized() {
    check(
        "fibers_and_driver_keep_their_claims_sanitized",
        "core",
        &["--sanitize"],
    );
}

#[test]
fn asynchronous_functions_keep_their_claims() {
    check("asynchronous_functions_keep_their_claims", "async", &[]);
}
