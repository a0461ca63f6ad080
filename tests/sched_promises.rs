//! Two promises: how fast requests are answered and how much accuracy that may cost. Fleets in virtual time, whose runs
//! are now and then slow, serve under an objective, a budget, or both.

mod sched_sim;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use collage::sched::{
    AccuracyBudget, Config, Event, Kind, Micros, Promise, RequestId, Role, Source,
};
use sched_sim::{BASE, COLLAGE, Launch, NEVER, Sim, tiles};

const DEADLINE: Micros = 1_000_000;

/// What came out, by a clock of its own.
struct Served {
    sim: Sim,
    /// Latency and source of each answer; no source where it failed.
    ended: Vec<(Micros, Option<Source>)>,
    /// Of collages: from their members' submission to their launch.
    waits: Vec<Micros>,
}

impl Served {
    fn share(&self, source: Source) -> f64 {
        let n = self.ended.iter().filter(|e| e.1 == Some(source)).count();
        n as f64 / self.ended.len() as f64
    }

    fn share_over(&self, limit: Micros) -> f64 {
        let n = self.ended.iter().filter(|e| e.0 > limit || e.1.is_none());
        n.count() as f64 / self.ended.len() as f64
    }

    fn latency(&self) -> Promise {
        self.sim.scheduler.promises().latency.expect("promised")
    }

    fn accuracy(&self) -> Promise {
        self.sim.scheduler.promises().accuracy.expect("promised")
    }
}

/// Serves so many requests, one each 500 us, on 40 base and three collage workers. A base run takes 2 ms, and in
/// `straggling` of a thousand cases 100 ms; a collage 1.5 ms.
fn serve(requests: u64, straggling: u64, change: impl FnOnce(&mut Config)) -> Served {
    let roles = [vec![BASE; 40], vec![COLLAGE; 3]].concat();
    let mut sim = Sim::new(&roles, |c| {
        (c.max_batch, c.queue, c.group_wait) = (1, 100_000, 2_000);
        c.grids = tiles(4);
        change(c);
    });
    let (mut ends, mut running) = (BinaryHeap::new(), BTreeMap::<u64, Launch>::new());
    let mut served = Served {
        ended: Vec::new(),
        waits: Vec::new(),
        sim: Sim::new(&[(Role::Both, 0)], |_| {}),
    };
    let due = |id: u64| id * 500;
    let mut next = 0;
    loop {
        let end = ends.peek().map_or(Micros::MAX, |Reverse((at, _))| *at);
        let arrival = if next < requests {
            due(next)
        } else {
            Micros::MAX
        };
        let timeout = sim.scheduler.poll_timeout().unwrap_or(Micros::MAX);
        let at = end.min(arrival).min(timeout);
        if at == Micros::MAX {
            break;
        }
        sim.now = sim.now.max(at);
        if end == at {
            let Some(Reverse((_, job))) = ends.pop() else {
                break;
            };
            sim.done(&running.remove(&job).expect("launched"));
        } else if arrival == at {
            sim.submit(next, at + 10_000, at + DEADLINE);
            next += 1;
        } else {
            sim.handle(Event::Tick);
        }
        for run in sim.launched() {
            let luck = run.1.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let time = match run.2 {
                Kind::Collage | Kind::Parity => {
                    served
                        .waits
                        .extend(run.3.iter().map(|&id| sim.now - due(id)));
                    1_500
                }
                Kind::Base if luck % 1_000 < straggling => 100_000,
                Kind::Base => 1_900 + luck % 200,
            };
            ends.push(Reverse((sim.now + time, run.1.0)));
            running.insert(run.1.0, run);
        }
        let now = sim.now;
        let outcomes = sim.outcomes();
        let ended = outcomes
            .iter()
            .map(|(id, o)| (now - due(*id), o.as_ref().ok().copied()));
        served.ended.extend(ended);
    }
    assert!(sim.scheduler.is_empty());
    served.sim = sim;
    served
}

fn objective(c: &mut Config, text: &str) {
    c.objective = Some(text.parse().expect("an objective"));
}

fn policy(c: &mut Config, text: &str) {
    c.policy = text.parse().expect("a policy");
}

#[test]
fn an_objective_that_the_base_keeps_by_itself_costs_no_accuracy() {
    // Half a percent is slow, a whole one may be.
    let served = serve(20_000, 5, |c| {
        policy(c, "collage:once");
        objective(c, "p99=20ms");
    });
    let promise = served.latency();
    assert!(promise.kept && promise.over == 20_000, "{promise:?}");
    assert!(served.share(Source::Collage) < 0.0005);
    assert!(served.share_over(20_000) <= 0.01);
}

#[test]
fn an_objective_that_the_base_would_break_is_kept_by_the_fewest_collage_answers_that_do() {
    let served = serve(40_000, 30, |c| {
        policy(c, "collage:once");
        objective(c, "p99=20ms");
    });
    let promise = served.latency();
    assert!(promise.kept, "{promise:?}");
    assert!(promise.measured <= 20_000.0);
    assert!(served.share_over(20_000) <= 0.01);
    // Three in a hundred are slow and one may be: two are left, and a quarter of the one stays in reserve.
    let given = served.share(Source::Collage);
    assert!((0.019..=0.027).contains(&given), "{given}");
    // No sooner than it takes.
    let soonest = served.ended.iter().filter(|e| e.1 == Some(Source::Collage));
    assert!(soonest.map(|e| e.0).min() >= Some(19_000));
}

#[test]
fn an_objective_that_nothing_can_keep_is_reported_broken() {
    let served = serve(5_000, 5, |c| {
        policy(c, "collage:once");
        objective(c, "p99=1ms");
    });
    let promise = served.latency();
    assert!(!promise.kept && promise.measured > 1_000.0, "{promise:?}");
}

