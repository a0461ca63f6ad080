//! What the engine does when workers fail, panic, lose their device or never come back: every accepted request gets
//! an answer or an error that says why.

mod engine_fakes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use collage::engine::{Engine, Error, Policy, RequestOptions, Setup, Source, WorkerState};
use collage::error::Classify;
use engine_fakes::{
    Call, Fake, Gate, MISSING_ROW, NAN_SCORE, device_lost, failure, setup, submit, sure, until,
};

/// Two base workers (0, 1) and no redundancy.
fn pair(device: Arc<Fake>) -> Setup {
    let mut setup = setup(device);
    setup.base_workers = 2;
    setup.policy = Policy::None;
    setup
}

/// True for the first call only.
fn once() -> impl Fn() -> bool + Send + Sync {
    let done = AtomicBool::new(false);
    move || !done.swap(true, Ordering::SeqCst)
}

#[test]
fn a_panicking_worker_is_restarted_and_its_requests_are_run_again() {
    let first = once();
    let device = Fake::new(move |_| if first() { panic!("a defect") } else { Ok(()) });
    let engine = Engine::start(pair(device)).expect("starts");
    for (class, ticket) in submit(&engine, (0..20).map(sure)).into_iter().enumerate() {
        assert_eq!(ticket.wait().expect("answered").top[0].class, class as u32);
    }
    let stats = until(&engine, |s| {
        s.workers.iter().all(|w| w.state == WorkerState::Ready)
    });
    let hurt = stats
        .workers
        .iter()
        .find(|w| w.failures == 1)
        .expect("one worker panicked");
    assert_eq!(
        (hurt.restarts, hurt.last_failure.as_deref()),
        (1, Some("panicked: a defect"))
    );
    assert_eq!(stats.requests.retries, 1);
}

#[test]
fn a_lost_device_is_loaded_again_and_serves_on() {
    let first = once();
    let device = Fake::new(move |_| if first() { Err(device_lost()) } else { Ok(()) });
    let mut setup = pair(device);
    setup.base_workers = 1;
    let engine = Engine::start(setup).expect("starts");
    for ticket in submit(&engine, (0..20).map(sure)) {
        ticket.wait().expect("answered");
    }
    let worker = &engine.shutdown().workers[0];
    assert_eq!((worker.failures, worker.restarts), (1, 1));
}

#[test]
fn a_worker_that_never_comes_back_is_retired_and_the_others_take_its_work() {
    let loads = AtomicUsize::new(0);
    let on_load = move |call: &Call| match call.worker {
        0 if loads.fetch_add(1, Ordering::SeqCst) >= 4 => Err(device_lost()), // the four plans of the start
        _ => Ok(()),
    };
    let on_run = |call: &Call| {
        if call.worker == 0 {
            Err(device_lost())
        } else {
            Ok(())
        }
    };
    let engine = Engine::start(pair(Fake::with_load(on_load, on_run))).expect("starts");
    for ticket in submit(&engine, (0..20).map(sure)) {
        assert_eq!(ticket.wait().expect("answered").worker, 1);
    }
    let stats = until(&engine, |stats| {
        stats.workers[0].state == WorkerState::Retired
    });
    assert_eq!(stats.workers[1].state, WorkerState::Ready);
    assert_eq!(stats.requests.answered(), 20);
}

#[test]
fn without_any_worker_left_every_request_gets_an_error_that_says_why() {
    let gone = Arc::new(AtomicBool::new(false));
    let (at_load, gate) = (gone.clone(), Gate::default());
    let at_run = gate.clone();
    let on_load = move |_: &Call| {
        if at_load.load(Ordering::SeqCst) {
            Err(device_lost())
        } else {
            Ok(())
        }
    };
    let on_run = move |_: &Call| {
        at_run.pass();
        Err(device_lost())
    };
    let mut setup = pair(Fake::with_load(on_load, on_run));
    setup.policy = Policy::COLLAGE;
    let engine = Engine::start(setup).expect("starts");
    let tickets = submit(&engine, (0..30).map(sure));
    until(&engine, |stats| stats.pending == 30);
    gone.store(true, Ordering::SeqCst);
    gate.open();
    for ticket in tickets {
        let error = ticket.wait().expect_err("nobody could answer");
        assert!(
            matches!(error, Error::NoWorkers { .. }) && error.to_string().contains("unplugged"),
            "{error}"
        );
        assert_eq!((error.code(), error.can_retry()), (404, false));
    }
    let error = engine.classify(sure(0)).expect_err("nobody is left");
    assert!(matches!(error, Error::NoWorkers { .. }), "{error}");
    let stats = engine.shutdown();
    assert_eq!((stats.requests.failed, stats.pending), (31, 0));
}

#[test]
fn without_base_workers_the_collage_goes_on_to_answer() {
    let on_run = |call: &Call| {
        if call.collage {
            Ok(())
        } else {
            panic!("always")
        }
    };
    let first = AtomicUsize::new(0);
    let on_load = move |call: &Call| match call.worker {
        0 if first.fetch_add(1, Ordering::SeqCst) >= 4 => Err(failure()),
        _ => Ok(()),
    };
    let engine = Engine::start(setup(Fake::with_load(on_load, on_run))).expect("starts");
    for _ in 0..3 {
        for (class, ticket) in submit(&engine, (0..4).map(sure)).into_iter().enumerate() {
            let answer = ticket.wait().expect("answered");
            assert_eq!(
                (answer.source, answer.top[0].class),
                (Source::Collage, class as u32)
            );
        }
    }
    let stats = until(&engine, |stats| {
        stats.workers[0].state == WorkerState::Retired
    });
    assert_eq!(stats.requests.collage, 12);
}

