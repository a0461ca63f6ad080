//! Who may import whom: the architecture of `src/lib.rs`, enforced.
//!
//! A room is a top module. Each may name only the rooms that [`ROOMS`] grants it; some external crates have one home;
//! `unsafe` lives in few files, each use with its reason; the scheduler has no clock, no thread and no I/O.

mod source;

use std::path::Path;

use source::Source;

/// Room, and what it may import. `model::plan` is that module alone; `*` is everything. Of models a backend sees
/// plans and what makes a plan sound, never files or layers.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("tensor", &["error"]),
    ("image", &["error"]),
    ("model", &["tensor", "error"]),
    (
        "backend",
        &["model::plan", "model::check", "tensor", "image", "error"],
    ),
    ("sched", &["error"]),
    ("straggler", &["error"]),
    (
        "host",
        &["sched", "straggler", "backend", "model", "image", "error"],
    ),
    ("attach", &["host", "sched", "error"]),
    (
        "engine",
        &[
            "attach",
            "host",
            "sched",
            "straggler",
            "backend",
            "model",
            "image",
            "error",
        ],
    ),
    ("config", &["engine", "sched", "backend", "model", "error"]),
    ("dataset", &["image", "error"]),
    ("embedded", &["dataset", "model", "image", "error"]),
    ("sim", &["sched", "straggler", "error"]),
    // Over the engine; the settings open its models and devices, and what a C program gives becomes models and images.
    (
        "ffi",
        &["engine", "config", "model", "embedded", "image", "error"],
    ),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// External crates, and the only places that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("cudarc", &["src/backend/cuda"]),
    ("wgpu", &["src/backend/webgpu"]),
    ("nvml_wrapper", &["src/host/telemetry/nvml"]),
    ("rustix", &["src/attach", "src/cli"]),
    ("tokio", &["src/host", "src/engine", "src/main", "src/cli"]),
];

/// Where `unsafe` may be written, each use with a SAFETY reason.
const UNSAFE_HOMES: &[&str] = &[
    "src/ffi",
    "src/backend/cuda/raw",
    "src/backend/webgpu/raw",
    "src/backend/cpu/simd",
    "src/model/mmap",
];

/// The scheduler is driven from outside: what it may not name, and the pure crates that it may.
const SCHED_BANNED: &[&str] = &[
    "std::thread",
    "std::net",
    "std::fs",
    "std::io",
    "std::process",
    "std::env",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
];
const SCHED_CRATES: &[&str] = &["thiserror", "serde"];

/// A broken rule.
#[derive(Debug)]
struct Finding {
    file: String,
    line: usize,
    what: String,
}

fn check(source: &Source, dependencies: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |line, what| {
        findings.push(Finding {
            file: source.file.clone(),
            line,
            what,
        })
    };
    if !source
        .lines
        .first()
        .is_some_and(|line| line.starts_with("//!"))
    {
        report(
            1,
            "does not open with `//!`: what it is, why it exists, what it keeps true".into(),
        );
    }
    check_rooms(source, &mut report);
    check_homes(source, &mut report);
    check_unsafe(source, &mut report);
    if source.room() == "sched" {
        check_sched(source, dependencies, &mut report);
    }
    findings
}

fn check_rooms(source: &Source, report: &mut impl FnMut(usize, String)) {
    let room = source.room();
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        report(
            1,
            format!("room {room} is not in the table of tests/layers: say what it may import"),
        );
        return;
    };
    for path in &source.paths {
        let Some(("crate", inside)) = path
            .segments
            .split_first()
            .map(|(first, rest)| (first.as_str(), rest))
        else {
            continue;
        };
        let Some(reached) = inside
            .first()
            .filter(|name| ROOMS.iter().any(|(room, _)| room == name))
        else {
            continue; // an item of the crate's root
        };
        let grants = |grant: &str| grant == "*" || begins(inside, grant);
        if reached != room && !allowed.iter().any(|grant| grants(grant)) {
            report(
                path.line,
                format!("{room} must not import {}", inside.join("::")),
            );
        }
    }
}

/// Whether `prefix`, such as `std::thread`, is where `path` begins.
fn begins(path: &[String], prefix: &str) -> bool {
    let mut segments = path.iter();
    prefix
        .split("::")
        .all(|part| segments.next().is_some_and(|s| s == part))
}

