//! With engines that run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::engine_fakes::{Fake, setup, submit, sure};
use collage::engine::{AccuracyBudget, Attach, Engine, Policy};

use super::{Exporter, HOT, Stub, collage, is_hot, run, sample, text};

/// An engine that has answered, and the folder that it is seen in.
pub fn engine() -> (Engine, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = setup(Fake::new(|_| {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }));
    setup.policy = Policy::None;
    setup.base_workers = 2;
    setup.objective = Some("p99=60s".parse().expect("an objective"));
    let (budget, drop) = (0.01, 0.1);
    setup.accuracy = Some(AccuracyBudget { budget, drop });
    let mut engine = Engine::start(setup).expect("starts");
    let place = Attach::In(folder.path().join("engines"));
    engine.attach(&place).expect("attaches");
    // Two at a time, on a worker each: both have enough runs for scores.
    for pair in 0..20 {
        for ticket in submit(&engine, [sure(2 * pair), sure(2 * pair + 1)]) {
            ticket.wait().expect("answered");
        }
    }
    (engine, folder)
}

pub fn watching(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = collage();
    command.arg("monitor").args(arguments);
    command.env("COLLAGE_ATTACH", folder.join("engines"));
    command.env("COLLAGE_NVML", "/nowhere/libnvidia-ml.so");
    command
}

#[test]
fn one_look_shows_the_engines_that_run_also_without_a_gpu() {
    let (engine, folder) = engine();
    let output = run(watching(folder.path(), &["--once", "--json"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["available"], false);
    let [shown] = &json["engines"].as_array().expect("a list")[..] else {
        panic!("one engine: {json}")
    };
    assert_eq!(shown["pid"], std::process::id());
    assert_eq!(shown["state"]["requests"]["submitted"], 40);
    assert_eq!(shown["state"]["workers"][0]["role"], "base");
    let kinds = shown["state"]["promises"].as_array().expect("a list");
    let kinds: Vec<&str> = kinds.iter().filter_map(|p| p["kind"].as_str()).collect();
    assert_eq!(kinds, ["latency", "accuracy"]);
    assert_eq!(shown["state"]["promises"][0]["promised"], 60e6);
    assert_eq!(shown["verdicts"].as_array().map(Vec::len), Some(2));
    let text = text(&run(watching(folder.path(), &["--once"])).stdout);
    let pid = std::process::id();
    assert!(
        text.contains(&format!("engine {pid}.")) && text.contains("policy none"),
        "{text}"
    );
    engine.shutdown();
}

#[test]
fn attach_chooses_the_process_and_says_if_it_is_not_there() {
    let (engine, folder) = engine();
    let pid = std::process::id().to_string();
    let found = run(watching(
        folder.path(),
        &["--once", "--json", "--attach", &pid],
    ));
    assert!(found.status.success());
    let other = run(watching(folder.path(), &["--once", "--attach", "4194304"]));
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("--attach 4194304: no engine of this process"));
    engine.shutdown();
}

#[test]
fn prometheus_is_told_each_workers_times_as_a_histogram() {
    let (engine, folder) = engine();
    let exporter = Exporter::start(watching(folder.path(), &[]));
    let (_, metrics) = exporter.get("/metrics");
    let stats = engine.stats();
    let mut answers = 0.0;
    for (index, worker) in stats.workers.iter().enumerate() {
        let label = format!("worker=\"{index}\"");
        let count = sample(&metrics, "collage_worker_service_seconds_count", &label);
        let all = metrics.lines().find(|l| {
            l.starts_with("collage_worker_service_seconds_bucket")
                && l.contains(&label)
                && l.contains("+Inf")
        });
        let all = all.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        assert_eq!((all, count), (Some(count), worker.runs as f64));
        answers += sample(&metrics, "collage_worker_answers_total", &label);
    }
    assert_eq!(answers, 40.0);
    let answered = ["base", "collage", "copy"].map(|outcome| {
        sample(
            &metrics,
            "collage_requests_total",
            &format!("outcome=\"{outcome}\""),
        )
    });
    assert_eq!(answered.iter().sum::<f64>(), 40.0);
    assert_eq!(sample(&metrics, "collage_engine_up", "engine="), 1.0);
    engine.shutdown();
}

/// What promtool holds against DCGM's own names, which are kept because its dashboards ask for them.
const DCGMS: [&str; 3] = [
    r#"counter metrics should have "_total" suffix"#,
    "metric name should not include type 'counter'",
    "label names should be written in 'snake_case' not 'camelCase'",
];

#[test]
fn promtool_has_nothing_against_the_metrics() {
    let Some(promtool) = std::env::var_os("COLLAGE_TEST_PROMTOOL") else {
        println!("SKIPPED: promtool checks the metrics: COLLAGE_TEST_PROMTOOL names none");
        return;
    };
    let (engine, folder) = engine();
    let stub = Stub::new(HOT);
    let mut command = watching(folder.path(), &[]);
    command.env("COLLAGE_NVML", stub.library());
    let metrics = Exporter::start(command).until(is_hot);
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = check.stdin.take().expect("piped");
    stdin.write_all(metrics.as_bytes()).expect("takes them");
    drop(stdin);
    let output = check.wait_with_output().expect("ends");
    let told = text(&output.stderr) + &text(&output.stdout);
    assert!(told.contains("DCGM_FI_"), "promtool reads them: {told}");
    let ours = told.lines().filter(|line| {
        let known = line.starts_with("DCGM_FI_") && DCGMS.iter().any(|d| line.contains(d));
        !known && !line.trim().is_empty()
    });
    assert_eq!(
        ours.collect::<Vec<_>>(),
        Vec::<&str>::new(),
        "in\n{metrics}"
    );
    engine.shutdown();
}
