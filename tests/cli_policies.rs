//! `collage bench policies` serves the same requests under every policy, counts them all, and writes what it counted in
//! every form alike. Nothing here depends on how fast the machine is, but for an injected pause that is far longer than
//! anything else.

mod cli_support;

use std::collections::BTreeSet;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use cli_support::{digits, failure, json, repeated, shipped, text};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

/// 126 requests in groups of three and two rounds, half a second each.
const SMALL: [&str; 14] = [
    "bench",
    "policies",
    "--device",
    "cpu:1",
    "--requests",
    "126",
    "--rate",
    "126",
    "--burst",
    "3",
    "--rounds",
    "2",
    "--warm-up",
    "3",
];

fn small(arguments: &[&str]) -> Value {
    json(&[&SMALL[..], arguments].concat())
}

fn rows(document: &Value) -> &Vec<Value> {
    document["policies"].as_array().expect("a list")
}

fn count(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {value}"))
}

/// Seconds in which requests were due, counted from the first one of their round, with their latencies in nanoseconds.
fn log(path: &Path) -> Vec<(f64, Histogram<u64>)> {
    let bytes = std::fs::read(path).expect("a log");
    let mut intervals = Vec::new();
    for entry in IntervalLogIterator::new(&bytes) {
        if let LogEntry::Interval(interval) = entry.expect("the format") {
            // The log's reader leaves the text form of a histogram to its caller.
            let histogram = BASE64_STANDARD
                .decode(interval.encoded_histogram())
                .expect("base64");
            let histogram: Histogram<u64> = Deserializer::new()
                .deserialize(&mut &histogram[..])
                .expect("a histogram");
            intervals.push((interval.start_timestamp().as_secs_f64(), histogram));
        }
    }
    intervals
}

fn sum(intervals: &[(f64, Histogram<u64>)]) -> Histogram<u64> {
    let mut sum = Histogram::new(3).expect("three digits");
    for (_, histogram) in intervals {
        sum.add(histogram).expect("it grows");
    }
    sum
}

#[test]
fn every_policy_meets_the_same_arrivals_and_every_request_is_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("utf-8");
    // Every run takes long enough for a group's collage to be launched before all of the group is answered.
    let document = small(&["--out", out, "--stragglers", "pause:*:10"]);
    let rows = rows(&document);
    let policies: Vec<_> = rows
        .iter()
        .map(|row| row["policy"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        policies,
        [
            "none",
            "replicate:2",
            "hedge:p95",
            "collage:3x3",
            "collage:3x3:lazy",
            "small"
        ]
    );
    let counts = |row: &Value| -> Vec<u64> {
        let log = log(&folder.path().join(row["log"].as_str().expect("a log")));
        log.iter().map(|(_, histogram)| histogram.len()).collect()
    };
    let expected = counts(&rows[0]);
    for row in rows {
        assert_eq!(count(&row["request"], "count"), 126);
        assert_eq!(count(&row["group"], "count"), 42);
        let ends = ["answered", "deadline_exceeded", "overloaded", "failed"];
        assert_eq!(
            ends.map(|end| count(row, end)).iter().sum::<u64>(),
            126,
            "{row}"
        );
        let sources = row["sources"].as_object().expect("by name");
        let answers: u64 = sources
            .values()
            .map(|source| count(source, "answers"))
            .sum();
        assert_eq!(answers, count(row, "answered"), "{row}");
        let right: u64 = sources
            .values()
            .map(|source| count(source, "correct"))
            .sum();
        let all = row["accuracy"]["all"].as_f64().expect("a share");
        assert!((all - right as f64 / 126.0).abs() < 1e-12, "{row}");
        assert_eq!(count(&row["warm_up"], "requests"), 2 * 3 * 3);
        // The schedule is the same to the last digit, and so is how many were due in each second.
        assert_eq!(row["offered_rate"], rows[0]["offered_rate"]);
        assert_eq!(counts(row), expected, "{}", row["policy"]);
    }
    let answers = |policy: usize, source: &str| count(&rows[policy]["sources"][source], "answers");
    assert_eq!(
        (answers(0, "collage"), answers(0, "copy")),
        (0, 0),
        "none has no backups"
    );
    assert_eq!(count(&rows[0]["extra"], "collage_runs"), 0);
    assert!(count(&rows[1]["extra"], "copy_images") > 0, "replicas run");
    assert!(count(&rows[3]["extra"], "collage_runs") > 0, "collages run");
}

#[test]
fn a_percentile_needs_ten_samples_beyond_it() {
    let document = small(&["--policies", "none"]);
    let request = &rows(&document)[0]["request"];
    assert!(request["p90"].is_number(), "twelve of 126 are beyond");
    assert!(
        request["p95"].is_null() && request["p999"].is_null(),
        "six are not enough"
    );
    let shown = text(&[&SMALL[..], &["--policies", "none"]].concat());
    assert!(shown.contains("fewer than ten samples"), "{shown}");
}

