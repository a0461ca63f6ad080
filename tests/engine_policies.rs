//! Every policy serves live: threads, clocks and payloads around the same scheduler that virtual time tests.

mod engine_fakes;

use std::sync::Arc;
use std::time::Duration;

use collage::engine::{Engine, Error, Setup, Source, Stats, WorkerStats};
use engine_fakes::{Call, Fake, Gate, setup, submit, sure, until};

/// A device on which the base runs of worker 0 wait at the gate.
fn first_worker_gated(gate: &Gate) -> Arc<Fake> {
    let gate = gate.clone();
    Fake::new(move |call: &Call| {
        if call.worker == 0 {
            gate.pass();
        }
        Ok(())
    })
}

fn with_policy(device: Arc<Fake>, policy: &str) -> Setup {
    let mut setup = setup(device);
    setup.policy = policy.parse().expect("a policy");
    (setup.base_workers, setup.group_wait) = (2, Duration::ZERO);
    setup
}

/// One request whose own run is stuck on worker 0: who answers it, and how many runs it took.
fn answer_beside_a_stuck_worker(policy: &str) -> (Source, usize, [usize; 2]) {
    let gate = Gate::default();
    let device = first_worker_gated(&gate);
    let engine = Engine::start(with_policy(device.clone(), policy)).expect("starts");
    let ticket = submit(&engine, [sure(7)]).pop().expect("a ticket");
    let answer = ticket.wait().expect("answered");
    assert_eq!(answer.top[0].class, 7);
    let runs = || [false, true].map(|collage| device.runs(collage).len());
    // The answer may be there before the stuck run was even begun.
    until(&engine, |_| runs().iter().sum::<usize>() >= 2);
    let runs = runs();
    gate.open();
    engine.shutdown();
    (answer.source, answer.worker, runs)
}

#[test]
fn a_replica_answers_beside_a_stuck_worker() {
    let answer = answer_beside_a_stuck_worker("replicate:2");
    assert_eq!(answer, (Source::Copy, 1, [2, 0]));
}

#[test]
fn a_hedge_answers_once_the_run_is_late() {
    let answer = answer_beside_a_stuck_worker("hedge:2ms");
    assert_eq!(answer, (Source::Copy, 1, [2, 0]));
}

#[test]
fn a_lazy_collage_answers_once_the_run_is_late() {
    let answer = answer_beside_a_stuck_worker("collage:lazy:2ms");
    assert_eq!(answer, (Source::Collage, 2, [1, 1]));
}

#[test]
fn the_collage_network_on_one_image_answers_too() {
    // Once: with nothing learnt and a release at once, a second sending would race it.
    for policy in ["small:once", "small:lazy:2ms"] {
        let (source, worker, [_, small]) = answer_beside_a_stuck_worker(policy);
        assert_eq!((source, worker, small), (Source::Collage, 2, 1), "{policy}");
    }
}

#[test]
fn a_request_late_without_its_collage_is_sent_again() {
    let (gate, stuck) = (Gate::default(), Gate::default());
    let (own, backup) = (gate.clone(), stuck.clone());
    let device = Fake::new(move |call: &Call| {
        match (call.collage, call.worker) {
            (true, _) => backup.pass(),
            (false, 0) => own.pass(),
            _ => {}
        }
        Ok(())
    });
    let mut setup = with_policy(device, "collage");
    setup.release = Duration::from_millis(3);
    let engine = Engine::start(setup).expect("starts");
    let ticket = submit(&engine, [sure(3)]).pop().expect("a ticket");
    let answer = ticket.wait().expect("answered");
    assert_eq!((answer.source, answer.worker), (Source::Copy, 1));
    let stats = until(&engine, |s| s.requests.copies == 1);
    assert_eq!(
        (stats.requests.copy_runs, stats.requests.answered()),
        (1, 1)
    );
    gate.open();
    stuck.open();
    engine.shutdown();
}

