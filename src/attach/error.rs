//! Why an engine cannot be seen, or was not.

use std::io;

use crate::error::Classify;

/// One variant a cause. `path` is the socket's or the folder's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// This operating system has no Unix sockets.
    #[error("engines show their state over Unix sockets, and this operating system has none")]
    Unsupported,
    /// Someone else could have put sockets there.
    #[error("{path}: {what}; expected a folder of this user's with mode 0700")]
    Folder {
        /// The folder.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system refused.
    #[error("{path}: {action}: {source}")]
    Io {
        /// Of the socket or its folder.
        path: String,
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody listens: the engine is gone.
    #[error("{path}: the engine that was here is gone")]
    Gone {
        /// Its socket.
        path: String,
    },
    /// The engine did not answer in time: stopped, or too busy.
    #[error("{path}: no answer within {within_ms} ms")]
    Silent {
        /// Its socket.
        path: String,
        /// The time it had.
        within_ms: u64,
    },
    /// The answer is not one.
    #[error("{path}: {what}; expected one line of JSON of version {version}")]
    Answer {
        /// The engine's socket.
        path: String,
        /// What came.
        what: String,
        /// What this program speaks.
        version: u32,
    },
    /// The engine said why it does not answer.
    #[error("{path}: the engine says: {message}")]
    Refused {
        /// Its socket.
        path: String,
        /// In its words.
        message: String,
    },
}

impl Classify for AttachError {
    fn code(&self) -> u32 {
        match self {
            AttachError::Unsupported => 900,
            AttachError::Folder { .. } => 901,
            AttachError::Io { .. } => 902,
            AttachError::Gone { .. } => 903,
            AttachError::Silent { .. } => 904,
            AttachError::Answer { .. } => 905,
            AttachError::Refused { .. } => 906,
        }
    }

    fn can_retry(&self) -> bool {
        matches!(
            self,
            AttachError::Io { .. } | AttachError::Silent { .. } | AttachError::Refused { .. }
        )
    }
}
