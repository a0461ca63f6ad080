//! What GPUs say of themselves, and what it means: readings, windows of readings, verdicts.
//!
//! ```text
//!  Source (NVML, or the reason why not) ──read──> Reading ──push──> History ──window──> Window ──of_gpu──> Verdict
//!  └───────────────────────────── Watch ─────────────────────────────┘
//! ```
//!
//! Only `nvml` talks to a driver. All else is a pure function of readings and their times, so every rule can be tested
//! without a GPU. Nothing here knows the engine, so that GPUs can be
//! watched without one: its figures come in as plain numbers ([`Worker`]). A GPU that is idle is
//! not at fault, and neither is one that its power limit holds back; a counter means nothing by its height, only by how
//! far it rose.

mod history;
#[cfg(feature = "nvml")]
mod nvml;
mod reading;
mod reason;
mod source;
mod verdict;
mod watch;
mod window;
mod xid;

pub use history::History;
pub use reading::{Absent, Ecc, Gpu, Link, Missing, Process, Reading, RowRemapping, State};
pub use reason::{Reason, Reasons};
pub use source::{Source, Unavailable};
pub use verdict::{Cause, Confidence, Verdict, Worker};
pub use watch::Watch;
pub use window::{Clock, Pattern, ProcessLoad, ReasonShare, Rise, Window};
pub use xid::Xid;
