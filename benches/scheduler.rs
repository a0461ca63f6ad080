//! What one decision of the scheduler costs: events of a steady load on 1,000 workers, timed on one core, with the
//! allocations that they make. `cargo bench --bench scheduler`; with `-- --test`, and under `cargo test`, it runs once and briefly.
//!
//! An event is a submission, the end of a run or a timeout, with all actions that follow from it. The driver of this
//! bench, a heap of the ends of runs, is inside the time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use collage::sched::{
    Action, Config, Event, JobId, Micros, RequestId, Role, Scheduler, WorkerConfig, WorkerId,
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

const WORKERS: usize = 1_000;
/// Between submissions: a load of seven tenths at a mean service time of 10 ms.
const EVERY_NS: u64 = 14_286;

fn scheduler(policy: &str) -> Scheduler {
    let worker = |device| WorkerConfig {
        role: Role::Both,
        device,
    };
    Scheduler::new(Config {
        workers: (0..WORKERS).map(worker).collect(),
        policy: policy.parse().expect("a policy"),
        queue: usize::MAX,
        max_batch: 1,
        ..Config::default()
    })
}

/// Serves so many requests; gives the events that took.
fn serve(scheduler: &mut Scheduler, from: u64, requests: u64) -> u64 {
    let mut ends: BinaryHeap<Reverse<(Micros, JobId, WorkerId, usize)>> = BinaryHeap::new();
    let (mut events, mut next) = (0, from);
    loop {
        let arrival = (next < from + requests).then(|| next * EVERY_NS / 1_000);
        let end = ends.peek().map(|Reverse((at, ..))| *at);
        let timeout = scheduler.poll_timeout();
        let Some(now) = [arrival, end, timeout].into_iter().flatten().min() else {
            return events;
        };
        let event = if end == Some(now) {
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
            }
        }
    }
}

fn main() {
    // As criterion has it: cargo passes --bench when it benches, and nothing when it tests.
    let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let is_test = !given("--bench") || given("--test");
    let requests = if is_test { 10_000 } else { 2_000_000 };
    println!("{WORKERS} workers, {requests} requests a policy, one core");
    println!("policy             ns an event   events a second   allocations an event");
    for policy in [
        "none",
        "hedge:p95",
        "collage:3x3",
        "collage:3x3:lazy",
        "replicate:2",
        "collage:auto",
        "parity:2",
    ] {
        let mut scheduler = scheduler(policy);
        serve(&mut scheduler, 0, requests / 10);
        assert!(scheduler.is_empty(), "{policy}: something is kept");
        let (before, began) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
        let events = serve(&mut scheduler, requests / 10, requests);
        let (took, after) = (began.elapsed(), ALLOCATIONS.load(Ordering::Relaxed));
        let stats = scheduler.stats();
        assert_eq!(stats.answered(), stats.submitted, "{policy}");
        let ns = took.as_nanos() as f64 / events as f64;
        let allocations = (after - before) as f64 / events as f64;
        println!("{policy:18} {ns:11.0} {:17.0} {allocations:22.2}", 1e9 / ns);
    }
}
