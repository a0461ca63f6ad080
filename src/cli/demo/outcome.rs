//! What a demo found out: the one record that the table, the JSON and the report are all written from.

use collage::engine;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cli::text::{self, ms, percent};

/// Both runs and everything that is needed to judge and to repeat them.
#[derive(Serialize)]
pub struct Outcome {
    /// One sentence: what was bought.
    pub headline: String,
    /// As its backend calls it.
    pub device: String,
    /// The command line that repeats this.
    pub repeat: String,
    /// Of this program.
    pub version: &'static str,
    /// UTC, when the demo began.
    pub started: String,
    /// Of the order of the images, of the injected straggling and of nothing else.
    pub seed: u64,
    /// Different held-out images that the requests draw from.
    pub images: usize,
    /// Of each run.
    pub requests: usize,
    /// Requests a second, whatever the answers do.
    pub rate: f64,
    /// Requests that are due at the same time; these bursts are evenly spaced.
    pub burst: usize,
    /// Workers that run the base model.
    pub base_workers: usize,
    /// Workers that run the collage model.
    pub collage_workers: usize,
    /// Of the collage, rows x columns.
    pub grid: String,
    /// After a request was due: from then on a collage answer may be given.
    pub release_ms: f64,
    /// After a request was due: answered by then, or failed.
    pub deadline_ms: f64,
    /// As given by `--objective`; null without.
    pub objective: Option<String>,
    /// Stragglers, all of them injected: the workers are made to sleep.
    pub injected: Vec<String>,
    /// Multiply-accumulates of all collage runs of the second run over those of its base runs.
    pub extra_work: f64,
    /// A collage answer below this confidence abstains.
    pub min_confidence: f32,
    /// Held-out accuracy of the two models by themselves, without any serving.
    pub alone: Alone,
    /// First without redundancy, then with the collage.
    pub runs: [Run; 2],
}

/// Accuracy on all the held-out images, each asked once.
#[derive(Serialize)]
pub struct Alone {
    /// The base model's.
    pub base: f64,
    /// The collage model's at the demo's grid, abstention off.
    pub collage: f64,
}

/// One pass over the arrivals.
#[derive(Serialize)]
pub struct Run {
    /// "none" or "collage".
    pub policy: &'static str,
    /// Made.
    pub requests: usize,
    /// Answered in time; the others failed.
    pub answered: usize,
    /// Answered in time with the right class.
    pub correct: usize,
    /// `correct / requests`: a request that failed counts as wrong.
    pub accuracy: f64,
    /// Answers given by the collage.
    pub by_collage: usize,
    /// `by_collage / requests`.
    pub collage_share: f64,
    /// Right among `by_collage`; null when there was none.
    pub collage_accuracy: Option<f64>,
    /// Not answered by their deadline.
    pub deadline_exceeded: usize,
    /// Refused at once because the queue was full.
    pub overloaded: usize,
    /// Failed for another reason.
    pub failed: usize,
    /// From when a request was due to its answer; one that failed counts with its deadline.
    pub latency_ms: Percentiles,
    /// How late the load generator itself was: the machine's own noise, in every figure above.
    pub generator_late_ms: Percentiles,
    /// Collage answers that were under the confidence that it takes.
    pub abstained: u64,
    /// Base answers that came after the collage had answered: counted, never sent.
    pub late: u64,
    /// Images that base workers ran, the warm-up's included.
    pub base_images: u64,
    /// Collages that were run, the warm-up's included.
    pub collage_runs: u64,
    /// What was promised with `--objective` and `--accuracy-budget`; the warm-up's requests are counted too.
    pub promises: Promises,
    /// Base workers first.
    pub workers: Vec<Worker>,
    /// From the first arrival to the last answer.
    pub seconds: f64,
    /// In microseconds.
    #[serde(skip)]
    pub histogram: Histogram<u64>,
}

/// One worker in one run, its warm-up included.
#[derive(Serialize)]
pub struct Worker {
    /// "base", "collage" or "both".
    pub role: &'static str,
    /// Runs that succeeded.
    pub runs: u64,
    /// Images in them.
    pub images: u64,
    /// Runs that were delayed on purpose.
    pub injected_runs: u64,
    /// Median time of a run, what was injected included.
    pub run_p50_ms: f64,
}

