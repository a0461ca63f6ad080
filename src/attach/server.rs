//! The engine's end: one thread that sleeps until a monitor connects.
//!
//! It keeps a few connections at once, each with a bounded request and a time limit, so that a silent peer holds up neither
//! another peer nor the end of the engine. The state is asked for at most twenty times a second; who asks more often is
//! given the last one.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::client::{self, Found};
use super::error::AttachError;
use super::place::{Attach, Folder, write_folder};
use super::protocol::{Answer, REQUEST_LIMIT, asks_for_state};
use super::state::State;

/// Connections at once; others wait in the listener's queue.
const PEERS: usize = 8;
/// What a peer has for its request and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// A state is good for this long.
const FRESH: Duration = Duration::from_millis(50);
/// How long to leave the listener alone after it failed, as it does when the process has no more descriptors.
const RECOVERY: Duration = Duration::from_millis(200);
/// Names tried: processes of other containers can have this one's number.
const ATTEMPTS: u32 = 1000;

/// Engines of this process so far.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// An engine's socket, and the thread behind it. Dropping it removes the one and ends the other.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    wake: UnixStream,
    /// `None` once it was joined.
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Makes the socket and starts the thread; `None` where the place is nowhere. `ask` is called with the engine's number
    /// among those of its process, and gives nothing once the engine is gone.
    pub fn open(
        place: &Attach,
        ask: impl Fn(u32) -> Option<State> + Send + 'static,
    ) -> Result<Option<Server>, AttachError> {
        let Some(folder) = write_folder(place)? else {
            return Ok(None);
        };
        client::sweep(&folder);
        let (engine, listener, path) = bind(&folder)?;
        let failed = |source| AttachError::Io {
            path: path.display().to_string(),
            action: "cannot serve the socket",
            source,
        };
        let (wake, woken) = UnixStream::pair().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let serving = Serving {
            listener,
            woken,
            peers: Vec::new(),
            rest_until: None,
            last: None,
            ask: Box::new(move || ask(engine)),
        };
        let thread = thread::Builder::new()
            .name("collage-attach".into())
            .spawn(move || serving.run());
        match thread {
            Ok(thread) => Ok(Some(Server {
                path,
                wake,
                thread: Some(thread),
            })),
            Err(source) => {
                let _ = std::fs::remove_file(&path);
                Err(failed(source))
            }
        }
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        // The other end sees that this one is closed.
        let _ = self.wake.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A name that nobody has. The socket listens before it gets it: who finds one that refuses knows that it is stale.
fn bind(folder: &Folder) -> Result<(u32, UnixListener, PathBuf), AttachError> {
    let pid = std::process::id();
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let engine = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.path.join(Found::name(pid, engine));
        let unnamed = folder.path.join(format!(".{pid}-{engine}.new"));
        match UnixListener::bind(&unnamed) {
            Ok(listener) => {
                // Unlike a rename, a link does not replace what is there.
                let linked = std::fs::hard_link(&unnamed, &path);
                let _ = std::fs::remove_file(&unnamed);
                match linked {
                    Ok(()) => return Ok((engine, listener, path)),
                    Err(error) => last = error,
                }
            }
            Err(error) => last = error,
        }
        if !matches!(
            last.kind(),
            io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists
        ) {
            break;
        }
    }
    Err(AttachError::Io {
        path: folder.path.display().to_string(),
        action: "cannot make a socket in it",
        source: last,
    })
}

/// A connection.
struct Peer {
    stream: UnixStream,
    until: Instant,
    phase: Phase,
}

enum Phase {
    /// What came of the request so far.
    Hearing(Vec<u8>),
    /// What is left to send.
    Telling(Vec<u8>, usize),
}

/// The thread's state.
struct Serving {
    listener: UnixListener,
    /// Readable once the engine ends.
    woken: UnixStream,
    peers: Vec<Peer>,
    rest_until: Option<Instant>,
    /// The last answer, and when it was asked for.
    last: Option<(Instant, Vec<u8>)>,
    ask: Box<dyn Fn() -> Option<State> + Send>,
}

impl Serving {
    fn run(mut self) {
        loop {
            match self.sleep() {
                Ok(Some(ready)) => {
                    if ready.first() == Some(&true) {
                        self.accept();
                    }
                    self.serve(ready.get(1..).unwrap_or_default());
                }
                Ok(None) => return, // the engine ends
                Err(error) => {
                    tracing::warn!(%error, "the engine's state is not shown any more");
                    return;
                }
            }
        }
    }

