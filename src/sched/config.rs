//! What the scheduler is told once.

use super::accuracy::AccuracyBudget;
use super::event::{Kind, Micros};
use super::health::HealthConfig;
use super::place::{Placement, Role, WorkerConfig};
use super::policy::Policy;
use super::promise::Objective;

/// Settings of a [`Scheduler`](super::Scheduler).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// All workers; ready from the start.
    pub workers: Vec<WorkerConfig>,
    /// Which backups requests get.
    pub policy: Policy,
    /// Grids that a collage may run on: it takes the smallest that holds its members. A group closes when it fills the
    /// largest, or under `collage:auto` one that follows the load. The policy's own grid is the driver's to heed: what
    /// is here counts.
    pub grids: Vec<GridWork>,
    /// Work of one parity run, in base runs of one image.
    pub parity_work: f64,
    /// Most extra work that lateness may ask for (hedges, re-sent requests, lazy collages), in base runs a request.
    pub budget: f64,
    /// Accuracy that may be given up: it sets the release times in the place of those that requests are submitted
    /// with, once base runs have shown how long they take.
    pub accuracy: Option<AccuracyBudget>,
    /// How fast requests are to be answered: it sets the release times in the place of those of `accuracy` and of those
    /// that requests are submitted with, and under a lazy policy when they are late.
    pub objective: Option<Objective>,
    /// A group closes this long after its first member, full or not.
    pub group_wait: Micros,
    /// Most images of a base run.
    pub max_batch: usize,
    /// A request waits this long for others to share its base run. With 0 batches form only while all are busy.
    pub batch_wait: Micros,
    /// Most accepted and unsettled requests.
    pub queue: usize,
    /// A collage answer below this abstains. 0..=1.
    pub min_confidence: f32,
    /// Jobs that a worker may hold: 1 never queues behind a straggler, 2 hides the way to the worker and back.
    pub depth: usize,
    /// Runs that a request's base, and that a group's collage, may use up by failing.
    pub max_attempts: u32,
    /// A worker is retired after this many failures and losses in a row. More than `max_attempts`, so that one
    /// image that fails everywhere cannot retire a worker.
    pub max_failures: u32,
    /// How long a slow or failed worker stays out of favour.
    pub forget: Micros,
    /// How stragglers are told and kept away; `None` leaves all to the order of choice.
    pub health: Option<HealthConfig>,
    /// In which order workers are chosen.
    pub placement: Placement,
    /// While more requests than this wait for each worker that could run them, no worker that could take a base run
    /// takes a backup: redundancy must not deepen an overload.
    pub stand_down: usize,
}

/// A grid of a collage, as far as scheduling goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridWork {
    /// Tiles of its canvas.
    pub tiles: usize,
    /// Work of one run, in base runs of one image.
    pub work: f64,
}

impl GridWork {
    /// So many tiles for so much work.
    pub fn new(tiles: usize, work: f64) -> Self {
        Self { tiles, work }
    }
}

impl Config {
    /// Work of a run with so many slots, in base runs of one image.
    pub fn work(&self, kind: Kind, slots: usize) -> f64 {
        match kind {
            Kind::Base => slots as f64,
            Kind::Collage => self.grid_for(slots).work,
            Kind::Parity => self.parity_work,
        }
    }

    /// The smallest grid that holds so many tiles, else the largest.
    pub(super) fn grid_for(&self, members: usize) -> GridWork {
        let holds = self.grids.iter().filter(|grid| grid.tiles >= members);
        let smallest = holds.min_by_key(|grid| grid.tiles);
        let largest = || self.grids.iter().max_by_key(|grid| grid.tiles);
        let grid = smallest.or_else(largest).copied();
        grid.unwrap_or(GridWork::new(1, 1.0))
    }

    /// Grids in ascending order, one of each number of tiles, one at least.
    pub(super) fn in_order(mut self) -> Self {
        self.grids.retain(|grid| grid.tiles > 0);
        self.grids.sort_by_key(|grid| grid.tiles);
        self.grids.dedup_by_key(|grid| grid.tiles);
        if self.grids.is_empty() {
            self.grids.push(GridWork::new(1, 1.0));
        }
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: vec![WorkerConfig {
                role: Role::Both,
                device: 0,
            }],
            policy: Policy::COLLAGE,
            grids: vec![GridWork::new(9, 1.0)],
            parity_work: 1.0,
            budget: 0.25,
            accuracy: None,
            objective: None,
            group_wait: 5_000,
            max_batch: 8,
            batch_wait: 0,
            queue: 1024,
            min_confidence: 0.5,
            depth: 1,
            max_attempts: 3,
            max_failures: 5,
            forget: 1_000_000,
            health: Some(HealthConfig::default()),
            placement: Placement::Fastest,
            stand_down: 2,
        }
    }
}
