//! Submitted requests: their outcome comes from whoever turns the scheduler, and stays with the ticket.

use std::ffi::CString;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::callbacks::{News, Told};
use super::engine::Served;
use super::error::{self, AbiError, Failure};
use super::handles::{ENGINES, Handle, TICKETS, handle};
use super::picture::{self, Given};
use super::{guard, layout, now_ns, options, types};
use crate::engine::{self, Canceller, Error, Independence, RequestOptions, Source};
use crate::image::Image;

/// A request that was submitted, as long as its ticket or the engine needs it.
pub(super) struct Submitted {
    labels: Arc<Vec<CString>>,
    outcome: Mutex<Option<Result<Found, Failure>>>,
    settled: Condvar,
    canceller: OnceLock<Canceller>,
    has_callback: bool,
}

impl fmt::Debug for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Submitted")
    }
}

/// An answer as C reads it.
struct Found {
    answer: types::Answer,
    /// What `answer.top` names.
    _top: Box<[types::Score]>,
}

// SAFETY: its pointers name `_top`, which it owns, and labels, which the request holds; both are only read.
unsafe impl Send for Found {}

impl Found {
    fn new(answer: &engine::Answer, labels: &[CString]) -> Self {
        let score = |s: &crate::engine::Scored| types::Score {
            class_index: s.class,
            score: s.score,
            label: labels
                .get(s.class as usize)
                .map_or(c"".as_ptr(), |label| label.as_ptr()),
        };
        let top: Box<[types::Score]> = answer.top.iter().map(score).collect();
        let best = top.first();
        let answer = types::Answer {
            request: answer.id.0,
            class_index: best.map_or(0, |b| b.class_index),
            confidence: answer.confidence,
            label: best.map_or(c"".as_ptr(), |b| b.label),
            top: top.as_ptr(),
            top_count: top.len(),
            latency_ns: i64::try_from(answer.latency.as_nanos()).unwrap_or(i64::MAX),
            collage: answer.collage.map_or(0, |tile| tile.collage),
            tile: answer
                .collage
                .map_or(types::NO_TILE, |tile| tile.index as u32),
            source: match answer.source {
                Source::Base => types::FROM_BASE,
                Source::Collage => types::FROM_COLLAGE,
                Source::Copy => types::FROM_COPY,
                Source::Parity => types::FROM_PARITY,
            },
            independence: match answer.independence {
                Independence::None => types::SHARED_WORKER,
                Independence::Worker => types::OTHER_WORKER,
                Independence::Device => types::OTHER_DEVICE,
            },
            worker: answer.worker as u32,
            ..types::Answer::default()
        };
        Self { answer, _top: top }
    }
}

impl Submitted {
    /// Puts the outcome where waits find it. Called once, while the scheduler is turned.
    fn settle(&self, outcome: Result<engine::Answer, Error>) {
        let outcome = match outcome {
            Ok(answer) => Ok(Found::new(&answer, &self.labels)),
            Err(error) => Err(Failure::from(error)),
        };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.settled.notify_all();
    }

