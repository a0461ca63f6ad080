//! What a test does about a thing that this machine may lack: it says so where the counts are made, and fails in CI,
//! where nothing may be missing.

#![allow(dead_code)] // Each test program uses a part of it.

use std::io::Write;
use std::path::{Path, PathBuf};

/// To the real standard error: counts and skips must show even when the test passes.
pub fn report(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a skip, which `tests/run` counts; in CI a skip is a failure.
pub fn skip(claim: &str, reason: &str) {
    report(&format!("SKIPPED {claim}: {reason}"));
    let ci = std::env::var("CI").is_ok_and(|v| !v.is_empty());
    assert!(!ci, "in CI nothing may be skipped: {claim}: {reason}");
}

/// Something in the folder with other people's weights, CIFAR-10 and photographs: `COLLAGE_SHARED_DATA`, or
/// ../shared/data beside the package. Where it is absent, `claim` is skipped.
pub fn shared(part: &str, claim: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("COLLAGE_SHARED_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(part);
    if path.exists() {
        return Some(path);
    }
    let reason = format!(
        "{} is not there (COLLAGE_SHARED_DATA says where it is)",
        path.display()
    );
    skip(claim, &reason);
    None
}
