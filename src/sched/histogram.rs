//! Recent times of runs: a histogram in microseconds that forgets, so that a percentile follows the load.
//!
//! [`Rotating`] has two halves: one fills, the other is the last full one; both together answer. The fuller turns over after
//! [`TURN`] samples, so an answer rests on the last 4,096 to 8,192. [`Lasting`] forgets nothing.

use std::fmt;

use super::event::Micros;

/// Samples of a half.
const TURN: u32 = 4096;
/// Fewest samples that a percentile is taken from.
const LEAST: u32 = 64;
/// Buckets of each doubling: an error of 1/128 at most.
const STEPS: usize = 64;
/// 2^40 us are twelve days.
const DOUBLINGS: usize = 40;
/// Percentiles that are kept: who asks does so for the same few again and again.
const KEPT: usize = 3;
/// New samples after which a kept percentile is taken afresh.
const REFRESH: u32 = 64;

/// See the [module](self).
pub(super) struct Rotating {
    filling: Vec<u32>,
    full: Vec<u32>,
    filled: u32,
    kept: u32,
    recorded: u64,
    answers: [Option<Kept>; KEPT],
    /// Which of them is replaced next.
    next: usize,
}

/// A percentile as it was when it was last asked for.
#[derive(Clone, Copy)]
struct Kept {
    tenths: u16,
    value: Micros,
    /// Samples after which it is stale.
    until: u64,
}

/// Without its thousands of buckets.
impl fmt::Debug for Rotating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rotating({} samples)", self.filled + self.kept)
    }
}

impl Rotating {
    pub(super) fn new() -> Self {
        Self {
            filling: vec![0; STEPS * DOUBLINGS],
            full: Vec::new(),
            filled: 0,
            kept: 0,
            recorded: 0,
            answers: [None; KEPT],
            next: 0,
        }
    }

    /// One run took this long.
    pub(super) fn record(&mut self, time: Micros) {
        if self.filled == TURN {
            std::mem::swap(&mut self.filling, &mut self.full);
            self.filling.clear();
            self.filling.resize(STEPS * DOUBLINGS, 0);
            (self.kept, self.filled) = (TURN, 0);
        }
        self.filling[bucket(time)] += 1;
        self.filled += 1;
        self.recorded += 1;
    }

    /// The time within which this many tenths of a percent of recent runs ended, to 1/128; `None` while too few have.
    pub(super) fn percentile(&mut self, tenths: u16) -> Option<Micros> {
        let known = |k: &&Kept| k.tenths == tenths && k.until > self.recorded;
        if let Some(kept) = self.answers.iter().flatten().find(known) {
            return Some(kept.value);
        }
        let total = self.filled + self.kept;
        if total < LEAST {
            return None;
        }
        let wanted = (u64::from(total) * u64::from(tenths)).div_ceil(1000);
        let mut seen = 0;
        for bucket in 0..self.filling.len() {
            let full = self.full.get(bucket).copied().unwrap_or(0);
            seen += u64::from(self.filling[bucket] + full);
            if seen >= wanted {
                let value = middle(bucket);
                // Until there are many, each sample counts.
                let until = self.recorded + u64::from(REFRESH.min(total / 8));
                self.keep(Kept {
                    tenths,
                    value,
                    until,
                });
                return Some(value);
            }
        }
        None
    }

    /// In the place of the same percentile's last value, or of the longest kept.
    fn keep(&mut self, kept: Kept) {
        let same = |k: &Option<Kept>| k.is_some_and(|k| k.tenths == kept.tenths);
        let slot = self.answers.iter().position(same).unwrap_or(self.next);
        self.answers[slot] = Some(kept);
        self.next = (slot + 1) % KEPT;
    }
}

/// All times since the start.
pub(super) struct Lasting {
    buckets: Vec<u64>,
    recorded: u64,
}

/// Without its thousands of buckets.
impl fmt::Debug for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lasting({} samples)", self.recorded)
    }
}

impl Lasting {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; STEPS * DOUBLINGS],
            recorded: 0,
        }
    }

    pub(super) fn record(&mut self, time: Micros) {
        self.buckets[bucket(time)] += 1;
        self.recorded += 1;
    }

    /// The time within which this share of all ended, to 1/128; 0 where there were none.
    pub(super) fn quantile(&self, quantile: f64) -> Micros {
        let wanted = (self.recorded as f64 * quantile - 1e-9).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return middle(bucket);
            }
        }
        0
    }
}

/// Below 64 us a bucket a microsecond; above, 64 a doubling.
fn bucket(time: Micros) -> usize {
    let time = time.clamp(1, (1 << DOUBLINGS) - 1);
    let doubling = time.ilog2() as usize;
    match doubling.checked_sub(6) {
        None => time as usize,
        Some(shift) => (shift + 1) * STEPS + (time >> shift) as usize - STEPS,
    }
}

fn middle(bucket: usize) -> Micros {
    if bucket < 2 * STEPS {
        return bucket as Micros;
    }
    let shift = bucket / STEPS - 1;
    let low = ((bucket % STEPS + STEPS) as Micros) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_right_to_one_part_in_128() {
        let mut times = Rotating::new();
        for i in 1..=1000u64 {
            times.record(i * i);
        }
        for (tenths, rank) in [(500, 500u64), (950, 950), (999, 999)] {
            let (found, truth) = (times.percentile(tenths).expect("enough"), rank * rank);
            let error = found.abs_diff(truth) as f64 / truth as f64;
            assert!(error <= 1.0 / 128.0, "p{tenths}: {found} for {truth}");
        }
    }

    #[test]
    fn every_time_has_its_bucket_and_buckets_do_not_overlap() {
        for time in (1..100_000).chain([1 << 30, u64::MAX]) {
            let at = bucket(time);
            assert!(at < STEPS * DOUBLINGS && at >= bucket(time - 1), "{time}");
            if time < 1 << DOUBLINGS {
                let error = middle(at).abs_diff(time) as f64 / time as f64;
                assert!(error <= 1.0 / 128.0, "{time}: {}", middle(at));
            }
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut times = Rotating::new();
        (0..1_000).for_each(|_| times.record(50_000));
        assert!(
            times
                .percentile(950)
                .is_some_and(|t| t.abs_diff(50_000) < 400)
        );
        (0..3 * TURN).for_each(|_| times.record(1_000));
        assert!(times.percentile(999).is_some_and(|t| t < 1_100));
    }

    #[test]
    fn too_few_samples_give_no_percentile() {
        let mut times = Rotating::new();
        (0..LEAST - 1).for_each(|_| times.record(5));
        assert_eq!(times.percentile(950), None);
    }
}
