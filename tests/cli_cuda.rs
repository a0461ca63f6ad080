//! What the command line does with a CUDA device, on the simulated one: it tells where a run's time goes, checks answers,
//! and compiles ahead or says why it cannot.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use serde_json::Value;

mod cli_support;
mod cuda_support;
mod skip;

use cli_support::collage;
use cuda_support::{Build, environment};

/// `bench engine` on the simulated device; `None` counts as skipped.
fn bench(claim: &str, arguments: &[&str]) -> Option<Value> {
    let common = [
        "--json",
        "bench",
        "engine",
        "--device",
        "cuda",
        "--dtype",
        "f16",
        "--batch",
        "1",
        "--seconds",
        "0.01",
        "--model",
        "digits",
        "--collage",
        "digits",
        "--grid",
        "1x1",
    ];
    let variables = environment(Build::Plain, claim, &[])?;
    let mut command = collage(&[&common, arguments].concat());
    let output = command.envs(variables).output().expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    Some(serde_json::from_slice(&output.stdout).expect("one JSON document"))
}

#[test]
fn a_device_with_a_clock_tells_where_the_time_goes() {
    let Some(report) = bench("where the time goes", &[]) else {
        return;
    };
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["basis"], "resident");
        for part in [
            "latency_ms",
            "enqueue_ms",
            "upload_ms",
            "compute_ms",
            "download_ms",
            "resident_ms",
        ] {
            assert!(
                row[part]["median"].as_f64().is_some_and(|ms| ms >= 0.0),
                "{part} in {row}"
            );
        }
    }
    let explained = bench("explain on a device", &["--explain"]).expect("as before");
    let layers = explained["explained"][0]["layers"]
        .as_array()
        .expect("layers");
    assert!(
        layers
            .iter()
            .all(|l| l["by"].as_str().is_some_and(|by| by.ends_with("_f16"))),
        "{explained}"
    );
}

#[test]
fn answers_are_the_processors_alone_and_side_by_side() {
    let Some(report) = bench("answers are the processor's", &["--check"]) else {
        return;
    };
    for row in report["checked"].as_array().expect("rows") {
        assert_eq!(
            (&row["same_class"], &row["repeatable"]),
            (&row["images"], &true.into()),
            "{row}"
        );
    }
    let report = bench("soak", &["--soak", "10ms"]).expect("as before");
    assert!(
        report["soak"]
            .as_array()
            .is_some_and(|s| s.iter().all(|s| s["wrong"] == 0)),
        "{report}"
    );
    let report = bench("together", &["--together"]).expect("as before");
    assert_eq!(report["together"][0]["resident"], true, "{report}");
}

#[test]
fn workers_are_dealt_over_several_devices() {
    let claim = "workers are dealt over several devices";
    let Some(variables) = environment(Build::Plain, claim, &[("SIMT_DEVICES", "2")]) else {
        return;
    };
    let arguments = [
        "--json",
        "demo",
        "--device",
        "cuda:*",
        "--workers",
        "2",
        "--requests",
        "8",
        "--burst",
        "4",
        "--grid",
        "2x2",
        "--rate",
        "40",
        "--deadline",
        "30s",
        "--stragglers",
        "pause:0:1",
    ];
    let output = collage(&arguments).envs(variables.clone()).output();
    let output = output.expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let outcome: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let device = outcome["device"].as_str().expect("a text");
    assert!(
        device.contains("cuda:0 ") && device.contains("cuda:1 "),
        "{device}"
    );
    assert_eq!(outcome["runs"][0]["answered"], 8, "{outcome}");
    // Both base workers, and with them both devices, had runs.
    for worker in outcome["runs"][0]["workers"].as_array().expect("workers") {
        assert!(worker["runs"].as_u64() > Some(0), "{worker}");
    }
    let mut command = collage(&["demo", "--device", "cuda:2,cuda:0"]);
    let output = command.envs(variables).output().expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("no cuda device 2"), "{error}");
}

#[test]
fn compiling_without_a_compiler_says_where_to_get_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().display().to_string();
    let mut command = collage(&["compile", "--arch", "90a", "--out", &out]);
    let output = command
        .env("COLLAGE_NVRTC", "/no/such/nvrtc")
        .output()
        .expect("the binary starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(
        error.contains("/no/such/nvrtc") && error.contains("COLLAGE_NVRTC"),
        "{error}"
    );
    let output = collage(&["compile", "--arch", "60", "--out", &out])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
}
