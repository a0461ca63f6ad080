//! How long a run takes on a worker: its own time, and what stragglers make of it.

use super::Setup;
use super::measured::{Of, Service};
use crate::sched::{Config, GridWork, Kind, Micros};
use crate::straggler::{Dice, Luck, Own};

/// Where neither service times nor a trace say it, a base run takes this long for each image.
const DEFAULT_US: f64 = 10_000.0;
/// Where own times are drawn, for each worker.
const OWN: u64 = 1 << 62;

/// The machines of one repetition.
pub(super) struct Machines<'a> {
    setup: &'a Setup,
    workers: Vec<Machine>,
    own: Option<Measured<'a>>,
}

/// One worker: the n-th run on it has the same luck whatever else happens.
struct Machine {
    luck: Luck,
    dice: Dice,
}

/// Service times of what this policy runs.
struct Measured<'a> {
    base: Of<'a>,
    /// By tiles of the grid.
    collages: Vec<(usize, Of<'a>)>,
    parity: Of<'a>,
}

impl<'a> Measured<'a> {
    fn new(service: &'a Service, scheduler: &Config) -> Self {
        let collage = |grid: &GridWork| {
            let measured = service.collage(grid.tiles);
            (
                grid.tiles,
                measured.unwrap_or_else(|| service.of_work(grid.work)),
            )
        };
        Self {
            base: service.base(),
            collages: scheduler.grids.iter().map(collage).collect(),
            parity: service.of_work(scheduler.parity_work),
        }
    }

    fn of(&self, kind: Kind, slots: usize) -> (&Of<'a>, usize) {
        let collage = || self.collages.iter().find(|(tiles, _)| *tiles == slots);
        match kind {
            Kind::Base => (&self.base, slots),
            // A collage is launched on one of the scheduler's grids.
            Kind::Collage => (collage().map_or(&self.base, |(_, of)| of), 1),
            Kind::Parity => (&self.parity, 1),
        }
    }
}

impl<'a> Machines<'a> {
    pub(super) fn new(setup: &'a Setup, seed: u64) -> Self {
        let count = setup.scheduler.workers.len();
        let lucks = setup.stragglers.luck(count, seed).into_iter().enumerate();
        let machine = |(i, luck)| Machine {
            luck,
            dice: Dice::new(seed, OWN | i as u64),
        };
        Self {
            setup,
            workers: lucks.map(machine).collect(),
            own: setup
                .service
                .as_ref()
                .map(|s| Measured::new(s, &setup.scheduler)),
        }
    }

    /// Of a run that begins now.
    pub(super) fn time(&mut self, worker: usize, kind: Kind, slots: usize, now: Micros) -> Micros {
        let Machine { luck, dice } = &mut self.workers[worker];
        let work = self.setup.scheduler.work(kind, slots);
        let own = match &self.own {
            None => Own::Assumed(DEFAULT_US * work),
            Some(own) => {
                let (times, images) = own.of(kind, slots);
                Own::Known(times.us(images, dice.uniform()))
            }
        };
        (luck.time(own, work, now).round() as Micros).max(1)
    }
}
