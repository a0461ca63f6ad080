//! `--soak`: every network in a thread of its own on one device, for long, each answer compared with the first one on
//! the same input to the bit. What two streams do to each other's memory shows here.

use std::time::{Duration, Instant};

use collage::backend::{Device, Output};
use collage::tensor::DType;
use serde::Serialize;

use super::measure::Loaded;
use super::networks::{Data, Network};
use super::spread::Spread;
use crate::cli::failure::Failure;
use crate::cli::text::{ms, thousands};

/// Inputs that take turns: one alone would hide an answer that is left over from the run before.
const INPUTS: usize = 3;

/// One network's thread.
#[derive(Debug, Serialize)]
pub struct Stream {
    pub network: String,
    pub dtype: String,
    pub batch: usize,
    pub runs: u64,
    /// Runs whose result was not the first one's on the same input.
    pub wrong: u64,
    pub latency_ms: Option<Spread>,
}

/// Most latencies that are kept: the first ones.
const KEPT: usize = 1 << 20;

/// Runs all networks side by side for `time`.
///
/// # Errors
/// Where any run failed or gave another answer than before.
pub fn soak(
    device: &dyn Device,
    networks: &[Network],
    batch: usize,
    dtype: DType,
    time: Duration,
) -> Result<Vec<Stream>, Failure> {
    let mut threads = Vec::new();
    for network in networks {
        let loaded = Loaded::new(device, network, batch, dtype)?;
        let inputs: Result<Vec<Data>, Failure> = (0..INPUTS)
            .map(|set| network.data(&loaded.plan, set))
            .collect();
        threads.push((network.name.clone(), loaded, inputs?));
    }
    let streams = std::thread::scope(|scope| {
        let running: Vec<_> = threads
            .into_iter()
            .map(|(name, loaded, inputs)| scope.spawn(move || stream(name, loaded, &inputs, time)))
            .collect();
        let joined = running.into_iter().map(|thread| {
            let panicked = |_| Failure::other("a soaking thread panicked");
            thread.join().map_err(panicked)?
        });
        joined.collect::<Result<Vec<Stream>, Failure>>()
    })?;
    match streams.iter().find(|s| s.wrong > 0) {
        None => Ok(streams),
        Some(s) => Err(Failure::device(format!(
            "{}, {}, batch {}: {} of {} runs gave another answer than the first one on the same input",
            s.network, s.dtype, s.batch, s.wrong, s.runs
        ))),
    }
}

fn stream(
    network: String,
    mut loaded: Loaded,
    inputs: &[Data],
    time: Duration,
) -> Result<Stream, Failure> {
    let mut first = Vec::with_capacity(inputs.len());
    for input in inputs {
        first.push(bits(&loaded.program.run(input.input())?));
    }
    let (mut runs, mut wrong, mut latency) = (0u64, 0u64, Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < time {
        for (input, first) in inputs.iter().zip(&first) {
            let start = Instant::now();
            let output = loaded.program.run(input.input())?;
            if latency.len() < KEPT {
                latency.push(start.elapsed());
            }
            runs += 1;
            wrong += u64::from(bits(&output) != *first);
        }
    }
    Ok(Stream {
        network,
        dtype: loaded.plan.dtype.to_string(),
        batch: loaded.plan.batch,
        runs,
        wrong,
        latency_ms: Spread::of(&latency),
    })
}

fn bits(output: &Output) -> Vec<u32> {
    match output {
        Output::Tensor(data) => data.iter().map(|x| x.to_bits()).collect(),
        Output::TopK(rows) => {
            let of = |s: &collage::backend::Scored| [s.class, s.score.to_bits()];
            rows.iter().flatten().flat_map(of).collect()
        }
    }
}

/// For people.
pub fn text(streams: &[Stream]) -> String {
    let mut text = String::new();
    for s in streams {
        let latency = s.latency_ms.map_or(String::new(), |l| {
            format!(
                "; median {}, p99 {}, max {}",
                ms(l.median),
                ms(l.p99),
                ms(l.max)
            )
        });
        text += &format!(
            "{}, {}, batch {}: {} runs, each with the first one's answer{latency}\n",
            s.network,
            s.dtype,
            s.batch,
            thousands(s.runs)
        );
    }
    text
}
