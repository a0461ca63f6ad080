//! Engines as C programs hold them: opened, closed once, and named until they are freed.
//!
//! Closing takes the engine out of its place first, so that new submissions are refused at once, and then waits outside of
//! every lock that other calls take.

use std::ffi::{CString, c_char};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use super::callbacks::{self, Callbacks};
use super::error::{AbiError, Failure, c_text};
use super::handles::{ENGINES, Handle, handle};
use super::{guard, layout, options, stats, types};
use crate::engine::{Engine, Error, Options, Stats};
use crate::image::Reads;

/// An engine that has a name.
#[derive(Debug)]
pub(super) struct Served {
    /// Its name, which also names it to its callbacks.
    name: usize,
    /// `None` from its close on.
    engine: RwLock<Option<Engine>>,
    /// What it had done when it was closed; locked while it closes.
    closed: Mutex<Option<Stats>>,
    pub(super) labels: Arc<Vec<CString>>,
    pub(super) callbacks: Callbacks,
    /// Of images in device memory.
    pub(super) reads: Arc<Reads>,
}

impl Served {
    fn open(options: Options) -> Result<Arc<Self>, Error> {
        let labels = options.base.classes().iter().map(|class| c_text(class));
        let name = ENGINES.reserve();
        let served = Arc::new(Self {
            name,
            labels: Arc::new(labels.collect()),
            callbacks: Callbacks::new(name),
            reads: Arc::default(),
            engine: RwLock::new(Some(Engine::open(options)?)),
            closed: Mutex::new(None),
        });
        ENGINES.insert(name, served.clone());
        Ok(served)
    }

    /// Lets `work` use the engine; [`Error::Closed`] from its close on. Must not block for long: a close waits for it.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        work(engine.as_ref().ok_or(Error::Closed)?)
    }

    /// What it has done; never waits for its close, which may be waiting for a callback that asks.
    pub(super) fn stats(&self) -> Result<Stats, Failure> {
        let running = self.with(|engine| Ok(engine.stats()));
        running.or_else(|closed| match self.closed.try_lock() {
            Ok(stats) => stats.clone().ok_or(closed),
            Err(TryLockError::Poisoned(stats)) => stats.into_inner().clone().ok_or(closed),
            Err(TryLockError::WouldBlock) => Err(closed),
        })
    }

    /// Closes it if it is not closed, and waits for whoever is closing it.
    fn close(&self) -> Result<Stats, AbiError> {
        if callbacks::of_engine() == Some(self.name) {
            return Err(AbiError::InCallback);
        }
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stats) = &*closed {
            return Ok(stats.clone());
        }
        let engine = self
            .engine
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let stats = engine.map(Engine::shutdown).unwrap_or_default();
        self.callbacks.finish();
        *closed = Some(stats.clone());
        Ok(stats)
    }
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_engine_open(
    options: *const types::Options,
    engine: *mut Handle,
) -> i32 {
    guard(|| {
        if engine.is_null() {
            return Err(AbiError::Null { what: "engine" }.into());
        }
        // SAFETY: not NULL, so the caller promises room for a handle.
        unsafe { engine.write(std::ptr::null_mut()) };
        // SAFETY: the caller promises what the header asks of `options`.
        let options = unsafe { options::open(options) }?;
        let served = Served::open(options)?;
        // SAFETY: as above.
        unsafe { engine.write(handle(served.name)) };
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_engine_close(engine: Handle, stats: *mut types::Stats) -> i32 {
    guard(|| {
        // SAFETY: the caller promises NULL or a struct of its size.
        unsafe { layout::check(stats) }?;
        let served = ENGINES.get(engine)?;
        let done = served.close()?;
        if !stats.is_null() {
            // SAFETY: as above.
            unsafe { layout::write(stats, &stats::counted(&done, &served.reads)) }?;
        }
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_engine_free(engine: Handle) -> i32 {
    guard(|| {
        if engine.is_null() {
            return Ok(());
        }
        if callbacks::of_engine() == Some(engine.addr()) {
            return Err(AbiError::InCallback.into());
        }
        ENGINES.remove(engine)?.close()?;
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_engine_class_count(engine: Handle, count: *mut usize) -> i32 {
    guard(|| {
        if count.is_null() {
            return Err(AbiError::Null { what: "count" }.into());
        }
        let served = ENGINES.get(engine)?;
        // SAFETY: not NULL, so the caller promises room for a number.
        unsafe { count.write(served.labels.len()) };
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_engine_class_label(
    engine: Handle,
    class_index: usize,
    label: *mut *const c_char,
) -> i32 {
    guard(|| {
        if label.is_null() {
            return Err(AbiError::Null { what: "label" }.into());
        }
        let served = ENGINES.get(engine)?;
        let found = served.labels.get(class_index).ok_or_else(|| {
            let expected = format!("less than {}", served.labels.len());
            AbiError::value("class_index", class_index, expected)
        })?;
        // SAFETY: not NULL, so the caller promises room for a pointer. The text lives as long as the name of the engine.
        unsafe { label.write(found.as_ptr()) };
        Ok(())
    })
}
