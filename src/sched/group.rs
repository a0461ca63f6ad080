//! Groups: the requests that share a collage, from the first that joins to the collage's launch.

use super::Scheduler;
use super::event::{Independence, Kind, Micros, RequestId, WorkerId};
use super::map::IdMap;
use super::place::Rank;
use super::queue::Fifo;
use super::request::{Backup, Base, Cause, Job};
use super::spare::Spare;

/// Most closed groups that one decision looks at when the first cannot go where there is room: a decision's cost must
/// not grow with what waits.
const LOOK_AHEAD: usize = 8;

/// Most workers that one decision looks at, beyond one a member.
const LOOK_AT: usize = 16;

/// A group, in order of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupId(u64);

#[derive(Debug)]
struct Group {
    /// In order of submission, those answered meanwhile included.
    members: Vec<RequestId>,
    /// Members without an answer.
    waiting: usize,
    /// Collage runs that failed already.
    attempts: u32,
    /// When it opened, then when it closed.
    since: Micros,
}

/// All groups whose collage is not launched.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: IdMap<GroupId, Group>,
    /// Takes the next member.
    open: Option<GroupId>,
    /// Closed; waiting for a worker.
    ready: Fifo<GroupId>,
    next: u64,
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds a request to the open group and closes it when it has `tiles` members. Answered members keep their
    /// place, so that nobody waits longer because another's base was quick.
    pub(super) fn join(
        &mut self,
        id: RequestId,
        tiles: usize,
        now: Micros,
        spare: &mut Spare,
    ) -> GroupId {
        let open = match self.open {
            Some(open) => open,
            None => self.insert(Group {
                members: spare.take(),
                waiting: 0,
                attempts: 0,
                since: now,
            }),
        };
        self.open = Some(open);
        if let Some(group) = self.groups.get_mut(&open) {
            group.members.push(id);
            group.waiting += 1;
            if group.members.len() >= tiles {
                self.close(now);
            }
        }
        open
    }

    /// When the open group stops waiting for members.
    pub(super) fn closes_at(&self, wait: Micros) -> Option<Micros> {
        self.groups
            .get(&self.open?)
            .map(|g| g.since.saturating_add(wait))
    }

    /// Whether a group waits for members or for a worker.
    pub(super) fn are_waiting(&self) -> bool {
        self.open.is_some() || self.ready.live() > 0
    }

    /// Whether nobody in the open group waits any more.
    fn is_open_in_vain(&self) -> bool {
        let open = self.open.and_then(|id| self.groups.get(&id));
        open.is_some_and(|group| group.waiting == 0)
    }

    /// Closes the open group; true if nobody in it waits any more, so that it is gone without a collage.
    pub(super) fn close(&mut self, now: Micros) -> bool {
        let Some(id) = self.open.take() else {
            return false;
        };
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        group.since = now;
        if group.waiting == 0 {
            self.groups.remove(&id);
            return true;
        }
        self.ready.push_back(id);
        false
    }

    /// A member was settled; true if it was the last of a closed group, which is gone without a collage.
    pub(super) fn leave(&mut self, id: GroupId) -> bool {
        let Some(group) = self.groups.get_mut(&id) else {
            return false;
        };
        group.waiting -= 1;
        if group.waiting > 0 || self.open == Some(id) {
            return false;
        }
        self.groups.remove(&id);
        self.ready.void(|g| self.groups.contains_key(&g));
        true
    }

    /// A collage failed: its members wait for another, before all other groups.
    pub(super) fn again(&mut self, members: Vec<RequestId>, attempts: u32, now: Micros) -> GroupId {
        let id = self.insert(Group {
            waiting: members.len(),
            members,
            attempts,
            since: now,
        });
        self.ready.push_front(id);
        id
    }

    /// Closed groups, oldest first, with the time since which they wait.
    fn ready_since(&mut self) -> Option<Micros> {
        let front = self.ready.front(|g| self.groups.contains_key(&g))?;
        self.groups.get(&front).map(|g| g.since)
    }

    fn insert(&mut self, group: Group) -> GroupId {
        let id = GroupId(self.next);
        self.next += 1;
        self.groups.insert(id, group);
        id
    }

    /// All members of all groups, which are no more.
    pub(super) fn dissolve(&mut self) -> Vec<RequestId> {
        self.open = None;
        self.ready = Fifo::default();
        let mut members: Vec<_> = std::mem::take(&mut self.groups)
            .into_values()
            .flat_map(|g| g.members)
            .collect();
        members.sort_unstable();
        members
    }
}

impl Scheduler {
    /// Since when the oldest closed group waits, if a worker could take a collage now.
    pub(super) fn collage_due(&mut self) -> Option<Micros> {
        self.free_for_collage(None)?;
        let since = self.groups.ready_since()?;
        let is_lazy = self.config.policy.lazy().is_some();
        (!is_lazy || self.affords(self.config.collage_work)).then_some(since)
    }

