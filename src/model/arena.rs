//! Where values live: intervals of time packed into one stretch of memory.
//!
//! Block after block goes into the smallest gap that holds it, between the blocks that are alive at the same time and
//! placed before it. Which order is best depends on the network, and to try three is cheap: largest first, in order
//! of time, longest-lived first. For the named networks the result is the lower bound, the most that is alive at
//! once; the tests state that, and how far from it other networks may be.

/// A stretch of memory that is wanted from step `from` to step `to`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Elements, alignment included.
    pub len: usize,
    /// The step that writes it first.
    pub from: usize,
    /// The last step that reads or writes it.
    pub to: usize,
}

impl Block {
    /// Whether both are alive at some step.
    pub fn meets(&self, other: &Block) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// What an order sorts by, least first; `!n` puts the greatest n first.
type Key = (usize, usize);

/// Offsets of the blocks, and the length of the arena; `None` when that cannot be counted.
/// Blocks that meet do not overlap. If all lengths are multiples of an alignment, so are the offsets.
pub fn place(blocks: &[Block]) -> Option<(Vec<usize>, usize)> {
    let bound = lower_bound(blocks);
    let mut best: Option<(Vec<usize>, usize)> = None;
    for order in [by_size, by_time, by_life] {
        let placed = place_in_order(blocks, order)?;
        if best.as_ref().is_none_or(|(_, arena)| placed.1 < *arena) {
            best = Some(placed);
        }
        if best.as_ref().is_some_and(|(_, arena)| *arena == bound) {
            break;
        }
    }
    best
}

fn by_size(b: &Block) -> Key {
    (!b.len, b.from)
}

fn by_time(b: &Block) -> Key {
    (b.from, !b.len)
}

fn by_life(b: &Block) -> Key {
    (!b.to.saturating_sub(b.from), !b.len)
}

fn place_in_order(blocks: &[Block], key: fn(&Block) -> Key) -> Option<(Vec<usize>, usize)> {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| key(&blocks[i]));
    let mut offsets = vec![0; blocks.len()];
    let mut arena = 0usize;
    for (done, &i) in order.iter().enumerate() {
        let placed = order[..done]
            .iter()
            .filter(|&&j| blocks[j].meets(&blocks[i]));
        // Every placed block was counted into `arena`, so its end can be.
        let mut occupied: Vec<(usize, usize)> = placed
            .map(|&j| (offsets[j], offsets[j] + blocks[j].len))
            .collect();
        occupied.sort_unstable();
        offsets[i] = best_gap(&occupied, blocks[i].len);
        arena = arena.max(offsets[i].checked_add(blocks[i].len)?);
    }
    Some((offsets, arena))
}

/// Start of the smallest gap of at least `len` between `occupied` (sorted), or their end.
fn best_gap(occupied: &[(usize, usize)], len: usize) -> usize {
    let mut best: Option<(usize, usize)> = None; // (size, start)
    let mut end = 0;
    for &(start, stop) in occupied {
        let gap = start.saturating_sub(end);
        if gap >= len && best.is_none_or(|(size, _)| gap < size) {
            best = Some((gap, end));
        }
        end = end.max(stop);
    }
    best.map_or(end, |(_, start)| start)
}

/// The most elements alive at any one step: no placement needs less.
pub fn lower_bound(blocks: &[Block]) -> usize {
    let alive = |step: usize| {
        let at = blocks.iter().filter(|b| (b.from..=b.to).contains(&step));
        at.fold(0usize, |sum, b| sum.saturating_add(b.len))
    };
    blocks.iter().map(|b| alive(b.from)).max().unwrap_or(0)
}
