//! Who straggles: judged from completions, and from what devices say of themselves where they do, so that no setting has
//! to say which worker is slow.
//!
//! A worker's *typical* time is the median of its last [`WINDOW`] runs, each over the fleet's median for runs of its
//! kind and size. Two scores, both 1 at best: the *relative* one is the fastest peers' typical time over the worker's,
//! the *individual* one the worker's own best over its present. (As NVIDIA's resiliency extension scores ranks.)
//!
//! ```text
//!            slow                slow still               good probes              good runs
//!  healthy ───────> suspect ────────────────> quarantined ───────────> probation ───────────> healthy
//!     ^───────────────'  recovered                  ^───────────────────────'  slow again
//! ```
//!
//! The way down and the way up have different thresholds, so that nobody flutters. When all are slow, the fastest are
//! too: that is load, and no score falls. A suspect and a quarantined worker get *probes*: second runs of requests
//! that also run elsewhere; a quarantined one gets nothing else, unless too few others would be left.
//!
//! What a device says ([`Condition`]) is heard before the runs show it. *Degraded* makes a healthy worker suspect at
//! once, and then [`CONFIRM_TOLD`] slow runs are enough; it stays suspect for as long. Unless more than half are
//! degraded: that is the machine or the load, and no word counts. *Faulty* means quarantine at once, without probes,
//! until the device says otherwise; then probation. No word outweighs the quorum.

use std::collections::BTreeSet;

use super::condition::Condition;
use super::event::{Micros, WorkerId};

/// Runs that a typical time is the median of: three stragglers among them do not move it.
const WINDOW: usize = 8;
/// Fewest runs to judge by.
const LEAST: usize = 4;
/// Slow runs of a suspect that confirm the suspicion.
const CONFIRM: u32 = 4;
/// The same, where its device says that it is degraded.
const CONFIRM_TOLD: u32 = 2;
/// Good probes in a row that end a quarantine.
const PROBES: u32 = 3;
/// Good runs in a row that end a probation.
const PROVEN: u32 = 8;
/// Slow runs that break it.
const BROKEN: u32 = 2;
/// A worker's best time is forgotten at this rate a run: hardware ages, and one lucky window must not stand for ever.
const FORGET_BEST: f64 = 1.0005;

/// How stragglers are told. The scores and shares are 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealthConfig {
    /// A worker is slow whose score is below this.
    pub slow_below: f64,
    /// It is sound again from this score on; more than `slow_below`.
    pub sound_from: f64,
    /// First pause between probes of a worker; doubled after each that was slow.
    pub probe_first: Micros,
    /// Longest pause.
    pub probe_longest: Micros,
    /// At least this share of the ready workers of a kind is never quarantined, and two of them at least.
    pub quorum: f64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            slow_below: 0.3,
            sound_from: 0.4,
            probe_first: 1_000_000,
            probe_longest: 60_000_000,
            quorum: 0.5,
        }
    }
}

/// What a worker is trusted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// Everything.
    #[default]
    Healthy,
    /// Requests, after a quarantine, while it proves itself: after the healthy ones.
    Probation,
    /// Requests, if no other worker is free; and probes.
    Suspect,
    /// Probes only.
    Quarantined,
}

/// A worker's scores, as of its last run; `None` until it has had enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// The fastest peers' typical time over its own.
    pub relative: f64,
    /// Its own best typical time over its present one.
    pub individual: f64,
}

#[derive(Debug, Default)]
struct Record {
    state: Health,
    window: [f64; WINDOW],
    /// Runs since the window was last emptied.
    runs: usize,
    /// Median of the window, of an even number the lower one; `None` while it holds too few.
    typical: Option<f64>,
    /// Lowest typical time of a full window.
    best: Option<f64>,
    good: u32,
    bad: u32,
    pause: Micros,
    /// In the set of probes.
    probe_at: Option<Micros>,
    /// What its device said last.
    is_degraded: bool,
    is_faulty: bool,
    /// Quarantined for a fault, not for slowness.
    is_condemned: bool,
}

/// All workers' records.
#[derive(Debug)]
pub(super) struct Ward {
    config: HealthConfig,
    records: Vec<Record>,
    /// Typical time of the fastest tenth: a single worker's luck must not be the measure of thousands.
    fastest: Option<f64>,
    /// Runs until it is taken afresh.
    stale_in: usize,
    probes: BTreeSet<(Micros, WorkerId)>,
    /// Workers whose device says so.
    degraded: usize,
}

impl Ward {
    pub(super) fn new(config: HealthConfig, workers: usize) -> Self {
        Self {
            config,
            records: (0..workers).map(|_| Record::default()).collect(),
            fastest: None,
            stale_in: 0,
            probes: BTreeSet::new(),
            degraded: 0,
        }
    }

