//! include/collage.h says what src/ffi does: structs, constants, functions, statuses, and the page that explains them.
//!
//! The header is written by hand, for its documentation; these claims keep it from drifting away from the Rust side.
#![cfg(target_pointer_width = "64")]

mod skip;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use collage::ffi::types::{CONSTANTS, STRUCTS};
use collage::ffi::{ABI_VERSION, STATUSES};

const HEADER: &str = include_str!("../include/collage.h");

/// The header without its comments.
fn code() -> String {
    let mut code = String::new();
    let mut rest = HEADER;
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").expect("comments end").1;
    }
    code.push_str(rest);
    code
}

/// The Rust type of a C one.
fn rust_type(c: &str) -> &'static str {
    match c {
        "size_t" => "usize",
        "uint32_t" => "u32",
        "int32_t" | "collage_status" => "i32",
        "uint64_t" => "u64",
        "int64_t" => "i64",
        "float" => "f32",
        "double" => "f64",
        "int64_t[4]" => "[i64; 4]",
        "void *" => "*mut c_void",
        "const void *" => "*const c_void",
        "char *" => "*mut c_char",
        "const char *" => "*const c_char",
        "const char **" => "*mut *const c_char",
        "const char *const *" => "*const *const c_char",
        "size_t *" => "*mut usize",
        "collage_callback" => "Callback",
        "void(*)(void *)" => "Release",
        "const collage_score *" => "*const Score",
        "collage_engine *" | "collage_ticket *" => "Handle",
        "collage_engine **" | "collage_ticket **" => "*mut Handle",
        "const collage_options *" => "*const Options",
        "const collage_image *" => "*const Picture",
        "collage_image *" => "*mut Picture",
        "const collage_request *" => "*const Request",
        "collage_answer *" => "*mut Answer",
        "collage_stats *" => "*mut Stats",
        "collage_worker_stats *" => "*mut WorkerStats",
        other => panic!("the header uses a type that this test does not know: {other}"),
    }
}

/// A declaration such as `const char *name` or `int64_t shape[4]`: its name and its type.
fn declared(text: &str) -> (String, String) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((_, rest)) = text.split_once("(*") {
        let name = rest.split_once(')').expect("a pointer to a function").0;
        return (name.to_owned(), "void(*)(void *)".to_owned());
    }
    let (text, array) = match text.split_once('[') {
        Some((text, size)) => (text, format!("[{size}")),
        None => (text.as_str(), String::new()),
    };
    let at = text.rfind([' ', '*']).expect("a type and a name") + 1;
    (
        text[at..].to_owned(),
        format!("{}{array}", text[..at].trim()),
    )
}

/// The fields of `typedef struct NAME { ... } NAME;`.
fn fields(code: &str, name: &str) -> Vec<(String, String)> {
    let (_, body) = code
        .split_once(&format!("typedef struct {name} {{"))
        .unwrap_or_else(|| panic!("the header has no {name}"));
    let body = body.split_once('}').expect("it ends").0;
    let fields = body.split(';').map(str::trim).filter(|f| !f.is_empty());
    fields.map(declared).collect()
}

#[test]
fn structs_have_the_same_fields_in_the_same_order() {
    let code = code();
    for (name, _, expected) in STRUCTS {
        let in_header: Vec<_> = fields(&code, name)
            .into_iter()
            .map(|(field, c)| (field, rust_type(&c)))
            .collect();
        let in_rust: Vec<_> = expected
            .iter()
            .map(|(field, rust, _)| (field.trim_start_matches("r#").to_owned(), *rust))
            .collect();
        assert_eq!(in_header, in_rust, "{name}");
    }
}

