//! Dynamic batching: base runs are cut from the queue when it holds a full batch or its oldest has waited enough.

use super::Scheduler;
use super::event::{Kind, Micros, RequestId, WorkerId};
use super::place::Rank;
use super::request::{Backup, Base, Cause, Job, Request};

/// Most requests that one decision passes over because they may not run where there is room: a decision's cost must not
/// grow with what waits.
pub(super) const LOOK_AHEAD: usize = 64;

impl Scheduler {
    /// The oldest request that waits for its base run: whether it must run alone, and since when it waits.
    fn oldest_queued(&mut self) -> Option<(bool, Micros)> {
        let id = self.queue.front(|id| is_queued(self.requests.get(&id)))?;
        self.requests.get(&id).map(|r| (r.alone, r.queued_at))
    }

    /// Since when the oldest waits, if a batch should be cut now and a worker could take it.
    pub(super) fn batch_due(&mut self) -> Option<Micros> {
        self.fleet.next_free(Kind::Base, None)?;
        let full = self.queue.live() >= self.config.max_batch.max(1);
        let (alone, since) = self.oldest_queued()?;
        let waited = since.saturating_add(self.config.batch_wait) <= self.now;
        (full || alone || waited || self.draining).then_some(since)
    }

    /// When a batch will be due that is not yet, if a worker could take it.
    pub(super) fn batch_closes_at(&mut self) -> Option<Micros> {
        self.fleet.next_free(Kind::Base, None)?;
        let (_, since) = self.oldest_queued()?;
        Some(since.saturating_add(self.config.batch_wait)).filter(|&at| at > self.now)
    }

    /// Launches one batch on the best free worker that may run one; false if there is none.
    pub(super) fn launch_base(&mut self) -> bool {
        let mut after = self.kept_for_collage();
        while let Some(rank) = self.fleet.next_free(Kind::Base, after) {
            let ids = self.cut(rank.worker);
            if !ids.is_empty() {
                self.run_base(rank.worker, ids);
                return true;
            }
            self.spare.give(ids);
            after = Some(rank);
        }
        false
    }

    /// The best free worker, if a group waits that it will run the collage of, and others are free for base runs. A
    /// collage stands in for whoever is late, so it must not be late itself.
    fn kept_for_collage(&self) -> Option<Rank> {
        let is_eager = self.config.policy.lazy().is_none();
        if !is_eager || !self.groups.are_waiting() || self.is_overloaded() {
            return None;
        }
        let best = self.fleet.next_free(Kind::Base, None)?;
        let has_others = self.fleet.next_free(Kind::Base, Some(best)).is_some();
        let runs_it = self.fleet.next_free(Kind::Collage, None) == Some(best);
        Some(best).filter(|_| has_others && runs_it)
    }

    /// Takes the oldest requests that this worker may run: none goes where its collage is, nor where it just failed,
    /// unless no other worker could run it.
    fn cut(&mut self, worker: WorkerId) -> Vec<RequestId> {
        let mut ids = self.spare.take();
        let mut passed = self.spare.take();
        let avoid = self.fleet.another_ready(Kind::Base, worker);
        // Of a parity group one answer may be missing, so no worker should have two of its runs; but in an overload
        // large batches are worth more.
        let is_coded = self.config.policy.parity().is_some();
        let apart = avoid && is_coded && !self.is_overloaded();
        while ids.len() < self.config.max_batch.max(1) && passed.len() < LOOK_AHEAD {
            let Some(id) = self.queue.pop_front(|id| is_queued(self.requests.get(&id))) else {
                break;
            };
            let Some(request) = self.requests.get(&id) else {
                continue;
            };
            let elsewhere = request.backup.worker().or(request.failed_on) == Some(worker)
                || request.copies.on(worker)
                || is_coded && self.runs_parity_of(id, worker);
            if avoid && elsewhere || apart && self.is_beside_a_mate(request, &ids, worker) {
                passed.push(id);
            } else if request.alone && !ids.is_empty() {
                passed.push(id);
                break;
            } else {
                ids.push(id);
                if request.alone {
                    break;
                }
            }
        }
        for &id in passed.iter().rev() {
            self.queue.push_front(id);
        }
        self.spare.give(passed);
        ids
    }

    /// Whether its parity runs there, though it may not count on that any more: others of its group may.
    fn runs_parity_of(&self, id: RequestId, worker: WorkerId) -> bool {
        let mut jobs = (self.fleet.jobs(worker).iter()).filter_map(|job| self.jobs.get(job));
        jobs.any(|job| job.kind() == Kind::Parity && job.ids.contains(&id))
    }

    /// Whether a member of the request's group is among these, or runs on this worker.
    fn is_beside_a_mate(&self, request: &Request, ids: &[RequestId], worker: WorkerId) -> bool {
        let grouped = matches!(request.backup, Backup::Grouped(_) | Backup::Running { .. });
        let is_mate = |id: &RequestId| {
            let other = self.requests.get(id);
            other.is_some_and(|r| r.backup == request.backup)
        };
        let jobs = || {
            self.fleet
                .jobs(worker)
                .iter()
                .filter_map(|job| self.jobs.get(job))
        };
        grouped && (ids.iter().any(is_mate) || jobs().any(|job| job.ids.iter().any(is_mate)))
    }

    fn run_base(&mut self, worker: WorkerId, ids: Vec<RequestId>) {
        let job = self.next_job();
        for id in &ids {
            if let Some(request) = self.requests.get_mut(id) {
                request.base = Base::Running { job, worker };
                request.base_worker = Some(worker);
            }
        }
        self.stats.base_runs += 1;
        self.stats.base_images += ids.len() as u64;
        let (first, images) = (ids.first().copied(), ids.len());
        for &id in &ids {
            self.watch(id, images);
        }
        self.launch_job(
            job,
            Job {
                cause: Cause::Own,
                worker,
                slots: images,
                ids,
                launched_at: self.now,
                attempts: 0,
                cancelled: 0,
            },
        );
        if let Some(id) = first {
            self.launch_probe(id);
        }
    }
}

/// Whether a queue's entry still stands for a base run to be made.
pub(super) fn is_queued(request: Option<&Request>) -> bool {
    request.is_some_and(|r| r.base == Base::Queued)
}
