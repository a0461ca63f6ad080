//! The axis of redundancy: what runs beside a request's own base run, and when.
//!
//! ```text
//! none | replicate:R | hedge:WHEN | collage[:RxC|:auto][:lazy[:WHEN]][:once] | small[:lazy[:WHEN]][:once] | parity:K[:once]
//! WHEN = pXX (of the base runs' live times) | a time, such as 15ms
//! ```

use std::fmt;
use std::str::FromStr;

use super::event::Micros;

/// Most runs of one request that `replicate` starts at once.
pub const MAX_RUNS: u8 = 4;

/// Most members of a parity group.
pub const MAX_MEMBERS: usize = 16;

/// Which backups a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// None: the base answers, or nothing does.
    None,
    /// Every request runs this many times at once, each on another worker; 2 to [`MAX_RUNS`].
    Replicate {
        /// Its own run included.
        runs: u8,
    },
    /// A request whose base run takes longer than this runs once more, on another worker.
    Hedge {
        /// From the launch of the base run.
        after: After,
    },
    /// Groups of requests are also run as one collage.
    Collage {
        /// How large its canvases are.
        grid: Tiling,
        /// `None`: every group, alongside (eager). Else only requests whose base run takes longer than this, packed
        /// together wherever they come from (lazy).
        lazy: Option<After>,
        /// Whether a request that is late while its collage is missing too runs once more on another worker.
        resend: bool,
    },
    /// The collage network on one image: a cheap backup per image, with no neighbours in its picture.
    Small {
        /// As of `Collage`.
        lazy: Option<After>,
        /// As of `Collage`.
        resend: bool,
    },
    /// Groups of requests are also run as one parity query, from whose logits the one answer that is missing is
    /// decoded (Kosaian et al., SOSP 2019).
    Parity {
        /// Of a group; 2 to [`MAX_MEMBERS`].
        members: usize,
        /// As of `Collage`.
        resend: bool,
    },
}

/// How large a collage's canvas is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tiling {
    /// As the driver's own setting has it.
    Own,
    /// Rows and columns.
    Grid(usize, usize),
    /// By load: the largest of the driver's grids that requests fill while a group waits.
    Auto,
}

/// How often each of so many members stands in a parity query of so many slots: a partial group's members are
/// repeated in their order until it is full.
pub fn repeats(slots: usize, members: usize, index: usize) -> usize {
    let members = members.max(1);
    slots / members + usize::from(index < slots % members)
}

impl Default for Policy {
    fn default() -> Self {
        Policy::COLLAGE
    }
}

impl Policy {
    /// Eager, with the driver's grid, re-sending what is late when the collage is missing.
    pub const COLLAGE: Policy = Policy::Collage {
        grid: Tiling::Own,
        lazy: None,
        resend: true,
    };

    /// Whether the collage network answers for some requests.
    pub fn uses_collage(self) -> bool {
        matches!(self, Policy::Collage { .. } | Policy::Small { .. })
    }

    /// Whether requests are gathered into groups, for whose runs it needs workers beside those of base runs.
    pub fn uses_groups(self) -> bool {
        self.uses_collage() || self.parity().is_some()
    }

    /// Members of a parity group, where groups have parities.
    pub fn parity(self) -> Option<usize> {
        match self {
            Policy::Parity { members, .. } => Some(members.clamp(2, MAX_MEMBERS)),
            _ => None,
        }
    }

    /// Whether its grid follows the load.
    pub fn is_auto(self) -> bool {
        matches!(
            self,
            Policy::Collage {
                grid: Tiling::Auto,
                ..
            }
        )
    }

    /// Rows and columns of its canvas, where the policy says them.
    pub fn grid(self) -> Option<(usize, usize)> {
        match self {
            Policy::Collage {
                grid: Tiling::Grid(rows, cols),
                ..
            } => Some((rows, cols)),
            Policy::Small { .. } => Some((1, 1)),
            _ => None,
        }
    }

    /// Workers for base runs that it needs: most base runs of a request that it has at a time.
    pub fn runs(self) -> usize {
        match self {
            Policy::Replicate { runs } => usize::from(runs),
            Policy::Hedge { .. } => 2,
            _ => 1,
        }
    }

    /// Runs that a request gets at once beside its own.
    pub(super) fn replicas(self) -> u8 {
        match self {
            Policy::Replicate { runs } => runs.clamp(2, MAX_RUNS) - 1,
            _ => 0,
        }
    }

    /// Whether the collage waits for requests to be late, and for how long their base runs may take.
    pub fn lazy(self) -> Option<After> {
        match self {
            Policy::Collage { lazy, .. } | Policy::Small { lazy, .. } => lazy,
            _ => None,
        }
    }

