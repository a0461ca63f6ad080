//! An engine shows its state to who may see it, and nobody who connects can hurt it.
#![cfg(unix)]

mod engine_fakes;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use collage::attach::{AttachError, Found, State, discover, read};
use collage::engine::{Attach, Engine, Policy, RequestOptions};
use collage::error::Classify;
use engine_fakes::{Fake, Gate, setup, submit, sure, until};
use tempfile::TempDir;

/// Long enough for any machine; no test waits for it to pass.
const LONG: Duration = Duration::from_secs(60);

/// A folder that is not there yet, so that the engine makes it.
fn place(parent: &TempDir) -> Attach {
    Attach::In(parent.path().join("engines"))
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

fn engine(place: &Attach) -> Engine {
    let mut engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    engine.attach(place).expect("attaches");
    engine
}

fn found(place: &Attach) -> Vec<Found> {
    discover(place).expect("the folder is in order")
}

fn only(place: &Attach) -> State {
    let [engine] = &found(place)[..] else {
        panic!("one engine")
    };
    read(engine, LONG).expect("answers")
}

/// Says this, and gives back what comes until the engine closes the connection.
fn say(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("connects");
    let _ = stream.write_all(bytes); // the engine may have had enough before the end
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn two_engines_of_one_process_are_found_and_told_apart() {
    let parent = folder();
    let place = place(&parent);
    let (first, second) = (engine(&place), engine(&place));
    submit(&first, (0..8).map(sure))
        .into_iter()
        .for_each(|ticket| drop(ticket.wait().expect("answered")));
    let found = found(&place);
    let states: Vec<State> = found
        .iter()
        .map(|f| read(f, LONG).expect("answers"))
        .collect();
    let answered: Vec<u64> = states.iter().map(|s| s.requests.submitted).collect();
    assert_eq!(answered, [8, 0], "in the order in which they were opened");
    for (found, state) in found.iter().zip(&states) {
        assert_eq!(found.pid, std::process::id());
        assert_eq!(
            (state.process.pid, state.process.engine),
            (found.pid, found.engine)
        );
        assert_eq!(state.process.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(state.process.policy, "collage");
        assert!(!state.process.name.is_empty() && state.process.started_unix_s > 0);
    }
    drop(second);
    assert_eq!(only(&place).requests.submitted, 8, "the other one is gone");
    drop(first);
}

#[test]
fn the_state_says_what_the_engine_says() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    for ticket in submit(&engine, (0..40).map(sure)) {
        ticket.wait().expect("answered");
    }
    let stats = until(&engine, |stats| stats.pending == 0);
    let state = only(&place);
    assert_eq!(state.requests.base, stats.requests.base);
    assert_eq!(state.requests.collage, stats.requests.collage);
    assert_eq!(state.workers.len(), 2);
    for (own, shown) in stats.workers.iter().zip(&state.workers) {
        assert_eq!(shown.device_name, own.device_name);
        assert_eq!((shown.answers, shown.backups), (own.answers, own.backups));
        assert!(shown.runs >= own.runs, "late runs may have ended meanwhile");
        assert_eq!(
            shown.service.counts.last(),
            Some(&shown.runs),
            "no run takes 10 s"
        );
        assert_eq!(shown.service.recent_runs as u64, shown.runs.min(256));
        assert!(shown.service.recent_p50_us <= shown.service.recent_p99_us);
    }
    let [base, collage] = &state.workers[..] else {
        panic!("two workers")
    };
    assert_eq!(
        (base.role.as_str(), collage.role.as_str()),
        ("base", "collage")
    );
    // A collage may answer before a request's own run begins anywhere.
    let saved = stats.requests.bases_saved;
    assert_eq!(
        base.answers,
        40 - saved,
        "the own run of each was given to the base worker"
    );
    assert_eq!(
        base.backups,
        state.requests.collage - saved,
        "and these were answered in its place"
    );
}

/// A device on which runs of worker 0 wait at the gate.
fn gated(gate: &Gate) -> std::sync::Arc<Fake> {
    let gate = gate.clone();
    Fake::new(move |call| {
        if call.worker == 0 {
            gate.pass();
        }
        Ok(())
    })
}

#[test]
fn an_answer_of_a_backup_is_put_down_to_the_worker_that_was_late() {
    let gate = Gate::default();
    let engine = Engine::start(setup(gated(&gate))).expect("starts");
    for ticket in submit(&engine, (0..4).map(sure)) {
        ticket.wait().expect("answered by the collage");
    }
    let [late, collage] = &engine.stats().workers[..] else {
        panic!("two workers")
    };
    assert!(late.answers >= 1, "the first request was given to it");
    assert_eq!(late.backups, late.answers);
    assert_eq!((collage.answers, collage.backups), (0, 0));
    gate.open();
    engine.shutdown();
}

#[test]
fn a_missed_deadline_is_put_down_to_the_worker_that_was_late() {
    let gate = Gate::default();
    let mut setup = setup(gated(&gate));
    setup.policy = Policy::None;
    let engine = Engine::start(setup).expect("starts");
    let hurried = RequestOptions {
        deadline: Some(Duration::from_millis(20)),
        ..RequestOptions::default()
    };
    let missed = engine.submit(sure(9), hurried).expect("accepted");
    missed.wait().expect_err("no answer by the deadline");
    let worker = &engine.stats().workers[0];
    assert_eq!((worker.answers, worker.deadline_exceeded), (0, 1));
    gate.open();
    engine.shutdown();
}

#[test]
fn a_socket_that_an_engine_left_behind_is_not_found_and_is_removed() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    let socket = engine.attached_at().expect("attached").to_owned();
    let stale = socket.with_file_name("4194304-0.sock");
    drop(UnixListener::bind(&stale).expect("binds"));
    assert!(stale.exists(), "as after a crash");
    let found = found(&place);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, socket);
    assert!(!stale.exists() && socket.exists());
}

