//! Injected contention: a load of its own on a worker's device, so that the worker's runs wait for real work.
//!
//! A load is one thread with one program, the largest base plan, which it runs on blank images: for a share of the time,
//! in its window, until the engine ends. It belongs to no worker and answers nobody; what it did is in
//! [`Stats::contention`](super::Stats::contention).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::clock::sleep_until;
use super::error::Error;
use super::stats::ContentionStats;
use super::straggler::Opened;
use super::worker::panic_message;
use super::{Setup, spawn};
use crate::backend::{Device, Input, Program};
use crate::image::Image;
use crate::model::plan::Plan;
use crate::straggler::{Straggler, Window};

/// How long the end of the engine waits for a load's last run.
const GRACE: Duration = Duration::from_secs(5);
/// Side of the blank images: photographs are resized on the device, and so are these.
const SIDE: usize = 224;

/// All loads of an engine. Dropping it ends them.
#[derive(Debug, Default)]
pub(super) struct Contention {
    stop: Arc<AtomicBool>,
    loads: Vec<(Arc<Mutex<ContentionStats>>, JoinHandle<()>)>,
}

/// One load before its thread starts.
struct Load {
    share: f64,
    window: Option<Window>,
    opened: Opened,
    stop: Arc<AtomicBool>,
    stats: Arc<Mutex<ContentionStats>>,
}

impl Contention {
    /// Starts the loads that stragglers ask for: one on a worker's device, or on each device once.
    pub(super) fn start(setup: &Setup, opened: &Opened) -> Result<Contention, Error> {
        let mut contention = Contention::default();
        let plans = &setup.plans.base;
        let Some(plan) = plans.iter().max_by_key(|plan| plan.capacity()) else {
            return Ok(contention);
        };
        for straggler in &setup.stragglers {
            let Some(share) = straggler.contention() else {
                continue;
            };
            let handles = match straggler.worker() {
                Some(worker) => vec![worker % setup.devices.len()],
                None => (0..setup.devices.len())
                    .filter(|&handle| setup.device_of(handle) == handle)
                    .collect(),
            };
            for handle in handles {
                let device = (setup.device_of(handle), setup.devices[handle].clone());
                contention.add(straggler, share, device, plan.clone(), opened)?;
            }
        }
        Ok(contention)
    }

    /// Starts one on a device, and waits until it is loaded.
    fn add(
        &mut self,
        straggler: &Straggler,
        share: f64,
        device: (usize, Arc<dyn Device>),
        plan: Arc<Plan>,
        opened: &Opened,
    ) -> Result<(), Error> {
        let (index, device) = device;
        let name = device.info().name.clone();
        let stats = Arc::new(Mutex::new(ContentionStats {
            straggler: straggler.to_string(),
            device: index,
            device_name: name.clone(),
            ..ContentionStats::default()
        }));
        let load = Load {
            share,
            window: straggler.window(),
            opened: opened.clone(),
            stop: self.stop.clone(),
            stats: stats.clone(),
        };
        let (loaded, answer) = crossbeam_channel::bounded(1);
        let thread = format!("collage-contention-{}", self.loads.len());
        let handle = spawn(thread, move || load.run(&*device, plan, loaded))?;
        self.loads.push((stats, handle));
        let reason = match answer.recv() {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => "its thread ended".to_owned(),
        };
        Err(Error::Contention {
            straggler: straggler.to_string(),
            device: name,
            reason,
        })
    }

    /// What each did so far.
    pub(super) fn stats(&self) -> Vec<ContentionStats> {
        let read = |stats: &Mutex<_>| lock(stats).clone();
        self.loads.iter().map(|(stats, _)| read(stats)).collect()
    }

    /// Ends all loads and says what they did.
    pub(super) fn end(&mut self) -> Vec<ContentionStats> {
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + GRACE;
        for (_, thread) in &self.loads {
            // A run that never ends keeps its thread, and would keep this one.
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.stats()
    }
}

impl Drop for Contention {
    fn drop(&mut self) {
        self.end();
    }
}

impl Load {
    /// The thread's whole life. Tells `loaded` first whether the program could be loaded.
    fn run(self, device: &dyn Device, plan: Arc<Plan>, loaded: Sender<Result<(), String>>) {
        let blank = Image::from_rgb(SIDE, SIDE, vec![0; SIDE * SIDE * 3]);
        let images: Vec<Image> = blank.into_iter().cycle().take(plan.capacity()).collect();
        let mut program = match caught(|| device.load(plan)) {
            Ok(program) => program,
            Err(reason) => {
                let _ = loaded.send(Err(reason));
                return;
            }
        };
        if loaded.send(Ok(())).is_err() {
            return;
        }
        while !self.stop.load(Ordering::Relaxed) {
            if !self.is_on() {
                // Windows count by microseconds, but a load that begins a millisecond late is a load.
                sleep_until(Instant::now() + Duration::from_millis(1), &self.stop);
                continue;
            }
            let took = match self.once(&mut *program, &images) {
                Ok(took) => took,
                Err(reason) => {
                    let mut stats = lock(&self.stats);
                    tracing::warn!(
                        straggler = stats.straggler,
                        reason,
                        "injected contention ended"
                    );
                    stats.failure = Some(reason);
                    break;
                }
            };
            let rest = took.mul_f64(1.0 / self.share - 1.0);
            if !rest.is_zero() {
                sleep_until(Instant::now() + rest, &self.stop);
            }
        }
        // Inside the net: a broken device may panic once more when its buffers go.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(program)));
    }

    /// Not before the engine has opened.
    fn is_on(&self) -> bool {
        let Some(opened) = self.opened.get() else {
            return false;
        };
        let at = super::clock::micros(opened.elapsed());
        self.window.is_none_or(|window| window.holds(at))
    }

    fn once(&self, program: &mut dyn Program, images: &[Image]) -> Result<Duration, String> {
        let began = Instant::now();
        caught(|| program.run(Input::Images(images)))?;
        let took = began.elapsed();
        let mut stats = lock(&self.stats);
        stats.runs += 1;
        stats.busy += took;
        Ok(took)
    }
}

/// What a device does, its panics as failures.
fn caught<T, E: std::fmt::Display>(act: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panicked: {}", panic_message(&*panic))),
    }
}

/// A panic while the lock was held leaves counts whole.
fn lock(stats: &Mutex<ContentionStats>) -> std::sync::MutexGuard<'_, ContentionStats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}