fn check_homes(source: &Source, report: &mut impl FnMut(usize, String)) {
    for path in &source.paths {
        for (name, homes) in HOMES {
            let at_home = homes.iter().any(|home| source.file.starts_with(home));
            if path.segments.first().is_some_and(|first| first == name) && !at_home {
                report(path.line, format!("{name} belongs in {}", homes.join(", ")));
            }
        }
    }
}

fn check_unsafe(source: &Source, report: &mut impl FnMut(usize, String)) {
    for token in source.tokens.iter().filter(|t| t.text == "unsafe") {
        if !UNSAFE_HOMES
            .iter()
            .any(|home| source.file.starts_with(home))
        {
            report(token.line, "unsafe outside its homes".into());
        } else if !has_reason(&source.lines, token.line) {
            report(
                token.line,
                "unsafe without a `// SAFETY:` reason above it".into(),
            );
        }
    }
}

/// On the line itself, or in the comment and attribute lines right above it.
fn has_reason(lines: &[String], line: usize) -> bool {
    let says = |text: &str| text.contains("// SAFETY:") || text.contains("/// # Safety");
    let above = lines[..line - 1].iter().rev().map(|text| text.trim_start());
    let above = above.take_while(|text| text.starts_with("//") || text.starts_with("#["));
    says(&lines[line - 1]) || above.into_iter().any(says)
}

fn check_sched(source: &Source, dependencies: &[String], report: &mut impl FnMut(usize, String)) {
    for path in &source.paths {
        if let Some(banned) = SCHED_BANNED
            .iter()
            .find(|banned| begins(&path.segments, banned))
        {
            report(path.line, format!("the scheduler must not name {banned}"));
        }
        let first = path.segments.first().map_or("", String::as_str);
        if dependencies.iter().any(|d| d == first) && !SCHED_CRATES.contains(&first) {
            report(
                path.line,
                format!("the scheduler must not use the crate {first}"),
            );
        }
    }
}

/// The crates of `[dependencies]`, as Rust names them.
fn dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let table = manifest["dependencies"]
        .as_table()
        .expect("[dependencies] is a table");
    table.keys().map(|name| name.replace('-', "_")).collect()
}

fn rust_files(folder: &Path, out: &mut Vec<std::path::PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|entry| entry.expect("a readable entry").path()) {
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_room_keeps_to_its_imports() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml");
    let dependencies = dependencies(&manifest);
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    assert!(
        files.len() > 5,
        "found only {} files under src",
        files.len()
    );
    files.sort();
    let findings = files.iter().flat_map(|path| {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path
            .strip_prefix(root)
            .expect("it was found there")
            .to_string_lossy()
            .replace('\\', "/");
        check(&Source::read(&name, &text), &dependencies)
    });
    let lines: Vec<String> = findings
        .map(|f| format!("{}:{}: {}", f.file, f.line, f.what))
        .collect();
    assert!(
        lines.is_empty(),
        "{} broken rules\n{}",
        lines.len(),
        lines.join("\n")
    );
}

/// What the checker says of one file.
fn found(file: &str, code: &str) -> Vec<String> {
    let text = format!("//! A file.\n{code}\n");
    let dependencies = ["tokio", "rayon", "thiserror"].map(str::to_owned);
    check(&Source::read(file, &text), &dependencies)
        .into_iter()
        .map(|f| format!("{}: {}", f.line, f.what))
        .collect()
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    let expected = ["2: model must not import backend::cpu"];
    for code in [
        "use crate::backend::cpu;",
        "use crate::{tensor::{Tensor, DType}, backend::cpu};",
        "use crate::{tensor, backend::{cpu}};",
        "use crate::backend::cpu as c;",
        "fn f() { crate::backend::cpu(); }",
        "type T = Vec<crate::backend::cpu>;",
        "use super::super::backend::cpu;",
        "mod inner { use super::super::super::backend::cpu; }",
        "fn f() { if a { b } use super::super::backend::cpu; }",
    ] {
        assert_eq!(found("src/model/weights.rs", code), expected, "{code}");
    }
    assert_eq!(
        found("src/model/mod.rs", "use super::backend::cpu;"),
        expected
    );
    assert_eq!(
        found("src/model/mod.rs", "use {std::fmt, crate::backend::cpu};"),
        expected
    );
}