#[test]
fn without_backups_the_report_is_the_truth_too() {
    for (straggling, kept) in [(5, true), (30, false)] {
        let served = serve(20_000, straggling, |c| {
            policy(c, "none");
            objective(c, "p99=20ms");
        });
        let promise = served.latency();
        assert_eq!(promise.kept, kept, "{promise:?}");
        assert_eq!(kept, served.share_over(20_000) <= 0.01);
    }
}

#[test]
fn a_lazy_collage_begins_when_it_is_just_in_time_for_the_objective() {
    let served = serve(40_000, 30, |c| {
        policy(c, "collage:lazy:once");
        objective(c, "p99=20ms");
        c.grids[0].work = 0.75;
    });
    let promise = served.latency();
    assert!(promise.kept, "{promise:?}");
    // 20 ms less the margin, the run and the wait for members; waiting for the objective's time is the base's chance.
    let mut waits = served.waits.clone();
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    assert!((15_000..=18_500).contains(&median), "{median}");
    let runs = served.sim.scheduler.stats().collage_runs;
    assert!(
        runs < 40_000 * 30 / 1_000,
        "{runs} collages for three in a hundred"
    );
}

#[test]
fn a_hedge_leaves_room_for_its_second_run() {
    let served = serve(40_000, 30, |c| {
        policy(c, "hedge:15ms");
        objective(c, "p99=10ms");
    });
    assert!(served.latency().kept, "{:?}", served.latency());
    assert_eq!(served.share(Source::Collage), 0.0);
}

#[test]
fn a_budget_alone_is_never_overdrawn_and_not_left_unused() {
    let served = serve(40_000, 100, |c| {
        policy(c, "collage:once");
        let (budget, drop) = (0.002, 0.04);
        c.accuracy = Some(AccuracyBudget { budget, drop });
    });
    let promise = served.accuracy();
    assert!(promise.kept && promise.measured <= 0.002, "{promise:?}");
    let given = served.share(Source::Collage);
    assert!((0.04..=0.05).contains(&given), "{given}");
    assert!(
        (promise.measured - given * 0.04).abs() < 1e-9,
        "{promise:?}"
    );
}

#[test]
fn with_both_the_budget_is_kept_and_the_objective_while_it_pays_for_it() {
    // Two in a hundred are slow. Of a hundred, one may be late.
    for (share, kept) in [(0.03, true), (0.004, false)] {
        let served = serve(40_000, 20, |c| {
            policy(c, "collage:once");
            objective(c, "p99=20ms");
            let (budget, drop) = (share * 0.05, 0.05);
            c.accuracy = Some(AccuracyBudget { budget, drop });
        });
        assert!(served.accuracy().kept, "{:?}", served.accuracy());
        assert_eq!(served.latency().kept, kept, "{:?}", served.latency());
        let given = served.share(Source::Collage);
        assert!(given <= share, "{given}");
        if !kept {
            assert!(given >= 0.9 * share, "{given}: all that there is is used");
        }
    }
}

#[test]
fn a_request_that_was_due_earlier_is_judged_from_there() {
    let mut sim = Sim::new(&[BASE], |c| objective(c, "p50=5ms"));
    sim.now = 10_000;
    sim.handle(Event::SubmitDue {
        id: RequestId(0),
        due_at: 4_000,
        release_at: NEVER - 1,
        deadline_at: NEVER,
    });
    sim.now = 10_500;
    let run = sim.launch();
    sim.done(&run);
    let promise = sim.scheduler.promises().latency.expect("promised");
    assert!(!promise.kept && promise.measured >= 6_400.0, "{promise:?}");
}

#[test]
fn failures_count_and_cancellations_do_not() {
    let mut sim = Sim::new(&[BASE], |c| {
        (c.max_batch, c.max_failures) = (1, 100);
        objective(c, "p50=5ms");
    });
    sim.submit(0, NEVER - 1, 2_000);
    sim.submit(1, NEVER - 1, NEVER);
    sim.handle(Event::Cancel { id: RequestId(1) });
    sim.pass(2_000);
    let promise = sim.scheduler.promises().latency.expect("promised");
    assert_eq!(
        (promise.kept, promise.over),
        (false, 1),
        "due before the objective, and failed"
    );
    assert!(promise.measured > 5_000.0);
}

#[test]
fn a_held_answer_that_waits_for_a_base_run_is_given_once_that_is_lost() {
    let mut sim = Sim::new(&[BASE, BASE, COLLAGE], |c| {
        policy(c, "collage:once");
        (c.max_attempts, c.grids, c.health) = (1, tiles(1), None);
        objective(c, "p50=5ms");
    });
    // Enough that are in time, so that one may miss the objective on purpose.
    for id in 0..8 {
        sim.submit(id, NEVER - 1, NEVER);
        for run in sim.launched() {
            sim.done(&run);
        }
    }
    sim.outcomes();
    sim.submit(8, 10_000, 1_000_000);
    let runs = sim.launched();
    let of = |kind| runs.iter().find(|run| run.2 == kind).expect("both run");
    sim.done(of(Kind::Collage));
    sim.pass(100_000);
    assert_eq!(sim.outcomes(), [], "its base run may still answer");
    sim.failed(of(Kind::Base));
    assert_eq!(sim.outcomes(), [(8, Ok(Source::Collage))]);
}

#[test]
fn only_the_base_answers_a_request_that_says_so() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        c.grids = tiles(1);
        objective(c, "p99=5ms");
    });
    sim.submit(0, 20_000, 20_000);
    let runs = sim.launched();
    let collage = runs
        .iter()
        .find(|run| run.2 == Kind::Collage)
        .expect("eager");
    sim.done(collage);
    sim.pass(19_999);
    assert!(sim.outcomes().is_empty());
}
