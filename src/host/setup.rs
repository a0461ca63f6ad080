//! What a host is made of: the plans that workers run, where, and by which rules; and whether that can be.

use std::sync::Arc;
use std::time::Duration;

use super::clock::micros;
use super::results::Head;
use super::{Error, Restart};
use crate::backend::Device;
use crate::model::plan::Plan;
use crate::sched::{self, AccuracyBudget, GridWork, Objective, Policy, Role, WorkerConfig};
use crate::straggler::Straggler;

/// The plans that workers run. They end with `top_k`, but where answers are decoded the base's and the parity's end with
/// logits.
#[derive(Clone, Debug, Default)]
pub struct Plans {
    /// The base model at several batch sizes. A batch runs on the smallest that holds it.
    pub base: Vec<Arc<Plan>>,
    /// The collage network, one canvas a run, of each grid that it may run on: a collage runs on the smallest that holds
    /// it.
    pub collage: Vec<Arc<Plan>>,
    /// Where answers are decoded.
    pub parity: Option<Parity>,
}

/// How answers are decoded.
#[derive(Clone, Debug)]
pub struct Parity {
    /// From the images of a group to the logits of their mean.
    pub plan: Arc<Plan>,
    /// Of the base, whose answers are decoded.
    pub head: Head,
}

impl Plans {
    /// Most images of a base run.
    pub fn max_batch(&self) -> usize {
        self.base
            .iter()
            .map(|plan| plan.capacity())
            .max()
            .unwrap_or(0)
    }

    /// Multiply-accumulates of one run of a plan over those of a base run of one image; 1 where they are not known.
    pub fn work(&self, plan: &Plan) -> f64 {
        let macs = |plan: &Plan| plan.steps.iter().map(|step| plan.macs(step)).sum::<u64>() as f64;
        let base = self
            .base
            .first()
            .map(|p| macs(p) / p.capacity().max(1) as f64);
        let ratio = base.map(|base| macs(plan) / base);
        ratio.filter(|r| r.is_finite() && *r > 0.0).unwrap_or(1.0)
    }

    /// Most tiles of a canvas; 0 without a collage.
    pub fn tiles(&self) -> usize {
        let tiles = self.collage.iter().map(|plan| plan.capacity());
        tiles.max().unwrap_or(0)
    }

    /// The grids of the collage's plans, as the scheduler needs to know them.
    pub fn grids(&self) -> Vec<GridWork> {
        let grid = |plan: &Arc<Plan>| GridWork::new(plan.capacity(), self.work(plan));
        self.collage.iter().map(grid).collect()
    }
}

/// Everything that a host is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What runs.
    pub plans: Plans,
    /// Where; workers are dealt over them in turn. Two handles of one device count as one device.
    pub devices: Vec<Arc<dyn Device>>,
    /// Workers for base runs: the first indices.
    pub base_workers: usize,
    /// Workers for collages, or for parities: the indices after them. With 0, the base workers run those too.
    pub collage_workers: usize,
    /// Which backups requests get. A collage policy's own grid is not read here: the plan has its tiles.
    pub policy: Policy,
    /// Most extra work that lateness may ask for (hedges, re-sent requests, lazy collages), in base runs a request.
    pub budget: f64,
    /// Accuracy that may be given up; it sets the release times once base runs have shown how long they take.
    pub accuracy: Option<AccuracyBudget>,
    /// How fast requests are to be answered; it sets the release times.
    pub objective: Option<Objective>,
    /// Most accepted and unanswered requests.
    pub queue: usize,
    /// How long a request waits for others to share its base run.
    pub batch_wait: Duration,
    /// How long a group waits for more members.
    pub group_wait: Duration,
    /// After submission: from then on a collage may answer.
    pub release: Duration,
    /// After submission: answered by then or failed.
    pub deadline: Duration,
    /// A collage answer below this abstains.
    pub min_confidence: f32,
    /// Injected stragglers; their traces are read at the start.
    pub stragglers: Vec<Straggler>,
    /// Of the injected stragglers' draws.
    pub seed: u64,
    /// How lost workers are brought back.
    pub restart: Restart,
    /// Whether NVIDIA GPUs are asked how they are, where they can be, for their workers' health.
    pub telemetry: bool,
}

impl Setup {
    /// One base worker on one device, and one for the collage where there is one, with settings for runs of a few
    /// milliseconds.
    pub fn new(plans: Plans, device: Arc<dyn Device>) -> Self {
        let backed = !plans.collage.is_empty();
        Self {
            plans,
            devices: vec![device],
            base_workers: 1,
            collage_workers: usize::from(backed),
            policy: if backed {
                Policy::COLLAGE
            } else {
                Policy::None
            },
            budget: sched::Config::default().budget,
            accuracy: None,
            objective: None,
            queue: 1024,
            batch_wait: Duration::ZERO,
            group_wait: Duration::from_millis(5),
            release: Duration::from_millis(20),
            deadline: Duration::from_secs(1),
            min_confidence: 0.5,
            stragglers: Vec::new(),
            seed: 0,
            restart: Restart::default(),
            telemetry: true,
        }
    }

