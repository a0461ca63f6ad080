//! What watching costs: the processor time of polling eight GPUs ten times a second, by the operating system's count of this
//! thread. `cargo bench --bench telemetry`; with `-- --test`, and under `cargo test`, it looks a few times and ends.
//!
//! The GPUs are the stub's (tests/nvml_stub), so this is the cost of our code and the wrapper's with a library that answers
//! at once. What a driver adds, mostly the system calls behind each question, is not in it: on a machine with NVIDIA GPUs
//! `--driver` polls those in the stub's place.

#[cfg(all(feature = "nvml", target_os = "linux"))]
#[path = "../tests/nvml_stub/mod.rs"]
mod nvml_stub;

#[cfg(all(feature = "nvml", target_os = "linux"))]
mod watching {
    use std::time::{Duration, Instant};

    use collage::host::telemetry::{Verdict, Watch};

    use super::nvml_stub::Stub;

    const INTERVAL: Duration = Duration::from_millis(100);
    const WINDOW: Duration = Duration::from_secs(2);
    const READINGS: u32 = 300;
    const SCENARIO: &str = "gpu NVIDIA H100 80GB HBM3 x8
        reasons sw_power_cap
        process 4242 8e9 70
        process 4243 8e9 20";

    fn thread_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    pub fn run() {
        let flag = |name: &str| std::env::args().any(|argument| argument == name);
        let stub = Stub::new(SCENARIO);
        let library = stub.library();
        let library = (!flag("--driver")).then_some(library.as_path());
        let mut watch = match Watch::open(library, WINDOW) {
            Ok(watch) => watch,
            Err(reason) => return println!("SKIPPED polling the driver's GPUs: {reason}"),
        };
        let readings = if flag("--bench") { READINGS } else { 5 };
        let (mut reading, mut judging) = (Duration::ZERO, Duration::ZERO);
        let start = Instant::now();
        for n in 1..=readings {
            let before = thread_time();
            watch.read();
            let read = thread_time();
            for history in watch.histories() {
                let window = history.window();
                let verdict = Verdict::of_gpu(history.gpu(), &window, history.latest(), &[]);
                std::hint::black_box(verdict);
            }
            let judged = thread_time();
            reading += read - before;
            judging += judged - read;
            std::thread::sleep((start + INTERVAL * n).saturating_duration_since(Instant::now()));
        }
        let span = start.elapsed().as_secs_f64();
        let gpus = watch.histories().len();
        println!(
            "driver {}, {gpus} GPUs, {readings} readings of each in {span:.1} s",
            watch.driver()
        );
        for (what, time) in [("reading", reading), ("windows and verdicts", judging)] {
            let us = time.as_secs_f64() * 1e6 / f64::from(readings);
            let share = time.as_secs_f64() / span * 100.0;
            println!("{what:<22} {us:8.0} us a round of all GPUs, {share:.3}% of a core");
        }
    }
}

fn main() {
    #[cfg(all(feature = "nvml", target_os = "linux"))]
    watching::run();
    #[cfg(not(all(feature = "nvml", target_os = "linux")))]
    println!("SKIPPED polling: this build or system has no NVML");
}
