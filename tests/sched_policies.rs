//! The policies one at a time, in virtual time: what runs beside a base run, when, where, and within which limits.

mod sched_sim;

use collage::sched::{
    AccuracyBudget, Event, Independence, Kind, Policy, RequestId, Role, Source, WorkerId,
};
use sched_sim::{BASE, BOTH, COLLAGE, NEVER, Sim, tiles};

fn policy(text: &str) -> Policy {
    text.parse().expect("a policy")
}

#[test]
fn a_replicated_request_runs_at_once_on_as_many_workers_and_the_first_answer_wins() {
    let mut sim = Sim::new(&[BASE; 4], |c| c.policy = policy("replicate:3"));
    sim.submit(0, 0, NEVER);
    let runs = sim.launched();
    let mut workers: Vec<_> = runs.iter().map(|run| run.0).collect();
    workers.sort();
    workers.dedup();
    assert_eq!((runs.len(), workers.len()), (3, 3));
    sim.now = 100;
    sim.done(&runs[2]);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Copy))]);
    sim.done(&runs[0]);
    sim.done(&runs[1]);
    let stats = sim.scheduler.stats();
    assert_eq!(
        (stats.late, stats.copies_unneeded, stats.copies),
        (1, 1, 1),
        "losers are counted, never sent"
    );
    assert!(sim.scheduler.is_empty());
}

#[test]
fn copies_wait_while_base_runs_do() {
    let mut sim = Sim::new(&[BASE; 2], |c| {
        (c.policy, c.max_batch) = (policy("replicate:2"), 1)
    });
    sim.submit_all(0..3);
    let [first, copy] = sim.launched().try_into().expect("two workers");
    assert_eq!((&first.3[..], &copy.3[..]), (&[0][..], &[0][..]));
    sim.done(&copy);
    assert_eq!(sim.launch().3, [1], "a base run goes before a copy");
    sim.done(&first);
    assert_eq!(sim.launch().3, [2]);
}

#[test]
fn a_request_is_hedged_on_another_worker_once_it_is_late() {
    let mut sim = Sim::new(&[BASE; 3], |c| c.policy = policy("hedge:500us"));
    sim.submit(0, 0, NEVER);
    let own = sim.launch();
    sim.pass(499);
    assert_eq!(sim.launched(), []);
    sim.pass(500);
    let hedge = sim.launch();
    assert_ne!(hedge.0, own.0);
    sim.pass(5_000);
    assert_eq!(sim.launched(), [], "it is hedged once");
    sim.done(&hedge);
    let (_, outcome) = sim.settled[0];
    let answer = outcome.expect("answered");
    assert_eq!(
        (answer.source, answer.independence),
        (Source::Copy, Independence::Worker)
    );
}

#[test]
fn a_hedge_prefers_another_device() {
    let fleet = [(Role::Base, 0), (Role::Base, 0), (Role::Base, 1)];
    let mut sim = Sim::new(&fleet, |c| c.policy = policy("hedge:500us"));
    for id in 0..4 {
        sim.submit(id, 0, NEVER);
        let own = sim.launch();
        sim.pass(sim.now + 500);
        let hedge = sim.launch();
        assert_ne!(
            own.0 == 2,
            hedge.0 == 2,
            "one of them is on the other device"
        );
        sim.done(&own);
        sim.done(&hedge);
    }
}

#[test]
fn a_percentile_is_learnt_from_the_base_runs_that_lost_too() {
    let mut sim = Sim::new(&[BASE; 2], |c| c.policy = policy("hedge:p90"));
    for id in 0..100 {
        sim.submit(id, 0, NEVER);
        for run in sim.launched() {
            // Nine of ten take 1 ms, the tenth 20: its time counts although a hedge answers before.
            sim.now += if id % 10 == 9 { 20_000 } else { 1_000 };
            sim.done(&run);
        }
        for run in sim.launched() {
            sim.done(&run);
        }
    }
    sim.outcomes();
    sim.submit(100, 0, NEVER);
    sim.launch();
    let late = sim.scheduler.poll_timeout().expect("it will be late");
    assert!(
        (980..=1_020).contains(&(late - sim.now)),
        "{}",
        late - sim.now
    );
}

