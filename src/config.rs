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

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::backend::{self, BackendError, BackendKind, DeviceSpec};
use crate::engine::{Options, Policy, Straggler};
use crate::error::Classify;
use crate::model::plan::Grid;
use crate::model::{Model, ModelError};

/// Largest file that is read as settings: they are a few lines.
const FILE_LIMIT: u64 = 1 << 20;

/// What one source of settings says; `None` leaves it to the next.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
    /// Tiles of the canvas [default: 3x3]
    #[serde(deserialize_with = "text")]
    #[arg(long, env = "COLLAGE_GRID", value_name = "RxC")]
    pub grid: Option<Grid>,
    /// Where to run: auto, cuda[:i], wgpu[:i] or cpu[:THREADS], the threads of each worker [default: auto]
    #[serde(deserialize_with = "text")]
    #[arg(long, env = "COLLAGE_DEVICE", value_name = "DEVICE")]
    pub device: Option<DeviceSpec>,
    /// Workers for base runs; their indices come first [default: 1]
    #[arg(long, env = "COLLAGE_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Workers for collages, with the indices after them; with 0 the base workers run the collages too [default: 1]
    #[arg(long, env = "COLLAGE_COLLAGE_WORKERS", value_name = "N")]
    pub collage_workers: Option<usize>,
    /// Redundancy: none or collage [default: collage]
    #[serde(deserialize_with = "text")]
    #[arg(long, env = "COLLAGE_POLICY", value_name = "POLICY")]
    pub policy: Option<Policy>,
    /// Most accepted and unanswered requests; beyond, submissions are refused as overloaded [default: 1024]
    #[arg(long, env = "COLLAGE_QUEUE", value_name = "N")]
    pub queue: Option<usize>,
    /// Most images of a base run [default: 8]
    #[arg(long, env = "COLLAGE_MAX_BATCH", value_name = "N")]
    pub max_batch: Option<usize>,
    /// How long a request waits for others to share its base run [default: 0ms]
    #[serde(deserialize_with = "text_duration")]
    #[arg(long, env = "COLLAGE_BATCH_WAIT", value_name = "TIME", value_parser = duration)]
    pub batch_wait: Option<Duration>,
    /// How long a group waits for members before its collage runs with blank tiles [default: 5ms]
    #[serde(deserialize_with = "text_duration")]
    #[arg(long, env = "COLLAGE_GROUP_WAIT", value_name = "TIME", value_parser = duration)]
    pub group_wait: Option<Duration>,
    /// From this long after submission on, the collage may answer in the base's place [default: 20ms]
    #[serde(deserialize_with = "text_duration")]
    #[arg(long, env = "COLLAGE_RELEASE", value_name = "TIME", value_parser = duration)]
    pub release: Option<Duration>,
    /// A request is answered this long after submission at the latest, or fails [default: 1s]
    #[serde(deserialize_with = "text_duration")]
    #[arg(long, env = "COLLAGE_DEADLINE", value_name = "TIME", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// A collage answer below this probability is not given [default: the collage file's own]
    #[arg(long, env = "COLLAGE_MIN_CONFIDENCE", value_name = "P")]
    pub min_confidence: Option<f32>,
    /// Classes of an answer, best first [default: 5]
    #[arg(long, env = "COLLAGE_TOP", value_name = "K")]
    pub top: Option<usize>,
    /// Make a worker slow on purpose: slow:WORKER:FACTOR[:PROB] or pause:WORKER:MS[:PROB]; repeats
    #[serde(deserialize_with = "texts")]
    #[arg(
        long,
        env = "COLLAGE_STRAGGLERS",
        value_name = "STRAGGLER",
        value_delimiter = ','
    )]
    pub stragglers: Option<Vec<Straggler>>,
    /// Of everything that is drawn at random [default: 0]
    #[arg(long, env = "COLLAGE_SEED", value_name = "N")]
    pub seed: Option<u64>,
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
                .min_by_key(|known| distance(key, known))
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
            grid: self.grid.or(next.grid),
            device: self.device.or(next.device),
            workers: self.workers.or(next.workers),
            collage_workers: self.collage_workers.or(next.collage_workers),
            policy: self.policy.or(next.policy),
            queue: self.queue.or(next.queue),
            max_batch: self.max_batch.or(next.max_batch),
            batch_wait: self.batch_wait.or(next.batch_wait),
            group_wait: self.group_wait.or(next.group_wait),
            release: self.release.or(next.release),
            deadline: self.deadline.or(next.deadline),
            min_confidence: self.min_confidence.or(next.min_confidence),
            top: self.top.or(next.top),
            stragglers: self.stragglers.or(next.stragglers),
            seed: self.seed.or(next.seed),
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

    /// Opens the models and the device. `embedded` gives the base and the collage to use where no model is named.
    pub fn options(
        &self,
        embedded: impl FnOnce() -> Result<(Model, Model), ModelError>,
    ) -> Result<Options, ConfigError> {
        let layer = &self.layer;
        let (base, collage) = match &layer.model {
            None => {
                let (base, collage) = embedded()?;
                (base, Some(collage))
            }
            Some(path) => {
                let base = match &layer.arch {
                    Some(arch) => Model::open_with_arch(path, arch)?,
                    None => Model::open(path)?,
                };
                (base, layer.collage.as_ref().map(Model::open).transpose()?)
            }
        };
        // The device is opened last but named first: its threads depend on the workers that share it.
        let workers = layer
            .workers
            .unwrap_or(1)
            .saturating_add(layer.collage_workers.unwrap_or(1));
        let device = open_device(layer.device.unwrap_or_default(), workers)?;
        let default = Options::new(base, device);
        let options = Options {
            collage,
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
            stragglers: layer.stragglers.clone().unwrap_or_default(),
            seed: layer.seed.unwrap_or(default.seed),
            ..default
        };
        if options.policy != Policy::None && options.release >= options.deadline {
            let (release, deadline) = (options.release, options.deadline);
            return Err(ConfigError::Release { release, deadline });
        }
        Ok(options)
    }
}

