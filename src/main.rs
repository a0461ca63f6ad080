//! The `collage` command: see `collage --help`, or `src/cli` for one file a subcommand.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::run()
}
