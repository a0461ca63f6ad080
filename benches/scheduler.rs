//! What one decision of the scheduler costs: events of a steady load, timed on one core, with the allocations that they
//! make. `cargo bench --bench scheduler`; with `-- --test`, and under `cargo test`, it runs once and briefly.
//!
//! An event is a submission, the end of a run, a word of a device or a timeout, with all actions that follow from it. The
//! driver of this bench, a heap of the ends of runs, is inside the time. Time is the thread's own on the processor where
//! the system tells it (Linux), so that what else the machine does is not in it; each figure is the median of several
//! rounds, with the least and the most beside it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use collage::sched::{
    AccuracyBudget, Action, Condition, Config, Event, GridWork, JobId, Micros, RequestId, Role,
    Scheduler, WorkerConfig, WorkerId,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One row of the table.
struct Case {
    policy: &'static str,
    workers: usize,
    /// What is not as in the other rows.
    with: &'static str,
    change: fn(&mut Config),
    /// A device speaks up once in so many events.
    words: Option<u64>,
}

const fn plain(policy: &'static str, workers: usize) -> Case {
    Case {
        policy,
        workers,
        with: "",
        change: |_| {},
        words: None,
    }
}

const CASES: &[Case] = &[
    plain("none", 1_000),
    plain("replicate:2", 1_000),
    plain("hedge:p95", 1_000),
    plain("collage:3x3", 1_000),
    plain("collage:3x3:lazy", 1_000),
    plain("small", 1_000),
    plain("small:lazy", 1_000),
    plain("collage:auto", 1_000),
    plain("parity:2", 1_000),
    Case {
        with: "health off",
        change: |config| config.health = None,
        ..plain("collage:3x3", 1_000)
    },
    Case {
        with: "a device's word in ten",
        words: Some(10),
        ..plain("collage:3x3", 1_000)
    },
    Case {
        with: "both promises",
        change: |config| {
            config.objective = "p99=20ms".parse().ok();
            let (budget, drop) = (0.001, 0.02);
            config.accuracy = Some(AccuracyBudget { budget, drop });
        },
        ..plain("collage:3x3:lazy", 1_000)
    },
    Case {
        with: "batches of 8",
        change: |config| config.max_batch = 8,
        ..plain("collage:3x3", 1_000)
    },
    plain("replicate:2", 10_000),
    plain("collage:3x3", 10_000),
    plain("collage:auto", 10_000),
    plain("parity:2", 10_000),
];

/// All at a load of seven tenths and a mean service time of 10 ms.
fn every_ns(workers: usize) -> u64 {
    14_286_000 / workers as u64
}

fn scheduler(case: &Case) -> Scheduler {
    let worker = |device| WorkerConfig {
        role: Role::Both,
        device,
    };
    let policy: collage::sched::Policy = case.policy.parse().expect("a policy");
    let (rows, cols) = policy.grid().unwrap_or((3, 3));
    let tiles = match policy.is_auto() {
        true => vec![1, 4, 9],
        false => vec![rows * cols],
    };
    let grid = |tiles: &usize| GridWork::new(*tiles, *tiles as f64 / 9.0);
    let mut config = Config {
        workers: (0..case.workers).map(worker).collect(),
        policy,
        grids: tiles.iter().map(grid).collect(),
        queue: usize::MAX,
        max_batch: 1,
        ..Config::default()
    };
    (case.change)(&mut config);
    Scheduler::new(config)
}

/// What a device says, now and then: mostly that all is well.
fn word(n: u64, workers: usize) -> Event {
    let slowed = n.is_multiple_of(50).then_some(0.5);
    Event::Telemetry {
        worker: WorkerId((n * 7_919) as usize % workers),
        condition: Condition {
            slowed,
            ..Condition::default()
        },
    }
}

/// Serves so many requests; gives the events that took.
fn serve(scheduler: &mut Scheduler, case: &Case, from: u64, requests: u64) -> u64 {
    let mut ends: BinaryHeap<Reverse<(Micros, JobId, WorkerId, usize)>> = BinaryHeap::new();
    let (mut events, mut next) = (0, from);
    loop {
        let due = next * every_ns(case.workers) / 1_000;
        let arrival = (next < from + requests).then_some(due);
        let end = ends.peek().map(|Reverse((at, ..))| *at);
        let timeout = scheduler.poll_timeout();
        let Some(now) = [arrival, end, timeout].into_iter().flatten().min() else {
            return events;
        };
        let event = if case.words.is_some_and(|n| events % n == 0) && arrival.is_some() {
            word(events, case.workers)
        } else if end == Some(now) {
            let Some(Reverse((_, job, worker, images))) = ends.pop() else {
                return events;
            };
            let confidences = vec![1.0; images];
            Event::Done {
                worker,
                job,
                confidences,
            }
        } else if arrival == Some(now) {
            next += 1;
            Event::Submit {
                id: RequestId(next - 1),
                release_at: now + 20_000,
                deadline_at: now + 10_000_000,
            }
        } else {
            Event::Tick
        };
        events += 1;
        scheduler.handle(event, now);
        while let Some(action) = scheduler.poll_action() {
            if let Action::Launch {
                worker, job, ids, ..
            } = action
            {
                // 8 to 12 ms, and every hundredth run five times as long.
                let straggles = if job.0.is_multiple_of(101) { 5 } else { 1 };
                let time = (8_000 + job.0 * 2_654_435_761 % 4_000) * straggles;
                ends.push(Reverse((now + time, job, worker, ids.len())));
                scheduler.recycle(ids);
            }
        }
    }
}

/// Of this thread on the processor, or since the start where the system does not tell.
fn time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let on_cpu = schedstat.and_then(|text| text.split(' ').next()?.parse().ok());
    on_cpu.map_or_else(
        || START.get_or_init(Instant::now).elapsed(),
        Duration::from_nanos,
    )
}

fn main() {
    // As criterion has it: cargo passes --bench when it benches, and nothing when it tests.
    let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let is_test = !given("--bench") || given("--test");
    let (requests, rounds) = if is_test { (5_000, 1) } else { (400_000, 7) };
    println!("{requests} requests a round, {rounds} rounds a row, one core");
    println!(
        "{:18} {:>7} {:22}  {:>21}  {:>12}  {:>11}",
        "policy", "workers", "with", "ns an event (of)", "events a s", "allocations"
    );
    for case in CASES {
        let mut scheduler = scheduler(case);
        // Until the heaps have their size and the health of workers is known.
        serve(&mut scheduler, case, 0, requests);
        let (mut times, mut allocations) = (Vec::new(), 0.0);
        for round in 1..=rounds {
            let (before, began) = (ALLOCATIONS.load(Ordering::Relaxed), time());
            let events = serve(&mut scheduler, case, round * requests, requests);
            let (took, after) = (time() - began, ALLOCATIONS.load(Ordering::Relaxed));
            times.push(took.as_nanos() as f64 / events as f64);
            allocations = (after - before) as f64 / events as f64;
            assert!(scheduler.is_empty(), "{}: something is kept", case.policy);
        }
        let stats = scheduler.stats();
        assert_eq!(stats.answered(), stats.submitted, "{}", case.policy);
        times.sort_by(f64::total_cmp);
        let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        let spread = format!("{median:.0} ({least:.0} to {most:.0})");
        println!(
            "{:18} {:7} {:22}  {spread:>21}  {:12.0}  {allocations:11.2}",
            case.policy,
            case.workers,
            case.with,
            1e9 / median
        );
    }
}