    /// Whether a late request whose collage is missing runs once more.
    pub(super) fn resends(self) -> bool {
        matches!(
            self,
            Policy::Collage { resend: true, .. }
                | Policy::Small { resend: true, .. }
                | Policy::Parity { resend: true, .. }
        )
    }
}

/// When a run counts as late, from its launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// This many tenths of a percent of base runs are faster, by a rotating histogram of their times; never before
    /// enough have ended. 1..=999.
    Percentile(u16),
    /// A fixed time.
    Micros(Micros),
}

impl After {
    /// Where the tail begins for "The Tail at Scale" (Dean and Barroso 2013).
    pub const P95: After = After::Percentile(950);
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            After::Percentile(tenths) => write!(f, "p{}", f64::from(tenths) / 10.0),
            After::Micros(us) if us.is_multiple_of(1_000_000) => write!(f, "{}s", us / 1_000_000),
            After::Micros(us) => write!(f, "{}ms", us as f64 / 1e3),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, lazy, resend) = match *self {
            Policy::None => return f.write_str("none"),
            Policy::Replicate { runs } => return write!(f, "replicate:{runs}"),
            Policy::Hedge { after } => return write!(f, "hedge:{after}"),
            Policy::Collage { lazy, resend, .. } => ("collage", lazy, resend),
            Policy::Small { lazy, resend } => ("small", lazy, resend),
            Policy::Parity { resend, .. } => ("parity", None, resend),
        };
        f.write_str(name)?;
        if let (Some((rows, cols)), "collage") = (self.grid(), name) {
            write!(f, ":{rows}x{cols}")?;
        } else if self.is_auto() {
            f.write_str(":auto")?;
        } else if let Some(members) = self.parity() {
            write!(f, ":{members}")?;
        }
        match lazy {
            Some(After::P95) => f.write_str(":lazy")?,
            Some(after) => write!(f, ":lazy:{after}")?,
            None => {}
        }
        f.write_str(if resend { "" } else { ":once" })
    }
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Its first word is no policy's name.
    #[error(
        "no policy is called \"{given}\"; expected none, replicate:R, hedge:WHEN, collage[:RxC|:auto][:lazy], small[:lazy] or parity:K"
    )]
    Unknown {
        /// What was given.
        given: String,
    },
    /// A field that its policy does not take there.
    #[error("policy \"{policy}\": \"{field}\"; expected {expected}")]
    Field {
        /// The whole text.
        policy: String,
        /// The field at fault, empty where one is missing.
        field: String,
        /// What would be right.
        expected: &'static str,
    },
}

const RUNS: &str = "runs from 2 to 4";
const WHEN: &str = "p50 to p99.9 or a time such as 15ms, up to a day";
const GRID: &str = "auto, or ROWSxCOLS from 1x1 to 64x64";
const MEMBERS: &str = "members from 2 to 16";
const ONCE: &str = "once, or nothing";
const OPTIONS: &str = "lazy, lazy:WHEN or once";

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(s: &str) -> Result<Self, PolicyError> {
        let error = |field: &str, expected| PolicyError::Field {
            policy: s.to_owned(),
            field: field.to_owned(),
            expected,
        };
        let (name, rest) = s.split_once(':').unwrap_or((s, ""));
        match name {
            "none" if rest.is_empty() => Ok(Policy::None),
            "none" => Err(error(rest, "nothing after none")),
            "replicate" => {
                let runs = rest.parse().ok().filter(|r| (2..=MAX_RUNS).contains(r));
                let runs = runs.ok_or_else(|| error(rest, RUNS))?;
                Ok(Policy::Replicate { runs })
            }
            "hedge" => {
                let after = rest.parse().map_err(|_| error(rest, WHEN))?;
                Ok(Policy::Hedge { after })
            }
            "collage" | "small" => backed(name, rest).map_err(|(field, what)| error(field, what)),
            "parity" => {
                let (members, once) = rest.split_once(':').unwrap_or((rest, ""));
                let count = members.parse().ok();
                let count = count.filter(|k| (2..=MAX_MEMBERS).contains(k));
                let members = count.ok_or_else(|| error(members, MEMBERS))?;
                match once {
                    "" | "once" => Ok(Policy::Parity {
                        members,
                        resend: once.is_empty(),
                    }),
                    field => Err(error(field, ONCE)),
                }
            }
            _ => Err(PolicyError::Unknown {
                given: s.to_owned(),
            }),
        }
    }
}

