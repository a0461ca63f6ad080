//! What the scheduler is told once.

use super::accuracy::AccuracyBudget;
use super::event::Micros;
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
    /// Tiles of a collage: a group closes when it has as many members. The policy's own grid is the driver's to
    /// heed: this number counts.
    pub tiles: usize,
    /// Work of one collage run, in base runs of one image.
    pub collage_work: f64,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: vec![WorkerConfig {
                role: Role::Both,
                device: 0,
            }],
            policy: Policy::COLLAGE,
            tiles: 9,
            collage_work: 1.0,
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