/// Opens the device, a CPU with its cores divided among the workers unless their threads were given.
fn open_device(
    spec: DeviceSpec,
    workers: usize,
) -> Result<std::sync::Arc<dyn backend::Device>, BackendError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = DeviceSpec::Cpu(Some((cores / workers.max(1)).clamp(1, 1024)));
    match spec {
        DeviceSpec::Cpu(None) => backend::open(&share),
        DeviceSpec::Auto => {
            let device = backend::open(&spec)?;
            if device.info().backend == BackendKind::Cpu {
                backend::open(&share)
            } else {
                Ok(device)
            }
        }
        _ => backend::open(&spec),
    }
}

/// Why settings are none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The operating system did not give the file.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// As named by `--config` or `COLLAGE_CONFIG`.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody writes so many settings.
    #[error("{file}: {bytes} bytes; expected {limit} at most")]
    TooLarge {
        /// Its path.
        file: String,
        /// Its size.
        bytes: u64,
        /// Largest accepted.
        limit: u64,
    },
    /// Not TOML.
    #[error("{file}: not TOML: {reason}")]
    Syntax {
        /// Its path.
        file: String,
        /// With line and column.
        reason: String,
    },
    /// A key that no setting has.
    #[error("{file}: no setting is called `{key}`; the nearest is `{nearest}`")]
    UnknownKey {
        /// Its path.
        file: String,
        /// What it has.
        key: String,
        /// What may be meant.
        nearest: String,
    },
    /// A value that its setting does not take.
    #[error("{file}: `{key}`: {reason}")]
    Value {
        /// Its path.
        file: String,
        /// The setting.
        key: String,
        /// What was given and what is expected.
        reason: String,
    },
    /// A setting that makes no sense without another.
    #[error("`{because}` is given without the `{setting}` that it belongs to")]
    Missing {
        /// The one that is missing.
        setting: &'static str,
        /// The one that needs it.
        because: &'static str,
    },
    /// No collage could ever answer.
    #[error(
        "`release` is {release:?}; expected less than `deadline`, {deadline:?}, or the policy none"
    )]
    Release {
        /// As given, or the default.
        release: Duration,
        /// As given, or the default.
        deadline: Duration,
    },
    /// A model file is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A device does not open.
    #[error(transparent)]
    Device(#[from] BackendError),
}

impl Classify for ConfigError {
    fn code(&self) -> u32 {
        match self {
            ConfigError::Read { .. } => 500,
            ConfigError::TooLarge { .. } => 501,
            ConfigError::Syntax { .. } => 502,
            ConfigError::UnknownKey { .. } => 503,
            ConfigError::Value { .. } => 504,
            ConfigError::Missing { .. } => 505,
            ConfigError::Release { .. } => 506,
            ConfigError::Model(error) => error.code(),
            ConfigError::Device(error) => error.code(),
        }
    }

    fn can_retry(&self) -> bool {
        match self {
            ConfigError::Device(error) => error.can_retry(),
            ConfigError::Model(error) => error.can_retry(),
            _ => false,
        }
    }
}

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{given}\" is not a time; expected a number and its unit, us, ms or s, such as 20ms, up to a day"
)]
pub struct DurationSyntax {
    /// What was given.
    pub given: String,
}

/// Reads a time: a number and `us`, `ms` or `s`.
pub fn duration(text: &str) -> Result<Duration, DurationSyntax> {
    const DAY: f64 = 86_400.0;
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e6,
        "ms" => 1e3,
        "s" => 1.0,
        _ => 0.0, // gives no finite number of seconds below
    };
    let seconds = number.trim_end().parse::<f64>().ok().map(|n| n / scale);
    let seconds = seconds.filter(|s| (0.0..=DAY).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| DurationSyntax {
            given: text.to_owned(),
        })
}

