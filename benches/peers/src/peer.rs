//! What a peer is: something that loads a case and runs it again and again, giving back what it computed.

use std::fmt;
use std::time::{Duration, Instant};

use collage::model::plan::{Plan, Value};

use crate::cases::Case;

/// Anything that goes wrong in a peer; shown in the table where its figure would be.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Which hardware a runtime uses; ratios are taken among those that share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Native code on the CPU's cores.
    Cpu,
    /// Shaders, on whatever adapter the machine has; possibly a software one.
    Wgpu,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Where::Cpu => "cpu",
            Where::Wgpu => "wgpu",
        })
    }
}

/// One runtime on one kind of hardware.
pub trait Peer {
    /// Column name.
    fn name(&self) -> &'static str;
    /// As its package manager calls it.
    fn version(&self) -> String;
    /// What it runs on.
    fn runs_on(&self) -> Where;
    /// Whether it can be asked to run this case at all.
    fn takes(&self, case: &Case) -> bool;
    /// Compiles or uploads the case. Not timed.
    fn load(&mut self, case: &Case) -> Result<Box<dyn Loaded>, Error>;
}

/// A case that is ready to run: one run takes the input from host memory and ends with the output there.
pub trait Loaded {
    /// Runs once. The last value in (N, C, H, W), or the scores of `top_k`.
    fn run(&mut self) -> Result<Vec<f32>, Error>;

    /// Seconds of each of `repeats` runs.
    fn time(&mut self, repeats: usize) -> Result<Vec<f64>, Error> {
        let mut seconds = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let start = Instant::now();
            std::hint::black_box(self.run()?);
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}

/// What every turn waits before it starts: long enough for the thread pools of the runtime before it to stop spinning.
pub const SETTLE: Duration = Duration::from_millis(60);

/// (N, H, W, C) to (N, C, H, W).
pub fn to_nchw(x: &[f32], [n, h, w, c]: [usize; 4]) -> Vec<f32> {
    permute(x, n, h * w, c)
}

/// (N, A, B) to (N, B, A).
fn permute(x: &[f32], n: usize, a: usize, b: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for n in 0..n {
        for i in 0..a {
            for j in 0..b {
                out[(n * b + j) * a + i] = x[(n * a + i) * b + j];
            }
        }
    }
    out
}

/// The value that a plan without `top_k` gives back.
pub fn output(plan: &Plan) -> Option<&Value> {
    let last = plan.steps.last()?;
    plan.values.get(last.writes()?.0)
}
