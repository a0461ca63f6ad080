//! The scheduler's rules one at a time, in virtual time.

use collage::sched::{
    Action, Answer, Config, Error, Event, Independence, JobId, Kind, Micros, Policy, RequestId,
    Role, Scheduler, Source, WorkerConfig, WorkerId, WorkerState,
};

const NEVER: Micros = 1_000_000_000;

/// A launch: where, which job, what, of whom.
type Launch = (usize, JobId, Kind, Vec<u64>);

/// A scheduler, its clock, and what it did.
struct Sim {
    scheduler: Scheduler,
    now: Micros,
    launches: Vec<Launch>,
    settled: Vec<(u64, Result<Answer, Error>)>,
    forgotten: Vec<JobId>,
    retired: Vec<usize>,
}

impl Sim {
    /// Workers by role and device; groups of four, no waiting for batches.
    fn new(workers: &[(Role, usize)], change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            workers: workers
                .iter()
                .map(|&(role, device)| WorkerConfig { role, device })
                .collect(),
            tiles: 4,
            group_wait: 1_000,
            max_batch: 4,
            ..Config::default()
        };
        change(&mut config);
        Sim {
            scheduler: Scheduler::new(config),
            now: 0,
            launches: Vec::new(),
            settled: Vec::new(),
            forgotten: Vec::new(),
            retired: Vec::new(),
        }
    }

    fn handle(&mut self, event: Event) {
        self.scheduler.handle(event, self.now);
        while let Some(action) = self.scheduler.poll_action() {
            match action {
                Action::Launch {
                    worker,
                    job,
                    kind,
                    ids,
                } => {
                    self.launches.push((
                        worker.0,
                        job,
                        kind,
                        ids.into_iter().map(|id| id.0).collect(),
                    ));
                }
                Action::Settle { id, outcome } => self.settled.push((id.0, outcome)),
                Action::Forget { job } => self.forgotten.push(job),
                Action::Retire { worker } => self.retired.push(worker.0),
            }
        }
    }

    fn submit(&mut self, id: u64, release_at: Micros, deadline_at: Micros) {
        self.handle(Event::Submit {
            id: RequestId(id),
            release_at,
            deadline_at,
        });
    }

    /// Submits `ids`, released at once and due never.
    fn submit_all(&mut self, ids: std::ops::Range<u64>) {
        ids.for_each(|id| self.submit(id, 0, NEVER));
    }

    /// Lets time pass to `at`, ticking as asked.
    fn pass(&mut self, at: Micros) {
        while let Some(timeout) = self.scheduler.poll_timeout().filter(|&t| t <= at) {
            self.now = timeout;
            self.handle(Event::Tick);
        }
        self.now = at;
    }

    fn done(&mut self, launch: &Launch) {
        self.done_with(launch, 0.9);
    }

    fn done_with(&mut self, (worker, job, _, ids): &Launch, confidence: f32) {
        let confidences = vec![confidence; ids.len()];
        self.handle(Event::Done {
            worker: WorkerId(*worker),
            job: *job,
            confidences,
        });
    }

    fn failed(&mut self, (worker, job, ..): &Launch) {
        self.handle(Event::Failed {
            worker: WorkerId(*worker),
            job: *job,
        });
    }

    /// What was launched since the last call.
    fn launched(&mut self) -> Vec<Launch> {
        std::mem::take(&mut self.launches)
    }

    /// The only launch since the last call.
    fn launch(&mut self) -> Launch {
        let launches = self.launched();
        assert_eq!(launches.len(), 1, "{launches:?}");
        launches[0].clone()
    }

    /// Who was settled since the last call, and by what.
    fn outcomes(&mut self) -> Vec<(u64, Result<Source, Error>)> {
        std::mem::take(&mut self.settled)
            .into_iter()
            .map(|(id, o)| (id, o.map(|a| a.source)))
            .collect()
    }
}

const BASE: (Role, usize) = (Role::Base, 0);
const COLLAGE: (Role, usize) = (Role::Collage, 0);
const BOTH: (Role, usize) = (Role::Both, 0);

#[test]
fn a_collage_answer_is_held_until_its_release_and_given_then() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.tiles = 1);
    sim.submit(0, 5_000, NEVER);
    let [_, collage] = sim.launched().try_into().expect("base and collage");
    sim.now = 100;
    sim.done(&collage);
    sim.pass(4_999);
    assert_eq!(sim.outcomes(), []);
    assert_eq!(sim.scheduler.poll_timeout(), Some(5_000));
    sim.pass(5_000);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Collage))]);
    assert_eq!(sim.forgotten, [collage.1]);
}

