//! Promises live: threads and clocks around the scheduler that virtual time tests.

mod engine_fakes;

use std::time::Duration;

use collage::engine::{AccuracyBudget, Engine, Error, Source};
use engine_fakes::{Call, Fake, Gate, setup, submit, sure};

/// A device on which base runs wait at the gate.
fn bases_gated(gate: &Gate) -> std::sync::Arc<Fake> {
    let gate = gate.clone();
    Fake::new(move |call: &Call| {
        if !call.collage {
            gate.pass();
        }
        Ok(())
    })
}

#[test]
fn an_objective_sets_the_release_and_the_engine_says_how_it_fared() {
    let gate = Gate::default();
    let mut setup = setup(bases_gated(&gate));
    setup.group_wait = Duration::ZERO;
    setup.release = Duration::from_secs(3000);
    setup.objective = Some("p99=200ms".parse().expect("an objective"));
    let engine = Engine::start(setup).expect("starts");
    let ticket = submit(&engine, [sure(7)]).pop().expect("a ticket");
    let answer = ticket.wait().expect("answered");
    assert_eq!(answer.source, Source::Collage);
    // No sooner than it takes; how much later is this machine's doing.
    assert!(
        answer.latency >= Duration::from_millis(196),
        "{:?}",
        answer.latency
    );
    let promise = engine.stats().promises.latency.expect("promised");
    let in_time = answer.latency <= Duration::from_millis(200);
    assert_eq!((promise.over, promise.promised), (1, 200_000.0));
    assert_eq!(promise.kept, promise.measured <= 200_000.0);
    // The answer's clock is read after the scheduler's.
    assert!(
        promise.kept || !in_time,
        "{promise:?}, {:?}",
        answer.latency
    );
    gate.open();
    engine.shutdown();
}

#[test]
fn an_accuracy_budget_holds_back_what_is_not_earned() {
    let gate = Gate::default();
    let mut setup = setup(bases_gated(&gate));
    setup.group_wait = Duration::ZERO;
    setup.deadline = Duration::from_millis(50);
    let (budget, drop) = (0.001, 0.1);
    setup.accuracy = Some(AccuracyBudget { budget, drop });
    let engine = Engine::start(setup).expect("starts");
    let ticket = submit(&engine, [sure(7)]).pop().expect("a ticket");
    // Nothing was answered yet, so nothing may be lost yet.
    let outcome = ticket.wait();
    assert!(
        matches!(outcome, Err(Error::DeadlineExceeded { .. })),
        "{outcome:?}"
    );
    let promise = engine.stats().promises.accuracy.expect("promised");
    assert_eq!((promise.kept, promise.measured), (true, 0.0));
    gate.open();
    engine.shutdown();
}

#[test]
fn an_objective_beyond_the_deadline_is_refused() {
    let mut setup = setup(Fake::new(|_| Ok(())));
    setup.deadline = Duration::from_millis(100);
    setup.objective = Some("p99=200ms".parse().expect("an objective"));
    let error = Engine::start(setup).expect_err("refused").to_string();
    assert!(
        error.contains("objective") && error.contains("p99=200ms"),
        "{error}"
    );
}
