//! Stragglers in the engine: what is injected is injected where it was asked for, and is called injected.

mod engine_fakes;

use std::sync::Arc;
use std::time::Duration;

use collage::engine::{Engine, Policy, Setup};
use collage::error::Classify;
use engine_fakes::{CONTENTION, Call, Fake, failure, setup, submit, sure, until};

/// Base workers alone on this device, with these stragglers.
fn straggling(device: Arc<Fake>, workers: usize, stragglers: &[&str]) -> Setup {
    let mut setup = setup(device);
    setup.policy = Policy::None;
    setup.base_workers = workers;
    let parse = |text: &&str| text.parse().expect("a straggler");
    setup.stragglers = stragglers.iter().map(parse).collect();
    setup
}

/// Runs of injected loads so far.
fn loads(device: &Fake) -> usize {
    let calls = device.calls.lock().expect("not poisoned");
    calls
        .iter()
        .filter(|call| call.worker == CONTENTION)
        .count()
}

#[test]
fn a_trace_makes_runs_as_long_as_it_says_and_they_count_as_injected() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace.csv");
    std::fs::write(&file, "seconds\n0.03\n").expect("written");
    let trace = format!("trace:{}:scale=0.1", file.display());
    let setup = straggling(Fake::new(|_| Ok(())), 1, &[&trace]);
    let engine = Engine::start(setup).expect("starts");
    for class in 0..5 {
        let ticket = submit(&engine, [sure(class)]).remove(0);
        ticket.wait().expect("answered");
    }
    let stats = engine.shutdown();
    let worker = &stats.workers[0];
    assert_eq!((worker.runs, worker.injected_runs), (5, 5));
    assert!(worker.busy >= Duration::from_millis(15), "{worker:?}");
    assert!(worker.injected <= worker.busy, "{worker:?}");
}

#[test]
fn a_window_that_is_over_or_to_come_injects_nothing() {
    let stragglers = ["pause:*:3600000@3600-7200", "slow:*:1000@0-0.000001"];
    let setup = straggling(Fake::new(|_| Ok(())), 2, &stragglers);
    let engine = Engine::start(setup).expect("starts");
    for ticket in submit(&engine, (0..20).map(sure)) {
        ticket.wait().expect("answered");
    }
    let stats = engine.shutdown();
    assert!(
        stats.workers.iter().all(|w| w.injected_runs == 0),
        "{stats:?}"
    );
}

#[test]
fn a_trace_that_cannot_be_read_is_refused_when_the_engine_opens() {
    let setup = straggling(Fake::new(|_| Ok(())), 1, &["trace:/nowhere.npy"]);
    let error = Engine::start(setup).expect_err("no such file");
    assert_eq!(error.code(), 421);
    assert!(error.to_string().contains("/nowhere.npy"), "{error}");
}

#[test]
fn contention_loads_the_workers_device_and_ends_with_the_engine() {
    let device = Fake::new(|_| Ok(()));
    let setup = straggling(device.clone(), 1, &["contention:0:0.5"]);
    let engine = Engine::start(setup).expect("starts");
    let stats = until(&engine, |stats| stats.contention[0].runs >= 3);
    assert_eq!(stats.contention[0].straggler, "contention:0:0.5");
    let answer = submit(&engine, [sure(7)]).remove(0).wait();
    assert_eq!(answer.expect("answered").top[0].class, 7);
    let stats = engine.shutdown();
    // Its runs are nobody's answers.
    assert_eq!((stats.requests.base_images, stats.workers[0].runs), (1, 1));
    let runs = loads(&device);
    assert_eq!(stats.contention[0].runs, runs as u64);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(loads(&device), runs, "it runs after the engine's end");
}

#[test]
fn contention_waits_for_its_window() {
    let device = Fake::new(|_| Ok(()));
    let setup = straggling(device.clone(), 1, &["contention:*@3600-7200"]);
    let engine = Engine::start(setup).expect("starts");
    for ticket in submit(&engine, (0..20).map(sure)) {
        ticket.wait().expect("answered");
    }
    assert_eq!(engine.shutdown().contention[0].runs, 0);
    assert_eq!(loads(&device), 0);
}

#[test]
fn contention_for_all_loads_each_device_once() {
    let [first, second] = [0, 1].map(|_| Fake::new(|_| Ok(())));
    let mut setup = straggling(first.clone(), 4, &["contention:*"]);
    setup.devices = vec![first.clone(), second.clone(), first.clone()];
    let engine = Engine::start(setup).expect("starts");
    let is_running = |load: &collage::engine::ContentionStats| load.runs > 0;
    let stats = until(&engine, |stats| stats.contention.iter().all(is_running));
    let devices: Vec<usize> = stats.contention.iter().map(|load| load.device).collect();
    assert_eq!(devices, [0, 1]);
    assert!(loads(&first) > 0 && loads(&second) > 0);
}

#[test]
fn contention_that_does_not_load_is_refused_by_its_name() {
    let refuse = |call: &Call| match call.worker {
        CONTENTION => Err(failure()),
        _ => Ok(()),
    };
    let setup = straggling(Fake::with_load(refuse, |_| Ok(())), 1, &["contention:0"]);
    let error = Engine::start(setup).expect_err("it does not load");
    assert_eq!(error.code(), 414);
    let message = error.to_string();
    for part in ["contention:0", "fake", "out of luck"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn contention_that_fails_or_panics_says_so_and_the_engine_serves_on() {
    for panics in [false, true] {
        let fail = move |call: &Call| match call.worker {
            CONTENTION if panics => panic!("out of luck"),
            CONTENTION => Err(failure()),
            _ => Ok(()),
        };
        let setup = straggling(Fake::new(fail), 1, &["contention:0"]);
        let engine = Engine::start(setup).expect("starts");
        let stats = until(&engine, |stats| stats.contention[0].failure.is_some());
        let reason = stats.contention[0].failure.as_deref();
        assert!(
            reason.is_some_and(|r| r.contains("out of luck")),
            "{reason:?}"
        );
        let answer = submit(&engine, [sure(3)]).remove(0).wait();
        assert_eq!(answer.expect("answered").top[0].class, 3);
    }
}