#[test]
fn an_engine_that_ends_takes_its_socket_with_it() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    let engines = found(&place);
    engine.shutdown();
    assert_eq!(found(&place), []);
    let error = read(&engines[0], LONG).expect_err("gone");
    assert!(matches!(error, AttachError::Gone { .. }), "{error}");
    assert_eq!((error.code(), error.can_retry()), (903, false));
}

#[test]
fn garbage_is_answered_with_what_was_expected_and_the_engine_goes_on() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    let socket = engine.attached_at().expect("attached");
    for garbage in [
        &b"\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"{\"collage\":99,\"ask\":\"state\"}\n",
        b"{\"collage\":1,\"ask\":\"shutdown\"}\n",
        b"\xff\xfe\x00\n",
    ] {
        let answer = say(socket, garbage);
        assert!(answer.starts_with(r#"{"collage":1,"error":"#), "{answer:?}");
        assert!(answer.contains("expected"), "{answer}");
    }
    let endless = vec![b'x'; 1 << 20];
    assert_eq!(say(socket, &endless), "", "cut off, not kept");
    drop(UnixStream::connect(socket).expect("connects")); // and goes away without a word
    assert_eq!(only(&place).pending, 0);
}

#[test]
fn silent_peers_hold_up_neither_others_nor_the_end_of_the_engine() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    let socket = engine.attached_at().expect("attached").to_owned();
    // More than the engine keeps at once: the rest wait in the queue until the first have had their time.
    let silent: Vec<UnixStream> = (0..20)
        .map(|_| UnixStream::connect(&socket).expect("connects"))
        .collect();
    assert_eq!(only(&place).pending, 0);
    engine.shutdown(); // ends with them connected
    drop(silent);
}

#[test]
fn a_peer_that_takes_its_answer_slowly_gets_it_whole() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    let mut stream =
        UnixStream::connect(engine.attached_at().expect("attached")).expect("connects");
    for byte in b"{\"collage\":1,\"ask\":\"state\"}\n" {
        stream.write_all(&[*byte]).expect("is heard byte by byte");
    }
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).expect("comes") > 0 {
        answer.extend(byte);
    }
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("a line of JSON");
    assert_eq!(answer["state"]["workers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_engine_is_seen_while_it_answers_its_last_requests() {
    let parent = folder();
    let place = place(&parent);
    let gate = Gate::default();
    let waits = gate.clone();
    let mut setup = setup(Fake::new(move |_| {
        waits.pass();
        Ok(())
    }));
    setup.policy = Policy::None;
    let mut engine = Engine::start(setup).expect("starts");
    engine.attach(&place).expect("attaches");
    let ticket = submit(&engine, [sure(1)]).pop().expect("one");
    gate.reached_by(1);
    let closing = thread::spawn(move || engine.shutdown());
    assert_eq!(only(&place).pending, 1);
    gate.open();
    ticket.wait().expect("answered");
    closing.join().expect("ends");
    assert_eq!(found(&place), []);
}

#[test]
fn the_folder_is_its_users_alone() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    let socket = engine.attached_at().expect("attached");
    let folder = socket.parent().expect("in a folder");
    assert_eq!(folder.metadata().expect("there").mode() & 0o777, 0o700);
}

