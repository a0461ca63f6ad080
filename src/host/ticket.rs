//! What a caller holds of its request, and what it gets for it.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::drive::Command;
use super::error::Error;
use super::post::Post;
use super::results::Decoded;
use crate::backend::Scored;
use crate::sched::{Independence, RequestId, Source};

/// What a caller may ask for one request, beyond the engine's own settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOptions {
    /// After submission: from then on a collage or a parity may answer. At or after the deadline: only the base does.
    pub release: Option<Duration>,
    /// After submission: answered by then or failed.
    pub deadline: Option<Duration>,
    /// When the request was due, where that is earlier than now: latency, release and deadline count from there, so
    /// that a load generator which falls behind does not hide the waiting (coordinated omission).
    pub submitted: Option<Instant>,
}

/// A classified image.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Of which request.
    pub id: RequestId,
    /// Whether its own base run answered, a collage, another run of the base, or a parity with the others' answers.
    pub source: Source,
    /// Probability of the best class, 0..=1.
    pub confidence: f32,
    /// The best classes, best first.
    pub top: Vec<Scored>,
    /// From submission to this answer.
    pub latency: Duration,
    /// What the request's base run and its backup did not share.
    pub independence: Independence,
    /// Index of the worker that ran it.
    pub worker: usize,
    /// Its place in a collage, when one answered.
    pub collage: Option<Tile>,
    /// What it was decoded from, when it was.
    pub decoded: Option<Decoded>,
}

/// A place in a collage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Which collage: the number of its run.
    pub collage: u64,
    /// Tile of the canvas, row by row.
    pub index: usize,
}

/// A submitted request: [`wait`](Ticket::wait) for it, or `.await` it. Dropping it cancels the request.
#[derive(Debug)]
pub struct Ticket {
    pub(super) id: RequestId,
    pub(super) reply: oneshot::Receiver<Result<Answer, Error>>,
    pub(super) post: Post,
    pub(super) taken: bool,
}

impl Ticket {
    /// The request's name, as in the trace's spans.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Blocks this thread until the request is settled: by its deadline at the latest.
    pub fn wait(self) -> Result<Answer, Error> {
        // Not `blocking_recv`, which panics inside an async runtime.
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut ticket = pin!(self);
        loop {
            match ticket.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => thread::park(),
            }
        }
    }

    /// The outcome if there is one already. Once taken, later calls and waits find [`Error::Closed`].
    pub fn try_take(&mut self) -> Option<Result<Answer, Error>> {
        let outcome = match self.reply.try_recv() {
            Ok(outcome) => outcome,
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => Err(Error::Closed),
        };
        self.taken = true;
        Some(outcome)
    }
}

impl Future for Ticket {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.taken {
            return Poll::Ready(Err(Error::Closed));
        }
        Pin::new(&mut self.reply).poll(context).map(|reply| {
            self.taken = true;
            reply.unwrap_or(Err(Error::Closed))
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.taken && self.try_take().is_none() {
            // An engine that is gone has nothing left to cancel.
            let _ = self.post.send(Command::Cancel(self.id));
        }
    }
}

/// What is called with a request's outcome.
type Then = Box<dyn FnOnce(Result<Answer, Error>) + Send>;

/// Where a request's outcome goes: to its ticket, or to a function.
#[derive(Debug)]
pub(super) enum Reply {
    Ticket(oneshot::Sender<Result<Answer, Error>>),
    Call(Call),
}

impl Reply {
    pub(super) fn send(self, outcome: Result<Answer, Error>) {
        match self {
            // A caller that is gone needs no answer.
            Reply::Ticket(ticket) => drop(ticket.send(outcome)),
            Reply::Call(mut call) => call.call(outcome),
        }
    }
}

/// A function that is called exactly once: with the outcome, or with [`Error::Closed`] if there will be none.
pub(super) struct Call(Option<Then>);

impl Call {
    pub(super) fn new(then: impl FnOnce(Result<Answer, Error>) + Send + 'static) -> Self {
        Self(Some(Box::new(then)))
    }

    /// The request was never accepted: its submitter is told so, and not the function.
    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }

    fn call(&mut self, outcome: Result<Answer, Error>) {
        if let Some(then) = self.0.take()
            && catch_unwind(AssertUnwindSafe(|| then(outcome))).is_err()
        {
            // The scheduler must outlive what its callers gave it.
            tracing::error!("the function called with an outcome panicked");
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.call(Err(Error::Closed));
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

/// Cancels a request that was submitted with a function. Dropping it does not.
#[derive(Clone, Debug)]
pub struct Canceller {
    pub(super) id: RequestId,
    pub(super) post: Post,
}

impl Canceller {
    /// The request's name, as in the trace's spans.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Gives the request up: its outcome is [`Error::Cancelled`], unless it had one already.
    pub fn cancel(&self) {
        // An engine that is gone has nothing left to cancel.
        let _ = self.post.send(Command::Cancel(self.id));
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
