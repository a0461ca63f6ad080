//! How requests end: the first acceptable answer wins, exactly once.
//!
//! - A base answer by the deadline is always acceptable, from whichever of the request's runs.
//! - A collage answer is acceptable from `release_at` on, if its confidence is enough, and a decoded one too; until then
//!   it is held.
//! - A request whose base can no longer come and that no collage or parity may answer fails at once.
//! - At the deadline the rest fail.

use super::event::{
    Action, Answer, Error, Independence, JobId, Kind, Micros, RequestId, Source, WorkerId,
};
use super::request::{Backup, Base, Cause, Job, Request};
use super::timers::{Due, Timer};
use super::{Scheduler, accuracy, batch, late, parity};

impl Scheduler {
    /// Settles what fell due strictly before `now`, or by `now`.
    pub(super) fn expire(&mut self, now: Micros, inclusive: bool) {
        while let Some(timer) = self.timers.first() {
            if timer.at > now || (timer.at == now && !inclusive) {
                break;
            }
            self.timers.pop();
            match timer.due {
                Due::Release => self.release(timer.id),
                Due::Late if super::is_live(&self.requests, timer) => self.late(timer.id),
                Due::Late => {}
                Due::Deadline => self.settle(timer.id, Err(Error::DeadlineExceeded)),
            }
        }
    }

    /// The release time of a request whose collage answer is held has come.
    pub(super) fn release(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        let Backup::Held { job, index, worker } = request.backup else {
            return;
        };
        let patience = accuracy::patience(request.release_at.saturating_sub(request.queued_at));
        let cannot_pay = |s: &mut Self| {
            let is_short = s.purse.as_mut().is_some_and(|purse| !purse.take());
            is_short.then(|| s.now.saturating_add(patience))
        };
        if let Some(at) = self.waits_on(id).or_else(|| cannot_pay(self)) {
            let due = Due::Release;
            self.timers.push(Timer { at, due, id });
            if self.config.policy.resends() {
                self.want_copies(id, 1);
            }
            return;
        }
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        // A driver that woke up late must not turn a missed deadline into an answer.
        if self.now <= request.deadline_at {
            let mut independence = self.independence(request, worker);
            let mut source = Source::Collage;
            if let Some((decode, apart)) = self.decoding(id, job, independence) {
                (source, independence) = (Source::Parity, apart);
                self.actions.push_back(decode);
            }
            let answer = Answer {
                source,
                job,
                index,
                worker,
                independence,
            };
            self.settle(id, Ok(answer));
        }
    }

    pub(super) fn done(&mut self, worker: WorkerId, id: JobId, confidences: &[f32]) {
        // A job that is not known was given up with its worker; whoever waited for it has been placed elsewhere.
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        let run = (job.kind(), job.slots);
        let time = self
            .fleet
            .succeed(worker, id, run, job.launched_at, self.now);
        match job.kind() {
            Kind::Base => {
                if let Some(time) = time {
                    self.times.record(job.ids.len(), time);
                }
                self.base_done(id, &job);
            }
            Kind::Collage => {
                if let Some(time) = time {
                    self.times.record_collage(time);
                }
                self.collage_done(id, &job, confidences);
            }
            Kind::Parity => self.parity_done(id),
        }
        self.spare.give(job.ids);
    }

    fn base_done(&mut self, id: JobId, job: &Job) {
        let is_coded = self.config.policy.parity().is_some();
        if is_coded {
            self.learn(id, job);
        }
        let mut missing = 0;
        for (index, &request_id) in job.ids.iter().enumerate() {
            let Some(request) = self.requests.get(&request_id) else {
                missing += 1;
                continue;
            };
            let (source, backup) = match job.cause {
                Cause::Own => (Source::Base, request.backup.worker()),
                _ => (Source::Copy, Some(job.worker)),
            };
            let independence = backup.map_or(Independence::None, |backup| {
                self.independence(request, backup)
            });
            let answer = Answer {
                source,
                job: id,
                index,
                worker: job.worker,
                independence,
            };
            self.settle(request_id, Ok(answer));
        }
        match job.cause {
            Cause::Own => self.stats.late += missing - job.cancelled.min(missing),
            _ => self.stats.copies_unneeded += missing,
        }
        if is_coded {
            self.decode_with(job);
            self.unhold(id);
        } else {
            self.actions.push_back(Action::Forget { job: id });
        }
    }

