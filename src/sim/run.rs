//! One simulation: arrivals, the ends of runs and the scheduler's timeouts, in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::report::{Outcome, Tally};
use super::service::Machines;
use super::{Arrivals, Setup};
use crate::sched::{
    Action, Answer, Error, Event, JobId, Micros, RequestId, Scheduler, Stats, WorkerId,
};
use crate::straggler::{Dice, LOTS, StragglerError, repetition};

/// Where arrivals are drawn.
const ARRIVALS: u64 = 3;

/// When the groups of the first repetition arrive; empty for a closed loop, where it depends on the answers.
pub fn arrivals(setup: &Setup) -> Vec<Micros> {
    let mut dice = Dice::new(repetition(setup.seed, 0), ARRIVALS);
    let mut next = Some(0);
    let mut times = Vec::new();
    while let Some(now) = next.filter(|_| times.len() < setup.groups) {
        times.push(now);
        next = after(setup, now, &mut dice);
    }
    if matches!(setup.arrivals, Arrivals::Closed(_)) {
        times.clear();
    }
    times
}

/// When the group after one that arrives now does, where that does not depend on answers.
fn after(setup: &Setup, now: Micros, dice: &mut Dice) -> Option<Micros> {
    let gap = |requests_a_second: f64| setup.burst.max(1) as f64 * 1e6 / requests_a_second;
    let wait = match setup.arrivals {
        Arrivals::Poisson(rate) => -(1.0 - dice.uniform()).ln() * gap(rate),
        Arrivals::Even(rate) => gap(rate),
        Arrivals::Closed(_) => return None,
    };
    Some(now.saturating_add(wait.round() as Micros))
}

/// Runs it: all repetitions, their figures pooled.
///
/// # Errors
/// [`StragglerError::NeedsDevice`] if a straggler is real work, which virtual time cannot have.
pub fn run(setup: &Setup) -> Result<Outcome, StragglerError> {
    setup.stragglers.without_device()?;
    let mut whole = Tally::default();
    let mut steady = Tally::default();
    for repeat in 0..setup.repeats {
        let seed = repetition(setup.seed, repeat as u64);
        let mut one = One::new(setup, seed, &mut whole, &mut steady);
        one.run();
        let (stats, learnt) = (one.scheduler.stats(), one.learnt);
        whole.account(&stats, &Stats::default());
        steady.account(&stats, &learnt.unwrap_or_default());
    }
    Ok(Outcome::new(setup, whole, steady))
}

/// A group while it waits.
#[derive(Clone, Copy)]
struct Group {
    submitted: Micros,
    left: u32,
    slowest: Micros,
}

/// One repetition.
struct One<'a> {
    setup: &'a Setup,
    scheduler: Scheduler,
    machines: Machines<'a>,
    dice: Dice,
    now: Micros,
    /// Ends of runs.
    ends: BinaryHeap<Reverse<(Micros, JobId, WorkerId, usize)>>,
    /// In order of arrival.
    groups: Vec<Group>,
    /// When the next group arrives; in a closed loop those that may come at once.
    next_at: Option<Micros>,
    whole: &'a mut Tally,
    steady: &'a mut Tally,
    /// Counts at the end of the warm-up.
    learnt: Option<Stats>,
}

impl<'a> One<'a> {
    fn new(setup: &'a Setup, seed: u64, whole: &'a mut Tally, steady: &'a mut Tally) -> Self {
        let mut config = setup.scheduler.clone();
        if let crate::sched::Placement::Random { seed: lots } = &mut config.placement {
            *lots = Dice::new(seed, LOTS).next();
        }
        Self {
            setup,
            scheduler: Scheduler::new(config),
            machines: Machines::new(setup, seed),
            dice: Dice::new(seed, ARRIVALS),
            now: 0,
            ends: BinaryHeap::new(),
            groups: Vec::new(),
            next_at: Some(0),
            whole,
            steady,
            learnt: (setup.warm_up == 0).then(Stats::default),
        }
    }

    fn run(&mut self) {
        loop {
            let end = self.ends.peek().map(|Reverse((at, ..))| *at);
            let arrival = self
                .next_at
                .filter(|_| self.groups.len() < self.setup.groups);
            let timeout = self.scheduler.poll_timeout();
            let Some(next) = [end, arrival, timeout].into_iter().flatten().min() else {
                return;
            };
            self.now = self.now.max(next);
            if end == Some(next) {
                self.end();
            } else if arrival == Some(next) {
                self.arrive();
            } else {
                self.handle(Event::Tick);
            }
        }
    }

    fn end(&mut self) {
        let Some(Reverse((_, job, worker, images))) = self.ends.pop() else {
            return;
        };
        let confidences = vec![1.0; images];
        self.handle(Event::Done {
            worker,
            job,
            confidences,
        });
    }

    fn arrive(&mut self) {
        let burst = self.setup.burst.max(1);
        if self.groups.len() == self.setup.warm_up && self.learnt.is_none() {
            self.learnt = Some(self.scheduler.stats());
        }
        let first = self.groups.len() * burst;
        self.groups.push(Group {
            submitted: self.now,
            left: burst as u32,
            slowest: 0,
        });
        self.next_at = match self.setup.arrivals {
            Arrivals::Closed(most) => (self.groups.len() < most).then_some(self.now),
            _ => after(self.setup, self.now, &mut self.dice),
        };
        for id in first..first + burst {
            self.handle(Event::Submit {
                id: RequestId(id as u64),
                release_at: self.now.saturating_add(self.setup.release),
                deadline_at: self.now.saturating_add(self.setup.deadline),
            });
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
                    slots,
                } => {
                    let time = self.machines.time(worker.0, kind, slots, self.now);
                    let at = self.now.saturating_add(time);
                    self.ends.push(Reverse((at, job, worker, ids.len())));
                    self.scheduler.recycle(ids);
                }
                Action::Settle { id, outcome } => self.settle(id, outcome),
                Action::Decode { .. } | Action::Forget { .. } | Action::Retire { .. } => {}
            }
        }
    }

    fn settle(&mut self, id: RequestId, outcome: Result<Answer, Error>) {
        let index = id.0 as usize / self.setup.burst.max(1);
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        // One that failed waited for its deadline.
        let waited = match outcome {
            Ok(_) => self.now - group.submitted,
            Err(_) => self.setup.deadline,
        };
        group.left -= 1;
        group.slowest = group.slowest.max(waited);
        let done = (group.left == 0).then_some(group.slowest);
        self.whole.record(waited, done);
        if index >= self.setup.warm_up {
            self.steady.record(waited, done);
        }
        if done.is_some() && matches!(self.setup.arrivals, Arrivals::Closed(_)) {
            self.next_at = Some(self.now);
        }
    }
}
