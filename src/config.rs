//! Settings of an engine: flags, then `COLLAGE_*` variables, then one TOML file, then defaults.
//!
//! [`Layer`] is the one list of settings. Its field names are the file's keys; with dashes they are the flags, in
//! capitals after `COLLAGE_` the variables. A front end flattens it into its clap command, and calls
//! [`Settings::resolve`] and [`Settings::options`].
//!
//! ```toml
//! device = "cpu:2"
//! workers = 4
//! release = "20ms"
//! stragglers = ["slow:0:8:0.1"]
//! ```

mod error;
mod flags;
mod syntax;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use crate::backend::DeviceList;
pub use error::ConfigError;
pub use syntax::{DurationSyntax, duration};

use crate::engine::{AccuracyBudget, Attach, Objective, Options, Policy, Straggler};
use crate::model::plan::Grid;
use crate::model::{Model, ModelError};

/// Largest file that is read as settings: they are a few lines.
const FILE_LIMIT: u64 = 1 << 20;

/// What one source of settings says; `None` leaves it to the next.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(rustdoc::broken_intra_doc_links)] // clap prints these docs as help: brackets are syntax, not links
pub struct Layer {
    /// TOML file with the settings that neither flags nor variables give
    #[serde(skip)]
    #[arg(long, env = "COLLAGE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Base model: classifies single images [default: the embedded digits]
    #[arg(long, env = "COLLAGE_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Architecture of a base model whose file does not describe itself, such as resnet34
    #[arg(long, env = "COLLAGE_ARCH", value_name = "NAME")]
    pub arch: Option<String>,
    /// Collage model: classifies all tiles of a canvas at once [default: that of the embedded digits]
    #[arg(long, env = "COLLAGE_COLLAGE", value_name = "FILE")]
    pub collage: Option<PathBuf>,
    /// Parity model of the policy parity:K: its logits of a mean of images are the mean of the base's
    #[arg(long, env = "COLLAGE_PARITY", value_name = "FILE")]
    pub parity: Option<PathBuf>,
    /// Tiles of the canvas [default: 3x3]
    #[serde(deserialize_with = "syntax::text")]
    #[arg(long, env = "COLLAGE_GRID", value_name = "RxC")]
    pub grid: Option<Grid>,
    /// Grids to load for collage:auto, and for groups that do not fill a larger grid [default: of collage:auto, the square
    /// ones that the collage was trained for]
    #[serde(deserialize_with = "syntax::texts")]
    #[arg(long, env = "COLLAGE_GRIDS", value_name = "RxC", value_delimiter = ',')]
    pub grids: Option<Vec<Grid>>,
    /// Where to run: auto, cuda[:i], wgpu[:i] or cpu[:THREADS], the threads of each worker; or several with commas between,
    /// over which workers are dealt in turn; cuda:* and wgpu:* are all of a kind [default: auto]
    #[serde(deserialize_with = "syntax::list")]
    #[arg(long, env = "COLLAGE_DEVICE", value_name = "DEVICE")]
    pub device: Option<DeviceList>,
    /// Workers for base runs; their indices come first [default: 1]
    #[arg(long, env = "COLLAGE_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Workers for collages or parities, with the indices after them; with 0 the base workers run those too [default: 1]
    #[arg(long, env = "COLLAGE_COLLAGE_WORKERS", value_name = "N")]
    pub collage_workers: Option<usize>,
    /// Redundancy: none, replicate:R, hedge:WHEN, collage[:RxC|:auto][:lazy[:WHEN]], small[:lazy[:WHEN]] or parity:K, where
    /// WHEN is p95 or a time; docs/policies.md says which when [default: collage]
    #[serde(deserialize_with = "syntax::text")]
    #[arg(long, env = "COLLAGE_POLICY", value_name = "POLICY")]
    pub policy: Option<Policy>,
    /// Most hedges, re-sent requests and lazy collages, as a share of the work of the requests' own runs [default: 0.25]
    #[arg(long, env = "COLLAGE_BUDGET", value_name = "SHARE")]
    pub budget: Option<f64>,
    /// Accuracy that may be lost, such as 0.001: release times follow from it and from accuracy_drop
    #[arg(long, env = "COLLAGE_ACCURACY_BUDGET", value_name = "SHARE")]
    pub accuracy_budget: Option<f64>,
    /// How much less accurate a collage's answer is than the base's, as `eval` measures it, such as 0.02 [default: what
    /// the model files state]
    #[arg(long, env = "COLLAGE_ACCURACY_DROP", value_name = "SHARE")]
    pub accuracy_drop: Option<f64>,
    /// How fast requests are to be answered, such as p99=50ms: release times follow from it
    #[serde(deserialize_with = "syntax::text")]
    #[arg(long, env = "COLLAGE_OBJECTIVE", value_name = "pXX=TIME")]
    pub objective: Option<Objective>,
    /// Most accepted and unanswered requests; beyond, submissions are refused as overloaded [default: 1024]
    #[arg(long, env = "COLLAGE_QUEUE", value_name = "N")]
    pub queue: Option<usize>,
    /// Most images of a base run [default: 8]
    #[arg(long, env = "COLLAGE_MAX_BATCH", value_name = "N")]
    pub max_batch: Option<usize>,
    /// How long a request waits for others to share its base run [default: 0ms]
    #[serde(deserialize_with = "syntax::text_duration")]
    #[arg(long, env = "COLLAGE_BATCH_WAIT", value_name = "TIME", value_parser = duration)]
    pub batch_wait: Option<Duration>,
    /// How long a group waits for members before its collage runs with blank tiles [default: 5ms]
    #[serde(deserialize_with = "syntax::text_duration")]
    #[arg(long, env = "COLLAGE_GROUP_WAIT", value_name = "TIME", value_parser = duration)]
    pub group_wait: Option<Duration>,
    /// From this long after submission on, the collage or the parity may answer in the base's place [default: 20ms]
    #[serde(deserialize_with = "syntax::text_duration")]
    #[arg(long, env = "COLLAGE_RELEASE", value_name = "TIME", value_parser = duration)]
    pub release: Option<Duration>,
    /// A request is answered this long after submission at the latest, or fails [default: 1s]
    #[serde(deserialize_with = "syntax::text_duration")]
    #[arg(long, env = "COLLAGE_DEADLINE", value_name = "TIME", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// A collage answer below this probability is not given [default: the collage file's own]
    #[arg(long, env = "COLLAGE_MIN_CONFIDENCE", value_name = "P")]
    pub min_confidence: Option<f32>,
    /// Classes of an answer, best first [default: 5]
    #[arg(long, env = "COLLAGE_TOP", value_name = "K")]
    pub top: Option<usize>,
    /// Make workers slow on purpose: slow:.., pause:.., pareto:.., burst:.., trace:.., contention:.., as `collage demo
    /// --help` describes them; repeats
    #[serde(deserialize_with = "syntax::texts")]
    #[arg(
        long,
        env = "COLLAGE_STRAGGLERS",
        value_name = "STRAGGLER",
        value_delimiter = ','
    )]
    pub stragglers: Option<Vec<Straggler>>,
    /// Whether NVIDIA GPUs are asked how they are, for their workers' health: true or false [default: true]
    #[arg(long, env = "COLLAGE_TELEMETRY", value_name = "BOOL")]
    pub telemetry: Option<bool>,
    /// Of everything that is drawn at random [default: 0]
    #[arg(long, env = "COLLAGE_SEED", value_name = "N")]
    pub seed: Option<u64>,
    /// Where `collage monitor` sees the engine: auto (a folder of this user's alone), off, or a folder [default: auto]
    #[serde(deserialize_with = "syntax::text")]
    #[arg(long, env = "COLLAGE_ATTACH", value_name = "WHERE")]
    pub attach: Option<Attach>,
}

