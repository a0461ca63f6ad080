//! The one memory map of this crate: a model file, for as long as it is being loaded.
//!
//! Mapped and not read, because a model's bytes are wanted once: each tensor is checked and converted straight from
//! the page cache, and the file is never in memory twice.

use std::fs::File;
use std::io;
use std::path::Path;

/// Calls `load` with the bytes of the regular file at `path`. The map ends with the call: what `load` keeps, it copies.
///
/// The file must not be written to or truncated during the call; afterwards it is free. Replacing it by a rename, as
/// downloads and our own tools do, is always safe, since the map keeps the old file.
pub fn with_file<T>(path: &Path, load: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    // Asked before opening, because to open a pipe is to wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(load(&[])); // An empty map is an error on some systems.
    }
    // SAFETY: a map is sound while nobody changes the file under it. The map is private to this call, and `load`
    // borrows it only for the call, so the time in which that must hold is the load alone. It is copied from and
    // never pointed into afterwards: no reference, length or check outlives it. Its length is fixed here, and all
    // ranges are checked against that length. That no other process writes to or truncates the file meanwhile is
    // what `Model::open` asks of its caller in its documentation; it cannot be checked from here.
    let map = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file)? };
    Ok(load(&map))
}
