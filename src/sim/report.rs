//! What came out of a simulation, by request and by group.

use serde::Serialize;

use super::Setup;
use super::promise::Promises;
use crate::sched::{Micros, Stats};

/// Latencies in milliseconds. A percentile beyond which there are fewer than ten samples is `None`: it would be luck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: usize,
    /// Half are faster.
    pub p50: Option<f64>,
    /// Nine in ten are.
    pub p90: Option<f64>,
    /// 95 in a hundred are.
    pub p95: Option<f64>,
    /// 99 in a hundred are.
    pub p99: Option<f64>,
    /// 999 in a thousand are.
    pub p999: Option<f64>,
    /// The slowest.
    pub max: f64,
    /// Arithmetic.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
}

/// Of one policy, over some of the requests. Shares are 0..=1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Of each request by itself; one that failed counts with its deadline.
    pub request: Latency,
    /// Of the last of each group.
    pub group: Latency,
    /// Requests that were answered by their deadline.
    pub answered: f64,
    /// Answered by their own base run.
    pub by_base: f64,
    /// Answered by a collage, or by the collage network on one image.
    pub by_collage: f64,
    /// Answered by another run of the base.
    pub by_copy: f64,
    /// Decoded from their group's parity.
    pub by_parity: f64,
    /// Backup runs over base runs of one image, a collage or a parity counted as one run; probes included.
    pub extra_runs: f64,
    /// The same with a collage and a parity counted by their work.
    pub extra_work: f64,
    /// Of those runs: probes of workers under watch.
    pub probe_runs: f64,
    /// What was promised, and whether it was kept.
    pub promises: Promises,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// As it is written.
    pub policy: String,
    /// After the warm-up.
    pub steady: Figures,
    /// The warm-up included; the same if there is none.
    pub whole: Figures,
}

impl Outcome {
    pub(super) fn new(setup: &Setup, whole: Tally, steady: Tally) -> Self {
        Self {
            policy: setup.scheduler.policy.to_string(),
            whole: whole.figures(setup),
            steady: steady.figures(setup),
        }
    }
}

/// What is counted while it runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: Vec<Micros>,
    groups: Vec<Micros>,
    stats: Stats,
}

impl Tally {
    /// A request was settled, and with it perhaps its group.
    pub(super) fn record(&mut self, waited: Micros, group: Option<Micros>) {
        self.requests.push(waited);
        self.groups.extend(group);
    }

    /// Adds what a scheduler counted since `before`.
    pub(super) fn account(&mut self, after: &Stats, before: &Stats) {
        let sum = &mut self.stats;
        let counts = [
            (&mut sum.base, after.base, before.base),
            (&mut sum.collage, after.collage, before.collage),
            (&mut sum.copies, after.copies, before.copies),
            (&mut sum.parity, after.parity, before.parity),
            (&mut sum.base_images, after.base_images, before.base_images),
            (&mut sum.copy_images, after.copy_images, before.copy_images),
            (
                &mut sum.collage_runs,
                after.collage_runs,
                before.collage_runs,
            ),
            (&mut sum.parity_runs, after.parity_runs, before.parity_runs),
            (&mut sum.probe_runs, after.probe_runs, before.probe_runs),
        ];
        for (sum, after, before) in counts {
            *sum += after - before;
        }
        sum.group_work += after.group_work - before.group_work;
    }

    fn figures(mut self, setup: &Setup) -> Figures {
        let (stats, requests) = (self.stats, self.requests.len().max(1) as f64);
        let share = |count: u64| count as f64 / requests;
        let base = stats.base_images.max(1) as f64;
        let further = (stats.copy_images + stats.probe_runs) as f64;
        let groups = (stats.collage_runs + stats.parity_runs) as f64;
        let request = Latency::of(&mut self.requests);
        Figures {
            request,
            group: Latency::of(&mut self.groups),
            answered: share(stats.answered()),
            by_base: share(stats.base),
            by_collage: share(stats.collage),
            by_copy: share(stats.copies),
            by_parity: share(stats.parity),
            extra_runs: (further + groups) / base,
            extra_work: (further + stats.group_work) / base,
            probe_runs: stats.probe_runs as f64 / base,
            promises: Promises::of(setup, &self.requests, &stats),
        }
    }
}

impl Latency {
    /// Of these times, which it sorts.
    pub fn of(times: &mut [Micros]) -> Self {
        times.sort_unstable();
        let count = times.len();
        let ms = |us: f64| us / 1e3;
        let at = |beyond: f64| {
            let left = (count as f64 * beyond) as usize;
            let index = count.checked_sub(left + 1).filter(|_| left >= 10);
            index.and_then(|i| times.get(i)).map(|&us| ms(us as f64))
        };
        let n = count.max(1) as f64;
        let mean = times.iter().map(|&us| us as f64).sum::<f64>() / n;
        let variance = times
            .iter()
            .map(|&us| (us as f64 - mean).powi(2))
            .sum::<f64>()
            / n;
        Self {
            count,
            p50: at(0.5),
            p90: at(0.1),
            p95: at(0.05),
            p99: at(0.01),
            p999: at(0.001),
            max: ms(times.last().copied().unwrap_or(0) as f64),
            mean: ms(mean),
            sd: ms(variance.sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut times: Vec<Micros> = (1..=1_000).map(|n| n * 1_000).collect();
        let latency = Latency::of(&mut times);
        assert_eq!((latency.p50, latency.p99), (Some(500.0), Some(990.0)));
        assert_eq!((latency.p999, latency.max), (None, 1_000.0));
        let mut times = vec![7_000; 10_000];
        let latency = Latency::of(&mut times);
        assert_eq!(
            (latency.p999, latency.sd, latency.mean),
            (Some(7.0), 0.0, 7.0)
        );
    }
}
