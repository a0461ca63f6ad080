//! `collage bench engine`: every mode gives what docs/json.md says, with figures that agree with each other. Nothing here
//! depends on how fast the machine is.

use serde_json::Value;

mod cli_support;
use cli_support::{failure, json, text};

const QUICK: [&str; 6] = ["bench", "engine", "--device", "cpu:1", "--seconds", "0.02"];

fn quick(arguments: &[&str]) -> Value {
    json(&[&QUICK, arguments].concat())
}

fn number(value: &Value, key: &str) -> f64 {
    let number = value[key].as_f64();
    number.unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn rows_are_every_network_type_and_batch_in_order() {
    let report = quick(&[
        "--arch",
        "resnet20",
        "--collage",
        "digits",
        "--grid",
        "2x2",
        "--batch",
        "1,3",
        "--dtype",
        "f32,bf16",
    ]);
    assert_eq!(
        (&report["bench"], &report["seconds"]),
        (&"engine".into(), &0.02.into())
    );
    assert!(
        report["device"]
            .as_str()
            .is_some_and(|d| d.starts_with("cpu:0"))
    );
    let rows = report["rows"].as_array().expect("rows");
    let of = |row: &Value| {
        let word = |key: &str| row[key].as_str().expect("a word").to_string();
        let count = |key: &str| row[key].as_u64().expect("a count");
        (
            word("network"),
            word("dtype"),
            count("batch"),
            count("images"),
        )
    };
    let of: Vec<_> = rows.iter().map(of).collect();
    let expected = |name: &'static str, tiles| {
        ["f32", "bf16"].into_iter().flat_map(move |dtype| {
            let name = name.to_string();
            [1, 3].map(move |batch| (name.clone(), dtype.to_string(), batch, batch * tiles))
        })
    };
    let expected: Vec<_> = expected("resnet20", 1)
        .chain(expected("digits-collage 2x2", 4))
        .collect();
    assert_eq!(of, expected);
}

#[test]
fn figures_of_a_row_agree_with_each_other() {
    let report = quick(&[
        "--arch",
        "resnet20",
        "--batch",
        "2",
        "--peak-tflops",
        "0.5",
        "--peak-gbs",
        "50",
    ]);
    let row = &report["rows"][0];
    // The CPU has no clock of its own: the figures are from the caller's latency.
    assert_eq!(row["basis"], "latency");
    for absent in [
        "enqueue_ms",
        "upload_ms",
        "compute_ms",
        "download_ms",
        "resident_ms",
    ] {
        assert!(row[absent].is_null(), "{absent} in {row}");
    }
    let latency = &row["latency_ms"];
    let order = ["min", "median", "p90", "p95", "p99", "max"].map(|key| number(latency, key));
    assert!(order[0] > 0.0 && order.is_sorted(), "{latency}");
    assert!(row["runs"].as_u64().is_some_and(|runs| runs >= 2));
    let seconds = number(latency, "median") / 1e3;
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
    assert!(close(number(row, "images_per_s"), 2.0 / seconds), "{row}");
    assert!(
        close(
            number(row, "tflops"),
            2.0 * number(row, "macs") / seconds / 1e12
        ),
        "{row}"
    );
    assert!(
        close(
            number(row, "gb_per_s"),
            number(row, "bytes") / seconds / 1e9
        ),
        "{row}"
    );
    let shares = ["share_of_peak_tflops", "share_of_peak_gb_per_s"].map(|key| number(row, key));
    assert!(close(shares[0], number(row, "tflops") / 0.5), "{row}");
    assert!(
        close(number(row, "share_of_roofline"), shares[0].max(shares[1])),
        "{row}"
    );
    // Few runs are never presented as many.
    if row["runs"].as_u64() < Some(10) {
        assert!(
            row["warnings"][0]
                .as_str()
                .is_some_and(|w| w.contains("only")),
            "{row}"
        );
    }
}

#[test]
fn counts_are_the_models_own() {
    let rows = &quick(&["--batch", "4"])["rows"];
    let summary = json(&["inspect", "digits", "--batch", "4"]);
    assert_eq!(rows[0]["macs"], summary["macs"]);
    // Each value is written and read at least once, each parameter read.
    let least = number(&summary, "weight_bytes") + number(&summary, "arena_bytes");
    assert!(number(&rows[0], "bytes") > least);
}

#[test]
fn half_the_bytes_move_in_half_precision() {
    let rows = &quick(&["--batch", "1", "--dtype", "f32,f16", "--input", "tensor"])["rows"];
    assert_eq!(number(&rows[0], "bytes"), 2.0 * number(&rows[1], "bytes"));
}