    /// The answer, if there is one by `until`; `None` is never.
    fn wait(&self, until: Option<Instant>) -> Result<types::Answer, Failure> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*outcome {
                Some(Ok(found)) => return Ok(found.answer),
                Some(Err(failure)) => return Err(failure.clone()),
                None => {}
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            outcome = match left {
                None => self.settled.wait(outcome),
                Some(Duration::ZERO) => return Err(Failure::PENDING),
                Some(left) => match self.settled.wait_timeout(outcome, left) {
                    Ok((outcome, _)) => Ok(outcome),
                    Err(poisoned) => Ok(poisoned.into_inner().0),
                },
            }
            .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Calls a callback with the outcome.
    pub(super) fn tell(&self, told: Told, ticket: Handle) {
        let outcome = self.wait(Some(Instant::now()));
        let (status, answer) = match &outcome {
            Ok(answer) => (0, std::ptr::from_ref(answer)),
            Err(failure) => (error::remember(failure.clone()), std::ptr::null()),
        };
        // SAFETY: the caller gave this function for this call, by a thread of the library; the answer lives until it returns.
        unsafe { (told.callback)(told.user_data, ticket, status, answer) };
    }

    fn cancel(&self) {
        // Not there yet: the submission is under way on another thread, which nobody but it has the name of.
        if let Some(canceller) = self.canceller.get() {
            canceller.cancel();
        }
    }
}

/// What all images of one submission share.
struct Submission {
    served: Arc<Served>,
    options: RequestOptions,
    told: Option<(Told, Sender<News>)>,
    /// Whether the caller wants tickets.
    ticketed: bool,
}

impl Submission {
    /// # Safety
    /// As `collage_submit` asks of `request`.
    unsafe fn new(
        engine: Handle,
        request: *const types::Request,
        ticketed: bool,
    ) -> Result<Self, Failure> {
        let served = ENGINES.get(engine)?;
        let request = match request.is_null() {
            true => types::Request::default(),
            // SAFETY: not NULL, so the caller promises a struct of its size.
            false => unsafe { layout::read(request) }?,
        };
        let told = Told::new(request.callback, request.user_data);
        if told.is_none() && !ticketed {
            return Err(AbiError::Null { what: "ticket" }.into());
        }
        let told = match told {
            None => None,
            Some(told) => Some((told, served.callbacks.sender()?)),
        };
        Ok(Self {
            options: request_options(&request)?,
            served,
            told,
            ticketed,
        })
    }

