//! Numbers from an integer hash: weights and inputs that every peer and every machine makes alike.

pub use collage::model::hashed::{pixels, seed, symmetric, units};
