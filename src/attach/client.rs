//! The monitor's end: which engines are there, and what each says.
//!
//! Everything is bounded: a stopped engine costs its time limit and no more, and one that sends nonsense an error.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

use super::error::AttachError;
use super::place::{Attach, Folder, read_folders};
use super::protocol::{ANSWER_LIMIT, Answer, VERSION, ask_for_state};
use super::state::State;

/// An engine's socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Of its process.
    pub pid: u32,
    /// Among the engines of its process.
    pub engine: u32,
    /// Its socket.
    pub path: PathBuf,
}

impl Found {
    pub(super) fn name(pid: u32, engine: u32) -> String {
        format!("{pid}-{engine}.sock")
    }

    fn parse(path: PathBuf) -> Option<Found> {
        let name = path.file_name()?.to_str()?.strip_suffix(".sock")?;
        let (pid, engine) = name.split_once('-')?;
        let (pid, engine) = (pid.parse().ok()?, engine.parse().ok()?);
        Some(Found { pid, engine, path })
    }
}

/// The engines that listen now, by process and number. Sockets that engines left behind are removed.
///
/// # Errors
/// Where a folder is there and others than its owner may have put sockets into it.
pub fn discover(place: &Attach) -> Result<Vec<Found>, AttachError> {
    let mut found: Vec<Found> = Vec::new();
    for folder in read_folders(place)? {
        found.extend(sweep(&folder));
    }
    found.sort();
    Ok(found)
}

/// The live sockets of a folder. One that refuses is stale: a live one listens before it has its name.
pub(super) fn sweep(folder: &Folder) -> Vec<Found> {
    let entries = fs::read_dir(&folder.path).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| {
        let metadata = entry.path().symlink_metadata();
        metadata.is_ok_and(|m| m.file_type().is_socket() && m.uid() == folder.owner)
    });
    let named = sockets.filter_map(|entry| Found::parse(entry.path()));
    named
        .filter(|found| match dial(&found.path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _ = fs::remove_file(&found.path);
                false
            }
            // Also one that is too busy to let anyone in is there.
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => true,
        })
        .collect()
}

/// Asks an engine for its state.
pub fn read(found: &Found, within: Duration) -> Result<State, AttachError> {
    let path = || found.path.display().to_string();
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => AttachError::Gone { path: path() },
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AttachError::Silent {
            path: path(),
            within_ms: within.as_millis() as u64,
        },
        _ => AttachError::Io {
            path: path(),
            action: "cannot be asked",
            source: error,
        },
    };
    let end = Instant::now() + within;
    let mut stream = dial(&found.path).map_err(failed)?;
    stream.set_nonblocking(false).map_err(failed)?;
    stream.set_write_timeout(Some(within)).map_err(failed)?;
    stream.write_all(&ask_for_state()).map_err(failed)?;
    let line = line(&mut stream, end).map_err(failed)?;
    let wrong = |what: String| AttachError::Answer {
        path: path(),
        what,
        version: VERSION,
    };
    let Some(line) = line else {
        return Err(wrong(format!("more than {ANSWER_LIMIT} bytes")));
    };
    if line.is_empty() {
        return Err(AttachError::Gone { path: path() });
    }
    let answer: Answer = serde_json::from_slice(&line).map_err(|e| wrong(e.to_string()))?;
    match answer {
        Answer { collage, .. } if collage != VERSION => Err(wrong(format!("version {collage}"))),
        Answer {
            state: Some(state), ..
        } => Ok(state),
        Answer { error, .. } => Err(AttachError::Refused {
            path: path(),
            message: error.unwrap_or_else(|| "nothing".into()),
        }),
    }
}

/// Until the other end closes; `None` for more than is taken.
fn line(stream: &mut UnixStream, end: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bytes = vec![0; 64 << 10];
    while !line.ends_with(b"\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if line.len() > ANSWER_LIMIT {
            return Ok(None);
        }
    }
    Ok(Some(line))
}

/// Connects without waiting. The standard library's connect waits as long as the queue of an engine that was stopped is
/// full, which can be for ever.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let stream = UnixStream::from(socket(AddressFamily::UNIX, SocketType::STREAM, None)?);
    stream.set_nonblocking(true)?;
    connect(&stream, &address)?;
    Ok(stream)
}
