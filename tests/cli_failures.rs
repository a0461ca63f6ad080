//! What cannot be done is said in one line that names the flag or file, with the exit status of its kind.

use serde_json::Value;

mod cli_support;
use cli_support::{collage, failure, run, shipped};

/// A file with these bytes in a folder that lives as long as the guard.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file in it");
    (folder, path.display().to_string())
}

#[test]
fn usage_is_two() {
    for (arguments, named) in [
        (&["demo", "--device", "tpu"][..], "--device"),
        (&["demo", "--device", "cuda:0,cuda:0"], "named twice"),
        (&["demo", "--device", "auto,cpu"], "auto chooses one"),
        (&["demo", "--stragglers", "slow:x:2"], "--stragglers"),
        (
            &["demo", "--stragglers", "slow:99:2", "--requests", "1"],
            "stragglers",
        ),
        (&["demo", "--grid", "3by3"], "--grid"),
        (&["demo", "--rate", "0"], "--rate"),
        (&["demo", "--policy", "collage"], "--policy"),
        (&["demo", "--release", "2s", "--deadline", "1s"], "release"),
        (
            &["eval", "--model", "some.safetensors", "--limit", "0"],
            "--limit",
        ),
        (&["eval", "--arch", "resnet20"], "--arch"),
        (&["classify"], "IMAGE"),
        (&["inspect", "digits", "--batch", "0"], "--batch"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let error = failure(arguments, 2);
        assert!(error.contains(named), "{named} in: {error}");
    }
    let error = failure(
        &[
            "eval",
            "--model",
            &shipped("weights/digits-base.safetensors")
                .display()
                .to_string(),
        ],
        2,
    );
    assert!(error.contains("--data"), "{error}");
}

#[test]
fn a_bad_model_is_three_and_named() {
    let whole =
        std::fs::read(shipped("weights/digits-base.safetensors")).expect("the shipped model");
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    let damaged: (&str, &[u8]) = ("damaged.safetensors", &damaged);
    for (name, bytes) in [
        ("cut.safetensors", &whole[..whole.len() / 2]),
        ("empty.safetensors", b""),
        damaged,
    ] {
        let (_folder, path) = file(name, bytes);
        for arguments in [
            &["inspect", &path][..],
            &["eval", "--model", &path, "--data", "."],
            &["classify", "x.png", "--model", &path],
        ] {
            assert!(failure(arguments, 3).contains(name));
        }
    }
    assert!(
        failure(&["inspect", "no-such-file.safetensors"], 3).contains("no-such-file.safetensors")
    );
    let collage = shipped("weights/digits-collage.safetensors")
        .display()
        .to_string();
    assert!(
        failure(&["eval", "--model", &collage, "--data", "."], 3).contains("expected a base model")
    );
    assert!(failure(&["inspect", "digits-collage", "--grid", "99x1"], 3).contains("99x1"));
}

#[test]
fn a_bad_image_or_data_set_is_three_and_named() {
    let (_folder, path) = file("notes.png", b"this is text");
    assert!(failure(&["classify", "--device", "cpu", &path], 3).contains("notes.png"));
    assert!(failure(&["classify", "--device", "cpu", "no-such.png"], 3).contains("no-such.png"));
    let (folder, path) = file("cut.bin", &[0; 3000]);
    assert!(failure(&["eval", "--device", "cpu", "--data", &path], 3).contains("3073"));
    assert!(
        failure(&["eval", "--device", "cpu", "--data", "no-such-folder"], 3)
            .contains("no-such-folder")
    );
    std::fs::remove_file(&path).expect("the file is there");
    let empty = folder.path().display().to_string();
    assert!(failure(&["eval", "--device", "cpu", "--data", &empty], 3).contains("no image found"));
}

#[test]
fn a_missing_device_is_four_and_says_what_to_do() {
    for command in [
        &["eval", "--device", "wgpu:99"][..],
        &["demo", "--device", "wgpu:99"],
    ] {
        let error = failure(command, 4);
        assert!(error.contains("wgpu") && error.contains("99"), "{error}");
    }
}

#[test]
fn settings_that_are_wrong_are_two_and_name_their_file() {
    let (_folder, path) = file("settings.toml", b"releese = \"5ms\"\n");
    let error = failure(&["demo", "--config", &path], 2);
    assert!(
        error.contains("settings.toml") && error.contains("releese") && error.contains("`release`"),
        "{error}"
    );
}

#[test]
fn a_report_that_cannot_be_written_is_one() {
    let output = run(&[
        "demo",
        "--requests",
        "9",
        "--device",
        "cpu:1",
        "--rate",
        "900",
        "--report",
        "no/such/folder/x.html",
    ]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("--report") && error.contains("no/such/folder/x.html"),
        "{error}"
    );
}

#[test]
fn with_json_a_failure_is_an_object_too() {
    let output = run(&["--json", "inspect", "no-such-file.safetensors"]);
    assert_eq!(output.status.code(), Some(3));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(
        (&document["schema"], &document["command"]),
        (&Value::from(1), &Value::from("inspect"))
    );
    let error = &document["error"];
    assert!(
        error["code"]
            .as_u64()
            .is_some_and(|code| (200..300).contains(&code)),
        "{error}"
    );
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|m| m.contains("no-such-file.safetensors")),
        "{error}"
    );
    assert!(error["can_retry"].is_boolean(), "{error}");
}

#[test]
fn logs_go_to_standard_error_as_rust_log_asks() {
    let arguments = [
        "demo",
        "--requests",
        "9",
        "--rate",
        "900",
        "--device",
        "cpu:1",
        "--stragglers",
        "pause:0:1",
    ];
    let quiet = run(&arguments);
    assert!(
        quiet.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&quiet.stderr)
    );
    let output = collage(&arguments)
        .env("RUST_LOG", "collage=debug")
        .output()
        .expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("request"), "{error}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("DEBUG"));
}
