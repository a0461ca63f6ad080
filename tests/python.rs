//! The Python package: its wheel is made, installed, and its own tests are run from there.
//!
//! The interpreter's environment, with what the tests import, is kept in the cache folder of `tests/run` and made once; the
//! wheel goes to a folder of its own, so that two checkouts may run this at the same time. The library in the wheel is that
//! of the C tests: cargo builds it once for both.

mod ffi_support;
mod skip;

use std::path::{Path, PathBuf};
use std::process::Command;

const CLAIM: &str = "python_package_passes_its_tests_from_its_wheel";

/// What the tests import, and hatchling, which makes the wheel.
const PACKAGES: [&str; 5] = [
    "hatchling==1.33.0",
    "mlcommons-loadgen==6.0.17",
    "mypy>=1.11",
    "numpy>=1.24",
    "pytest>=8",
];

#[test]
fn python_package_passes_its_tests_from_its_wheel() {
    let Some(python) = environment() else { return };
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let made = tempfile::tempdir().expect("a temporary folder");
    let site = install(&python, &package, made.path());
    let mut tests = Command::new(&python);
    tests
        .args([
            "-m",
            "pytest",
            "-q",
            "-rs",
            "--no-header",
            "-p",
            "no:cacheprovider",
        ])
        .arg("--basetemp")
        .arg(made.path().join("pytest"))
        .arg(package.join("tests"))
        .current_dir(made.path())
        .env_remove("COLLAGE_LIBRARY")
        .env("PYTHONPATH", &site)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("COLLAGE_REPOSITORY", env!("CARGO_MANIFEST_DIR"))
        .env("COLLAGE_PROGRAM", env!("CARGO_BIN_EXE_collage"));
    let said = ffi_support::succeed(&mut tests);
    for line in said.lines().filter(|line| line.starts_with("SKIPPED")) {
        skip::skip(CLAIM, line.trim_start_matches("SKIPPED").trim());
    }
    skip::report(&format!(
        "python/tests: {}",
        said.lines().last().unwrap_or_default()
    ));
    let mut types = Command::new(&python);
    types
        .args(["-m", "mypy", "--strict", "--cache-dir"])
        .arg(made.path().join("mypy"))
        .arg(site.join("collage"))
        .current_dir(made.path());
    ffi_support::succeed(&mut types);
}

/// The installed wheel's folder.
fn install(python: &Path, package: &Path, made: &Path) -> PathBuf {
    let pip = |arguments: &[&str]| {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
        command.args(arguments);
        command
    };
    let library = ffi_support::library().join("libcollage.so");
    let mut build = pip(&["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"]);
    build.arg(made).arg(package).env("COLLAGE_LIBRARY", library);
    ffi_support::succeed(&mut build);
    let wheel = std::fs::read_dir(made)
        .expect("the wheel's folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .expect("pip made a wheel");
    let name = wheel.file_name().and_then(|name| name.to_str());
    let expected = format!("collage_inference-{}-py3-none-", env!("CARGO_PKG_VERSION"));
    assert!(name.is_some_and(|n| n.starts_with(&expected)), "{name:?}");
    let site = made.join("site");
    // `--no-deps --no-index`: the package needs nothing.
    let mut install = pip(&["install", "--no-index", "--target"]);
    ffi_support::succeed(install.arg(&site).arg(&wheel));
    site
}

/// The interpreter of the tests' environment; `None` where it cannot be made, which counts as a skip.
fn environment() -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        skip::skip(CLAIM, "the library's tests are for Linux");
        return None;
    }
    let home = cache().join(format!(
        "python-{}",
        PACKAGES.join("-").replace(['=', '>', '.'], "")
    ));
    let python = home.join("bin/python");
    if python.is_file() {
        return Some(python);
    }
    let new = home.with_extension(std::process::id().to_string());
    let made = attempt(Command::new("python3").args(["-m", "venv"]).arg(&new)).and_then(|()| {
        attempt(Command::new(new.join("bin/python")).args([
            "-c",
            "import sys; assert sys.version_info >= (3, 10), sys.version",
        ]))?;
        attempt(
            Command::new(new.join("bin/python"))
                .args([
                    "-m",
                    "pip",
                    "--quiet",
                    "--disable-pip-version-check",
                    "install",
                ])
                .args(PACKAGES),
        )
    });
    if let Err(reason) = made {
        let _ = std::fs::remove_dir_all(&new);
        let reason =
            format!("no python3 from 3.10 on with venv, pip and a package index: {reason}");
        skip::skip(CLAIM, &reason);
        return None;
    }
    // Somebody else may have been first, with the same.
    if std::fs::rename(&new, &home).is_err() {
        let _ = std::fs::remove_dir_all(&new);
    }
    Some(python)
}

fn attempt(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("it failed").to_owned())
}

/// The cache folder of `tests/run`.
fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = variable("COLLAGE_TEST_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let caches = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let caches = caches.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
            caches.map(|caches| caches.join("collage-tests"))
        });
    let folder = folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    std::fs::create_dir_all(&folder).expect("the cache folder can be made");
    folder
}
