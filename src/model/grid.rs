//! How a grid is written, by people and in files: `3x3`, rows first.

use std::fmt;
use std::str::FromStr;

use super::plan::Grid;

/// Most tiles along one side of a canvas: far above any use, so that a mistyped grid is a message and not a canvas.
pub const GRID_LIMIT: usize = 256;

/// What was given is not a grid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a grid: expected ROWSxCOLS such as 3x3, each from 1 to {GRID_LIMIT}")]
pub struct GridSyntax(pub String);

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

impl FromStr for Grid {
    type Err = GridSyntax;

    fn from_str(s: &str) -> Result<Self, GridSyntax> {
        let side = |digits: &str| {
            // `usize::from_str` takes a sign, which has no place here.
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            digits
                .parse()
                .ok()
                .filter(|n| plain && (1..=GRID_LIMIT).contains(n))
        };
        let parsed = s.split_once('x').and_then(|(r, c)| {
            Some(Grid {
                rows: side(r)?,
                cols: side(c)?,
            })
        });
        parsed.ok_or_else(|| GridSyntax(s.to_owned()))
    }
}

impl TryFrom<String> for Grid {
    type Error = GridSyntax;

    fn try_from(s: String) -> Result<Self, GridSyntax> {
        s.parse()
    }
}

impl From<Grid> for String {
    fn from(grid: Grid) -> String {
        grid.to_string()
    }
}