#[test]
fn only_the_granted_part_of_a_room_may_be_imported() {
    assert!(
        found(
            "src/backend/mod.rs",
            "use crate::model::plan::{Plan, Step};"
        )
        .is_empty()
    );
    assert_eq!(
        found("src/backend/mod.rs", "use crate::model::Model;"),
        ["2: backend must not import model::Model"]
    );
    assert_eq!(
        found(
            "src/backend/cpu/mod.rs",
            "use crate::model::{plan::Plan, weights::load};"
        ),
        ["2: backend must not import model::weights::load"]
    );
    assert_eq!(
        found("src/backend/mod.rs", "use crate::model;"),
        ["2: backend must not import model"]
    );
}

#[test]
fn comments_strings_and_own_modules_are_not_imports() {
    for code in [
        "// use crate::host;",
        "/* crate::host /* nested */ crate::host */",
        "/// As [`crate::host::Host`].\nfn f() {}",
        "const S: &str = \"crate::host \\\" crate::host\";",
        "const S: &str = r#\"crate::host \" crate::host\"#;",
        "const C: char = '\"'; const D: &str = \"crate::host\";",
        "use super::plan::Plan; use self::inner::X; pub(crate) fn f() {}",
        "mod tests { use super::*; use super::super::plan; }",
        "fn f<'a>(x: &'a str) -> &'a str { x }",
    ] {
        assert_eq!(
            found("src/model/weights.rs", code),
            Vec::<String>::new(),
            "{code}"
        );
    }
}

#[test]
fn a_room_without_an_entry_is_found() {
    let expected = "1: room utils is not in the table of tests/layers: say what it may import";
    assert_eq!(found("src/utils.rs", ""), [expected]);
}

#[test]
fn a_crate_away_from_home_is_found() {
    assert_eq!(
        found("src/host/mod.rs", "use wgpu::Device;"),
        ["2: wgpu belongs in src/backend/webgpu"]
    );
    assert_eq!(
        found("src/host/mod.rs", "use wgpu;"),
        ["2: wgpu belongs in src/backend/webgpu"]
    );
    assert_eq!(
        found("src/engine.rs", "fn f(d: cudarc::driver::X) {}"),
        ["2: cudarc belongs in src/backend/cuda"]
    );
    assert_eq!(
        found("src/backend/mod.rs", "use nvml_wrapper::Nvml;"),
        ["2: nvml_wrapper belongs in src/host/telemetry/nvml"]
    );
    assert_eq!(found("src/model/mod.rs", "use tokio::fs;").len(), 1);
    assert!(found("src/backend/webgpu/mod.rs", "use wgpu::Device;").is_empty());
    assert!(found("src/cli/devices.rs", "use crate::backend::wgpu::X;").is_empty());
}

#[test]
fn unsafe_needs_a_home_and_a_reason() {
    let block = "fn f(p: *const u8) -> u8 { unsafe { *p } }";
    assert_eq!(
        found("src/backend/cpu/mod.rs", block),
        ["2: unsafe outside its homes"]
    );
    assert_eq!(
        found("src/backend/cpu/simd.rs", block),
        ["2: unsafe without a `// SAFETY:` reason above it"]
    );
    let reason = format!("// SAFETY: p comes from a reference.\n#[inline]\n{block}");
    assert!(found("src/backend/cpu/simd/avx512.rs", &reason).is_empty());
    assert!(found("src/backend/cpu/simd.rs", "#![deny(unsafe_code)]").is_empty());
}

#[test]
fn the_scheduler_has_no_clock_no_thread_and_no_io() {
    for (code, what) in [
        ("use std::thread;", "name std::thread"),
        ("use std::{fs::File, collections::HashMap};", "name std::fs"),
        (
            "fn f() { std::time::Instant::now(); }",
            "name std::time::Instant",
        ),
        (
            "use std::time::{Duration, SystemTime};",
            "name std::time::SystemTime",
        ),
        ("use std::sync::mpsc::channel;", "name std::sync::mpsc"),
        ("use rayon::prelude::*;", "use the crate rayon"),
    ] {
        assert_eq!(
            found("src/sched/queue.rs", code),
            [format!("2: the scheduler must not {what}")],
            "{code}"
        );
    }
    assert!(
        found(
            "src/sched/mod.rs",
            "use std::time::Duration; use std::fmt; use thiserror::Error;"
        )
        .is_empty()
    );
    assert!(found("src/host/mod.rs", "use std::thread;").is_empty());
}

#[test]
fn a_file_without_its_opening_line_is_found() {
    let findings = check(&Source::read("src/model/mod.rs", "pub mod plan;\n"), &[]);
    assert_eq!(findings.len(), 1, "{findings:?}");
}
