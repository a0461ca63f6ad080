//! How the engine serves: batches, groups, collages in place of stragglers, deadlines, backpressure, shutdown.

mod engine_fakes;

use std::time::{Duration, Instant};

use collage::engine::{Engine, Error, Independence, Policy, RequestOptions, Source};
use engine_fakes::{Call, Fake, Gate, image, setup, submit, sure, until};

const HOUR: Duration = Duration::from_secs(3600);

/// A device whose base runs wait at the gate.
fn gated(gate: &Gate) -> std::sync::Arc<Fake> {
    let gate = gate.clone();
    Fake::new(move |call: &Call| {
        if !call.collage {
            gate.pass();
        }
        Ok(())
    })
}

/// A device whose collage runs wait at the gate.
fn gated_collage(gate: &Gate) -> std::sync::Arc<Fake> {
    let gate = gate.clone();
    Fake::new(move |call: &Call| {
        if call.collage {
            gate.pass();
        }
        Ok(())
    })
}

#[test]
fn each_request_is_answered_with_its_own_image() {
    let engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    let tickets = submit(&engine, (0..100).map(sure));
    for (class, ticket) in tickets.into_iter().enumerate() {
        let id = ticket.id();
        let answer = ticket.wait().expect("answered");
        assert_eq!((answer.id, answer.top[0].class), (id, class as u32));
        assert_eq!(answer.confidence, answer.top[0].score);
    }
    let stats = engine.shutdown();
    assert_eq!((stats.requests.answered(), stats.pending), (100, 0));
}

#[test]
fn late_worker_is_answered_by_its_collage() {
    let gate = Gate::default();
    let engine = Engine::start(setup(gated(&gate))).expect("starts");
    let tickets = submit(&engine, (0..4).map(sure));
    for (i, ticket) in tickets.into_iter().enumerate() {
        let answer = ticket.wait().expect("answered");
        assert_eq!((answer.source, answer.worker), (Source::Collage, 1));
        assert_eq!(answer.collage.map(|tile| tile.index), Some(i));
        assert_eq!(answer.top[0].class, i as u32);
        // The first one's base run is on the same device; the others' were never started.
        assert_eq!(answer.independence == Independence::Worker, i == 0);
    }
    gate.reached_by(1);
    gate.open();
    let stats = engine.shutdown();
    assert_eq!(stats.requests.collage, 4);
    assert_eq!(stats.requests.late, 1, "one base run came after all");
    assert_eq!(
        stats.requests.bases_saved, 3,
        "the others were not run any more"
    );
}

#[test]
fn a_collage_on_another_device_is_reported_as_independent_of_it() {
    let gate = Gate::default();
    let mut setup = setup(gated(&gate));
    setup.devices.push(Fake::new(|_| Ok(())));
    let engine = Engine::start(setup).expect("starts");
    for ticket in submit(&engine, (0..4).map(sure)) {
        assert_eq!(
            ticket.wait().expect("answered").independence,
            Independence::Device
        );
    }
    gate.open();
}

#[test]
fn two_handles_of_one_device_are_one_device() {
    let gate = Gate::default();
    let mut setup = setup(gated(&gate));
    setup.devices.push(setup.devices[0].clone());
    let engine = Engine::start(setup).expect("starts");
    let tickets = submit(&engine, (0..4).map(sure));
    let first = tickets.into_iter().next().expect("four");
    assert_eq!(
        first.wait().expect("answered").independence,
        Independence::Worker
    );
    gate.open();
}

#[test]
fn an_abstaining_collage_leaves_the_answer_to_the_base() {
    let gate = Gate::default();
    let engine = Engine::start(setup(gated(&gate))).expect("starts");
    let tickets = submit(&engine, [image(0, 20), sure(1), sure(2), image(3, 20)]);
    until(&engine, |stats| {
        stats.requests.abstained == 2 && stats.requests.collage == 2
    });
    gate.open();
    let sources: Vec<_> = tickets
        .into_iter()
        .map(|t| t.wait().expect("answered").source)
        .collect();
    assert_eq!(
        sources,
        [Source::Base, Source::Collage, Source::Collage, Source::Base]
    );
}

