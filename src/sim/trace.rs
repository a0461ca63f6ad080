//! Recorded latencies: one-dimensional `.npy` of f64 or f32 seconds, or a `.csv` with one number of seconds a line.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::error::Classify;

/// How a worker draws from a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// Every run from the whole trace.
    Iid,
    /// The trace is so many machines one after another; each worker is one of them, drawn anew at each repetition.
    Machines {
        /// In the trace.
        count: usize,
        /// This one, from 1, is among the workers, in a random place.
        with: Option<usize>,
        /// This one, from 1, is not.
        without: Option<usize>,
    },
}

/// A trace and how it is drawn from: `FILE[:iid]` or `FILE:machines[=N][:with=K][:without=K]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// As it was named.
    pub name: String,
    pub(super) seconds: Arc<[f64]>,
    /// How.
    pub draw: Draw,
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The operating system did not give the file.
    #[error("trace {file}: cannot be read: {source}")]
    Read {
        /// Its path.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no trace.
    #[error("trace {file}: {what}; expected {expected}")]
    Content {
        /// Its path.
        file: String,
        /// What is wrong with it.
        what: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A field behind its name.
    #[error(
        "trace \"{given}\": \"{field}\"; expected iid, or machines[=N][:with=K][:without=K] with K from 1 to N"
    )]
    Field {
        /// The whole description.
        given: String,
        /// The field at fault.
        field: String,
    },
}

impl Classify for TraceError {
    fn code(&self) -> u32 {
        match self {
            TraceError::Read { .. } => 421,
            TraceError::Content { .. } => 422,
            TraceError::Field { .. } => 423,
        }
    }

    fn can_retry(&self) -> bool {
        false
    }
}

const SHAPE: &str =
    "a one-dimensional npy of little-endian f64 or f32, or a csv with a number a line";
const SECONDS: &str = "one or more times in seconds, from 0 to 86400";

impl Trace {
    /// Reads the file that a description names.
    pub fn open(given: &str) -> Result<Trace, TraceError> {
        let mut fields = given.split(':');
        let name = fields.next().unwrap_or_default().to_owned();
        let draw = draw(fields.collect()).map_err(|field| TraceError::Field {
            given: given.to_owned(),
            field,
        })?;
        let bytes = fs::read(Path::new(&name)).map_err(|source| TraceError::Read {
            file: name.clone(),
            source,
        })?;
        let content = |what: &str, expected| TraceError::Content {
            file: name.clone(),
            what: what.to_owned(),
            expected,
        };
        let seconds = if bytes.starts_with(b"\x93NUMPY") {
            npy(&bytes).ok_or_else(|| content("not such an npy", SHAPE))?
        } else {
            csv(&bytes).map_err(|line| content(&format!("line {line} is no number"), SHAPE))?
        };
        let trace = Trace::new(name.clone(), seconds, draw);
        trace.ok_or_else(|| content("too few times, or one out of range", SECONDS))
    }

    /// A trace from times in seconds; `None` if there are fewer than machines, or one that is no time.
    pub fn new(name: String, seconds: Vec<f64>, draw: Draw) -> Option<Trace> {
        let least = match draw {
            Draw::Iid => 1,
            Draw::Machines { count, .. } => count.max(1),
        };
        let sound = seconds.len() >= least && seconds.iter().all(|s| (0.0..=86_400.0).contains(s));
        sound.then(|| Trace {
            name,
            seconds: seconds.into(),
            draw,
        })
    }

    /// Mean of all its times, in seconds.
    pub fn mean_s(&self) -> f64 {
        self.seconds.iter().sum::<f64>() / self.seconds.len().max(1) as f64
    }

    /// The times of one machine, from 0; of blocks as equal as they can be.
    pub(super) fn machine(&self, machine: usize, count: usize) -> &[f64] {
        let each = self.seconds.len() / count;
        &self.seconds[machine * each..(machine + 1) * each]
    }
}

