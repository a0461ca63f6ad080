//! `parity:K` and `collage:auto` one rule at a time, in virtual time: who is decoded from what, what is kept for it, and
//! how large groups become.

mod sched_sim;

use collage::sched::{Error, Event, GridWork, Kind, Policy, RequestId, Role, Source, WorkerId};
use sched_sim::{BASE, COLLAGE, Launch, NEVER, Sim};

fn policy(text: &str) -> Policy {
    text.parse().expect("a policy")
}

/// Three base workers, a worker for parities, and pairs: both base runs and the parity of two requests.
fn pair(text: &str) -> (Sim, [Launch; 2], Launch) {
    let mut sim = Sim::new(&[BASE, BASE, BASE, (Role::Collage, 1)], |c| {
        c.policy = policy(text)
    });
    sim.submit_all(0..2);
    let runs = sim.launched();
    let (parity, base): (Vec<_>, Vec<_>) = runs.into_iter().partition(|r| r.2 == Kind::Parity);
    assert_eq!((parity.len(), &parity[0].3[..]), (1, &[0, 1][..]));
    (sim, base.try_into().expect("two runs"), parity[0].clone())
}

#[test]
fn the_missing_answer_of_a_pair_is_decoded_from_its_parity_and_the_other() {
    let (mut sim, [first, second], parity) = pair("parity:2:once");
    assert_ne!(first.0, second.0, "on different workers");
    sim.done(&second);
    assert_eq!(sim.outcomes(), [(1, Ok(Source::Base))]);
    assert_eq!(sim.forgotten, [], "its answer may be needed");
    sim.done(&parity);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Parity))]);
    let (id, times, others) = sim.decoded.pop().expect("decoded");
    assert_eq!(
        (id, times, others[0].job, others[0].times),
        (0, 1, second.1, 1)
    );
    assert_eq!(sim.forgotten.len(), 2, "nobody needs either any more");
    sim.done(&first);
    let stats = sim.scheduler.stats();
    assert_eq!((stats.parity, stats.parity_runs, stats.late), (1, 1, 1));
    assert_eq!(stats.group_work, 1.0);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn nothing_is_decoded_before_its_release() {
    let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| {
        c.policy = policy("parity:2:once")
    });
    sim.submit(0, 5_000, NEVER);
    sim.submit(1, 0, NEVER);
    for run in sim.launched().into_iter().filter(|r| r.3 != [0]) {
        sim.done(&run);
    }
    assert_eq!(sim.outcomes(), [(1, Ok(Source::Base))]);
    sim.pass(4_999);
    assert_eq!(sim.outcomes(), []);
    sim.pass(5_000);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Parity))]);
}

#[test]
fn two_late_members_of_a_group_are_sent_again() {
    let (mut sim, _, parity) = pair("parity:2");
    sim.pass(10);
    sim.done(&parity);
    assert_eq!(sim.outcomes(), [], "nobody can be decoded");
    assert_eq!(sim.launched(), [], "nobody is late before the release");

    let mut sim = Sim::new(&[BASE, BASE, BASE, COLLAGE], |c| {
        (c.policy, c.max_batch) = (policy("parity:2"), 1)
    });
    (0..2).for_each(|id| sim.submit(id, 1_000, NEVER));
    let runs = sim.launched();
    sim.pass(1_000);
    let copy = sim.launch();
    assert_eq!((copy.2, &copy.3[..]), (Kind::Base, &[0][..]));
    sim.done(&copy);
    sim.done(runs.iter().find(|r| r.2 == Kind::Parity).expect("a parity"));
    // The copy's answer is as good as any to decode the other with.
    assert_eq!(
        sim.outcomes(),
        [(0, Ok(Source::Copy)), (1, Ok(Source::Parity))]
    );
}

#[test]
fn the_death_of_a_worker_with_one_member_is_made_up_for_by_its_group() {
    let (mut sim, [first, second], parity) = pair("parity:2:once");
    sim.done(&parity);
    sim.handle(Event::WorkerLost {
        worker: WorkerId(first.0),
    });
    sim.done(&second);
    assert_eq!(
        sim.outcomes(),
        [(1, Ok(Source::Base)), (0, Ok(Source::Parity))]
    );
}

#[test]
fn an_answer_that_came_too_late_for_its_own_request_serves_its_group() {
    let (mut sim, [_, second], parity) = pair("parity:2:once");
    sim.done(&parity);
    sim.handle(Event::Cancel { id: RequestId(1) });
    assert_eq!(sim.outcomes(), [(1, Err(Error::Cancelled))]);
    sim.done(&second);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Parity))]);
}

