//! What GPUs say of themselves counts in an engine's health: the stub of NVML (tests/nvml_stub) tells, fake devices with a
//! PCI bus id, and simulated CUDA devices, run.
#![cfg(all(feature = "nvml", target_os = "linux"))]

use std::process::Command;
use std::sync::Arc;

use collage::backend::{BackendError, Device, DeviceInfo, Program};
use collage::engine::{Engine, Health, Setup};
use collage::model::plan::Plan;

#[cfg(feature = "cuda")]
mod cuda_support;
mod engine_fakes;
mod nvml_stub;
mod skip;

use engine_fakes::Fake;
use nvml_stub::Stub;

/// Which test the process runs: set by the process that started it.
const CHILD: &str = "COLLAGE_WATCHED";

/// Runs `claim` in a process of its own, for which the stub with this scenario is NVML: a process has one environment, and
/// its threads share it.
fn watched(test: &str, scenario: &str, claim: impl FnOnce()) {
    if std::env::var(CHILD).is_ok_and(|running| running == test) {
        return claim();
    }
    let stub = Stub::new(scenario);
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .env("COLLAGE_NVML", stub.library())
        .output()
        .expect("this program starts");
    let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{test}\n{out}\n{error}");
    assert!(out.contains("1 passed"), "{test}: no such test\n{out}");
}

/// A fake at this place on the PCI bus.
#[derive(Debug)]
struct OnGpu(Arc<Fake>, u32);

impl Device for OnGpu {
    fn info(&self) -> &DeviceInfo {
        self.0.info()
    }

    fn pci_bus_id(&self) -> Option<String> {
        Some(format!("0000:{:02x}:00.0", self.1))
    }

    fn load(&self, plan: Arc<Plan>) -> Result<Box<dyn Program>, BackendError> {
        self.0.load(plan)
    }
}

/// A worker on each of so many GPUs, by the order of NVML.
fn fleet(gpus: u32) -> Setup {
    let device = |bus| Arc::new(OnGpu(Fake::new(|_| Ok(())), bus)) as Arc<dyn Device>;
    let devices: Vec<_> = (1..=gpus).map(device).collect();
    Setup {
        base_workers: devices.len(),
        collage_workers: 0,
        devices: devices.clone(),
        ..engine_fakes::setup(devices[0].clone())
    }
}

/// The threads of this process that have this name, which Linux cuts to fifteen bytes.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let is_it = |found: &String| found.trim_end() == &name[..name.len().min(15)];
    names.filter(is_it).count()
}

const THREAD: &str = "collage-telemetry";

#[test]
fn a_worker_whose_gpu_is_slowed_by_heat_is_suspect_before_it_ran() {
    let scenario = "gpu H100 x3\ngpu H100\n reasons hw_slowdown+hw_thermal_slowdown\n sm_clock 990\n temperature 90";
    let test = "a_worker_whose_gpu_is_slowed_by_heat_is_suspect_before_it_ran";
    watched(test, scenario, || {
        let engine = Engine::start(fleet(4)).expect("starts");
        let is_told = |stats: &collage::engine::Stats| stats.workers[3].health == Health::Suspect;
        let stats = engine_fakes::until(&engine, is_told);
        assert!(stats.workers.iter().all(|worker| worker.runs == 0));
        let others = &stats.workers[..3];
        assert!(others.iter().all(|worker| worker.health == Health::Healthy));
        assert_eq!(threads(THREAD), 1);
        engine.shutdown();
        while threads(THREAD) > 0 {
            std::thread::yield_now(); // the test's own timeout is the limit
        }
    });
}

#[test]
fn a_worker_whose_gpu_is_lost_is_quarantined_before_it_ran() {
    let test = "a_worker_whose_gpu_is_lost_is_quarantined_before_it_ran";
    watched(test, "gpu H100\n state ok @3 !lost\ngpu H100 x3", || {
        let engine = Engine::start(fleet(4)).expect("starts");
        let stats = engine_fakes::until(&engine, |s| s.workers[0].health == Health::Quarantined);
        assert!(stats.workers.iter().all(|worker| worker.runs == 0));
    });
}

#[test]
fn who_wants_no_telemetry_or_has_no_gpu_gets_no_thread() {
    let test = "who_wants_no_telemetry_or_has_no_gpu_gets_no_thread";
    watched(test, "gpu H100 x4", || {
        let off = Engine::start(Setup {
            telemetry: false,
            ..fleet(2)
        });
        let off = off.expect("starts");
        let none = Engine::start(engine_fakes::setup(Fake::new(|_| Ok(())))).expect("starts");
        assert_eq!(threads(THREAD), 0);
        drop((off, none));
    });
}

#[test]
fn an_engine_on_gpus_starts_where_nvml_does_not_answer() {
    let test = "an_engine_on_gpus_starts_where_nvml_does_not_answer";
    watched(test, "init driver_not_loaded", || {
        let engine = Engine::start(fleet(2)).expect("starts");
        let ticket = engine_fakes::submit(&engine, [engine_fakes::image(7, 255)]).remove(0);
        assert_eq!(ticket.wait().expect("an answer").top[0].class, 7);
    });
}

#[cfg(feature = "cuda")]
#[test]
fn a_simulated_cuda_device_is_the_gpu_that_nvml_has_on_its_bus() {
    use collage::backend::cuda::{CudaOptions, open_device};
    use collage::engine::Options;
    use collage::host::telemetry::Source;

    let scenario = "gpu H100\ngpu H100\n reasons hw_slowdown+hw_thermal_slowdown\n sm_clock 990";
    let library = Stub::kept(scenario);
    let library = library.to_str().expect("a path of text");
    let options = [("SIMT_DEVICES", "2"), ("COLLAGE_NVML", library)];
    let test = "a_simulated_cuda_device_is_the_gpu_that_nvml_has_on_its_bus";
    cuda_support::simulated(test, &options, || {
        let cuda = [0, 1].map(|index| open_device(index, CudaOptions::default()).expect("opens"));
        let source = Source::open(None).expect("the stub is NVML");
        for (device, gpu) in cuda.iter().zip(source.gpus()) {
            assert_eq!(device.pci_bus_id(), gpu.pci_bus_id);
        }
        let devices = cuda
            .map(|device| Arc::new(device) as Arc<dyn Device>)
            .to_vec();
        let base = collage::embedded::base().expect("it is built in");
        let engine = Engine::open(Options {
            base_workers: 2,
            max_batch: 1,
            ..Options::new(base, devices)
        });
        let engine = engine.expect("opens");
        let stats = engine_fakes::until(&engine, |s| s.workers[1].health == Health::Suspect);
        assert_eq!(stats.workers[0].health, Health::Healthy);
        assert!(stats.workers.iter().all(|worker| worker.runs == 0));
    });
}
