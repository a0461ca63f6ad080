//! What GPUs say of themselves, on its way to the scheduler: a thread that reads NVML a few times a second and tells the
//! scheduler when a worker's GPU is in another condition than before.
//!
//! It costs requests nothing: it waits for no one and no one for it. It ends with the host, and where there is no NVML, or
//! no worker is on a GPU that NVML knows, before it has begun.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::drive::Command;
use super::post::Post;
use super::telemetry::{History, Verdict, Watch, Window};
use crate::sched::Condition;

/// Between readings.
const INTERVAL: Duration = Duration::from_millis(250);
/// What a condition is judged on.
const WINDOW: Duration = Duration::from_secs(2);
/// Fewest readings to say that a GPU works less well than it could; that it is broken is said at once.
const LEAST: usize = 3;
/// A fatal error is reported once, and stands for this long: the GPU must show that it is well again.
const FAULT: Duration = Duration::from_secs(60);

/// Runs until it is dropped. It is not waited for: a reading of a GPU that is off its bus can take the driver long.
#[derive(Debug)]
pub(super) struct Feed {
    _stop: Sender<()>,
}

/// `gpus`: for each worker the PCI bus id of its device, if it has one.
pub(super) fn start(gpus: Vec<Option<String>>, post: Post) -> Option<Feed> {
    if gpus.iter().all(Option::is_none) {
        return None;
    }
    let (stop, stopped) = bounded(0);
    let spawned = thread::Builder::new()
        .name("collage-telemetry".to_owned())
        .spawn(move || run(&gpus, &post, &stopped));
    match spawned {
        Ok(_) => Some(Feed { _stop: stop }),
        Err(error) => {
            tracing::warn!(%error, "no thread for telemetry: health is judged by runs alone");
            None
        }
    }
}

fn run(gpus: &[Option<String>], post: &Post, stopped: &Receiver<()>) {
    let mut watch = match Watch::open(None, WINDOW) {
        Ok(watch) => watch,
        Err(reason) => {
            tracing::info!(%reason, "no telemetry: health is judged by runs alone");
            return;
        }
    };
    let mut subjects = subjects(gpus, watch.histories());
    while !subjects.is_empty() {
        watch.read();
        for subject in &mut subjects {
            let Some(history) = watch.histories().get(subject.gpu) else {
                continue;
            };
            for worker in subject.news(history) {
                let condition = subject.told;
                if post.send(Command::Telemetry(worker, condition)).is_err() {
                    return;
                }
            }
        }
        if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// A GPU with workers on it.
struct Subject {
    /// Among the histories.
    gpu: usize,
    workers: Vec<usize>,
    /// What was said of it last.
    told: Condition,
    /// When a fatal error was last seen.
    fault: Option<Instant>,
}

fn subjects(gpus: &[Option<String>], histories: &[History]) -> Vec<Subject> {
    let known = histories.iter().enumerate().map(|(gpu, history)| {
        let bus = history.gpu().pci_bus_id.as_ref();
        let is_here = |of: &Option<String>| of.as_ref().is_some_and(|of| Some(of) == bus);
        let workers = gpus.iter().enumerate().filter(|(_, of)| is_here(of));
        Subject {
            gpu,
            workers: workers.map(|(worker, _)| worker).collect(),
            told: Condition::default(),
            fault: None,
        }
    });
    known
        .filter(|subject| !subject.workers.is_empty())
        .collect()
}

impl Subject {
    /// The workers to tell, if there is something new.
    fn news(&mut self, history: &History) -> Vec<usize> {
        let window = history.window();
        if window.is_faulty() {
            self.fault = Some(Instant::now());
        }
        let faulty = self.fault.is_some_and(|at| at.elapsed() < FAULT);
        let condition = condition(&window, faulty);
        if condition == self.told {
            return Vec::new();
        }
        self.told = condition;
        let verdict = Verdict::of_gpu(
            history.gpu(),
            &window,
            history.latest(),
            &[std::process::id()],
        );
        let (gpu, workers) = (history.gpu().index, &self.workers);
        let evidence = verdict.evidence.join("; ");
        tracing::info!(gpu, ?workers, cause = %verdict.cause, evidence, ?condition, "telemetry");
        self.workers.clone()
    }
}

/// In whole percents: smaller changes are no news.
fn condition(window: &Window, faulty: bool) -> Condition {
    let whole = |share: f64| (share * 100.0).round() / 100.0;
    let enough = window.readings >= LEAST;
    Condition {
        slowed: window.slowed().filter(|_| enough).map(whole),
        link: window.link_lost().filter(|_| enough).map(whole),
        faulty,
    }
}