    /// Until something is to be done: whether the listener is ready, then each peer in order. `None` at the end.
    fn sleep(&mut self) -> io::Result<Option<Vec<bool>>> {
        let now = Instant::now();
        self.peers.retain(|peer| peer.until > now);
        self.rest_until = self.rest_until.filter(|&until| until > now);
        let listens = self.rest_until.is_none() && self.peers.len() < PEERS;
        let ends = self.peers.iter().map(|peer| peer.until);
        let first = ends.chain(self.rest_until).min();
        // Rounded up, or it would wake just before and spin.
        let timeout = first.map(|at| at.duration_since(now) + Duration::from_millis(1));
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let interest = |flags: PollFlags, wanted: bool| match wanted {
            true => flags,
            false => PollFlags::empty(),
        };
        let mut fds = vec![
            PollFd::new(&self.woken, PollFlags::IN),
            PollFd::new(&self.listener, interest(PollFlags::IN, listens)),
        ];
        fds.extend(self.peers.iter().map(|peer| {
            let flags = match peer.phase {
                Phase::Hearing(_) => PollFlags::IN,
                Phase::Telling(..) => PollFlags::OUT,
            };
            PollFd::from_borrowed_fd(peer.stream.as_fd(), flags)
        }));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Some(Vec::new())),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok((!ready[0]).then(|| ready[1..].to_vec()))
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).is_ok() {
                    self.peers.push(Peer {
                        stream,
                        until: Instant::now() + PATIENCE,
                        phase: Phase::Hearing(Vec::new()),
                    });
                }
            }
            Err(error) if is_later(&error) => {}
            Err(error) => {
                tracing::debug!(%error, "no connection was taken");
                self.rest_until = Some(Instant::now() + RECOVERY);
            }
        }
    }

    /// Goes on with each peer that is ready, and drops those that are done.
    fn serve(&mut self, ready: &[bool]) {
        let mut ready = ready.to_vec();
        ready.resize(self.peers.len(), false); // one that was just accepted is heard next time
        let mut peers = std::mem::take(&mut self.peers);
        let mut ready = ready.into_iter();
        peers.retain_mut(|peer| !ready.next().unwrap_or(false) || self.step(peer));
        self.peers = peers;
    }

    /// Whether the peer stays.
    fn step(&mut self, peer: &mut Peer) -> bool {
        if let Phase::Hearing(heard) = &mut peer.phase {
            let Some(line) = hear(&mut peer.stream, heard) else {
                return false;
            };
            if !line {
                return true;
            }
            let answer = match asks_for_state(heard) {
                Ok(()) => self.state(),
                Err(told) => Answer::error(told).line(),
            };
            peer.phase = Phase::Telling(answer, 0);
        }
        match &mut peer.phase {
            Phase::Telling(answer, sent) => tell(&mut peer.stream, answer, sent),
            Phase::Hearing(_) => true,
        }
    }

    fn state(&mut self) -> Vec<u8> {
        if let Some((at, line)) = &self.last
            && at.elapsed() < FRESH
        {
            return line.clone();
        }
        let answer = match (self.ask)() {
            Some(state) => Answer::state(state),
            None => Answer::error("the engine is closing, or too busy to tell"),
        };
        let line = answer.line();
        self.last = Some((Instant::now(), line.clone()));
        line
    }
}

/// Whether the whole line is there; `None` for a peer that is gone or says too much.
fn hear(stream: &mut UnixStream, heard: &mut Vec<u8>) -> Option<bool> {
    let mut bytes = [0; REQUEST_LIMIT];
    match stream.read(&mut bytes) {
        Ok(0) => None,
        Ok(count) => {
            heard.extend_from_slice(&bytes[..count]);
            match heard.iter().position(|&byte| byte == b'\n') {
                Some(end) => {
                    heard.truncate(end);
                    Some(true)
                }
                None => (heard.len() < REQUEST_LIMIT).then_some(false),
            }
        }
        Err(error) => is_later(&error).then_some(false),
    }
}

/// Whether something is left to send.
fn tell(stream: &mut UnixStream, answer: &[u8], sent: &mut usize) -> bool {
    match stream.write(&answer[*sent..]) {
        Ok(count) => {
            *sent += count;
            *sent < answer.len()
        }
        Err(error) => is_later(&error),
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
