//! Recorded times: one-dimensional `.npy` of f64 or f32 seconds, or a `.csv` with one number of seconds a line; and which
//! of their machines each worker is.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::StragglerError;
use super::luck::Dice;

/// How a worker draws from a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
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

impl Draw {
    /// The fewest times that it can draw from.
    pub(super) fn least(self) -> usize {
        match self {
            Draw::Iid => 1,
            Draw::Machines { count, .. } => count.max(1),
        }
    }
}

/// Recorded times.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trace {
    seconds: Arc<[f64]>,
}

const SHAPE: &str =
    "a one-dimensional npy of little-endian f64 or f32, or a csv with a number a line";
const SECONDS: &str = "times in seconds, from 0 to 86400";

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// [`StragglerError::Read`] and [`StragglerError::Content`].
    pub(super) fn read(file: &str) -> Result<Trace, StragglerError> {
        let bytes = fs::read(Path::new(file)).map_err(|source| StragglerError::Read {
            file: file.to_owned(),
            source,
        })?;
        let content = |what: String, expected: &str| StragglerError::Content {
            file: file.to_owned(),
            what,
            expected: expected.to_owned(),
        };
        let seconds = if bytes.starts_with(b"\x93NUMPY") {
            npy(&bytes).ok_or_else(|| content("not such an npy".into(), SHAPE))?
        } else {
            csv(&bytes).map_err(|line| content(format!("line {line} is no number"), SHAPE))?
        };
        if let Some(time) = seconds.iter().find(|s| !(0.0..=86_400.0).contains(*s)) {
            return Err(content(format!("{time} is among its times"), SECONDS));
        } else if seconds.is_empty() {
            return Err(content("it has no times".into(), SHAPE));
        }
        Ok(Trace {
            seconds: seconds.into(),
        })
    }

    /// In the order in which they were recorded.
    pub(super) fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// Mean of all its times, in seconds.
    pub(super) fn mean_s(&self) -> f64 {
        self.seconds.iter().sum::<f64>() / self.seconds.len().max(1) as f64
    }

    /// The times of one machine, from 0; of blocks as equal as they can be.
    fn machine(&self, machine: usize, count: usize) -> Range<usize> {
        let each = self.seconds.len() / count;
        machine * each..(machine + 1) * each
    }

    /// Which times each worker draws from.
    pub(super) fn choose(&self, draw: Draw, workers: usize, dice: &mut Dice) -> Vec<Range<usize>> {
        let Draw::Machines {
            count,
            with,
            without,
        } = draw
        else {
            return vec![0..self.seconds.len(); workers];
        };
        let pool = |other: Option<usize>| {
            let others = (0..count).filter(move |m| Some(m + 1) != without && Some(m + 1) != other);
            others.collect::<Vec<_>>()
        };
        let mut chosen: Vec<usize> = with.map(|m| m - 1).into_iter().collect();
        while chosen.len() < workers {
            // Distinct machines as long as there are any left; then all over again.
            let mut pool = pool(with.filter(|_| chosen.len() == 1));
            if pool.is_empty() {
                pool = vec![0];
            }
            shuffle(&mut pool, dice);
            pool.truncate(workers - chosen.len());
            chosen.extend(pool);
        }
        shuffle(&mut chosen, dice);
        chosen.iter().map(|&m| self.machine(m, count)).collect()
    }
}

fn shuffle(items: &mut [usize], dice: &mut Dice) {
    for i in (1..items.len()).rev() {
        items.swap(i, dice.below(i + 1));
    }
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
    fn a_file_with_other_than_times_is_refused_by_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        for (text, what) in [
            ("seconds\n", "no times"),
            ("0.1\n-1\n", "-1 is among its times"),
            ("0.1\nNaN\n", "NaN is among"),
            ("0.1\ntwo\n", "line 2 is no number"),
        ] {
            let file = folder.path().join("trace.csv");
            fs::write(&file, text).expect("written");
            let error = Trace::read(file.to_str().expect("utf-8")).expect_err(text);
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn machines_are_distinct_and_heed_who_is_in_and_who_is_out() {
        let trace = Trace {
            seconds: (0..12).map(f64::from).collect(),
        };
        let draw = |with, without| Draw::Machines {
            count: 6,
            with,
            without,
        };
        for seed in 0..50 {
            let mut dice = Dice::new(seed, 1);
            let mut chosen = trace.choose(draw(Some(3), Some(5)), 4, &mut dice);
            chosen.sort_by_key(|range| range.start);
            assert!(chosen.contains(&(4..6)) && !chosen.contains(&(8..10)));
            chosen.dedup();
            assert_eq!(chosen.len(), 4);
            // More workers than machines: all over again.
            assert_eq!(trace.choose(draw(None, None), 13, &mut dice).len(), 13);
        }
    }
}
