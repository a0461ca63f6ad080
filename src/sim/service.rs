//! How long a run takes on a worker: a draw from the trace, times the run's work, and what stragglers add.

use super::trace::Draw;
use super::{Dice, Setup};
use crate::sched::{Kind, Micros};

/// Without a trace every base run takes this long.
const DEFAULT_US: f64 = 10_000.0;

/// The machines of one repetition.
pub(super) struct Machines<'a> {
    setup: &'a Setup,
    /// Each worker's own times in seconds, and its own dice: the n-th run on a worker has the same luck whatever else
    /// happens.
    workers: Vec<(Option<&'a [f64]>, Dice)>,
}

impl<'a> Machines<'a> {
    pub(super) fn new(setup: &'a Setup, seed: u64) -> Self {
        let count = setup.scheduler.workers.len();
        let chosen = choose(setup, count, &mut Dice::new(seed, 1));
        let workers =
            (0..count).map(|i| (chosen.get(i).copied(), Dice::new(seed, 1_000 + i as u64)));
        Self {
            setup,
            workers: workers.collect(),
        }
    }

    /// Of a run that begins now.
    pub(super) fn time(&mut self, worker: usize, kind: Kind, slots: usize, now: Micros) -> Micros {
        let (times, dice) = &mut self.workers[worker];
        let seconds = times.and_then(|times| times.get(dice.below(times.len())));
        let draw = seconds.map_or(DEFAULT_US, |seconds| seconds * 1e6);
        let work = self.setup.scheduler.work(kind, slots);
        let stragglers = self.setup.stragglers.iter();
        let time = stragglers.fold(draw * work, |time, s| s.apply(time, worker, now, dice));
        (time.round() as Micros).max(1)
    }
}

/// Each worker's times.
fn choose<'a>(setup: &'a Setup, workers: usize, dice: &mut Dice) -> Vec<&'a [f64]> {
    let Some(trace) = &setup.trace else {
        return Vec::new();
    };
    let Draw::Machines {
        count,
        with,
        without,
    } = trace.draw
    else {
        return vec![&trace.seconds[..]; workers];
    };
    let pool = |other: Option<usize>| {
        let others = (0..count).filter(move |m| Some(m + 1) != without && Some(m + 1) != other);
        others.collect::<Vec<_>>()
    };
    let mut chosen: Vec<usize> = with.map(|m| m - 1).into_iter().collect();
    while chosen.len() < workers {
        // Distinct machines as long as there are any left; then all over again.
        let mut pool = pool(with.filter(|_| chosen.len() == 1));
        if pool.is_empty() {
            pool = vec![0];
        }
        shuffle(&mut pool, dice);
        pool.truncate(workers - chosen.len());
        chosen.extend(pool);
    }
    shuffle(&mut chosen, dice);
    chosen.iter().map(|&m| trace.machine(m, count)).collect()
}

fn shuffle(items: &mut [usize], dice: &mut Dice) {
    for i in (1..items.len()).rev() {
        items.swap(i, dice.below(i + 1));
    }
}
