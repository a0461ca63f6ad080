//! Service times as `collage bench engine --json` measured them: a base at several batch sizes, perhaps a collage.
//!
//! A run's time is a draw from the measured latencies, which the document gives by a few quantiles: between them it is
//! linear, and so it is between two measured batch sizes. Beyond the largest batch the time grows with the images. A
//! collage that was not measured at a policy's grid takes its work's share of a base run of one image.

use std::fs;

use serde::Deserialize;

use crate::error::Classify;

/// Where the quantiles of a document lie.
const AT: [f64; 6] = [0.0, 0.5, 0.9, 0.95, 0.99, 1.0];

/// Measured times.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// By images of a run, from 1 up.
    base: Vec<(usize, Times)>,
    base_macs: u64,
    /// By grid, of one canvas a run.
    collages: Vec<([usize; 2], u64, Times)>,
}

/// Quantiles at [`AT`], in microseconds, ascending.
type Times = [f64; 6];

/// Why a file does not say how long runs take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The operating system did not give it.
    #[error("service times {file}: cannot be read: {source}")]
    Read {
        /// Its path.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what `bench engine` writes.
    #[error("service times {file}: {what}; expected {expected}")]
    Content {
        /// Its path.
        file: String,
        /// What is wrong with it.
        what: String,
        /// What would be right.
        expected: &'static str,
    },
}

impl Classify for ServiceError {
    fn code(&self) -> u32 {
        match self {
            ServiceError::Read { .. } => 425,
            ServiceError::Content { .. } => 426,
        }
    }

    fn can_retry(&self) -> bool {
        false
    }
}

/// What is read of the document.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    role: String,
    network: String,
    grid: String,
    dtype: String,
    batch: usize,
    macs: u64,
    latency_ms: Spread,
}

#[derive(Deserialize)]
struct Spread {
    min: f64,
    median: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Row {
    fn times(&self) -> Option<Times> {
        let s = &self.latency_ms;
        let us = [s.min, s.median, s.p90, s.p95, s.p99, s.max].map(|ms| ms * 1e3);
        let is_sound = us.iter().all(|us| (0.0..=8.64e10).contains(us)) && us.is_sorted();
        is_sound.then_some(us)
    }

    fn grid(&self) -> Option<[usize; 2]> {
        let (rows, cols) = self.grid.split_once('x')?;
        Some([rows.parse().ok()?, cols.parse().ok()?])
    }
}

impl Service {
    /// Reads what `collage bench engine --json` wrote.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub fn read(file: &str) -> Result<Service, ServiceError> {
        let text = fs::read_to_string(file).map_err(|source| ServiceError::Read {
            file: file.to_owned(),
            source,
        })?;
        Service::parse(&text).map_err(|(what, expected)| ServiceError::Content {
            file: file.to_owned(),
            what,
            expected,
        })
    }

    /// Or what is wrong, and what would be right.
    fn parse(text: &str) -> Result<Service, (String, &'static str)> {
        const DOCUMENT: &str = "what `collage bench engine --json` writes";
        let document: Document =
            serde_json::from_str(text).map_err(|e| (e.to_string(), DOCUMENT))?;
        let Some(first) = document.rows.first() else {
            return Err(("it has no rows".into(), DOCUMENT));
        };
        if let Some(other) = document.rows.iter().find(|row| row.dtype != first.dtype) {
            let what = format!("it has rows in {} and in {}", first.dtype, other.dtype);
            return Err((what, "one type: bench engine with one --dtype"));
        }
        let mut service = Service {
            base: Vec::new(),
            base_macs: 0,
            collages: Vec::new(),
        };
        for row in &document.rows {
            let named = |what: &str| format!("{} at batch {}: {what}", row.network, row.batch);
            let times = row.times();
            let times = times.ok_or_else(|| (named("its latency is no spread"), DOCUMENT))?;
            match (row.role.as_str(), row.batch) {
                ("base", batch) => service.base.push((batch, times)),
                ("collage", 1) => {
                    let grid = row
                        .grid()
                        .ok_or_else(|| (named("it has no grid"), DOCUMENT))?;
                    service.collages.push((grid, row.macs, times));
                }
                ("collage", _) => {} // the engine runs one canvas at a time
                (role, _) => return Err((named(&format!("its role is \"{role}\"")), DOCUMENT)),
            }
            if (row.role.as_str(), row.batch) == ("base", 1) {
                service.base_macs = row.macs;
            }
        }
        service.base.sort_by_key(|&(batch, _)| batch);
        if service.base.first().is_none_or(|&(batch, _)| batch != 1) {
            let what = "it does not say how long a base run of one image takes".into();
            return Err((what, "a base with batch 1 among its --batch"));
        }
        if service.base.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(("it has two bases".into(), "one"));
        }
        Ok(service)
    }

    /// Mean time of a base run of one image, in seconds: the mean of the lines between the quantiles.
    pub fn mean_s(&self) -> f64 {
        let times = &self.base[0].1;
        let part = |i: usize| (AT[i + 1] - AT[i]) * (times[i] + times[i + 1]) / 2.0;
        (0..AT.len() - 1).map(part).sum::<f64>() / 1e6
    }

    /// Multiply-accumulates of one tile of a measured collage over those of a base run of one image: of a grid of so
    /// many tiles if one was measured, else of any.
    pub fn tile_work(&self, tiles: usize) -> Option<f64> {
        let this = self.collages.iter().find(|(g, ..)| g[0] * g[1] == tiles);
        let ([rows, cols], macs, _) = this.or(self.collages.first())?;
        let tiles = (rows * cols) as f64;
        let work = *macs as f64 / tiles / self.base_macs as f64;
        Some(work).filter(|work| work.is_finite() && *work > 0.0)
    }

    /// Of base runs.
    pub(super) fn base(&self) -> Of<'_> {
        Of {
            by_images: Steps::Many(&self.base),
            times: 1.0,
        }
    }

    /// Of runs of a collage of so many tiles, if one was measured.
    pub(super) fn collage(&self, tiles: usize) -> Option<Of<'_>> {
        let this = self.collages.iter().find(|(g, ..)| g[0] * g[1] == tiles);
        this.map(|(_, _, times)| Of {
            by_images: Steps::One(times),
            times: 1.0,
        })
    }

    /// Of runs that are this multiple of a base run of one image.
    pub(super) fn of_work(&self, work: f64) -> Of<'_> {
        Of {
            by_images: Steps::Many(&self.base[..1]),
            times: work,
        }
    }
}

