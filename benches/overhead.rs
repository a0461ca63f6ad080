//! What the engine adds to the device's own time, and how late its timers are.
//!
//! - *Added latency*: from submission to the answer in the caller's hands, less the time that the run itself took, on a
//!   device that does nothing for a fixed time. One request at a time, and at a moderate load of evenly spaced requests.
//!   The goal is 50 us at p99.
//! - *Timers*: a base run that hangs beside a collage that is there; how long after its release time the answer is
//!   settled. The goal is 100 us.
//!
//! `cargo bench --bench overhead`; with `-- --test`, and under `cargo test`, it runs once and briefly. The figures are of
//! the whole machine: on one with fewer free cores than there are threads awake they are the operating system's.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use collage::backend::{
    BackendError, BackendKind, Device, DeviceInfo, Input, Output, Program, Scored,
};
use collage::engine::{Engine, Plans, Policy, RequestOptions, Setup, Source};
use collage::image::Image;
use collage::model::plan::{
    Encode, Filter, Grid, Plan, Preprocessing, Step, Value, ValueId, Weights,
};
use collage::tensor::DType;

/// A device whose runs take a fixed time.
#[derive(Debug)]
struct Fixed {
    info: DeviceInfo,
    base: Work,
    collage: Work,
}

/// What a run does with its time.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Computes: the thread stays on its core.
    Busy(Duration),
    /// Waits, as for a device: the core is free.
    Asleep(Duration),
}

