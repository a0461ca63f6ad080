//! What there is to show at one instant: GPUs with their verdicts, engines with their workers and the verdicts on them.
//!
//! The view and the exporter read the same snapshot, so they cannot disagree.

use std::time::Duration;

use collage::attach::{self, Found, State};
use collage::engine::Attach;
use collage::host::telemetry::{
    self, Cause, Gpu, History, Reading, Unavailable, Verdict, Watch, Window,
};

/// How long an engine has to answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// All of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// NVML's driver, or why there is none.
    pub driver: Result<String, String>,
    /// By NVML's index.
    pub gpus: Vec<GpuNow>,
    /// By process and number.
    pub engines: Vec<EngineNow>,
    /// Why engines cannot be looked for.
    pub no_engines: Option<String>,
}

/// One GPU.
#[derive(Clone, Debug, Default)]
pub struct GpuNow {
    /// What does not change.
    pub gpu: Gpu,
    /// The newest.
    pub reading: Reading,
    /// Over the span.
    pub window: Window,
    /// On the span.
    pub verdict: Verdict,
    /// Busy shares, oldest first.
    pub busy: Vec<f64>,
}

/// One engine.
#[derive(Clone, Debug)]
pub struct EngineNow {
    /// Of its process.
    pub pid: u32,
    /// Among the engines of its process.
    pub engine: u32,
    /// Or why it did not answer.
    pub state: Result<State, String>,
    /// One for each worker.
    pub verdicts: Vec<Verdict>,
}

/// An engine that is there, and what it said or why it said nothing.
pub type Asked = (Found, Result<State, String>);

/// Which engines are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// All that are found.
    #[default]
    All,
    /// Those of this process.
    Pid(u32),
}

/// Reads GPUs and engines.
pub struct Sampler {
    watch: Result<Watch, Unavailable>,
    place: Attach,
    wanted: Wanted,
}

impl Sampler {
    /// `watch` as it was opened, or why it was not.
    pub fn new(watch: Result<Watch, Unavailable>, wanted: Wanted) -> Sampler {
        Sampler {
            watch,
            place: Attach::Auto,
            wanted,
        }
    }

    /// Reads every GPU once; engines are asked when a snapshot is made.
    pub fn read(&mut self) {
        if let Ok(watch) = &mut self.watch {
            watch.read();
        }
    }

    /// What the readings so far say, and what the engines say now.
    pub fn snapshot(&self) -> Snapshot {
        let (engines, no_engines) = match states(&self.place, self.wanted) {
            Ok(engines) => (engines, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let (driver, histories) = match &self.watch {
            Ok(watch) => (Ok(watch.driver().to_owned()), watch.histories()),
            Err(reason) => (Err(reason.to_string()), &[][..]),
        };
        Snapshot {
            no_engines,
            ..Snapshot::of(driver, histories, engines)
        }
    }
}

impl Snapshot {
    /// From what was read.
    pub fn of(
        driver: Result<String, String>,
        histories: &[History],
        states: Vec<Asked>,
    ) -> Snapshot {
        let own: Vec<u32> = states.iter().map(|(found, _)| found.pid).collect();
        let gpus: Vec<GpuNow> = histories.iter().map(|h| GpuNow::of(h, &own)).collect();
        let engines = states.into_iter().map(|(found, state)| EngineNow {
            pid: found.pid,
            engine: found.engine,
            verdicts: state
                .as_ref()
                .map_or_else(|_| Vec::new(), |s| judge(s, &gpus)),
            state,
        });
        Snapshot {
            driver,
            engines: engines.collect(),
            gpus,
            no_engines: None,
        }
    }
}

impl GpuNow {
    fn of(history: &History, own: &[u32]) -> GpuNow {
        let (gpu, window) = (history.gpu().clone(), history.window());
        let latest = history.latest();
        GpuNow {
            verdict: Verdict::of_gpu(&gpu, &window, latest, own),
            reading: latest.cloned().unwrap_or_default(),
            busy: history.readings().filter_map(|r| r.utilisation).collect(),
            gpu,
            window,
        }
    }
}

/// The engines that are there, and what each says. An error is a folder that cannot be trusted.
pub fn states(place: &Attach, wanted: Wanted) -> Result<Vec<Asked>, String> {
    let found = attach::discover(place).map_err(|error| error.to_string())?;
    let found = found.into_iter().filter(|found| match wanted {
        Wanted::All => true,
        Wanted::Pid(pid) => found.pid == pid,
    });
    let asked = found.map(|found| {
        let state = attach::read(&found, PATIENCE).map_err(|error| error.to_string());
        (found, state)
    });
    Ok(asked.collect())
}

/// The GPU that a worker runs on, if NVML knows it.
pub fn gpu_of<'a>(worker: &attach::Worker, gpus: &'a [GpuNow]) -> Option<&'a GpuNow> {
    let id = worker.gpu.as_ref()?;
    let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    gpus.iter()
        .find(|now| same(&id.uuid, &now.gpu.uuid) || same(&id.pci_bus_id, &now.gpu.pci_bus_id))
}

fn judge(state: &State, gpus: &[GpuNow]) -> Vec<Verdict> {
    let all: Vec<telemetry::Worker> = state.workers.iter().map(|w| figures(w, gpus)).collect();
    let judged = state.workers.iter().zip(&all).map(|(worker, figures)| {
        let gpu = gpu_of(worker, gpus).map(|now| (&now.window, &now.verdict));
        let mut verdict = Verdict::of_worker(figures, &all, gpu);
        if worker.injected_runs > 0 {
            let (runs, of) = (worker.injected_runs, worker.runs);
            let note = format!("{runs} of its {of} runs were delayed on purpose (injected)");
            // What was done on purpose explains more than any guess.
            match verdict.cause {
                Cause::Unknown => verdict.evidence.push(note),
                _ => verdict.notes.push(note),
            }
        }
        verdict
    });
    judged.collect()
}

fn figures(worker: &attach::Worker, gpus: &[GpuNow]) -> telemetry::Worker {
    telemetry::Worker {
        index: worker.index,
        gpu: gpu_of(worker, gpus).map(|now| now.gpu.index),
        service_p50_us: worker.service.recent_p50_us,
        service_p99_us: worker.service.recent_p99_us,
        relative: worker.scores.map(|scores| scores.relative),
        individual: worker.scores.map(|scores| scores.individual),
        queued: worker.queued,
        runs: worker.runs,
        misses: worker.deadline_exceeded,
    }
}
