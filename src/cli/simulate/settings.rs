//! The settings of a simulation: flags over one TOML file over defaults.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use collage::config::duration;
use collage::model::plan::Grid;
use collage::sched::{
    AccuracyBudget, Config, GridWork, HealthConfig, Objective, ObjectiveError, Placement, Policy,
    Role, Tiling, WorkerConfig,
};
use collage::sim::{Arrivals, Service, Setup};
use collage::straggler::{Straggler, Stragglers};
use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;

/// All of them are optional, so that the file's stand behind the flags'. Texts are kept as they were written.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[allow(rustdoc::broken_intra_doc_links)] // clap prints these docs as help: brackets are syntax, not links
pub struct Settings {
    /// Policies to compare [default: none,replicate:2,hedge:p95,collage:3x3,collage:3x3:lazy,small]
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    policies: Option<Vec<String>>,
    /// Workers for base runs, which run the collages too if there are no workers for those [default: 10]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Workers for collages; a policy without collages has them as further workers for base runs [default: 0]
    #[arg(long, value_name = "N")]
    collage_workers: Option<usize>,
    /// Tiles of the canvas, where the policy does not say them [default: 3x3]
    #[arg(long, value_name = "RxC")]
    grid: Option<Grid>,
    /// Requests of each policy, all repetitions together [default: 100000]
    #[arg(long, value_name = "N")]
    requests: Option<usize>,
    /// Requests that arrive together: a group [default: 1]
    #[arg(long, value_name = "N")]
    burst: Option<usize>,
    /// Requests a second, arriving by a Poisson process of groups [default: half of what the workers can]
    #[arg(long, value_name = "N", conflicts_with = "closed")]
    rate: Option<f64>,
    /// Groups arrive evenly instead
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", requires = "rate")]
    even: Option<bool>,
    /// Instead of a rate: so many groups at a time, each followed by the next
    #[arg(long, value_name = "N")]
    closed: Option<usize>,
    /// From this long after its arrival a backup may answer a request [default: 20ms]
    #[arg(long, value_name = "TIME")]
    release: Option<String>,
    /// A request is answered this long after its arrival, or fails [default: 60s]
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// How long a group waits for members before its collage runs with blank tiles [default: 5ms]
    #[arg(long, value_name = "TIME")]
    group_wait: Option<String>,
    /// How long a request waits for others to share its base run [default: 0ms]
    #[arg(long, value_name = "TIME")]
    batch_wait: Option<String>,
    /// Most images of a base run [default: 1]
    #[arg(long, value_name = "N")]
    max_batch: Option<usize>,
    /// Most accepted and unanswered requests; beyond, they fail as overloaded [default: no limit]
    #[arg(long, value_name = "N")]
    queue: Option<usize>,
    /// Service times: what `collage bench engine --json` wrote, see below
    #[arg(long, value_name = "FILE.json")]
    service: Option<String>,
    /// What makes workers slower, see below; repeats
    #[arg(long, value_name = "STRAGGLER", value_delimiter = ',')]
    stragglers: Option<Vec<String>>,
    /// Work of one tile of the collage network over that of a base run [default: that of --service, or else 0.1111, so that
    /// 3x3 costs one run]
    #[arg(long, value_name = "SHARE")]
    tile_work: Option<f64>,
    /// Grids of collage:auto; of a collage of fixed size those that a partial group may run on, if they are smaller
    /// [default: 1x1,2x2,3x3 for collage:auto]
    #[arg(long, value_name = "RxC", value_delimiter = ',')]
    grids: Option<Vec<String>>,
    /// Work of a run of the parity model over that of a base run [default: 1]
    #[arg(long, value_name = "SHARE")]
    parity_work: Option<f64>,
    /// Most hedges, re-sent requests and lazy collages, as a share of the base runs' work [default: 0.25]
    #[arg(long, value_name = "SHARE")]
    budget: Option<f64>,
    /// Accuracy that may be lost, such as 0.001: release times follow from it and from --accuracy-drop
    #[arg(long, value_name = "SHARE", requires = "accuracy_drop")]
    accuracy_budget: Option<f64>,
    /// How much less accurate a collage's answer is than the base's, such as 0.05
    #[arg(long, value_name = "SHARE")]
    accuracy_drop: Option<f64>,
    /// How fast requests are to be answered, such as p99=250ms: release times follow from it
    #[arg(long, value_name = "pXX=TIME")]
    objective: Option<String>,
    /// Tell stragglers by their times and keep them from requests [default: true]
    #[arg(long, value_name = "BOOL")]
    health: Option<bool>,
    /// Choose workers by lot, as a client does that knows nothing of them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    random: Option<bool>,
    /// A worker runs all that it is given at once, as if runs never waited for each other
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    no_queueing: Option<bool>,
    /// First groups of each repetition that are reported apart [default: 0]
    #[arg(long, value_name = "GROUPS")]
    warm_up: Option<usize>,
    /// Repetitions, each with a fresh scheduler and other machines of the trace; their figures are pooled [default: 1]
    #[arg(long, value_name = "N")]
    repeats: Option<usize>,
    /// Of all that is drawn [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// What says how long runs take.
struct Times {
    service: Option<Service>,
    stragglers: Stragglers,
}

const POLICIES: [&str; 6] = [
    "none",
    "replicate:2",
    "hedge:p95",
    "collage:3x3",
    "collage:3x3:lazy",
    "small",
];

impl Settings {
    /// These, and the file's where these say nothing.
    pub fn over(self, file: Option<&Path>) -> Result<Settings, Failure> {
        let Some(path) = file else {
            return Ok(self);
        };
        let wrong = |what: String| Failure::usage(format!("--config {}: {what}", path.display()));
        let text =
            std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        let next: Settings = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        Ok(Settings {
            policies: self.policies.or(next.policies),
            workers: self.workers.or(next.workers),
            collage_workers: self.collage_workers.or(next.collage_workers),
            grid: self.grid.or(next.grid),
            requests: self.requests.or(next.requests),
            burst: self.burst.or(next.burst),
            rate: self.rate.or(next.rate.filter(|_| self.closed.is_none())),
            even: self.even.or(next.even),
            closed: self.closed.or(next.closed.filter(|_| self.rate.is_none())),
            release: self.release.or(next.release),
            deadline: self.deadline.or(next.deadline),
            group_wait: self.group_wait.or(next.group_wait),
            batch_wait: self.batch_wait.or(next.batch_wait),
            max_batch: self.max_batch.or(next.max_batch),
            queue: self.queue.or(next.queue),
            service: self.service.or(next.service),
            stragglers: self.stragglers.or(next.stragglers),
            tile_work: self.tile_work.or(next.tile_work),
            grids: self.grids.or(next.grids),
            parity_work: self.parity_work.or(next.parity_work),
            budget: self.budget.or(next.budget),
            accuracy_budget: self.accuracy_budget.or(next.accuracy_budget),
            accuracy_drop: self.accuracy_drop.or(next.accuracy_drop),
            objective: self.objective.or(next.objective),
            health: self.health.or(next.health),
            random: self.random.or(next.random),
            no_queueing: self.no_queueing.or(next.no_queueing),
            warm_up: self.warm_up.or(next.warm_up),
            repeats: self.repeats.or(next.repeats),
            seed: self.seed.or(next.seed),
        })
    }