impl Work {
    fn pass(self) {
        match self {
            Work::Asleep(time) => thread::sleep(time),
            Work::Busy(time) => {
                let end = Instant::now() + time;
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

impl Device for Fixed {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn load(&self, plan: Arc<Plan>) -> Result<Box<dyn Program>, BackendError> {
        let work = match &*plan.name {
            "collage" => self.collage,
            _ => self.base,
        };
        Ok(Box::new(Run { work }))
    }
}

struct Run {
    work: Work,
}

impl Program for Run {
    fn run(&mut self, input: Input<'_>) -> Result<Output, BackendError> {
        let began = Instant::now();
        let count = match input {
            Input::Images(images) => images.len(),
            _ => 0,
        };
        self.work.pass();
        // The answer says how long its run took: all else is ours.
        let class = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
        let score = 1.0;
        Ok(Output::TopK(vec![vec![Scored { class, score }]; count]))
    }
}

fn plan(name: &str, grid: Grid) -> Arc<Plan> {
    let preprocessing = Preprocessing {
        resize: 1,
        size: 1,
        filter: Filter::Bilinear,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    Arc::new(Plan {
        name: name.to_owned(),
        batch: 1,
        dtype: DType::F32,
        weights: Arc::new(Weights::default()),
        values: vec![Value {
            shape: [1, grid.rows, grid.cols, 3],
            offset: 0,
        }],
        steps: vec![Step::Encode(Encode {
            output: ValueId(0),
            preprocessing,
            grid,
        })],
        arena_len: 128,
    })
}

fn setup(base: Work, collage: Work, policy: Policy) -> Setup {
    let info = DeviceInfo {
        backend: BackendKind::Cpu,
        index: 0,
        name: "fixed".to_owned(),
        driver: String::new(),
        memory_bytes: None,
        features: Vec::new(),
        software: true,
    };
    let plans = Plans {
        base: vec![plan("base", Grid::ONE)],
        collage: vec![plan("collage", Grid::ONE)],
        parity: None,
    };
    let mut setup = Setup::new(
        plans,
        Arc::new(Fixed {
            info,
            base,
            collage,
        }),
    );
    setup.policy = policy;
    setup.group_wait = Duration::ZERO;
    setup.deadline = Duration::from_secs(60);
    setup
}

fn image() -> Image {
    Image::from_rgb(1, 1, vec![0, 0, 0]).expect("one pixel")
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// From submission to the answer, less the run, of one request at a time with a pause before each.
fn one_at_a_time(work: Work, pause: Duration, requests: usize) -> Vec<f64> {
    let engine = Engine::start(setup(work, work, Policy::None)).expect("starts");
    let added = (0..requests + 20).map(|_| {
        thread::sleep(pause);
        let began = Instant::now();
        let ticket = engine.submit(image(), RequestOptions::default());
        let answer = ticket.and_then(|t| t.wait()).expect("answered");
        micros(began.elapsed()) - f64::from(answer.top[0].class) / 1e3
    });
    added.skip(20).collect()
}

/// The same at a fixed rate, with two workers and a thread that collects: to where the answer is settled.
fn at_a_rate(work: Work, every: Duration, requests: usize) -> Vec<f64> {
    let mut setup = setup(work, work, Policy::None);
    setup.base_workers = 2;
    let engine = Engine::start(setup).expect("starts");
    let (sender, tickets) = channel();
    let collector = thread::spawn(move || {
        let wait = |ticket: collage::engine::Ticket| ticket.wait().expect("answered");
        let added = tickets
            .into_iter()
            .map(wait)
            .map(|answer| micros(answer.latency) - f64::from(answer.top[0].class) / 1e3);
        added.skip(20).collect()
    });
    let begin = Instant::now();
    for i in 0..requests + 20 {
        let due = begin + every * i as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let ticket = engine.submit(image(), RequestOptions::default());
        sender.send(ticket.expect("accepted")).expect("collected");
    }
    drop(sender);
    collector.join().expect("collects")
}

/// How long after its release time a collage answers that was there before, while the base hangs.
fn releases(requests: usize) -> Vec<f64> {
    let hang = Work::Asleep(Duration::from_millis(12));
    let mut setup = setup(hang, Work::Busy(Duration::from_micros(50)), Policy::COLLAGE);
    setup.release = Duration::from_millis(5);
    let engine = Engine::start(setup).expect("starts");
    let late = (0..requests + 20).map(|_| {
        let ticket = engine.submit(image(), RequestOptions::default());
        let answer = ticket.and_then(|t| t.wait()).expect("answered");
        assert_eq!(answer.source, Source::Collage, "the base hangs");
        thread::sleep(Duration::from_millis(9)); // until the base is free again
        micros(answer.latency) - 5_000.0
    });
    late.skip(20).collect()
}

fn row(what: &str, mut us: Vec<f64>) {
    us.sort_by(f64::total_cmp);
    let at = |share: f64| us[((us.len() - 1) as f64 * share) as usize];
    println!(
        "{what:58} {:7} {:7.1} {:7.1} {:7.1} {:8.1}",
        us.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        us[us.len() - 1]
    );
}

fn main() {
    // As criterion has it: cargo passes --bench when it benches, and nothing when it tests.
    let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let is_test = !given("--bench") || given("--test");
    let requests = if is_test { 50 } else { 3_000 };
    let ms = Duration::from_millis;
    println!(
        "{:58} {:>7} {:>7} {:>7} {:>7} {:>8}",
        "added latency in us", "n", "p50", "p90", "p99", "max"
    );
    for (name, work) in [
        ("no work at all", Work::Busy(Duration::ZERO)),
        ("1 ms of computing", Work::Busy(ms(1))),
        ("1 ms of waiting for a device", Work::Asleep(ms(1))),
    ] {
        let back_to_back = one_at_a_time(work, Duration::ZERO, requests);
        row(&format!("{name}, one at a time"), back_to_back);
        let paused = one_at_a_time(work, ms(1), requests);
        row(&format!("{name}, one at a time, 1 ms apart"), paused);
    }
    let loaded = at_a_rate(Work::Asleep(ms(1)), ms(2), requests);
    row("1 ms of waiting, one each 2 ms, two workers", loaded);
    row("late after the release time", releases(requests.min(1_000)));
}
