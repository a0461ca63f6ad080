//! demo
pub mod outcome;
