//! `--together`: whether base and collage, run side by side on one device, cost more than the sum of both alone.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use collage::backend::{Device, Program};
use collage::tensor::DType;
use serde::Serialize;

use super::measure::Loaded;
use super::networks::{Data, Network};
use crate::cli::failure::Failure;
use crate::cli::text::ms;

/// Rounds of base alone, collage alone, both: what else the machine does falls on all three.
const ROUNDS: u32 = 5;

/// One base and one collage.
#[derive(Debug, Serialize)]
pub struct Together {
    pub base: String,
    pub collage: String,
    pub dtype: String,
    pub batch: usize,
    /// Runs of each in one round, chosen so that both alone take about as long.
    pub base_runs: u32,
    pub collage_runs: u32,
    /// Medians of the rounds.
    pub base_alone_ms: f64,
    pub collage_alone_ms: f64,
    pub together_ms: f64,
    /// `together_ms` over the sum of both alone; the median of the rounds' ratios. Up to 1, nothing is lost.
    pub cost: f64,
    /// Whether each run uploads its input and downloads its result, or computes on what is there.
    pub resident: bool,
}

/// A program and what one run of it is.
struct Runner {
    program: Box<dyn Program>,
    data: Data,
    resident: bool,
}

impl Runner {
    fn new(
        device: &dyn Device,
        network: &Network,
        batch: usize,
        dtype: DType,
    ) -> Result<Self, Failure> {
        let Loaded {
            plan, mut program, ..
        } = Loaded::new(device, network, batch, dtype)?;
        let data = network.data(&plan, 0)?;
        program.run(data.input())?;
        let resident = program.run_resident(1)?.is_some();
        Ok(Self {
            program,
            data,
            resident,
        })
    }

    fn run(&mut self, times: u32) -> Result<Duration, Failure> {
        let begin = Instant::now();
        if self.resident {
            self.program.run_resident(times)?;
        } else {
            for _ in 0..times {
                self.program.run(self.data.input())?;
            }
        }
        Ok(begin.elapsed())
    }

    /// So many runs that they take about `time`.
    fn runs_in(&mut self, time: Duration) -> Result<u32, Failure> {
        self.run(1)?;
        let once = self.run(1)?.as_secs_f64().max(1e-9);
        Ok((time.as_secs_f64() / once).ceil().clamp(1.0, 1e6) as u32)
    }
}

/// Measures for about `budget`.
pub fn measure(
    device: &dyn Device,
    [base, collage]: [&Network; 2],
    batch: usize,
    dtype: DType,
    budget: Duration,
) -> Result<Together, Failure> {
    let mut b = Runner::new(device, base, batch, dtype)?;
    let mut c = Runner::new(device, collage, batch, dtype)?;
    let alone = budget / (4 * ROUNDS);
    let (base_runs, collage_runs) = (b.runs_in(alone)?, c.runs_in(alone)?);
    let mut rounds: Vec<[f64; 3]> = Vec::new();
    for _ in 0..ROUNDS {
        let (base, collage) = (b.run(base_runs)?, c.run(collage_runs)?);
        let both = side_by_side(&mut b, base_runs, &mut c, collage_runs)?;
        rounds.push([base, collage, both].map(|d| d.as_secs_f64() * 1e3));
    }
    let median = |of: &dyn Fn(&[f64; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok(Together {
        base: base.name.clone(),
        collage: collage.name.clone(),
        dtype: dtype.to_string(),
        batch,
        base_runs,
        collage_runs,
        base_alone_ms: median(&|r| r[0]),
        collage_alone_ms: median(&|r| r[1]),
        together_ms: median(&|r| r[2]),
        cost: median(&|r| r[2] / (r[0] + r[1])),
        resident: b.resident && c.resident,
    })
}

/// From the start of both to the end of the later one.
fn side_by_side(
    b: &mut Runner,
    base_runs: u32,
    c: &mut Runner,
    collage_runs: u32,
) -> Result<Duration, Failure> {
    let start = Barrier::new(3);
    std::thread::scope(|scope| {
        let threads = [(b, base_runs), (c, collage_runs)].map(|(runner, times)| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                runner.run(times)
            })
        });
        start.wait();
        let begin = Instant::now();
        for thread in threads {
            let ended = thread.join();
            ended.map_err(|_| Failure::other("a measuring thread panicked"))??;
        }
        Ok(begin.elapsed())
    })
}

/// For people.
pub fn text(rows: &[Together]) -> String {
    let mut text = String::new();
    for row in rows {
        let of = if row.resident {
            "computing on what is on the device"
        } else {
            "from the input to the result in host memory"
        };
        text += &format!(
            "{}, batch {}: {} x {} alone {}, {} x {} alone {}, side by side {}: {:.3} of the sum ({of})\n",
            row.dtype,
            row.batch,
            row.base_runs,
            row.base,
            ms(row.base_alone_ms),
            row.collage_runs,
            row.collage,
            ms(row.collage_alone_ms),
            ms(row.together_ms),
            row.cost,
        );
    }
    text
}
