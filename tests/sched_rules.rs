//! The scheduler's rules one at a time, in virtual time: who answers, what runs together, and where.

mod sched_sim;

use collage::sched::{Error, Event, Independence, Kind, Micros, Policy, Role, Source, WorkerId};
use sched_sim::{BASE, BOTH, COLLAGE, NEVER, Sim, tiles};

#[test]
fn a_collage_answer_is_held_until_its_release_and_given_then() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 5_000, NEVER);
    let [_, collage] = sim.launched().try_into().expect("base and collage");
    sim.now = 100;
    sim.done(&collage);
    sim.pass(4_999);
    assert_eq!(sim.outcomes(), []);
    assert_eq!(sim.scheduler.poll_timeout(), Some(5_000));
    sim.pass(5_000);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Collage))]);
    assert_eq!(sim.forgotten, [collage.1]);
}

#[test]
fn a_base_answer_wins_over_a_held_collage_answer() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 5_000, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.done(&collage);
    sim.pass(4_999);
    sim.done(&base);
    let (_, outcome) = sim.settled[0];
    let answer = outcome.expect("answered");
    assert_eq!(
        (answer.source, answer.independence),
        (Source::Base, Independence::Worker)
    );
    assert!(
        sim.forgotten.contains(&collage.1),
        "nobody needs the collage's results"
    );
    assert_eq!(sim.scheduler.stats().unneeded, 1);
}

#[test]
fn after_the_release_the_first_acceptable_answer_wins_and_the_late_one_is_counted() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 50, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.now = 100;
    sim.done(&collage);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Collage))]);
    sim.done(&base);
    assert_eq!(sim.outcomes(), []);
    assert_eq!(sim.scheduler.stats().late, 1);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn an_answer_at_the_deadline_is_in_time_and_one_after_it_is_not() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit(0, 0, 1_000);
    sim.submit(1, 0, 1_500);
    let [first, second] = sim.launched().try_into().expect("two workers");
    sim.now = 1_000;
    sim.done(&first);
    sim.now = 1_501; // nobody ticked in between
    sim.done(&second);
    assert_eq!(
        sim.outcomes(),
        [(0, Ok(Source::Base)), (1, Err(Error::DeadlineExceeded))]
    );
    assert_eq!(sim.scheduler.stats().late, 1);
}

#[test]
fn a_driver_that_wakes_up_late_does_not_turn_a_missed_deadline_into_an_answer() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 900, 1_000);
    let [_, collage] = sim.launched().try_into().expect("base and collage");
    sim.done(&collage);
    sim.now = 1_500;
    sim.handle(Event::Tick);
    assert_eq!(sim.outcomes(), [(0, Err(Error::DeadlineExceeded))]);
}

#[test]
fn under_its_confidence_a_collage_abstains() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 0, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.done_with(&collage, 0.49);
    assert_eq!(sim.outcomes(), []);
    assert_eq!(sim.scheduler.stats().abstained, 1);
    sim.done(&base);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Base))]);
}

#[test]
fn a_confidence_that_is_not_a_number_abstains() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        (c.grids, c.min_confidence) = (tiles(1), 0.0)
    });
    sim.submit(0, 0, NEVER);
    let [_, collage] = sim.launched().try_into().expect("base and collage");
    sim.done_with(&collage, f32::NAN);
    assert_eq!(sim.outcomes(), []);
}

#[test]
fn a_group_runs_when_it_is_full_or_when_it_has_waited() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |_| {});
    sim.submit_all(0..4);
    let collage = sim.launched().pop().expect("launched");
    assert_eq!(
        (collage.2, &collage.3[..]),
        (Kind::Collage, &[0, 1, 2, 3][..])
    );
    sim.done(&collage);
    sim.submit(4, 0, NEVER);
    sim.now = 400;
    sim.submit(5, 0, NEVER);
    sim.pass(999);
    assert_eq!(sim.launched(), []);
    sim.pass(1_000); // after the first of the group came
    let (.., kind, ids) = sim.launch();
    assert_eq!((kind, &ids[..]), (Kind::Collage, &[4, 5][..]));
}

#[test]
fn a_group_whose_members_are_all_answered_is_saved() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |_| {});
    sim.submit_all(0..2);
    let base = sim.launch();
    sim.done(&base);
    let rest = sim.launch();
    sim.done(&rest);
    assert_eq!(sim.outcomes().len(), 2);
    sim.pass(1_000);
    assert_eq!(sim.launched(), []);
    assert_eq!(sim.scheduler.stats().collages_saved, 1);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn a_collage_prefers_a_device_that_runs_none_of_its_members() {
    let fleet = [BASE, (Role::Collage, 0), (Role::Collage, 1)];
    let mut sim = Sim::new(&fleet, |c| c.grids = tiles(1));
    for id in 0..3 {
        sim.submit(id, 0, NEVER);
        let [base, collage] = sim.launched().try_into().expect("base and collage");
        assert_eq!((base.0, collage.0), (0, 2));
        sim.done(&collage);
        let (_, outcome) = sim.settled.pop().expect("settled");
        assert_eq!(
            outcome.expect("answered").independence,
            Independence::Device
        );
        sim.done(&base);
    }
}

#[test]
fn a_collage_that_shares_the_device_says_so() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 0, NEVER);
    let collage = sim.launched().pop().expect("launched");
    sim.done(&collage);
    assert_eq!(
        sim.settled[0].1.expect("answered").independence,
        Independence::Worker
    );
}

