//! `collage simulate` as its users meet it: flags, a file, text and JSON, and what is refused in which words.

mod cli_support;

use cli_support::{collage, failure, json, shipped, text};

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
    let trace = format!("trace:{}:machines=2", file.display());
    let arguments = [
        "--policies",
        "none",
        "--stragglers",
        &trace,
        "--workers",
        "100",
    ];
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
        (&["--stragglers", "trace:/nowhere.npy"], 3, "cannot be read"),
        (
            &["--stragglers", "trace:/nowhere.npy:sometimes"],
            2,
            "sometimes",
        ),
        (&["--stragglers", "contention:0"], 2, "virtual time"),
        (&["--service", "/nowhere.json"], 3, "cannot be read"),
        (&["--max-batch", "0"], 2, "--max-batch"),
        (&["--queue", "0"], 2, "--queue"),
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
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut count = 0;
    for file in files.map(|entry| entry.expect("readable").path()) {
        let file = file.to_str().expect("utf-8").to_owned();
        // Their trace is not shipped, and is not where they look for it from here: that is all that may be wrong.
        let mut command = collage(&["simulate", "--config", &file]);
        let output = command.current_dir(elsewhere.path()).output();
        let output = output.expect("the binary starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{file}: {error}");
        assert!(error.contains("cloud_vms.npy: cannot be read"), "{error}");
        count += 1;
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn what_bench_engine_measured_gives_the_service_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("engine.json");
    let bench = text(&[
        "--json",
        "bench",
        "engine",
        "--model",
        "digits",
        "--collage",
        "digits",
        "--grid",
        "3x3",
        "--batch",
        "1,4",
        "--seconds",
        "0.05",
        "--device",
        "cpu:1",
    ]);
    std::fs::write(&file, &bench).expect("written");
    let bench: serde_json::Value = serde_json::from_str(&bench).expect("JSON");
    let file = file.to_str().expect("utf-8");
    let simulate = [
        "simulate",
        "--policies",
        "none,collage:3x3:once",
        "--health",
        "false",
        "--service",
        file,
        "--workers",
        "100",
        "--requests",
        "5000",
        "--rate",
        "10",
    ];
    let document = json(&simulate);
    assert_eq!(
        document,
        json(&simulate),
        "the same seed gives the same result"
    );
    // At this rate no run waits, and the only backups are collages: what comes out is what was measured.
    let base = &bench["rows"][0]["latency_ms"];
    let [none, collage] = [0, 1].map(|i| &document["outcomes"][i]["whole"]);
    let ms = |value: &serde_json::Value| value.as_f64().expect("a number");
    let (found, truth) = (ms(&none["request"]["p50"]), ms(&base["median"]));
    assert!(
        (found / truth - 1.0).abs() < 0.1,
        "{found} ms for {truth} ms"
    );
    assert!(ms(&none["request"]["max"]) <= ms(&base["max"]) + 0.001);
    let macs = |row: usize| ms(&bench["rows"][row]["macs"]);
    let collages = bench["rows"].as_array().expect("rows");
    let row = collages.iter().position(|row| row["role"] == "collage");
    let work = macs(row.expect("a collage")) / macs(0);
    let [runs, extra] = ["extra_runs", "extra_work"].map(|key| ms(&collage[key]));
    assert!(
        (extra / runs / work - 1.0).abs() < 0.01,
        "{extra} / {runs}, {work}"
    );
}

#[test]
fn the_grid_is_for_policies_that_do_not_say_theirs() {
    let policies = "none,collage,collage:2x2";
    let arguments = ["--policies", policies, "--grid", "2x4", "--burst", "8"];
    let document = json(&[&SMALL[..], &arguments].concat());
    let policies = [0, 1, 2].map(|i| document["outcomes"][i]["policy"].clone());
    assert_eq!(policies, ["none", "collage:2x4", "collage:2x2"]);
    let error = failure(&[&SMALL[..], &["--grid", "2by4"]].concat(), 2);
    assert!(error.contains("--grid"), "{error}");
}

#[test]
fn a_queue_that_is_full_refuses() {
    let arguments = ["--policies", "none", "--workers", "1", "--queue", "2"];
    let document = json(&[&SMALL[..], &arguments].concat());
    let answered = document["outcomes"][0]["whole"]["answered"].as_f64();
    // One worker can do 100 of the 400 requests a second.
    assert!(
        answered.is_some_and(|a| (0.2..0.3).contains(&a)),
        "{answered:?}"
    );
}

#[test]
fn batches_carry_a_load_that_single_runs_cannot() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("engine.json");
    // A batch of eight takes as long as two single runs.
    let row = |batch: u32, ms: f64| {
        format!(
            r#"{{"role": "base", "network": "n", "grid": "1x1", "dtype": "f32", "batch": {batch}, "macs": {batch},
                "latency_ms": {{"min": {ms}, "median": {ms}, "p90": {ms}, "p95": {ms}, "p99": {ms}, "max": {ms}}}}}"#
        )
    };
    let rows = format!(r#"{{"rows": [{}, {}]}}"#, row(1, 10.0), row(8, 20.0));
    std::fs::write(&file, rows).expect("written");
    let file = file.to_str().expect("utf-8");
    let mean = |batch: &str| {
        let arguments = [
            "--policies",
            "none",
            "--workers",
            "2",
            "--service",
            file,
            "--max-batch",
            batch,
        ];
        let document = json(&[&SMALL[..], &arguments].concat());
        let mean = document["outcomes"][0]["whole"]["request"]["mean"].as_f64();
        mean.expect("a number")
    };
    // Two workers can do 200 single runs a second of the 400 that come, and 800 images in batches.
    let (single, batched) = (mean("1"), mean("8"));
    assert!(single > 1_000.0 && batched < 50.0, "{single} {batched}");
}
