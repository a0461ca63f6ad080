//! `collage eval` on CIFAR-10's own files, of other people's networks and of ours: as many right as PyTorch gets, exactly.
//!
//! Which networks and counts: tests/golden/README.md, and the cards of our own. Where the optional shared data is absent
//! this is printed as skipped, and fails in CI.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

mod cli_support;
mod golden;
use cli_support::{card, card_row, grouped, json, shipped};
use golden::{Golden, report, shared};

/// A folder with CIFAR-10's test file.
fn test_images(claim: &str) -> Option<TempDir> {
    let test = shared("cifar-10/test_batch.bin.xz", claim)?;
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
    Some(folder)
}

#[test]
fn eval_gets_as_many_cifar_images_right_as_pytorch() {
    let claim = "collage eval on CIFAR-10";
    let Some(weights) = shared("third-party-weights", claim) else {
        return;
    };
    let Some(folder) = test_images(claim) else {
        return;
    };
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

#[test]
fn eval_reproduces_the_cards_of_the_cifar_models() {
    let claim = "collage eval of the shipped CIFAR-10 models";
    let Some(folder) = test_images(claim) else {
        return;
    };
    let data = folder.path().display().to_string();
    let model = |name: &str| {
        shipped(&format!("weights/{name}.safetensors"))
            .display()
            .to_string()
    };
    let base = model("cifar10-base");
    for size in ["standard", "small"] {
        let name = format!("cifar10-collage-{size}");
        let collage = model(&name);
        let found = json(&[
            "eval",
            "--model",
            &base,
            "--collage",
            &collage,
            "--data",
            &data,
            "--device",
            "cpu",
        ]);
        let figure = |part: &Value, key: &str| part[key].as_f64().expect("a figure");
        let words = format!(
            "{} of 5,000, {:.4}; ",
            grouped(found["base"]["correct"].as_u64().expect("a count")),
            figure(&found["base"], "accuracy")
        );
        report(&format!("{claim}: {size}: the base {words}"));
        assert!(card("cifar10-base").contains(&words), "{words}");
        for part in found["collage"].as_array().expect("a list") {
            let grid = part["grid"].as_str().expect("a grid");
            // Columns: grid, correct, least, most, accuracy, drop, ECE, precision, coverage; means of five shuffles, of
            // which this is the first. At 1x1 there is but one.
            let row = card_row(&name, grid);
            let correct = figure(part, "correct");
            assert!(
                (row[2]..=row[3]).contains(&correct),
                "{name} {grid}: {correct}"
            );
            if grid == "1x1" {
                let coverage = 1.0 - figure(part, "abstained") / figure(part, "images");
                let exact = [
                    (row[6], figure(part, "ece")),
                    (row[7], figure(part, "precision")),
                    (row[8], coverage),
                ];
                // An answer in five thousand, and what the card rounds off.
                assert!(
                    exact.iter().all(|(card, here)| (card - here).abs() < 3e-4),
                    "{name}: {exact:?}"
                );
            }
        }
    }
}