    fn collage_done(&mut self, id: JobId, job: &Job, confidences: &[f32]) {
        let mut held = 0;
        for (index, &request_id) in job.ids.iter().enumerate() {
            let Some(request) = self.requests.get_mut(&request_id) else {
                self.stats.unneeded += 1;
                continue;
            };
            let acceptable = confidences
                .get(index)
                .is_some_and(|&c| c >= self.config.min_confidence);
            if !acceptable {
                self.stats.abstained += 1;
                self.bereave(request_id);
                continue;
            }
            request.backup = Backup::Held {
                job: id,
                index,
                worker: job.worker,
            };
            held += 1;
            let at = request.release_at;
            if at > self.now {
                self.timers.push(Timer {
                    at,
                    due: Due::Release,
                    id: request_id,
                });
            }
        }
        // Held first and released after, so that one rule tells when the job's results are needed no more.
        if held == 0 {
            self.actions.push_back(Action::Forget { job: id });
            return;
        }
        self.held.insert(id, held);
        for &request_id in &job.ids {
            if self
                .requests
                .get(&request_id)
                .is_some_and(|r| r.release_at <= self.now)
            {
                self.release(request_id);
            }
        }
    }

    /// What the request's last base run and its backup on that worker did not share.
    pub(super) fn independence(&self, request: &Request, backup: WorkerId) -> Independence {
        match request.base_worker {
            Some(base) if base == backup => Independence::None,
            Some(base) if self.fleet.device(base) == self.fleet.device(backup) => {
                Independence::Worker
            }
            _ => Independence::Device,
        }
    }

