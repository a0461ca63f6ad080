//! Where sockets are: the setting `attach`, and the folder that belongs to its user alone.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Overrides [`Attach::Auto`], also in programs that only embed the library.
const VARIABLE: &str = "COLLAGE_ATTACH";

/// Whether an engine shows its state on a local socket, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// As the variable `COLLAGE_ATTACH` says, else in the user's own folder: `$XDG_RUNTIME_DIR/collage`, or
    /// `/tmp/collage-<uid>` where that is not set.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// In this folder. It is made if it is not there, and must be this user's with mode 0700.
    In(PathBuf),
}

/// Why a text is no [`Attach`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?}; expected auto, off, or the absolute path of a folder")]
pub struct AttachSyntax {
    /// The text.
    pub given: String,
}

impl FromStr for Attach {
    type Err = AttachSyntax;

    fn from_str(text: &str) -> Result<Self, AttachSyntax> {
        match text {
            "auto" | "on" => Ok(Attach::Auto),
            "off" => Ok(Attach::Off),
            path if PathBuf::from(path).is_absolute() => Ok(Attach::In(path.into())),
            _ => Err(AttachSyntax { given: text.into() }),
        }
    }
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attach::Auto => f.write_str("auto"),
            Attach::Off => f.write_str("off"),
            Attach::In(folder) => folder.display().fmt(f),
        }
    }
}

impl Attach {
    /// What `Auto` stands for here and now. A variable that cannot be is warned of and counts as `off`: who set it wanted
    /// another place than the usual one.
    #[cfg_attr(not(unix), allow(dead_code))]
    fn chosen(&self) -> Attach {
        if *self != Attach::Auto {
            return self.clone();
        }
        match std::env::var(VARIABLE) {
            Err(_) => Attach::Auto,
            Ok(text) => text.parse().unwrap_or_else(|error| {
                tracing::warn!("{VARIABLE}: {error}");
                Attach::Off
            }),
        }
    }
}

#[cfg(unix)]
pub(super) use folders::{Folder, read_folders, write_folder};

#[cfg(unix)]
mod folders {
    use std::fs::{self, DirBuilder, Metadata};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    use std::path::{Path, PathBuf};

    use super::Attach;
    use crate::attach::error::AttachError;

    /// A folder that was looked at: no symbolic link, its owner's alone.
    #[derive(Debug)]
    pub(in crate::attach) struct Folder {
        pub(in crate::attach) path: PathBuf,
        /// Who may have put sockets there: this user, or, for the superuser, the folder's owner.
        pub(in crate::attach) owner: u32,
    }

    /// The folder that an engine puts its socket in; `None` for nowhere.
    pub(in crate::attach) fn write_folder(place: &Attach) -> Result<Option<Folder>, AttachError> {
        let own = uid();
        let path = match place.chosen() {
            Attach::Off => return Ok(None),
            Attach::In(folder) => folder,
            Attach::Auto => usual(own),
        };
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&path, "cannot make the folder", source));
            }
            _ => {}
        }
        checked(path, own).map(Some)
    }

    /// The folders that a monitor looks in: those that are there and in order. The superuser sees everyone's. An error only
    /// where there is one and none is in order.
    pub(in crate::attach) fn read_folders(place: &Attach) -> Result<Vec<Folder>, AttachError> {
        let own = uid();
        let candidates: Vec<(PathBuf, u32)> = match place.chosen() {
            Attach::Off => Vec::new(),
            Attach::In(folder) => vec![(folder, own)],
            Attach::Auto if own == 0 => everyone(),
            Attach::Auto => {
                let mut both = vec![(usual(own), own), (shared(own), own)];
                both.dedup();
                both
            }
        };
        let there = candidates
            .into_iter()
            .filter(|(path, _)| path.symlink_metadata().is_ok());
        let (mut sound, mut refused) = (Vec::new(), Vec::new());
        for (path, owner) in there {
            match checked(path, owner) {
                Ok(folder) => sound.push(folder),
                Err(error) => refused.push(error),
            }
        }
        // Anyone can make a folder of such a name in /tmp: that must not hide the others.
        match refused.into_iter().next() {
            Some(error) if sound.is_empty() => Err(error),
            Some(error) => {
                tracing::debug!("not looked in: {error}");
                Ok(sound)
            }
            None => Ok(sound),
        }
    }

    fn usual(uid: u32) -> PathBuf {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        match runtime.filter(|path| path.is_absolute() && path.is_dir()) {
            Some(runtime) => runtime.join("collage"),
            None => shared(uid),
        }
    }

    fn shared(uid: u32) -> PathBuf {
        PathBuf::from(format!("/tmp/collage-{uid}"))
    }

    /// Every user's folder, by the names that engines give them: whose each must be is in its name.
    fn everyone() -> Vec<(PathBuf, u32)> {
        let entries = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten();
        let by_number = |name: &std::ffi::OsStr, prefix: &str| -> Option<u32> {
            name.to_str()?.strip_prefix(prefix)?.parse().ok()
        };
        let runtime = entries("/run/user").filter_map(|e| {
            let owner = by_number(&e.file_name(), "")?;
            Some((e.path().join("collage"), owner))
        });
        let shared = entries("/tmp")
            .filter_map(|e| Some((e.path(), by_number(&e.file_name(), "collage-")?)));
        let mut all: Vec<_> = runtime.chain(shared).chain([(usual(0), 0)]).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Not through a link, and nobody but the owner may have put anything there.
    fn checked(path: PathBuf, owner: u32) -> Result<Folder, AttachError> {
        let metadata = path
            .symlink_metadata()
            .map_err(|source| failed(&path, "cannot be looked at", source))?;
        match wrong(&metadata, owner) {
            None => Ok(Folder { path, owner }),
            Some(what) => Err(AttachError::Folder {
                path: path.display().to_string(),
                what,
            }),
        }
    }

    fn wrong(metadata: &Metadata, owner: u32) -> Option<String> {
        let mode = metadata.mode() & 0o777;
        if !metadata.is_dir() {
            Some("not a folder".into())
        } else if metadata.uid() != owner {
            Some(format!("it belongs to user {}", metadata.uid()))
        } else if mode & 0o077 != 0 {
            Some(format!("its mode is {mode:04o}"))
        } else {
            None
        }
    }

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn failed(path: &Path, action: &'static str, source: io::Error) -> AttachError {
        AttachError::Io {
            path: path.display().to_string(),
            action,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_read_as_it_is_written() {
        for text in ["auto", "off", "/run/somewhere/collage"] {
            let attach: Attach = text.parse().expect(text);
            assert_eq!(attach.to_string(), text);
        }
        assert_eq!("on".parse(), Ok(Attach::Auto));
    }

    #[test]
    fn a_folder_that_depends_on_where_one_stands_is_refused() {
        let error = "sockets".parse::<Attach>().expect_err("relative");
        assert!(error.to_string().contains("absolute path"), "{error}");
    }
}