#[test]
fn the_logs_give_the_percentiles_that_are_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("utf-8");
    let document = small(&["--policies", "none,hedge:p95", "--out", out]);
    for row in rows(&document) {
        let name = row["log"].as_str().expect("a log");
        let sum = sum(&log(&folder.path().join(name)));
        assert_eq!(sum.len(), 126);
        for (key, quantile) in [("p50", 0.5), ("p90", 0.9)] {
            let printed = row["request"][key].as_f64().expect("enough samples");
            let logged = sum.value_at_quantile(quantile) as f64 / 1e6;
            // Three digits in the log, whole microseconds in the table.
            assert!(
                (logged / printed - 1.0).abs() < 0.003,
                "{key}: {logged} and {printed}"
            );
        }
        let max = row["request"]["max"].as_f64().expect("a number");
        assert!((sum.max() as f64 / 1e6 / max - 1.0).abs() < 0.003);
    }
    let written: Value = serde_json::from_str(
        &std::fs::read_to_string(folder.path().join("policies.json")).expect("the same JSON"),
    )
    .expect("JSON");
    assert_eq!(written["policies"], document["policies"]);
    let markdown = std::fs::read_to_string(folder.path().join("policies.md")).expect("tables");
    assert!(markdown.contains("| hedge:p95 |"), "{markdown}");
    let chart = std::fs::read_to_string(folder.path().join("frontier.svg")).expect("a chart");
    assert!(chart.starts_with("<svg xmlns=") && chart.contains("hedge:p95"));
}

#[test]
fn the_json_has_the_documented_keys_and_no_others() {
    let document = small(&[
        "--policies",
        "none,collage:3x3,small",
        "--releases",
        "5ms,20ms",
    ]);
    let row = &rows(&document)[1];
    let objects = [
        ("the document", &document),
        ("of `policies`", row),
        ("of `request`", &row["request"]),
        ("of a source", &row["sources"]["base"]),
        ("of `accuracy`", &row["accuracy"]),
        ("of `extra`", &row["extra"]),
        ("of `scheduler`", &row["scheduler"]),
        ("of `dispatch`", &row["dispatch"]),
        ("of `warm_up`", &row["warm_up"]),
        ("of `equal_work`", &document["equal_work"][0]),
        ("of `releases`", &document["releases"][0]),
    ];
    for (what, object) in objects {
        let mut found: BTreeSet<String> = object.as_object().expect(what).keys().cloned().collect();
        found.remove("schema");
        found.remove("command");
        assert_eq!(found, documented(what), "{what}");
    }
    assert_eq!(document["releases"].as_array().map(Vec::len), Some(4));
    assert_eq!(document["bench"], "policies");
}

/// The keys in the first column of the table of docs/json.md whose heading ends in these words.
fn documented(what: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(shipped("docs/json.md")).expect("the page");
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("bench policies\n"))
        .expect("its section");
    let heading = match what {
        "the document" => "| key | ".to_owned(),
        what => format!("| key {what} | "),
    };
    let lines = section
        .lines()
        .skip_while(|line| !line.starts_with(&heading));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let first = |line: &str| line.split('|').nth(1).expect("a column").to_owned();
    let keys: BTreeSet<String> = rows
        .flat_map(|line| {
            first(line)
                .split('`')
                .skip(1)
                .step_by(2)
                .map(String::from)
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(!keys.is_empty(), "{heading} is not in docs/json.md");
    keys
}

/// Requests of a log that waited for longer than this.
fn slower_than(path: &Path, ms: u64) -> u64 {
    let sum = sum(&log(path));
    sum.len() - sum.count_between(0, ms * 1_000_000)
}

#[test]
fn an_injected_pause_makes_more_requests_slow_without_redundancy_than_with_collages() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("utf-8");
    let arguments = [
        "bench",
        "policies",
        "--device",
        "cpu:1",
        "--policies",
        "none,collage:3x3",
        "--requests",
        "270",
        "--rate",
        "180",
        "--burst",
        "9",
        "--warm-up",
        "0",
        "--workers",
        "2",
        "--stragglers",
        "pause:0:800",
        "--release",
        "20ms",
        "--deadline",
        "30s",
        "--out",
        out,
    ];
    let document = json(&arguments);
    let rows = rows(&document);
    for row in rows {
        assert!(
            row["injected_ms"].as_f64().is_some_and(|ms| ms >= 800.0),
            "{row}"
        );
    }
    assert!(
        rows[0]["request"]["max"]
            .as_f64()
            .is_some_and(|ms| ms >= 800.0)
    );
    assert!(
        count(&rows[1]["sources"]["collage"], "answers") > 0,
        "{}",
        rows[1]
    );
    let [none, collage] =
        ["none.hlog", "collage-3x3.hlog"].map(|name| slower_than(&folder.path().join(name), 700));
    assert!(
        none > collage,
        "{none} without redundancy, {collage} with collages"
    );
}