#[test]
fn a_base_answer_before_the_release_wins_over_a_collage_that_was_there_first() {
    let gate = Gate::default();
    let mut setup = setup(gated(&gate));
    setup.release = HOUR / 2;
    let engine = Engine::start(setup).expect("starts");
    let tickets = submit(&engine, (0..4).map(sure));
    until(&engine, |stats| stats.workers[1].runs == 1);
    gate.open();
    for ticket in tickets {
        let answer = ticket.wait().expect("answered");
        assert_eq!((answer.source, answer.collage), (Source::Base, None));
    }
    assert_eq!(engine.shutdown().requests.unneeded, 4);
}

#[test]
fn a_request_may_have_a_release_of_its_own() {
    let gate = Gate::default();
    let engine = Engine::start(setup(gated(&gate))).expect("starts");
    let with = |release| RequestOptions {
        release: Some(release),
        ..RequestOptions::default()
    };
    let patient = engine
        .submit(sure(0), with(Duration::MAX))
        .expect("accepted");
    let hasty = engine
        .submit(sure(1), with(Duration::ZERO))
        .expect("accepted");
    let soon = engine
        .submit(sure(2), with(Duration::from_millis(30)))
        .expect("accepted");
    let own = engine
        .submit(sure(3), RequestOptions::default())
        .expect("accepted");
    for ticket in [hasty, soon, own] {
        assert_eq!(ticket.wait().expect("answered").source, Source::Collage);
    }
    gate.open();
    assert_eq!(patient.wait().expect("answered").source, Source::Base);
}

#[test]
fn a_partial_group_is_run_after_its_wait_with_blank_tiles() {
    let gate = Gate::default();
    let device = gated(&gate);
    let mut setup = setup(device.clone());
    setup.group_wait = Duration::from_millis(10);
    let engine = Engine::start(setup).expect("starts");
    let sources: Vec<_> = submit(&engine, [sure(7), sure(8)])
        .into_iter()
        .map(|t| t.wait().expect("answered").source)
        .collect();
    assert_eq!(sources, [Source::Collage; 2]);
    assert_eq!(device.runs(true).concat(), [7, 8]);
    gate.open();
}

#[test]
fn a_group_that_needs_no_collage_any_more_is_not_run() {
    let device = Fake::new(|_| Ok(()));
    let engine = Engine::start(setup(device.clone())).expect("starts");
    for class in 0..3 {
        engine.classify(sure(class)).expect("answered");
    }
    // The end of the engine closes the group, which would have waited for a fourth.
    let stats = engine.shutdown();
    assert_eq!(stats.requests.collages_saved, 1);
    assert_eq!(device.runs(true).len(), 0);
}

#[test]
fn members_answered_before_the_launch_leave_their_tiles_to_the_others() {
    let (base, collage) = (Gate::default(), Gate::default());
    let (at_base, at_collage) = (base.clone(), collage.clone());
    let device = Fake::new(move |call: &Call| {
        match (call.collage, call.images[0]) {
            (true, 0) => at_collage.pass(), // holds the only collage worker
            (false, 6) => at_base.pass(),
            _ => {}
        }
        Ok(())
    });
    let mut setup = setup(device.clone());
    setup.release = HOUR / 2;
    let engine = Engine::start(setup).expect("starts");
    let first = submit(&engine, (0..4).map(sure));
    let second = submit(&engine, [sure(4), sure(5)]);
    until(&engine, |stats| stats.requests.base == 6); // all answered by the base, the first collage still runs
    let with = RequestOptions {
        release: Some(Duration::ZERO),
        ..RequestOptions::default()
    };
    let late: Vec<_> = [6, 7]
        .map(|c| engine.submit(sure(c), with).expect("accepted"))
        .into();
    base.reached_by(1);
    collage.open();
    for ticket in late {
        assert_eq!(ticket.wait().expect("answered").source, Source::Collage);
    }
    assert_eq!(device.runs(true), [vec![0, 1, 2, 3], vec![6, 7]]);
    base.open();
    drop((first, second));
}

