//! Callbacks: one thread an engine calls them, one after the other.
//!
//! Not the one that turns the scheduler, which no caller may hold up. It starts with the first request that has a callback, and ends
//! when the engine has settled all of them.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::handles::TICKETS;
use super::ticket::Submitted;
use super::types::{Answer, Callback, Handle};
use crate::engine::Error;

// SAFETY: a type; whoever calls it says why it may.
type Function = unsafe extern "C" fn(*mut c_void, Handle, i32, *const Answer);

/// A callback and what it is given.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) callback: Function,
    pub(super) user_data: *mut c_void,
}

// SAFETY: the header says that callbacks are called by another thread: the caller's data is made for that.
unsafe impl Send for Told {}
// SAFETY: as above; nothing is read through it here.
unsafe impl Sync for Told {}

impl Told {
    /// The request's, if it has one.
    pub(super) fn new(callback: Callback, user_data: *mut c_void) -> Option<Self> {
        callback.map(|callback| Self {
            callback,
            user_data,
        })
    }
}

/// A request that was settled.
pub(super) struct News {
    pub(super) told: Told,
    /// The ticket's name; 0 where none was asked for.
    pub(super) ticket: usize,
    pub(super) submitted: Arc<Submitted>,
}

/// Of one engine.
#[derive(Debug)]
pub(super) struct Callbacks {
    engine: usize,
    thread: Mutex<Thread>,
}

#[derive(Debug)]
enum Thread {
    /// Nobody has asked for a callback.
    Idle,
    Running(Sender<News>, JoinHandle<()>),
    Finished,
}

thread_local! {
    /// On a thread that calls callbacks: their engine's name.
    static OF_ENGINE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The engine whose callback this thread is in.
pub(super) fn of_engine() -> Option<usize> {
    OF_ENGINE.try_with(Cell::get).ok().flatten()
}

impl Callbacks {
    pub(super) fn new(engine: usize) -> Self {
        Self {
            engine,
            thread: Mutex::new(Thread::Idle),
        }
    }

    /// Where news of settled requests go.
    pub(super) fn sender(&self) -> Result<Sender<News>, Error> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match &*thread {
            Thread::Running(sender, _) => return Ok(sender.clone()),
            Thread::Finished => return Err(Error::Closed),
            Thread::Idle => {}
        }
        let (sender, news) = unbounded();
        let (name, engine) = ("collage-callbacks".to_owned(), self.engine);
        let spawned = thread::Builder::new()
            .name(name.clone())
            .spawn(move || call_all(engine, &news));
        let handle = spawned.map_err(|source| Error::Thread {
            thread: name,
            source,
        })?;
        *thread = Thread::Running(sender.clone(), handle);
        Ok(sender)
    }

    /// Waits until every callback has returned. The engine is shut down, so every request has sent its news.
    pub(super) fn finish(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = std::mem::replace(&mut *thread, Thread::Finished);
        drop(thread);
        if let Thread::Running(sender, handle) = ended {
            drop(sender);
            let _ = handle.join();
        }
    }
}

/// The thread's whole life.
fn call_all(engine: usize, news: &Receiver<News>) {
    OF_ENGINE.set(Some(engine));
    for News {
        told,
        ticket,
        submitted,
    } in news
    {
        let ticket = match ticket {
            0 => std::ptr::null_mut(),
            name => TICKETS.live(name),
        };
        submitted.tell(told, ticket);
    }
}
