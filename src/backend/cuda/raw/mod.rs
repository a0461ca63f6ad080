//! All of this backend's unsafe code, and a safe face for it: the driver, NVRTC, and what they hand out.
//!
//! cudarc gives the driver's types and constants. Its functions are not called: they panic where a library or a symbol is
//! missing, and a status code newer than its enum would be undefined behaviour. `library` finds the same functions with
//! a typed error instead, and a status stays a number.
//!
//! What is handed out ([`Memory`], [`Pinned`], [`Stream`], ...) holds its [`Context`], and gives itself back when it is
//! dropped; unless the device is lost, when the driver can no longer be trusted with it, and it is leaked.
//! What Rust cannot prove is kept true above: a kernel's arguments name memory that the same program holds, and nobody
//! touches memory that a stream still works on.

mod context;
mod foreign;
mod graph;
mod library;
mod memory;
mod module;
mod nvrtc;
mod status;
mod stream;
mod tensor_map;

pub use context::{Context, Description, devices};
pub use foreign::{Foreign, device_image};
pub use graph::Graph;
pub use memory::{Memory, Pinned};
pub use module::{Function, Module};
pub use nvrtc::{Nvrtc, NvrtcError};
pub use status::{Refused, Unavailable};
pub use stream::{Args, Event, Launch, Stream};
pub use tensor_map::{Im2col, Rows, TensorMap};
