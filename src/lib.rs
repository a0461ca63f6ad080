//! `collage`: a batched inference engine whose answers arrive by deadline.
pub mod backend;
pub mod error;
pub mod image;
pub mod model;
pub mod tensor;
