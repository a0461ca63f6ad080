//! What a comparison found out: the one record that the tables, the JSON and the report are all written from.

use std::collections::BTreeMap;
use std::time::Duration;

use collage::engine::Source;
use collage::sim::Latency;
use serde::Serialize;

use super::turn::{End, Sample, Turn, Work};

/// Later than this, a dispatch counts as late.
pub const LATE: Duration = Duration::from_millis(1);

/// All policies and everything that is needed to judge and to repeat them.
#[derive(Serialize)]
pub struct Outcome {
    /// Which `collage bench`.
    pub bench: &'static str,
    /// One sentence: what was bought and for how much.
    pub headline: String,
    /// As its backend calls it.
    pub device: String,
    /// Of this program.
    pub version: &'static str,
    /// UTC, when the comparison began.
    pub started: String,
    /// The command line that repeats this.
    pub repeat: String,
    /// Of the arrivals, the order of the images and the injected straggling.
    pub seed: u64,
    /// Where the images are from.
    pub data: String,
    /// Different images that the requests ask.
    pub images: usize,
    /// Counted requests of each policy.
    pub requests: usize,
    /// Requests that arrive together: a group.
    pub burst: usize,
    /// Turns of each policy, each on a fresh engine, whose figures are pooled.
    pub rounds: usize,
    /// Groups at the head of each turn that are counted apart.
    pub warm_up: usize,
    /// Requests a second, in an open loop.
    pub rate: Option<f64>,
    /// Groups at a time, in a closed loop.
    pub closed: Option<usize>,
    /// Workers for base runs.
    pub workers: usize,
    /// Workers for collages; a policy without collages has them as further ones for base runs.
    pub collage_workers: usize,
    /// After a request was due: from then on a collage answer may be given.
    pub release_ms: f64,
    /// After a request was due: answered by then, or failed.
    pub deadline_ms: f64,
    /// Stragglers, all of them injected.
    pub injected: Vec<String>,
    /// In the order in which they were given.
    pub policies: Vec<Row>,
    /// Each policy with a collage beside the one with small runs that does as much work.
    pub equal_work: Vec<Pair>,
    /// Policies with collages, at several release times.
    pub releases: Vec<Release>,
}

/// One policy. Shares are 0 to 1.
#[derive(Serialize)]
pub struct Row {
    /// As it is written.
    pub policy: String,
    /// Latency in milliseconds of each request, from when it was due; one without an answer counts with its deadline.
    pub request: Latency,
    /// Of the last of each group.
    pub group: Latency,
    /// Answered by their deadline.
    pub answered: usize,
    /// Not.
    pub deadline_exceeded: usize,
    /// Refused because the queue was full.
    pub overloaded: usize,
    /// Failed for another reason.
    pub failed: usize,
    /// `answered` over all.
    pub on_time: f64,
    /// Who answered.
    pub sources: BTreeMap<String, Share>,
    /// How many of the answers are right.
    pub accuracy: Accuracy,
    /// What the backups took.
    pub extra: Extra,
    /// Collage answers under the confidence that they need.
    pub abstained: u64,
    /// Own base answers that came after another had been given.
    pub late: u64,
    /// Delays that were injected, all runs together.
    pub injected_ms: f64,
    /// What it cost to schedule.
    pub scheduler: Overhead,
    /// Requests a second by the schedule; null in a closed loop.
    pub offered_rate: Option<f64>,
    /// Answers a second, from the start to the last answer.
    pub achieved_rate: f64,
    /// How late requests were sent; null in a closed loop.
    pub dispatch: Option<Dispatch>,
    /// The first groups of each turn, counted apart from all above.
    pub warm_up: WarmUp,
    /// Its HdrHistogram log, in the folder of `--out`.
    pub log: Option<String>,
    /// In order, microseconds: what the latency charts are drawn from.
    #[serde(skip)]
    pub waits: Waits,
}

/// Latencies in order, in microseconds.
#[derive(Default)]
pub struct Waits {
    /// Of each request.
    pub request: Vec<u64>,
    /// Of the last of each group.
    pub group: Vec<u64>,
}

/// Of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    /// How many it gave.
    pub answers: usize,
    /// `answers` over all requests.
    pub share: f64,
    /// Right among them.
    pub correct: usize,
    /// `correct` over `answers`; null if there are none.
    pub accuracy: Option<f64>,
}

/// Shares of right answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Of answers by requests' own base runs; null if there are none.
    pub direct: Option<f64>,
    /// Of all other answers; null if there are none.
    pub backup: Option<f64>,
    /// Of all requests: one without an answer counts as wrong.
    pub all: f64,
}

