//! Parity groups from the launch of their parity run on: whose answers are known, and who can be decoded.
//!
//! A member's answer follows from the parity and the answers of all other members. So the answers of base runs are kept
//! while a member of their group waits, those included that came too late for their own request; and where two members
//! will never be answered by a base run, no parity helps anybody.

use super::Scheduler;
use super::event::{Action, Independence, JobId, Part, RequestId, WorkerId};
use super::map::IdMap;
use super::policy::repeats;
use super::request::Job;
use super::request::{Backup, Base, Request};
use super::timers::{Due, Timer};

/// What is known of a member's own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// A base run may still give it.
    Awaited,
    /// In this row of an ended base job's results, which are held.
    Answered {
        job: JobId,
        index: usize,
        worker: WorkerId,
    },
    /// No base run will give it.
    Never,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    id: RequestId,
    known: Known,
    /// Base runs of a settled request that have not ended.
    runs: usize,
}

#[derive(Debug)]
struct Code {
    /// Where the parity runs.
    worker: WorkerId,
    /// Of the query, which its members fill.
    slots: usize,
    members: Vec<Member>,
    /// The parity run has ended, and its results are held.
    is_done: bool,
}

impl Code {
    fn member(&mut self, id: RequestId) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.id == id)
    }

    fn missing(&self) -> impl Iterator<Item = &Member> {
        let is_missing = |m: &&Member| !matches!(m.known, Known::Answered { .. });
        self.members.iter().filter(is_missing)
    }

    fn times(&self, index: usize) -> usize {
        repeats(self.slots, self.members.len(), index)
    }
}

/// All groups whose parity was launched and of which somebody waits.
#[derive(Debug, Default)]
pub(super) struct Codes {
    codes: IdMap<JobId, Code>,
    of: IdMap<RequestId, JobId>,
}

impl Codes {
    pub(super) fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.of.is_empty()
    }

    fn with(&mut self, id: RequestId) -> Option<(JobId, &mut Member)> {
        let code = *self.of.get(&id)?;
        let member = self.codes.get_mut(&code)?.member(id)?;
        Some((code, member))
    }
}

impl Scheduler {
    /// A parity run of these was launched.
    pub(super) fn start_code(
        &mut self,
        job: JobId,
        worker: WorkerId,
        slots: usize,
        ids: &[RequestId],
    ) {
        let member = |&id: &RequestId| {
            let is_lost = self.requests.get(&id).is_none_or(is_without_runs);
            let known = if is_lost {
                Known::Never
            } else {
                Known::Awaited
            };
            Member { id, known, runs: 0 }
        };
        let code = Code {
            worker,
            slots,
            members: ids.iter().map(member).collect(),
            is_done: false,
        };
        self.codes.of.extend(ids.iter().map(|&id| (id, job)));
        self.codes.codes.insert(job, code);
        self.decode(job);
    }

    /// The parity run ended.
    pub(super) fn parity_done(&mut self, id: JobId) {
        let Some(code) = self.codes.codes.get_mut(&id) else {
            self.actions.push_back(Action::Forget { job: id });
            return;
        };
        code.is_done = true;
        self.held.insert(id, 1);
        self.decode(id);
    }

    /// A base run ended: notes all of its answers before any of its requests is settled. Its results are then held, once
    /// for the caller and once for each group that needs them.
    pub(super) fn learn(&mut self, id: JobId, run: &Job) {
        let mut held = 1;
        for (index, &request) in run.ids.iter().enumerate() {
            let Some((_, member)) = self.codes.with(request) else {
                continue;
            };
            if matches!(member.known, Known::Answered { .. }) {
                continue;
            }
            member.known = Known::Answered {
                job: id,
                index,
                worker: run.worker,
            };
            held += 1;
        }
        self.held.insert(id, held);
    }

    /// After `learn` and after its requests were settled: answers that came too late for their own may serve others.
    pub(super) fn decode_with(&mut self, run: &Job) {
        for request in &run.ids {
            if let Some(&code) = self.codes.of.get(request) {
                self.decode(code);
            }
        }
    }

    /// A member was settled, whatever by.
    pub(super) fn leave_code(&mut self, id: RequestId, request: &Request) {
        let Some((code, member)) = self.codes.with(id) else {
            return;
        };
        let own = matches!(request.base, Base::Running { .. });
        member.runs = usize::from(own) + request.copies.count();
        if member.known == Known::Awaited && member.runs == 0 {
            member.known = Known::Never;
        }
        self.decode(code);
    }

