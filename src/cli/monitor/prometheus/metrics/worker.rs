//! Of the workers of one engine.

use collage::attach::{State, Worker};
use collage::host::telemetry::Verdict;

use super::family::{Buckets, Families};
use super::gpu::CAUSES;

const HEALTHS: [&str; 4] = ["healthy", "probation", "suspect", "quarantined"];

/// All that the engine tells of them.
pub fn add(all: &mut Families, state: &State, verdicts: &[Verdict], engine: &[(&str, &str)]) {
    for (i, worker) in state.workers.iter().enumerate() {
        let index = worker.index.to_string();
        let mut labels = engine.to_vec();
        labels.extend([
            ("worker", index.as_str()),
            ("role", worker.role.as_str()),
            ("device", worker.device_name.as_str()),
        ]);
        service(all, worker, &labels);
        counters(all, worker, &labels);
        trust(all, worker, verdicts.get(i), &labels);
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn service(all: &mut Families, worker: &Worker, labels: &[(&str, &str)]) {
    let service = &worker.service;
    let bounds: Vec<f64> = service.bounds_us.iter().map(|&us| seconds(us)).collect();
    all.histogram(
        "collage_worker_service_seconds",
        "How long runs took since the engine opened, injected delays included.",
        labels,
        &Buckets {
            bounds: &bounds,
            counts: &service.counts,
            count: worker.runs,
            sum: seconds(worker.busy_us),
        },
    );
    let recent = |us: u64| (service.recent_runs > 0).then(|| seconds(us));
    all.gauge(
        "collage_worker_service_p50_seconds",
        "Median of the last runs, 256 at most.",
        labels,
        recent(service.recent_p50_us),
    );
    all.gauge(
        "collage_worker_service_p99_seconds",
        "99th percentile of the last runs, 256 at most.",
        labels,
        recent(service.recent_p99_us),
    );
}

fn counters(all: &mut Families, worker: &Worker, labels: &[(&str, &str)]) {
    let mut counter = |name: &str, help: &str, value: f64| {
        all.counter(name, help, labels, Some(value));
    };
    counter(
        "collage_worker_images_total",
        "Images in runs that succeeded.",
        worker.images as f64,
    );
    counter(
        "collage_worker_answers_total",
        "Requests answered whose own run was given to the worker.",
        worker.answers as f64,
    );
    counter(
        "collage_worker_backup_answers_total",
        "Those of them that a backup answered in its place.",
        worker.backups as f64,
    );
    counter(
        "collage_worker_deadline_exceeded_total",
        "Requests whose own run was given to the worker, without an answer by their deadline.",
        worker.deadline_exceeded as f64,
    );
    counter(
        "collage_worker_injected_seconds_total",
        "Time by which runs were delayed on purpose.",
        seconds(worker.injected_us),
    );
    counter(
        "collage_worker_failures_total",
        "Runs that failed or took the worker down.",
        worker.failures as f64,
    );
    counter(
        "collage_worker_restarts_total",
        "Times that the worker came back.",
        worker.restarts as f64,
    );
}

fn trust(all: &mut Families, worker: &Worker, verdict: Option<&Verdict>, labels: &[(&str, &str)]) {
    let flag = |is: bool| Some(f64::from(u8::from(is)));
    let with = |name: &'static str, value: &str| {
        let mut labels: Vec<(String, String)> = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        labels.push((name.to_owned(), value.to_owned()));
        labels
    };
    let mut gauge = |name: &str, help: &str, labels: &[(String, String)], value| {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        all.gauge(name, help, &labels, value);
    };
    let scores = [
        ("relative", worker.scores.map(|s| s.relative)),
        ("individual", worker.scores.map(|s| s.individual)),
    ];
    for (kind, score) in scores {
        gauge(
            "collage_worker_score_ratio",
            "Straggler scores, 1 at best: against the fastest peers, and against its own best.",
            &with("score", kind),
            score,
        );
    }
    for health in HEALTHS {
        gauge(
            "collage_worker_health",
            "1 for what the worker is trusted with, 0 for the others.",
            &with("health", health),
            flag(worker.health == health),
        );
    }
    if let Some(verdict) = verdict {
        for cause in CAUSES {
            gauge(
                "collage_worker_verdict",
                "1 for the cause that the verdict names, 0 for the others.",
                &with("cause", &cause.to_string()),
                flag(cause == verdict.cause),
            );
        }
    }
    all.gauge(
        "collage_worker_up",
        "Whether the worker may be given jobs (1) or is lost or retired (0).",
        labels,
        flag(worker.state == "ready"),
    );
    all.gauge(
        "collage_worker_queued_jobs",
        "Jobs that the worker holds: the one that runs and those that wait.",
        labels,
        Some(worker.queued as f64),
    );
}
