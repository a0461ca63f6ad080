//! `collage monitor` as its users run it: with the stub of NVML, with engines, without either.

#[cfg(unix)]
mod engine_fakes;
mod nvml_stub;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nvml_stub::Stub;

/// Two GPUs, of which the second is too hot and has had an error.
const HOT: &str = "\
driver 580.65.06
tick reading
gpu NVIDIA H100 80GB HBM3
gpu NVIDIA H100 80GB HBM3
  temperature 70 ~10 88
  reasons none @5 hw_slowdown+hw_thermal_slowdown
  sm_clock 1980 @5 990
  xid 79 @8
";

fn collage() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_collage"));
    command.env("COLLAGE_ATTACH", "off").env_remove("RUST_LOG");
    command.stdin(Stdio::null());
    command
}

fn monitor(stub: &Stub, arguments: &[&str]) -> Command {
    let mut command = collage();
    command.arg("monitor").args(arguments);
    command.env("COLLAGE_NVML", stub.library());
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("collage starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A monitor that serves, until it is dropped.
struct Exporter {
    process: Child,
    address: String,
}

impl Exporter {
    fn start(mut command: Command) -> Exporter {
        let mut process = command
            .args(["--prometheus", "127.0.0.1:0", "--interval", "20ms"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("collage starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("says where");
        let address = line.trim().strip_prefix("metrics at http://");
        let address = address.and_then(|a| a.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Exporter { process, address }
    }

    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("serves");
        let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("takes it");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }

    /// The metrics once they are as asked for. Ends only with the test's own timeout if they never are.
    fn until(&self, reached: impl Fn(&str) -> bool) -> String {
        loop {
            let (_, body) = self.get("/metrics");
            if reached(&body) {
                return body;
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The sample of this name with this in its labels.
fn sample(metrics: &str, name: &str, label: &str) -> f64 {
    let mut lines = metrics.lines();
    let line = lines.find(|l| l.starts_with(&format!("{name}{{")) && l.contains(label));
    let line = line.unwrap_or_else(|| panic!("no {name} with {label} in\n{metrics}"));
    let value = line.rsplit(' ').next().expect("a value");
    value.parse().unwrap_or_else(|_| panic!("{line}"))
}

fn is_hot(metrics: &str) -> bool {
    metrics
        .lines()
        .any(|l| l.starts_with("DCGM_FI_DEV_XID_ERRORS{gpu=\"1\"") && l.ends_with(" 79"))
}

#[test]
fn prometheus_is_told_what_the_driver_tells_under_dcgms_names() {
    let stub = Stub::new(HOT);
    let exporter = Exporter::start(monitor(&stub, &[]));
    let metrics = exporter.until(is_hot);
    for label in [
        "gpu=\"1\"",
        "UUID=\"GPU-",
        "device=\"nvidia1\"",
        "modelName=\"NVIDIA H100 80GB HBM3\"",
        "Hostname=\"",
    ] {
        assert_eq!(sample(&metrics, "DCGM_FI_DEV_MAX_SM_CLOCK", label), 1980.0);
    }
    assert_eq!(
        sample(&metrics, "DCGM_FI_DEV_SM_CLOCK", "gpu=\"0\""),
        1980.0
    );
    assert_eq!(sample(&metrics, "DCGM_FI_DEV_SM_CLOCK", "gpu=\"1\""), 990.0);
    assert_eq!(sample(&metrics, "DCGM_FI_DEV_GPU_UTIL", "gpu=\"0\""), 90.0);
    assert_eq!(
        sample(&metrics, "DCGM_FI_DEV_FB_USED", "gpu=\"0\""),
        19073.0,
        "20e9 bytes in MiB"
    );
    assert_eq!(
        sample(&metrics, "DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "gpu=\"1\""),
        72.0
    );
    assert_eq!(
        sample(&metrics, "collage_gpu_verdict", "gpu=\"1\",UUID"),
        0.0,
        "the first cause is none"
    );
    let causes = metrics
        .lines()
        .filter(|l| l.starts_with("collage_gpu_verdict{gpu=\"1\"") && l.ends_with(" 1"));
    assert_eq!(causes.count(), 1, "one cause holds");
    let held = sample(
        &metrics,
        "collage_gpu_clock_event_ratio",
        "reason=\"hw_thermal_slowdown\"",
    );
    assert!(held > 0.0 && held <= 1.0, "{held}");
}

#[test]
fn the_index_points_at_the_metrics_and_other_paths_are_not_there() {
    let stub = Stub::new(HOT);
    let exporter = Exporter::start(monitor(&stub, &[]));
    let (head, body) = exporter.get("/");
    assert!(
        head.contains(" 200 ") && body.contains("/metrics"),
        "{head}\n{body}"
    );
    assert!(exporter.get("/weights").0.contains(" 404 "));
    let (head, _) = exporter.get("/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
}

#[test]
fn an_address_that_cannot_be_is_told_with_what_one_looks_like() {
    let stub = Stub::new(HOT);
    let output = run(monitor(&stub, &["--prometheus", "9835"]));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("expected HOST:PORT"), "{told}");
}

#[test]
fn an_address_that_is_taken_is_a_failure_and_no_panic() {
    let stub = Stub::new(HOT);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("known").to_string();
    let output = run(monitor(&stub, &["--prometheus", &address]));
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&address) && told.contains("cannot listen"),
        "{told}"
    );
}

#[test]
fn without_a_terminal_the_view_says_what_to_use_instead() {
    let stub = Stub::new(HOT);
    let output = run(monitor(&stub, &[]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--once"));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_picture_of_the_view_shows_what_the_stub_says() {
    let stub = Stub::new(HOT);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("view.svg");
    let path = file.to_str().expect("text");
    let output = run(monitor(
        &stub,
        &["--svg", path, "--interval", "20ms", "--window", "2s"],
    ));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let svg = std::fs::read_to_string(&file).expect("written");
    for told in [
        "driver 580.65.06",
        "NVIDIA H100 80GB HBM3",
        "Xid 79",
        "verdict: hardware (certain)",
    ] {
        assert!(svg.contains(told), "{told} is not in the picture");
    }
}

#[cfg(unix)]
mod attached {
    use super::*;
    use collage::engine::{AccuracyBudget, Attach, Engine, Policy};
    use engine_fakes::{Fake, setup, sure};

    /// An engine that has answered, and the folder that it is seen in.
    fn engine() -> (Engine, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut setup = setup(Fake::new(|_| Ok(())));
        setup.policy = Policy::None;
        setup.base_workers = 2;
        setup.objective = Some("p99=1m".parse().expect("an objective"));
        let (budget, drop) = (0.01, 0.1);
        setup.accuracy = Some(AccuracyBudget { budget, drop });
        let mut engine = Engine::start(setup).expect("starts");
        let place = Attach::In(folder.path().join("engines"));
        engine.attach(&place).expect("attaches");
        // One after the other: each has a run of its own, and both workers have enough of them for scores.
        for class in 0..40 {
            engine.classify(sure(class)).expect("answered");
        }
        (engine, folder)
    }

    fn watching(folder: &Path, arguments: &[&str]) -> Command {
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
        r#"should have "_total" suffix"#,
        "should be written in 'snake_case' not 'camelCase'",
        "should not include the metric's unit",
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
        let ours = told.lines().filter(|line| {
            let known = line.starts_with("DCGM_FI_") && DCGMS.iter().any(|d| line.contains(d));
            let labels = line.contains("label") && line.contains("camelCase");
            !known && !labels && !line.trim().is_empty()
        });
        assert_eq!(
            ours.collect::<Vec<_>>(),
            Vec::<&str>::new(),
            "in\n{metrics}"
        );
        engine.shutdown();
    }

    #[test]
    fn promtool_can_read_every_query_of_the_dashboard() {
        let Some(promtool) = std::env::var_os("COLLAGE_TEST_PROMTOOL") else {
            println!(
                "SKIPPED: promtool reads the dashboard's queries: COLLAGE_TEST_PROMTOOL names none"
            );
            return;
        };
        let mut rules = Vec::new();
        collect(&dashboard(), &mut |query| {
            if !query.starts_with("label_values") && query != "prometheus" {
                let query = query
                    .replace("$__rate_interval", "1m")
                    .replace("$__range", "1h");
                rules.push(serde_json::json!({ "record": format!("query:{}", rules.len()), "expr": query }));
            }
        });
        assert!(rules.len() > 30, "{}", rules.len());
        let file = tempfile::NamedTempFile::new().expect("a file");
        // JSON is YAML.
        let all = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
        std::fs::write(file.path(), all.to_string()).expect("written");
        let check = ["check", "rules", "--lint=none"];
        let output = Command::new(promtool).args(check).arg(file.path()).output();
        let output = output.expect("promtool starts");
        let told = text(&output.stderr) + &text(&output.stdout);
        assert!(output.status.success(), "{told}");
    }

    #[test]
    fn every_panel_of_the_dashboard_has_its_own_id_and_asks_the_chosen_source() {
        let dashboard = dashboard();
        let panels = dashboard["panels"].as_array().expect("a list");
        let ids: BTreeSet<_> = panels.iter().filter_map(|p| p["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len());
        for panel in panels.iter().filter(|p| p["type"] != "row") {
            let targets = panel["targets"].as_array().expect("a list");
            assert!(!targets.is_empty(), "{panel}");
            let sources = targets.iter().map(|t| &t["datasource"]["uid"]);
            assert!(
                sources
                    .chain([&panel["datasource"]["uid"]])
                    .all(|uid| uid == "${datasource}")
            );
        }
        let variables = dashboard["templating"]["list"].as_array().expect("a list");
        assert_eq!(variables[0]["type"], "datasource");
    }

    fn dashboard() -> serde_json::Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grafana/collage.json");
        let dashboard = std::fs::read_to_string(path).expect("is there");
        serde_json::from_str(&dashboard).expect("JSON")
    }

    /// Names of metrics in a query: words with one of our beginnings.
    fn named(query: &str) -> impl Iterator<Item = &str> {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|w| w.starts_with("collage_") || w.starts_with("DCGM_FI_"))
    }

    #[test]
    fn the_dashboard_asks_for_what_is_exported_and_for_all_of_it() {
        let dashboard = dashboard();
        let mut asked = BTreeSet::new();
        collect(&dashboard, &mut |query| {
            asked.extend(named(query).map(str::to_owned))
        });
        let (engine, folder) = engine();
        let stub = Stub::new(HOT);
        let mut command = watching(folder.path(), &[]);
        command.env("COLLAGE_NVML", stub.library());
        // A score is there once a worker has run enough, which is the first thing that the engine waited for.
        let metrics = Exporter::start(command).until(is_hot);
        let types = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE "));
        let exported: BTreeSet<String> = types
            .filter_map(|l| l.split_once(' '))
            .flat_map(|(name, kind)| match kind {
                "histogram" => vec![format!("{name}_bucket")],
                _ => vec![name.to_owned()],
            })
            .collect();
        let unknown: Vec<&String> = asked.difference(&exported).collect();
        assert!(
            unknown.is_empty(),
            "asked for and not exported: {unknown:?}"
        );
        let unseen: Vec<&String> = exported.difference(&asked).collect();
        assert!(unseen.is_empty(), "exported and in no panel: {unseen:?}");
        engine.shutdown();
    }

    /// Every query of the dashboard, its variables' among them.
    fn collect(value: &serde_json::Value, with: &mut impl FnMut(&str)) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    match value.as_str() {
                        Some(text) if matches!(key.as_str(), "expr" | "query" | "definition") => {
                            with(text)
                        }
                        _ => collect(value, with),
                    }
                }
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| collect(v, with)),
            _ => {}
        }
    }
}
