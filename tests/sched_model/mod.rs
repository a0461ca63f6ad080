//! A model of what a scheduler may do: it drives one through a script in virtual time, believes nothing that the
//! scheduler says, and checks every action.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use collage::sched::{
    Action, Answer, Condition, Config, Error, Event, Health, Independence, JobId, Kind, Micros,
    Part, Placement, Policy, RequestId, Scheduler, Source, WorkerId, WorkerState, repeats,
};

/// What the script does to the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    Submit {
        id: RequestId,
        release: Micros,
        deadline: Micros,
    },
    Cancel {
        id: RequestId,
    },
    Lose {
        worker: usize,
    },
    Ready {
        worker: usize,
    },
    Retire {
        worker: usize,
    },
    /// What a worker's device says, in percent.
    Tell {
        worker: usize,
        slowed: Option<u8>,
        link: Option<u8>,
        faulty: bool,
    },
    Finish {
        worker: usize,
        job: JobId,
        fails: bool,
    },
    Drain,
}

/// How runs go: drawn per job from its number, so that the same script always goes the same way.
#[derive(Clone, Debug)]
pub struct Fate {
    pub seed: u64,
    pub fail_percent: u64,
    pub abstain_percent: u64,
    pub straggle_percent: u64,
}

impl Fate {
    fn draw(&self, job: JobId, salt: u64) -> u64 {
        let mut z = self.seed
            ^ (job.0 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ salt.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn service(&self, job: JobId) -> Micros {
        let normal = 500 + self.draw(job, 1) % 1_000;
        if self.draw(job, 2) % 100 < self.straggle_percent {
            normal * 20
        } else {
            normal
        }
    }
    fn fails(&self, job: JobId) -> bool {
        self.draw(job, 3) % 100 < self.fail_percent
    }
    fn confidence(&self, job: JobId, index: usize) -> f32 {
        if self.draw(job, 4 + index as u64) % 100 < self.abstain_percent {
            0.2
        } else {
            0.9
        }
    }
}

#[derive(Clone, Debug)]
pub struct Script {
    pub config: Config,
    pub happenings: Vec<(Micros, Happening)>,
    pub fate: Fate,
}

#[derive(Debug)]
pub struct Wanted {
    submitted_at: Micros,
    release_at: Micros,
    deadline_at: Micros,
    base_worker: Option<usize>,
    collage_worker: Option<usize>,
    /// Failed or lost runs of its own.
    failures: u32,
    /// Its own base run; other base runs of it are copies or probes.
    own: Option<JobId>,
    /// Those.
    copies: u64,
}

#[derive(Debug)]
pub struct Job {
    worker: usize,
    kind: Kind,
    ids: Vec<RequestId>,
    slots: usize,
}

/// Drives a scheduler through a script and checks every action.
pub struct Model {
    scheduler: Scheduler,
    script: Script,
    now: Micros,
    future: BinaryHeap<Reverse<(Micros, u64, Happening)>>,
    sequence: u64,
    wanted: BTreeMap<RequestId, Wanted>,
    pub settled: BTreeMap<RequestId, Result<Source, Error>>,
    running: BTreeMap<JobId, Job>,
    /// Ended and not forgotten.
    ended: BTreeMap<JobId, Job>,
    /// Requests of which a base run ended.
    answered: BTreeSet<RequestId>,
    /// What the next settlement is decoded from: whose it is, and the workers of all runs that it needs.
    decoded: Option<(RequestId, JobId, Vec<usize>)>,
    /// Work of the collages launched.
    collage_work: f64,
    state: Vec<WorkerState>,
    pub log: Vec<(Micros, Action)>,
    /// Events that the scheduler was told.
    pub events: u64,
    /// Whose device says so.
    broken: Vec<bool>,
    drained: bool,
}

impl Model {
    pub fn new(script: Script) -> Self {
        let mut model = Self {
            scheduler: Scheduler::new(script.config.clone()),
            now: 0,
            future: BinaryHeap::new(),
            sequence: 0,
            wanted: BTreeMap::new(),
            settled: BTreeMap::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            answered: BTreeSet::new(),
            decoded: None,
            collage_work: 0.0,
            state: vec![WorkerState::Ready; script.config.workers.len()],
            log: Vec::new(),
            events: 0,
            broken: vec![false; script.config.workers.len()],
            drained: false,
            script,
        };
        for (at, happening) in model.script.happenings.clone() {
            model.at(at, happening);
        }
        model
    }

    fn at(&mut self, at: Micros, happening: Happening) {
        self.future.push(Reverse((at, self.sequence, happening)));
        self.sequence += 1;
    }

    /// Until nothing happens any more.
    pub fn run(mut self) -> Self {
        for _ in 0..200_000 {
            let timeout = self.scheduler.poll_timeout();
            let next = self.future.peek().map(|Reverse((at, ..))| *at);
            match (timeout, next) {
                (None, None) => {
                    self.check_end();
                    return self;
                }
                (Some(timeout), next) if next.is_none_or(|at| timeout <= at) => {
                    assert!(
                        timeout > self.now || self.log.is_empty() || timeout == self.now,
                        "time ran back"
                    );
                    self.now = self.now.max(timeout);
                    self.handle(Event::Tick);
                    assert_ne!(
                        self.scheduler.poll_timeout(),
                        Some(timeout),
                        "a timeout that never passes"
                    );
                }
                _ => {
                    let Reverse((at, _, happening)) = self.future.pop().expect("peeked");
                    self.now = at;
                    self.happen(happening);
                }
            }
        }
        panic!(
            "the scheduler does not come to rest: {} pending",
            self.scheduler.pending()
        );
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit {
                id,
                release,
                deadline,
            } => {
                let (release_at, deadline_at) = (self.now + release, self.now + deadline);
                let wanted = Wanted {
                    submitted_at: self.now,
                    release_at,
                    deadline_at,
                    base_worker: None,
                    collage_worker: None,
                    failures: 0,
                    own: None,
                    copies: 0,
                };
                self.wanted.insert(id, wanted);
                self.handle(Event::Submit {
                    id,
                    release_at,
                    deadline_at,
                });
            }
            Happening::Cancel { id } => {
                let open = self.wanted.contains_key(&id) && !self.settled.contains_key(&id);
                self.handle(Event::Cancel { id });
                if open {
                    assert_eq!(self.settled.get(&id), Some(&Err(Error::Cancelled)));
                }
            }
            Happening::Lose { worker } if self.state[worker] == WorkerState::Ready => {
                self.state[worker] = WorkerState::Lost;
                self.drop_jobs(worker);
                self.handle(Event::WorkerLost {
                    worker: WorkerId(worker),
                });
            }
            Happening::Ready { worker } if self.state[worker] == WorkerState::Lost => {
                self.state[worker] = WorkerState::Ready;
                self.handle(Event::WorkerReady {
                    worker: WorkerId(worker),
                });
            }
            Happening::Retire { worker } => {
                self.state[worker] = WorkerState::Retired;
                self.drop_jobs(worker);
                self.handle(Event::Retired {
                    worker: WorkerId(worker),
                });
            }
            Happening::Tell {
                worker,
                slowed,
                link,
                faulty,
            } => {
                self.broken[worker] = faulty;
                let share = |percent: u8| f64::from(percent) / 100.0;
                let condition = Condition {
                    slowed: slowed.map(share),
                    link: link.map(share),
                    faulty,
                };
                self.handle(Event::Telemetry {
                    worker: WorkerId(worker),
                    condition,
                });
            }
            Happening::Finish { worker, job, fails } => self.finish(worker, job, fails),
            Happening::Drain => {
                self.drained = true;
                self.handle(Event::Drain);
            }
            Happening::Lose { .. } | Happening::Ready { .. } => {}
        }
    }

    fn finish(&mut self, worker: usize, job: JobId, fails: bool) {
        // A job that died with its worker ends nowhere; now and then its ghost reports all the same.
        let Some(run) = self.running.remove(&job) else {
            if job.0.is_multiple_of(2) {
                self.handle(Event::Done {
                    worker: WorkerId(worker),
                    job,
                    confidences: vec![1.0; 64],
                });
            }
            return;
        };
        if fails {
            self.note_failures(job, &run);
            self.handle(Event::Failed {
                worker: WorkerId(worker),
                job,
            });
        } else {
            let confidences = (0..run.ids.len())
                .map(|i| self.script.fate.confidence(job, i))
                .collect();
            if run.kind == Kind::Base {
                self.answered.extend(&run.ids);
            }
            self.ended.insert(job, run);
            self.handle(Event::Done {
                worker: WorkerId(worker),
                job,
                confidences,
            });
        }
    }

    fn drop_jobs(&mut self, worker: usize) {
        let gone: Vec<_> = self
            .running
            .extract_if(.., |_, run| run.worker == worker)
            .collect();
        for (job, run) in gone {
            self.note_failures(job, &run);
        }
    }

    fn note_failures(&mut self, job: JobId, run: &Job) {
        for id in &run.ids {
            let wanted = self
                .wanted
                .get_mut(id)
                .expect("launched ids were submitted");
            match run.kind {
                Kind::Base if wanted.own == Some(job) => {
                    (wanted.own, wanted.failures) = (None, wanted.failures + 1);
                }
                Kind::Base => {}
                Kind::Collage | Kind::Parity => wanted.collage_worker = None,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        self.scheduler.handle(event, self.now);
        self.events += 1;
        self.check_quorum();
        while let Some(action) = self.scheduler.poll_action() {
            self.log.push((self.now, action.clone()));
            self.check(action);
        }
        assert_eq!(self.decoded, None, "decoded for nobody");
        self.check_decodable();
    }

    /// Nobody waits who could be answered from a parity.
    fn check_decodable(&self) {
        let config = &self.script.config;
        if config.accuracy.is_some() || config.objective.is_some() {
            return; // a promise may keep an answer back
        }
        for (job, run) in self
            .ended
            .iter()
            .filter(|(_, run)| run.kind == Kind::Parity)
        {
            let is_missing = |id: &&RequestId| !self.answered.contains(id);
            let missing: Vec<_> = run.ids.iter().filter(is_missing).collect();
            if let [id] = missing[..] {
                let is_released = self.wanted[id].release_at <= self.now;
                let waits = !self.settled.contains_key(id);
                assert!(!(is_released && waits), "{id} can be decoded from {job}");
            }
        }
    }

    fn ready(&self, kind: Kind) -> BTreeSet<usize> {
        let able = |&w: &usize| {
            self.script.config.workers[w].role.can(kind) && self.state[w] == WorkerState::Ready
        };
        (0..self.state.len()).filter(able).collect()
    }

    /// However slow workers are, and whatever their devices say: enough of each kind are trusted.
    fn check_quorum(&self) {
        let Some(health) = self.script.config.health else {
            return;
        };
        for kind in [Kind::Base, Kind::Collage] {
            // As the scheduler sees it: what it retired itself is not in our state before its action.
            let state = |w: &usize| self.scheduler.worker_state(WorkerId(*w));
            let able = |w: &usize| self.script.config.workers[*w].role.can(kind);
            let ready =
                (0..self.state.len()).filter(|w| able(w) && state(w) == Some(WorkerState::Ready));
            let (ready, sound) = ready.fold((0, 0), |(ready, sound), w| {
                let is_sound = self.scheduler.health(WorkerId(w)) != Health::Quarantined;
                (ready + 1, sound + usize::from(is_sound))
            });
            let least = (f64::from(ready) * health.quorum).ceil() as usize;
            let least = least.max(2).min(ready as usize);
            assert!(sound >= least, "{sound} of {ready} are trusted, {kind:?}");
        }
    }

    fn check(&mut self, action: Action) {
        match action {
            Action::Launch {
                worker,
                job,
                kind,
                ids,
                slots,
            } => self.check_launch(worker.0, job, (kind, slots), ids),
            Action::Decode {
                id,
                parity,
                times,
                others,
            } => self.check_decode(id, parity, times, others),
            Action::Settle { id, outcome } => self.check_settle(id, outcome),
            Action::Forget { job } => {
                assert!(
                    self.ended.remove(&job).is_some(),
                    "forgot what had not ended, or twice"
                );
            }
            Action::Retire { worker } => {
                assert_ne!(self.state[worker.0], WorkerState::Retired, "retired twice");
                self.state[worker.0] = WorkerState::Retired;
                self.drop_jobs(worker.0);
            }
        }
    }

    /// A parity with the answers of all its other members.
    fn check_decode(&mut self, id: RequestId, parity: JobId, times: usize, others: Vec<Part>) {
        let run = &self.ended[&parity];
        assert_eq!(run.kind, Kind::Parity);
        let mut workers = vec![run.worker];
        let mut rest = others.iter();
        let mut slots = 0;
        for (at, member) in run.ids.iter().enumerate() {
            let expected = repeats(run.slots, run.ids.len(), at);
            slots += expected;
            if *member == id {
                assert_eq!(times, expected);
                continue;
            }
            let part = rest.next().expect("every other member's answer");
            let base = &self.ended[&part.job];
            assert_eq!((base.kind, part.times), (Kind::Base, expected));
            assert_eq!(base.ids[part.index], *member, "somebody else's answer");
            workers.push(base.worker);
        }
        assert_eq!((rest.next(), slots), (None, run.slots));
        assert_eq!(self.decoded.replace((id, parity, workers)), None);
    }

    fn check_launch(
        &mut self,
        worker: usize,
        job: JobId,
        (kind, slots): (Kind, usize),
        ids: Vec<RequestId>,
    ) {
        let config = &self.script.config;
        assert!(
            self.ready(kind).contains(&worker),
            "launched on a worker that cannot run it"
        );
        let held = self
            .running
            .values()
            .filter(|run| run.worker == worker)
            .count();
        assert!(held < config.depth, "more jobs than a worker may hold");
        let tiles = || config.grids.iter().map(|grid| grid.tiles);
        let most = match kind {
            Kind::Base => config.max_batch,
            Kind::Collage => tiles().max().expect("a grid"),
            Kind::Parity => config.policy.parity().expect("the policy has parities"),
        };
        let right = match kind {
            Kind::Base => ids.len(),
            Kind::Collage => tiles().filter(|&t| t >= ids.len()).min().expect("it fits"),
            Kind::Parity => most,
        };
        assert_eq!(slots, right, "not the smallest run that holds them");
        if kind == Kind::Collage {
            self.collage_work += config.work(kind, slots);
        }
        assert!(
            (1..=most).contains(&ids.len()),
            "{} ids in one run",
            ids.len()
        );
        let spared = |w: &usize| self.scheduler.health(WorkerId(*w)) != Health::Quarantined;
        assert!(
            !self.broken[worker]
                || config.placement != Placement::Fastest // who draws lots knows nothing of it
                || spared(&worker) || !self.ready(kind).iter().any(spared),
            "launched on a worker that is known to be broken"
        );
        let others = self.ready(Kind::Base).iter().any(|&w| w != worker);
        for id in &ids {
            assert!(
                !self.settled.contains_key(id),
                "launched after it was settled"
            );
            let on = |kind| {
                self.running
                    .values()
                    .any(|r| r.kind == kind && r.worker == worker && r.ids.contains(id))
            };
            let wanted = self
                .wanted
                .get_mut(id)
                .expect("launched ids were submitted");
            match kind {
                Kind::Collage | Kind::Parity => {
                    assert!(
                        !on(Kind::Base),
                        "a member shares its worker with its collage"
                    );
                    wanted.collage_worker = Some(worker);
                }
                Kind::Base if wanted.own.is_none() => {
                    assert!(
                        !((on(Kind::Collage) || on(Kind::Parity)) && others),
                        "a member shares its worker with its collage"
                    );
                    (wanted.base_worker, wanted.own) = (Some(worker), Some(job));
                }
                Kind::Base => {
                    assert!(!on(Kind::Base), "two base runs of a request share a worker");
                    wanted.copies += 1;
                }
            }
        }
        let run = Job {
            worker,
            kind,
            ids,
            slots,
        };
        assert!(
            self.running.insert(job, run).is_none(),
            "a job's name was used twice"
        );
        let at = self.now + self.script.fate.service(job);
        let fails = self.script.fate.fails(job);
        self.at(at, Happening::Finish { worker, job, fails });
    }

    fn check_settle(&mut self, id: RequestId, outcome: Result<Answer, Error>) {
        let wanted = &self.wanted[&id];
        match outcome {
            Ok(answer) => {
                assert!(
                    self.now <= wanted.deadline_at,
                    "answered after the deadline"
                );
                let run = self
                    .ended
                    .get(&answer.job)
                    .expect("answers come from jobs that ended and are kept");
                assert_eq!(run.ids[answer.index], id, "somebody else's answer");
                assert_eq!(run.worker, answer.worker.0);
                match answer.source {
                    Source::Base => {
                        assert_eq!((run.kind, wanted.own), (Kind::Base, Some(answer.job)))
                    }
                    Source::Copy => {
                        assert_eq!(run.kind, Kind::Base);
                        assert_ne!(wanted.own, Some(answer.job));
                        let truth = self.apart(wanted.base_worker, answer.worker.0);
                        assert_eq!(answer.independence, truth);
                    }
                    Source::Parity => {
                        assert!(
                            self.now >= wanted.release_at
                                || self.script.config.accuracy.is_some()
                                || self.script.config.objective.is_some(),
                            "a decoded answer before its release"
                        );
                        let decoded = self.decoded.take();
                        let (of, parity, workers) = decoded.expect("it was decoded");
                        assert_eq!((of, parity), (id, answer.job));
                        let apart = |&w: &usize| self.apart(wanted.base_worker, w);
                        let truth = workers.iter().map(apart).min();
                        assert_eq!(Some(answer.independence), truth);
                    }
                    Source::Collage => {
                        assert_eq!(run.kind, Kind::Collage);
                        // Under a promise the scheduler itself sets the release times.
                        assert!(
                            self.now >= wanted.release_at
                                || self.script.config.accuracy.is_some()
                                || self.script.config.objective.is_some(),
                            "a collage answer before its release"
                        );
                        let confidence = self.script.fate.confidence(answer.job, answer.index);
                        assert!(
                            confidence >= self.script.config.min_confidence,
                            "it should have abstained"
                        );
                        let truth = self.apart(wanted.base_worker, answer.worker.0);
                        assert_eq!(answer.independence, truth);
                    }
                }
            }
            Err(Error::DeadlineExceeded) => {
                assert_eq!(self.now, wanted.deadline_at, "failed too early or too late")
            }
            Err(Error::Failed { attempts }) => {
                assert!(
                    attempts >= self.script.config.max_attempts && wanted.failures >= attempts,
                    "given up early"
                );
            }
            Err(Error::NoWorkers) => {
                let able = |w: usize| self.script.config.workers[w].role.can(Kind::Base);
                let left =
                    (0..self.state.len()).any(|w| able(w) && self.state[w] != WorkerState::Retired);
                assert!(!left, "a worker is left");
            }
            Err(Error::Overloaded { queue }) => {
                assert!(self.scheduler.pending() >= queue, "there was room")
            }
            Err(Error::Closed) => assert!(self.drained),
            Err(Error::Cancelled) => {}
            Err(other) => panic!("an error that this test does not know: {other}"),
        }
        let before = self.settled.insert(id, outcome.map(|a| a.source));
        assert_eq!(before, None, "settled twice");
    }

    /// Extra work within the budget where lateness asks for it, and as the policy says where it does not.
    fn check_extra_work(&self) {
        let (stats, config) = (self.scheduler.stats(), &self.script.config);
        let further: u64 = self.wanted.values().map(|w| w.copies).sum();
        let copies = further - stats.probe_runs;
        assert_eq!(copies, stats.copy_images);
        if let Some(accuracy) = config.accuracy {
            let share = (accuracy.budget / accuracy.drop).min(1.0);
            let most = share * stats.answered() as f64;
            let given = (stats.collage + stats.parity) as f64;
            assert!(
                given <= most + 1e-6 || share >= 1.0,
                "{given} answers from collages, {most} are paid for"
            );
        }
        let (planned, lazy) = match config.policy {
            Policy::None => (Some(0), false),
            Policy::Replicate { runs } => (Some(u64::from(runs) - 1), false),
            policy => (None, policy.lazy().is_some()),
        };
        if let Some(planned) = planned {
            assert!(
                copies <= planned * stats.submitted,
                "more replicas than asked for"
            );
            return;
        }
        let collages = if lazy { stats.group_work } else { 0.0 };
        let extra = copies as f64 + collages;
        let most = 16.0 + config.budget * stats.submitted as f64;
        assert!(
            extra <= most + 1e-6,
            "extra work of {extra} in a budget of {most}"
        );
    }

    /// The scheduler's word on a latency objective is what was seen from here.
    fn check_promises(&self) {
        let Some(objective) = self.script.config.objective else {
            return;
        };
        let promise = self.scheduler.promises().latency.expect("promised");
        let limit = objective.latency.as_micros() as Micros;
        let (mut counted, mut in_time) = (0, 0);
        for (at, action) in &self.log {
            let Action::Settle { id, outcome } = action else {
                continue;
            };
            match outcome {
                Err(Error::Cancelled | Error::Closed | Error::Overloaded { .. }) => continue,
                // Refused at the door, or accepted and lost at once: nobody can tell from here.
                Err(Error::NoWorkers) if *at == self.wanted[id].submitted_at => return,
                outcome => {
                    counted += 1;
                    let is_in_time = outcome.is_ok() && at - self.wanted[id].submitted_at <= limit;
                    in_time += u64::from(is_in_time);
                }
            }
        }
        let kept = in_time as f64 + 1e-6 >= objective.quantile * counted as f64;
        assert_eq!((promise.over, promise.kept), (counted, kept));
        assert_eq!(promise.measured <= promise.promised, kept, "{promise:?}");
    }

    fn apart(&self, base: Option<usize>, collage: usize) -> Independence {
        let device = |w: usize| self.script.config.workers[w].device;
        match base {
            Some(base) if base == collage => Independence::None,
            Some(base) if device(base) == device(collage) => Independence::Worker,
            _ => Independence::Device,
        }
    }

    fn check_end(&self) {
        assert_eq!(
            self.settled.len(),
            self.wanted.len(),
            "requests without an outcome"
        );
        assert!(
            self.ended.is_empty(),
            "results that nobody forgot: {:?}",
            self.ended
        );
        self.check_extra_work();
        self.check_promises();
        let stats = self.scheduler.stats();
        let parities = stats.parity_runs as f64 * self.script.config.parity_work;
        let group_work = self.collage_work + parities;
        assert!((stats.group_work - group_work).abs() < 1e-6 * (1.0 + group_work));
        assert_eq!(stats.submitted, self.wanted.len() as u64);
        assert_eq!(stats.settled(), stats.submitted);
        assert!(
            self.scheduler.is_empty(),
            "something is kept: {:?}",
            self.scheduler
        );
    }
}