#[test]
fn explain_names_what_runs_each_layer_and_runs_nothing() {
    let report = quick(&["--explain", "--batch", "1,8", "--dtype", "f16"]);
    assert!(report["rows"].is_null());
    let plans = report["explained"].as_array().expect("plans");
    assert_eq!(plans.len(), 2);
    let layers = plans[1]["layers"].as_array().expect("layers");
    let summary = json(&["inspect", "digits", "--batch", "8"]);
    let names = |layers: &Value| {
        let layers = layers.as_array().expect("layers").iter();
        layers.map(|l| l["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&plans[1]["layers"]), names(&summary["layers"]));
    for layer in layers {
        assert!(
            layer["by"].as_str().is_some_and(|by| !by.is_empty()),
            "{layer}"
        );
    }
}

#[cfg(feature = "cuda")]
#[test]
fn explain_needs_no_gpu_and_tells_architectures_apart() {
    let by = |target: &str| {
        let explain = format!("--explain={target}");
        let report = quick(&[
            "--arch", "resnet18", "--batch", "32", "--dtype", "f16", &explain,
        ]);
        assert!(
            report["device"]
                .as_str()
                .is_some_and(|d| d.contains("multiprocessors")),
            "{report}"
        );
        let layers = report["explained"][0]["layers"]
            .as_array()
            .expect("layers")
            .clone();
        let conv = layers.iter().filter(|l| l["op"] == "conv2d");
        conv.filter_map(|l| l["by"].as_str().map(String::from))
            .collect::<Vec<_>>()
    };
    let uses = |kernels: &[String], variant: &str| kernels.iter().any(|k| k.contains(variant));
    let (hopper, ampere, turing) = (by("sm_90a:132"), by("86"), by("sm_75"));
    assert!(
        uses(&hopper, "wgmma") && uses(&hopper, "stem"),
        "{hopper:?}"
    );
    assert!(
        uses(&ampere, "mma") && !uses(&ampere, "wgmma"),
        "{ampere:?}"
    );
    assert!(turing.iter().all(|k| k.contains("tiled")), "{turing:?}");
    let error = failure(&[&QUICK[..], &["--explain=H100"]].concat(), 2);
    assert!(
        error.contains("H100") && error.contains("expected"),
        "{error}"
    );
}

#[test]
fn check_compares_with_the_processor_in_every_type() {
    let report = quick(&[
        "--model",
        "digits",
        "--collage",
        "digits",
        "--batch",
        "2",
        "--dtype",
        "f32,f16,bf16",
        "--check",
    ]);
    let rows = report["checked"].as_array().expect("rows");
    assert_eq!(rows.len(), 6);
    for row in rows {
        // One processor against itself, though on another number of threads.
        assert_eq!(
            (number(row, "difference"), &row["repeatable"]),
            (0.0, &true.into()),
            "{row}"
        );
        assert_eq!(row["same_class"], row["images"], "{row}");
    }
}

#[test]
fn layers_are_each_distinct_convolution_once_and_counted() {
    let report = quick(&["--arch", "resnet20", "--layers", "--batch", "1"]);
    let layers = report["layers"].as_array().expect("layers");
    let names: Vec<&str> = layers.iter().filter_map(|l| l["name"].as_str()).collect();
    let expected = [
        "conv1",
        "layer1.0.conv1",
        "layer2.0.conv1",
        "layer2.0.conv2",
        "layer3.0.conv1",
        "layer3.0.conv2",
    ];
    assert_eq!(names, expected);
    let count: u64 = layers.iter().filter_map(|l| l["count"].as_u64()).sum();
    assert_eq!(count, 19);
    assert!(
        layers
            .iter()
            .all(|l| number(l, "ms") > 0.0 && number(l, "tflops") > 0.0)
    );
}

#[test]
fn together_and_soak_run_base_and_collage_side_by_side() {
    let pair = ["--model", "digits", "--collage", "digits", "--batch", "1"];
    let report = quick(&[&pair[..], &["--together"]].concat());
    let row = &report["together"][0];
    assert_eq!(
        (&row["base"], &row["collage"]),
        (&"digits-base".into(), &"digits-collage 3x3".into())
    );
    assert!(
        number(row, "cost") > 0.0 && row["base_runs"].as_u64() >= Some(1),
        "{row}"
    );

    let report = quick(&[&pair[..], &["--soak", "20ms", "--dtype", "f32,f16"]].concat());
    let streams = report["soak"].as_array().expect("streams");
    assert_eq!(streams.len(), 4);
    for stream in streams {
        assert!(
            stream["runs"].as_u64() >= Some(3) && stream["wrong"] == 0,
            "{stream}"
        );
    }
}

#[test]
fn the_text_says_which_device_and_the_json_says_no_more_than_asked() {
    let shown = text(&[&QUICK[..], &["--batch", "1"]].concat());
    assert!(
        shown.starts_with("cpu:0 ") && shown.contains("images/s") && shown.contains("p99"),
        "{shown}"
    );
    let report = quick(&["--explain", "--batch", "1"]);
    for absent in ["rows", "layers", "together", "soak"] {
        assert!(report.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (arguments, status, named) in [
        (&["--dtype", "fp16"][..], 2, "expected f32, f16 or bf16"),
        (&["--batch", "0"], 2, "--batch"),
        (&["--grid", "2x2"], 2, "--grid goes with --collage"),
        (&["--together"], 2, "--together takes a base"),
        (&["--together", "--layers"], 2, "--layers"),
        (&["--soak", "5"], 2, "--soak"),
        (&["--peak-tflops", "0"], 2, "--peak-tflops"),
        (&["--arch", "resnet1"], 3, "resnet1"),
        (&["--collage", "hashed", "--grid", "13x13"], 3, "13x13"),
        (
            &["--model", "no-such.safetensors"],
            3,
            "no-such.safetensors",
        ),
    ] {
        let error = failure(&[&QUICK, arguments].concat(), status);
        assert!(error.contains(named), "{named} in: {error}");
    }
}