impl Layer {
    /// Every key of the file.
    pub fn keys() -> Vec<String> {
        let command = <Layer as clap::Args>::augment_args(clap::Command::new("keys"));
        let ids = command.get_arguments().map(|arg| arg.get_id().to_string());
        ids.filter(|id| id != "config").collect()
    }

    /// Reads a TOML file.
    pub fn read(path: &Path) -> Result<Layer, ConfigError> {
        let file = || path.display().to_string();
        let unreadable = |source| ConfigError::Read {
            file: file(),
            source,
        };
        let bytes = fs::metadata(path).map_err(unreadable)?.len();
        if bytes > FILE_LIMIT {
            return Err(ConfigError::TooLarge {
                file: file(),
                bytes,
                limit: FILE_LIMIT,
            });
        }
        Layer::parse(&file(), &fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Reads TOML; `file` is for messages.
    pub fn parse(file: &str, toml: &str) -> Result<Layer, ConfigError> {
        let file = || file.to_owned();
        let table: toml::Table =
            toml.parse()
                .map_err(|e: toml::de::Error| ConfigError::Syntax {
                    file: file(),
                    reason: e.to_string(),
                })?;
        let keys = Layer::keys();
        if let Some(key) = table.keys().find(|key| !keys.contains(key)) {
            let nearest = keys
                .iter()
                .min_by_key(|known| syntax::distance(key, known))
                .cloned()
                .unwrap_or_default();
            return Err(ConfigError::UnknownKey {
                file: file(),
                key: key.clone(),
                nearest,
            });
        }
        serde_path_to_error::deserialize(table).map_err(|e| ConfigError::Value {
            file: file(),
            key: e.path().to_string(),
            reason: e.into_inner().message().to_owned(),
        })
    }

    /// This layer, and the next where this one says nothing.
    pub fn or(self, next: Layer) -> Layer {
        Layer {
            config: self.config.or(next.config),
            model: self.model.or(next.model),
            arch: self.arch.or(next.arch),
            collage: self.collage.or(next.collage),
            parity: self.parity.or(next.parity),
            grid: self.grid.or(next.grid),
            grids: self.grids.or(next.grids),
            device: self.device.or(next.device),
            workers: self.workers.or(next.workers),
            collage_workers: self.collage_workers.or(next.collage_workers),
            policy: self.policy.or(next.policy),
            budget: self.budget.or(next.budget),
            accuracy_budget: self.accuracy_budget.or(next.accuracy_budget),
            accuracy_drop: self.accuracy_drop.or(next.accuracy_drop),
            objective: self.objective.or(next.objective),
            queue: self.queue.or(next.queue),
            max_batch: self.max_batch.or(next.max_batch),
            batch_wait: self.batch_wait.or(next.batch_wait),
            group_wait: self.group_wait.or(next.group_wait),
            release: self.release.or(next.release),
            deadline: self.deadline.or(next.deadline),
            min_confidence: self.min_confidence.or(next.min_confidence),
            top: self.top.or(next.top),
            stragglers: self.stragglers.or(next.stragglers),
            telemetry: self.telemetry.or(next.telemetry),
            seed: self.seed.or(next.seed),
            attach: self.attach.or(next.attach),
        }
    }
}

/// All sources in one.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    layer: Layer,
}

impl Settings {
    /// `flags` as clap parsed them, variables included, over the file that they name, if they name one.
    pub fn resolve(flags: Layer) -> Result<Settings, ConfigError> {
        let file = flags.config.as_deref().map(Layer::read).transpose()?;
        let layer = flags.or(file.unwrap_or_default());
        if layer.model.is_none() {
            let orphan = [
                ("arch", layer.arch.is_some()),
                ("collage", layer.collage.is_some()),
            ];
            if let Some((setting, _)) = orphan.into_iter().find(|&(_, given)| given) {
                return Err(ConfigError::Missing {
                    setting: "model",
                    because: setting,
                });
            }
        }
        Ok(Settings { layer })
    }