#[test]
fn hedging_stops_where_the_budget_ends() {
    let mut sim = Sim::new(&[BASE; 2], |c| {
        (c.policy, c.budget) = (policy("hedge:500us"), 0.1)
    });
    let mut hedges = 0;
    for id in 0..400 {
        sim.submit(id, 0, NEVER);
        let own = sim.launch();
        sim.pass(sim.now + 600); // all are late
        let launched = sim.launched();
        hedges += launched.len();
        sim.done(&own);
        launched.iter().for_each(|hedge| sim.done(hedge));
    }
    assert!(
        (40..=56).contains(&hedges),
        "{hedges} of 400 at a tenth and 16 in advance"
    );
}

#[test]
fn an_eager_collage_answers_and_a_request_late_without_it_is_sent_again() {
    let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 2_000, NEVER);
    let [own, collage] = sim.launched().try_into().expect("base and collage");
    sim.pass(1_999);
    assert_eq!(sim.launched(), []);
    sim.pass(2_000); // base and collage are both late
    let again = sim.launch();
    assert_eq!((again.2, &again.3[..]), (Kind::Base, &[0][..]));
    assert_ne!(again.0, own.0);
    sim.done(&again);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Copy))]);
    sim.done(&collage);
    sim.done(&own);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn a_request_that_begins_after_its_release_is_sent_again_too() {
    // Nothing is learnt yet: it is given as long from its launch as it was given before its release.
    for (release_at, again_at) in [(2_000, 4_500), (0, 51_250)] {
        let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| c.grids = tiles(1));
        sim.now = 2_500;
        let (id, due_at, deadline_at) = (RequestId(0), 0, 100_000);
        sim.handle(Event::SubmitDue {
            id,
            due_at,
            release_at,
            deadline_at,
        });
        let [own, _] = sim.launched().try_into().expect("base and collage");
        sim.pass(again_at - 1);
        assert_eq!(sim.launched(), []);
        sim.pass(again_at);
        let again = sim.launch();
        assert_eq!(again.2, Kind::Base);
        assert_ne!(again.0, own.0);
    }
}

#[test]
fn a_collage_that_is_there_at_the_release_saves_the_second_sending() {
    let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| c.grids = tiles(1));
    sim.submit(0, 2_000, NEVER);
    let [_, collage] = sim.launched().try_into().expect("base and collage");
    sim.done(&collage);
    sim.pass(2_000);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Collage))]);
    assert_eq!(sim.launched(), []);
}

#[test]
fn a_policy_that_sends_once_does_not_send_again() {
    let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| {
        (c.grids, c.policy) = (tiles(1), policy("collage:once"))
    });
    sim.submit(0, 2_000, NEVER);
    sim.launched();
    sim.pass(10_000);
    assert_eq!(sim.launched(), []);
}

#[test]
fn a_late_request_whose_collage_abstains_is_sent_again() {
    let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| {
        (c.grids, c.group_wait, c.policy) = (tiles(4), 0, policy("collage:lazy:500us"))
    });
    sim.submit(0, 0, NEVER);
    sim.launch();
    sim.pass(500);
    let collage = sim.launch();
    assert_eq!(collage.2, Kind::Collage);
    sim.now = 700;
    sim.done_with(&collage, 0.1);
    assert_eq!(sim.launch().2, Kind::Base);
}

#[test]
fn a_lazy_collage_is_computed_for_the_late_only_whichever_their_batches() {
    let mut sim = Sim::new(&[BASE, BASE, BASE, BASE, COLLAGE], |c| {
        (c.grids, c.group_wait, c.policy) = (tiles(4), 200, policy("collage:lazy:500us"))
    });
    sim.submit_all(0..2);
    let [first, _second] = sim.launched().try_into().expect("two base runs");
    sim.pass(100);
    sim.submit_all(2..3);
    let _third = sim.launch();
    sim.done(&first);
    sim.pass(699); // 1 is late since 500, 2 since 600
    assert_eq!(sim.launched(), []);
    sim.pass(700);
    let collage = sim.launch();
    assert_eq!((collage.2, &collage.3[..]), (Kind::Collage, &[1, 2][..]));
    sim.done(&collage);
    assert_eq!(sim.scheduler.stats().collage_runs, 1);
}

#[test]
fn late_requests_gather_while_the_collage_worker_is_busy() {
    let mut sim = Sim::new(&[BASE, BASE, BASE, COLLAGE], |c| {
        (c.grids, c.group_wait, c.policy) = (tiles(4), 0, policy("collage:lazy:500us"))
    });
    for id in 0..3 {
        sim.submit(id, 0, NEVER);
        sim.pass(sim.now + 100);
    }
    sim.launched();
    sim.pass(500);
    let first = sim.launch();
    assert_eq!(first.3, [0]);
    sim.pass(900); // the two others are late; no collage worker is free
    assert_eq!(sim.launched(), []);
    sim.done(&first);
    assert_eq!(sim.launch().3, [1, 2], "one collage for both");
}

