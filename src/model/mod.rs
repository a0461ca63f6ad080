//! Models: from a safetensors file to a checked network, and from a network to a plan that a backend can run.
pub mod plan;