#[test]
fn a_full_queue_answers_overloaded_at_once() {
    let gate = Gate::default();
    let mut setup = setup(gated(&gate));
    setup.queue = 2;
    let engine = Engine::start(setup).expect("starts");
    let tickets = submit(&engine, [sure(0), sure(1)]);
    let refused = engine.submit(sure(2), RequestOptions::default());
    assert!(
        matches!(refused, Err(Error::Overloaded { queue: 2 })),
        "{refused:?}"
    );
    gate.open();
    for ticket in tickets {
        ticket.wait().expect("answered");
    }
    engine.classify(sure(3)).expect("there is room again");
    let stats = engine.shutdown();
    assert_eq!(
        (stats.requests.overloaded, stats.requests.submitted),
        (1, 4)
    );
}

#[test]
fn a_request_without_an_answer_by_its_deadline_fails() {
    let gate = Gate::default();
    let engine = Engine::start(setup(gated(&gate))).expect("starts");
    let deadline = Some(Duration::from_millis(5));
    let options = RequestOptions {
        deadline,
        ..RequestOptions::default()
    };
    let ticket = engine.submit(sure(0), options).expect("accepted");
    let error = ticket.wait().expect_err("too late");
    assert!(
        matches!(error, Error::DeadlineExceeded { deadline } if Some(deadline) == options.deadline),
        "{error}"
    );
    gate.open();
    assert_eq!(engine.shutdown().requests.deadline_exceeded, 1);
}

#[test]
fn latency_and_deadline_count_from_the_time_a_request_was_due() {
    let engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    let due = Instant::now()
        .checked_sub(Duration::from_millis(200))
        .expect("the clock has run that long");
    let options = RequestOptions {
        submitted: Some(due),
        ..RequestOptions::default()
    };
    let answer = engine
        .submit(sure(0), options)
        .expect("accepted")
        .wait()
        .expect("answered");
    assert!(answer.latency >= Duration::from_millis(200));
    let options = RequestOptions {
        deadline: Some(Duration::from_millis(100)),
        ..options
    };
    let outcome = engine.submit(sure(1), options).expect("accepted").wait();
    assert!(
        matches!(outcome, Err(Error::DeadlineExceeded { .. })),
        "{outcome:?}"
    );
}

#[test]
fn dropping_a_ticket_cancels_its_request_before_its_launch() {
    let gate = Gate::default();
    let device = gated(&gate);
    let engine = Engine::start(setup(device.clone())).expect("starts");
    let first = submit(&engine, [sure(0)]);
    gate.reached_by(1);
    drop(submit(&engine, [sure(1), sure(2)]));
    let last = submit(&engine, [sure(3)]);
    until(&engine, |stats| stats.requests.cancelled == 2);
    gate.open();
    for ticket in first.into_iter().chain(last) {
        ticket.wait().expect("answered");
    }
    assert_eq!(engine.shutdown().requests.cancelled, 2);
    let base: Vec<u8> = device.runs(false).concat();
    assert!(!base.contains(&1) && !base.contains(&2), "{base:?}");
}

#[test]
fn requests_that_wait_for_a_worker_are_run_in_one_batch() {
    let gate = Gate::default();
    let device = gated(&gate);
    let mut setup = setup(device.clone());
    setup.policy = Policy::None;
    let engine = Engine::start(setup).expect("starts");
    let tickets = submit(&engine, [sure(0)]);
    gate.reached_by(1);
    let more = submit(&engine, (1..12).map(sure));
    until(&engine, |stats| stats.pending == 12);
    gate.open();
    for ticket in tickets.into_iter().chain(more) {
        assert_eq!(
            ticket.wait().expect("answered").independence,
            Independence::None
        );
    }
    let sizes: Vec<_> = device.runs(false).iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 8, 3]);
    assert_eq!(device.runs(true).len(), 0, "no collage without the policy");
    assert_eq!(engine.shutdown().workers.len(), 1, "and no worker for it");
}

#[test]
fn a_batch_is_waited_for_if_asked() {
    let device = Fake::new(|_| Ok(()));
    let mut setup = setup(device.clone());
    setup.batch_wait = HOUR;
    setup.policy = Policy::None;
    let engine = Engine::start(setup).expect("starts");
    for ticket in submit(&engine, (0..8).map(sure)) {
        ticket.wait().expect("answered");
    }
    assert_eq!(device.runs(false), [(0..8).collect::<Vec<u8>>()]);
    let rest = submit(&engine, [sure(8)]);
    assert_eq!(
        engine.shutdown().requests.answered(),
        9,
        "a shutdown waits for no batch"
    );
    for ticket in rest {
        ticket.wait().expect("answered");
    }
}

