//! The commands do what their help says, and standard output carries the result and nothing else.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

mod cli_support;
use cli_support::{card, collage, digits, grouped, json, run, shipped, text};

const COMMANDS: [&str; 9] = [
    "demo",
    "classify",
    "eval",
    "devices",
    "inspect",
    "bench",
    "compile",
    "simulate",
    "completions",
];

#[test]
fn help_teaches_with_examples_and_names_every_exit_status() {
    let help = text(&["--help"]);
    for command in COMMANDS {
        assert!(help.contains(command), "{command} in {help}");
        let own = text(&[command, "--help"]);
        assert!(
            own.contains(&format!("collage {command}")) && own.contains("Example"),
            "{own}"
        );
    }
    for status in [
        "0 done",
        "1 other",
        "2 usage",
        "3 bad model",
        "4 no usable",
        "5 serving",
    ] {
        assert!(help.contains(status), "{status} in {help}");
    }
    assert_eq!(
        text(&["--version"]).trim(),
        format!("collage {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_of_each_shell_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = text(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{command} in the {shell} script");
        }
    }
    assert_eq!(
        json(&["completions", "fish"])["script"],
        text(&["completions", "fish"])
    );
}

#[test]
fn devices_are_the_same_by_either_name_and_the_processor_is_among_them() {
    let report = json(&["devices"]);
    let rows = report["devices"].as_array().expect("a list");
    let backends: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row["backend"].as_str())
        .collect();
    assert_eq!(backends, BTreeSet::from(["cpu", "cuda", "wgpu"]));
    assert_eq!(rows.iter().filter(|row| row["auto"] == true).count(), 1);
    for row in rows {
        if row["usable"] == true {
            assert!(
                row["name"].is_string() && row["features"].is_array() && row["driver"].is_string(),
                "{row}"
            );
        } else {
            assert!(
                row["reason"].is_string() && row["remedy"].is_string(),
                "{row}"
            );
        }
    }
    assert!(
        rows.iter()
            .any(|row| row["backend"] == "cpu" && row["usable"] == true)
    );
    let nvml = &report["nvml"];
    assert!(
        nvml["available"] == true || nvml["reason"].is_string(),
        "{nvml}"
    );
    assert_eq!(text(&["doctor"]), text(&["devices"]));
}

