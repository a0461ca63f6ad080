//! A running engine shows its state to whoever may see it: `collage monitor` finds it and asks over a local socket.
//!
//! ```text
//!  engine (any process) ── Server: one thread asleep in poll ──> <folder>/<pid>-<n>.sock
//!                             ^                                        │ one line: {"collage":1,"ask":"state"}
//!                     asks the scheduler                               v
//!                     only when somebody asks it              discover(), read(): State
//! ```
//!
//! It is on by default, because whoever wonders which worker is slow wonders now, not before the next restart. What makes
//! that safe in other people's servers: the folder is its user's alone (mode 0700, owner checked on both sides), the state
//! holds figures and no image, answer or setting of the host process, and nothing can be changed through it. A socket that
//! cannot be made is a logged warning and never fails an engine. Nobody watching costs nothing: the thread sleeps, and no
//! figure is gathered for it. A peer that is slow, silent or hostile costs its connection: requests are bounded, each peer
//! has a second, and the scheduler is asked at most twenty times a second however many ask.
//!
//! Only where there are Unix sockets. Windows' named pipes know no time limit on reads, without which a silent peer would
//! hold the thread: there an engine has no socket, and says so once in its log.

#[cfg(unix)]
mod client;
mod error;
mod place;
mod protocol;
#[cfg(unix)]
mod server;
mod state;
#[cfg(not(unix))]
mod without;

#[cfg(unix)]
pub use client::{Found, discover, read};
pub use error::AttachError;
pub use place::{Attach, AttachSyntax};
#[cfg(unix)]
pub use server::Server;
pub use state::{GpuId, Process, Promise, Requests, Scores, Service, State, Worker};
#[cfg(not(unix))]
pub use without::{Found, Server, discover, read};