    /// The settings as they were given, all sources merged.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Opens the models and the devices. `unnamed` gives the base and the collage to use where no model is named: the
    /// embedded ones, or such as are in memory.
    pub fn options(
        &self,
        unnamed: impl FnOnce() -> Result<(Model, Option<Model>), ModelError>,
    ) -> Result<Options, ConfigError> {
        let layer = &self.layer;
        let (base, collage) = match &layer.model {
            None => unnamed()?,
            Some(path) => {
                let base = match &layer.arch {
                    Some(arch) => Model::open_with_arch(path, arch)?,
                    None => Model::open(path)?,
                };
                (base, layer.collage.as_ref().map(Model::open).transpose()?)
            }
        };
        // Devices are opened last but named first: a CPU's threads depend on the workers that share it.
        let workers = layer
            .workers
            .unwrap_or(1)
            .saturating_add(layer.collage_workers.unwrap_or(1));
        let devices = layer.device.clone().unwrap_or_default().open(workers)?;
        let default = Options::new(base, devices);
        let mut options = Options {
            collage,
            parity: layer.parity.as_ref().map(Model::open).transpose()?,
            grids: layer.grids.clone().unwrap_or_default(),
            grid: layer.grid.unwrap_or(default.grid),
            base_workers: layer.workers.unwrap_or(default.base_workers),
            collage_workers: layer.collage_workers.unwrap_or(default.collage_workers),
            queue: layer.queue.unwrap_or(default.queue),
            max_batch: layer.max_batch.unwrap_or(default.max_batch),
            batch_wait: layer.batch_wait.unwrap_or(default.batch_wait),
            group_wait: layer.group_wait.unwrap_or(default.group_wait),
            release: layer.release.unwrap_or(default.release),
            deadline: layer.deadline.unwrap_or(default.deadline),
            min_confidence: layer.min_confidence.or(default.min_confidence),
            top_k: layer.top.unwrap_or(default.top_k),
            policy: layer.policy.unwrap_or(default.policy),
            budget: layer.budget.unwrap_or(default.budget),
            objective: layer.objective.or(default.objective),
            stragglers: layer.stragglers.clone().unwrap_or_default(),
            telemetry: layer.telemetry.unwrap_or(default.telemetry),
            seed: layer.seed.unwrap_or(default.seed),
            attach: layer.attach.clone().unwrap_or_default(),
            ..default
        };
        if let Some(budget) = layer.accuracy_budget {
            let drop = layer.accuracy_drop.or_else(|| options.accuracy_drop());
            let drop = drop.ok_or_else(|| ConfigError::AccuracyDrop {
                base: options.base.file().to_string(),
            })?;
            options.accuracy = Some(AccuracyBudget { budget, drop });
        }
        if options.policy.uses_groups() && options.release >= options.deadline {
            let (release, deadline) = (options.release, options.deadline);
            return Err(ConfigError::Release { release, deadline });
        }
        Ok(options)
    }
}