    /// Requests that arrive together.
    pub fn burst(&self) -> usize {
        self.burst.unwrap_or(1)
    }

    /// All workers.
    pub fn all_workers(&self) -> usize {
        self.workers.unwrap_or(10) + self.collage_workers.unwrap_or(0)
    }

    /// Of all that is drawn.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// First groups of each repetition that are reported apart.
    pub fn warm_up(&self) -> usize {
        self.warm_up.unwrap_or(0)
    }

    /// One simulation for each policy.
    pub fn setups(&self) -> Result<Vec<Setup>, Failure> {
        let times = Times {
            service: self.service.as_deref().map(Service::read).transpose()?,
            stragglers: self.stragglers()?,
        };
        let policies = match &self.policies {
            Some(policies) => policies.clone(),
            None => POLICIES.map(String::from).to_vec(),
        };
        let policies = policies.iter().map(|text| {
            let policy = text.parse::<Policy>();
            let policy = policy.map_err(|e| Failure::usage(format!("--policies: {e}")))?;
            Ok::<_, Failure>(self.on_grid(policy))
        });
        policies.map(|policy| self.setup(policy?, &times)).collect()
    }

    /// The policy, on `--grid` if it does not say its own.
    fn on_grid(&self, mut policy: Policy) -> Policy {
        if let (Policy::Collage { grid, .. }, Some(given)) = (&mut policy, self.grid)
            && *grid == Tiling::Own
        {
            *grid = Tiling::Grid(given.rows, given.cols);
        }
        policy
    }