#[test]
fn a_policy_that_needs_more_workers_than_there_are_is_refused() {
    for (policy, least) in [("replicate:3", "3 at least"), ("hedge:p95", "2 at least")] {
        let mut setup = with_policy(Fake::new(|_| Ok(())), policy);
        setup.base_workers = 1;
        match Engine::start(setup) {
            Err(Error::Option {
                option, expected, ..
            }) => {
                assert_eq!(option, "base_workers");
                assert!(expected.starts_with(least), "{expected}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Time of own runs and of backups, on all workers.
fn busy(stats: &Stats) -> [Duration; 2] {
    let sum = |of: fn(&WorkerStats) -> Duration| stats.workers.iter().map(of).sum();
    [sum(|w| w.base_busy), sum(|w| w.backup_busy)]
}

#[test]
fn time_in_backups_is_told_apart_from_time_in_own_runs() {
    for (policy, has_backups) in [("none", false), ("replicate:2", true), ("collage", true)] {
        let work = |_: &Call| {
            std::thread::sleep(Duration::from_micros(200));
            Ok(())
        };
        let engine = Engine::start(with_policy(Fake::new(work), policy)).expect("starts");
        for ticket in submit(&engine, [sure(1), sure(2), sure(3), sure(4)]) {
            ticket.wait().expect("answered");
        }
        // Backups may end after the answers.
        let stats = until(&engine, |stats| {
            let [base, backup] = busy(stats);
            !base.is_zero() && backup.is_zero() != has_backups
        });
        engine.shutdown();
        for worker in &stats.workers {
            assert_eq!(
                worker.base_busy + worker.backup_busy,
                worker.busy,
                "{policy}"
            );
        }
        assert!(stats.events > 0 && !stats.scheduling.is_zero(), "{policy}");
    }
}

#[test]
fn a_parity_answers_beside_a_stuck_worker() {
    let gate = Gate::default();
    let device = first_worker_gated(&gate);
    let mut setup = with_policy(device.clone(), "parity:2:once");
    setup.group_wait = Duration::from_secs(3600);
    setup.plans = engine_fakes::coded_plans(2);
    let engine = Engine::start(setup).expect("starts");
    let tickets = submit(&engine, [sure(7), sure(4)]);
    let answers: Vec<_> = tickets
        .into_iter()
        .map(|t| t.wait().expect("answered"))
        .collect();
    let classes: Vec<_> = answers.iter().map(|a| a.top[0].class).collect();
    assert_eq!(classes, [7, 4], "a fake's logits are linear in its image");
    let sources: Vec<_> = answers.iter().map(|a| a.source).collect();
    assert!(sources.contains(&Source::Parity) && sources.contains(&Source::Base));
    let decoded = answers.iter().filter_map(|a| a.decoded.as_ref());
    let others: Vec<_> = decoded.map(|d| d.others.len()).collect();
    assert_eq!(others, [1], "decoded with the other's answer");
    gate.open();
    let stats = engine.shutdown();
    assert_eq!((stats.requests.parity, stats.requests.parity_runs), (1, 1));
}

#[test]
fn a_lone_request_gets_a_small_grid_and_a_burst_a_large_one() {
    let (own, backup) = (Gate::default(), Gate::default());
    let (base, collage) = (own.clone(), backup.clone());
    let device = Fake::new(move |call: &Call| {
        match call.collage {
            true => collage.pass(),
            false => base.pass(),
        }
        Ok(())
    });
    let mut setup = with_policy(device.clone(), "collage:auto:once");
    setup.group_wait = Duration::from_secs(3600);
    setup.plans.collage = [1, 2, 3].map(engine_fakes::collage_plan).to_vec();
    let engine = Engine::start(setup).expect("starts");
    let mut tickets = submit(&engine, [sure(1)]);
    backup.reached_by(1); // alone, and at once
    tickets.extend(submit(&engine, (2..11).map(sure)));
    until(&engine, |s| s.pending == 10);
    backup.open();
    for ticket in tickets {
        assert_eq!(ticket.wait().expect("answered").source, Source::Collage);
    }
    own.open();
    engine.shutdown();
    let grids: Vec<_> = device.capacities(true);
    assert_eq!(grids, [1, 9]);
}

#[test]
fn a_parity_without_its_model_is_refused() {
    let mut setup = with_policy(Fake::new(|_| Ok(())), "parity:3");
    setup.plans = engine_fakes::coded_plans(2);
    for parity in [setup.plans.parity.clone(), None] {
        setup.plans.parity = parity;
        match Engine::start(setup.clone()) {
            Err(Error::Option {
                option, expected, ..
            }) => assert_eq!(
                (option, &expected[..]),
                ("policy", "a parity model, on 3 images")
            ),
            other => panic!("{other:?}"),
        }
    }
}