#[test]
fn a_collage_never_runs_on_a_worker_that_runs_a_member() {
    let mut sim = Sim::new(&[BOTH, BOTH], |c| (c.grids, c.max_batch) = (tiles(2), 1));
    sim.submit_all(0..2);
    // Both workers run a member: the collage waits.
    let [first, second] = sim.launched().try_into().expect("two base runs");
    assert_eq!((first.2, second.2), (Kind::Base, Kind::Base));
    sim.done(&first);
    // One member is answered: its worker may run the other's collage, with one tile.
    let collage = sim.launch();
    assert_eq!(
        (collage.0, collage.2, &collage.3[..]),
        (first.0, Kind::Collage, &second.3[..])
    );
}

#[test]
fn a_base_run_avoids_the_worker_of_its_collage() {
    let mut sim = Sim::new(&[BOTH, BOTH, BOTH], |c| {
        (c.grids, c.max_batch) = (tiles(2), 1)
    });
    (0..2).for_each(|id| sim.submit(id, NEVER, NEVER));
    let [first, second, collage] = sim
        .launched()
        .try_into()
        .expect("two bases and their collage");
    sim.submit(2, NEVER, NEVER);
    sim.handle(Event::WorkerLost {
        worker: WorkerId(first.0),
    });
    assert_eq!(sim.launched(), [], "nobody is free");
    sim.done(&collage); // held: 0 must not run its base there, 2 may
    let next = sim.launch();
    assert_eq!(
        (next.0, next.2, &next.3[..]),
        (collage.0, Kind::Base, &[2][..])
    );
    sim.done(&second);
    let again = sim.launch();
    assert_eq!(
        (again.0, again.2, &again.3[..]),
        (second.0, Kind::Base, &[0][..])
    );
}

#[test]
fn on_workers_that_run_both_the_oldest_work_goes_first() {
    let mut sim = Sim::new(&[BOTH, BOTH], |c| (c.grids, c.max_batch) = (tiles(2), 1));
    for (at, id) in (0..4).enumerate() {
        sim.now = at as Micros;
        sim.submit(id, NEVER, NEVER);
    }
    let [_, second] = sim.launched().try_into().expect("two base runs");
    sim.now = 100;
    sim.done(&second); // 0 and 1 have waited for their collage longer than 2 for its base
    let next = sim.launch();
    assert_eq!((next.2, &next.3[..]), (Kind::Collage, &[0][..]));
}

#[test]
fn one_worker_alone_shares_base_and_collage_and_says_so() {
    let mut sim = Sim::new(&[BOTH], |c| (c.grids, c.batch_wait) = (tiles(1), 10_000));
    sim.submit(0, 50_000, NEVER);
    let collage = sim.launch(); // its base waits for a batch
    assert_eq!(collage.2, Kind::Collage);
    sim.done(&collage);
    sim.pass(10_000);
    let base = sim.launch();
    assert_eq!((base.0, base.2), (0, Kind::Base));
    sim.pass(50_000);
    let answer = sim.settled[0].1.expect("answered");
    assert_eq!(
        (answer.source, answer.independence),
        (Source::Collage, Independence::None)
    );
}

#[test]
fn batches_form_while_workers_are_busy() {
    let mut sim = Sim::new(&[BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..7);
    let first = sim.launch();
    assert_eq!(first.3, [0]);
    sim.done(&first);
    let second = sim.launch();
    assert_eq!(second.3, [1, 2, 3, 4]);
    sim.done(&second);
    assert_eq!(sim.launch().3, [5, 6]);
}

#[test]
fn a_batch_waits_as_long_as_asked_and_no_longer_once_full() {
    let mut sim = Sim::new(&[BASE, BASE], |c| {
        (c.policy, c.batch_wait) = (Policy::None, 500)
    });
    sim.submit_all(0..4);
    assert_eq!(sim.launch().3, [0, 1, 2, 3]);
    sim.submit(4, 0, NEVER);
    sim.pass(499);
    assert_eq!(sim.launched(), []);
    sim.pass(500);
    assert_eq!(sim.launch().3, [4]);
}

#[test]
fn the_next_job_goes_to_the_worker_that_was_fast() {
    let mut sim = Sim::new(&[BASE, BASE, BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..3);
    let runs = sim.launched();
    for (run, at) in runs.iter().zip([1_000, 1_100, 9_000]) {
        sim.now = at; // the third takes nine times as long
        sim.done(run);
    }
    let slow = runs[2].0;
    for id in 3..30 {
        sim.submit(id, 0, NEVER);
        let run = sim.launch();
        assert_ne!(run.0, slow, "request {id}");
        sim.now += 1_000;
        sim.done(&run);
    }
}

#[test]
fn a_slow_worker_is_tried_again_after_a_while() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..2);
    let [fast, slow] = sim.launched().try_into().expect("two workers");
    sim.now = 1_000;
    sim.done(&fast);
    sim.now = 9_000;
    sim.done(&slow);
    let mut tried = false;
    for id in 2..100 {
        sim.submit(id, 0, NEVER);
        let run = sim.launch();
        tried |= run.0 == slow.0;
        sim.now += 100_000;
        sim.done(&run);
    }
    assert!(tried, "ten seconds are enough to forgive");
}

#[test]
fn a_full_queue_refuses_at_once() {
    let mut sim = Sim::new(&[BASE], |c| c.queue = 2);
    sim.submit_all(0..3);
    assert_eq!(sim.outcomes(), [(2, Err(Error::Overloaded { queue: 2 }))]);
    let first = sim.launch();
    sim.done(&first);
    sim.submit(3, 0, NEVER);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Base))]);
}