    fn stragglers(&self) -> Result<Stragglers, Failure> {
        let texts = self.stragglers.iter().flatten();
        let described: Vec<Straggler> = texts.map(|s| s.parse()).collect::<Result<_, _>>()?;
        let beyond = described
            .iter()
            .find(|s| s.worker().is_some_and(|w| w >= self.all_workers()));
        if let Some(straggler) = beyond {
            let last = self.all_workers() - 1;
            return Err(Failure::usage(format!(
                "--stragglers {straggler}: workers are 0 to {last}"
            )));
        }
        let stragglers = Stragglers::open(&described)?;
        stragglers.without_device()?;
        Ok(stragglers)
    }

    fn setup(&self, policy: Policy, times: &Times) -> Result<Setup, Failure> {
        let burst = within("--burst", self.burst(), 1, 10_000)?;
        let repeats = within("--repeats", self.repeats.unwrap_or(1), 1, 10_000_000)?;
        let requests = within(
            "--requests",
            self.requests.unwrap_or(100_000),
            1,
            100_000_000,
        )?;
        let groups = requests.div_ceil(burst).div_ceil(repeats);
        let warm_up = within("--warm-up", self.warm_up(), 0, groups - 1)?;
        let scheduler = self.scheduler(policy, times)?;
        Ok(Setup {
            scheduler,
            arrivals: self.arrivals(times)?,
            burst,
            groups,
            warm_up,
            repeats,
            release: time("--release", &self.release, "20ms")?,
            deadline: time("--deadline", &self.deadline, "60s")?,
            service: times.service.clone(),
            stragglers: times.stragglers.clone(),
            seed: self.seed(),
        })
    }

    fn scheduler(&self, policy: Policy, times: &Times) -> Result<Config, Failure> {
        let base = within("--workers", self.workers.unwrap_or(10), 1, 100_000)?;
        let own = within(
            "--collage-workers",
            self.collage_workers.unwrap_or(0),
            0,
            100_000,
        )?;
        if base + own < policy.runs() {
            let least = policy.runs();
            return Err(Failure::usage(format!(
                "--workers: {policy} needs {least} at least"
            )));
        }
        let (base_role, own_role) = match (policy.uses_groups(), own) {
            (false, _) => (Role::Base, Role::Base),
            (true, 0) => (Role::Both, Role::Both),
            (true, _) => (Role::Base, Role::Collage),
        };
        let roles = std::iter::repeat_n(base_role, base).chain(std::iter::repeat_n(own_role, own));
        // Every worker is a machine of its own.
        let workers = roles
            .enumerate()
            .map(|(device, role)| WorkerConfig { role, device });
        let budget = self.budget.unwrap_or(Config::default().budget);
        Ok(Config {
            workers: workers.collect(),
            policy,
            grids: self.grids(policy, times)?,
            parity_work: positive("--parity-work", self.parity_work.unwrap_or(1.0))?,
            budget: if budget == 0.0 {
                0.0
            } else {
                positive("--budget", budget)?
            },
            accuracy: self.accuracy()?,
            objective: self.objective()?,
            group_wait: time("--group-wait", &self.group_wait, "5ms")?,
            max_batch: within("--max-batch", self.max_batch.unwrap_or(1), 1, 4096)?,
            batch_wait: time("--batch-wait", &self.batch_wait, "0ms")?,
            queue: within("--queue", self.queue.unwrap_or(usize::MAX), 1, usize::MAX)?,
            depth: if self.no_queueing == Some(true) {
                usize::MAX
            } else {
                1
            },
            health: self.health.unwrap_or(true).then(HealthConfig::default),
            placement: match self.random {
                Some(true) => Placement::Random { seed: 0 },
                _ => Placement::Fastest,
            },
            ..Config::default()
        })
    }