#[test]
fn a_base_answer_wins_over_a_held_collage_answer() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.tiles = 1);
    sim.submit(0, 5_000, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.done(&collage);
    sim.pass(4_999);
    sim.done(&base);
    let (_, outcome) = sim.settled[0];
    let answer = outcome.expect("answered");
    assert_eq!(
        (answer.source, answer.independence),
        (Source::Base, Independence::Worker)
    );
    assert!(
        sim.forgotten.contains(&collage.1),
        "nobody needs the collage's results"
    );
    assert_eq!(sim.scheduler.stats().unneeded, 1);
}

#[test]
fn after_the_release_the_first_acceptable_answer_wins_and_the_late_one_is_counted() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.tiles = 1);
    sim.submit(0, 50, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.now = 100;
    sim.done(&collage);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Collage))]);
    sim.done(&base);
    assert_eq!(sim.outcomes(), []);
    assert_eq!(sim.scheduler.stats().late, 1);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn an_answer_at_the_deadline_is_in_time_and_one_after_it_is_not() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit(0, 0, 1_000);
    sim.submit(1, 0, 1_000);
    let [first, second] = sim.launched().try_into().expect("two workers");
    sim.now = 1_000;
    sim.done(&first);
    sim.now = 1_001; // nobody ticked in between
    sim.done(&second);
    assert_eq!(
        sim.outcomes(),
        [(0, Ok(Source::Base)), (1, Err(Error::DeadlineExceeded))]
    );
    assert_eq!(sim.scheduler.stats().late, 1);
}

#[test]
fn a_driver_that_wakes_up_late_does_not_turn_a_missed_deadline_into_an_answer() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.tiles = 1);
    sim.submit(0, 900, 1_000);
    let [_, collage] = sim.launched().try_into().expect("base and collage");
    sim.done(&collage);
    sim.now = 1_500;
    sim.handle(Event::Tick);
    assert_eq!(sim.outcomes(), [(0, Err(Error::DeadlineExceeded))]);
}

#[test]
fn under_its_confidence_a_collage_abstains() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.tiles = 1);
    sim.submit(0, 0, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.done_with(&collage, 0.49);
    assert_eq!(sim.outcomes(), []);
    assert_eq!(sim.scheduler.stats().abstained, 1);
    sim.done(&base);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Base))]);
}

#[test]
fn a_confidence_that_is_not_a_number_abstains() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| (c.tiles, c.min_confidence) = (1, 0.0));
    sim.submit(0, 0, NEVER);
    let [_, collage] = sim.launched().try_into().expect("base and collage");
    sim.done_with(&collage, f32::NAN);
    assert_eq!(sim.outcomes(), []);
}

#[test]
fn a_group_runs_when_it_is_full_or_when_it_has_waited() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |_| {});
    sim.submit_all(0..4);
    let collage = sim.launched().pop().expect("launched");
    assert_eq!(
        (collage.2, &collage.3[..]),
        (Kind::Collage, &[0, 1, 2, 3][..])
    );
    sim.done(&collage);
    sim.submit(4, 0, NEVER);
    sim.now = 400;
    sim.submit(5, 0, NEVER);
    sim.pass(999);
    assert_eq!(sim.launched(), []);
    sim.pass(1_000); // after the first of the group came
    let (.., kind, ids) = sim.launch();
    assert_eq!((kind, &ids[..]), (Kind::Collage, &[4, 5][..]));
}

#[test]
fn a_group_whose_members_are_all_answered_is_saved() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |_| {});
    sim.submit_all(0..2);
    let base = sim.launch();
    sim.done(&base);
    let rest = sim.launch();
    sim.done(&rest);
    assert_eq!(sim.outcomes().len(), 2);
    sim.pass(1_000);
    assert_eq!(sim.launched(), []);
    assert_eq!(sim.scheduler.stats().collages_saved, 1);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn a_collage_prefers_a_device_that_runs_none_of_its_members() {
    let fleet = [BASE, (Role::Collage, 0), (Role::Collage, 1)];
    let mut sim = Sim::new(&fleet, |c| c.tiles = 1);
    for id in 0..3 {
        sim.submit(id, 0, NEVER);
        let [base, collage] = sim.launched().try_into().expect("base and collage");
        assert_eq!((base.0, collage.0), (0, 2));
        sim.done(&collage);
        let (_, outcome) = sim.settled.pop().expect("settled");
        assert_eq!(
            outcome.expect("answered").independence,
            Independence::Device
        );
        sim.done(&base);
    }
}

