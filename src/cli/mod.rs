//! The command line: one file a subcommand, each of which parses, calls the library and prints.
//!
//! Standard output carries the result and nothing else: text for people, or with `--json` one object whose keys
//! `schema` and `command` say how to read the others. Progress, logs and errors go to standard error.

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

mod arguments;
mod bench;
mod classify;
mod clock;
#[cfg(feature = "cuda")]
mod compile;
mod console;
mod demo;
mod devices;
mod eval;
mod failure;
mod inspect;
mod load;
mod monitor;
mod pass;
mod report;
mod serving;
mod shuffle;
mod simulate;
mod text;

use console::Console;
use failure::{EXIT_CODES, Failure};

const EXAMPLES: &str = "\
Begin here:
  collage demo --report demo.html    two runs over the same requests, workers made to straggle
  collage classify photo.png         what the embedded digits model makes of an image
  collage devices                    what this machine can run on, and why not on the rest
";

/// Classifies images by a deadline: a small network answers for many at once when a worker is late
#[derive(Parser)]
#[command(name = "collage", version, max_term_width = 110, after_help = EXAMPLES, after_long_help = long_help_end())]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// Write one JSON object to standard output; people's text goes to standard error
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error: -v what happens, -vv every batch, -vvv every request (RUST_LOG says it finer)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Demo(Box<demo::Demo>),
    Classify(classify::Classify),
    Eval(eval::Eval),
    #[command(alias = "doctor")]
    Devices(devices::Devices),
    Monitor(monitor::Monitor),
    Inspect(inspect::Inspect),
    Bench(bench::Bench),
    #[cfg(feature = "cuda")]
    Compile(compile::Compile),
    Simulate(Box<simulate::Simulate>),
    Completions(Completions),
}

/// Print completions for a shell, to be sourced or installed
#[derive(Args)]
#[command(
    after_help = "Example:\n  collage completions bash > ~/.local/share/bash-completion/completions/collage"
)]
struct Completions {
    /// Which shell
    shell: clap_complete::Shell,
}

fn long_help_end() -> String {
    format!("{EXAMPLES}\nEvery command takes --help with examples of its own.\n\n{EXIT_CODES}")
}

/// Parses the arguments, runs the command, reports a failure; never panics over a reader who has gone.
pub fn run() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    log_to_stderr(cli.global.verbose);
    let console = Console::new(cli.global.json, cli.command.name());
    match cli.command.run(&console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console.fail(&failure);
            failure.exit_code()
        }
    }
}

/// The parser, with the help of those commands whose defaults are not the engine's.
fn command() -> clap::Command {
    Cli::command()
        .mut_subcommand("demo", |demo| demo::own_defaults(demo).display_order(0))
        .mut_subcommand("bench", |bench| {
            bench.mut_subcommand("policies", bench::policies::own_defaults)
        })
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "demo",
            Self::Classify(_) => "classify",
            Self::Eval(_) => "eval",
            Self::Devices(_) => "devices",
            Self::Monitor(_) => "monitor",
            Self::Inspect(_) => "inspect",
            Self::Bench(_) => "bench",
            #[cfg(feature = "cuda")]
            Self::Compile(_) => "compile",
            Self::Simulate(_) => "simulate",
            Self::Completions(_) => "completions",
        }
    }

    fn run(self, console: &Console) -> Result<(), Failure> {
        match self {
            Self::Demo(arguments) => arguments.run(console),
            Self::Classify(arguments) => arguments.run(console),
            Self::Eval(arguments) => arguments.run(console),
            Self::Devices(arguments) => arguments.run(console),
            Self::Monitor(arguments) => arguments.run(console),
            Self::Inspect(arguments) => arguments.run(console),
            Self::Bench(arguments) => arguments.run(console),
            #[cfg(feature = "cuda")]
            Self::Compile(arguments) => arguments.run(console),
            Self::Simulate(arguments) => arguments.run(console),
            Self::Completions(arguments) => arguments.run(console),
        }
    }
}

impl Completions {
    fn run(self, console: &Console) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "collage", &mut script);
        let script = String::from_utf8_lossy(&script).into_owned();
        console.finish(
            &serde_json::json!({ "shell": self.shell.to_string(), "script": script }),
            &script,
        )
    }
}

/// `RUST_LOG` decides if it is set, else the number of `-v`.
fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "error,collage=warn",
        1 => "warn,collage=info",
        2 => "warn,collage=debug",
        _ => "info,collage=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