#[test]
fn shutdown_answers_every_accepted_request() {
    let engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    let tickets = submit(&engine, (0..50).map(sure));
    let stats = engine.shutdown();
    assert_eq!((stats.requests.answered(), stats.pending), (50, 0));
    for mut ticket in tickets {
        assert!(ticket.try_take().expect("settled").is_ok());
        assert!(
            matches!(ticket.wait(), Err(Error::Closed)),
            "an answer is given once"
        );
    }
}

#[test]
fn dropping_the_engine_drains_it_too() {
    let engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    let tickets = submit(&engine, (0..10).map(sure));
    drop(engine);
    for ticket in tickets {
        ticket.wait().expect("answered");
    }
}

#[test]
fn a_ticket_is_a_future_and_may_be_waited_for_inside_a_runtime() {
    let engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let [first, second] = [0, 1].map(|c| {
            engine
                .submit(sure(c), RequestOptions::default())
                .expect("accepted")
        });
        assert_eq!(first.await.expect("answered").top[0].class, 0);
        assert_eq!(second.wait().expect("answered").top[0].class, 1);
    });
}

#[test]
fn one_worker_alone_runs_base_and_collage() {
    let mut setup = setup(Fake::new(|_| Ok(())));
    setup.collage_workers = 0;
    let engine = Engine::start(setup).expect("starts");
    for ticket in submit(&engine, (0..40).map(sure)) {
        assert_eq!(ticket.wait().expect("answered").worker, 0);
    }
    assert_eq!(engine.shutdown().requests.answered(), 40);
}

#[test]
fn injected_straggling_is_counted_as_injected() {
    let mut setup = setup(Fake::new(|_| Ok(())));
    setup.policy = Policy::None;
    setup.stragglers = vec!["pause:0:5".parse().expect("valid")];
    let engine = Engine::start(setup).expect("starts");
    for class in 0..3 {
        let answer = engine.classify(sure(class)).expect("answered");
        assert!(answer.latency >= Duration::from_millis(5));
    }
    let worker = &engine.shutdown().workers[0];
    assert_eq!((worker.runs, worker.injected_runs), (3, 3));
    assert_eq!(worker.injected, Duration::from_millis(15));
    assert!(worker.busy >= worker.injected && worker.service_p50 >= Duration::from_millis(5));
}

#[test]
fn a_paused_worker_does_not_delay_the_end_of_the_engine() {
    let gate = Gate::default();
    let mut setup = setup(gated_collage(&gate));
    setup.stragglers = vec!["pause:0:3600000".parse().expect("valid")];
    let engine = Engine::start(setup).expect("starts");
    let tickets = submit(&engine, (0..4).map(sure));
    gate.open();
    for ticket in tickets {
        assert_eq!(ticket.wait().expect("answered").source, Source::Collage);
    }
    engine.shutdown(); // or this test never ends
}

#[test]
fn options_that_cannot_be_are_named_with_what_they_take() {
    let wrong = |change: fn(&mut collage::engine::Setup)| {
        let mut setup = setup(Fake::new(|_| Ok(())));
        change(&mut setup);
        Engine::start(setup).expect_err("refused").to_string()
    };
    let straggler = "slow:2:8";
    assert_eq!(
        wrong(|s| s.stragglers = vec!["slow:2:8".parse().expect("valid")]),
        format!("option stragglers: {straggler}; expected a worker from 0 to 1")
    );
    assert_eq!(
        wrong(|s| s.devices.clear()),
        "option devices: none; expected one at least"
    );
    assert_eq!(
        wrong(|s| s.base_workers = 0),
        "option base_workers: 0; expected 1 at least"
    );
    assert_eq!(
        wrong(|s| s.queue = 0),
        "option queue: 0; expected 1 at least"
    );
    assert_eq!(
        wrong(|s| s.min_confidence = f32::NAN),
        "option min_confidence: NaN; expected a share from 0 to 1"
    );
    assert_eq!(
        wrong(|s| s.plans.collage.clear()),
        "option policy: collage; expected none, as there is no collage model"
    );
}
