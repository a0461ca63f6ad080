//! `collage`: a batched inference engine whose answers arrive by deadline.
pub mod backend;
pub mod config;
pub mod dataset;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod host;
pub mod image;
pub mod model;
pub mod sched;
pub mod tensor;