    /// The best free worker for a collage, or the next best. In an overload those that base runs wait for are spared.
    fn free_for_collage(&self, mut after: Option<Rank>) -> Option<Rank> {
        let spares = self.is_overloaded();
        for _ in 0..LOOK_AT {
            let rank = self.fleet.next_free(Kind::Collage, after)?;
            if !(spares && self.fleet.can(rank.worker, Kind::Base)) {
                return Some(rank);
            }
            after = Some(rank);
        }
        None
    }

    /// A request that is late waits for the next collage.
    pub(super) fn join_group(&mut self, id: RequestId) {
        let tiles = self.config.tiles.max(1);
        let group = self.groups.join(id, tiles, self.now, &mut self.spare);
        if let Some(request) = self.requests.get_mut(&id) {
            request.backup = Backup::Grouped(group);
        }
    }

    /// Closes the open group if it has waited enough. Of late requests the group stays open as long as no worker is
    /// free for it: others may become late meanwhile.
    pub(super) fn close_group(&mut self) {
        let closes = self.groups.closes_at(self.config.group_wait);
        let due = closes.is_some_and(|at| at <= self.now || self.draining);
        if due
            && (self.config.policy.lazy().is_none()
                || self.groups.is_open_in_vain()
                || self.free_for_collage(None).is_some())
        {
            self.stats.collages_saved += u64::from(self.groups.close(self.now));
        }
    }

    /// Launches the oldest closed group that a free worker may run; false if there is none.
    pub(super) fn launch_collage(&mut self) -> bool {
        if !self.fleet.has_room(Kind::Collage) {
            return false;
        }
        let mut passed = Vec::new(); // groups that must wait for another worker than those free
        let mut launched = false;
        while let Some(id) = self
            .groups
            .ready
            .pop_front(|g| self.groups.groups.contains_key(&g))
        {
            let members = self.waiting_members(id);
            let Some(worker) = self.place_collage(&members) else {
                self.spare.give(members);
                passed.push(id);
                if passed.len() == LOOK_AHEAD {
                    break;
                }
                continue;
            };
            if let Some(group) = self.groups.groups.remove(&id) {
                self.run_collage(worker, members, group.attempts);
                self.spare.give(group.members);
            }
            launched = true;
            break;
        }
        for id in passed.into_iter().rev() {
            self.groups.ready.push_front(id);
        }
        launched
    }

    fn waiting_members(&mut self, id: GroupId) -> Vec<RequestId> {
        let mut waiting = self.spare.take();
        let members = self.groups.groups.get(&id).map_or(&[][..], |g| &g.members);
        let requests = &self.requests;
        waiting.extend(members.iter().filter(|m| requests.contains_key(m)));
        waiting
    }

    fn run_collage(&mut self, worker: WorkerId, ids: Vec<RequestId>, attempts: u32) {
        let job = self.next_job();
        for id in &ids {
            if let Some(request) = self.requests.get_mut(id) {
                request.backup = Backup::Running { job, worker };
            }
        }
        if self.config.policy.lazy().is_some() {
            self.budget.spend(self.config.collage_work);
        }
        self.stats.collage_runs += 1;
        self.stats.collage_tiles += ids.len() as u64;
        self.launch_job(
            job,
            Job {
                cause: Cause::Group,
                worker,
                ids,
                launched_at: self.now,
                attempts,
                cancelled: 0,
            },
        );
    }

    /// The best free worker for these members' collage: on a device that runs none of their bases if there is one,
    /// else any that runs none of their bases itself.
    fn place_collage(&self, members: &[RequestId]) -> Option<WorkerId> {
        let (mut after, mut fallback) = (None, None);
        for _ in 0..LOOK_AT + members.len() {
            let Some(rank) = self.free_for_collage(after) else {
                break;
            };
            after = Some(rank);
            match self.distance(members, rank) {
                Some(Independence::Device) => return Some(rank.worker),
                Some(_) => fallback = fallback.or(Some(rank.worker)),
                None => {}
            }
        }
        fallback
    }

    /// What a collage on this worker would not share with its members' base runs; `None` where it must not run.
    fn distance(&self, members: &[RequestId], rank: Rank) -> Option<Independence> {
        let worker = rank.worker;
        // A member's base is still to be placed, and could then only go where the collage is.
        let corners_base = self.fleet.can(worker, Kind::Base)
            && !self.fleet.another_ready(Kind::Base, worker)
            && self.fleet.another_ready(Kind::Collage, worker);
        let device = self.fleet.device(worker);
        let mut distance = Independence::Device;
        for request in members.iter().filter_map(|m| self.requests.get(m)) {
            if request.copies.on(worker) {
                return None;
            }
            match request.base {
                Base::Running { worker: base, .. } if base == worker => return None,
                Base::Running { worker: base, .. } if self.fleet.device(base) == device => {
                    distance = Independence::Worker;
                }
                Base::Queued if corners_base => return None,
                _ => {}
            }
        }
        Some(distance)
    }
}
