//! `collage monitor` as its users run it: with the stub of NVML, with engines, without either.

#[cfg(unix)]
mod attached;
#[cfg(unix)]
mod dashboard;
#[cfg(unix)]
#[path = "../engine_fakes/mod.rs"]
mod engine_fakes;
#[path = "../nvml_stub/mod.rs"]
mod nvml_stub;
#[cfg(unix)]
mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
