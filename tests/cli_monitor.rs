//! `collage monitor --once` and `--csv`: real binary, real wrapper, stub of NVML.

use serde_json::Value;

mod cli_support;
use cli_support::{collage, failure, json};

#[cfg(all(feature = "nvml", target_os = "linux"))]
mod nvml_stub;

#[test]
fn a_machine_without_nvml_is_told_so_and_is_no_failure() {
    let absent = ["monitor", "--once", "--nvml", "/nowhere/libnvidia-ml.so"];
    let output = collage(&absent).output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("no GPU to watch"), "{text}");
    let report = json(&absent);
    assert_eq!(report["available"], false);
    assert!(
        report["reason"].is_string() && report["code"].is_u64(),
        "{report}"
    );
    assert_eq!(report["gpus"], Value::Array(vec![]));
    let csv = collage(&["monitor", "--csv", "--count", "1", "--nvml", "/nowhere.so"]);
    let output = { csv }.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(0));
    let header = String::from_utf8(output.stdout).expect("text");
    assert_eq!(header.lines().count(), 1, "{header}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no GPU to watch"));
}

#[test]
fn times_that_make_no_window_are_refused() {
    let error = failure(&["monitor", "--window", "100ms", "--interval", "100ms"], 2);
    assert!(
        error.contains("--window") && error.contains("3 readings"),
        "{error}"
    );
    let error = failure(&["monitor", "--interval", "0ms"], 2);
    assert!(error.contains("1ms at least"), "{error}");
    failure(&["monitor", "--csv", "--once"], 2);
}

#[cfg(all(feature = "nvml", target_os = "linux"))]
mod with_gpus {
    use super::nvml_stub::Stub;
    use super::*;

    const SCENARIO: &str = "driver 580.65.06
        gpu NVIDIA H100, 80GB
         reasons hw_slowdown+hw_thermal_slowdown
         sm_clock 990
         temperature 90
        gpu NVIDIA H100
         state ok @2 !lost
        gpu NVIDIA H100
         reasons gpu_idle
         utilisation 0
         link_generation 1";

    fn arguments(library: &str) -> Vec<String> {
        let fixed = [
            "monitor",
            "--window",
            "30ms",
            "--interval",
            "5ms",
            "--nvml",
            library,
        ];
        fixed.map(str::to_owned).to_vec()
    }

    fn run(extra: &[&str]) -> std::process::Output {
        let stub = Stub::new(SCENARIO);
        let mut all = arguments(stub.library().to_str().expect("a path of text"));
        all.extend(extra.iter().map(|s| (*s).to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let output = collage(&all).output().expect("the binary starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{error}");
        output
    }

    #[test]
    fn once_names_each_gpus_cause_with_its_evidence() {
        let text = String::from_utf8(run(&["--once"]).stdout).expect("text");
        let gpus: Vec<&str> = text.split("\ngpu ").skip(1).collect();
        let [hot, lost, idle] = gpus[..] else {
            panic!("{text}")
        };
        assert!(hot.contains("verdict    thermal (certain)"), "{hot}");
        assert!(hot.contains("990 of 1980 MHz (50%)"), "{hot}");
        assert!(hot.contains("90 °C"), "{hot}");
        assert!(lost.contains("verdict    hardware (certain)"), "{lost}");
        assert!(lost.contains("off the bus"), "{lost}");
        assert!(idle.contains("verdict    none (certain)"), "{idle}");
        assert!(idle.contains("note: it is idle"), "{idle}");
    }

    #[test]
    fn json_has_facts_readings_windows_and_verdicts() {
        let output = run(&["--once", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
        assert_eq!(
            (&report["schema"], &report["command"]),
            (&1.into(), &"monitor".into())
        );
        assert_eq!(report["driver"], "580.65.06");
        let [hot, lost, idle] = &report["gpus"].as_array().expect("a list")[..] else {
            panic!("{report}")
        };
        assert_eq!(hot["name"], "NVIDIA H100, 80GB");
        assert_eq!(hot["pci_bus_id"], "0000:01:00.0");
        assert_eq!(hot["sm_clock_max_mhz"], 1980);
        assert_eq!(hot["reading"]["sm_clock_mhz"], 990);
        assert_eq!(
            hot["reading"]["reasons"],
            serde_json::json!(["hw_slowdown", "hw_thermal_slowdown"])
        );
        assert_eq!(hot["window"]["sm_clock"]["slowed"], 0.5);
        assert_eq!(hot["window"]["reasons"][0]["pattern"], "sustained");
        assert_eq!(hot["verdict"]["cause"], "thermal");
        assert!(hot["verdict"]["evidence"][0].is_string());
        assert_eq!(lost["reading"]["state"], "lost");
        assert_eq!(lost["reading"]["sm_clock_mhz"], Value::Null);
        assert_eq!(lost["reading"]["missing"][0]["why"], "gpu_lost");
        assert_eq!(lost["verdict"]["cause"], "hardware");
        assert_eq!(idle["window"]["loaded"], 0.0);
        assert_eq!(idle["verdict"]["cause"], "none");
    }

    #[test]
    fn csv_has_a_header_with_units_and_a_row_a_gpu_an_interval() {
        let text = String::from_utf8(run(&["--csv", "--count", "4"]).stdout).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let columns: Vec<&str> = lines[0].split(',').collect();
        assert!(
            columns.contains(&"sm_clock_mhz") && columns.contains(&"power_w"),
            "{columns:?}"
        );
        assert_eq!(lines.len(), 1 + 4 * 3, "{text}");
        // The name's comma is quoted.
        assert!(lines[1].contains("\"NVIDIA H100, 80GB\""), "{}", lines[1]);
        let cells = |line: &str| line.split(',').count();
        assert!(
            lines[2..]
                .iter()
                .all(|line| line.contains("80GB") || cells(line) == columns.len())
        );
        let last = lines[lines.len() - 2];
        assert!(
            last.contains(",lost,") && last.ends_with("hardware,certain"),
            "{last}"
        );
    }

    #[test]
    fn devices_shows_the_same_gpus() {
        let stub = Stub::new(SCENARIO);
        let output = collage(&["devices", "--json"])
            .env("COLLAGE_NVML", stub.library())
            .output()
            .expect("the binary starts");
        let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
        assert_eq!(report["nvml"]["driver"], "580.65.06");
        assert_eq!(report["nvml"]["gpus"][0]["temperature_c"], 90);
    }
}