/// The times of one kind of run.
pub(super) struct Of<'a> {
    by_images: Steps<'a>,
    /// Multiplied by this.
    times: f64,
}

enum Steps<'a> {
    One(&'a Times),
    /// By images of a run, from 1 up.
    Many(&'a [(usize, Times)]),
}

impl Of<'_> {
    /// The time of a run of so many images in microseconds, which a share of 0..1 of all runs do not exceed.
    pub(super) fn us(&self, images: usize, share: f64) -> f64 {
        let time = match self.by_images {
            Steps::One(times) => quantile(times, share),
            Steps::Many(steps) => {
                let next = steps.partition_point(|&(batch, _)| batch < images);
                let at = |i: usize| (steps[i].0 as f64, quantile(&steps[i].1, share));
                match (
                    next.checked_sub(1).map(at),
                    steps.get(next).map(|_| at(next)),
                ) {
                    (Some((few, short)), Some((many, long))) => {
                        short + (long - short) * (images as f64 - few) / (many - few)
                    }
                    (None, Some((_, time))) => time,
                    (Some((most, time)), None) => time * images as f64 / most,
                    (None, None) => 0.0, // never: there is a base of one image
                }
            }
        };
        time * self.times
    }
}

fn quantile(times: &Times, share: f64) -> f64 {
    let above = AT.partition_point(|&at| at <= share).clamp(1, AT.len() - 1);
    let (from, to) = (AT[above - 1], AT[above]);
    times[above - 1] + (times[above] - times[above - 1]) * (share - from) / (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(role: &str, grid: &str, batch: usize, macs: u64, ms: f64) -> String {
        format!(
            r#"{{"role": "{role}", "network": "n", "grid": "{grid}", "dtype": "f32", "batch": {batch}, "macs": {macs},
                "latency_ms": {{"min": {ms}, "mean": 0, "median": {ms}, "p90": {}, "p95": {}, "p99": {}, "max": {}}}}}"#,
            ms * 2.0,
            ms * 2.0,
            ms * 2.0,
            ms * 4.0
        )
    }

    fn parse(rows: &[String]) -> Result<Service, (String, &'static str)> {
        Service::parse(&format!(r#"{{"schema": 1, "rows": [{}]}}"#, rows.join(",")))
    }

    #[test]
    fn times_lie_on_lines_between_what_was_measured() {
        let rows = [
            row("base", "1x1", 8, 800, 5.0),
            row("base", "1x1", 1, 100, 1.0),
        ];
        let service = parse(&rows).expect("sound");
        let base = service.base();
        for (images, share, us) in [
            (1, 0.0, 1e3),
            (1, 0.7, 1.5e3),
            (1, 0.995, 3e3),
            (8, 0.2, 5e3),
            (4, 0.2, 1e3 + 4e3 * 3.0 / 7.0),
            (16, 0.2, 10e3),
        ] {
            let found = base.us(images, share);
            assert!((found - us).abs() < 1e-6, "{images} at {share}: {found}");
        }
        let mean = service.mean_s() * 1e3;
        assert!(
            (mean - (0.5 + 0.4 * 1.5 + 0.09 * 2.0 + 0.01 * 3.0)).abs() < 1e-9,
            "{mean}"
        );
    }

    #[test]
    fn a_collage_takes_its_own_time_where_it_was_measured_and_its_work_elsewhere() {
        let rows = [
            row("base", "1x1", 1, 100, 1.0),
            row("collage", "3x3", 1, 90, 3.0),
            row("collage", "3x3", 8, 720, 9.0),
        ];
        let service = parse(&rows).expect("sound");
        assert_eq!(service.collage(9).expect("measured").us(1, 0.2), 3e3);
        assert!(service.collage(4).is_none());
        assert_eq!(service.of_work(0.4).us(1, 0.2), 400.0);
        assert_eq!(service.tile_work(4), Some(0.1));
    }

    #[test]
    fn a_document_that_cannot_say_it_is_refused_by_what_is_missing() {
        let sixteen = row("base", "1x1", 1, 1, 1.0).replace("f32", "f16");
        let base = row("base", "1x1", 1, 100, 1.0);
        for (rows, what) in [
            (vec![], "no rows"),
            (vec![row("base", "1x1", 8, 1, 1.0)], "one image"),
            (vec![row("collage", "3x3", 1, 1, 1.0)], "one image"),
            (vec![base.clone(), sixteen], "in f32 and in f16"),
            (vec![base.clone(), base.clone()], "two bases"),
            (vec![row("teacher", "1x1", 1, 1, 1.0)], "\"teacher\""),
            (vec![row("base", "1x1", 1, 1, -1.0)], "no spread"),
            (vec![base, row("collage", "three", 1, 1, 1.0)], "no grid"),
        ] {
            let error = parse(&rows).expect_err(what);
            assert!(error.0.contains(what), "{error:?}");
        }
        assert!(Service::parse("{").is_err());
    }
}
