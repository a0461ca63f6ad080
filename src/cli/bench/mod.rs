//! `collage bench`: how fast this machine is, and what policies buy on it, measured.

use clap::{Args, Subcommand};

use super::console::Console;
use super::failure::Failure;

mod check;
mod clocks;
mod engine;
mod explain;
mod layers;
mod measure;
mod networks;
pub mod policies;
mod show;
mod soak;
mod spread;
mod together;

/// Measure how fast a device runs networks, or what policies buy
#[derive(Args)]
#[command(
    after_help = "Example:\n  collage bench engine --arch resnet50 --batch 1,32 --dtype f32,f16"
)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Engine(Box<engine::Engine>),
    Policies(Box<policies::Policies>),
}

impl Bench {
    /// Measures, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        match self.what {
            What::Engine(arguments) => arguments.run(console),
            What::Policies(arguments) => arguments.run(console),
        }
    }
}