    pub(super) fn quorum(&self) -> f64 {
        self.config.quorum
    }

    pub(super) fn state(&self, worker: WorkerId) -> Health {
        self.records
            .get(worker.0)
            .map_or_else(Health::default, |r| r.state)
    }

    pub(super) fn scores(&self, worker: WorkerId) -> Option<Scores> {
        let record = self.records.get(worker.0)?;
        let (typical, fastest) = (record.typical?, self.fastest?);
        Some(Scores {
            relative: (fastest / typical).min(1.0),
            individual: (record.best.unwrap_or(typical) / typical).min(1.0),
        })
    }

    /// A run took `ratio` times what is normal. Gives the state that the worker should be in; `enter` makes it so.
    pub(super) fn observe(&mut self, worker: WorkerId, ratio: f64) -> Health {
        let Some(record) = self.records.get_mut(worker.0) else {
            return Health::Healthy;
        };
        record.learn(ratio);
        self.refresh();
        let config = self.config;
        let verdict = self.verdict(worker);
        if let (Some(_), Some(fastest)) = (verdict, self.fastest)
            && let Some(record) = self.records.get_mut(worker.0)
        {
            let own = fastest / ratio.max(f64::MIN_POSITIVE);
            record.count(own < config.slow_below, own >= config.sound_from);
        }
        self.judgement(worker, verdict)
    }

    /// Whether its runs show a worker to be slow, and to be sound; `None` while they were too few.
    fn verdict(&self, worker: WorkerId) -> Option<(bool, bool)> {
        let scores = self.scores(worker)?;
        let HealthConfig {
            slow_below,
            sound_from,
            ..
        } = self.config;
        let is_sound = scores.relative >= sound_from;
        // Slow against its own past only counts if it is no longer among the fast: else all became slow.
        let is_slow = scores.relative < slow_below || (scores.individual < slow_below && !is_sound);
        Some((is_slow, is_sound))
    }

    /// The state that follows from a worker's runs and from what its device says.
    fn judgement(&self, worker: WorkerId, verdict: Option<(bool, bool)>) -> Health {
        let Some(record) = self.records.get(worker.0) else {
            return Health::Healthy;
        };
        let is_told = self.is_told(record);
        let (is_slow, is_sound) = verdict.unwrap_or((false, true));
        match record.state {
            _ if record.is_faulty => Health::Quarantined,
            Health::Quarantined if record.is_condemned => Health::Probation,
            Health::Healthy if is_slow || is_told => Health::Suspect,
            Health::Suspect if is_told && record.bad >= CONFIRM_TOLD => Health::Quarantined,
            Health::Suspect if is_sound && !is_told => Health::Healthy,
            Health::Suspect if record.bad >= CONFIRM && is_slow => Health::Quarantined,
            Health::Quarantined if record.good >= PROBES => Health::Probation,
            Health::Probation if record.bad >= BROKEN => Health::Quarantined,
            Health::Probation if record.good >= PROVEN && is_told => Health::Suspect,
            Health::Probation if record.good >= PROVEN => Health::Healthy,
            state => state,
        }
    }

    /// Whether its device's word counts: what most say is no word about one of them.
    fn is_told(&self, record: &Record) -> bool {
        record.is_degraded && 2 * self.degraded <= self.records.len()
    }

    /// A worker's device says this of itself from now on. Gives the state that the worker should be in.
    pub(super) fn told(&mut self, worker: WorkerId, condition: Condition, now: Micros) -> Health {
        let Some(record) = self.records.get_mut(worker.0) else {
            return Health::Healthy;
        };
        let was = (record.is_degraded, record.is_faulty);
        let is_degraded = condition.is_degraded(record.is_degraded);
        (record.is_degraded, record.is_faulty) = (is_degraded, condition.faulty);
        if was == (is_degraded, condition.faulty) {
            return record.state; // the same again is no news
        }
        self.degraded = self.degraded + usize::from(is_degraded) - usize::from(was.0);
        if was.1 != condition.faulty {
            self.schedule(worker, now);
        }
        self.judgement(worker, self.verdict(worker))
    }

    /// The state that a worker should be in that is back.
    pub(super) fn welcome(&self, worker: WorkerId) -> Health {
        self.judgement(worker, None)
    }

    pub(super) fn is_faulty(&self, worker: WorkerId) -> bool {
        self.records.get(worker.0).is_some_and(|r| r.is_faulty)
    }

