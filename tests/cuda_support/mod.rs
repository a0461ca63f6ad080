//! The simulated CUDA driver for tests: building it (tests/simt), and running a test's claim in a process that finds it.
//!
//! A process loads one driver, by the loader's search path, and reads its options once; so a claim about the CUDA backend
//! runs in a process of its own: the same test program, told to run the same test. Without a C++ compiler the claim is
//! skipped, which in CI is a failure. A program that has this module has `mod skip` too.

#![allow(dead_code)] // Each test program uses a part of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::skip;

/// One of the driver's options (tests/simt/README.md): `("SIMT_ORDER", "reverse")`.
pub type Options<'a> = &'a [(&'a str, &'a str)];

/// Which test the process runs, and under which options: set by the process that started it.
const CHILD: &str = "COLLAGE_SIMULATED";

/// Whether the emulator is built with AddressSanitizer and UndefinedBehaviorSanitizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    Plain,
    Sanitized,
}

/// Runs `claim` where the simulated driver is the CUDA driver, in a process of its own. `test` is the calling test's path
/// within its program, as `cargo test` prints it; it may call this several times, with different options.
pub fn simulated(test: &str, options: Options, claim: impl FnOnce()) {
    simulated_by(Build::Plain, test, options, claim);
}

/// As `simulated`, with this build of the driver.
pub fn simulated_by(build: Build, test: &str, options: Options, claim: impl FnOnce()) {
    let id = id(build, test, options);
    match std::env::var(CHILD) {
        Ok(running) if running == id => return claim(),
        Ok(_) => return, // another of this test's calls is what this process is for
        Err(_) => {}
    }
    let Some(variables) = environment(build, test, options) else {
        return;
    };
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args([
            "--exact",
            test,
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .envs(variables)
        .env(CHILD, &id)
        .output()
        .expect("this program starts");
    let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(
        output.status.success(),
        "{id}: {}\n{out}\n{error}",
        output.status
    );
    assert!(out.contains("1 passed"), "{id}: no such test\n{out}");
    // Counts and skips; not what the driver says of calls that it refuses.
    let own =
        |line: &&str| !line.is_empty() && !line.starts_with("simt:") && !line.starts_with(' ');
    error.lines().filter(own).for_each(skip::report);
}

fn id(build: Build, test: &str, options: Options) -> String {
    let options: Vec<String> = options.iter().map(|(n, v)| format!("{n}={v}")).collect();
    format!("{build:?} {test} {}", options.join(" "))
}

/// What makes a program find the simulated driver and compiler, for a test that starts programs itself. `None` where they
/// cannot be built, which counts `claim` as skipped.
pub fn environment(build: Build, claim: &str, options: Options) -> Option<Vec<(String, OsString)>> {
    let built = match folder(build) {
        Ok(built) => built,
        Err(reason) => {
            skip::skip(claim, reason);
            return None;
        }
    };
    let mut variables = vec![
        ("LD_LIBRARY_PATH".into(), search_path(&built.folder)),
        (
            "COLLAGE_NVRTC".into(),
            built.folder.join("libnvrtc.so.13").into(),
        ),
        // Its cubins are of use to nobody else.
        (
            "COLLAGE_CACHE_DIR".into(),
            built.folder.join("cache").into(),
        ),
    ];
    if let Some(runtime) = &built.sanitizer {
        variables.push(("LD_PRELOAD".into(), runtime.into()));
        // What a fiber owned that failed is not freed; and the loader's own memory is not ours to judge.
        variables.push(("ASAN_OPTIONS".into(), "detect_leaks=0".into()));
        variables.push(("UBSAN_OPTIONS".into(), "print_stacktrace=1".into()));
    }
    variables.extend(options.iter().map(|(n, v)| ((*n).into(), (*v).into())));
    Some(variables)
}

fn search_path(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(before) = std::env::var_os("LD_LIBRARY_PATH").filter(|p| !p.is_empty()) {
        path.push(":");
        path.push(before);
    }
    path
}

struct Built {
    folder: PathBuf,
    /// The sanitizer's run-time library, which must be loaded before everything else.
    sanitizer: Option<PathBuf>,
}

/// Builds what has changed, once in the life of this process.
fn folder(build: Build) -> &'static Result<Built, String> {
    static PLAIN: OnceLock<Result<Built, String>> = OnceLock::new();
    static SANITIZED: OnceLock<Result<Built, String>> = OnceLock::new();
    match build {
        Build::Plain => PLAIN.get_or_init(|| make("plain", &[])),
        Build::Sanitized => SANITIZED.get_or_init(|| make("sanitized", &["--sanitize"])),
    }
}

/// Runs tests/simt/build. A missing compiler is an error to tell; one that fails on our sources is a failed test.
fn make(name: &str, options: &[&str]) -> Result<Built, String> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "g++".into());
    if !cfg!(target_os = "linux") {
        return Err("the simulated CUDA driver is for Linux".into());
    }
    if Command::new(&compiler).arg("--version").output().is_err() {
        return Err(format!(
            "the simulated CUDA driver needs a C++20 compiler ({})",
            compiler.to_string_lossy()
        ));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../simt");
    let folder = target.join(name);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simt/build");
    let output = Command::new("bash")
        .arg(script)
        .args(options)
        .arg(&folder)
        .output()
        .map_err(|e| format!("bash: {e}"))?;
    assert!(
        output.status.success(),
        "tests/simt/build: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let sanitizer = (!options.is_empty()).then(|| runtime(&compiler));
    Ok(Built { folder, sanitizer })
}

fn runtime(compiler: &OsString) -> PathBuf {
    let output = Command::new(compiler)
        .arg("-print-file-name=libasan.so")
        .output()
        .expect("the compiler has just run");
    String::from_utf8_lossy(&output.stdout).trim().into()
}