/// What the backups took. Collages, replicas, hedges, re-sent requests and probes are backups.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Extra {
    /// Measured time of backups over that of requests' own base runs, on the devices, injected delays excluded.
    pub time: f64,
    /// The same by multiply-accumulates.
    pub macs: f64,
    /// Time of requests' own base runs.
    pub base_ms: f64,
    /// Time of backups.
    pub backup_ms: f64,
    /// Images in requests' own base runs.
    pub base_images: u64,
    /// Images in replicas, hedges and re-sent requests.
    pub copy_images: u64,
    /// Probes of workers under watch.
    pub probe_runs: u64,
    /// Collages, or runs of the collage network on one image.
    pub collage_runs: u64,
    /// Of such runs that were due: never begun, because all of their requests had been answered.
    pub collages_saved: u64,
}

/// What deciding took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Overhead {
    /// Submissions, reports of workers and timeouts.
    pub events: u64,
    /// Time spent on them, on whichever thread, over `events`.
    pub us_per_event: f64,
    /// The same over the requests.
    pub us_per_request: f64,
}

/// How late the load generator was: the machine's own noise, in every latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Dispatch {
    /// Requests sent more than a millisecond after they were due.
    pub late: usize,
    /// `late` over all.
    pub late_share: f64,
    /// How late half of all were.
    pub p50_ms: f64,
    /// 99 in a hundred.
    pub p99_ms: f64,
    /// The latest.
    pub max_ms: f64,
}

/// The first groups of each turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WarmUp {
    /// Sent.
    pub requests: usize,
    /// Answered by their deadline.
    pub answered: usize,
    /// Their latencies.
    pub request: Latency,
}

/// A policy with a collage and the one with small runs that backs up the same requests.
#[derive(Serialize)]
pub struct Pair {
    /// Of the collage.
    pub collage: String,
    /// Of the small runs.
    pub small: String,
    /// How they compare, whichever way it came out.
    pub verdict: String,
}

/// One policy at one release time, over one round.
#[derive(Serialize)]
pub struct Release {
    /// As it is written.
    pub policy: String,
    /// After a request was due: from then on a collage answer may be given.
    pub release_ms: f64,
    /// Latency of each request.
    pub request: Latency,
    /// Of the last of each group.
    pub group: Latency,
    /// Answers by anything but the request's own base run, over all requests.
    pub backup_share: f64,
    /// How many of the answers are right.
    pub accuracy: Accuracy,
}

impl Row {
    /// Pools the turns of one policy. `collage_work` is that of one collage run over that of a base run of one image, in
    /// multiply-accumulates.
    pub fn new(policy: String, turns: &[Turn], burst: usize, collage_work: f64) -> Self {
        let samples = || turns.iter().flat_map(|turn| &turn.counted);
        let count = samples().count();
        let ended = |end: End| samples().filter(|sample| sample.end == end).count();
        let work = turns
            .iter()
            .map(|t| t.work)
            .fold(Work::default(), Work::and);
        let sources = sources(samples(), count);
        let answered: usize = sources.values().map(|share| share.answers).sum();
        let took: f64 = turns.iter().map(|turn| turn.took.as_secs_f64()).sum();
        let mut waits = Waits::of(turns, burst);
        Self {
            policy,
            request: Latency::of(&mut waits.request),
            group: Latency::of(&mut waits.group),
            answered,
            deadline_exceeded: ended(End::DeadlineExceeded),
            overloaded: ended(End::Overloaded),
            failed: ended(End::Failed),
            on_time: share(answered, count),
            accuracy: Accuracy::of(&sources, count),
            sources,
            extra: Extra::of(&work, collage_work),
            abstained: work.abstained,
            late: work.late,
            injected_ms: ms(work.injected),
            scheduler: Overhead::of(&work, count),
            offered_rate: None,
            achieved_rate: answered as f64 / took.max(1e-9),
            dispatch: None,
            warm_up: WarmUp::of(turns),
            log: None,
            waits,
        }
    }

    /// Adds what only an open loop has: a schedule, and lateness.
    pub fn scheduled(self, turns: &[Turn]) -> Self {
        let ends = turns.iter().filter_map(|turn| turn.counted.last());
        let seconds: f64 = ends.map(|last| last.due.as_secs_f64()).sum();
        let count: usize = turns.iter().map(|turn| turn.counted.len()).sum();
        Self {
            offered_rate: Some(count as f64 / seconds.max(1e-9)),
            dispatch: Some(Dispatch::of(turns)),
            ..self
        }
    }
}