/// The fields of `collage` and `small`; of a wrong one itself and what was expected.
fn backed<'a>(name: &str, rest: &'a str) -> Result<Policy, (&'a str, &'static str)> {
    let mut fields = rest.split(':').filter(|_| !rest.is_empty()).peekable();
    let mut grid = Tiling::Own;
    if let Some(field) = fields.next_if(|f| name == "collage" && *f != "lazy" && *f != "once") {
        let side = |text: &str| text.parse().ok().filter(|n| (1..=64).contains(n));
        let sides = field.split_once('x');
        let sides = sides.and_then(|(r, c)| Some((side(r)?, side(c)?)));
        grid = match sides {
            Some((rows, cols)) => Tiling::Grid(rows, cols),
            None if field == "auto" => Tiling::Auto,
            None => return Err((field, GRID)),
        };
    }
    let mut lazy = None;
    if fields.next_if_eq(&"lazy").is_some() {
        lazy = Some(match fields.next_if(|f| *f != "once") {
            Some(when) => when.parse().map_err(|_| (when, WHEN))?,
            None => After::P95,
        });
    }
    let resend = fields.next_if_eq(&"once").is_none();
    if let Some(field) = fields.next() {
        return Err((field, OPTIONS));
    }
    Ok(match name {
        "small" => Policy::Small { lazy, resend },
        _ => Policy::Collage { grid, lazy, resend },
    })
}

/// A text that is no [`After`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{given}\" is not when a run is late; expected {WHEN}")]
pub struct AfterError {
    /// What was given.
    pub given: String,
}

impl FromStr for After {
    type Err = AfterError;

    fn from_str(s: &str) -> Result<Self, AfterError> {
        const DAY_US: f64 = 86_400e6;
        let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite());
        let tenths = s.strip_prefix('p').and_then(number).map(|p| p * 10.0);
        let exact = |t: &f64| (500.0..=999.0).contains(t) && (t - t.round()).abs() < 1e-6;
        let percentile = tenths
            .filter(exact)
            .map(|t| After::Percentile(t.round() as u16));
        let time = [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
            .into_iter()
            .find_map(|(unit, us)| Some(number(s.strip_suffix(unit)?)? * us))
            .filter(|us| (1.0..=DAY_US).contains(us))
            .map(|us| After::Micros(us.round() as Micros));
        percentile.or(time).ok_or_else(|| AfterError {
            given: s.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_written_as_it_is_read() {
        for text in [
            "none",
            "replicate:2",
            "hedge:p95",
            "hedge:p99.9",
            "hedge:214.9ms",
            "hedge:2s",
            "collage",
            "collage:3x3",
            "collage:lazy",
            "collage:auto",
            "collage:auto:lazy:once",
            "parity:2",
            "parity:4:once",
            "collage:2x4:lazy",
            "collage:3x3:lazy:160ms",
            "collage:3x3:lazy:p99:once",
            "collage:once",
            "small",
            "small:lazy",
            "small:lazy:p90:once",
        ] {
            let policy: Policy = text.parse().expect(text);
            assert_eq!(policy.to_string(), text);
        }
        assert_eq!("collage:lazy:p95".parse(), "collage:lazy".parse::<Policy>());
        assert_eq!(Policy::default().to_string(), "collage");
    }

    #[test]
    fn a_wrong_policy_is_told_which_field_is_wrong() {
        for (text, field, expected) in [
            ("replicate", "", RUNS),
            ("replicate:1", "1", RUNS),
            ("replicate:5", "5", RUNS),
            ("hedge", "", WHEN),
            ("hedge:p100", "p100", WHEN),
            ("hedge:p95.55", "p95.55", WHEN),
            ("hedge:5", "5", WHEN),
            ("hedge:-1ms", "-1ms", WHEN),
            ("hedge:infs", "infs", WHEN),
            ("collage:3", "3", GRID),
            ("collage:0x3", "0x3", GRID),
            ("collage:3x3:sometimes", "sometimes", OPTIONS),
            ("collage:3x3:lazy:p95:x", "x", OPTIONS),
            ("small:2x2", "2x2", OPTIONS),
            ("parity", "", MEMBERS),
            ("parity:1", "1", MEMBERS),
            ("parity:17", "17", MEMBERS),
            ("parity:2:lazy", "lazy", ONCE),
            ("small:auto", "auto", OPTIONS),
            ("none:1", "1", "nothing after none"),
        ] {
            let (policy, field) = (text.to_owned(), field.to_owned());
            let error = PolicyError::Field {
                policy,
                field,
                expected,
            };
            assert_eq!(text.parse::<Policy>(), Err(error), "{text}");
        }
        for text in ["", "hedged", "Collage", "parities"] {
            let error = text.parse::<Policy>().expect_err(text).to_string();
            assert!(error.starts_with("no policy is called"), "{error}");
        }
    }
}
