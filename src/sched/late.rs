//! Lateness: when a base run counts as late, and what is done about it within the budget.
//!
//! | policy | late is | then |
//! |---|---|---|
//! | hedge | longer than the hedge point | a copy runs on another worker |
//! | lazy collage | the same, or not begun for so long and past its release time | it joins the next collage |
//! | both, with a latency objective | when a backup must begin to be in time for it | the same |
//! | eager collage | not answered at the release time, nor within the live p95 | if its collage is missing too: a copy |
//!
//! A hedge point that is a percentile is of recent base runs of the same size on workers that are not under suspicion,
//! those that lost their race included. Before any such run an eager collage's request is given as long from its launch as
//! its caller gave it from its due time to its release: a launch after the release, in a first queue, is no end of watching.

use super::Scheduler;
use super::batch;
use super::event::{Kind, Micros, RequestId, WorkerId};
use super::histogram::Rotating;
use super::latency::{SIZES, size};
use super::policy::{After, Policy};
use super::promise::last_moment;
use super::request::{Backup, Base, Cause, Job, Request};
use super::timers::{Due, Timer};

/// Recent times of base runs, by size.
#[derive(Debug, Default)]
pub(super) struct Times {
    by_size: [Option<Box<Rotating>>; SIZES],
    collage: Option<Box<Rotating>>,
}

impl Times {
    pub(super) fn record(&mut self, images: usize, time: Micros) {
        self.by_size[size(images)]
            .get_or_insert_with(|| Box::new(Rotating::new()))
            .record(time);
    }

    pub(super) fn record_collage(&mut self, time: Micros) {
        self.collage
            .get_or_insert_with(|| Box::new(Rotating::new()))
            .record(time);
    }

    fn point(&mut self, after: After, images: usize) -> Option<Micros> {
        match after {
            After::Micros(us) => Some(us),
            After::Percentile(tenths) => self.by_size[size(images)].as_mut()?.percentile(tenths),
        }
    }
}

impl Scheduler {
    /// A request's base run was launched, with so many images: notes what follows from that by itself, and when it
    /// will be late.
    pub(super) fn watch(&mut self, id: RequestId, images: usize) {
        let policy = self.config.policy;
        let (now, replicas) = (self.now, policy.replicas());
        if replicas > 0 {
            return self.want_copies(id, replicas);
        }
        let after = match policy {
            Policy::Hedge { after } => Some(after),
            _ => policy.lazy(),
        };
        let late_at = match after {
            Some(after) => self.hedge_point(id, after, images),
            None if policy.resends() => {
                let typical = self.times.point(After::P95, images);
                self.requests.get(&id).map(|request| {
                    let given = || first_wait(request, now);
                    request
                        .release_at
                        .max(now.saturating_add(typical.unwrap_or_else(given)))
                })
            }
            None => None,
        };
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.late_at = late_at.filter(|&at| at < request.deadline_at);
        if let Some(at) = request.late_at {
            let due = Due::Late;
            self.timers.push(Timer { at, due, id });
        }
    }

    /// From when on a collage may answer a new request: as its caller says, or as the objective or the accuracy budget
    /// does. What only the base may answer stays so.
    pub(super) fn release_for(
        &mut self,
        due_at: Micros,
        release_at: Micros,
        deadline_at: Micros,
    ) -> Micros {
        if release_at >= deadline_at {
            return release_at;
        }
        if let Some(ledger) = &self.ledger {
            let release = due_at.saturating_add(ledger.objective().release());
            return release.min(last_moment(due_at, deadline_at));
        }
        let after = self
            .purse
            .as_ref()
            .map(|p| After::Percentile(p.percentile()));
        let point = after.and_then(|after| self.times.point(after, 1));
        point.map_or(release_at, |us| self.now.saturating_add(us))
    }

    /// When a base run with so many images that begins now is late.
    fn hedge_point(&mut self, id: RequestId, after: After, images: usize) -> Option<Micros> {
        let asked = self.times.point(after, images);
        let asked = asked.map(|us| self.now.saturating_add(us));
        let due_at = self.requests.get(&id)?.due_at;
        let last = self.last_chance(due_at).map(|at| at.max(self.now + 1));
        match self.config.policy {
            // Its own point may be better, since a second run makes no answer worse.
            Policy::Hedge { .. } => [asked, last].into_iter().flatten().min(),
            _ => last.or(asked),
        }
    }

