//! What is changed, and how a program finds the changed kernel.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;

/// tests/cases/mutants.toml
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    #[serde(default)]
    pub edit: Vec<Edit>,
    #[serde(default)]
    pub survives: Vec<Survivor>,
}

/// A change of one place of a source.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub file: String,
    /// Stands in the file once.
    pub find: String,
    pub replace: String,
}

/// A call that can be lost, and why that is right.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survivor {
    pub file: String,
    /// Of the line.
    pub text: String,
    pub reason: String,
}

pub enum Mutation {
    Loss {
        file: String,
        line: usize,
        text: String,
    },
    Edit(Edit),
}

/// Of kernels/ptx.cuh: what orders others' work with one's own, and nothing else.
const LOSABLE: [&str; 9] = [
    "sync_block(",
    "sync_warp(",
    "sync_named(",
    "cp_async_wait<",
    "mbarrier_wait(",
    "mbarrier_init_fence(",
    "wgmma_fence(",
    "wgmma_wait<",
    "grid_wait(",
];

/// Set where the driver has one kernel's file alone, so that plans of several cannot run.
pub const ALONE: &str = "MUTANT_ALONE";

pub fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// The calls of a source that can be lost.
pub fn losses(file: &str) -> Vec<Mutation> {
    let text = std::fs::read_to_string(kernels().join(file)).expect("a kernel");
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let calls = |line: &str| {
        LOSABLE
            .iter()
            .any(|call| code(line).contains(&format!("ptx::{call}")))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| calls(line));
    lines
        .map(|(i, line)| Mutation::Loss {
            file: file.into(),
            line: i + 1,
            text: line.trim().into(),
        })
        .collect()
}

pub fn name(mutation: &Mutation) -> String {
    match mutation {
        Mutation::Loss { file, line, text } => format!("{file}:{line} lost: {text}"),
        Mutation::Edit(e) => format!("{}: `{}` for `{}`", e.file, e.replace, e.find),
    }
}

pub fn survives<'a>(mutation: &Mutation, survivors: &[&'a Survivor]) -> Option<&'a Survivor> {
    let Mutation::Loss { file, text, .. } = mutation else {
        return None;
    };
    survivors
        .iter()
        .find(|s| s.file == *file && text.contains(&s.text))
        .copied()
}

/// What makes a program find the mutant.
pub fn environment(
    base: &[(String, OsString)],
    unit: &str,
    mutation: &Mutation,
) -> Vec<(String, OsString)> {
    let mut environment = base.to_vec();
    match mutation {
        Mutation::Loss { file, line, .. } => {
            environment.push(("SIMT_DROP".into(), format!("{file}:{line}").into()));
        }
        Mutation::Edit(edit) => {
            let search = environment
                .iter_mut()
                .find(|(name, _)| name == "LD_LIBRARY_PATH");
            let (_, path) = search.expect("the base finds its driver");
            let mut first = build(unit, edit).into_os_string();
            first.push(":");
            first.push(&path);
            *path = first;
            environment.push((ALONE.into(), "1".into()));
        }
    }
    environment
}

/// No change: that mutants fail means something only if the kernel alone, built in the same way, does not.
pub fn nothing(unit: &str) -> Mutation {
    let text = std::fs::read_to_string(kernels().join(unit)).expect("a kernel");
    let title = text.lines().next().expect("a first line").to_owned();
    Mutation::Edit(Edit {
        file: unit.into(),
        find: title.clone(),
        replace: title,
    })
}

/// The emulator with one kernel, changed. The other objects are those of the unchanged emulator.
fn build(unit: &str, edit: &Edit) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let simt = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../simt");
    let folder = simt.join(format!("mutants/{unit}-{number}"));
    let _ = std::fs::remove_dir_all(&folder); // of an earlier run
    let (sources, objects) = (folder.join("kernels"), folder.join("objects"));
    std::fs::create_dir_all(&sources).expect("a folder");
    std::fs::create_dir_all(&objects).expect("a folder");
    for entry in std::fs::read_dir(kernels()).expect("kernels/") {
        let path = entry.expect("kernels/").path();
        let name = path.file_name().expect("a name").to_owned();
        std::fs::copy(&path, sources.join(&name)).expect("copied");
    }
    let changed = sources.join(&edit.file);
    let text = std::fs::read_to_string(&changed).expect("the file of an edit");
    let places = text.matches(&edit.find).count();
    assert_eq!(
        places, 1,
        "{}: `{}` stands there {places} times",
        edit.file, edit.find
    );
    std::fs::write(&changed, text.replace(&edit.find, &edit.replace)).expect("written");
    // No probe is in bf16, whose code is f16's.
    let entries = sources.join(unit);
    let text = std::fs::read_to_string(&entries).expect("the unit");
    let kept = text
        .lines()
        .filter(|l| !(l.starts_with("ENTRY(") && l.contains("bf16")));
    std::fs::write(&entries, kept.collect::<Vec<_>>().join("\n")).expect("written");
    // Linked, so that they are as old as they are.
    let plain = simt.join("plain");
    for entry in std::fs::read_dir(plain.join("objects")).expect("the emulator is built") {
        let path = entry.expect("objects").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if !name.contains(".cu.") {
            std::fs::hard_link(&path, objects.join(name)).expect("linked");
        }
    }
    std::fs::copy(plain.join("settings"), folder.join("settings")).expect("copied");
    let output = Command::new("bash")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simt/build"))
        .arg(&folder)
        .arg(sources.join(unit))
        .env("SIMT_KERNELS", &sources)
        .output()
        .expect("bash starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`{}` does not compile:\n{said}",
        edit.replace
    );
    folder
}
