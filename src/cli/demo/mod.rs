//! demo
use clap::Args;
use super::console::Console;
use super::failure::Failure;
pub mod outcome;

/// x
#[derive(Args)]
pub struct Demo {}
impl Demo { pub fn run(self, _c: &Console) -> Result<(), Failure> { Ok(()) } }
