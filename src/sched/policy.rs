//! The axis of redundancy: what runs beside a request's own base run.

use std::fmt;
use std::str::FromStr;

/// Which backups a request gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// None: the base answers, or nothing does.
    None,
    /// Each group of requests is also run as one collage, alongside.
    #[default]
    Collage,
}

impl Policy {
    /// Every policy, in the order of their names in messages.
    pub const ALL: [Policy; 2] = [Policy::None, Policy::Collage];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::None => "none",
            Policy::Collage => "collage",
        })
    }
}

/// A name that is no policy's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy is called \"{given}\"; expected none or collage")]
pub struct PolicyError {
    /// What was given.
    pub given: String,
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(s: &str) -> Result<Self, PolicyError> {
        Policy::ALL
            .into_iter()
            .find(|p| p.to_string() == s)
            .ok_or_else(|| PolicyError {
                given: s.to_owned(),
            })
    }
}
