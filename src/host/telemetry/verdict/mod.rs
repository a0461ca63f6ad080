//! What is wrong with a GPU or a worker, and what says so.
//!
//! docs/verdict.md explains each cause, its thresholds with their sources, and what to do about it.

mod gpu;
mod worker;

use std::fmt;

use serde::Serialize;

/// Why work is slow, the gravest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing is wrong; idle counts as that, and so does a power limit that is kept.
    #[default]
    None,
    /// The GPU is broken or lost: a fatal Xid, uncorrected memory errors, off the bus.
    Hardware,
    /// Heat holds the clocks back.
    Thermal,
    /// The power supply holds the clocks back: a power brake, or a sudden draw of power.
    Power,
    /// The PCI Express link is narrower or slower than it could be while data moves, or repeats itself.
    Link,
    /// Another process uses the GPU.
    Contention,
    /// The GPU waits for the host.
    Host,
    /// All workers are slow together: there is too much to do.
    Load,
    /// The worker is slow, and nothing that can be seen explains it.
    Unknown,
}

/// How sure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// It fits, and other explanations do too.
    Possible,
    /// It fits better than the others.
    Likely,
    /// The driver itself says so, or there is nothing to say.
    #[default]
    Certain,
}

/// What is wrong, and what says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// The gravest of those that hold, in the order of [`Cause`].
    pub cause: Cause,
    /// How sure.
    pub confidence: Confidence,
    /// Sentences with numbers, for the cause.
    pub evidence: Vec<String>,
    /// What else was seen: further causes, limits that are no faults, figures that are missing.
    pub notes: Vec<String>,
}

/// A worker's figures, as its engine tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Worker {
    /// Among the workers of its engine.
    pub index: usize,
    /// NVML's index of its GPU, if it has one.
    pub gpu: Option<u32>,
    /// Median of a run's time.
    pub service_p50_us: u64,
    /// 99th percentile of a run's time.
    pub service_p99_us: u64,
    /// 1 for as fast as the fastest worker on the same work; `None` before that is known.
    pub relative: Option<f64>,
    /// 1 for as fast as it ever was; `None` before that is known.
    pub individual: Option<f64>,
    /// Jobs that wait for it or run.
    pub queued: usize,
    /// Runs so far.
    pub runs: u64,
    /// Requests that expired with it.
    pub misses: u64,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::None => "none",
            Cause::Hardware => "hardware",
            Cause::Thermal => "thermal",
            Cause::Power => "power",
            Cause::Link => "link",
            Cause::Contention => "contention",
            Cause::Host => "host",
            Cause::Load => "load",
            Cause::Unknown => "unknown",
        })
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confidence::Possible => "possible",
            Confidence::Likely => "likely",
            Confidence::Certain => "certain",
        })
    }
}

/// One thing that is wrong.
struct Finding {
    cause: Cause,
    confidence: Confidence,
    evidence: Vec<String>,
}

impl Verdict {
    /// The gravest finding, and the others as notes.
    fn from(mut findings: Vec<Finding>, mut notes: Vec<String>) -> Verdict {
        findings.sort_by_key(|finding| finding.cause);
        let mut findings = findings.into_iter();
        let Some(first) = findings.next() else {
            return Verdict {
                notes,
                ..Verdict::default()
            };
        };
        let rest = findings.flat_map(|other| {
            let cause = other.cause;
            let sentences = other.evidence.into_iter();
            sentences.map(move |sentence| format!("also {cause}: {sentence}"))
        });
        notes.splice(0..0, rest);
        Verdict {
            cause: first.cause,
            confidence: first.confidence,
            evidence: first.evidence,
            notes,
        }
    }
}

/// A share as people read it: without decimals, but never 0% for something that was there.
fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 1.0 => "under 1%".into(),
        p => format!("{p:.0}%"),
    }
}