#[test]
fn a_request_that_has_not_even_begun_at_its_release_is_late() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        (c.policy, c.group_wait, c.max_batch) = (policy("collage:lazy:500us"), 0, 1)
    });
    sim.submit(0, NEVER - 1, NEVER);
    let _stuck = sim.launch();
    sim.submit(1, 2_000, NEVER);
    sim.pass(1_999);
    let of_the_stuck = sim.launch();
    sim.done_with(&of_the_stuck, 0.1);
    assert_eq!(sim.launched(), []);
    sim.pass(2_000);
    let collage = sim.launch();
    assert_eq!((collage.2, &collage.3[..]), (Kind::Collage, &[1][..]));
    sim.done(&collage);
    assert_eq!(sim.outcomes(), [(1, Ok(Source::Collage))]);
}

#[test]
fn in_an_overload_backups_leave_the_workers_to_base_runs() {
    let mut sim = Sim::new(&[BOTH, BOTH], |c| {
        (c.grids, c.max_batch, c.stand_down) = (tiles(2), 1, 2)
    });
    for id in 0..8 {
        sim.now = id; // older groups wait longer than younger bases
        sim.submit(id, NEVER - 1, NEVER);
    }
    let first = sim.launched();
    sim.done(&first[0]);
    let second = sim.launch();
    assert_eq!(second.2, Kind::Base, "six wait for two workers");
    sim.done(&first[1]);
    assert_eq!(sim.launch().2, Kind::Base, "five do");
    sim.done(&second);
    assert_eq!(
        sim.launch().2,
        Kind::Collage,
        "four do: as many as is normal"
    );
}

#[test]
fn an_image_that_took_a_worker_down_is_not_tried_on_two_at_once() {
    let mut sim = Sim::new(&[BASE; 4], |c| c.policy = policy("replicate:2"));
    sim.submit(0, 0, NEVER);
    let runs = sim.launched();
    for run in &runs {
        sim.handle(Event::WorkerLost {
            worker: WorkerId(run.0),
        });
    }
    assert_eq!(sim.launched().len(), 1);
}

#[test]
fn a_cancelled_request_is_not_hedged() {
    let mut sim = Sim::new(&[BASE; 2], |c| c.policy = policy("hedge:500us"));
    sim.submit(0, 0, NEVER);
    let own = sim.launch();
    sim.handle(Event::Cancel { id: RequestId(0) });
    sim.pass(10_000);
    assert_eq!(sim.launched(), []);
    sim.done(&own);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn the_best_free_worker_is_kept_for_the_collage_while_others_are_free() {
    let mut sim = Sim::new(&[BOTH; 3], |c| (c.grids, c.max_batch) = (tiles(2), 1));
    // Worker 2 is known to be slow, the others are not.
    (0..2).for_each(|id| sim.submit(id, NEVER - 1, NEVER));
    for run in sim.launched() {
        sim.now += if run.0 == 2 { 9_000 } else { 1_000 };
        sim.done(&run);
    }
    let slow = 2;
    (2..4).for_each(|id| sim.submit(id, NEVER - 1, NEVER));
    let runs = sim.launched();
    let collage = runs.iter().find(|run| run.2 == Kind::Collage);
    assert_ne!(collage.expect("three are free").0, slow);
}

#[test]
fn an_accuracy_budget_sets_the_release_and_limits_the_collages_share() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        (c.grids, c.policy) = (tiles(1), policy("collage:once"));
        let (budget, drop) = (0.01, 0.1);
        c.accuracy = Some(AccuracyBudget { budget, drop });
    });
    let mut released = 0;
    for id in 0..1_000 {
        sim.submit(id, NEVER - 1, NEVER);
        let [own, collage] = sim.launched().try_into().expect("base and collage");
        sim.done(&collage);
        // Every second one takes 3 ms: more than a tenth, so that the purse is empty most of the time.
        sim.pass(sim.now + if id % 2 == 0 { 1_000 } else { 3_000 });
        sim.done(&own);
        released += sim
            .outcomes()
            .iter()
            .filter(|o| o.1 == Ok(Source::Collage))
            .count();
    }
    assert!(
        (60..=104).contains(&released),
        "{released} of 1,000 at a tenth"
    );
}