    /// The workers, in order of their indices.
    pub(super) fn workers(&self) -> Result<Vec<WorkerConfig>, Error> {
        let policy = self.policy;
        let backed = policy.uses_groups();
        let runs = self.policy.runs();
        let devices = self.devices.len();
        if devices == 0 {
            return Err(Error::option("devices", "none", "one at least"));
        } else if self.base_workers == 0 {
            return Err(Error::option("base_workers", "0", "1 at least"));
        } else if self.plans.max_batch() == 0 {
            return Err(Error::option("plans", "no base plan", "one at least"));
        } else if policy.uses_collage() && self.plans.tiles() == 0 {
            return Err(Error::option(
                "policy",
                self.policy.to_string(),
                "none, as there is no collage model",
            ));
        } else if let Some(members) = policy.parity()
            && self.plans.parity.as_ref().map(|p| p.plan.capacity()) != Some(members)
        {
            let expected = format!("a parity model, on {members} images");
            return Err(Error::option("policy", policy.to_string(), expected));
        } else if self.base_workers < runs {
            let expected = format!("{runs} at least for the policy {}", self.policy);
            let given = self.base_workers.to_string();
            return Err(Error::option("base_workers", given, expected));
        } else if !(0.0..=f64::MAX).contains(&self.budget) {
            let expected = "base runs a request, 0 or more";
            return Err(Error::option("budget", self.budget.to_string(), expected));
        } else if let Some(AccuracyBudget { budget, drop }) = self.accuracy
            && !((0.0..=1.0).contains(&budget) && (0.0..=1.0).contains(&drop))
        {
            let given = format!("{budget} at a drop of {drop}");
            return Err(Error::option("accuracy", given, "shares from 0 to 1"));
        } else if let Some(objective) = self.objective
            && !((0.5..1.0).contains(&objective.quantile)
                && (Duration::from_micros(1)..=self.deadline).contains(&objective.latency))
        {
            let expected = format!(
                "a quantile from 0.5 to less than 1, and a time up to the deadline, {:?}",
                self.deadline
            );
            return Err(Error::option("objective", objective.to_string(), expected));
        } else if self.queue == 0 {
            return Err(Error::option("queue", "0", "1 at least"));
        } else if !(0.0..=1.0).contains(&self.min_confidence) {
            return Err(Error::option(
                "min_confidence",
                self.min_confidence.to_string(),
                "a share from 0 to 1",
            ));
        }
        let collage_workers = if backed { self.collage_workers } else { 0 };
        let base = if backed && collage_workers == 0 {
            Role::Both
        } else {
            Role::Base
        };
        let roles = std::iter::repeat_n(base, self.base_workers)
            .chain(std::iter::repeat_n(Role::Collage, collage_workers));
        let handles = roles.enumerate().map(|(i, role)| (i % devices, role));
        let workers: Vec<_> = handles
            .map(|(handle, role)| WorkerConfig {
                role,
                device: self.device_of(handle),
            })
            .collect();
        if let Some(s) = self.stragglers.iter().find(|s| {
            s.worker()
                .is_some_and(|w| w >= self.base_workers + self.collage_workers)
        }) {
            let expected = format!("a worker from 0 to {}", workers.len() - 1);
            return Err(Error::option("stragglers", s.to_string(), expected));
        }
        Ok(workers)
    }

    /// The first handle of the same device: what fails with it.
    pub(super) fn device_of(&self, handle: usize) -> usize {
        let name = |device: &Arc<dyn Device>| (device.info().backend, device.info().index);
        let own = self.devices.get(handle).map(name);
        let same = self.devices.iter().position(|d| Some(name(d)) == own);
        same.unwrap_or(handle)
    }

    pub(super) fn scheduling(&self, workers: Vec<WorkerConfig>) -> sched::Config {
        sched::Config {
            workers,
            policy: self.policy,
            grids: self.plans.grids(),
            parity_work: (self.plans.parity.as_ref()).map_or(1.0, |p| self.plans.work(&p.plan)),
            budget: self.budget,
            accuracy: self.accuracy,
            objective: self.objective,
            group_wait: micros(self.group_wait),
            max_batch: self.plans.max_batch(),
            batch_wait: micros(self.batch_wait),
            queue: self.queue,
            min_confidence: self.min_confidence,
            ..sched::Config::default()
        }
    }
}
