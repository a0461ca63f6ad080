//! Many threads at once: whoever finds the scheduler free turns it, and nothing accepted is lost between them.

mod engine_fakes;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use collage::engine::{Engine, Error, RequestOptions};
use engine_fakes::{Fake, Gate, setup, sure};

const THREADS: usize = 8;
const EACH: usize = 400;

fn engine(device: Arc<Fake>) -> Engine {
    let mut setup = setup(device);
    setup.base_workers = 3;
    setup.policy = "collage".parse().expect("a policy");
    setup.queue = THREADS * EACH;
    setup.release = Duration::from_micros(200);
    Engine::start(setup).expect("starts")
}

#[test]
fn threads_that_submit_wait_and_give_up_get_what_they_asked_for() {
    let engine = engine(Fake::new(|_| Ok(())));
    let begin = Barrier::new(THREADS);
    let of_one_thread = &|thread: usize| {
        begin.wait();
        let mut kept = 0;
        for i in 0..EACH {
            let class = (thread * 31 + i) as u8 % 250;
            let ticket = engine.submit(sure(class), RequestOptions::default());
            let ticket = ticket.expect("accepted");
            if i % 5 == 4 {
                drop(ticket); // cancelled, or answered for nobody
                continue;
            }
            let answer = ticket.wait().expect("answered");
            assert_eq!(answer.top[0].class, u32::from(class), "its own image's");
            kept += 1;
        }
        kept
    };
    let kept: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|i| scope.spawn(move || of_one_thread(i)))
            .collect();
        threads.into_iter().map(|t| t.join().expect("ends")).sum()
    });
    let stats = engine.shutdown().requests;
    assert_eq!(stats.submitted as usize, THREADS * EACH);
    assert_eq!(stats.answered() + stats.cancelled, stats.submitted);
    assert!(stats.answered() as usize >= kept);
}

#[test]
fn a_function_that_is_called_with_an_outcome_may_submit_and_cancel() {
    let gate = Gate::default();
    let hold = gate.clone();
    let device = Fake::new(move |call| {
        if call.images.contains(&9) {
            hold.pass();
        }
        Ok(())
    });
    let mut setup = setup(device);
    setup.policy = "none".parse().expect("a policy");
    let engine = Arc::new(Engine::start(setup).expect("starts"));
    let called = Arc::new(AtomicUsize::new(0));
    let (sender, outcomes) = channel();
    let (again, counted) = (engine.clone(), called.clone());
    let options = RequestOptions::default();
    let then = move |first: Result<_, Error>| {
        counted.fetch_add(1, Ordering::Relaxed);
        first.expect("answered");
        let inner = move |second: Result<_, Error>| {
            counted.fetch_add(1, Ordering::Relaxed);
            sender.send(second).expect("awaited");
        };
        let given_up = again
            .submit_with(sure(9), options, inner)
            .expect("accepted");
        given_up.cancel();
    };
    engine
        .submit_with(sure(1), options, then)
        .expect("accepted");
    let second = outcomes.recv_timeout(Duration::from_secs(30));
    assert!(
        matches!(second, Ok(Err(Error::Cancelled))),
        "the second was cancelled: {second:?}"
    );
    gate.open();
    // A function that panics takes nobody with it.
    engine
        .submit_with(sure(2), options, |_| panic!("a defect of the caller's"))
        .expect("accepted");
    let answer = engine.classify(sure(3)).expect("answered");
    assert_eq!(answer.top[0].class, 3);
    assert_eq!(called.load(Ordering::Relaxed), 2);
}
