//! Release times and deadlines. Entries of settled requests are not searched for: they are skipped when they come up
//! and swept when they outnumber the live ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::event::{Micros, RequestId};

/// What falls due. Of the same time, releases come first: an answer at the deadline is in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A held answer may be given.
    Release,
    /// The base run counts as late.
    Late,
    /// The request fails.
    Deadline,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) at: Micros,
    pub(super) due: Due,
    pub(super) id: RequestId,
}

/// Earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(super) fn push(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    pub(super) fn first(&self) -> Option<Timer> {
        self.heap.peek().map(|t| t.0)
    }

    pub(super) fn pop(&mut self) -> Option<Timer> {
        self.heap.pop().map(|t| t.0)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn retain(&mut self, mut live: impl FnMut(Timer) -> bool) {
        self.heap.retain(|t| live(t.0));
    }
}
