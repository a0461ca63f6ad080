//! The C interface: `include/collage.h`, carried out over [`engine`](crate::engine) and [`config`](crate::config).
//!
//! The header is the documentation: who owns what, what blocks, which threads may call. This room keeps it true:
//!
//! * every entry goes through `guard`, so that no panic leaves it, and every failure has a number and a message;
//! * a handle is a name that is looked up (`handles`), never an address: a stale one is refused;
//! * structs are read as far as their size says (`layout`), and what they point to is copied before the call returns;
//! * nothing here decides anything: what can be said in Rust is said in `engine`, `config` and `image`.
//!
//! | file | holds |
//! |---|---|
//! | `error`, `status` | failures of this interface; every status, by number |
//! | `layout`, `types` | structs that can grow; the structs and constants of the header |
//! | `handles` | names to engines and tickets |
//! | `options`, `picture`, `dlpack` | what is given: settings, images |
//! | `engine`, `ticket`, `callbacks`, `stats` | what is done with it |
//!
//! `tests/ffi_header.rs` compares the header with what is here.

// The header documents these functions for who calls them, safety included.
#![allow(clippy::missing_safety_doc)]

mod callbacks;
mod dlpack;
mod engine;
mod error;
mod handles;
mod layout;
mod options;
mod picture;
mod stats;
mod status;
mod ticket;
pub mod types;

pub use dlpack::collage_image_from_dlpack;
pub use engine::{
    collage_engine_class_count, collage_engine_class_label, collage_engine_close,
    collage_engine_free, collage_engine_open,
};
pub use error::{AbiError, collage_last_error, collage_last_error_can_retry, collage_last_status};
pub use stats::{collage_engine_stats, collage_engine_stats_json, collage_engine_worker_stats};
pub use status::{STATUSES, Status, collage_status_string};
pub use ticket::{
    collage_submit, collage_submit_many, collage_ticket_cancel, collage_ticket_free,
    collage_ticket_poll, collage_ticket_wait,
};

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use error::Failure;

/// Of the header: (major << 16) | minor.
pub const ABI_VERSION: u32 = 1;

/// Runs the body of an entry: its failure becomes the thread's last error, and a panic a failure.
fn guard(body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(failure)) => error::remember(failure),
        Err(panic) => error::remember(Failure::panicked(&*panic)),
    }
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_abi_version() -> u32 {
    ABI_VERSION
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_now_ns() -> i64 {
    now_ns()
}

/// CLOCK_MONOTONIC, in nanoseconds.
#[cfg(unix)]
fn now_ns() -> i64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the system writes one timespec to a live, aligned one. The clock exists on every Unix, so it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    // Narrower on some systems.
    #[allow(clippy::unnecessary_cast)]
    let (seconds, nanos) = (now.tv_sec as i64, now.tv_nsec as i64);
    seconds * 1_000_000_000 + nanos
}

/// Nanoseconds since the first call, and one second: no moment is 0.
#[cfg(not(unix))]
fn now_ns() -> i64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let since = ORIGIN.get_or_init(Instant::now).elapsed();
    1_000_000_000 + i64::try_from(since.as_nanos()).unwrap_or(i64::MAX - 1_000_000_000)
}

/// A caller's text; `None` for NULL.
///
/// # Safety
/// NULL, or a zero-terminated text that lives as long as `'a`.
unsafe fn text<'a>(what: &'static str, given: *const c_char) -> Result<Option<&'a str>, AbiError> {
    if given.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so the caller promises a zero-terminated text.
    let bytes = unsafe { CStr::from_ptr(given) };
    bytes
        .to_str()
        .map(Some)
        .map_err(|source| AbiError::NotUtf8 { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: this thread's last message lives until its next failure.
        let message = unsafe { CStr::from_ptr(collage_last_error()) };
        message.to_string_lossy().into_owned()
    }

    #[test]
    fn a_panic_is_a_status_and_a_message_of_its_thread() {
        let status = guard(|| panic!("index {} is too large", 7));
        assert_eq!((status, collage_last_status()), (606, 606));
        assert_eq!(message(), "panicked: index 7 is too large");
        let other = std::thread::spawn(|| (collage_last_status(), message()));
        assert_eq!(other.join().unwrap(), (0, String::new()));
        assert_eq!(guard(|| Ok(())), 0);
        assert_eq!(collage_last_status(), 606); // success leaves it
    }

    #[test]
    fn a_message_has_its_causes_and_no_zero() {
        let error = AbiError::value("name", "a\0b", "text");
        assert_eq!(guard(|| Err(error.into())), 603);
        assert_eq!(message(), "name: ab; expected text");
    }
}