    /// When a backup must begin so that it answers in time for the objective; `None` without one, while it is not known
    /// how long that takes, and where it takes longer than there is.
    fn last_chance(&mut self, due_at: Micros) -> Option<Micros> {
        let release = self.ledger.as_ref()?.objective().release();
        let base = self.times.point(After::P95, 1);
        let room = if self.config.policy.uses_collage() {
            let collage = self.times.collage.as_mut();
            // Before enough collages ran: their work at the base's speed.
            let expected =
                base.map(|us| (us as f64 * self.config.grid_for(usize::MAX).work) as Micros);
            let run = collage
                .and_then(|times| times.percentile(950))
                .or(expected)?;
            run.saturating_add(self.config.group_wait)
        } else {
            base?
        };
        let wait = release.checked_sub(room).filter(|&wait| wait > 0)?;
        Some(due_at.saturating_add(wait))
    }

    /// When a new request will count as late if its base run has not begun by then: under a lazy policy, once a
    /// collage may answer it and it has waited for as long as a run may take.
    pub(super) fn late_unless_begun(
        &mut self,
        due_at: Micros,
        release_at: Micros,
    ) -> Option<Micros> {
        let after = self.config.policy.lazy()?;
        if let Some(at) = self.last_chance(due_at) {
            return Some(at).filter(|&at| at > self.now);
        }
        let point = self.times.point(after, 1).unwrap_or(0);
        Some(release_at.max(self.now.saturating_add(point))).filter(|&at| at > self.now)
    }

    /// The time at which a request's base run would be late has come.
    pub(super) fn late(&mut self, id: RequestId) {
        let lazy = self.config.policy.lazy().is_some();
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.late_at = None;
        request.is_late = true;
        match request.backup {
            // Given as soon as it may be.
            Backup::Held { .. } => {}
            Backup::None if lazy && self.fleet.could(Kind::Collage) => self.join_group(id),
            _ if lazy => {}
            _ => self.want_copies(id, 1),
        }
    }

    /// Its collage will not answer for it: who is late is not left with a base run alone.
    pub(super) fn bereave(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.backup = Backup::None;
        if request.is_late && self.config.policy.resends() {
            self.want_copies(id, 1);
        }
        self.fail_if_hopeless(id);
    }

