//! What the tests of the command line share: running the real binary, and reading what it wrote.

#![allow(dead_code)] // Each test program uses a part of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The binary under test, without settings of this machine's user.
pub fn collage(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collage"));
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("COLLAGE_")) {
        command.env_remove(name);
    }
    command
        .env_remove("RUST_LOG")
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// What a shell makes of a command line that the binary printed.
pub fn repeated(line: &str) -> Command {
    let words = shlex::split(line).expect("quotes that close");
    let (program, arguments) = words.split_first().expect("a command");
    assert_eq!(program, "collage");
    collage(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Output {
    collage(arguments).output().expect("the binary starts")
}

/// Runs it, expects success and gives its standard output.
pub fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text is UTF-8")
}

/// Runs it with `--json`, expects success, and that standard output is one object of the documented schema.
pub fn json(arguments: &[&str]) -> Value {
    let document: Value =
        serde_json::from_str(&text(&[&["--json"], arguments].concat())).expect("one JSON document");
    assert_eq!(document["schema"], 1, "{document}");
    assert_eq!(document["command"], arguments[0], "{document}");
    document
}

/// Runs it, expects this exit status and nothing on standard output, and gives its standard error.
pub fn failure(arguments: &[&str], status: i32) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
    assert!(
        output.stdout.is_empty(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// A file of the package.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A count as cards write it: 4626 as 4,626.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// The card of a shipped model.
pub fn card(name: &str) -> String {
    std::fs::read_to_string(shipped(&format!("weights/{name}.md"))).expect("the card")
}

/// The figures of one grid in its table, by column; the first, the grid's own, is NaN.
pub fn card_row(name: &str, grid: &str) -> Vec<f64> {
    let card = card(name);
    let row = card
        .lines()
        .find_map(|line| line.strip_prefix(&format!("| {grid} |")))
        .expect("a row of that grid");
    let figures = row.trim_end_matches('|').split('|');
    std::iter::once(f64::NAN)
        .chain(figures.map(|cell| cell.trim().parse().expect("a number")))
        .collect()
}

/// The held-out digits as PNG files: (path, label), the first `count` of the data set's own order.
pub fn digits(folder: &Path, count: usize) -> Vec<(String, u32)> {
    let set = collage::embedded::held_out().expect("the embedded digits open");
    (0..count)
        .map(|i| {
            let (digit, label) = (
                set.image(i).expect("a digit"),
                set.label(i).expect("a label"),
            );
            let path = folder.join(format!("{i}.png"));
            image::save_buffer(
                &path,
                digit.pixels(),
                digit.width() as u32,
                digit.height() as u32,
                image::ExtendedColorType::Rgb8,
            )
            .expect("a file in a temporary folder");
            (path.display().to_string(), label)
        })
        .collect()
}
