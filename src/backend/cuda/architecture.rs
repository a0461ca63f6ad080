//! Architectures: what a cubin is compiled for, and which of those a device takes.

use std::fmt;
use std::str::FromStr;

use crate::error::Classify;

/// `sm_86`, or `sm_90a`: with the instructions of exactly that architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Architecture {
    number: u32,
    specific: bool,
}

impl Architecture {
    /// The oldest for which there are kernels.
    pub const OLDEST: u32 = 75;

    /// Those for which every op has a kernel that is tested: `75,80,86,89,90a,100,120`.
    pub const ALL: [Architecture; 7] = [
        Architecture::plain(75),
        Architecture::plain(80),
        Architecture::plain(86),
        Architecture::plain(89),
        Architecture {
            number: 90,
            specific: true,
        },
        Architecture::plain(100),
        Architecture::plain(120),
    ];

    const fn plain(number: u32) -> Self {
        Self {
            number,
            specific: false,
        }
    }

    /// A device's own, from its compute capability.
    pub fn of_device([major, minor]: [u32; 2]) -> Self {
        let number = major * 10 + minor;
        Self {
            number,
            specific: number == 90,
        }
    }

    /// Compute capability times ten.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Whether it has warpgroup products: exactly 9.0.
    pub fn is_hopper(self) -> bool {
        self.number == 90
    }

    /// Whether a kernel may start before the one before it has ended.
    pub fn overlaps_launches(self) -> bool {
        self.number >= 90
    }

    /// Those whose cubins such a device runs, the best first: its own, then lower minors of the same major.
    pub fn runs(self) -> impl Iterator<Item = Architecture> {
        let lowest = self.number / 10 * 10;
        // 87 is an embedded part, whose cubins no other device takes.
        let lower = (lowest.max(Self::OLDEST)..self.number)
            .rev()
            .filter(|n| *n != 87);
        std::iter::once(self).chain(lower.map(|n| Self {
            number: n,
            specific: n == 90,
        }))
    }

    /// The best of `known` (compute capabilities times ten) whose cubins such a device runs.
    pub fn best_of(self, known: &[u32]) -> Option<Architecture> {
        self.runs().find(|a| known.contains(&a.number))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.specific { "a" } else { "" };
        write!(f, "sm_{}{suffix}", self.number)
    }
}

/// An architecture that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("architecture {given}: expected a number from 75 on, such as 86 or 90a")]
pub struct ArchitectureError {
    /// As given.
    pub given: String,
}

impl Classify for ArchitectureError {
    fn code(&self) -> u32 {
        321
    }
    fn can_retry(&self) -> bool {
        false
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    /// `86`, `sm_86`, `90a`; 90 is 90a, as there are no other kernels for it.
    fn from_str(given: &str) -> Result<Self, ArchitectureError> {
        let bare = given.strip_prefix("sm_").unwrap_or(given);
        let bare = bare
            .strip_suffix('a')
            .filter(|n| *n == "90")
            .unwrap_or(bare);
        match bare.parse::<u32>() {
            Ok(number) if (Self::OLDEST..1000).contains(&number) => Ok(Self {
                number,
                specific: number == 90,
            }),
            _ => Err(ArchitectureError {
                given: given.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_print_as_they_are_read() {
        for name in ["sm_75", "sm_86", "sm_90a", "sm_100", "sm_120"] {
            assert_eq!(name.parse::<Architecture>().unwrap().to_string(), name);
        }
        assert_eq!("90".parse::<Architecture>().unwrap().to_string(), "sm_90a");
        for wrong in ["", "70", "sm_", "86a", "x", "9000"] {
            assert!(wrong.parse::<Architecture>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_device_newer_than_the_compiler_takes_the_newest_of_its_major() {
        let known = [75, 80, 86, 89, 90, 100, 103, 120];
        let best = |major, minor| {
            let best = Architecture::of_device([major, minor]).best_of(&known);
            best.map(|a| a.to_string())
        };
        assert_eq!(best(9, 0).as_deref(), Some("sm_90a"));
        assert_eq!(best(8, 8).as_deref(), Some("sm_86"));
        assert_eq!(best(12, 1).as_deref(), Some("sm_120"));
        assert_eq!(best(10, 5).as_deref(), Some("sm_103"));
        assert_eq!(best(13, 0), None);
        assert_eq!(best(7, 0), None, "older than every kernel");
    }
}