    /// It waits for further runs beside its own, unless it has some.
    pub(super) fn want_copies(&mut self, id: RequestId, copies: u8) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        // An image that took a worker down must not be tried on two at a time.
        let is_running = matches!(request.base, Base::Running { .. });
        if request.alone || request.copies.are_made() || !is_running {
            return;
        }
        request.copies.wanted = copies;
        self.copies.push_back(id);
    }

    /// A copy that was wanted is not wanted any more.
    pub(super) fn unwant_copies(&mut self, id: RequestId) {
        let copies = self.requests.get_mut(&id).map(|r| &mut r.copies.wanted);
        if copies.is_some_and(|wanted| std::mem::take(wanted) > 0) {
            self.copies.void(|id| is_wanted(self.requests.get(&id)));
        }
    }

    /// Whether so many requests wait for their base run that backups would only add to the waiting.
    pub(super) fn is_overloaded(&self) -> bool {
        self.queue.live()
            > self
                .config
                .stand_down
                .saturating_mul(self.fleet.sound(Kind::Base))
    }

    /// Whether the limit on extra work has room.
    pub(super) fn affords(&self, work: f64) -> bool {
        self.budget.allows(work)
    }

    /// Launches the copies of the oldest that waits for one; false if none may or can run.
    pub(super) fn launch_copy(&mut self) -> bool {
        let planned = self.config.policy.replicas() > 0;
        if self.copies.live() == 0 || !self.fleet.has_room(Kind::Base) {
            return false; // told first: while all are busy each event asks
        }
        if self.is_overloaded() || !(planned || self.affords(1.0)) {
            return false;
        }
        let mut passed = self.spare.take();
        let mut launched = false;
        while !launched && passed.len() < batch::LOOK_AHEAD {
            let Some(first) = self.next_copy() else {
                break;
            };
            let Some(worker) = self.place_copy(first) else {
                passed.push(first);
                continue;
            };
            let mut ids = self.spare.take();
            ids.push(first);
            // What became late together ran together, and may run together again.
            while ids.len() < self.config.max_batch
                && (planned || self.affords(ids.len() as f64 + 1.0))
            {
                match self.next_copy() {
                    Some(id) if self.may_run(id, worker) => ids.push(id),
                    Some(id) => {
                        self.copies.push_front(id);
                        break;
                    }
                    None => break,
                }
            }
            if !planned {
                self.budget.spend(ids.len() as f64);
            }
            self.run_copy(worker, ids, Cause::Copy);
            launched = true;
        }
        for &id in passed.iter().rev() {
            self.copies.push_front(id);
        }
        self.spare.give(passed);
        launched
    }

    fn may_run(&self, id: RequestId, worker: WorkerId) -> bool {
        let request = self.requests.get(&id);
        request.is_some_and(|r| suits(r, None, worker, 0).is_some())
    }

    /// Takes the oldest from the queue of copies.
    fn next_copy(&mut self) -> Option<RequestId> {
        self.copies
            .pop_front(|id| is_wanted(self.requests.get(&id)))
    }

    fn place_copy(&mut self, id: RequestId) -> Option<WorkerId> {
        let request = self.requests.get(&id)?;
        let base_device = request.base_worker.and_then(|w| self.fleet.device(w));
        self.fleet
            .another(|worker, device| suits(request, base_device, worker, device))
    }

    /// Gives a worker that is under watch a run of a request whose own run was just launched elsewhere.
    pub(super) fn launch_probe(&mut self, id: RequestId) {
        let request = self.requests.get(&id);
        if request.is_none_or(|r| r.alone) {
            return;
        }
        let Some(worker) = self.fleet.probe_due(self.now) else {
            return;
        };
        if request.is_some_and(|r| suits(r, None, worker, 0).is_some()) {
            self.fleet.probed(worker, self.now);
            let mut ids = self.spare.take();
            ids.push(id);
            self.run_copy(worker, ids, Cause::Probe);
        }
    }

    fn run_copy(&mut self, worker: WorkerId, ids: Vec<RequestId>, cause: Cause) {
        let job = self.next_job();
        let is_probe = cause == Cause::Probe;
        if is_probe {
            self.stats.probe_runs += 1;
        } else {
            self.stats.copy_runs += 1;
            self.stats.copy_images += ids.len() as u64;
        }
        for id in &ids {
            let Some(request) = self.requests.get_mut(id) else {
                continue;
            };
            request.copies.started(job, worker, is_probe);
            if !is_probe {
                request.copies.wanted -= 1;
                if request.copies.wanted > 0 {
                    self.copies.push_back(*id);
                }
            }
        }
        let job_record = Job {
            cause,
            worker,
            slots: ids.len(),
            ids,
            launched_at: self.now,
            attempts: 0,
            cancelled: 0,
        };
        self.launch_job(job, job_record);
    }
}

/// How long a run may take while nothing is known of runs: as long as its caller gave it before the release, or half of
/// what is left, if a collage may answer at once.
fn first_wait(request: &Request, now: Micros) -> Micros {
    match request.release_at.saturating_sub(request.due_at) {
        0 => request.deadline_at.saturating_sub(now) / 2,
        given => given,
    }
}

/// Whether a queue's entry still stands for a copy to be launched.
pub(super) fn is_wanted(request: Option<&Request>) -> bool {
    request.is_some_and(|r| r.copies.wanted > 0)
}

/// Where a further run of a request may go: not where one is, nor where one failed; best on another device than its
/// base run and away from its collage.
fn suits(
    request: &Request,
    base_device: Option<usize>,
    worker: WorkerId,
    device: usize,
) -> Option<u8> {
    let has_base = matches!(request.base, Base::Running { worker: w, .. } if w == worker);
    if has_base || request.copies.on(worker) || request.failed_on == Some(worker) {
        return None;
    }
    let with_collage = request.backup.worker() == Some(worker);
    Some(2 * u8::from(with_collage) + u8::from(base_device == Some(device)))
}
