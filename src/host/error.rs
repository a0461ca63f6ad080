//! Why the engine did not start, or a request got no answer.

use std::time::Duration;

use crate::backend::BackendError;
use crate::error::Classify;
use crate::model::ModelError;
use crate::sched;
use crate::straggler::StragglerError;

/// One variant a cause. Those of [`sched::Error`] keep its numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// As many requests are unanswered as `queue` allows.
    #[error("overloaded: {queue} requests are waiting for an answer, as many as `queue` allows")]
    Overloaded {
        /// The bound.
        queue: usize,
    },
    /// No acceptable answer by the deadline.
    #[error("deadline exceeded: no answer within {deadline:?}")]
    DeadlineExceeded {
        /// From submission.
        deadline: Duration,
    },
    /// The ticket was dropped before the answer.
    #[error("cancelled")]
    Cancelled,
    /// Every run of the request failed or took its worker down.
    #[error("failed in {attempts} runs, the last one by: {reason}")]
    Failed {
        /// Base runs that were tried.
        attempts: u32,
        /// Of the last failure.
        reason: String,
    },
    /// Every worker that could have answered is retired.
    #[error("no worker is left; the last one was retired by: {reason}")]
    NoWorkers {
        /// Of the last failure.
        reason: String,
    },
    /// The engine is shutting down, or is gone.
    #[error("closed: the engine takes no more requests")]
    Closed,
    /// An option that cannot be.
    #[error("option {option}: {given}; expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given.
        given: String,
        /// What it takes.
        expected: String,
    },
    /// A model does not compile as it was asked to.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A device refused a plan when the engine opened.
    #[error("worker {worker} on {device}: {source}")]
    Load {
        /// Which worker.
        worker: usize,
        /// Its device's name.
        device: String,
        /// Why.
        #[source]
        source: BackendError,
    },
    /// Loading a plan panicked: a defect of the backend.
    #[error("worker {worker} on {device}: panicked while loading: {reason}")]
    LoadPanic {
        /// Which worker.
        worker: usize,
        /// Its device's name.
        device: String,
        /// The panic's message.
        reason: String,
    },
    /// A straggler's trace cannot be used.
    #[error(transparent)]
    Straggler(#[from] StragglerError),
    /// Injected contention does not load.
    #[error("straggler \"{straggler}\": {device} does not load it: {reason}")]
    Contention {
        /// As it was described.
        straggler: String,
        /// Its device's name.
        device: String,
        /// Why.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("cannot start the thread {thread}: {source}")]
    Thread {
        /// Its name.
        thread: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// An [`Error::Option`].
    pub(crate) fn option(
        option: &'static str,
        given: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Error::Option {
            option,
            given: given.into(),
            expected: expected.into(),
        }
    }

    /// The scheduler's verdict on a request, with what only the host knows of it.
    pub(super) fn from_sched(
        error: sched::Error,
        deadline: Duration,
        reason: Option<&str>,
    ) -> Self {
        let reason = || reason.unwrap_or("an earlier failure").to_owned();
        match error {
            sched::Error::Overloaded { queue } => Error::Overloaded { queue },
            sched::Error::DeadlineExceeded => Error::DeadlineExceeded { deadline },
            sched::Error::Cancelled => Error::Cancelled,
            sched::Error::Failed { attempts } => Error::Failed {
                attempts,
                reason: reason(),
            },
            sched::Error::NoWorkers => Error::NoWorkers { reason: reason() },
            sched::Error::Closed => Error::Closed,
        }
    }
}

impl Classify for Error {
    fn code(&self) -> u32 {
        match self {
            Error::Overloaded { .. } => 400,
            Error::DeadlineExceeded { .. } => 401,
            Error::Cancelled => 402,
            Error::Failed { .. } => 403,
            Error::NoWorkers { .. } => 404,
            Error::Closed => 405,
            Error::Option { .. } => 410,
            Error::Model(error) => error.code(),
            Error::Load { .. } => 411,
            Error::LoadPanic { .. } => 412,
            Error::Thread { .. } => 413,
            Error::Contention { .. } => 414,
            Error::Straggler(error) => error.code(),
        }
    }

    fn can_retry(&self) -> bool {
        matches!(
            self,
            Error::Overloaded { .. }
                | Error::DeadlineExceeded { .. }
                | Error::Failed { .. }
                | Error::Thread { .. }
        )
    }
}
