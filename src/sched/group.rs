//! Groups: the requests that share a collage or a parity, from the first that joins to its launch.

use super::Scheduler;
use super::config::{Config, GridWork};
use super::event::{Independence, Kind, Micros, RequestId, WorkerId};
use super::map::IdMap;
use super::pace::Pace;
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
    size: Size,
    /// When it opened, then when it closed.
    since: Micros,
}

/// How many members a group is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// So many are enough: it closes once a worker could take it.
    target: usize,
    /// No more than these: it closes at once.
    most: usize,
}

impl Size {
    /// Of a new group. Under `collage:auto` the largest grid that is expected to fill while it waits: blank tiles are
    /// work for nobody, and larger grids make fewer runs of the same work.
    fn new(config: &Config, pace: &Pace) -> Size {
        if let Some(members) = config.policy.parity() {
            let (target, most) = (members, members);
            return Size { target, most };
        }
        let tiles = || config.grids.iter().map(|grid| grid.tiles);
        let most = tiles().next_back().unwrap_or(1);
        if !config.policy.is_auto() {
            return Size { target: most, most };
        }
        let expected = pace.expected(config.group_wait).round();
        let filled = tiles().take_while(|&tiles| tiles as f64 <= expected).last();
        let target = filled.or(tiles().next()).unwrap_or(1);
        Size { target, most }
    }
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

    /// Adds a request to the open group, or to a new one of the size that is asked for, and closes it when it is full.
    /// Answered members keep their place, so that nobody waits longer because another's base was quick.
    fn join(
        &mut self,
        id: RequestId,
        size: impl FnOnce() -> Size,
        now: Micros,
        spare: &mut Spare,
    ) -> GroupId {
        let open = self.open.unwrap_or_else(|| {
            let size = size();
            self.insert(Group {
                members: spare.take(),
                waiting: 0,
                attempts: 0,
                size,
                since: now,
            })
        });
        self.open = Some(open);
        if let Some(group) = self.groups.get_mut(&open) {
            group.members.push(id);
            group.waiting += 1;
            if group.members.len() >= group.size.most {
                self.close(now);
            }
        }
        open
    }

    /// Whether the open group has as many members as it waits for.
    fn has_enough(&self) -> bool {
        let open = self.open.and_then(|id| self.groups.get(&id));
        open.is_some_and(|group| group.members.len() >= group.size.target)
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
        let (target, most) = (members.len(), members.len());
        let id = self.insert(Group {
            waiting: members.len(),
            members,
            attempts,
            size: Size { target, most },
            since: now,
        });
        self.ready.push_front(id);
        id
    }

    /// Since when the oldest closed group waits, and how many of its members do.
    fn oldest_ready(&mut self) -> Option<(Micros, usize)> {
        let front = self.ready.front(|g| self.groups.contains_key(&g))?;
        self.groups.get(&front).map(|g| (g.since, g.waiting))
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
        let (since, members) = self.groups.oldest_ready()?;
        self.affords_group(members).then_some(since)
    }

    /// Whether the limit on extra work has room for a group's run; what the policy plans is not charged.
    fn affords_group(&self, members: usize) -> bool {
        let is_lazy = self.config.policy.lazy().is_some();
        !is_lazy || self.affords(self.run_of(members).work)
    }

    /// Slots and work of the run that so many members share.
    fn run_of(&self, members: usize) -> GridWork {
        match self.config.policy.parity() {
            Some(slots) => GridWork::new(slots, self.config.parity_work),
            None => self.config.grid_for(members),
        }
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
        if self.config.policy.is_auto() {
            self.pace.arrived(self.now);
        }
        let size = || Size::new(&self.config, &self.pace);
        let group = self.groups.join(id, size, self.now, &mut self.spare);
        if let Some(request) = self.requests.get_mut(&id) {
            request.backup = Backup::Grouped(group);
        }
    }

    /// Closes the open group if it has waited or gathered enough. Of late requests, and where the grid follows the load,
    /// it stays open as long as no worker is free for it: others may come meanwhile.
    pub(super) fn close_group(&mut self) {
        let closes = self.groups.closes_at(self.config.group_wait);
        let due = closes.is_some_and(|at| at <= self.now || self.draining);
        let policy = self.config.policy;
        if (due || self.groups.has_enough())
            && (!(policy.lazy().is_some() || policy.is_auto())
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
            let worker = self.place_collage(&members);
            let Some(worker) = worker.filter(|_| self.affords_group(members.len())) else {
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
        let run = self.run_of(ids.len());
        if self.config.policy.lazy().is_some() {
            self.budget.spend(run.work);
        }
        self.stats.group_work += run.work;
        let is_parity = self.config.policy.parity().is_some();
        let (runs, members, cause) = match is_parity {
            true => (
                &mut self.stats.parity_runs,
                &mut self.stats.parity_images,
                Cause::Parity,
            ),
            false => (
                &mut self.stats.collage_runs,
                &mut self.stats.collage_tiles,
                Cause::Group,
            ),
        };
        *runs += 1;
        *members += ids.len() as u64;
        let coded = is_parity.then(|| ids.clone());
        let record = Job {
            cause,
            worker,
            ids,
            slots: run.tiles,
            launched_at: self.now,
            attempts,
            cancelled: 0,
        };
        self.launch_job(job, record);
        if let Some(ids) = coded {
            self.start_code(job, worker, run.tiles, &ids);
        }
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
