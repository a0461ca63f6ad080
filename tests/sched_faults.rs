//! The scheduler's rules one at a time, in virtual time: cancellations, failures, lost workers, draining.

mod sched_sim;

use collage::sched::{Error, Event, Kind, Policy, RequestId, Source, WorkerId, WorkerState};
use sched_sim::{BASE, COLLAGE, NEVER, Sim, tiles};

#[test]
fn a_cancelled_request_is_not_launched_and_its_answer_is_not_late() {
    let mut sim = Sim::new(&[BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..3);
    let first = sim.launch();
    sim.handle(Event::Cancel { id: RequestId(0) });
    sim.handle(Event::Cancel { id: RequestId(1) });
    sim.handle(Event::Cancel { id: RequestId(1) });
    sim.done(&first);
    assert_eq!(sim.launch().3, [2]);
    assert_eq!(
        sim.outcomes(),
        [(0, Err(Error::Cancelled)), (1, Err(Error::Cancelled))]
    );
    assert_eq!(
        (sim.scheduler.stats().late, sim.scheduler.stats().cancelled),
        (0, 2)
    );
}

#[test]
fn requests_of_a_lost_worker_run_again_each_on_its_own() {
    let mut sim = Sim::new(&[BASE, BASE], |c| {
        (c.policy, c.batch_wait) = (Policy::None, 100)
    });
    sim.submit_all(0..3);
    sim.pass(100);
    let lost = sim.launch();
    sim.handle(Event::WorkerLost {
        worker: WorkerId(lost.0),
    });
    let first = sim.launch();
    assert_eq!((first.0 != lost.0, &first.3[..]), (true, &[0][..]));
    sim.done(&first);
    let second = sim.launch();
    assert_eq!(second.3, [1]);
    // What the lost worker still says of the job counts for nothing.
    sim.done(&lost);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Base))]);
    sim.done(&second);
    let third = sim.launch();
    sim.done(&third);
    assert_eq!(
        sim.outcomes(),
        [(1, Ok(Source::Base)), (2, Ok(Source::Base))]
    );
}

#[test]
fn a_failed_run_is_repeated_on_another_worker() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..2);
    let [bad, busy] = sim.launched().try_into().expect("two workers");
    sim.failed(&bad);
    assert_eq!(
        sim.launched(),
        [],
        "the worker that failed is free, and is not tried with the same request"
    );
    sim.done(&busy);
    let again = sim.launch();
    assert_eq!((again.0, &again.3[..]), (busy.0, &[0][..]));
}

#[test]
fn a_request_that_fails_everywhere_is_given_up_after_three_runs() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit(0, 0, NEVER);
    for _ in 0..3 {
        let run = sim.launch();
        sim.failed(&run);
    }
    assert_eq!(sim.outcomes(), [(0, Err(Error::Failed { attempts: 3 }))]);
    assert!(sim.retired.is_empty() && sim.scheduler.is_empty());
}

#[test]
fn a_request_whose_base_is_given_up_still_waits_for_its_collage() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        (c.grids, c.max_attempts) = (tiles(1), 1)
    });
    sim.submit(0, 5_000, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.failed(&base);
    assert_eq!(sim.outcomes(), []);
    sim.done(&collage);
    sim.pass(5_000);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Collage))]);
    // And fails when that abstains.
    sim.submit(1, 5_000, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.failed(&base);
    sim.done_with(&collage, 0.1);
    assert_eq!(sim.outcomes(), [(1, Err(Error::Failed { attempts: 1 }))]);
}

#[test]
fn a_worker_that_keeps_failing_is_retired() {
    let mut sim = Sim::new(&[BASE], |c| {
        (c.policy, c.max_failures, c.max_attempts) = (Policy::None, 3, 100)
    });
    sim.submit(0, 0, NEVER);
    for _ in 0..3 {
        assert!(sim.retired.is_empty());
        let run = sim.launch();
        sim.failed(&run);
    }
    assert_eq!(sim.retired, [0]);
    assert_eq!(sim.outcomes(), [(0, Err(Error::NoWorkers))]);
    assert_eq!(
        sim.scheduler.worker_state(WorkerId(0)),
        Some(WorkerState::Retired)
    );
}

#[test]
fn with_no_worker_left_all_requests_fail_and_new_ones_are_refused() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |_| {});
    sim.submit_all(0..6);
    sim.handle(Event::Retired {
        worker: WorkerId(1),
    });
    assert_eq!(sim.outcomes(), [], "the base still answers");
    sim.handle(Event::Retired {
        worker: WorkerId(0),
    });
    let mut failed = sim.outcomes();
    failed.sort_by_key(|&(id, _)| id);
    assert_eq!(
        failed,
        (0..6)
            .map(|id| (id, Err(Error::NoWorkers)))
            .collect::<Vec<_>>()
    );
    sim.submit(6, 0, NEVER);
    assert_eq!(sim.outcomes(), [(6, Err(Error::NoWorkers))]);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn requests_wait_for_a_lost_worker_to_come_back() {
    let mut sim = Sim::new(&[BASE], |c| c.policy = Policy::None);
    sim.handle(Event::WorkerLost {
        worker: WorkerId(0),
    });
    sim.submit(0, 0, NEVER);
    assert_eq!((sim.launched(), sim.outcomes()), (vec![], vec![]));
    sim.handle(Event::WorkerReady {
        worker: WorkerId(0),
    });
    assert_eq!(sim.launch().3, [0]);
}

#[test]
fn draining_takes_no_more_and_waits_for_no_batch_or_group() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        (c.batch_wait, c.group_wait) = (NEVER, NEVER)
    });
    sim.submit_all(0..2);
    assert_eq!(sim.launched(), []);
    sim.handle(Event::Drain);
    let launched = sim.launched();
    assert_eq!(
        launched.iter().map(|l| l.2).collect::<Vec<_>>(),
        [Kind::Base, Kind::Collage]
    );
    sim.submit(2, 0, NEVER);
    assert_eq!(sim.outcomes(), [(2, Err(Error::Closed))]);
    for launch in &launched {
        sim.done(launch);
    }
    assert!(sim.scheduler.is_empty());
}

#[test]
fn memory_does_not_grow_with_requests_that_pass_a_stuck_worker() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.queue = 10);
    sim.submit(0, 0, NEVER);
    let stuck = sim.launch();
    for id in 1..20_000 {
        sim.now += 1_000;
        sim.submit(id, NEVER, sim.now + 500);
        sim.pass(sim.now);
    }
    sim.pass(sim.now + 1_000);
    assert_eq!(sim.scheduler.pending(), 1);
    // Debug output shows every entry of every queue: stale ones would be thousands.
    let held = format!("{:?}", sim.scheduler);
    assert!(
        held.len() < 20_000,
        "{} bytes describe one request",
        held.len()
    );
    sim.done(&stuck);
}

#[test]
fn a_worker_that_failed_is_the_last_choice_for_a_while() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit(0, 0, NEVER);
    let bad = sim.launch();
    sim.now = 100;
    sim.failed(&bad);
    let good = sim.launch();
    sim.now = 200;
    sim.done(&good);
    for id in 1..20 {
        sim.submit(id, 0, NEVER);
        let run = sim.launch();
        assert_eq!(run.0, good.0, "request {id}");
        sim.now += 100;
        sim.done(&run);
    }
}
