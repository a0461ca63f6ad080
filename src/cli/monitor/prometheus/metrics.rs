//! A snapshot in Prometheus' text format.
//!
//! What DCGM's exporter tells has its names, labels and units here, so that its dashboards and alerts work: percent, MiB,
//! counters without `_total`. What is this program's own begins with `collage_` and keeps Prometheus' conventions: base
//! units, `_total` on counters. A figure that is not known is left out: 0 would be a lie.

mod family;
mod gpu;
mod worker;

use collage::attach::State;

use super::super::snapshot::Snapshot;
use family::Families;

/// All metrics.
pub fn text(snapshot: &Snapshot, host: &str) -> String {
    let mut all = Families::default();
    all.gauge(
        "collage_nvml_up",
        "Whether NVIDIA's management library answers (1) or is not there (0).",
        &[],
        Some(f64::from(u8::from(snapshot.driver.is_ok()))),
    );
    for now in &snapshot.gpus {
        gpu::add(&mut all, now, host);
    }
    for engine in &snapshot.engines {
        let (pid, number) = (engine.pid.to_string(), engine.engine.to_string());
        let labels = [("pid", pid.as_str()), ("engine", number.as_str())];
        all.gauge(
            "collage_engine_up",
            "Whether the engine answered (1) or is there and says nothing (0).",
            &labels,
            Some(f64::from(u8::from(engine.state.is_ok()))),
        );
        if let Ok(state) = &engine.state {
            of_engine(&mut all, state, &labels);
            requests(&mut all, state, &labels);
            promises(&mut all, state, &labels);
            worker::add(&mut all, state, &engine.verdicts, &labels);
        }
    }
    all.text()
}

fn of_engine(all: &mut Families, state: &State, engine: &[(&str, &str)]) {
    let process = &state.process;
    let mut info = engine.to_vec();
    info.extend([
        ("name", process.name.as_str()),
        ("version", process.version.as_str()),
        ("policy", process.policy.as_str()),
    ]);
    all.gauge(
        "collage_engine_info",
        "Always 1: what the engine is.",
        &info,
        Some(1.0),
    );
    all.gauge(
        "collage_engine_start_time_seconds",
        "When the engine opened, in seconds since 1970.",
        engine,
        Some(process.started_unix_s as f64),
    );
}

fn requests(all: &mut Families, state: &State, engine: &[(&str, &str)]) {
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        engine.iter().chain(more).copied().collect()
    };
    let r = &state.requests;
    for (outcome, count) in [
        ("base", r.base),
        ("collage", r.collage),
        ("copy", r.copies),
        ("deadline_exceeded", r.deadline_exceeded),
        ("overloaded", r.overloaded),
        ("cancelled", r.cancelled),
        ("failed", r.failed),
        ("closed", r.closed),
    ] {
        all.counter(
            "collage_requests_total",
            "Settled requests by outcome: who answered, or why nobody did.",
            &with(&[("outcome", outcome)]),
            Some(count as f64),
        );
    }
    for (kind, count) in [
        ("base", r.base_runs),
        ("copy", r.copy_runs),
        ("probe", r.probe_runs),
        ("collage", r.collage_runs),
    ] {
        all.counter(
            "collage_runs_launched_total",
            "Runs launched by kind.",
            &with(&[("kind", kind)]),
            Some(count as f64),
        );
    }
    all.counter(
        "collage_late_answers_total",
        "Base answers that came after their request was settled otherwise.",
        engine,
        Some(r.late as f64),
    );
    all.counter(
        "collage_abstained_answers_total",
        "Collage answers under the confidence that was asked for.",
        engine,
        Some(r.abstained as f64),
    );
    all.counter(
        "collage_retries_total",
        "Base runs repeated because one failed or its worker was lost.",
        engine,
        Some(r.retries as f64),
    );
    all.gauge(
        "collage_requests_pending",
        "Requests accepted and not settled.",
        engine,
        Some(state.pending as f64),
    );
}

fn promises(all: &mut Families, state: &State, engine: &[(&str, &str)]) {
    for promise in &state.promises {
        let mut labels = engine.to_vec();
        labels.push(("promise", &promise.kind));
        all.gauge(
            "collage_promise_kept",
            "Whether what was promised holds (1) or does not (0).",
            &labels,
            Some(f64::from(u8::from(promise.kept))),
        );
        // Latency has a base unit, a share is one.
        let (unit, scale) = match promise.kind.as_str() {
            "latency" => ("latency_seconds", 1e-6),
            _ => ("accuracy_loss_ratio", 1.0),
        };
        let measured = (promise.over > 0).then_some(promise.measured);
        for (what, value) in [("promised", Some(promise.promised)), ("measured", measured)] {
            all.gauge(
                &format!("collage_{what}_{unit}"),
                &format!("What was {what} since the engine opened."),
                engine,
                value.map(|value| value * scale),
            );
        }
    }
}
