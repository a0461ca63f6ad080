//! Where the scheduler lives, and who turns it: whoever has something to tell it, if nobody else is at it.
//!
//! A [`Command`] is put into the inbox, and its sender handles what lies there if the lock is free. If it is not, the
//! holder looks into the inbox once more after letting go, so that nothing stays there. A request thus wakes two threads
//! and not four: its worker, by the submitter itself, and the submitter, by the worker. The scheduler's own thread is
//! left with what nobody brings: the time that passes, and what others leave because they have done their share.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::clock::{Clock, Wake};
use super::drive::{Command, Driver};
use super::stats::Stats;

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
            let Some(mut guard) = self.try_lock() else {
                return;
            };
            let (is_share_done, is_due) = match guard.as_mut() {
                Some(driver) => (self.shared.handle(driver), driver.is_due_earlier()),
                None => self.shared.sweep(),
            };
            drop(guard);
            if is_share_done || is_due {
                self.shared.nudge();
            }
            if is_share_done || !self.shared.is_work_left() {
                return;
            }
        }
    }

    /// The life of the scheduler's thread: until it is told to drain and every request is settled.
    pub(super) fn run(&self, driver: Driver) -> (Stats, HashSet<usize>) {
        let clock = driver.clock();
        *self.lock() = Some(driver);
        self.turn_until_done(&clock, None);
        if let Some(driver) = self.lock().as_mut() {
            driver.close();
        }
        // A run that does not end keeps its thread, and nobody here.
        self.turn_until_done(&clock, Some(Instant::now() + GRACE));
        self.end()
    }

    fn turn_until_done(&self, clock: &Clock, give_up: Option<Instant>) {
        let mut is_tick = false;
        while give_up.is_none_or(|at| Instant::now() < at) {
            let mut guard = self.lock();
            let Some(driver) = guard.as_mut() else {
                return; // it panicked
            };
            if is_tick {
                driver.tick();
            }
            let is_work_left = self.shared.handle(driver);
            if driver.is_done() {
                return;
            }
            let until = driver.set_alarm();
            drop(guard);
            is_tick = false;
            if !(is_work_left || self.shared.is_work_left()) {
                let give_up = give_up.map(|at| clock.micros(at));
                let until = [until, give_up].into_iter().flatten().min();
                is_tick = matches!(clock.wait(&self.shared.nudges.1, until), Wake::Timeout);
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

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<Driver>>> {
        match self.shared.driver.try_lock() {
            Ok(driver) => Some(driver),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(broken)) => Some(self.without(broken.into_inner())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Driver>> {
        let driver = self.shared.driver.lock();
        driver.unwrap_or_else(|broken| self.without(broken.into_inner()))
    }

    /// After a panic inside: a scheduler that may be half changed is not used again, and whoever waits for it is told.
    fn without<'a>(
        &self,
        mut driver: MutexGuard<'a, Option<Driver>>,
    ) -> MutexGuard<'a, Option<Driver>> {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.driver.clear_poison();
        *driver = None;
        self.shared.nudge();
        driver
    }
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

    /// After the end nobody handles commands: they are dropped, and whoever waits for one finds that. Before the beginning
    /// they are left to it.
    fn sweep(&self) -> (bool, bool) {
        let is_ended = self.ended.load(Ordering::Acquire);
        while is_ended && self.inbox.1.try_recv().is_ok() {}
        (!is_ended, false)
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