    /// The worker is in this state from now on.
    pub(super) fn enter(&mut self, worker: WorkerId, state: Health, now: Micros) {
        let Some(record) = self.records.get_mut(worker.0) else {
            return;
        };
        record.state = state;
        record.is_condemned = record.is_faulty && state == Health::Quarantined;
        (record.good, record.bad) = (0, 0);
        match state {
            // The slow past is over.
            Health::Probation => record.forget(),
            Health::Healthy => record.pause = 0,
            _ => {}
        }
        self.schedule(worker, now);
    }

    /// Forgets what was measured before the worker went away; who was slow stays under watch.
    pub(super) fn returned(&mut self, worker: WorkerId, now: Micros) {
        if let Some(record) = self.records.get_mut(worker.0) {
            record.forget();
            record.best = None;
        }
        if self.state(worker) != Health::Healthy {
            self.enter(worker, Health::Probation, now);
        }
    }

    /// No more probes for a worker that is away.
    pub(super) fn left(&mut self, worker: WorkerId) {
        if let Some(record) = self.records.get_mut(worker.0)
            && let Some(at) = record.probe_at.take()
        {
            self.probes.remove(&(at, worker));
        }
    }

    /// Sets the time of the next probe, after a pause that grew if the last one was slow.
    fn schedule(&mut self, worker: WorkerId, now: Micros) {
        self.left(worker);
        let config = self.config;
        if let Some(record) = self.records.get_mut(worker.0)
            && !record.is_faulty
            && matches!(record.state, Health::Suspect | Health::Quarantined)
        {
            let at = now.saturating_add(record.pause.max(config.probe_first));
            record.probe_at = Some(at);
            self.probes.insert((at, worker));
        }
    }

    /// Workers whose probe is due, longest due first.
    pub(super) fn due(&self, now: Micros) -> impl Iterator<Item = WorkerId> {
        let due = self.probes.iter().take_while(move |(at, _)| *at <= now);
        due.map(|&(_, worker)| worker)
    }

    /// A probe was launched: the next one comes after twice the pause, or after the first one's if this one is good.
    pub(super) fn probed(&mut self, worker: WorkerId, now: Micros) {
        let config = self.config;
        if let Some(record) = self.records.get_mut(worker.0) {
            let pause = match record.good {
                0 => record.pause.saturating_mul(2),
                _ => 0,
            };
            record.pause = pause.clamp(config.probe_first, config.probe_longest.max(1));
        }
        self.schedule(worker, now);
    }

    /// Takes the typical time of the fastest afresh, now and then: it costs a look at every worker.
    fn refresh(&mut self) {
        self.stale_in = self.stale_in.saturating_sub(1);
        if self.stale_in > 0 {
            return;
        }
        self.stale_in = (self.records.len() / 2).max(4);
        let watched = self.records.iter();
        let watched = watched.filter(|r| r.state != Health::Quarantined);
        let mut times: Vec<f64> = watched.filter_map(|r| r.typical).collect();
        // One alone has no peers to be compared with.
        self.fastest = (times.len() > 1).then(|| {
            let tenth = (times.len() - 1) / 10;
            *times.select_nth_unstable_by(tenth, f64::total_cmp).1
        });
    }
}

impl Record {
    fn learn(&mut self, ratio: f64) {
        self.window[self.runs % WINDOW] = ratio;
        self.runs += 1;
        self.typical = self.median();
        if let Some(best) = &mut self.best {
            *best *= FORGET_BEST;
        }
        if self.runs >= WINDOW
            && let Some(typical) = self.typical
        {
            self.best = Some(self.best.map_or(typical, |best| best.min(typical)));
        }
    }

    fn count(&mut self, slow: bool, good: bool) {
        self.bad += u32::from(slow);
        self.good = if good { self.good + 1 } else { 0 };
        if good && self.state == Health::Suspect {
            self.bad = 0;
        }
    }

    /// Only what comes now counts.
    fn forget(&mut self) {
        (self.runs, self.typical) = (0, None);
    }

