//! Why a description is no straggler, or a trace none.

use crate::error::Classify;

/// One variant a cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StragglerError {
    /// The description is not in the grammar.
    #[error("straggler \"{given}\": {what}; expected {expected}")]
    Syntax {
        /// The whole description.
        given: String,
        /// What is wrong with it.
        what: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The operating system did not give a trace's file.
    #[error("trace {file}: cannot be read: {source}")]
    Read {
        /// Its path.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is no trace.
    #[error("trace {file}: {what}; expected {expected}")]
    Content {
        /// Its path.
        file: String,
        /// What is wrong with it.
        what: String,
        /// What would be right.
        expected: String,
    },
    /// It is real work on a device, and there is none in virtual time.
    #[error(
        "straggler \"{given}\": it loads a device, which virtual time has not; expected slow, pause, pareto, burst or trace"
    )]
    NeedsDevice {
        /// The whole description.
        given: String,
    },
}

impl Classify for StragglerError {
    fn code(&self) -> u32 {
        match self {
            StragglerError::Syntax { .. } => 420,
            StragglerError::Read { .. } => 421,
            StragglerError::Content { .. } => 422,
            StragglerError::NeedsDevice { .. } => 424,
        }
    }

    fn can_retry(&self) -> bool {
        false
    }
}
