//! The grammar: a text to a [`Straggler`], or which field is wrong and what would be right.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::trace::Draw;
use super::{Effect, Straggler, StragglerError, Window};

const FORM: &str = "slow:WORKER:FACTOR[:PROB], pause:WORKER:MS[:PROB], pareto:WORKER:SHAPE[:PROB], \
                    burst:EVERY_S:FOR_S:FACTOR, trace:FILE[:iid|:machines[=N]][:with=K][:without=K][:scale=S] or \
                    contention:WORKER[:SHARE], each with @FROM-TO in seconds if it is not for ever";
const FACTOR: RangeInclusive<f64> = 1.0..=1e6;
const FACTOR_IS: &str = "a factor from 1 to 1e6";
/// A pause is an hour at most, a time a thousand million seconds.
const HOUR_MS: f64 = 3.6e6;
const FOREVER_S: f64 = 1e9;
const MOST_MACHINES: usize = 1_000_000;

/// A text that is being read.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn wrong(&self, what: String, expected: &'static str) -> StragglerError {
        StragglerError::Syntax {
            given: self.0.to_owned(),
            what,
            expected,
        }
    }

    fn number(
        &self,
        name: &str,
        field: &str,
        range: RangeInclusive<f64>,
        expected: &'static str,
    ) -> Result<f64, StragglerError> {
        let number = field.parse().ok().filter(|n| range.contains(n));
        number.ok_or_else(|| self.wrong(format!("{name} is \"{field}\""), expected))
    }

    fn share(&self, name: &str, field: &str) -> Result<f64, StragglerError> {
        self.number(name, field, 0.0..=1.0, "a share from 0 to 1")
    }

    /// Seconds to microseconds.
    fn seconds(&self, name: &str, field: &str) -> Result<u64, StragglerError> {
        let seconds = self.number(name, field, 0.0..=FOREVER_S, "seconds from 0 to 1e9")?;
        Ok((seconds * 1e6) as u64)
    }

    fn worker(&self, field: &str) -> Result<Option<usize>, StragglerError> {
        if field == "*" {
            return Ok(None);
        }
        let worker = field.parse().map(Some);
        worker.map_err(|_| {
            let what = format!("WORKER is \"{field}\"");
            self.wrong(what, "a worker's index from 0, or * for all")
        })
    }

    /// What stands before the `@`, and the window behind it. A file's name may have an `@` too: then more
    /// follows it than numbers.
    fn window(&self) -> Result<(&str, Option<Window>), StragglerError> {
        let is_window = |text: &str| {
            let of_window = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
            !self.0.starts_with("trace:") || text.chars().all(of_window)
        };
        let Some((what, window)) = self.0.rsplit_once('@').filter(|(_, w)| is_window(w)) else {
            return Ok((self.0, None));
        };
        const EXPECTED: &str = "@FROM-TO in seconds, such as @10-60";
        let wrong = || self.wrong(format!("its window is \"{window}\""), EXPECTED);
        let (from, to) = window.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (self.seconds("FROM", from)?, self.seconds("TO", to)?);
        if from >= to {
            return Err(wrong());
        }
        Ok((what, Some(Window { from, to })))
    }
}

impl FromStr for Straggler {
    type Err = StragglerError;

    fn from_str(s: &str) -> Result<Self, StragglerError> {
        let text = Text(s);
        let (what, window) = text.window()?;
        let (kind, rest) = what.split_once(':').unwrap_or((what, ""));
        let fields: Vec<&str> = rest.split(':').collect();
        let (worker, effect, probability) = match kind {
            "slow" | "pause" | "pareto" => of_runs(&text, kind, &fields)?,
            "burst" => (None, burst(&text, &fields)?, 1.0),
            "trace" => (None, trace(&text, rest)?, 1.0),
            "contention" => {
                let (worker, share) = contention(&text, &fields)?;
                (worker, Effect::Contention(share), 1.0)
            }
            _ => {
                let what = format!("no straggler is called \"{kind}\"");
                return Err(text.wrong(what, FORM));
            }
        };
        Ok(Straggler {
            worker,
            effect,
            probability,
            window,
            text: s.to_owned(),
        })
    }
}