    /// Submits one image; the ticket's handle, or NULL where none is wanted.
    fn submit(&self, image: Image) -> Result<Handle, Failure> {
        let submitted = Arc::new(Submitted {
            labels: self.served.labels.clone(),
            outcome: Mutex::new(None),
            settled: Condvar::new(),
            canceller: OnceLock::new(),
            has_callback: self.told.is_some(),
        });
        let name = if self.ticketed { TICKETS.reserve() } else { 0 };
        // Before it is submitted: its callback may come first, and is told its ticket.
        if self.ticketed {
            TICKETS.insert(name, submitted.clone());
        }
        let (settling, told) = (submitted.clone(), self.told.clone());
        let then = move |outcome| {
            settling.settle(outcome);
            if let Some((told, news)) = told {
                // The thread outlives every request.
                let _ = news.send(News {
                    told,
                    ticket: name,
                    submitted: settling,
                });
            }
        };
        let accepted = self
            .served
            .with(|engine| Ok(engine.submit_with(image, self.options, then)?));
        match accepted {
            Ok(canceller) => drop(submitted.canceller.set(canceller)),
            Err(refused) => {
                if self.ticketed {
                    let _ = TICKETS.remove(handle(name));
                }
                return Err(refused);
            }
        }
        Ok(match self.ticketed {
            true => handle(name),
            false => std::ptr::null_mut(),
        })
    }
}

fn request_options(request: &types::Request) -> Result<RequestOptions, AbiError> {
    let now = now_ns();
    let due = match request.due_at_ns {
        0 => now,
        ..0 => return Err(AbiError::value("due_at_ns", request.due_at_ns, "a moment")),
        due => due.min(now),
    };
    let limit = |what, relative: i64, at: i64| match (relative, at) {
        (relative, 0) => Ok(options::time(relative)),
        (0, 1..) => Ok(Some(Duration::from_nanos(
            at.saturating_sub(due).max(0) as u64
        ))),
        (0, _) => Err(AbiError::value(what, at, "a moment of collage_now_ns()")),
        _ => Err(AbiError::value(what, "given twice", "a span or a moment")),
    };
    let age = Duration::from_nanos((now - due) as u64);
    Ok(RequestOptions {
        release: limit("release_at_ns", request.release_ns, request.release_at_ns)?,
        deadline: limit(
            "deadline_at_ns",
            request.deadline_ns,
            request.deadline_at_ns,
        )?,
        submitted: (!age.is_zero())
            .then(|| Instant::now().checked_sub(age))
            .flatten(),
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_submit(
    engine: Handle,
    image: *const types::Picture,
    request: *const types::Request,
    ticket: *mut Handle,
) -> i32 {
    guard(|| {
        if !ticket.is_null() {
            // SAFETY: not NULL, so the caller promises room for a handle.
            unsafe { ticket.write(std::ptr::null_mut()) };
        }
        // SAFETY: the caller promises what the header asks of the request and the image.
        let (submission, given) = unsafe {
            let submission = Submission::new(engine, request, !ticket.is_null())?;
            let given = picture::read(image, &submission.served.reads)?;
            (submission, given)
        };
        let [image] = <[Image; 1]>::try_from(given.images).map_err(|images| {
            let batch = format!("a batch of {} images", images.len());
            AbiError::value("image", batch, "one image; collage_submit_many takes more")
        })?;
        let submitted = submission.submit(image)?;
        if !ticket.is_null() {
            // SAFETY: as above.
            unsafe { ticket.write(submitted) };
        }
        given.owner.accept();
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_submit_many(
    engine: Handle,
    images: *const types::Picture,
    image_count: usize,
    request: *const types::Request,
    tickets: *mut Handle,
    ticket_count: usize,
    submitted: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller promises room for as many handles, and for a number.
        unsafe {
            for i in 0..if tickets.is_null() { 0 } else { ticket_count } {
                tickets.add(i).write(std::ptr::null_mut());
            }
            if !submitted.is_null() {
                submitted.write(0);
            }
        }
        // SAFETY: the caller promises what the header asks of the request and the images.
        let (submission, given) = unsafe {
            let submission = Submission::new(engine, request, !tickets.is_null())?;
            let given = picture::read_many(images, image_count, &submission.served.reads)?;
            (submission, given)
        };
        let singles: usize = given.iter().map(|g| g.images.len()).sum();
        if !tickets.is_null() && ticket_count != singles {
            let expected = format!("{singles}, the number of images");
            return Err(AbiError::value("ticket_count", ticket_count, expected).into());
        }
        let mut accepted = 0;
        for Given { images, owner } in given {
            for image in images {
                let ticket = submission.submit(image)?;
                owner.accept();
                // SAFETY: `accepted` is less than their number, which the caller promises room for.
                unsafe {
                    if !tickets.is_null() {
                        tickets.add(accepted).write(ticket);
                    }
                    accepted += 1;
                    if !submitted.is_null() {
                        submitted.write(accepted);
                    }
                }
            }
        }
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_ticket_wait(
    ticket: Handle,
    timeout_ns: i64,
    answer: *mut types::Answer,
) -> i32 {
    guard(|| {
        let timeout = u64::try_from(timeout_ns).map_err(|_| {
            AbiError::value("timeout_ns", timeout_ns, "0 or more, or COLLAGE_FOREVER")
        })?;
        // SAFETY: the caller promises NULL or a struct of its size.
        unsafe { layout::check(answer) }?;
        let submitted = TICKETS.get(ticket)?;
        let until = match timeout_ns {
            types::FOREVER => None,
            _ => Instant::now().checked_add(Duration::from_nanos(timeout)),
        };
        let found = submitted.wait(until)?;
        if !answer.is_null() {
            // SAFETY: as above.
            unsafe { layout::write(answer, &found) }?;
        }
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_ticket_poll(ticket: Handle, answer: *mut types::Answer) -> i32 {
    // SAFETY: the caller promises the same.
    unsafe { collage_ticket_wait(ticket, 0, answer) }
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_ticket_cancel(ticket: Handle) -> i32 {
    guard(|| {
        TICKETS.get(ticket)?.cancel();
        Ok(())
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_ticket_free(ticket: Handle) -> i32 {
    guard(|| {
        if ticket.is_null() {
            return Ok(());
        }
        let submitted = TICKETS.remove(ticket)?;
        let is_settled = || {
            let outcome = submitted.outcome.lock();
            outcome.unwrap_or_else(PoisonError::into_inner).is_some()
        };
        if !submitted.has_callback && !is_settled() {
            submitted.cancel();
        }
        Ok(())
    })
}
