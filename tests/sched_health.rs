//! Who straggles is found out from completions alone: fleets in virtual time, of which some workers are slow.

mod sched_sim;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use collage::sched::{Config, Event, Health, HealthConfig, Micros, Policy, WorkerId, WorkerState};
use sched_sim::{BASE, COLLAGE, Launch, NEVER, Sim, tiles};

/// Requests for nine tenths of the workers, had each run 1 ms; a run on worker `w` at `t` takes `service(w, t)`.
fn serve(
    sim: &mut Sim,
    first: u64,
    until: Micros,
    service: impl Fn(usize, Micros) -> Micros,
) -> u64 {
    let mut ends: BinaryHeap<Reverse<(Micros, u64)>> = BinaryHeap::new();
    let mut running: Vec<Launch> = Vec::new();
    let every = 1_120 / sim.workers as Micros;
    let (mut next, mut id) = (sim.now, first);
    loop {
        let end = ends.peek().map_or(Micros::MAX, |Reverse((at, _))| *at);
        if end.min(next) > until {
            sim.pass(until);
            return id;
        }
        sim.pass(end.min(next));
        if end <= next {
            let Some(Reverse((_, job))) = ends.pop() else {
                return id;
            };
            let at = running
                .iter()
                .position(|run| run.1.0 == job)
                .expect("launched");
            let run = running.swap_remove(at);
            sim.done(&run);
        } else {
            sim.submit(id, NEVER - 1, NEVER);
            (next, id) = (next + every, id + 1);
        }
        for run in sim.launched() {
            // Jitter of a tenth, from the job's number.
            let time = service(run.0, sim.now) * (95 + run.1.0 * 7 % 11) / 100;
            ends.push(Reverse((sim.now + time, run.1.0)));
            running.push(run);
        }
    }
}

fn fleet(workers: usize, change: impl FnOnce(&mut Config)) -> Sim {
    Sim::new(&vec![BASE; workers], |c| {
        (c.policy, c.max_batch, c.queue) = (Policy::None, 1, 100_000);
        c.health = Some(HealthConfig {
            probe_first: 20_000,
            probe_longest: 200_000,
            ..HealthConfig::default()
        });
        change(c);
    })
}

fn states(sim: &Sim, workers: usize) -> Vec<Health> {
    (0..workers)
        .map(|w| sim.scheduler.health(WorkerId(w)))
        .collect()
}

#[test]
fn a_worker_that_is_slow_throughout_is_quarantined_and_gets_probes_only() {
    let mut sim = fleet(10, |_| {});
    let slow = |w: usize, _| if w == 4 { 5_000 } else { 1_000 };
    serve(&mut sim, 0, 1_400_000, slow);
    let mut expected = vec![Health::Healthy; 10];
    expected[4] = Health::Quarantined;
    assert_eq!(states(&sim, 10), expected);
    let scores = sim.scheduler.scores(WorkerId(4)).expect("it ran");
    assert!((0.15..0.25).contains(&scores.relative), "{scores:?}");
    let stats = sim.scheduler.stats();
    assert!((3..=60).contains(&stats.probe_runs), "{stats:?}");
}

#[test]
fn a_worker_that_recovers_is_readmitted() {
    let mut sim = fleet(5, |_| {});
    let until = 500_000;
    serve(&mut sim, 0, 3_000_000, |w, now| {
        if w == 2 && now < until { 8_000 } else { 1_000 }
    });
    assert_eq!(states(&sim, 5), [Health::Healthy; 5]);
    assert!(sim.scheduler.stats().probe_runs >= 3);
}

#[test]
fn when_all_are_slow_it_is_load_and_nobody_is_quarantined() {
    let mut sim = fleet(6, |_| {});
    serve(&mut sim, 0, 2_000_000, |w, now| {
        (1_000 + 50 * w as Micros) * if now > 500_000 { 2 } else { 1 }
    });
    assert!(!states(&sim, 6).contains(&Health::Quarantined));
}

#[test]
fn half_of_the_workers_are_never_quarantined() {
    let mut sim = fleet(6, |_| {});
    serve(
        &mut sim,
        0,
        2_000_000,
        |w, _| if w > 1 { 6_000 } else { 1_000 },
    );
    let quarantined = states(&sim, 6)
        .iter()
        .filter(|&&h| h == Health::Quarantined)
        .count();
    assert_eq!(quarantined, 3, "four are slow");
}

#[test]
fn when_the_healthy_die_the_quarantined_serve() {
    let mut sim = fleet(4, |_| {});
    let slow = |w: usize, _| if w == 0 { 6_000 } else { 1_000 };
    let next = serve(&mut sim, 0, 300_000, slow);
    assert_eq!(sim.scheduler.health(WorkerId(0)), Health::Quarantined);
    for worker in 1..4 {
        sim.handle(Event::Retired {
            worker: WorkerId(worker),
        });
    }
    sim.launched();
    sim.outcomes();
    sim.submit(next, NEVER - 1, NEVER);
    assert_eq!(
        sim.scheduler.worker_state(WorkerId(0)),
        Some(WorkerState::Ready)
    );
    assert!(sim.launched().iter().all(|run| run.0 == 0));
    assert_ne!(sim.scheduler.health(WorkerId(0)), Health::Quarantined);
}

#[test]
fn a_lone_collage_worker_is_never_quarantined() {
    let mut sim = Sim::new(&[BASE, BASE, BASE, COLLAGE], |c| {
        (c.max_batch, c.grids, c.queue) = (1, tiles(2), 100_000)
    });
    serve(
        &mut sim,
        0,
        2_000_000,
        |w, _| if w == 3 { 9_000 } else { 1_000 },
    );
    assert_ne!(sim.scheduler.health(WorkerId(3)), Health::Quarantined);
}