#[test]
fn inspect_counts_what_the_card_says() {
    let summary = json(&["inspect", "digits"]);
    let card = card("digits-base");
    let grouped = |key: &str| grouped(summary[key].as_u64().expect("a count"));
    assert!(
        card.contains(&format!("{} parameters", grouped("params"))),
        "{}",
        grouped("params")
    );
    assert!(
        card.contains(&format!("{} multiply-accumulates", grouped("macs"))),
        "{}",
        grouped("macs")
    );
    assert!(
        summary["arena_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0)
    );
    assert_eq!(summary["layers"][0]["op"], "encode");

    let path = shipped("weights/digits-collage.safetensors")
        .display()
        .to_string();
    let of_file = json(&["inspect", &path, "--grid", "2x3", "--batch", "4"]);
    let embedded = json(&["inspect", "digits-collage", "--grid", "2x3", "--batch", "4"]);
    assert_eq!(of_file["layers"], embedded["layers"]);
    assert_eq!(
        (&of_file["grid"], &of_file["batch"]),
        (&Value::from("2x3"), &Value::from(4))
    );
    assert!(text(&["inspect", "digits-collage"]).contains("conv1"));
}

#[test]
fn eval_reproduces_the_cards_held_out_counts() {
    let report = json(&["eval", "--device", "cpu", "--grids", "1x1,2x2,3x3"]);
    let images = report["images"].as_u64().expect("a count");
    let score = |part: &Value| {
        let correct = part["correct"].as_u64().expect("a count");
        let accuracy = correct as f64 / images as f64;
        assert!(
            part["accuracy"]
                .as_f64()
                .is_some_and(|a| (a - accuracy).abs() < 1e-12),
            "{part}"
        );
        (accuracy * 1e4).round() / 1e4
    };
    let base = collage::embedded::base().expect("the embedded base");
    assert_eq!(
        (images, score(&report["base"])),
        (597, base.metadata().accuracy["base"])
    );

    // 1x1 has no groups, so it is exact; the others are the card's means over other shuffles than this one.
    let card = &collage::embedded::collage()
        .expect("the embedded collage")
        .metadata()
        .accuracy
        .clone();
    let collage = report["collage"].as_array().expect("a list");
    assert_eq!(
        collage
            .iter()
            .map(|c| c["grid"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["1x1", "2x2", "3x3"]
    );
    assert_eq!(score(&collage[0]), card["1x1"]);
    for part in collage {
        let grid = part["grid"].as_str().expect("a grid");
        assert!(
            (score(part) - card[grid]).abs() < 0.006,
            "{grid}: {} against {}",
            score(part),
            card[grid]
        );
        assert!(
            score(part) >= score(&report["base"]) - 0.015,
            "{grid} is more than 1.5 points under the base"
        );
        assert!(
            part["abstained"].as_u64().is_some_and(|n| n < images / 10),
            "{part}"
        );
        assert!(
            part["agreement_with_base"]
                .as_f64()
                .is_some_and(|a| (0.95..=1.0).contains(&a)),
            "{part}"
        );
        assert_eq!(part["images"], images);
    }
    assert!(
        report["images_per_second"]
            .as_f64()
            .is_some_and(|n| n > 0.0)
            && report["device"].is_string()
    );
}

#[test]
fn eval_in_half_precision_costs_no_more_than_a_few_images() {
    let correct = |dtype: &str| {
        let report = json(&[
            "eval", "--device", "cpu", "--grids", "1x1", "--dtype", dtype,
        ]);
        assert_eq!(report["dtype"], dtype);
        report["base"]["correct"].as_u64().expect("a count")
    };
    let full = correct("f32");
    for dtype in ["f16", "bf16"] {
        assert!(
            correct(dtype).abs_diff(full) <= 3,
            "{dtype}: {} of {full}",
            correct(dtype)
        );
    }
}

#[test]
fn eval_depends_on_its_seed_and_on_nothing_else() {
    let of = |seed: &str| {
        let report = json(&[
            "eval", "--device", "cpu:1", "--grids", "3x3", "--limit", "100", "--seed", seed,
            "--batch", "7",
        ]);
        let part = &report["collage"][0];
        assert_eq!(
            (report["images"].as_u64(), part["images"].as_u64()),
            (Some(100), Some(100))
        );
        (
            part["correct"].clone(),
            part["abstained"].clone(),
            part["agreement_with_base"].clone(),
        )
    };
    assert_eq!(of("5"), of("5"));
    let other_seeds: BTreeSet<String> = (0..8)
        .map(|seed| format!("{:?}", of(&seed.to_string())))
        .collect();
    assert!(
        other_seeds.len() > 1,
        "eight shuffles made no difference: {other_seeds:?}"
    );
}

#[test]
fn eval_reads_a_folder_of_class_folders() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let loose = folder.path().join("loose");
    std::fs::create_dir(&loose).expect("a folder");
    for (path, label) in digits(&loose, 60) {
        let class = folder.path().join("set").join(label.to_string());
        std::fs::create_dir_all(&class).expect("a folder");
        let name = std::path::Path::new(&path).file_name().expect("a name");
        std::fs::rename(&path, class.join(name)).expect("a move");
    }
    let set = folder.path().join("set").display().to_string();
    let report = json(&[
        "eval", "--model", "digits", "--data", &set, "--device", "cpu", "--grids", "2x2",
    ]);
    assert_eq!(report["images"], 60);
    assert!(
        report["base"]["correct"]
            .as_u64()
            .is_some_and(|correct| correct >= 58),
        "{report}"
    );
}

#[test]
fn classify_answers_from_base_and_collage() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = digits(folder.path(), 5);
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let arguments = [&["classify", "--device", "cpu", "--top", "2"], &paths[..]].concat();
    let report = json(&arguments);
    let images = report["images"].as_array().expect("a list");
    assert_eq!(images.len(), 5);
    let mut right = 0;
    for (image, (path, label)) in images.iter().zip(&files) {
        assert_eq!(image["file"], path.as_str());
        assert_eq!(image["base"].as_array().map(Vec::len), Some(2));
        right += usize::from(image["base"][0]["class"].as_str() == Some(&label.to_string()));
        assert!(image["base"][0]["score"].as_f64() >= image["base"][1]["score"].as_f64());
        assert!(image.get("collage").is_none());
    }
    assert!(right >= 4, "the base misses 3 of all 597: {report}");
    let report = json(&[&arguments[..], &["--collage", "digits", "--grid", "2x2"]].concat());
    let tiles: Vec<(u64, u64)> = report["images"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|image| {
            (
                image["collage"]["canvas"].as_u64().unwrap(),
                image["collage"]["tile"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(tiles, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]);
    let answers = report["images"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(&files);
    let right = answers
        .filter(|(image, (_, label))| {
            image["collage"]["top"][0]["class"].as_str() == Some(&label.to_string())
        })
        .count();
    assert!(right >= 4, "{report}");
    assert!(text(&arguments).lines().count() == 5);
}

#[test]
fn with_json_people_read_standard_error() {
    let output = run(&["--json", "inspect", "digits"]);
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
    assert!(String::from_utf8_lossy(&output.stderr).contains("layer3.0.conv2"));
    let output = run(&["inspect", "digits"]);
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_reader_who_leaves_early_is_no_failure() {
    for arguments in [
        &["completions", "bash"][..],
        &["--json", "inspect", "digits"],
        &["inspect", "digits"],
    ] {
        let mut child = collage(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !error.contains("panicked") && !error.contains("cannot write"),
            "{error}"
        );
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}
