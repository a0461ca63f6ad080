//! `collage eval` on other people's networks and on CIFAR-10's own files: as many right as PyTorch gets, exactly.
//!
//! Which networks and counts: tests/golden/README.md. Where the optional shared data is absent this is printed as skipped,
//! and fails in CI.

use std::process::Command;

mod cli_support;
mod golden;
use cli_support::json;
use golden::{Golden, report, shared};

#[test]
fn eval_gets_as_many_cifar_images_right_as_pytorch() {
    let claim = "collage eval on CIFAR-10";
    let Some(weights) = shared("third-party-weights", claim) else {
        return;
    };
    let Some(test) = shared("cifar-10/test_batch.bin.xz", claim) else {
        return;
    };
    let unpacked = Command::new("xz")
        .arg("-dc")
        .arg(&test)
        .output()
        .expect("xz-utils is installed");
    assert!(
        unpacked.status.success(),
        "{}",
        String::from_utf8_lossy(&unpacked.stderr)
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("test_batch.bin"), unpacked.stdout).expect("a file in it");
    let data = folder.path().display().to_string();
    let golden = Golden::open("third_party");
    for arch in ["resnet20", "resnet32"] {
        let model = weights
            .join(format!("{arch}.safetensors"))
            .display()
            .to_string();
        let found = json(&[
            "eval", "--model", &model, "--arch", arch, "--data", &data, "--device", "cpu",
        ]);
        report(&format!(
            "{claim}: {arch} {} of {}",
            found["base"]["correct"], found["images"]
        ));
        assert_eq!(found["images"], golden.json["images"], "{arch}");
        assert_eq!(
            found["base"]["correct"], golden.json["correct"][arch],
            "{arch}"
        );
        assert_eq!(
            found["collage"],
            serde_json::json!([]),
            "no collage was asked for"
        );
    }
}