    /// Grids that the policy's collages may run on, with their work.
    fn grids(&self, policy: Policy, times: &Times) -> Result<Vec<GridWork>, Failure> {
        let given = self.grids.iter().flatten().map(|text| {
            let grid: Result<Grid, _> = text.parse();
            grid.map_err(|e| Failure::usage(format!("--grids {text}: {e}")))
        });
        let mut tiles = given
            .map(|grid| grid.map(Grid::tiles))
            .collect::<Result<Vec<_>, _>>()?;
        if !policy.is_auto() {
            let (rows, cols) = policy.grid().unwrap_or((3, 3));
            tiles.retain(|&tiles| tiles < rows * cols);
            tiles.push(rows * cols);
        } else if tiles.is_empty() {
            tiles = vec![1, 4, 9];
        }
        let work = |tiles: usize| {
            let measured = times.service.as_ref().and_then(|s| s.tile_work(tiles));
            let tile_work = self.tile_work.or(measured).unwrap_or(1.0 / 9.0);
            let tile_work = positive("--tile-work", tile_work)?;
            Ok(GridWork::new(tiles, tile_work * tiles as f64))
        };
        tiles.into_iter().map(work).collect()
    }

    fn accuracy(&self) -> Result<Option<AccuracyBudget>, Failure> {
        let (Some(budget), Some(drop)) = (self.accuracy_budget, self.accuracy_drop) else {
            return Ok(None);
        };
        for (flag, share) in [("--accuracy-budget", budget), ("--accuracy-drop", drop)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Failure::usage(format!("{flag} {share}; expected 0 to 1")));
            }
        }
        Ok(Some(AccuracyBudget { budget, drop }))
    }

    fn objective(&self) -> Result<Option<Objective>, Failure> {
        let read = |text: &String| {
            text.parse()
                .map_err(|e: ObjectiveError| Failure::usage(format!("--objective: {e}")))
        };
        self.objective.as_ref().map(read).transpose()
    }

    fn arrivals(&self, times: &Times) -> Result<Arrivals, Failure> {
        if let Some(groups) = self.closed {
            return Ok(Arrivals::Closed(within("--closed", groups, 1, 1_000_000)?));
        }
        let own_s = times.service.as_ref().map(Service::mean_s);
        let traced_s = times.stragglers.mean_s();
        let mean_s = own_s.into_iter().chain(traced_s).reduce(f64::max);
        let mean_s = mean_s.unwrap_or(0.01);
        let half = self.all_workers() as f64 / mean_s.max(1e-6) / 2.0;
        let rate = positive("--rate", self.rate.unwrap_or(half))?;
        Ok(match self.even {
            Some(true) => Arrivals::Even(rate),
            _ => Arrivals::Poisson(rate),
        })
    }
}

fn within(flag: &str, given: usize, least: usize, most: usize) -> Result<usize, Failure> {
    if (least..=most).contains(&given) {
        return Ok(given);
    }
    Err(Failure::usage(format!(
        "{flag} {given}; expected {least} to {most}"
    )))
}

fn positive(flag: &str, given: f64) -> Result<f64, Failure> {
    if given > 0.0 && given <= 1e9 {
        return Ok(given);
    }
    Err(Failure::usage(format!(
        "{flag} {given}; expected more than 0, up to 1e9"
    )))
}

fn time(flag: &str, given: &Option<String>, default: &str) -> Result<u64, Failure> {
    let time = duration(given.as_deref().unwrap_or(default));
    let time: Duration = time.map_err(|e| Failure::usage(format!("{flag}: {e}")))?;
    Ok(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