fn draw(fields: Vec<&str>) -> Result<Draw, String> {
    let Some((first, rest)) = fields.split_first() else {
        return Ok(Draw::Iid);
    };
    let wrong = |field: &str| field.to_owned();
    let (word, count) = first.split_once('=').unwrap_or((first, "50"));
    if word == "iid" && rest.is_empty() && *first == "iid" {
        return Ok(Draw::Iid);
    } else if word != "machines" {
        return Err(wrong(first));
    }
    let count = count.parse().ok().filter(|n| (1..=1_000_000).contains(n));
    let count = count.ok_or_else(|| wrong(first))?;
    let (mut with, mut without) = (None, None);
    for field in rest {
        let (word, machine) = field.split_once('=').ok_or_else(|| wrong(field))?;
        let machine = machine.parse().ok().filter(|k| (1..=count).contains(k));
        let place = match word {
            "with" => &mut with,
            "without" => &mut without,
            _ => return Err(wrong(field)),
        };
        *place = Some(machine.ok_or_else(|| wrong(field))?);
    }
    Ok(Draw::Machines {
        count,
        with,
        without,
    })
}

/// The numbers of a version 1 to 3 npy; `None` if it is of another shape or type.
fn npy(bytes: &[u8]) -> Option<Vec<f64>> {
    let header_at = if *bytes.get(6)? == 1 { 10 } else { 12 };
    let length = match header_at {
        10 => usize::from(u16::from_le_bytes(bytes.get(8..10)?.try_into().ok()?)),
        _ => u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize,
    };
    let header = std::str::from_utf8(bytes.get(header_at..header_at + length)?).ok()?;
    let shape = header.split_once("'shape': (")?.1.split_once(')')?.0;
    let count: usize = shape.trim_end().strip_suffix(',')?.trim().parse().ok()?;
    let data = bytes.get(header_at + length..)?;
    let numbers: Vec<f64> = if header.contains("'<f8'") {
        let (words, []) = data.as_chunks::<8>() else {
            return None;
        };
        words.iter().map(|word| f64::from_le_bytes(*word)).collect()
    } else if header.contains("'<f4'") {
        let (words, []) = data.as_chunks::<4>() else {
            return None;
        };
        words
            .iter()
            .map(|word| f32::from_le_bytes(*word).into())
            .collect()
    } else {
        return None;
    };
    (numbers.len() == count).then_some(numbers)
}

/// One number a line; a first line that is none is the heading. Else the line that is none, from 1.
fn csv(bytes: &[u8]) -> Result<Vec<f64>, usize> {
    let text = String::from_utf8_lossy(bytes);
    let mut seconds = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        match line.parse() {
            Ok(number) => seconds.push(number),
            Err(_) if i == 0 || line.is_empty() => {}
            Err(_) => return Err(i + 1),
        }
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: &str, count: usize) -> Vec<u8> {
        let text =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        bytes
    }

    #[test]
    fn an_npy_is_read_in_both_precisions() {
        let mut double = header("<f8", 2);
        [0.25f64, 0.5]
            .iter()
            .for_each(|n| double.extend(n.to_le_bytes()));
        assert_eq!(npy(&double), Some(vec![0.25, 0.5]));
        let mut single = header("<f4", 1);
        single.extend(0.125f32.to_le_bytes());
        assert_eq!(npy(&single), Some(vec![0.125]));
    }

    #[test]
    fn an_npy_that_is_cut_off_or_of_another_type_is_refused() {
        let mut short = header("<f8", 2);
        short.extend(0.25f64.to_le_bytes());
        assert_eq!(npy(&short), None);
        assert_eq!(npy(&header("<i8", 0)), None);
        for end in 0..short.len() {
            npy(&short[..end]);
        }
    }

    #[test]
    fn a_csv_may_have_a_heading_and_nothing_else_beside_numbers() {
        assert_eq!(csv(b"seconds\n0.1\n\n0.2\n"), Ok(vec![0.1, 0.2]));
        assert_eq!(csv(b"0.1\nx\n"), Err(2));
    }

    #[test]
    fn the_way_to_draw_stands_behind_the_name() {
        let machines = |count, with, without| Draw::Machines {
            count,
            with,
            without,
        };
        for (text, expected) in [
            ("", Ok(Draw::Iid)),
            ("iid", Ok(Draw::Iid)),
            ("machines", Ok(machines(50, None, None))),
            ("machines=4:with=4", Ok(machines(4, Some(4), None))),
            ("machines:without=43", Ok(machines(50, None, Some(43)))),
            ("machines:with=51", Err("with=51".to_owned())),
            ("machines:near=1", Err("near=1".to_owned())),
            ("iid:with=1", Err("iid".to_owned())),
            ("machine", Err("machine".to_owned())),
        ] {
            let fields = text.split(':').filter(|f| !f.is_empty()).collect();
            assert_eq!(draw(fields), expected, "{text}");
        }
    }
}
