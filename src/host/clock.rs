//! Time: the origin from which the scheduler's microseconds count, and waits that end when they should.
//!
//! The operating system wakes a thread 50 us late or more. So a wait sleeps until shortly before its end and spins the
//! rest: that keeps timers within 100 us and costs a spin only where somebody waits for that very time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::sched::Micros;

/// How long before its end a wait stops sleeping.
const SPIN: Duration = Duration::from_micros(120);
/// How often a long sleep looks whether it should stop.
const LOOK: Duration = Duration::from_millis(5);

/// Microseconds since its making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(super) fn micros(&self, at: Instant) -> Micros {
        micros(at.saturating_duration_since(self.origin))
    }

    /// `wait` after `at`, rounded up: nothing is released, and nobody given up, before its time.
    pub(super) fn micros_after(&self, at: Instant, wait: Duration) -> Micros {
        let end = at
            .saturating_duration_since(self.origin)
            .saturating_add(wait);
        micros(end.saturating_add(Duration::from_nanos(999)))
    }

    fn instant(&self, at: Micros) -> Option<Instant> {
        self.origin.checked_add(Duration::from_micros(at))
    }
}

/// A duration in the scheduler's unit.
pub(super) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Somebody asks for attention.
    Nudge,
    /// The time has come.
    Timeout,
}

impl Clock {
    /// Waits for a nudge, at most until `until`.
    pub(super) fn wait(&self, nudges: &Receiver<()>, until: Option<Micros>) -> Wake {
        // A time beyond what the platform can express is no limit.
        let Some(until) = until.and_then(|at| self.instant(at)) else {
            let _ = nudges.recv();
            return Wake::Nudge;
        };
        if let Some(sleep_until) = until.checked_sub(SPIN).filter(|&t| t > Instant::now())
            && nudges.recv_deadline(sleep_until).is_ok()
        {
            return Wake::Nudge;
        }
        while Instant::now() < until {
            if nudges.try_recv().is_ok() {
                return Wake::Nudge;
            }
            std::hint::spin_loop();
        }
        Wake::Timeout
    }
}

/// Sleeps until `until`, or until `stop` is set.
pub(super) fn sleep_until(until: Instant, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(SPIN) {
            Some(sleep) => thread::sleep(sleep.min(LOOK)),
            None => std::hint::spin_loop(),
        }
    }
}
