//! Why a worker is slow: by its own figures, its fellows' and its GPU's.
//!
//! A score below 0.75 is slow: a third more time than the reference, as NVIDIA's resiliency extension has it for its
//! relative and its individual scores. All slow together is load. A GPU that ran kernels for less than half of the time
//! waits for its host (this project's choice).

use super::{Cause, Confidence, Finding, Verdict, Worker, percent};
use crate::host::telemetry::window::Window;

/// Of either score.
const SLOW: f64 = 0.75;
/// Of the time in which any kernel ran.
const WAITING: f64 = 0.5;

impl Verdict {
    /// `all` are the workers of the engine, this one among them; `gpu` is what its GPU did and the verdict on it.
    pub fn of_worker(worker: &Worker, all: &[Worker], gpu: Option<(&Window, &Verdict)>) -> Verdict {
        let own = gpu.map(|(_, verdict)| verdict.clone()).unwrap_or_default();
        let broken = own.cause == Cause::Hardware;
        let slow = is_slow(worker);
        if slow == Some(false) && !broken {
            return well(own);
        }
        if own.cause != Cause::None {
            return blame_gpu(worker, slow, own);
        }
        if slow.is_none() {
            return own;
        }
        let finding = load(all)
            .or_else(|| gpu.and_then(|(window, _)| host(worker, window)))
            .unwrap_or(Finding {
                cause: Cause::Unknown,
                confidence: Confidence::Possible,
                evidence: Vec::new(),
            });
        let mut verdict = Verdict::from(vec![finding], own.notes);
        verdict.evidence.splice(0..0, scores(worker));
        verdict
    }
}

/// `None` before there is a score.
fn is_slow(worker: &Worker) -> Option<bool> {
    let scores = [worker.relative, worker.individual];
    let mut known = scores.iter().flatten().peekable();
    known.peek()?;
    Some(known.any(|score| *score < SLOW))
}

/// It is as fast as it should be, so what its GPU has is for its notes.
fn well(gpu: Verdict) -> Verdict {
    let cause = gpu.cause;
    let seen = gpu.evidence.into_iter();
    let mut notes: Vec<String> = seen.map(|s| format!("its GPU, {cause}: {s}")).collect();
    notes.extend(gpu.notes);
    Verdict {
        notes,
        ..Verdict::default()
    }
}

/// Without a score it is not known whether the GPU's trouble costs this worker anything.
fn blame_gpu(worker: &Worker, slow: Option<bool>, gpu: Verdict) -> Verdict {
    let most = if slow.is_none() && gpu.cause != Cause::Hardware {
        Confidence::Likely
    } else {
        Confidence::Certain
    };
    let mut verdict = gpu;
    verdict.confidence = verdict.confidence.min(most);
    verdict.evidence.splice(0..0, scores(worker));
    verdict
}

/// Each is slower than it once was, and none is slower than the others.
fn load(all: &[Worker]) -> Option<Finding> {
    let known = |w: &&Worker| w.individual.is_some() && w.relative.is_some();
    let known: Vec<&Worker> = all.iter().filter(known).collect();
    let together = |w: &&Worker| {
        w.individual.is_some_and(|score| score < SLOW) && w.relative.is_some_and(|s| s >= SLOW)
    };
    if known.len() < 2 || !known.iter().all(together) {
        return None;
    }
    let queued: usize = known.iter().map(|w| w.queued).sum();
    let count = known.len();
    Some(Finding {
        cause: Cause::Load,
        confidence: Confidence::Likely,
        evidence: vec![format!(
            "all {count} workers are slower than they were and none than the others; {queued} jobs wait or run"
        )],
    })
}

fn host(worker: &Worker, window: &Window) -> Option<Finding> {
    let busy = window.utilisation.filter(|share| *share < WAITING)?;
    let share = percent(busy);
    let jobs = worker.queued;
    Some(Finding {
        cause: Cause::Host,
        confidence: if jobs > 0 {
            Confidence::Likely
        } else {
            Confidence::Possible
        },
        evidence: vec![format!(
            "its GPU ran kernels for {share} of the time while {jobs} jobs waited or ran: it waits for the host"
        )],
    })
}

fn scores(worker: &Worker) -> Vec<String> {
    let say = |score: Option<f64>, against: &str| {
        let score = score.filter(|score| *score < SLOW)?;
        Some(format!("it works at {} of {against}", percent(score)))
    };
    let all = [
        say(worker.relative, "the speed of the fastest worker"),
        say(worker.individual, "its own best speed"),
    ];
    all.into_iter().flatten().collect()
}
