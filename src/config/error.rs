//! Why settings are none: one variant a cause, naming the file, the key and what was expected.

use std::time::Duration;

use crate::backend::BackendError;
use crate::error::Classify;
use crate::model::ModelError;

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
    /// Nobody says what a collage's answer loses.
    #[error(
        "`accuracy_budget` is given without `accuracy_drop`, and {base} and its collage do not both state their accuracy; \
         expected `accuracy_drop` as `collage eval` measures it"
    )]
    AccuracyDrop {
        /// The base model's file.
        base: String,
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
            ConfigError::AccuracyDrop { .. } => 507,
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
