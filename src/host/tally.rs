//! What is counted of a worker, run by run and answer by answer.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::clock::micros;
use super::stats::{Recent, WorkerStats, counts, histogram};
use crate::sched::{self, Source};

/// Counts since the start.
pub(super) struct Tally {
    /// All that needs no more than adding.
    sums: WorkerStats,
    service: Histogram<u32>,
    recent: Recent,
    last_failure: Option<Arc<str>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sums: WorkerStats::default(),
            service: histogram(),
            recent: Recent::default(),
            last_failure: None,
        }
    }
}

impl Tally {
    /// A run succeeded, for requests' own sake or as a backup.
    pub(super) fn ran(
        &mut self,
        images: usize,
        is_backup: bool,
        service: Duration,
        injected: Duration,
    ) {
        let sums = &mut self.sums;
        sums.runs += 1;
        sums.images += images as u64;
        sums.busy += service;
        let busy = match is_backup {
            true => &mut sums.backup_busy,
            false => &mut sums.base_busy,
        };
        *busy += service.saturating_sub(injected);
        sums.injected += injected;
        sums.injected_runs += u64::from(!injected.is_zero());
        // Not `saturating_record`: that clamps to what the histogram spans so far instead of growing it. Growing
        // fails beyond u64 only.
        let _ = self.service.record(micros(service));
        self.recent.record(micros(service));
    }

    /// What became of a request whose own run the worker was given.
    pub(super) fn credit(&mut self, outcome: &Result<sched::Answer, sched::Error>) {
        match outcome {
            Ok(answer) => {
                self.sums.answers += 1;
                self.sums.backups += u64::from(answer.source != Source::Base);
            }
            Err(sched::Error::DeadlineExceeded) => self.sums.deadline_exceeded += 1,
            Err(_) => {}
        }
    }

    /// A run failed or took the worker down.
    pub(super) fn failed(&mut self, reason: Arc<str>) {
        self.sums.failures += 1;
        self.last_failure = Some(reason);
    }

    /// The worker came back.
    pub(super) fn restarted(&mut self) {
        self.sums.restarts += 1;
    }

    /// All of it; what the worker is and how it stands is for others to say.
    pub(super) fn stats(&self) -> WorkerStats {
        let [recent_p50, recent_p99] = self.recent.quantiles([0.50, 0.99]);
        WorkerStats {
            service_p50: quantile(&self.service, 0.50),
            service_p99: quantile(&self.service, 0.99),
            service_counts: counts(&self.service),
            recent_p50,
            recent_p99,
            recent_runs: self.recent.runs(),
            last_failure: self.last_failure.as_deref().map(str::to_owned),
            ..self.sums.clone()
        }
    }
}

fn quantile(histogram: &Histogram<u32>, q: f64) -> Duration {
    let us = match histogram.is_empty() {
        true => 0,
        false => histogram.value_at_quantile(q),
    };
    Duration::from_micros(us)
}