/// Of a worker's runs, each by itself.
fn of_runs(
    text: &Text<'_>,
    kind: &str,
    fields: &[&str],
) -> Result<(Option<usize>, Effect, f64), StragglerError> {
    let (worker, amount, probability) = match fields {
        [worker, amount] => (worker, amount, 1.0),
        [worker, amount, probability] => (worker, amount, text.share("PROB", probability)?),
        _ => return Err(text.wrong(format!("it has {} fields", fields.len() + 1), FORM)),
    };
    let effect = match kind {
        "slow" => Effect::Slow(text.number("FACTOR", amount, FACTOR, FACTOR_IS)?),
        "pause" => {
            let expected = "milliseconds from 0 to an hour";
            Effect::Pause(text.number("MS", amount, 0.0..=HOUR_MS, expected)? * 1e3)
        }
        _ => Effect::Pareto(text.number("SHAPE", amount, 0.1..=1e3, "a shape from 0.1 to 1000")?),
    };
    Ok((text.worker(worker)?, effect, probability))
}

fn burst(text: &Text<'_>, fields: &[&str]) -> Result<Effect, StragglerError> {
    let [every, lasts, factor] = fields else {
        return Err(text.wrong(format!("it has {} fields", fields.len() + 1), FORM));
    };
    let every_us = text.seconds("EVERY_S", every)?;
    if every_us == 0 {
        let what = format!("EVERY_S is \"{every}\"");
        return Err(text.wrong(what, "seconds, more than 0"));
    }
    Ok(Effect::Burst {
        every: every_us,
        lasts: text.seconds("FOR_S", lasts)?,
        factor: text.number("FACTOR", factor, FACTOR, FACTOR_IS)?,
    })
}

fn contention(text: &Text<'_>, fields: &[&str]) -> Result<(Option<usize>, f64), StragglerError> {
    let (worker, share) = match fields {
        [worker] => (worker, 1.0),
        [worker, share] => {
            let expected = "a share of the time from 0.01 to 1";
            (worker, text.number("SHARE", share, 0.01..=1.0, expected)?)
        }
        _ => return Err(text.wrong(format!("it has {} fields", fields.len() + 1), FORM)),
    };
    Ok((text.worker(worker)?, share))
}

/// `FILE[:iid|:machines[=N]][:with=K][:without=K][:scale=S]`.
fn trace(text: &Text<'_>, rest: &str) -> Result<Effect, StragglerError> {
    const FIELDS: &str =
        "iid, or machines[=N][:with=K][:without=K] with K from 1 to N, and scale=S";
    let (file, fields) = file_and_fields(rest);
    if file.is_empty() {
        return Err(text.wrong("it names no FILE".to_owned(), FORM));
    }
    let wrong = |field: &str| text.wrong(format!("FILE is followed by \"{field}\""), FIELDS);
    let mut fields = fields.into_iter().peekable();
    let first = fields.next_if(|f| *f == "iid" || f.split('=').next() == Some("machines"));
    let count = match first {
        None | Some("iid") => None,
        Some("machines") => Some(50),
        Some(field) => {
            let count = field.strip_prefix("machines=").and_then(|n| n.parse().ok());
            let count = count.filter(|n| (1..=MOST_MACHINES).contains(n));
            Some(count.ok_or_else(|| wrong(field))?)
        }
    };
    let (mut with, mut without, mut scale) = (None, None, None);
    for field in fields {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong(field))?;
        if key == "scale" && scale.is_none() {
            let expected = "a factor from 1e-6 to 1e6";
            scale = Some(text.number("scale", value, 1e-6..=1e6, expected)?);
            continue;
        }
        let place = match key {
            "with" => &mut with,
            "without" => &mut without,
            _ => return Err(wrong(field)),
        };
        let machine = value.parse().ok();
        let machine = machine.filter(|k| (1..=count.unwrap_or(0)).contains(k));
        if place
            .replace(machine.ok_or_else(|| wrong(field))?)
            .is_some()
        {
            return Err(wrong(field));
        }
    }
    let draw = count.map_or(Draw::Iid, |count| Draw::Machines {
        count,
        with,
        without,
    });
    Ok(Effect::Trace {
        file: file.to_owned(),
        draw,
        scale: scale.unwrap_or(1.0),
    })
}

