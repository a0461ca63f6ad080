//! Building the stub `libnvidia-ml.so` (library.rs) and giving it a scenario (scenario.rs).
//!
//! Each [`Stub`] is a file of its own with its scenario beside it: the loader takes two files for two libraries, so tests of
//! one process do not share GPUs.

#![allow(dead_code)] // Each test program uses a part of it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub mod abi;

/// A library that behaves as its scenario says, as long as this lives.
pub struct Stub {
    folder: tempfile::TempDir,
}

impl Stub {
    pub fn new(scenario: &str) -> Stub {
        let folder = tempfile::tempdir().expect("a folder for the stub");
        let stub = Stub { folder };
        std::fs::copy(built(), stub.library()).expect("the stub can be copied");
        let beside = stub.folder.path().join("libnvidia-ml.so.scenario");
        std::fs::write(beside, scenario).expect("the scenario can be written");
        stub
    }

    /// The path of one that stays, the same for the same scenario: for tests whose processes must agree on it.
    pub fn kept(scenario: &str) -> PathBuf {
        let mut hash = DefaultHasher::new();
        (built(), scenario).hash(&mut hash);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("nvml-stub-{:016x}", hash.finish()));
        if !folder.exists() {
            let stub = Stub::new(scenario);
            let new = folder.with_extension(std::process::id().to_string());
            std::fs::create_dir_all(&new).expect("a folder for the stub");
            for file in ["libnvidia-ml.so", "libnvidia-ml.so.scenario"] {
                std::fs::copy(stub.folder.path().join(file), new.join(file))
                    .expect("it can be copied");
            }
            // Another process may have been first: then its folder is as good.
            let _ = std::fs::rename(&new, &folder);
        }
        folder.join("libnvidia-ml.so")
    }

    /// What `COLLAGE_NVML` may name.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libnvidia-ml.so")
    }
}

/// The compiled library: built once for the sources that it has.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvml_stub");
        let mut hash = DefaultHasher::new();
        for file in ["abi.rs", "scenario.rs", "library.rs"] {
            let text = std::fs::read(sources.join(file)).expect("the stub's sources are there");
            text.hash(&mut hash);
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = folder.join(format!("nvml-stub-{:016x}.so", hash.finish()));
        if !file.exists() {
            build(&sources.join("library.rs"), &file);
        }
        file
    })
}

/// Test processes may build it at the same time: each builds in a folder of its own, as rustc leaves parts beside its
/// output, and the last to rename it wins.
fn build(source: &Path, file: &Path) {
    let folder = file.parent().expect("it is in a folder");
    let own = tempfile::tempdir_in(folder).expect("a folder to build in");
    let made = own.path().join("libnvidia-ml.so");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib"])
        .args(["--crate-name", "nvml_stub", "-O", "-C", "panic=abort"])
        .args(["-D", "warnings", "-o"])
        .args([&made, source])
        .output()
        .expect("rustc, which built this test, starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the stub does not compile:\n{said}"
    );
    std::fs::rename(&made, file).expect("the stub can be put in its place");
}