#[test]
fn a_group_that_is_not_full_repeats_its_members() {
    let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| {
        c.policy = policy("parity:3:once")
    });
    sim.submit_all(0..2);
    let base = sim.launched();
    sim.pass(1_000);
    let parity = sim.launch();
    assert_eq!((&parity.3[..], sim.slots.last()), (&[0, 1][..], Some(&3)));
    sim.done(&parity);
    sim.done(base.iter().find(|r| r.3 == [0]).expect("its run"));
    let (id, times, others) = sim.decoded.pop().expect("decoded");
    assert_eq!((id, times, others[0].times), (1, 1, 2));
}

#[test]
fn a_lone_request_is_answered_by_the_parity_model_alone() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        (c.policy, c.group_wait) = (policy("parity:2:once"), 0)
    });
    sim.submit(0, 0, NEVER);
    let runs = sim.launched();
    sim.done(runs.iter().find(|r| r.2 == Kind::Parity).expect("a parity"));
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Parity))]);
    assert_eq!(sim.decoded, [(0, 2, vec![])]);
}

/// Grids of 1, 4 and 9 tiles, and groups that wait for 10 ms.
fn auto(text: &str) -> Sim {
    Sim::new(&[BASE, BASE, BASE, COLLAGE], |c| {
        let grids = [9, 1, 4].map(|tiles| GridWork::new(tiles, tiles as f64 / 9.0));
        (c.policy, c.grids, c.group_wait) = (policy(text), grids.to_vec(), 10_000)
    })
}

/// Members and tiles of every collage of so many requests, one every `gap`, each run taking no time.
fn collages(sim: &mut Sim, requests: u64, gap: u64) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for id in 0..requests {
        sim.pass(id * gap);
        sim.submit(id, NEVER - 1, NEVER);
        collect(sim, &mut found);
    }
    sim.pass(requests * gap + 20_000);
    collect(sim, &mut found);
    found
}

/// Ends the collages that were launched, but no base run.
fn collect(sim: &mut Sim, found: &mut Vec<(usize, usize)>) {
    loop {
        let all = sim.slots.len();
        let runs = sim.launched();
        let slots = sim.slots[all - runs.len()..].to_vec();
        let collages = runs.iter().zip(slots).filter(|(r, _)| r.2 == Kind::Collage);
        let collages: Vec<_> = collages.map(|(r, s)| (r.clone(), s)).collect();
        if collages.is_empty() {
            return;
        }
        for (run, slots) in collages {
            found.push((run.3.len(), slots));
            sim.done(&run);
        }
    }
}

#[test]
fn a_lone_request_waits_for_nobody_and_fast_ones_fill_the_largest_grid() {
    let slow = collages(&mut auto("collage:auto:once"), 20, 100_000);
    assert!(slow.iter().all(|&run| run == (1, 1)), "{slow:?}");
    let fast = collages(&mut auto("collage:auto:once"), 90, 200);
    let last = &fast[fast.len() - 4..fast.len() - 1];
    assert!(last.iter().all(|&run| run == (9, 9)), "{fast:?}");
    // Four of them come within the wait, nine do not.
    let medium = collages(&mut auto("collage:auto:once"), 90, 2_000);
    let last = &medium[medium.len() - 4..medium.len() - 1];
    assert!(last.iter().all(|&run| run == (4, 4)), "{medium:?}");
}

#[test]
fn a_group_grows_while_no_worker_could_take_it() {
    let mut sim = auto("collage:auto:once");
    sim.submit(0, NEVER - 1, NEVER);
    let first = sim.launched().into_iter().find(|r| r.2 == Kind::Collage);
    let first = first.expect("at once");
    for id in 1..8 {
        sim.submit(id, NEVER - 1, NEVER);
    }
    sim.pass(50_000);
    assert!(sim.launched().iter().all(|r| r.2 == Kind::Base));
    sim.done(&first);
    let all = sim.launched();
    let next = all.iter().find(|r| r.2 == Kind::Collage).expect("the rest");
    assert_eq!((next.3.len(), sim.slots.last()), (7, Some(&9)));
    let work = sim.scheduler.stats().group_work;
    assert!((work - 10.0 / 9.0).abs() < 1e-9, "{work}");
}

#[test]
fn a_fixed_collage_that_is_not_full_takes_a_smaller_grid_that_is_loaded() {
    let mut sim = auto("collage:3x3:once");
    sim.submit(0, NEVER - 1, NEVER);
    sim.submit(1, NEVER - 1, NEVER);
    sim.pass(10_000);
    let collage = sim.launched().into_iter().find(|r| r.2 == Kind::Collage);
    assert_eq!(
        (collage.expect("a collage").3.len(), sim.slots.last()),
        (2, Some(&4))
    );
}