#[test]
fn a_collage_that_shares_the_device_says_so() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.tiles = 1);
    sim.submit(0, 0, NEVER);
    let collage = sim.launched().pop().expect("launched");
    sim.done(&collage);
    assert_eq!(
        sim.settled[0].1.expect("answered").independence,
        Independence::Worker
    );
}

#[test]
fn a_collage_never_runs_on_a_worker_that_runs_a_member() {
    let mut sim = Sim::new(&[BOTH, BOTH], |c| (c.tiles, c.max_batch) = (2, 1));
    sim.submit_all(0..2);
    // Both workers run a member: the collage waits.
    let [first, second] = sim.launched().try_into().expect("two base runs");
    assert_eq!((first.2, second.2), (Kind::Base, Kind::Base));
    sim.done(&first);
    // One member is answered: its worker may run the other's collage, with one tile.
    let collage = sim.launch();
    assert_eq!(
        (collage.0, collage.2, &collage.3[..]),
        (first.0, Kind::Collage, &second.3[..])
    );
}

#[test]
fn a_base_run_avoids_the_worker_of_its_collage() {
    let mut sim = Sim::new(&[BOTH, BOTH, BOTH], |c| (c.tiles, c.max_batch) = (2, 1));
    (0..2).for_each(|id| sim.submit(id, NEVER, NEVER));
    let [first, second, collage] = sim
        .launched()
        .try_into()
        .expect("two bases and their collage");
    sim.submit(2, NEVER, NEVER);
    sim.handle(Event::WorkerLost {
        worker: WorkerId(first.0),
    });
    assert_eq!(sim.launched(), [], "nobody is free");
    sim.done(&collage); // held: 0 must not run its base there, 2 may
    let next = sim.launch();
    assert_eq!(
        (next.0, next.2, &next.3[..]),
        (collage.0, Kind::Base, &[2][..])
    );
    sim.done(&second);
    let again = sim.launch();
    assert_eq!(
        (again.0, again.2, &again.3[..]),
        (second.0, Kind::Base, &[0][..])
    );
}

#[test]
fn on_workers_that_run_both_the_oldest_work_goes_first() {
    let mut sim = Sim::new(&[BOTH, BOTH], |c| (c.tiles, c.max_batch) = (2, 1));
    for (at, id) in (0..4).enumerate() {
        sim.now = at as Micros;
        sim.submit(id, NEVER, NEVER);
    }
    let [_, second] = sim.launched().try_into().expect("two base runs");
    sim.now = 100;
    sim.done(&second); // 0 and 1 have waited for their collage longer than 2 for its base
    let next = sim.launch();
    assert_eq!((next.2, &next.3[..]), (Kind::Collage, &[0][..]));
}

#[test]
fn one_worker_alone_shares_base_and_collage_and_says_so() {
    let mut sim = Sim::new(&[BOTH], |c| (c.tiles, c.batch_wait) = (1, 10_000));
    sim.submit(0, 50_000, NEVER);
    let collage = sim.launch(); // its base waits for a batch
    assert_eq!(collage.2, Kind::Collage);
    sim.done(&collage);
    sim.pass(10_000);
    let base = sim.launch();
    assert_eq!((base.0, base.2), (0, Kind::Base));
    sim.pass(50_000);
    let answer = sim.settled[0].1.expect("answered");
    assert_eq!(
        (answer.source, answer.independence),
        (Source::Collage, Independence::None)
    );
}

