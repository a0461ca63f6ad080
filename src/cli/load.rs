//! A load on an engine: when its requests are sent, and what became of each.
//!
//! In an open loop requests are due at fixed times, whatever becomes of the earlier ones, and latency counts from when a
//! request was due, not from when the generator got to submit it: neither a slow engine nor a slow generator hides
//! waiting (coordinated omission). How late the generator was is told as well: it is the machine's own noise. In a closed
//! loop so many groups are outstanding at a time, and latency counts from a group's submission.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use collage::engine::{Answer, Engine, Error, RequestOptions, Ticket};
use collage::image::Image;
use crossbeam_channel::Sender;

use super::failure::Failure;

/// What is asked, and when.
pub struct Load<'a> {
    /// What may be asked.
    pub images: &'a [Image],
    /// Which image each request asks; as long as there are requests.
    pub order: &'a [usize],
    /// Requests that are sent together: a group. The last one may be smaller.
    pub burst: usize,
    /// When.
    pub pace: Pace<'a>,
}

/// When groups are sent.
pub enum Pace<'a> {
    /// Each at its time after the start, in order.
    Open(&'a [Duration]),
    /// So many at a time; each that is settled is followed by the next.
    Closed(usize),
}

/// One request and what became of it.
pub struct Settled {
    /// Its place in the order.
    pub request: usize,
    /// When it was due, after the start; in a closed loop when it was sent.
    pub due: Duration,
    /// How much later than due it was sent.
    pub late: Duration,
    /// Its answer or why there is none.
    pub outcome: Result<Answer, Error>,
}

/// A request on its way from the generator to the collector.
struct Sent {
    request: usize,
    due: Duration,
    late: Duration,
    ticket: Result<Ticket, Error>,
}

impl Load<'_> {
    /// Sends every request, and tells `settled` of each once, in any order. Returns how long it all took. The engine is
    /// left running.
    pub fn run(&self, engine: &Engine, settled: impl FnMut(Settled)) -> Result<Duration, Failure> {
        let begin = Instant::now();
        match self.pace {
            Pace::Open(due) => self.open(engine, due, begin, settled),
            Pace::Closed(groups) => self.closed(engine, groups, begin, settled),
        }?;
        Ok(begin.elapsed())
    }

    /// One thread sends, this one collects. An answer carries its latency, so that collecting in order loses nothing.
    fn open(
        &self,
        engine: &Engine,
        due: &[Duration],
        begin: Instant,
        mut settled: impl FnMut(Settled),
    ) -> Result<(), Failure> {
        let (sender, sent) = crossbeam_channel::unbounded();
        let generator = thread::scope(|scope| {
            let generator = scope.spawn(move || {
                for (group, due) in due.iter().enumerate() {
                    let at = begin + *due;
                    thread::sleep(at.saturating_duration_since(Instant::now()));
                    self.send(engine, group, begin, at, &sender);
                }
            });
            for Sent {
                request,
                due,
                late,
                ticket,
            } in sent
            {
                settled(Settled {
                    request,
                    due,
                    late,
                    outcome: ticket.and_then(Ticket::wait),
                });
            }
            generator.join()
        });
        generator.map_err(|_| Failure::other("the load generator panicked"))
    }

    /// As many clients as there are groups at a time: each sends a group and waits for all of it.
    fn closed(
        &self,
        engine: &Engine,
        clients: usize,
        begin: Instant,
        mut settled: impl FnMut(Settled),
    ) -> Result<(), Failure> {
        let next = AtomicUsize::new(0);
        let groups = self.order.len().div_ceil(self.burst);
        let (done, results) = crossbeam_channel::unbounded();
        let client = |done: Sender<Settled>| {
            loop {
                let group = next.fetch_add(1, Ordering::Relaxed);
                if group >= groups {
                    return;
                }
                let (sender, sent) = crossbeam_channel::unbounded();
                self.send(engine, group, begin, Instant::now(), &sender);
                drop(sender);
                for sent in sent {
                    // The collector outlives the clients: it ends when their channel closes.
                    let _ = done.send(Settled {
                        request: sent.request,
                        due: sent.due,
                        late: Duration::ZERO,
                        outcome: sent.ticket.and_then(Ticket::wait),
                    });
                }
            }
        };
        let all_ended = thread::scope(|scope| {
            let client = &client;
            let clients: Vec<_> = (0..clients)
                .map(|_| {
                    let done = done.clone();
                    scope.spawn(move || client(done))
                })
                .collect();
            drop(done);
            results.into_iter().for_each(&mut settled);
            clients.into_iter().all(|client| client.join().is_ok())
        });
        if all_ended {
            return Ok(());
        }
        Err(Failure::other("a client of the load panicked"))
    }

    /// Submits a group that was due at `at`.
    fn send(
        &self,
        engine: &Engine,
        group: usize,
        begin: Instant,
        at: Instant,
        sent: &Sender<Sent>,
    ) {
        let first = group * self.burst;
        let options = RequestOptions {
            submitted: Some(at),
            ..RequestOptions::default()
        };
        for (i, image) in self.order.iter().skip(first).take(self.burst).enumerate() {
            let late = at.elapsed();
            let ticket = engine.submit(self.images[*image].clone(), options);
            // The collector outlives this loop: it ends when the channel closes.
            let _ = sent.send(Sent {
                request: first + i,
                due: at.saturating_duration_since(begin),
                late,
                ticket,
            });
        }
    }
}