/// Sizes, offsets and constants as the C compiler has them.
#[test]
fn a_c_compiler_lays_them_out_as_rust_does() {
    let mut c = String::from("#include <collage.h>\n");
    let mut says = |what: String, is: i64| {
        writeln!(c, "_Static_assert({what} == {is}, \"{what}\");").expect("a text grows");
    };
    for (name, size, fields) in STRUCTS {
        says(format!("sizeof({name})"), *size as i64);
        for (field, _, offset) in *fields {
            let field = field.trim_start_matches("r#");
            says(format!("offsetof({name}, {field})"), *offset as i64);
        }
    }
    says("sizeof(collage_score)".into(), 16);
    for (name, value) in CONSTANTS {
        says(format!("COLLAGE_{name}"), *value);
    }
    says("COLLAGE_NONE".into(), collage::ffi::types::NONE);
    says("COLLAGE_READY".into(), collage::ffi::types::READY);
    says("COLLAGE_FOREVER".into(), collage::ffi::types::FOREVER);
    says(
        "COLLAGE_NO_TILE".into(),
        i64::from(collage::ffi::types::NO_TILE),
    );
    says("COLLAGE_ABI_VERSION".into(), i64::from(ABI_VERSION));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ffi_layout.c");
    std::fs::write(&file, c).expect("a file of this test");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let output = Command::new(compiler)
        .args(["-std=c11", "-fsyntax-only", include])
        .arg(file)
        .output();
    match output {
        Ok(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => skip::skip(
            "a_c_compiler_lays_them_out_as_rust_does",
            &error.to_string(),
        ),
    }
}

/// `COLLAGE_NAME = value` of all enums.
fn enumerators(code: &str) -> BTreeMap<String, i64> {
    let lists = code.split("enum {").skip(1);
    let entries = lists.flat_map(|list| list.split_once('}').expect("it ends").0.split(','));
    let entry = |entry: &str| {
        let (name, value) = entry.split_once('=').expect("every enumerator has a value");
        let name = name.trim().strip_prefix("COLLAGE_").expect("a prefix");
        (name.to_owned(), value.trim().parse().expect("a number"))
    };
    entries.map(entry).collect()
}

#[test]
fn constants_and_statuses_are_the_same_on_both_sides() {
    let text = |text: &CStr| text.to_str().expect("UTF-8").to_owned();
    let statuses = STATUSES.iter().map(|s| (text(s.name), i64::from(s.number)));
    let constants = CONSTANTS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    let in_rust: BTreeMap<String, i64> = statuses.chain(constants).collect();
    assert_eq!(enumerators(&code()), in_rust);
    assert!(STATUSES.is_sorted_by(|a, b| a.number < b.number));
}

/// Name, parameters and result of each `COLLAGE... name(...);` of the header, in Rust's types.
fn prototypes(code: &str) -> BTreeMap<String, (Vec<&'static str>, &'static str)> {
    let mut all = BTreeMap::new();
    let statements = code.split(';').map(str::trim);
    for statement in statements.filter(|s| s.contains("collage_") && s.ends_with(')')) {
        let statement = statement
            .rsplit_once("\n\n")
            .map_or(statement, |(_, last)| last);
        if statement.contains("typedef") || statement.contains('{') || statement.contains('}') {
            continue;
        }
        let (head, parameters) = statement.split_once('(').expect("it has parameters");
        let (name, result) = declared(head);
        let parameters = parameters.trim_end_matches(')');
        let parameters = parameters.split(',').filter(|p| p.trim() != "void");
        let parameters = parameters.map(|p| rust_type(&declared(p).1)).collect();
        all.insert(name, (parameters, rust_type(&result)));
    }
    all
}

/// The same of every `extern "C" fn` of src/ffi that is exported.
fn exported() -> BTreeMap<String, (Vec<String>, String)> {
    let mut all = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    for entry in std::fs::read_dir(folder).expect("the room is there") {
        let path = entry.expect("readable").path();
        let source = std::fs::read_to_string(path).expect("a file");
        for item in source.split("#[unsafe(no_mangle)]").skip(1) {
            let (_, item) = item.split_once("extern \"C\" fn ").expect("a function");
            let (head, _) = item.split_once('{').expect("it has a body");
            let (name, rest) = head.split_once('(').expect("it has parameters");
            let (parameters, result) = rest.rsplit_once("->").expect("it has a result");
            let parameters = parameters.trim().trim_end_matches(')');
            let of = |p: &str| {
                p.split_once(':')
                    .map(|(_, t)| t.trim().replace("types::", ""))
            };
            let parameters = parameters.split(',').filter_map(of).collect();
            all.insert(name.to_owned(), (parameters, result.trim().to_owned()));
        }
    }
    all
}

#[test]
fn functions_are_the_same_on_both_sides() {
    let in_header: BTreeMap<_, _> = prototypes(&code())
        .into_iter()
        .map(|(name, (parameters, result))| {
            let parameters: Vec<String> = parameters.into_iter().map(str::to_owned).collect();
            (name, (parameters, result.to_owned()))
        })
        .collect();
    assert!(in_header.len() > 20, "{in_header:?}");
    assert_eq!(in_header, exported());
}

/// Every number that some error's `code` gives has an entry: they are written as arms `=> 123,` and, of errors with one
/// cause, as a body `123`.
#[test]
fn every_error_of_the_crate_has_a_status() {
    fn rust_files(folder: &Path, out: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                rust_files(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let mut files = Vec::new();
    rust_files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let mut seen = 0;
    for path in files {
        let source = std::fs::read_to_string(&path).expect("a file");
        for (_, body) in source
            .split("fn code(&self) -> u32 {")
            .skip(1)
            .map(|b| ((), b))
        {
            let body = body.split("fn can_retry").next().expect("there is one");
            let numbers = body
                .split(|c: char| !c.is_ascii_digit())
                .filter(|n| n.len() == 3);
            for number in numbers.filter_map(|n| n.parse::<i32>().ok()) {
                seen += 1;
                assert!(
                    STATUSES.iter().any(|s| s.number == number),
                    "{}: {number} is in no row of src/ffi/status.rs",
                    path.display()
                );
            }
        }
    }
    assert!(seen > 80, "found only {seen} numbers");
}

#[test]
fn the_page_explains_every_status() {
    let page = include_str!("../docs/c.md");
    for status in STATUSES.iter() {
        let [name, meaning] = [status.name, status.meaning].map(|t| t.to_str().expect("UTF-8"));
        let row = format!("| {} | `COLLAGE_{name}` | {meaning} |", status.number);
        assert!(page.contains(&row), "docs/c.md lacks the row\n{row}");
    }
    let rows = page
        .lines()
        .filter(|line| line.contains("| `COLLAGE_"))
        .count();
    assert_eq!(rows, STATUSES.len(), "docs/c.md has rows of no status");
}

/// What cargo-c installs is named by the binary interface, as build.rs names what cargo alone builds.
#[test]
fn the_installed_library_is_named_by_its_abi() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("TOML");
    let capi = &manifest["package"]["metadata"]["capi"];
    let version = capi["library"]["version"].as_str().expect("a text");
    let (major, minor) = (ABI_VERSION >> 16, ABI_VERSION & 0xffff);
    assert_eq!(version, format!("{major}.{minor}.0"));
    assert_eq!(
        capi["library"]["version_suffix_components"].as_integer(),
        Some(1)
    );
    let soname = format!("-soname,libcollage.so.{major}\"");
    assert!(include_str!("../build.rs").contains(&soname));
}