    /// A base run came to nothing: settled requests are not run again.
    pub(super) fn lost_of_settled(&mut self, ids: &[RequestId]) {
        for &id in ids {
            let is_settled = !self.requests.contains_key(&id);
            let Some((code, member)) = self.codes.with(id).filter(|_| is_settled) else {
                continue;
            };
            member.runs = member.runs.saturating_sub(1);
            if member.known == Known::Awaited && member.runs == 0 {
                member.known = Known::Never;
                self.decode(code);
            }
        }
    }

    /// No base run will answer this request.
    pub(super) fn lost_to_code(&mut self, id: RequestId) {
        if let Some((code, member)) = self.codes.with(id)
            && member.known == Known::Awaited
        {
            member.known = Known::Never;
            self.decode(code);
        }
    }

    /// Decodes the last answer that is missing, or gives up what never can be decoded.
    fn decode(&mut self, job: JobId) {
        let Some(code) = self.codes.codes.get(&job) else {
            return;
        };
        let waits = |m: &Member| self.requests.contains_key(&m.id);
        let (mut missing, mut waiting, mut never) = (0, 0, 0);
        let (mut gone, mut last) = (false, None);
        for member in code.missing() {
            missing += 1;
            waiting += usize::from(waits(member));
            if member.known == Known::Never {
                never += 1;
                gone |= !waits(member);
            }
            last = Some(member.id);
        }
        let is_done = code.is_done;
        if waiting == 0 {
            self.dissolve_code(job);
        } else if gone || never > 1 {
            for id in self.dissolve_code(job) {
                self.bereave(id);
            }
        } else if missing == 1 && is_done {
            self.hold_decoded(job, last);
        } else if never == 1 {
            // It alone may be decoded; the others have their own runs, and nothing but these.
            let bereft = |m: &&Member| {
                let backup = self.requests.get(&m.id).map(|r| r.backup);
                let is_backed = matches!(backup, Some(Backup::Running { job: j, .. }) if j == job);
                m.known == Known::Awaited && is_backed
            };
            let bereft: Vec<_> = code.missing().filter(bereft).map(|m| m.id).collect();
            bereft.into_iter().for_each(|id| self.bereave(id));
        }
    }

    /// This member's answer can be decoded, and waits for its release.
    fn hold_decoded(&mut self, job: JobId, id: Option<RequestId>) {
        let Some((id, code)) = id.zip(self.codes.codes.get(&job)) else {
            return;
        };
        let worker = code.worker;
        let index = code.members.iter().position(|m| m.id == id);
        let (Some(index), Some(request)) = (index, self.requests.get_mut(&id)) else {
            return;
        };
        if matches!(request.backup, Backup::Held { .. }) {
            return;
        }
        request.backup = Backup::Held { job, index, worker };
        let at = request.release_at;
        if at > self.now {
            let due = Due::Release;
            self.timers.push(Timer { at, due, id });
        } else {
            self.release(id);
        }
    }

    /// How a held answer is decoded, and what its request's base run did not share with all that it is decoded from.
    pub(super) fn decoding(
        &self,
        id: RequestId,
        parity: JobId,
        mut apart: Independence,
    ) -> Option<(Action, Independence)> {
        let code = self.codes.codes.get(&parity)?;
        let request = self.requests.get(&id)?;
        let mut others = Vec::with_capacity(code.members.len());
        let mut times = 1;
        for (at, member) in code.members.iter().enumerate() {
            match member.known {
                Known::Answered { job, index, worker } => {
                    apart = apart.min(self.independence(request, worker));
                    let times = code.times(at);
                    others.push(Part { job, index, times });
                }
                _ => times = code.times(at),
            }
        }
        let decode = Action::Decode {
            id,
            parity,
            times,
            others,
        };
        Some((decode, apart))
    }

    /// Nobody is decoded in this group any more; gives those who wait all the same.
    pub(super) fn dissolve_code(&mut self, job: JobId) -> Vec<RequestId> {
        let Some(code) = self.codes.codes.remove(&job) else {
            return Vec::new();
        };
        let mut waiting = Vec::new();
        for member in code.members {
            self.codes.of.remove(&member.id);
            if let Known::Answered { job, .. } = member.known {
                self.unhold(job);
            } else if self.requests.contains_key(&member.id) {
                waiting.push(member.id);
            }
        }
        if code.is_done {
            self.unhold(job);
        }
        waiting
    }
}

/// Whether no base run will answer it.
pub(super) fn is_without_runs(request: &Request) -> bool {
    request.base == Base::Exhausted && request.copies.count() == 0
}