impl Waits {
    fn of(turns: &[Turn], burst: usize) -> Self {
        let mut waits = Waits::default();
        for turn in turns {
            let request = turn.counted.iter().map(|sample| micros(sample.waited));
            waits.request.extend(request);
            let slowest = |group: &[Sample]| group.iter().map(|sample| micros(sample.waited)).max();
            waits
                .group
                .extend(turn.counted.chunks(burst).filter_map(slowest));
        }
        waits
    }
}

/// By name; the three that every policy may have are always there.
fn sources<'a>(samples: impl Iterator<Item = &'a Sample>, count: usize) -> BTreeMap<String, Share> {
    let always = [Source::Base, Source::Collage, Source::Copy];
    let mut sources: BTreeMap<String, Share> = always
        .map(|source| (source.to_string(), Share::default()))
        .into();
    for sample in samples {
        if let End::Answered { source, right } = sample.end {
            let share = sources.entry(source.to_string()).or_default();
            share.answers += 1;
            share.correct += usize::from(right);
        }
    }
    for one in sources.values_mut() {
        one.share = share(one.answers, count);
        one.accuracy = (one.answers > 0).then(|| share(one.correct, one.answers));
    }
    sources
}

impl Accuracy {
    fn of(sources: &BTreeMap<String, Share>, count: usize) -> Self {
        let of = |is_direct: Option<bool>| {
            let base = Source::Base.to_string();
            let some = |name: &str| is_direct.is_none_or(|direct| direct == (name == base));
            let some = sources.iter().filter(|(name, _)| some(name));
            some.fold((0, 0), |(right, all), (_, share)| {
                (right + share.correct, all + share.answers)
            })
        };
        let maybe = |(right, all)| (all > 0).then(|| share(right, all));
        Self {
            direct: maybe(of(Some(true))),
            backup: maybe(of(Some(false))),
            all: share(of(None).0, count),
        }
    }
}

impl Extra {
    fn of(work: &Work, collage_work: f64) -> Self {
        let (base, backup) = (work.base_busy.as_secs_f64(), work.backup_busy.as_secs_f64());
        let runs = (work.copy_images + work.probe_runs) as f64;
        let macs = runs + work.collage_runs as f64 * collage_work;
        Self {
            time: if base > 0.0 { backup / base } else { 0.0 },
            macs: macs / work.base_images.max(1) as f64,
            base_ms: base * 1e3,
            backup_ms: backup * 1e3,
            base_images: work.base_images,
            copy_images: work.copy_images,
            probe_runs: work.probe_runs,
            collage_runs: work.collage_runs,
            collages_saved: work.collages_saved,
        }
    }
}

impl Overhead {
    fn of(work: &Work, requests: usize) -> Self {
        let us = work.scheduling.as_secs_f64() * 1e6;
        Self {
            events: work.events,
            us_per_event: us / work.events.max(1) as f64,
            us_per_request: us / requests.max(1) as f64,
        }
    }
}

impl Dispatch {
    fn of(turns: &[Turn]) -> Self {
        let samples = turns.iter().flat_map(|turn| &turn.counted);
        let mut lateness: Vec<Duration> = samples.map(|sample| sample.late).collect();
        lateness.sort_unstable();
        let late = lateness.iter().filter(|by| **by > LATE).count();
        // The smallest that so many in a hundred do not exceed.
        let at = |percent: usize| {
            let rank = (lateness.len() * percent).div_ceil(100).max(1);
            lateness.get(rank - 1).copied().map_or(0.0, ms)
        };
        Self {
            late,
            late_share: share(late, lateness.len()),
            p50_ms: at(50),
            p99_ms: at(99),
            max_ms: at(100),
        }
    }
}

impl WarmUp {
    fn of(turns: &[Turn]) -> Self {
        let samples = || turns.iter().flat_map(|turn| &turn.warm_up);
        let mut waits: Vec<u64> = samples().map(|sample| micros(sample.waited)).collect();
        let is_answered = |sample: &&Sample| matches!(sample.end, End::Answered { .. });
        Self {
            requests: waits.len(),
            answered: samples().filter(is_answered).count(),
            request: Latency::of(&mut waits),
        }
    }
}

impl Release {
    /// From the figures of one turn.
    pub fn new(release: Duration, row: Row) -> Self {
        let base = row.sources.get(&Source::Base.to_string());
        Self {
            policy: row.policy,
            release_ms: ms(release),
            request: row.request,
            group: row.group,
            backup_share: row.on_time - base.map_or(0.0, |share| share.share),
            accuracy: row.accuracy,
        }
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// In milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
pub mod tests;
