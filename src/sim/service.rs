//! How long a run takes on a worker: its own time, and what stragglers make of it.

use super::Setup;
use super::measured::Of;
use crate::sched::{Kind, Micros};
use crate::straggler::{Dice, Luck, Own};

/// Where neither service times nor a trace say it, a base run takes this long for each image.
const DEFAULT_US: f64 = 10_000.0;
/// Where own times are drawn, for each worker.
const OWN: u64 = 1 << 62;

/// The machines of one repetition.
pub(super) struct Machines<'a> {
    setup: &'a Setup,
    workers: Vec<Machine>,
    /// Service times of the base and of this policy's collage.
    own: Option<[Of<'a>; 2]>,
}

/// One worker: the n-th run on it has the same luck whatever else happens.
struct Machine {
    luck: Luck,
    dice: Dice,
}

impl<'a> Machines<'a> {
    pub(super) fn new(setup: &'a Setup, seed: u64) -> Self {
        let count = setup.scheduler.workers.len();
        let lucks = setup.stragglers.luck(count, seed).into_iter().enumerate();
        let machine = |(i, luck)| Machine {
            luck,
            dice: Dice::new(seed, OWN | i as u64),
        };
        // A policy that does not say its grid is simulated at the paper's.
        let grid = setup.scheduler.policy.grid().unwrap_or((3, 3));
        let service = setup.service.as_ref();
        Self {
            setup,
            workers: lucks.map(machine).collect(),
            own: service.map(|s| [s.base(), s.collage(grid, setup.scheduler.collage_work)]),
        }
    }

    /// Of a run that begins now.
    pub(super) fn time(&mut self, worker: usize, kind: Kind, images: usize, now: Micros) -> Micros {
        let Machine { luck, dice } = &mut self.workers[worker];
        let work = match kind {
            Kind::Base => images as f64,
            Kind::Collage => self.setup.scheduler.collage_work,
        };
        let own = match (&self.own, kind) {
            (None, _) => Own::Assumed(DEFAULT_US * work),
            (Some([base, _]), Kind::Base) => Own::Known(base.us(images, dice.uniform())),
            (Some([_, collage]), Kind::Collage) => Own::Known(collage.us(1, dice.uniform())),
        };
        (luck.time(own, work, now).round() as Micros).max(1)
    }
}