#[test]
fn a_folder_that_others_may_enter_or_a_link_to_one_is_refused_by_both_sides() {
    let parent = folder();
    let open = parent.path().join("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("set");
    let own = parent.path().join("own");
    fs::create_dir(&own).expect("made");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("set");
    let link = parent.path().join("link");
    symlink(&own, &link).expect("made");
    let mut engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    for (folder, told) in [(open, "its mode is 0755"), (link, "not a folder")] {
        let place = Attach::In(folder);
        let (ours, theirs) = (engine.attach(&place), discover(&place));
        for error in [ours.expect_err("refused"), theirs.expect_err("refused")] {
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!(error.code(), 901);
        }
    }
    assert!(engine.attached_at().is_none());
}

#[test]
fn off_is_nowhere_and_looking_there_finds_nothing() {
    let mut engine = Engine::start(setup(Fake::new(|_| Ok(())))).expect("starts");
    engine.attach(&Attach::Off).expect("nothing to do");
    assert!(engine.attached_at().is_none());
    assert_eq!(found(&Attach::Off), []);
}

#[test]
fn an_engine_that_is_stopped_costs_its_monitor_the_time_limit_and_no_more() {
    let parent = folder();
    let socket = parent.path().join("1-0.sock");
    let listener = UnixListener::bind(&socket).expect("binds");
    let stopped = Found {
        pid: 1,
        engine: 0,
        path: socket,
    };
    // Nobody accepts. When the queue is full a connection would wait for ever.
    for _ in 0..300 {
        let error = read(&stopped, Duration::from_millis(1)).expect_err("says nothing");
        assert!(matches!(error, AttachError::Silent { .. }), "{error}");
    }
    drop(listener);
}

/// How often the thread of this name was put to sleep or woken, as Linux counts it.
#[cfg(target_os = "linux")]
fn switches(thread: &str) -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let named = tasks
        .map(|t| t.path())
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == thread));
    let status = fs::read_to_string(named.expect("runs").join("status")).expect("readable");
    let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
    let counts = lines.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    counts.sum()
}

#[test]
#[cfg(target_os = "linux")]
fn nobody_watching_costs_nothing_the_thread_never_wakes() {
    let parent = folder();
    let place = place(&parent);
    let engine = engine(&place);
    only(&place); // its thread is up, and asleep again once the peer's connection is closed
    let mut before = switches("collage-attach");
    loop {
        thread::sleep(Duration::from_millis(20));
        let now = switches("collage-attach");
        if now == before {
            break;
        }
        before = now;
    }
    for ticket in submit(&engine, (0..1_000).map(|i| sure((i % 200) as u8))) {
        ticket.wait().expect("answered");
    }
    assert_eq!(switches("collage-attach"), before, "1,000 requests later");
}
