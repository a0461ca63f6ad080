//! `collage simulate` as its users meet it: flags, a file, text and JSON, and what is refused in which words.

mod cli_support;

use cli_support::{failure, json, shipped, text};

const SMALL: [&str; 5] = ["simulate", "--requests", "2000", "--rate", "400"];

#[test]
fn every_policy_is_compared_on_the_same_requests() {
    let document = json(&SMALL);
    let outcomes = document["outcomes"].as_array().expect("a list");
    let policies: Vec<_> = outcomes.iter().map(|o| o["policy"].as_str()).collect();
    let expected = [
        "none",
        "replicate:2",
        "hedge:p95",
        "collage:3x3",
        "collage:3x3:lazy",
        "small",
    ];
    assert_eq!(policies, expected.map(Some));
    for outcome in outcomes {
        assert_eq!(outcome["whole"]["request"]["count"], 2000, "{outcome}");
        // Two samples beyond the 99.9th percentile are no percentile.
        assert!(outcome["whole"]["request"]["p999"].is_null());
        assert_eq!(outcome["whole"]["answered"], 1.0);
    }
    assert_eq!(
        document,
        json(&SMALL),
        "the same seed gives the same result"
    );
}

#[test]
fn the_text_has_a_row_a_policy_by_request_and_by_group() {
    let text = text(
        &[
            &SMALL[..],
            &["--policies", "none,hedge:5ms", "--burst", "4"],
        ]
        .concat(),
    );
    for part in ["by request", "by group", "answers"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.matches("hedge:5ms").count(), 3, "{text}");
}

#[test]
fn the_chart_has_a_point_for_each_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("frontier.svg");
    let chart = file.to_str().expect("utf-8");
    let arguments = ["--policies", "none,hedge:5ms,small", "--chart", chart];
    text(&[&SMALL[..], &arguments].concat());
    let chart = std::fs::read_to_string(&file).expect("a chart");
    assert!(chart.starts_with("<svg xmlns="), "{chart}");
    assert_eq!(chart.matches("<circle").count(), 3);
    assert!(chart.contains("hedge:5ms") && chart.contains("p99 by group"));
    let arguments = ["--policies", "none", "--chart", "/nowhere/frontier.svg"];
    let output = cli_support::run(&[&SMALL[..], &arguments].concat());
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("simulation.toml");
    std::fs::write(
        &file,
        "requests = 100\nworkers = 3\npolicies = [\"none\"]\n",
    )
    .expect("written");
    let file = file.to_str().expect("utf-8");
    let document = json(&["simulate", "--config", file, "--requests", "200"]);
    assert_eq!(document["outcomes"][0]["whole"]["request"]["count"], 200);
    assert_eq!(document["settings"]["workers"], 3);
}

#[test]
fn a_trace_gives_the_service_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace.csv");
    std::fs::write(&file, "seconds\n0.004\n0.004\n").expect("written");
    let trace = format!("{}:machines=2", file.display());
    let arguments = ["--policies", "none", "--trace", &trace, "--workers", "100"];
    let document = json(&[&SMALL[..], &arguments].concat());
    assert_eq!(document["outcomes"][0]["whole"]["request"]["max"], 4.0);
}

#[test]
fn what_cannot_be_is_refused_with_its_flag() {
    for (arguments, status, what) in [
        (&["--policies", "hedge"][..], 2, "--policies"),
        (
            &["--policies", "replicate:3", "--workers", "2"],
            2,
            "3 at least",
        ),
        (&["--stragglers", "slow:10:5"], 2, "workers are 0 to 9"),
        (&["--stragglers", "slow:0:0.5"], 2, "0.5"),
        (&["--release", "20"], 2, "--release"),
        (&["--rate", "-1"], 2, "-1"),
        (&["--warm-up", "2000"], 2, "--warm-up"),
        (&["--trace", "/nowhere.npy"], 3, "cannot be read"),
        (&["--trace", "/nowhere.npy:sometimes"], 2, "sometimes"),
        (&["--config", "/nowhere.toml"], 2, "cannot be read"),
    ] {
        let base = ["simulate", "--requests", "2000"];
        let error = failure(&[&base[..], arguments].concat(), status);
        assert!(error.contains(what), "{arguments:?}: {error}");
    }
}

#[test]
fn the_shipped_configurations_are_understood() {
    let folder = shipped("benches/configs");
    let files = std::fs::read_dir(&folder).expect("shipped");
    let mut count = 0;
    for file in files.map(|entry| entry.expect("readable").path()) {
        let file = file.to_str().expect("utf-8").to_owned();
        // Their trace is not shipped: a file that is not there is the only thing that may be wrong.
        let arguments = ["simulate", "--config", &file, "--trace", "/nowhere.npy"];
        let error = failure(&arguments, 3);
        assert!(error.contains("/nowhere.npy: cannot be read"), "{error}");
        count += 1;
    }
    assert!(count >= 10, "{count}");
}
