//! How values are written, and how near two names are.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{given}\" is not a time; expected a number and its unit, us, ms or s, such as 20ms, up to a day"
)]
pub struct DurationSyntax {
    /// What was given.
    pub given: String,
}

/// Reads a time: a number and `us`, `ms` or `s`.
pub fn duration(text: &str) -> Result<Duration, DurationSyntax> {
    const DAY: f64 = 86_400.0;
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e6,
        "ms" => 1e3,
        "s" => 1.0,
        _ => 0.0, // gives no finite number of seconds below
    };
    let seconds = number.trim_end().parse::<f64>().ok().map(|n| n / scale);
    let seconds = seconds.filter(|s| (0.0..=DAY).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| DurationSyntax {
            given: text.to_owned(),
        })
}

/// A value that is written as text, in its own syntax.
pub(super) fn text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    String::deserialize(from)?
        .parse()
        .map(Some)
        .map_err(serde::de::Error::custom)
}

pub(super) fn texts<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts
        .iter()
        .map(|t| t.parse())
        .collect::<Result<_, _>>()
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// A value that is a list in its own syntax, with commas, or a list of texts.
pub(super) fn list<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    struct Texts;

    impl<'de> Visitor<'de> for Texts {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<String, A::Error> {
            let mut all = Vec::new();
            while let Some(text) = texts.next_element::<String>()? {
                all.push(text);
            }
            Ok(all.join(","))
        }
    }

    let text = from.deserialize_any(Texts)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn text_duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    duration(&String::deserialize(from)?)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// Insertions, deletions and replacements from one name to the other (Levenshtein).
pub(super) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
