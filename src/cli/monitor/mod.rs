//! `collage monitor`: what the GPUs of this machine do, what holds them back, and what says so; and what the engines that
//! run on it do with them.

mod csv;
mod once;
mod prometheus;
mod snapshot;
mod view;

use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use collage::config::duration;
use collage::host::telemetry::Watch;

use super::console::Console;
use super::failure::Failure;
use snapshot::{Sampler, Wanted};

/// Readings that a verdict is given on at least.
const LEAST: u32 = 3;

const EXAMPLES: &str = "\
Examples:
  collage monitor                      a view of GPUs and of the workers of running engines, as nvtop; ? shows the keys
  collage monitor --attach 4242        with the engines of this process only
  collage monitor --prometheus 127.0.0.1:9835    for Prometheus; docs/grafana/collage.json is a dashboard
  collage monitor --once               figures and a verdict for each GPU, after two seconds of watching
  collage monitor --once --json        the same for scripts
  collage monitor --csv --count 60     a row for each GPU each second, for a minute

docs/monitor.md explains the view and the metrics, docs/verdict.md how to read a verdict. A machine without an NVIDIA driver is told so, and is no failure.
";

/// Watch GPUs and running engines: which is slow, why (a verdict with its evidence), and what it costs
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Monitor {
    /// Watch for one window, print figures and verdicts, and end; what is done without --csv as well
    #[arg(long)]
    once: bool,
    /// Print a row for each GPU each interval, with a header
    #[arg(long, conflicts_with = "once")]
    csv: bool,
    /// Only the engines of this process [default: all of this user that are found]
    #[arg(long, value_name = "PID", num_args = 0..=1)]
    attach: Option<Option<u32>>,
    /// Serve the figures to Prometheus at this address, such as 127.0.0.1:9835
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["once", "csv"])]
    prometheus: Option<String>,
    /// Draw the view into this SVG file after one window, and end
    #[arg(long, value_name = "FILE", conflicts_with_all = ["once", "csv", "prometheus"])]
    svg: Option<PathBuf>,
    /// Columns and rows of --svg
    #[arg(long, value_name = "CxR", default_value = "120x36", value_parser = size)]
    size: (u16, u16),
    /// Of readings [default: 250ms; with --once and --svg 100ms, with --csv 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    interval: Option<Duration>,
    /// Span that a verdict is given on [default: 10s; with --once and --svg 2s, with --csv ten intervals]
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
        let wanted = match self.attach {
            Some(Some(pid)) => Wanted::Pid(pid),
            _ => Wanted::All,
        };
        if self.csv {
            return csv::run(console, watch, interval, self.count);
        }
        if self.once {
            return once::run(console, watch, wanted, interval, window);
        }
        let sampler = Sampler::new(watch, wanted);
        match (&self.prometheus, &self.svg) {
            (Some(address), _) => prometheus::run(console, sampler, interval, address),
            (None, Some(file)) => {
                view::picture(console, sampler, interval, window, (file, self.size))
            }
            (None, None) => view::run(console, sampler, interval),
        }
    }

    fn times(&self) -> Result<(Duration, Duration), Failure> {
        let (interval, window) = if self.csv {
            let interval = self.interval.unwrap_or(Duration::from_secs(1));
            (interval, self.window.unwrap_or(interval * 10))
        } else if !self.once && self.svg.is_none() {
            let interval = self.interval.unwrap_or(Duration::from_millis(250));
            (interval, self.window.unwrap_or(Duration::from_secs(10)))
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

/// Columns and rows.
fn size(text: &str) -> Result<(u16, u16), String> {
    let numbers = text.split_once('x');
    let numbers = numbers.and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
    let known = numbers.filter(|&(c, r)| (60..=400).contains(&c) && (10..=200).contains(&r));
    known.ok_or_else(|| "expected columns and rows, 60x10 to 400x200".to_owned())
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
fn absent(reason: impl Display) -> String {
    format!("no GPU to watch: {reason}\n")
}
