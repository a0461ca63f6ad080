//! Where there are no Unix sockets: nothing is shown and nothing found, and both are told.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::AttachError;
use super::place::Attach;
use super::state::State;

/// Never there.
#[derive(Debug)]
pub struct Server {
    never: Infallible,
}

impl Server {
    /// Fails: no Unix sockets.
    pub fn open(
        _place: &Attach,
        _ask: impl Fn(u32) -> Option<State> + Send + 'static,
    ) -> Result<Option<Server>, AttachError> {
        Err(AttachError::Unsupported)
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        match self.never {}
    }
}

/// An engine's socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Of its process.
    pub pid: u32,
    /// Among the engines of its process.
    pub engine: u32,
    /// Its socket.
    pub path: PathBuf,
}

/// Fails: no Unix sockets.
pub fn discover(_place: &Attach) -> Result<Vec<Found>, AttachError> {
    Err(AttachError::Unsupported)
}

/// Fails: no Unix sockets.
pub fn read(_found: &Found, _within: Duration) -> Result<State, AttachError> {
    Err(AttachError::Unsupported)
}