/// A value that is written as text, in its own syntax.
fn text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    String::deserialize(from)?
        .parse()
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn texts<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts
        .iter()
        .map(|t| t.parse())
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn text_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(&String::deserialize(from)?)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// Insertions, deletions and replacements from one name to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        layer: Layer,
    }

    fn flags(args: &[&str]) -> Layer {
        Command::parse_from(std::iter::once(&"collage").chain(args)).layer
    }

    fn parse(toml: &str) -> Result<Layer, ConfigError> {
        Layer::parse("collage.toml", toml)
    }

    const FULL: &str = r#"
        model = "base.safetensors"
        arch = "resnet20"
        collage = "collage.safetensors"
        grid = "2x3"
        device = "cpu:2"
        workers = 4
        collage_workers = 2
        policy = "none"
        queue = 10
        max_batch = 16
        batch_wait = "250us"
        group_wait = "1.5ms"
        release = "20ms"
        deadline = "2s"
        min_confidence = 0.75
        top = 3
        stragglers = ["slow:0:8:0.1", "pause:1:50"]
        seed = 7
    "#;

    #[test]
    fn the_file_and_the_flags_say_the_same_things() {
        let args = "--model base.safetensors --arch resnet20 --collage collage.safetensors --grid 2x3 --device cpu:2 \
                    --workers 4 --collage-workers 2 --policy none --queue 10 --max-batch 16 --batch-wait 250us \
                    --group-wait 1.5ms --release 20ms --deadline 2s --min-confidence 0.75 --top 3 \
                    --stragglers slow:0:8:0.1 --stragglers pause:1:50 --seed 7";
        let args: Vec<&str> = args.split_whitespace().collect();
        assert_eq!(parse(FULL).expect("valid"), flags(&args));
        // Every key stands in FULL, so that none is forgotten in this test.
        let table: toml::Table = FULL.parse().expect("valid");
        assert_eq!(table.len(), Layer::keys().len());
    }

    #[test]
    fn every_setting_has_the_variable_of_its_name() {
        let command = <Layer as clap::Args>::augment_args(clap::Command::new("collage"));
        for arg in command.get_arguments() {
            let expected = format!("COLLAGE_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(
                arg.get_env().and_then(|e| e.to_str()),
                Some(expected.as_str())
            );
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("collage.toml");
        fs::write(&path, "queue = 10\nseed = 7\nstragglers = [\"slow:0:8\"]\n").expect("written");
        let path = path.to_str().expect("utf-8");
        let settings =
            Settings::resolve(flags(&["--config", path, "--queue", "20"])).expect("valid");
        assert_eq!(settings.layer().queue, Some(20));
        assert_eq!(settings.layer().seed, Some(7));
        assert_eq!(settings.layer().stragglers.as_ref().map(Vec::len), Some(1));
        assert_eq!(settings.layer().top, None);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = parse("colage_workers = 2").expect_err("unknown");
        assert_eq!(error.code(), 503);
        assert_eq!(
            error.to_string(),
            "collage.toml: no setting is called `colage_workers`; the nearest is `collage_workers`"
        );
        assert!(
            parse("config = \"other.toml\"").is_err(),
            "a file cannot name another"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_file_and_key() {
        let cases = [
            ("release = \"20\"", "release", "us, ms or s"),
            ("release = 20", "release", "expected a string"),
            ("queue = -1", "queue", "-1"),
            ("grid = \"3\"", "grid", "ROWSxCOLS"),
            ("policy = \"hedge\"", "policy", "none or collage"),
            ("device = \"tpu\"", "device", "cpu[:THREADS]"),
            (
                "stragglers = [\"slow:0\"]",
                "stragglers",
                "slow:WORKER:FACTOR",
            ),
        ];
        for (toml, key, expected) in cases {
            let error = parse(toml).expect_err(toml);
            let message = error.to_string();
            assert_eq!(error.code(), 504, "{message}");
            assert!(
                message.starts_with(&format!("collage.toml: `{key}`: "))
                    && message.contains(expected),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_not_toml_or_not_there_is_said_to_be_so() {
        assert_eq!(parse("queue = ").expect_err("syntax").code(), 502);
        let error = Layer::read(Path::new("/nowhere/collage.toml")).expect_err("missing");
        assert!(
            error
                .to_string()
                .starts_with("/nowhere/collage.toml: cannot be read"),
            "{error}"
        );
    }

    #[test]
    fn a_collage_without_its_base_is_refused() {
        let error = Settings::resolve(flags(&["--collage", "c.safetensors"])).expect_err("no base");
        assert_eq!(
            error.to_string(),
            "`collage` is given without the `model` that it belongs to"
        );
    }

    #[test]
    fn times_are_read_with_their_unit_only() {
        assert_eq!(duration("0ms"), Ok(Duration::ZERO));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1500)));
        for wrong in [
            "", "5", "ms", "5m", "-1ms", "NaNs", "infs", "1e300s", "0", "5MS",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