#[test]
fn batches_form_while_workers_are_busy() {
    let mut sim = Sim::new(&[BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..7);
    let first = sim.launch();
    assert_eq!(first.3, [0]);
    sim.done(&first);
    let second = sim.launch();
    assert_eq!(second.3, [1, 2, 3, 4]);
    sim.done(&second);
    assert_eq!(sim.launch().3, [5, 6]);
}

#[test]
fn a_batch_waits_as_long_as_asked_and_no_longer_once_full() {
    let mut sim = Sim::new(&[BASE, BASE], |c| {
        (c.policy, c.batch_wait) = (Policy::None, 500)
    });
    sim.submit_all(0..4);
    assert_eq!(sim.launch().3, [0, 1, 2, 3]);
    sim.submit(4, 0, NEVER);
    sim.pass(499);
    assert_eq!(sim.launched(), []);
    sim.pass(500);
    assert_eq!(sim.launch().3, [4]);
}

#[test]
fn the_next_job_goes_to_the_worker_that_was_fast() {
    let mut sim = Sim::new(&[BASE, BASE, BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..3);
    let runs = sim.launched();
    for (run, at) in runs.iter().zip([1_000, 1_100, 9_000]) {
        sim.now = at; // the third takes nine times as long
        sim.done(run);
    }
    let slow = runs[2].0;
    for id in 3..30 {
        sim.submit(id, 0, NEVER);
        let run = sim.launch();
        assert_ne!(run.0, slow, "request {id}");
        sim.now += 1_000;
        sim.done(&run);
    }
}

#[test]
fn a_slow_worker_is_tried_again_after_a_while() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..2);
    let [fast, slow] = sim.launched().try_into().expect("two workers");
    sim.now = 1_000;
    sim.done(&fast);
    sim.now = 9_000;
    sim.done(&slow);
    let mut tried = false;
    for id in 2..100 {
        sim.submit(id, 0, NEVER);
        let run = sim.launch();
        tried |= run.0 == slow.0;
        sim.now += 100_000;
        sim.done(&run);
    }
    assert!(tried, "ten seconds are enough to forgive");
}

#[test]
fn a_full_queue_refuses_at_once() {
    let mut sim = Sim::new(&[BASE], |c| c.queue = 2);
    sim.submit_all(0..3);
    assert_eq!(sim.outcomes(), [(2, Err(Error::Overloaded { queue: 2 }))]);
    let first = sim.launch();
    sim.done(&first);
    sim.submit(3, 0, NEVER);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Base))]);
}

#[test]
fn a_cancelled_request_is_not_launched_and_its_answer_is_not_late() {
    let mut sim = Sim::new(&[BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..3);
    let first = sim.launch();
    sim.handle(Event::Cancel { id: RequestId(0) });
    sim.handle(Event::Cancel { id: RequestId(1) });
    sim.handle(Event::Cancel { id: RequestId(1) });
    sim.done(&first);
    assert_eq!(sim.launch().3, [2]);
    assert_eq!(
        sim.outcomes(),
        [(0, Err(Error::Cancelled)), (1, Err(Error::Cancelled))]
    );
    assert_eq!(
        (sim.scheduler.stats().late, sim.scheduler.stats().cancelled),
        (0, 2)
    );
}

#[test]
fn requests_of_a_lost_worker_run_again_each_on_its_own() {
    let mut sim = Sim::new(&[BASE, BASE], |c| {
        (c.policy, c.batch_wait) = (Policy::None, 100)
    });
    sim.submit_all(0..3);
    sim.pass(100);
    let lost = sim.launch();
    sim.handle(Event::WorkerLost {
        worker: WorkerId(lost.0),
    });
    let first = sim.launch();
    assert_eq!((first.0 != lost.0, &first.3[..]), (true, &[0][..]));
    sim.done(&first);
    let second = sim.launch();
    assert_eq!(second.3, [1]);
    // What the lost worker still says of the job counts for nothing.
    sim.done(&lost);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Base))]);
    sim.done(&second);
    let third = sim.launch();
    sim.done(&third);
    assert_eq!(
        sim.outcomes(),
        [(1, Ok(Source::Base)), (2, Ok(Source::Base))]
    );
}

#[test]
fn a_failed_run_is_repeated_on_another_worker() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit_all(0..2);
    let [bad, busy] = sim.launched().try_into().expect("two workers");
    sim.failed(&bad);
    assert_eq!(
        sim.launched(),
        [],
        "the worker that failed is free, and is not tried with the same request"
    );
    sim.done(&busy);
    let again = sim.launch();
    assert_eq!((again.0, &again.3[..]), (busy.0, &[0][..]));
}

#[test]
fn a_request_that_fails_everywhere_is_given_up_after_three_runs() {
    let mut sim = Sim::new(&[BASE, BASE], |c| c.policy = Policy::None);
    sim.submit(0, 0, NEVER);
    for _ in 0..3 {
        let run = sim.launch();
        sim.failed(&run);
    }
    assert_eq!(sim.outcomes(), [(0, Err(Error::Failed { attempts: 3 }))]);
    assert!(sim.retired.is_empty() && sim.scheduler.is_empty());
}

