//! Who straggles is found out from completions alone: fleets in virtual time, of which some workers are slow.

mod sched_sim;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use collage::sched::{
    Condition, Config, Event, Health, HealthConfig, Micros, Policy, WorkerId, WorkerState,
};
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

/// What a device says.
fn slowed(share: f64) -> Condition {
    Condition {
        slowed: Some(share),
        ..Condition::default()
    }
}

fn broken() -> Condition {
    Condition {
        faulty: true,
        ..Condition::default()
    }
}

fn tell(sim: &mut Sim, worker: usize, condition: Condition) {
    let worker = WorkerId(worker);
    sim.handle(Event::Telemetry { worker, condition });
}

/// How many slow runs of a worker end before it is quarantined that was as quick as the others for a while.
fn slow_runs_until_quarantine(told: Option<Condition>) -> usize {
    let mut sim = fleet(5, |_| {});
    let mut slow_runs = 0;
    for round in 0..60 {
        if sim.scheduler.health(WorkerId(3)) == Health::Quarantined {
            return slow_runs;
        }
        let is_slow = round >= 20;
        if let (20, Some(condition)) = (round, told) {
            tell(&mut sim, 3, condition);
            assert_eq!(sim.scheduler.health(WorkerId(3)), Health::Suspect);
        }
        // As many as there are workers, so that the slow one is needed too.
        (0..5).for_each(|i| sim.submit(5 * round + i, NEVER - 1, NEVER));
        let (own, others): (Vec<_>, Vec<_>) =
            sim.launched().into_iter().partition(|run| run.0 == 3);
        sim.pass(sim.now + 1_000);
        others.iter().for_each(|run| sim.done(run));
        sim.pass(sim.now + if is_slow { 4_000 } else { 0 });
        own.iter().for_each(|run| sim.done(run));
        slow_runs += usize::from(is_slow) * own.len();
    }
    panic!("it is never quarantined");
}

#[test]
fn a_slowed_worker_is_suspect_at_once_and_needs_fewer_slow_runs_to_be_quarantined() {
    let told = slow_runs_until_quarantine(Some(slowed(0.4)));
    let untold = slow_runs_until_quarantine(None);
    assert_eq!(told, 2);
    assert!(untold >= 8, "{untold} runs without a word");
}

#[test]
fn a_narrow_link_makes_suspect_and_a_whole_one_clears() {
    let mut sim = fleet(4, |_| {});
    let link = |share| Condition {
        link: Some(share),
        ..Condition::default()
    };
    tell(&mut sim, 1, link(0.25));
    assert_eq!(sim.scheduler.health(WorkerId(1)), Health::Suspect);
    tell(&mut sim, 1, link(0.92));
    assert_eq!(
        sim.scheduler.health(WorkerId(1)),
        Health::Suspect,
        "not yet"
    );
    tell(&mut sim, 1, link(1.0));
    assert_eq!(states(&sim, 4), [Health::Healthy; 4]);
}

#[test]
fn a_slowed_worker_whose_runs_are_quick_stays_suspect_until_its_device_says_otherwise() {
    let mut sim = fleet(4, |_| {});
    tell(&mut sim, 1, slowed(0.6));
    let next = serve(&mut sim, 0, 200_000, |_, _| 1_000);
    assert_eq!(sim.scheduler.health(WorkerId(1)), Health::Suspect);
    tell(&mut sim, 1, Condition::default());
    assert_eq!(sim.scheduler.health(WorkerId(1)), Health::Healthy);
    serve(&mut sim, next, 400_000, |_, _| 1_000);
    assert_eq!(states(&sim, 4), [Health::Healthy; 4]);
}

