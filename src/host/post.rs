//! Where the scheduler lives, and who turns it: whoever has something to tell it, if nobody else is at it.
//!
//! A [`Command`] is put into the inbox, and its sender handles what lies there if the lock is free. If it is not, the
//! holder looks into the inbox once more after letting go, so that nothing stays there. A request thus wakes two threads
//! and not four: its worker, by the submitter itself, and the submitter, by the worker. The scheduler's own thread is
//! left with what nobody brings: the time that passes, and what others leave because they have done their share.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::clock::{Clock, Wake};
use super::drive::{Command, Driver};
use super::stats::Stats;
use super::worker::panic_message;

/// Most commands that a sender handles, its own among them, before it leaves the rest to the scheduler's thread.
const SHARE: usize = 32;
/// How long the end of the engine waits for runs that nobody needs any more.
const GRACE: Duration = Duration::from_secs(5);

/// Takes commands to the scheduler.
#[derive(Clone)]
pub(super) struct Post {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: (Sender<Command>, Receiver<Command>),
    /// `None` before it begins and after its end.
    driver: Mutex<Option<Driver>>,
    /// Set with the end: commands go back to their senders.
    ended: AtomicBool,
    /// Wakes the scheduler's thread.
    nudges: (Sender<()>, Receiver<()>),
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Post")
    }
}

impl Post {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                inbox: unbounded(),
                driver: Mutex::new(None),
                ended: AtomicBool::new(false),
                nudges: bounded(1),
            }),
        }
    }

    /// Handled by now, or by another thread soon; given back where there is no scheduler any more.
    pub(super) fn send(&self, command: Command) -> Result<(), Box<Command>> {
        if self.shared.ended.load(Ordering::Acquire) {
            return Err(Box::new(command));
        }
        // Never full, and never closed while both ends are here.
        let _ = self.shared.inbox.0.send(command);
        self.turn();
        Ok(())
    }

    /// Handles what lies in the inbox, unless somebody is at it.
    fn turn(&self) {
        loop {
            let mut driver = match self.shared.driver.try_lock() {
                Ok(driver) => driver,
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(panicked)) => panicked.into_inner(),
            };
            let handle = |driver: &mut Driver| Turned {
                is_share_done: self.shared.handle(driver),
                is_alarm_earlier: driver.advance_alarm(),
            };
            let turned = self.shared.with(&mut driver, handle);
            let turned = turned.unwrap_or_else(|| self.shared.sweep());
            drop(driver);
            if turned.is_share_done || turned.is_alarm_earlier {
                self.shared.nudge();
            }
            if turned.is_share_done || !self.shared.is_work_left() {
                return;
            }
        }
    }

    /// The life of the scheduler's thread: until it is told to drain and every request is settled.
    pub(super) fn run(&self, driver: Driver) -> (Stats, HashSet<usize>) {
        let clock = driver.clock();
        *self.lock() = Some(driver);
        self.turn_until_done(&clock, None);
        self.shared.with(&mut self.lock(), Driver::close);
        // A run that does not end keeps its thread, and nobody here.
        self.turn_until_done(&clock, Some(Instant::now() + GRACE));
        self.end()
    }

    fn turn_until_done(&self, clock: &Clock, give_up: Option<Instant>) {
        let mut is_tick = false;
        while give_up.is_none_or(|at| Instant::now() < at) {
            let mut driver = self.lock();
            let handle = |driver: &mut Driver| {
                if is_tick {
                    driver.tick();
                }
                let is_share_done = self.shared.handle(driver);
                let until = driver.set_alarm();
                (!driver.is_done()).then_some((is_share_done, until))
            };
            let Some(Some((is_share_done, until))) = self.shared.with(&mut driver, handle) else {
                return;
            };
            drop(driver);
            is_tick = false;
            if !(is_share_done || self.shared.is_work_left()) {
                let give_up = give_up.map(|at| clock.micros(at));
                let until = [until, give_up].into_iter().flatten().min();
                is_tick = clock.wait(&self.shared.nudges.1, until) == Wake::Timeout;
            }
        }
    }

    /// The last words. Who comes later finds nobody.
    fn end(&self) -> (Stats, HashSet<usize>) {
        let mut driver = self.lock();
        let last = driver.as_ref().map(Driver::last_words).unwrap_or_default();
        self.shared.ended.store(true, Ordering::Release);
        *driver = None;
        drop(driver);
        self.turn();
        last
    }

    fn lock(&self) -> MutexGuard<'_, Option<Driver>> {
        let driver = self.shared.driver.lock();
        driver.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to the scheduler's thread after a turn.
struct Turned {
    /// As much was handled as one sender is asked to.
    is_share_done: bool,
    /// The thread would sleep for too long, or there is nothing left to sleep for.
    is_alarm_earlier: bool,
}

impl Shared {
    /// A share of the inbox; whether there is more.
    fn handle(&self, driver: &mut Driver) -> bool {
        for _ in 0..SHARE {
            let Ok(command) = self.inbox.1.try_recv() else {
                return false;
            };
            driver.take(command);
        }
        !self.inbox.1.is_empty()
    }

    /// Has the driver do something, if there is one. After a panic it may be half changed: it is not used again, whoever waits
    /// for it is told, and whoever happened to turn it goes on.
    fn with<T>(
        &self,
        driver: &mut Option<Driver>,
        what: impl FnOnce(&mut Driver) -> T,
    ) -> Option<T> {
        let sound = driver.as_mut()?;
        let done = catch_unwind(AssertUnwindSafe(|| what(sound)));
        if let Err(panic) = &done {
            tracing::error!(
                reason = panic_message(&**panic),
                "the scheduler panicked: the engine ends"
            );
            self.ended.store(true, Ordering::Release);
            *driver = None;
            self.nudge();
        }
        done.ok()
    }

    /// After the end nobody handles commands: they are dropped, and whoever waits for one finds that. Before the beginning
    /// they are left to it.
    fn sweep(&self) -> Turned {
        let is_ended = self.ended.load(Ordering::Acquire);
        while is_ended && self.inbox.1.try_recv().is_ok() {}
        Turned {
            is_share_done: !is_ended,
            is_alarm_earlier: false,
        }
    }

    /// Asked after the lock was let go: either this sees a command, or its sender sees the lock free.
    fn is_work_left(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.inbox.1.is_empty()
    }

    fn nudge(&self) {
        // Full: it will wake anyway.
        let _ = self.nudges.0.try_send(());
    }
}
