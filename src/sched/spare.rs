//! Lists of ids that are empty and have room: a launch takes some and gives them back, so that a scheduler that has been
//! running for a while needs no new memory for them.

use super::event::RequestId;

/// Most lists that are kept, and most ids that one may have room for: a burst must not be paid for ever.
const KEPT: usize = 4096;
const LARGEST: usize = 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Spare {
    lists: Vec<Vec<RequestId>>,
}

impl Spare {
    /// An empty list.
    pub(super) fn take(&mut self) -> Vec<RequestId> {
        self.lists.pop().unwrap_or_default()
    }

    /// A list that is not needed any more, whatever it holds.
    pub(super) fn give(&mut self, mut list: Vec<RequestId>) {
        if self.lists.len() < KEPT && (1..=LARGEST).contains(&list.capacity()) {
            list.clear();
            self.lists.push(list);
        }
    }
}