#[test]
fn a_faulty_worker_is_quarantined_at_once_gets_nothing_and_comes_back_by_probation() {
    let mut sim = fleet(4, |_| {});
    tell(&mut sim, 2, broken());
    assert_eq!(sim.scheduler.health(WorkerId(2)), Health::Quarantined);
    let seen = std::cell::Cell::new(0);
    let service = |w: usize, _| {
        seen.set(seen.get() + usize::from(w == 2));
        1_000
    };
    let next = serve(&mut sim, 0, 1_000_000, service);
    assert_eq!(seen.get(), 0, "not even a probe");
    tell(&mut sim, 2, Condition::default());
    assert_eq!(sim.scheduler.health(WorkerId(2)), Health::Probation);
    serve(&mut sim, next, 2_000_000, service);
    assert_eq!(states(&sim, 4), [Health::Healthy; 4]);
    assert!(seen.get() > 0);
}

#[test]
fn the_end_of_a_fault_is_no_pardon_for_slowness() {
    let mut sim = fleet(4, |_| {});
    let slow = |w: usize, _| if w == 2 { 6_000 } else { 1_000 };
    serve(&mut sim, 0, 300_000, slow);
    assert_eq!(sim.scheduler.health(WorkerId(2)), Health::Quarantined);
    tell(&mut sim, 2, broken());
    tell(&mut sim, 2, Condition::default());
    assert_eq!(sim.scheduler.health(WorkerId(2)), Health::Quarantined);
}

#[test]
fn a_fault_is_remembered_while_its_worker_is_away() {
    let mut sim = fleet(4, |_| {});
    let worker = WorkerId(1);
    sim.handle(Event::WorkerLost { worker });
    tell(&mut sim, 1, broken());
    sim.handle(Event::WorkerReady { worker });
    assert_eq!(sim.scheduler.health(worker), Health::Quarantined);
}

#[test]
fn no_word_of_their_devices_quarantines_workers_below_the_quorum() {
    let mut sim = fleet(6, |_| {});
    (0..6).for_each(|w| tell(&mut sim, w, broken()));
    let quarantined = |sim: &Sim| {
        states(sim, 6)
            .iter()
            .filter(|&&h| h == Health::Quarantined)
            .count()
    };
    assert_eq!(quarantined(&sim), 3);
    serve(&mut sim, 0, 500_000, |_, _| 1_000);
    assert_eq!(quarantined(&sim), 3, "whatever their runs say");
    // As those that serve die, the quarantined take over, broken as they are.
    for w in 3..6 {
        sim.handle(Event::Retired {
            worker: WorkerId(w),
        });
    }
    assert!(quarantined(&sim) <= 1, "{:?}", states(&sim, 6));
}

#[test]
fn what_most_devices_say_is_a_word_about_none_of_them() {
    let mut sim = fleet(6, |_| {});
    (0..6).for_each(|w| tell(&mut sim, w, slowed(0.5)));
    serve(&mut sim, 0, 1_000_000, |_, _| 2_000);
    assert_eq!(states(&sim, 6), [Health::Healthy; 6]);
}

#[test]
fn a_collage_worker_alone_is_spared_and_one_of_many_is_quarantined_when_it_breaks() {
    let roles = [BASE, BASE, COLLAGE, COLLAGE, COLLAGE];
    let mut sim = Sim::new(&roles, |_| {});
    tell(&mut sim, 4, broken());
    assert_eq!(sim.scheduler.health(WorkerId(4)), Health::Quarantined);
    tell(&mut sim, 3, broken());
    assert_eq!(
        sim.scheduler.health(WorkerId(3)),
        Health::Suspect,
        "two are left"
    );
    tell(&mut sim, 4, Condition::default());
    assert_eq!(sim.scheduler.health(WorkerId(4)), Health::Probation);
}

#[test]
fn without_health_and_of_workers_that_do_not_exist_no_word_is_heard() {
    let mut sim = fleet(4, |c| c.health = None);
    tell(&mut sim, 2, broken());
    assert_eq!(states(&sim, 4), [Health::Healthy; 4]);
    let mut sim = fleet(4, |_| {});
    tell(&mut sim, 99, broken());
    assert_eq!(states(&sim, 4), [Health::Healthy; 4]);
}