#[test]
fn a_lost_collage_is_run_again_for_those_who_still_wait() {
    let gate = Gate::default();
    let (base, first) = (gate.clone(), once());
    let device = Fake::new(move |call: &Call| {
        if !call.collage {
            base.pass();
        } else if first() {
            return Err(device_lost());
        }
        Ok(())
    });
    let engine = Engine::start(setup(device.clone())).expect("starts");
    for ticket in submit(&engine, (0..4).map(sure)) {
        assert_eq!(ticket.wait().expect("answered").source, Source::Collage);
    }
    assert_eq!(device.runs(true), [vec![0, 1, 2, 3], vec![0, 1, 2, 3]]);
    gate.open();
}

#[test]
fn an_image_that_fails_everywhere_fails_alone_and_retires_nobody() {
    const BAD: u8 = 13;
    let gate = Gate::default();
    let hold = gate.clone();
    let device = Fake::new(move |call: &Call| {
        hold.pass();
        if call.images.contains(&BAD) {
            Err(failure())
        } else {
            Ok(())
        }
    });
    let engine = Engine::start(pair(device)).expect("starts");
    let tickets = submit(&engine, (0..20).map(sure));
    until(&engine, |stats| stats.pending == 20);
    gate.open();
    for (class, ticket) in tickets.into_iter().enumerate() {
        match ticket.wait() {
            Ok(answer) => assert_eq!(answer.top[0].class, class as u32),
            Err(error) => {
                assert_eq!(class, usize::from(BAD));
                assert!(
                    matches!(error, Error::Failed { attempts: 3, .. }),
                    "{error}"
                );
                assert!(error.to_string().contains("out of luck"), "{error}");
            }
        }
    }
    let stats = engine.shutdown();
    assert_eq!((stats.requests.base, stats.requests.failed), (19, 1));
    assert!(
        stats.workers.iter().all(|w| w.failures < 5),
        "nobody was retired for it"
    );
}

#[test]
fn an_image_that_kills_workers_fails_in_the_end_and_the_others_do_not() {
    const BAD: u8 = 13;
    let device = Fake::new(|call: &Call| {
        assert!(!call.images.contains(&BAD), "killed by an image");
        Ok(())
    });
    let engine = Engine::start(pair(device)).expect("starts");
    for (class, ticket) in submit(&engine, (0..20).map(sure)).into_iter().enumerate() {
        match ticket.wait() {
            Ok(answer) => assert_eq!(answer.top[0].class, class as u32),
            Err(error) => {
                assert_eq!(class, usize::from(BAD));
                assert!(error.to_string().contains("killed by an image"), "{error}");
            }
        }
    }
    assert_eq!(engine.shutdown().requests.failed, 1);
}

#[test]
fn a_worker_that_always_fails_draws_no_work_and_is_retired_at_last() {
    let on_run = |call: &Call| {
        if call.worker == 0 {
            Err(failure())
        } else {
            Ok(())
        }
    };
    let engine = Engine::start(pair(Fake::new(on_run))).expect("starts");
    let mut rounds = 0;
    while engine.stats().workers[0].state != WorkerState::Retired {
        // More than one worker takes, so that the broken one gets its turn.
        for ticket in submit(&engine, (0..50).map(sure)) {
            ticket.wait().expect("the other worker answers");
        }
        rounds += 1;
    }
    let stats = engine.shutdown();
    assert_eq!(stats.requests.base, 50 * rounds);
    assert_eq!((stats.workers[0].runs, stats.workers[0].failures), (0, 5));
}

#[test]
fn results_that_do_not_fit_the_images_are_failures() {
    for bad in [MISSING_ROW, NAN_SCORE] {
        let engine = Engine::start(pair(Fake::new(|_| Ok(())))).expect("starts");
        let error = engine.classify(sure(bad)).expect_err("refused");
        assert!(
            matches!(error, Error::Failed { attempts: 3, .. }),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("for 1 images; expected one each, of finite scores"),
            "{error}"
        );
        engine.classify(sure(0)).expect("answered");
    }
}

#[test]
fn an_engine_does_not_open_on_a_device_that_does_not_load_its_plans() {
    let refused = Fake::with_load(
        |call| {
            if call.worker == 1 {
                Err(failure())
            } else {
                Ok(())
            }
        },
        |_| Ok(()),
    );
    let error = Engine::start(pair(refused)).expect_err("refused");
    assert!(matches!(error, Error::Load { worker: 1, .. }), "{error}");
    assert!(
        error.to_string().contains("fake") && error.to_string().contains("out of luck"),
        "{error}"
    );

    let broken = Fake::with_load(|_| panic!("a defect"), |_| Ok(()));
    let error = Engine::start(pair(broken)).expect_err("refused");
    assert!(
        matches!(&error, Error::LoadPanic { reason, .. } if reason == "a defect"),
        "{error}"
    );
}

#[test]
fn a_request_that_was_cancelled_is_not_run_again() {
    let gate = Gate::default();
    let hold = gate.clone();
    let device = Fake::new(move |_| {
        hold.pass();
        Err(device_lost())
    });
    let engine = Engine::start(pair(device.clone())).expect("starts");
    let ticket = engine
        .submit(sure(0), RequestOptions::default())
        .expect("accepted");
    gate.reached_by(1);
    drop(ticket);
    until(&engine, |stats| stats.requests.cancelled == 1);
    gate.open();
    until(&engine, |stats| {
        stats.workers.iter().any(|w| w.restarts == 1)
    });
    let stats = engine.shutdown();
    assert_eq!((stats.requests.retries, stats.requests.settled()), (0, 1));
    assert_eq!(device.runs(false), [[0]]);
}