/// Null where nothing was promised.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Promises {
    /// Latency at the objective's quantile, in milliseconds.
    pub latency_ms: Option<Promise>,
    /// Accuracy lost in expectation: the share of answers from the collage times what one of them loses.
    pub accuracy: Option<Promise>,
}

/// One of them.
#[derive(Clone, Copy, Serialize)]
pub struct Promise {
    /// As it was given.
    pub promised: f64,
    /// As it came out.
    pub measured: f64,
    /// Whether no more requests missed it than may.
    pub kept: bool,
    /// Requests counted.
    pub over: u64,
}

impl Promises {
    /// As the engine counted.
    pub fn of(engine: &engine::Promises) -> Self {
        let promise = |p: engine::Promise, unit: f64| Promise {
            promised: p.promised / unit,
            measured: p.measured / unit,
            kept: p.kept,
            over: p.over,
        };
        Self {
            latency_ms: engine.latency.map(|p| promise(p, 1e3)),
            accuracy: engine.accuracy.map(|p| promise(p, 1.0)),
        }
    }
}

/// Of accuracy, in points.
fn loss(share: f64) -> String {
    format!("{:.3} points", share * 100.0)
}

impl Promise {
    fn say(&self, show: impl Fn(f64) -> String) -> String {
        let verdict = if self.kept { "kept" } else { "broken" };
        format!("{verdict}: {}", show(self.measured))
    }
}

/// Of a latency, in milliseconds.
#[derive(Clone, Copy, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// Ninth in ten.
    pub p90: f64,
    /// 99th in a hundred.
    pub p99: f64,
    /// 999th in a thousand.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Percentiles {
    /// Of a histogram in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

impl Outcome {
    /// One sentence that says what was bought, and says so too when nothing was.
    pub fn headline(runs: &[Run; 2]) -> String {
        let [none, collage] = runs;
        let (before, after) = (none.latency_ms.p99, collage.latency_ms.p99);
        let verb = if after < before {
            "fell"
        } else {
            "did not fall: it went"
        };
        format!(
            "p99 {verb} from {} to {}; {} of answers came from the collage; accuracy moved from {} to {}.",
            ms(before),
            ms(after),
            percent(collage.collage_share),
            percent(none.accuracy),
            percent(collage.accuracy),
        )
    }

    /// The two runs side by side, for a terminal.
    pub fn table(&self) -> String {
        let [none, collage] = &self.runs;
        let latency = |run: &Run| {
            let l = run.latency_ms;
            [l.p50, l.p90, l.p99, l.p999, l.max].map(ms)
        };
        let (a, b) = (latency(none), latency(collage));
        let mut rows = vec![["".into(), "no redundancy".into(), "collage".into()]];
        for (i, name) in ["p50", "p90", "p99", "p99.9", "max"].iter().enumerate() {
            rows.push([format!("latency {name}"), a[i].clone(), b[i].clone()]);
        }
        let share = |run: &Run| percent(run.collage_share);
        rows.push([
            "accuracy".into(),
            percent(none.accuracy),
            percent(collage.accuracy),
        ]);
        rows.push([
            "answered by the collage".into(),
            share(none),
            share(collage),
        ]);
        let unanswered = |run: &Run| (run.requests - run.answered).to_string();
        rows.push(["not answered".into(), unanswered(none), unanswered(collage)]);
        let promise = |run: &Run, of: fn(&Promises) -> Option<Promise>, show: fn(f64) -> String| {
            of(&run.promises).map_or("-".to_owned(), |p| p.say(show))
        };
        // What is promised is promised of both runs, so that one shows what the other bought.
        if let Some(Promise { promised, .. }) = collage.promises.latency_ms {
            let [a, b] = [none, collage].map(|run| promise(run, |p| p.latency_ms, ms));
            let quantile = self.objective.as_deref().and_then(|o| o.split('=').next());
            let name = format!(
                "promise {} in {}",
                quantile.unwrap_or_default(),
                ms(promised)
            );
            rows.push([name, a, b]);
        }
        if let Some(Promise { promised, .. }) = collage.promises.accuracy {
            let [a, b] = [none, collage].map(|run| promise(run, |p| p.accuracy, loss));
            rows.push([format!("promise to lose {}", loss(promised)), a, b]);
        }
        text::table(&rows, 1)
    }
}
