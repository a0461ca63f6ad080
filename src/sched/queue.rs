//! First in, first out, where most entries leave in order and some become void in the middle.

use std::collections::VecDeque;

/// A queue whose void entries are skipped when they come up, and swept when they outnumber the live ones. Who knows
/// which are live is the caller; the queue keeps count.
#[derive(Debug)]
pub(super) struct Fifo<T> {
    entries: VecDeque<T>,
    live: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            live: 0,
        }
    }
}

impl<T: Copy> Fifo<T> {
    /// Entries that are not void.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Entries held in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push_back(&mut self, entry: T) {
        self.entries.push_back(entry);
        self.live += 1;
    }

    pub(super) fn push_front(&mut self, entry: T) {
        self.entries.push_front(entry);
        self.live += 1;
    }

    /// One entry became void where it stands.
    pub(super) fn void(&mut self, is_live: impl Fn(T) -> bool) {
        self.live -= 1;
        if self.entries.len() > 2 * self.live + 32 {
            self.entries.retain(|&e| is_live(e));
        }
    }

    /// The first live entry; void ones before it are dropped.
    pub(super) fn front(&mut self, is_live: impl Fn(T) -> bool) -> Option<T> {
        while let Some(&entry) = self.entries.front() {
            if is_live(entry) {
                return Some(entry);
            }
            self.entries.pop_front();
        }
        None
    }

    /// Takes the first live entry.
    pub(super) fn pop_front(&mut self, is_live: impl Fn(T) -> bool) -> Option<T> {
        let entry = self.front(is_live)?;
        self.entries.pop_front();
        self.live -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn void_entries_do_not_pile_up() {
        let mut fifo = Fifo::default();
        for i in 0..10_000u32 {
            fifo.push_back(i);
            if i >= 10 {
                fifo.void(|e| e + 10 > i); // only the last ten are live
            }
        }
        assert_eq!(fifo.live(), 10);
        assert!(fifo.held() <= 64, "{}", fifo.held());
        assert_eq!(fifo.pop_front(|e| e > 9_989), Some(9_990));
    }
}