    fn median(&self) -> Option<f64> {
        let runs = self.runs.min(WINDOW);
        if runs < LEAST {
            return None;
        }
        let mut sorted = self.window;
        let (_, median, _) = sorted[..runs].select_nth_unstable_by((runs - 1) / 2, f64::total_cmp);
        Some(*median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of every worker in turn, each with its own ratio; the states that follow are entered at once.
    fn rounds(ward: &mut Ward, ratios: &[f64], rounds: u64, now: &mut Micros) {
        for _ in 0..rounds {
            *now += 1_000;
            for (i, &ratio) in ratios.iter().enumerate() {
                let worker = WorkerId(i);
                let next = ward.observe(worker, ratio);
                if next != ward.state(worker) {
                    ward.enter(worker, next, *now);
                }
            }
        }
    }

    fn ward(workers: usize) -> Ward {
        Ward::new(HealthConfig::default(), workers)
    }

    #[test]
    fn a_slow_worker_is_suspected_then_quarantined_and_comes_back_by_probation() {
        let (mut ward, mut now) = (ward(4), 0);
        rounds(&mut ward, &[1.0, 1.1, 0.9, 5.0], 5, &mut now);
        assert_eq!(ward.state(WorkerId(3)), Health::Suspect);
        rounds(&mut ward, &[1.0, 1.1, 0.9, 5.0], 4, &mut now);
        assert_eq!(ward.state(WorkerId(3)), Health::Quarantined);
        rounds(&mut ward, &[1.0, 1.1, 0.9, 1.0], 3, &mut now);
        assert_eq!(ward.state(WorkerId(3)), Health::Probation);
        rounds(&mut ward, &[1.0, 1.1, 0.9, 1.0], 12, &mut now);
        assert_eq!(ward.state(WorkerId(3)), Health::Healthy);
    }

    #[test]
    fn slow_again_in_probation_means_back_to_quarantine() {
        let (mut ward, mut now) = (ward(3), 0);
        rounds(&mut ward, &[1.0, 1.0, 5.0], 12, &mut now);
        rounds(&mut ward, &[1.0, 1.0, 1.0], 3, &mut now);
        assert_eq!(ward.state(WorkerId(2)), Health::Probation);
        rounds(&mut ward, &[1.0, 1.0, 5.0], 5, &mut now);
        assert_eq!(ward.state(WorkerId(2)), Health::Quarantined);
    }

    #[test]
    fn when_all_become_slow_nobody_is_a_straggler() {
        let (mut ward, mut now) = (ward(4), 0);
        rounds(&mut ward, &[1.0, 1.1, 0.9, 1.2], 20, &mut now);
        rounds(&mut ward, &[6.0, 6.6, 5.4, 7.0], 20, &mut now);
        for i in 0..4 {
            assert_ne!(ward.state(WorkerId(i)), Health::Quarantined, "{i}");
        }
    }

    #[test]
    fn three_stragglers_in_eight_runs_are_forgiven() {
        let (mut ward, mut now) = (ward(3), 0);
        for _ in 0..20 {
            for ratio in [9.0, 1.0, 1.0, 9.0, 1.0, 1.0, 9.0, 1.0] {
                rounds(&mut ward, &[1.0, 1.0, ratio], 1, &mut now);
                assert_eq!(ward.state(WorkerId(2)), Health::Healthy);
            }
        }
    }

    #[test]
    fn a_worker_at_the_threshold_does_not_flutter() {
        let (mut ward, mut now) = (ward(3), 0);
        let mut changes = 0;
        let mut before = Health::Healthy;
        for i in 0..1_000 {
            let ratio = if i % 2 == 0 { 3.2 } else { 3.4 }; // scores of 0.31 and 0.29
            rounds(&mut ward, &[1.0, 1.0, ratio], 1, &mut now);
            changes += u32::from(ward.state(WorkerId(2)) != before);
            before = ward.state(WorkerId(2));
        }
        assert!(changes <= 2, "{changes}");
    }

    #[test]
    fn probes_come_after_pauses_that_grow_while_they_are_slow() {
        let (mut ward, mut now) = (ward(3), 0);
        rounds(&mut ward, &[1.0, 1.0, 5.0], 12, &mut now);
        let mut at = Vec::new();
        for tick in 0..400u64 {
            let then = now + tick * 100_000;
            if ward.due(then).next() == Some(WorkerId(2)) {
                ward.probed(WorkerId(2), then);
                ward.observe(WorkerId(2), 5.0);
                at.push(then);
            }
        }
        let pauses: Vec<u64> = at.windows(2).map(|w| (w[1] - w[0]) / 1_000_000).collect();
        assert!(pauses.len() >= 4 && pauses.is_sorted(), "{pauses:?}");
        assert!(pauses.last().is_some_and(|&p| p >= 8), "{pauses:?}");
    }

    #[test]
    fn scores_say_how_far_behind_a_worker_is() {
        let (mut ward, mut now) = (ward(3), 0);
        rounds(&mut ward, &[1.0, 1.0, 1.0], 20, &mut now);
        rounds(&mut ward, &[1.0, 1.0, 2.0], 20, &mut now);
        let scores = ward.scores(WorkerId(2)).expect("enough runs");
        assert!((scores.relative - 0.5).abs() < 0.01, "{scores:?}");
        assert!((0.45..0.55).contains(&scores.individual), "{scores:?}");
    }
}