    /// A job brought no result: its requests get another run, alone, so that one bad image does not take others with
    /// it again; or none, after too many.
    pub(super) fn lost_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        if job.kind() == Kind::Base {
            self.lost_of_settled(&job.ids);
        }
        match job.cause {
            Cause::Own => {
                for &request_id in job.ids.iter().rev() {
                    self.retry_base(request_id);
                }
            }
            Cause::Copy | Cause::Probe => {
                for request_id in &job.ids {
                    if let Some(request) = self.requests.get_mut(request_id) {
                        request.copies.lost(id);
                        self.fail_if_hopeless(*request_id);
                    }
                }
            }
            Cause::Group | Cause::Parity => self.retry_collage(id, &job),
        }
    }

    fn retry_base(&mut self, id: RequestId) {
        self.unwant_copies(id);
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.attempts += 1;
        request.alone = true;
        request.failed_on = request.base_worker;
        if request.attempts < self.config.max_attempts {
            request.base = Base::Queued;
            self.queue.push_front(id);
            self.stats.retries += 1;
        } else {
            self.exhaust(id);
        }
    }

    /// No base run of it will be launched any more.
    fn exhaust(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.base = Base::Exhausted;
            self.fail_if_hopeless(id);
        }
    }

    fn retry_collage(&mut self, failed: JobId, job: &Job) {
        self.dissolve_code(failed);
        let waits = |id: &RequestId| {
            let backup = self.requests.get(id).map(|r| r.backup);
            matches!(backup, Some(Backup::Running { job, .. }) if job == failed)
        };
        let members: Vec<_> = job.ids.iter().copied().filter(waits).collect();
        if members.is_empty() {
            return;
        }
        if job.attempts + 1 < self.config.max_attempts && self.fleet.could(Kind::Collage) {
            let group = self
                .groups
                .again(members.clone(), job.attempts + 1, self.now);
            for id in &members {
                if let Some(request) = self.requests.get_mut(id) {
                    request.backup = Backup::Grouped(group);
                }
            }
        } else {
            self.give_up_collage(members);
        }
    }

    /// No collage will answer these.
    fn give_up_collage(&mut self, ids: Vec<RequestId>) {
        ids.into_iter().for_each(|id| self.bereave(id));
    }

    /// After a worker was retired: what no remaining worker can run is not waited for.
    pub(super) fn give_up_impossible(&mut self) {
        if !self.fleet.could(Kind::Collage) {
            let members = self.groups.dissolve();
            self.give_up_collage(members);
        }
        if !self.fleet.could(Kind::Base) {
            while let Some(id) = self
                .queue
                .pop_front(|id| batch::is_queued(self.requests.get(&id)))
            {
                self.exhaust(id);
            }
        }
    }

    pub(super) fn fail_if_hopeless(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        if !parity::is_without_runs(request) {
            return;
        }
        if request.backup != Backup::None {
            // A held answer that waited on for a base run waits for nothing now.
            if request.waits_on {
                let (at, due) = (self.now, Due::Release);
                self.timers.push(Timer { at, due, id });
            }
            self.lost_to_code(id);
        } else {
            let error = match self.fleet.could(Kind::Base) {
                true => Error::Failed {
                    attempts: request.attempts,
                },
                false => Error::NoWorkers,
            };
            self.settle(id, Err(error));
        }
    }

    pub(super) fn cancel(&mut self, id: RequestId) {
        let base = self.requests.get(&id).map(|r| r.base);
        if let Some(Base::Running { job, .. }) = base
            && let Some(job) = self.jobs.get_mut(&job)
        {
            job.cancelled += 1; // its answer will be unwanted, not late
        }
        self.settle(id, Err(Error::Cancelled));
    }

    /// The one way out for an accepted request: frees all that is kept for it.
    pub(super) fn settle(&mut self, id: RequestId, outcome: Result<Answer, Error>) {
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        if request.base == Base::Queued {
            self.stats.bases_saved += u64::from(outcome.is_ok());
            self.queue
                .void(|id| batch::is_queued(self.requests.get(&id)));
        }
        if request.copies.wanted > 0 {
            self.copies
                .void(|id| late::is_wanted(self.requests.get(&id)));
        }
        self.count(&outcome);
        self.note(&request, &outcome);
        let from_collage = matches!(
            outcome,
            Ok(Answer {
                source: Source::Collage,
                ..
            })
        );
        self.actions.push_back(Action::Settle { id, outcome });
        match request.backup {
            Backup::Grouped(group) => {
                self.stats.collages_saved += u64::from(self.groups.leave(group))
            }
            Backup::Held { job, .. } if self.config.policy.parity().is_none() => {
                self.stats.unneeded += u64::from(!from_collage);
                self.unhold(job);
            }
            Backup::Held { .. } | Backup::Running { .. } | Backup::None => {}
        }
        self.leave_code(id, &request);
    }

    /// One answer fewer is held from this job's results.
    pub(super) fn unhold(&mut self, job: JobId) {
        if let Some(held) = self.held.get_mut(&job) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&job);
                self.actions.push_back(Action::Forget { job });
            }
        }
    }

    /// Answers a submission that is not accepted.
    pub(super) fn refuse(&mut self, id: RequestId, error: Error) {
        self.count(&Err(error));
        self.actions.push_back(Action::Settle {
            id,
            outcome: Err(error),
        });
    }

    fn count(&mut self, outcome: &Result<Answer, Error>) {
        let stats = &mut self.stats;
        *match outcome {
            Ok(answer) => match answer.source {
                Source::Base => &mut stats.base,
                Source::Collage => &mut stats.collage,
                Source::Copy => &mut stats.copies,
                Source::Parity => &mut stats.parity,
            },
            Err(Error::DeadlineExceeded) => &mut stats.deadline_exceeded,
            Err(Error::Overloaded { .. }) => &mut stats.overloaded,
            Err(Error::Cancelled) => &mut stats.cancelled,
            Err(Error::Failed { .. } | Error::NoWorkers) => &mut stats.failed,
            Err(Error::Closed) => &mut stats.closed,
        } += 1;
    }
}
