//! `collage monitor`: what the GPUs of this machine do, what holds them back, and what says so.

mod csv;
mod once;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use collage::config::duration;
use collage::telemetry::{Unavailable, Watch};

use super::console::Console;
use super::failure::Failure;

/// Readings that a verdict is given on at least.
const LEAST: u32 = 3;

const EXAMPLES: &str = "\
Examples:
  collage monitor --once               figures and a verdict for each GPU, after two seconds of watching
  collage monitor --once --json        the same for scripts
  collage monitor --csv --count 60     a row for each GPU each second, for a minute

docs/verdict.md says how to read a verdict. A machine without an NVIDIA driver is told so, and is no failure.
";

/// Watch the GPUs of this machine: clocks, what holds them back, errors, the link, and a verdict with its evidence
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Monitor {
    /// Watch for one window, print figures and verdicts, and end; what is done without --csv as well
    #[arg(long)]
    once: bool,
    /// Print a row for each GPU each interval, with a header
    #[arg(long, conflicts_with = "once")]
    csv: bool,
    /// Of readings [default: 100ms; with --csv 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    interval: Option<Duration>,
    /// Span that a verdict is given on [default: 2s; with --csv ten intervals]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    window: Option<Duration>,
    /// Intervals to print, then end [default: until it is interrupted]
    #[arg(long, value_name = "N", requires = "csv")]
    count: Option<u64>,
    /// NVML's library, where it is not the driver's own
    #[arg(long, env = "COLLAGE_NVML", value_name = "FILE")]
    nvml: Option<PathBuf>,
}

impl Monitor {
    /// Watches, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let (interval, window) = self.times()?;
        // Half an interval more, so that a reading which comes a little late does not push out the window's first.
        let watch = Watch::open(self.nvml.as_deref(), window + interval / 2);
        if self.csv {
            return csv::run(console, watch, interval, self.count);
        }
        once::run(console, watch, interval, window)
    }

    fn times(&self) -> Result<(Duration, Duration), Failure> {
        let (interval, window) = if self.csv {
            let interval = self.interval.unwrap_or(Duration::from_secs(1));
            (interval, self.window.unwrap_or(interval * 10))
        } else {
            let interval = self.interval.unwrap_or(Duration::from_millis(100));
            (interval, self.window.unwrap_or(Duration::from_secs(2)))
        };
        if interval < Duration::from_millis(1) {
            let given = format!("--interval {interval:?}");
            return Err(Failure::usage(format!("{given}: expected 1ms at least")));
        }
        if window < interval * (LEAST - 1) {
            let given = format!("--window {window:?} at an --interval of {interval:?}");
            let expected = format!("{LEAST} readings or more in a window");
            return Err(Failure::usage(format!("{given}: expected {expected}")));
        }
        Ok((interval, window))
    }
}

/// Reads now, and then at each interval from the first time on, so that a slow reading delays no other; `after` each one
/// says whether to go on.
fn each_interval(
    watch: &mut Watch,
    interval: Duration,
    mut after: impl FnMut(&Watch) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut next = Instant::now();
    loop {
        watch.read();
        if !after(watch)? {
            return Ok(());
        }
        let now = Instant::now();
        while next <= now {
            next += interval;
        }
        std::thread::sleep(next - now);
    }
}

/// Why there are no GPUs to watch, and what to do.
fn absent(reason: &Unavailable) -> String {
    format!("no GPU to watch: {reason}\n")
}
