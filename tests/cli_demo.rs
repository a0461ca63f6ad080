//! The demo serves the same requests twice, counts them all, and shows what it counted.

use serde_json::Value;

mod cli_support;
use cli_support::{collage, json, repeated, text};

/// Small enough for any machine: 270 requests in two short runs, on one thread a worker.
const SMALL: [&str; 9] = [
    "demo",
    "--device",
    "cpu:1",
    "--requests",
    "270",
    "--rate",
    "270",
    "--stragglers",
    "pause:0:150",
];
/// Smaller still.
const TINY: [&str; 7] = [
    "demo",
    "--device",
    "cpu:1",
    "--requests",
    "60",
    "--rate",
    "300",
];

#[test]
fn every_request_is_counted_once_in_each_run() {
    let outcome = json(&[&SMALL[..], &["--release", "30ms", "--seed", "3"]].concat());
    assert_eq!(
        (&outcome["requests"], &outcome["seed"]),
        (&Value::from(270), &Value::from(3))
    );
    assert_eq!(outcome["injected"], Value::from(vec!["pause:0:150"]));
    assert_eq!(outcome["images"], 597);
    let runs = outcome["runs"].as_array().expect("a list");
    assert_eq!(
        runs.iter()
            .map(|run| run["policy"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["none", "collage"]
    );
    for run in runs {
        let count = |key: &str| {
            run[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key} in {run}"))
        };
        assert_eq!(count("requests"), 270);
        assert_eq!(
            count("answered") + count("deadline_exceeded") + count("overloaded") + count("failed"),
            270
        );
        for (share, part) in [("accuracy", "correct"), ("collage_share", "by_collage")] {
            let found = run[share].as_f64().expect("a share");
            assert!(
                (found - count(part) as f64 / 270.0).abs() < 1e-12,
                "{share} in {run}"
            );
        }
        let latency: Vec<f64> = ["p50", "p90", "p99", "p999", "max"]
            .iter()
            .map(|p| run["latency_ms"][p].as_f64().unwrap())
            .collect();
        assert!(
            latency[0] > 0.0 && latency.windows(2).all(|pair| pair[0] <= pair[1]),
            "{latency:?}"
        );
        assert!(
            run["workers"][0]["injected_runs"]
                .as_u64()
                .is_some_and(|n| n > 0),
            "{run}"
        );
        assert!(run["generator_late_ms"]["max"].is_number());
    }
    assert_eq!(
        (&runs[0]["by_collage"], &runs[0]["collage_accuracy"]),
        (&Value::from(0), &Value::Null)
    );
    assert_eq!(runs[0]["workers"].as_array().map(Vec::len), Some(4));
    assert_eq!(runs[1]["workers"].as_array().map(Vec::len), Some(5));
    assert!(
        runs[1]["collage_runs"].as_u64().is_some_and(|n| n >= 30),
        "{}",
        runs[1]
    );
    // The straggler pauses five release times long, so that its requests are the collage's to answer.
    assert!(
        runs[1]["by_collage"].as_u64().is_some_and(|n| n > 0),
        "{}",
        runs[1]
    );
    assert!(
        outcome["extra_work"]
            .as_f64()
            .is_some_and(|share| (0.05..1.0).contains(&share)),
        "{outcome}"
    );
}

#[test]
fn the_report_stands_alone_and_says_what_the_json_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("demo.html");
    let outcome = json(&[&SMALL[..], &["--report", &path.display().to_string()]].concat());
    let page = std::fs::read_to_string(&path).expect("the report");
    let without_own_markers = page.replace("url(#", "");
    for outside in [
        "http:", "https:", "url(", "@import", "<script", "<link", "{{",
    ] {
        assert!(!without_own_markers.contains(outside), "{outside}");
    }
    assert!(
        page.contains("data:image/png;base64,")
            && page.contains("injected")
            && page.contains("pause:0:150")
    );
    let repeat = outcome["repeat"].as_str().expect("a command line");
    assert!(page.contains(repeat), "{repeat}");
    assert!(page.contains(outcome["device"].as_str().expect("a device")));
    let share = outcome["runs"][1]["collage_share"]
        .as_f64()
        .expect("a share");
    assert!(page.contains(&format!("{:.2}%", share * 100.0)));
}

#[test]
fn the_command_that_repeats_a_demo_is_understood() {
    let outcome = json(&[&TINY[..], &["--grid", "2x2", "--min-confidence", "0.5"]].concat());
    let repeat = outcome["repeat"]
        .as_str()
        .expect("a command line")
        .to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = repeated(&repeat)
        .arg("--json")
        .current_dir(folder.path())
        .output()
        .expect("it starts");
    assert!(
        output.status.success(),
        "{repeat}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let again: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    for key in [
        "rate",
        "burst",
        "grid",
        "release_ms",
        "deadline_ms",
        "injected",
        "min_confidence",
        "seed",
        "repeat",
    ] {
        assert_eq!(again[key], outcome[key], "{key}");
    }
}

#[test]
fn settings_come_from_flags_then_variables_then_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("collage.toml");
    std::fs::write(
        &file,
        "grid = \"2x2\"\nseed = 11\nworkers = 2\nrelease = \"40ms\"\n",
    )
    .expect("a file");
    let arguments = [
        "--json",
        "demo",
        "--device",
        "cpu:1",
        "--requests",
        "16",
        "--rate",
        "400",
        "--seed",
        "33",
    ];
    let output = collage(&arguments)
        .args(["--config", &file.display().to_string()])
        .env("COLLAGE_SEED", "22")
        .env("COLLAGE_WORKERS", "3")
        .output()
        .expect("it starts");
    let outcome: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let settings = [
        &outcome["seed"],
        &outcome["base_workers"],
        &outcome["grid"],
        &outcome["release_ms"],
    ];
    assert_eq!(
        settings,
        [
            &Value::from(33),
            &Value::from(3),
            &Value::from("2x2"),
            &Value::from(40.0)
        ]
    );
}

#[test]
fn people_get_a_table_that_calls_the_straggler_injected() {
    let shown = text(&TINY);
    for words in [
        "no redundancy",
        "collage",
        "latency p99",
        "accuracy",
        "injected",
        "p99 ",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
}