#[test]
fn a_closed_loop_has_no_schedule() {
    let arguments = [
        "bench",
        "policies",
        "--device",
        "cpu:1",
        "--requests",
        "60",
        "--closed",
        "3",
        "--burst",
        "2",
    ];
    let document = json(
        &[
            &arguments[..],
            &["--policies", "none,small", "--warm-up", "2"],
        ]
        .concat(),
    );
    assert!(document["rate"].is_null());
    assert_eq!(document["closed"], 3);
    for row in rows(&document) {
        assert_eq!(count(&row["request"], "count"), 60);
        assert!(
            row["offered_rate"].is_null() && row["dispatch"].is_null(),
            "{row}"
        );
        assert!(row["achieved_rate"].as_f64().is_some_and(|rate| rate > 0.0));
    }
}

#[test]
fn the_report_stands_alone_and_its_command_repeats_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policies.html");
    let arguments = [
        "--policies",
        "none,collage:2x2",
        "--stragglers",
        "slow:0:4:0.5",
        "--seed",
        "5",
    ];
    let report = path.to_str().expect("utf-8");
    let document = small(&[&arguments[..], &["--report", report]].concat());
    let page = std::fs::read_to_string(&path).expect("the report");
    for outside in [
        "http:", "https:", "url(", "@import", "<script", "<link", "{{",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    let repeat = document["repeat"].as_str().expect("a command line");
    assert!(
        page.contains(repeat) && page.contains("injected") && page.contains("slow:0:4:0.5"),
        "{repeat}"
    );
    let output = repeated(repeat).arg("--json").output().expect("it starts");
    let again: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    for key in [
        "seed",
        "requests",
        "rate",
        "burst",
        "rounds",
        "warm_up",
        "release_ms",
        "injected",
        "images",
        "repeat",
    ] {
        assert_eq!(again[key], document[key], "{key}");
    }
    assert_eq!(
        again["policies"][0]["offered_rate"],
        document["policies"][0]["offered_rate"]
    );
}

#[test]
fn own_images_are_read_from_class_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    for (i, (file, label)) in digits(folder.path(), 60).into_iter().enumerate() {
        let class = folder.path().join("classes").join(label.to_string());
        std::fs::create_dir_all(&class).expect("a folder");
        std::fs::rename(file, class.join(format!("{i}.png"))).expect("moved");
    }
    let data = folder.path().join("classes");
    let data = data.to_str().expect("utf-8");
    let document = small(&["--policies", "none", "--data", data, "--images", "50"]);
    assert_eq!(document["images"], 50);
    let all = rows(&document)[0]["accuracy"]["all"]
        .as_f64()
        .expect("a share");
    assert!(all > 0.8, "{all}");
}

#[test]
fn what_cannot_be_is_refused_with_its_flag_before_anything_is_served() {
    let base = shipped("weights/digits-base.safetensors");
    let base = base.to_str().expect("utf-8");
    for (arguments, status, what) in [
        (&["--policies", "hedge"][..], 2, "--policies"),
        (&["--policies", "none,small,none"], 2, "none is there twice"),
        (&["--policy", "none"], 2, "--policies"),
        (&["--closed", "2", "--rate", "9"], 2, "--rate"),
        (&["--rate", "0"], 2, "--rate"),
        (&["--burst", "0"], 2, "--burst"),
        (&["--releases", "5"], 2, "--releases"),
        (&["--releases", "3s"], 2, "before the deadline"),
        (
            &["--releases", "5ms", "--policies", "none,small:lazy"],
            2,
            "eager",
        ),
        (
            &["--policies", "replicate:4", "--workers", "2"],
            2,
            "4 at least",
        ),
        (&["--stragglers", "slow:9:5"], 2, "slow:9:5"),
        (&["--stragglers", "slow:0:0.5"], 2, "0.5"),
        (&["--data", "/nowhere"], 3, "/nowhere"),
        (&["--model", base], 2, "--data PATH"),
        (&["--device", "cpu:none"], 2, "cpu:none"),
        (&["--out", "/proc/none/there"], 1, "--out"),
    ] {
        let base = ["bench", "policies", "--images", "90"];
        let error = failure(&[&base[..], arguments].concat(), status);
        assert!(error.contains(what), "{arguments:?}: {error}");
    }
    let data = tempfile::tempdir().expect("a folder");
    let class = data.path().join("0");
    std::fs::create_dir_all(&class).expect("a folder");
    let (file, _) = digits(data.path(), 1).remove(0);
    std::fs::rename(file, class.join("0.png")).expect("moved");
    let data = data.path().to_str().expect("utf-8");
    let arguments = [
        "--model",
        base,
        "--data",
        data,
        "--policies",
        "none,collage:3x3",
    ];
    let error = failure(&[&SMALL[..], &arguments].concat(), 2);
    assert!(error.contains("--collage FILE"), "{error}");
}
