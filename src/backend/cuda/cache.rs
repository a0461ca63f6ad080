//! Compiled kernels as files: what is in one, and where they are.
//!
//! A file's name holds the key of what it was made from, so that another source, flag, compiler or architecture is another
//! file. A file is written beside its place and renamed, so that readers see it whole or not at all; its checksum covers
//! everything, so that a damaged one is rebuilt. Where no file can be written the kernels are compiled in every process.

use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

type Hash = [u8; 32];

/// A compiled unit, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of source, headers, flags and architecture.
    pub source: Hash,
    /// The compiler's major and minor.
    pub compiler: [u32; 2],
    /// What the compiler said.
    pub log: String,
    /// For the device.
    pub cubin: Vec<u8>,
}

const MAGIC: &[u8; 8] = b"collage1";

/// The key of what such a compiler makes of such a source.
pub fn key(source: &Hash, [major, minor]: [u32; 2]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(source);
    hash.update(major.to_le_bytes());
    hash.update(minor.to_le_bytes());
    hash.finalize().into()
}

/// One hash of several texts, of which none can pass for a part of another.
pub fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> Hash {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Entry {
    /// The file's name: what it is, for people, then its key. `what` names the unit and the architecture.
    pub fn file_name(what: &str, key: &Hash) -> String {
        format!("{what}-{}.cubin", hex(key))
    }

    /// As the file has it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.source);
        bytes.extend(self.compiler.iter().flat_map(|v| v.to_le_bytes()));
        for part in [self.log.as_bytes(), &self.cubin] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        let sum: Hash = Sha256::digest(&bytes).into();
        bytes.extend(sum);
        bytes
    }

    /// `None` where the bytes are not exactly an entry.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<32>()?;
        let expected: Hash = Sha256::digest(body).into();
        let body = body.strip_prefix(MAGIC).filter(|_| expected == *sum)?;
        let (source, body) = body.split_first_chunk::<32>()?;
        let (major, body) = body.split_first_chunk::<4>()?;
        let (minor, body) = body.split_first_chunk::<4>()?;
        let (log, body) = part(body)?;
        let (cubin, rest) = part(body)?;
        rest.is_empty().then(|| Self {
            source: *source,
            compiler: [major, minor].map(|v| u32::from_le_bytes(*v)),
            log: String::from_utf8_lossy(log).into_owned(),
            cubin: cubin.to_vec(),
        })
    }
}

/// A length, then as many bytes; and the rest.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    bytes.split_at_checked(length)
}

/// A folder of entries.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// `COLLAGE_CACHE_DIR`, else the platform's folder for caches; none where neither is known.
    pub fn of_user() -> Self {
        let variable = |name: &str| {
            let value = std::env::var_os(name).filter(|v| !v.is_empty());
            value.map(PathBuf::from)
        };
        let platform = if cfg!(windows) {
            variable("LOCALAPPDATA").map(|p| p.join("collage").join("cache"))
        } else if cfg!(target_os = "macos") {
            variable("HOME").map(|p| p.join("Library/Caches/collage"))
        } else {
            let home = || variable("HOME").map(|p| p.join(".cache"));
            let cache = variable("XDG_CACHE_HOME").or_else(home);
            cache.map(|p| p.join("collage"))
        };
        let own = variable("COLLAGE_CACHE_DIR");
        Self {
            folder: own.or_else(|| platform.map(|p| p.join("cubins"))),
        }
    }

    /// This folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
        }
    }

    /// The entry in the file of this name, if there is a whole one and it is of this source.
    pub fn read(&self, name: &str, source: &Hash) -> Option<Entry> {
        let path = self.folder.as_ref()?.join(name);
        let bytes = std::fs::read(&path).ok()?;
        let entry = Entry::from_bytes(&bytes).filter(|entry| entry.source == *source);
        if entry.is_none() {
            tracing::warn!(file = %path.display(), "a cached kernel is damaged and is compiled anew");
        }
        entry
    }

    /// Entries of this source by any compiler, newest compiler first: for a machine that has none itself.
    pub fn of_source(&self, what: &str, source: &Hash) -> Vec<Entry> {
        let prefix = format!("{what}-");
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".cubin")
        };
        let read = self.folder.iter().flat_map(std::fs::read_dir).flatten();
        let files = read.filter_map(|e| Some(e.ok()?.path())).filter(is_ours);
        let entries = files.filter_map(|path| Entry::from_bytes(&std::fs::read(path).ok()?));
        let mut entries: Vec<Entry> = entries.filter(|e| e.source == *source).collect();
        entries.sort_by_key(|e| std::cmp::Reverse(e.compiler));
        entries
    }

    /// Writes the entry. Where that fails, the next process compiles again, and this one says why once.
    pub fn write(&self, name: &str, entry: &Entry) -> std::io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        std::fs::create_dir_all(folder)?;
        write_whole(folder, name, &entry.to_bytes())
    }
}

/// Under a name of its own first: two processes may write the same file at the same time.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = folder.join(format!(".{name}.{}.{number}", std::process::id()));
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, folder.join(name)));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            source: hash(["source", "flags"]),
            compiler: [13, 5],
            log: "ptxas info".into(),
            cubin: (0..200).collect(),
        }
    }

    #[test]
    fn entries_are_read_as_written() {
        assert_eq!(Entry::from_bytes(&entry().to_bytes()), Some(entry()));
    }

    #[test]
    fn any_damage_is_seen() {
        let bytes = entry().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Entry::from_bytes(&damaged), None, "byte {at}");
            assert_eq!(Entry::from_bytes(&bytes[..at]), None, "cut at {at}");
        }
        let longer = [bytes, vec![0]].concat();
        assert_eq!(Entry::from_bytes(&longer), None);
    }

    #[test]
    fn keys_change_with_what_they_are_made_of() {
        let source = hash(["a", "b"]);
        assert_ne!(source, hash(["ab", ""]), "texts do not run together");
        assert_ne!(source, hash(["a", "c"]));
        assert_ne!(key(&source, [13, 0]), key(&source, [13, 1]));
        assert_ne!(key(&source, [13, 0]), key(&hash(["a"]), [13, 0]));
    }

    #[test]
    fn concurrent_writers_leave_one_whole_entry() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        cache.write("unit", &entry()).expect("writes");
                        let read = cache.read("unit", &entry().source);
                        assert_eq!(read, Some(entry()), "never a part");
                    }
                });
            }
        });
        let files = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn damaged_and_foreign_entries_are_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path());
        cache.write("unit", &entry()).expect("writes");
        assert_eq!(cache.read("unit", &hash(["another"])), None);
        let file = folder.path().join("unit");
        std::fs::write(&file, &entry().to_bytes()[..60]).expect("writes");
        assert_eq!(cache.read("unit", &entry().source), None);
        assert_eq!(cache.read("absent", &entry().source), None);
    }
}
