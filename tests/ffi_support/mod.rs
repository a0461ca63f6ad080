//! Builds libcollage as a C program's author would, and C and C++ programs against it.
//!
//! Cargo builds the library beside this test's own artifacts, so what they share is built once. Without a C compiler a claim
//! is skipped, which in CI is a failure. A program that has this module has `mod skip` too.

#![allow(dead_code)] // Each test program uses a part of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::skip;

/// How a program is built and run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Plain,
    /// With AddressSanitizer, its leak check, and UndefinedBehaviorSanitizer; all of them end the program.
    Sanitized,
    Valgrind,
}

/// The library's folder: libcollage.so and libcollage.a, built once in the life of this process.
pub fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // .../target/PROFILE/deps/this-program
        let program = std::env::current_exe().expect("this program has a path");
        let folder = program.ancestors().nth(2).expect("in a target folder");
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(other) => other,
        };
        let target = folder.parent().expect("in a target folder");
        let output = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["rustc", "--quiet", "--lib", "--features", "capi"])
            .args(["--crate-type", "cdylib,staticlib", "--profile", profile])
            .arg("--target-dir")
            .arg(target)
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        folder.to_owned()
    })
}

/// A compiler that is there: `$CC` or `cc`, `$CXX` or `c++`. `None` counts `claim` as skipped.
pub fn compiler(is_cpp: bool, claim: &str) -> Option<OsString> {
    if !cfg!(target_os = "linux") {
        skip::skip(claim, "the C programs' tests are for Linux");
        return None;
    }
    let (variable, otherwise) = if is_cpp { ("CXX", "c++") } else { ("CC", "cc") };
    let name = std::env::var_os(variable).unwrap_or_else(|| otherwise.into());
    if Command::new(&name).arg("--version").output().is_err() {
        skip::skip(claim, &format!("no compiler {}", name.to_string_lossy()));
        return None;
    }
    Some(name)
}

/// Compiles a program of this package, `path` from its root, with all warnings as errors; `None` where there is no compiler.
pub fn compile(path: &str, standard: &str, run: Run, extra: &[&str]) -> Option<PathBuf> {
    let is_cpp = path.ends_with(".cpp");
    let compiler = compiler(is_cpp, path)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = format!(
        "{}-{standard}-{run:?}-{}",
        path.replace('/', "-"),
        extra.len()
    );
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = Command::new(compiler);
    command
        .arg(format!("-std={standard}"))
        .args(["-g", "-Wall", "-Wextra", "-pedantic", "-Werror"])
        .arg("-I")
        .arg(root.join("include"))
        .arg(root.join(path))
        .arg("-o")
        .arg(&program);
    if run == Run::Sanitized {
        command.args([
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
        ]);
    }
    if extra.is_empty() {
        let folder = library();
        command
            .arg("-L")
            .arg(folder)
            .arg("-lcollage")
            .arg(format!("-Wl,-rpath,{}", folder.display()));
    }
    command.args(extra).args(["-lm", "-lpthread"]);
    succeed(&mut command);
    // The program asks for the library by its SONAME, as an installed one is found.
    let soname = library().join("libcollage.so.0");
    if !soname.exists() {
        let _ = std::os::unix::fs::symlink("libcollage.so", soname); // another test may have been first
    }
    Some(program)
}

/// The command that runs a compiled program.
pub fn command(program: &Path, run: Run) -> Command {
    if run != Run::Valgrind {
        let mut command = Command::new(program);
        command.env("ASAN_OPTIONS", "detect_leaks=1");
        // What a graphics driver leaks when it is looked at is not for these programs to answer for.
        command.env("VK_DRIVER_FILES", "/nonexistent");
        command.env("VK_ICD_FILENAMES", "/nonexistent");
        return command;
    }
    let mut command = valgrind();
    // Tables in static memory are "possibly lost" where only their middle is pointed to.
    command.args(["--quiet", "--error-exitcode=9", "--leak-check=full"]);
    command.args([
        "--errors-for-leak-kinds=definite",
        "--show-leak-kinds=definite",
    ]);
    command.arg(program);
    command
}

/// The system's, or the one that tests/run has fetched: `COLLAGE_TEST_VALGRIND`, a program and its arguments.
fn valgrind() -> Command {
    let given = std::env::var("COLLAGE_TEST_VALGRIND").unwrap_or_else(|_| "valgrind".to_owned());
    let mut words = given.split(' ');
    let mut command = Command::new(words.next().unwrap_or("valgrind"));
    command.args(words);
    command
}

/// Whether valgrind is there; counts `claim` as skipped otherwise.
pub fn has_valgrind(claim: &str) -> bool {
    let found = valgrind().arg("--version").output().is_ok();
    if !found {
        skip::skip(claim, "no valgrind (Debian's package of that name)");
    }
    found
}

/// Runs it and gives what it wrote; a failure shows all of it.
pub fn succeed(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it can be started");
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(status.success(), "{command:?}: {status}\n{out}\n{err}");
    out
}
