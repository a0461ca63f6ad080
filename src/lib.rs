//! `collage`: a batched inference engine whose answers arrive by deadline.
//!
//! This page is the architecture. The README is for users of the program; this is for who embeds the library or
//! changes it.
//!
//! # What it does
//!
//! Every image goes to an ordinary classifier, the *base*, on some worker. r x c of the waiting images are also shrunk
//! and tiled, on the device, into one *canvas*, which one network, the *collage*, classifies in one shot. When a base
//! answer is late past its *release time*, its tile's answer is given instead. The redundancy costs one run per r*c
//! images and not one per image. The idea is Narra et al.'s *Collage Inference* (arXiv 1906.03999, 1904.12222); what
//! is different here: tiles have known places, so the network gives an r x c grid of logits and needs no detection;
//! a tile below a confidence abstains; release times are chosen; partial groups and all grids are served.
//!
//! # From request to answer
//!
//! ```text
//!  Engine::submit ──> host: whoever calls    ──Submit──> sched (pure: events, actions, virtual time)
//!        │                 │      ▲                         │
//!      Ticket <──Answer────┘      │ Done, Failed            │ Launch{worker, Base | Collage, ids}
//!                                 │                         ▼
//!                            host: one OS thread a worker ──> Program::run on its Device
//!                                                              encode -> conv2d.. -> avg_pool2d -> linear -> top_k
//! ```
//!
//! # Rooms, and who may import whom
//!
//! | room | holds | may import |
//! |---|---|---|
//! | [`tensor`], [`image`], [`error`] | host tensors; decoded images; what every error can be asked | nothing |
//! | [`model`] | safetensors -> checked network -> [`model::plan::Plan`] | `tensor` |
//! | [`backend`] | where a plan runs: `cpu` (the specification, and a fast path), `webgpu`, `cuda` | `model::plan`, `tensor`, `image` |
//! | [`sched`] | which worker does what and which answer wins; no clock, thread or I/O | `std` |
//! | [`straggler`] | what makes workers slow on purpose, live and simulated: one grammar, seeded draws, traces | `std` |
//! | [`host`] | threads, payloads, clocks: drives `sched`; what GPUs say of themselves ([`host::telemetry`]) | `sched`, `straggler`, `backend`, `model`, `image` |
//! | [`sim`] | drives `sched` in virtual time: arrivals, service times | `sched`, `straggler` |
//! | [`attach`] | an engine shows its state on a local socket; monitors find it | `host`, `sched` |
//! | [`engine`] | what users call | `host`, `model`, `backend`, `attach` |
//! | [`config`] | flags, environment and one TOML file to engine options | `engine`, `host` and below |
//! | [`ffi`] | the C interface and its header, `include/collage.h` | `engine`, `config`, `model`, `embedded`, `image` |
//! | `cli` (the binary) | one file a subcommand: parse, call, print | anything public |
//!
//! `wgpu` is named only in `backend/webgpu`, `cudarc` only in `backend/cuda`, NVML only in `host/telemetry/nvml`. `unsafe` lives
//! in `ffi`, `backend/*/raw`, `backend/cpu/simd` and `model/mmap`. `tests/layers.rs` enforces all of this.
//!
//! # One name for one thing
//!
//! There are six ops, and each has one name everywhere: `encode`, `conv2d`, `max_pool2d`, `avg_pool2d`, `linear`,
//! `top_k`: the [`model::plan::Step`], the Rust function, `shaders/<op>.wgsl`, the cases in `tests/cases/ops.toml`,
//! the benches. Batch normalisation is folded into `conv2d` at load; bias, residual and activation are fused into it;
//! the base's preprocessing is `encode` with a 1x1 grid.

#![warn(missing_docs)]

pub mod attach;
pub mod backend;
pub mod config;
pub mod dataset;
pub mod embedded;
pub mod engine;
pub mod error;
#[cfg(target_pointer_width = "64")] // the layout of its structs and handles is tested on 64 bits
pub mod ffi;
pub mod host;
pub mod image;
pub mod model;
pub mod sched;
pub mod sim;
pub mod straggler;
pub mod tensor;

/// The README's example must keep compiling and running.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
