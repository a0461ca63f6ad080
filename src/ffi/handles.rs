//! Names of engines and tickets: what a C program holds in the place of an address.
//!
//! A name is a number that is given once in the life of the process, so a freed one can never name anything newer. Its
//! last two bits are its kind, so an engine is never taken for a ticket. Names are spread over several tables, each with
//! its own lock, which is held for the time of a look-up only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::engine::Served;
use super::error::AbiError;
use super::ticket::Submitted;

/// A C program's handle. Its value is a name; nothing is ever read through it.
pub type Handle = *mut Opaque;

/// What a handle seems to point to.
#[repr(C)]
pub struct Opaque {
    _nothing: [u8; 0],
}

/// Tables of one kind.
const TABLES: usize = 16;
/// Bits of a name that are its kind.
const KIND_BITS: u32 = 2;

/// What names name.
type Table<T> = Mutex<HashMap<usize, Arc<T>>>;

/// All names of one kind.
pub(super) struct Names<T> {
    kind: usize,
    called: &'static str,
    next: AtomicUsize,
    tables: LazyLock<[Table<T>; TABLES]>,
}

/// Engines.
pub(super) static ENGINES: Names<Served> = Names::new(1, "engine");
/// Tickets.
pub(super) static TICKETS: Names<Submitted> = Names::new(2, "ticket");

impl<T> Names<T> {
    const fn new(kind: usize, called: &'static str) -> Self {
        Self {
            kind,
            called,
            next: AtomicUsize::new(1),
            tables: LazyLock::new(|| std::array::from_fn(|_| Mutex::default())),
        }
    }

    /// A new name, which names nothing yet.
    pub(super) fn reserve(&self) -> usize {
        // On 64 bits this does not wrap within any process's life.
        (self.next.fetch_add(1, Ordering::Relaxed) << KIND_BITS) | self.kind
    }

    /// From now on the name is this thing's.
    pub(super) fn insert(&self, name: usize, thing: Arc<T>) {
        self.with(name, |table| table.insert(name, thing));
    }

    /// What the handle names.
    pub(super) fn get(&self, handle: Handle) -> Result<Arc<T>, AbiError> {
        let name = self.name(handle)?;
        let found = self.with(name, |table| table.get(&name).cloned());
        found.ok_or_else(|| self.stale(name))
    }

    /// Ends the name. Of several threads that try, one gets the thing.
    pub(super) fn remove(&self, handle: Handle) -> Result<Arc<T>, AbiError> {
        let name = self.name(handle)?;
        let found = self.with(name, |table| table.remove(&name));
        found.ok_or_else(|| self.stale(name))
    }

    /// The handle, if it still names something; NULL else.
    pub(super) fn live(&self, name: usize) -> Handle {
        match self.with(name, |table| table.contains_key(&name)) {
            true => handle(name),
            false => std::ptr::null_mut(),
        }
    }

    fn name(&self, handle: Handle) -> Result<usize, AbiError> {
        match handle.addr() {
            0 => Err(AbiError::Null { what: self.called }),
            name if name & ((1 << KIND_BITS) - 1) != self.kind => Err(self.stale(name)),
            name => Ok(name),
        }
    }

    fn stale(&self, given: usize) -> AbiError {
        AbiError::Handle {
            given,
            expected: self.called,
        }
    }

    fn with<R>(&self, name: usize, look: impl FnOnce(&mut HashMap<usize, Arc<T>>) -> R) -> R {
        let table = &self.tables[(name >> KIND_BITS) % TABLES];
        // Nothing panics while it is held.
        look(&mut table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What C is given for a name.
pub(super) fn handle(name: usize) -> Handle {
    std::ptr::without_provenance_mut(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_and_is_of_one_kind() {
        let numbers = Names::<u32>::new(1, "number");
        let first = numbers.reserve();
        numbers.insert(first, Arc::new(7));
        assert_eq!(*numbers.get(handle(first)).unwrap(), 7);
        assert_eq!(*numbers.remove(handle(first)).unwrap(), 7);
        let second = numbers.reserve();
        numbers.insert(second, Arc::new(8));
        assert!(matches!(
            numbers.get(handle(first)),
            Err(AbiError::Handle { .. })
        ));
        assert!(matches!(
            numbers.remove(handle(first)),
            Err(AbiError::Handle { .. })
        ));
        let other = Names::<u32>::new(2, "other");
        assert!(other.get(handle(second)).is_err());
        assert!(matches!(
            other.get(std::ptr::null_mut()),
            Err(AbiError::Null { .. })
        ));
        assert!(numbers.live(first).is_null());
        assert_eq!(numbers.live(second).addr(), second);
    }
}
