//! What can be wrong with a call, and each thread's last failure.
//!
//! Causes from the rest of the crate keep their numbers ([`Classify`]); those that only C can bring about are 6xx.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::str::Utf8Error;

use crate::error::Classify;

/// A call that only C can make.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AbiError {
    /// NULL where it is not allowed.
    #[error("{what} is NULL")]
    Null {
        /// Which argument or field.
        what: &'static str,
    },
    /// A size that is none.
    #[error("{what}.struct_size is {given}; expected a multiple of {} up to {most}, such as {known}: use its *_INIT", align_of::<usize>())]
    Size {
        /// Which struct.
        what: &'static str,
        /// As given.
        given: usize,
        /// As this library knows it.
        known: usize,
        /// Largest that is looked at.
        most: usize,
    },
    /// A field that this library does not know is used.
    #[error(
        "{what} has a field at byte {at} that is not zero and that this library does not know; it knows {known} bytes"
    )]
    UnknownField {
        /// Which struct.
        what: &'static str,
        /// Its first unknown byte that is not zero.
        at: usize,
        /// As this library knows it.
        known: usize,
    },
    /// A handle that names nothing.
    #[error(
        "{given:#x} is no {expected}: it was freed already, was never given, or is of another kind"
    )]
    Handle {
        /// As given.
        given: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// A value out of range, or two that contradict each other.
    #[error("{what}: {given}; expected {expected}")]
    Value {
        /// Which argument or field.
        what: &'static str,
        /// As given.
        given: String,
        /// What it takes.
        expected: String,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8: {source}")]
    NotUtf8 {
        /// Which argument or field.
        what: &'static str,
        /// Where it goes wrong.
        source: Utf8Error,
    },
    /// The request is not settled.
    #[error("the request is not settled yet")]
    Pending,
    /// A defect.
    #[error("panicked: {message}")]
    Panic {
        /// The panic's.
        message: String,
    },
    /// A text that does not fit.
    #[error("the text has {length} bytes and a zero; the buffer takes {capacity}")]
    Buffer {
        /// Without the zero.
        length: usize,
        /// As given.
        capacity: usize,
    },
    /// A callback that would wait for itself.
    #[error("an engine cannot be closed or freed by one of its own callbacks")]
    InCallback,
    /// A tensor that is no image.
    #[error("{name}: {what}; expected {expected}")]
    Tensor {
        /// The image's name.
        name: String,
        /// What was given.
        what: String,
        /// What it takes.
        expected: &'static str,
    },
    /// Device memory that nobody here can read.
    #[error("{name}: device memory of {device}: {reason}")]
    NoDevicePointers {
        /// The image's name.
        name: String,
        /// Whose memory it is.
        device: String,
        /// Why not.
        reason: String,
    },
}

impl AbiError {
    /// An [`AbiError::Value`].
    pub(super) fn value(
        what: &'static str,
        given: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        AbiError::Value {
            what,
            given: given.to_string(),
            expected: expected.into(),
        }
    }
}

impl Classify for AbiError {
    fn code(&self) -> u32 {
        match self {
            AbiError::Null { .. } => 600,
            AbiError::Size { .. } | AbiError::UnknownField { .. } => 601,
            AbiError::Handle { .. } => 602,
            AbiError::Value { .. } => 603,
            AbiError::NotUtf8 { .. } => 604,
            AbiError::Pending => 605,
            AbiError::Panic { .. } => 606,
            AbiError::Buffer { .. } => 607,
            AbiError::InCallback => 608,
            AbiError::Tensor { .. } => 609,
            AbiError::NoDevicePointers { .. } => 610,
        }
    }

    fn can_retry(&self) -> bool {
        matches!(self, AbiError::Pending)
    }
}

/// What a failed call leaves behind.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) status: i32,
    pub(super) message: Cow<'static, str>,
    pub(super) can_retry: bool,
}

impl Failure {
    /// As [`AbiError::Pending`], without making its text anew for every poll.
    pub(super) const PENDING: Failure = Failure {
        status: 605,
        message: Cow::Borrowed("the request is not settled yet"),
        can_retry: true,
    };

    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("a panic without a message").to_owned();
        AbiError::Panic { message }.into()
    }
}

impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Failure {
            status: i32::try_from(error.code()).unwrap_or(i32::MAX),
            message: message.into(),
            can_retry: error.can_retry(),
        }
    }
}

/// A thread's last failure, and its message as C reads it, made when it is asked for.
struct Last {
    failure: Failure,
    text: Option<CString>,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// Makes this the thread's last failure; gives its status.
pub(super) fn remember(failure: Failure) -> i32 {
    let status = failure.status;
    let last = Some(Last {
        failure,
        text: None,
    });
    // A thread that is ending has nobody left to ask.
    let _ = LAST.try_with(|place| *place.borrow_mut() = last);
    status
}

/// Of the thread's last failure; `none` if there was none.
fn last<T>(none: T, of: impl FnOnce(&mut Last) -> T) -> T {
    let mut of = Some(of);
    let found = LAST.try_with(|place| {
        let mut place = place.borrow_mut();
        place.as_mut().and_then(|last| of.take().map(|of| of(last)))
    });
    found.ok().flatten().unwrap_or(none)
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_last_error() -> *const c_char {
    last(c"".as_ptr(), |last| {
        let text = &last.failure.message;
        let made = last.text.get_or_insert_with(|| c_text(text));
        made.as_ptr()
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_last_status() -> i32 {
    last(0, |last| last.failure.status)
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_last_error_can_retry() -> i32 {
    last(0, |last| i32::from(last.failure.can_retry))
}

/// As C reads it: zeros inside, which C cannot, are left out.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}
