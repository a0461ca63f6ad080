//! The engine's trace names every request on its way. In a file of its own because the subscriber is the process's.

mod engine_fakes;

use std::io;
use std::sync::{Arc, Mutex};

use collage::engine::Engine;
use engine_fakes::{Fake, setup, submit, sure};

/// What was written so far.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_trace_names_requests_and_jobs_from_submission_to_answer() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .init();
    let engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    for ticket in submit(&engine, [sure(5)]) {
        ticket.wait().expect("answered");
    }
    engine.shutdown();
    let log = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
    for line in [
        "submit request=0",
        "launch job=0 worker=0 kind=Base requests=[RequestId(0)]",
        "run{worker=0 job=0 kind=Base requests=[RequestId(0)]}",
        "answer request=0 source=base worker=0",
    ] {
        assert!(log.contains(line), "no \"{line}\" in:\n{log}");
    }
}
