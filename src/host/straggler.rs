//! Injected stragglers at a worker: how much longer a run is to take than it took, which is always called injected.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::clock::micros;
use super::{Error, Setup};
use crate::sched::{self, Kind};
use crate::straggler::{Luck, Own, Stragglers, repetition};

/// When the engine had opened, from which stragglers' windows count: set before any run begins.
pub(super) type Opened = Arc<OnceLock<Instant>>;

/// One worker's luck, and what it needs to know of runs.
#[derive(Debug)]
pub(super) struct Injector {
    pub(super) luck: Luck,
    pub(super) opened: Opened,
    /// It knows what runs are, in base runs of one image.
    pub(super) rules: Arc<sched::Config>,
}

/// Of every worker there may be, so that a worker's luck does not depend on whether the policy has collages.
pub(super) fn injectors(setup: &Setup, opened: &Opened) -> Result<Vec<Injector>, Error> {
    let count = setup.base_workers + setup.collage_workers;
    let stragglers = Stragglers::open(&setup.stragglers)?;
    let lucks = stragglers.luck(count, repetition(setup.seed, 0));
    let rules = Arc::new(setup.scheduling(Vec::new()));
    let injector = |luck| Injector {
        luck,
        opened: opened.clone(),
        rules: rules.clone(),
    };
    Ok(lucks.into_iter().map(injector).collect())
}

impl Injector {
    /// How much longer a run that began then and took `service` is to take.
    pub(super) fn delay(
        &mut self,
        kind: Kind,
        slots: usize,
        began: Instant,
        service: Duration,
    ) -> Duration {
        let opened = self.opened.get().copied().unwrap_or(began);
        let at = micros(began.saturating_duration_since(opened));
        let work = self.rules.work(kind, slots);
        let own = service.as_secs_f64() * 1e6;
        let longer = self.luck.time(Own::Known(own), work, at) - own;
        // Longer than any engine lives: a Pareto draw has no upper end.
        Duration::try_from_secs_f64(longer.max(0.0) / 1e6).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_from_when_the_engine_had_opened() {
        let described = ["pause:0:5@10-20".parse().expect("valid")];
        let stragglers = Stragglers::open(&described).expect("nothing to read");
        let opened = Instant::now();
        let mut injector = Injector {
            luck: stragglers.luck(1, 0).remove(0),
            opened: Arc::new(OnceLock::from(opened)),
            rules: Arc::new(sched::Config::default()),
        };
        let mut delay = |after_s| {
            let began = opened + Duration::from_secs(after_s);
            injector.delay(Kind::Base, 1, began, Duration::from_millis(3))
        };
        assert_eq!(delay(9), Duration::ZERO);
        assert_eq!(delay(10), Duration::from_millis(5));
        assert_eq!(delay(20), Duration::ZERO);
    }
}