/// A file's name ends at the first colon, but for that of a drive's letter (`C:\trace.npy`).
fn file_and_fields(rest: &str) -> (&str, Vec<&str>) {
    let drive =
        matches!(rest.as_bytes(), [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    let from = if drive { 2 } else { 0 };
    let Some(end) = rest[from..].find(':').map(|at| from + at) else {
        return (rest, Vec::new());
    };
    (&rest[..end], rest[end + 1..].split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_is_written_as_it_was_read() {
        for text in [
            "slow:0:8",
            "slow:*:1.5:0.1@10-60",
            "pause:1:50:0.01",
            "pareto:*:1.5",
            "burst:60:5:3",
            "trace:cloud.npy",
            "trace:a@b/cloud.csv:machines=4:with=4:scale=0.1@0-2.5",
            "contention:0",
            "contention:*:0.25@5-10",
        ] {
            let straggler: Straggler = text.parse().expect(text);
            assert_eq!(straggler.to_string(), text);
        }
    }

    #[test]
    fn a_wrong_straggler_is_told_which_field_is_wrong_and_what_is_right() {
        for (text, what) in [
            ("slow", "2 fields"),
            ("slow:0:8:1:1", "5 fields"),
            ("sloww:0:8", "\"sloww\"; expected slow:WORKER:FACTOR"),
            ("slow:x:8", "WORKER is \"x\"; expected a worker's index"),
            ("slow:-1:8", "WORKER is \"-1\""),
            ("slow:0:0.5", "FACTOR is \"0.5\"; expected a factor from 1"),
            ("slow:0:NaN", "FACTOR is \"NaN\""),
            ("slow:0:inf", "FACTOR is \"inf\""),
            ("slow:0:2@5", "its window is \"5\""),
            ("slow:0:2@5-5", "its window is \"5-5\""),
            ("slow:0:2@x-5", "FROM is \"x\""),
            ("pause:0:-1", "MS is \"-1\""),
            ("pause:0:1:2", "PROB is \"2\""),
            ("pareto:0:0", "SHAPE is \"0\""),
            ("burst:1:2", "3 fields"),
            ("burst:0:2:3", "EVERY_S is \"0\""),
            ("contention:0:0", "SHARE is \"0\""),
            ("contention", "WORKER is \"\""),
            ("trace:", "names no FILE"),
            ("trace:f:machine", "\"machine\"; expected iid, or machines"),
            ("trace:f:machines=0", "\"machines=0\""),
            ("trace:f:machines:with=51", "\"with=51\""),
            ("trace:f:machines:with=1:with=2", "\"with=2\""),
            ("trace:f:iid:with=1", "\"with=1\""),
            ("trace:f:scale=0", "scale is \"0\""),
            ("trace:f:scale=1:scale=2", "\"scale=2\""),
        ] {
            let error = text.parse::<Straggler>().expect_err(text).to_string();
            let opening = format!("straggler \"{text}\": ");
            assert!(
                error.starts_with(&opening) && error.contains(what),
                "{error}"
            );
        }
    }

    #[test]
    fn the_way_to_draw_from_a_trace_stands_behind_its_name() {
        let machines = |count, with, without| Draw::Machines {
            count,
            with,
            without,
        };
        for (text, file, draw, scale) in [
            ("f.npy", "f.npy", Draw::Iid, 1.0),
            ("f.npy:iid", "f.npy", Draw::Iid, 1.0),
            ("f.npy:iid:scale=0.1", "f.npy", Draw::Iid, 0.1),
            ("f.npy:scale=2", "f.npy", Draw::Iid, 2.0),
            ("f:machines", "f", machines(50, None, None), 1.0),
            ("f:machines=4:with=4", "f", machines(4, Some(4), None), 1.0),
            (
                "f:machines:without=43:scale=0.5",
                "f",
                machines(50, None, Some(43)),
                0.5,
            ),
            ("C:\\f.npy:iid", "C:\\f.npy", Draw::Iid, 1.0),
        ] {
            let straggler: Straggler = format!("trace:{text}").parse().expect(text);
            let expected = Effect::Trace {
                file: file.to_owned(),
                draw,
                scale,
            };
            assert_eq!(straggler.effect, expected, "{text}");
        }
    }
}