#[test]
fn a_request_whose_base_is_given_up_still_waits_for_its_collage() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| (c.tiles, c.max_attempts) = (1, 1));
    sim.submit(0, 5_000, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.failed(&base);
    assert_eq!(sim.outcomes(), []);
    sim.done(&collage);
    sim.pass(5_000);
    assert_eq!(sim.outcomes(), [(0, Ok(Source::Collage))]);
    // And fails when that abstains.
    sim.submit(1, 5_000, NEVER);
    let [base, collage] = sim.launched().try_into().expect("base and collage");
    sim.failed(&base);
    sim.done_with(&collage, 0.1);
    assert_eq!(sim.outcomes(), [(1, Err(Error::Failed { attempts: 1 }))]);
}

#[test]
fn a_worker_that_keeps_failing_is_retired() {
    let mut sim = Sim::new(&[BASE], |c| {
        (c.policy, c.max_failures, c.max_attempts) = (Policy::None, 3, 100)
    });
    sim.submit(0, 0, NEVER);
    for _ in 0..3 {
        assert!(sim.retired.is_empty());
        let run = sim.launch();
        sim.failed(&run);
    }
    assert_eq!(sim.retired, [0]);
    assert_eq!(sim.outcomes(), [(0, Err(Error::NoWorkers))]);
    assert_eq!(
        sim.scheduler.worker_state(WorkerId(0)),
        Some(WorkerState::Retired)
    );
}

#[test]
fn with_no_worker_left_all_requests_fail_and_new_ones_are_refused() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |_| {});
    sim.submit_all(0..6);
    sim.handle(Event::Retired {
        worker: WorkerId(1),
    });
    assert_eq!(sim.outcomes(), [], "the base still answers");
    sim.handle(Event::Retired {
        worker: WorkerId(0),
    });
    let mut failed = sim.outcomes();
    failed.sort_by_key(|&(id, _)| id);
    assert_eq!(
        failed,
        (0..6)
            .map(|id| (id, Err(Error::NoWorkers)))
            .collect::<Vec<_>>()
    );
    sim.submit(6, 0, NEVER);
    assert_eq!(sim.outcomes(), [(6, Err(Error::NoWorkers))]);
    assert!(sim.scheduler.is_empty());
}

#[test]
fn requests_wait_for_a_lost_worker_to_come_back() {
    let mut sim = Sim::new(&[BASE], |c| c.policy = Policy::None);
    sim.handle(Event::WorkerLost {
        worker: WorkerId(0),
    });
    sim.submit(0, 0, NEVER);
    assert_eq!((sim.launched(), sim.outcomes()), (vec![], vec![]));
    sim.handle(Event::WorkerReady {
        worker: WorkerId(0),
    });
    assert_eq!(sim.launch().3, [0]);
}

#[test]
fn draining_takes_no_more_and_waits_for_no_batch_or_group() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| {
        (c.batch_wait, c.group_wait) = (NEVER, NEVER)
    });
    sim.submit_all(0..2);
    assert_eq!(sim.launched(), []);
    sim.handle(Event::Drain);
    let launched = sim.launched();
    assert_eq!(
        launched.iter().map(|l| l.2).collect::<Vec<_>>(),
        [Kind::Base, Kind::Collage]
    );
    sim.submit(2, 0, NEVER);
    assert_eq!(sim.outcomes(), [(2, Err(Error::Closed))]);
    for launch in &launched {
        sim.done(launch);
    }
    assert!(sim.scheduler.is_empty());
}

#[test]
fn memory_does_not_grow_with_requests_that_pass_a_stuck_worker() {
    let mut sim = Sim::new(&[BASE, COLLAGE], |c| c.queue = 10);
    sim.submit(0, 0, NEVER);
    let stuck = sim.launch();
    for id in 1..20_000 {
        sim.now += 1_000;
        sim.submit(id, NEVER, sim.now + 500);
        sim.pass(sim.now);
    }
    sim.pass(sim.now + 1_000);
    assert_eq!(sim.scheduler.pending(), 1);
    // Debug output shows every entry of every queue: stale ones would be thousands.
    let held = format!("{:?}", sim.scheduler);
    assert!(
        held.len() < 20_000,
        "{} bytes describe one request",
        held.len()
    );
    sim.done(&stuck);
}
