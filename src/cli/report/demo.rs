//! The demo's page: what a collage bought, and how it works. No figure is computed here that the JSON does not hold.

use crate::cli::demo::outcome::{Outcome, Run, Worker};
use crate::cli::failure::Failure;
use crate::cli::text::{ms, percent, points, setting_ms, thousands};

mod chart;
pub mod picture;
mod table;

use super::{escape, fill};
use picture::Picture;

const PAGE: &str = include_str!("demo/page.html");
const DIAGRAM: &str = include_str!("demo/diagram.svg");

/// The whole page.
pub fn html(outcome: &Outcome, pictures: &[Picture]) -> Result<String, Failure> {
    let [none, collage] = &outcome.runs;
    let mut drawn = String::new();
    for picture in pictures {
        drawn += &picture.html()?;
    }
    let places = [
        ("style", super::style()),
        ("version", escape(outcome.version)),
        ("when", escape(&outcome.started)),
        ("title", title(outcome)),
        ("lede", lede(outcome)),
        ("facts", facts(outcome)),
        (
            "chart",
            chart::latency_cdf(none, collage, outcome.release_ms),
        ),
        ("chart_note", chart_note(outcome)),
        ("table", table::html(outcome)),
        ("table_note", table_note(outcome)),
        ("picture_lede", picture_lede(outcome)),
        ("pictures", drawn),
        ("diagram", DIAGRAM.to_string()),
        ("command", escape(&outcome.repeat)),
        ("facts_list", facts_list(outcome)),
        ("method", method(outcome)),
    ];
    Ok(fill(PAGE, &places))
}

fn title(outcome: &Outcome) -> String {
    let (before, after) = (
        outcome.runs[0].latency_ms.p99,
        outcome.runs[1].latency_ms.p99,
    );
    let verb = if after < before {
        "fell from"
    } else {
        "did not fall:"
    };
    format!("p99 latency {verb} {} to {}", ms(before), ms(after))
}

fn lede(outcome: &Outcome) -> String {
    let [none, collage] = &outcome.runs;
    format!(
        "Workers were made to straggle (<span class=\"injected\">injected</span>). With a collage behind {} base \
         workers, {} of answers came from the collage, and accuracy moved from {} to {}.",
        outcome.base_workers,
        percent(collage.collage_share),
        percent(none.accuracy),
        percent(collage.accuracy),
    )
}

fn facts(outcome: &Outcome) -> String {
    let [none, collage] = &outcome.runs;
    let pair = |a: String, b: String| format!("<b>{a}<i> → </i>{b}</b>");
    let short = |v: f64| ms(v).trim_end_matches(" ms").to_string();
    let cells = [
        (
            pair(short(none.latency_ms.p99), ms(collage.latency_ms.p99)),
            "p99 latency, without and with the collage".into(),
        ),
        (
            pair(short(none.latency_ms.p999), ms(collage.latency_ms.p999)),
            "p99.9 latency".to_string(),
        ),
        (
            format!("<b>{}</b>", percent(collage.collage_share)),
            "of answers came from the collage".into(),
        ),
        (
            format!("<b>{}</b>", points(collage.accuracy - none.accuracy)),
            format!(
                "accuracy: {} → {}",
                percent(none.accuracy),
                percent(collage.accuracy)
            ),
        ),
    ];
    let body: String = cells
        .iter()
        .map(|(figure, what)| format!("<div>{figure}<span>{what}</span></div>\n"))
        .collect();
    format!("<div class=\"facts\">\n{body}</div>")
}

/// Why the collage's tail may rise again, where it does.
fn chart_note(outcome: &Outcome) -> String {
    let collage = &outcome.runs[1];
    if collage.abstained == 0 || collage.latency_ms.max < 2.0 * outcome.release_ms {
        return String::new();
    }
    "<figcaption>Where the two meet again on the right, the collage was not sure of a tile: it abstains, and the \
     request waits for its late worker.</figcaption>"
        .into()
}

fn table_note(outcome: &Outcome) -> String {
    format!(
        "{} requests in each run, the same images in the same order at the same times. Each of the {} held-out images \
         asked once, without serving: base {}, collage {} at {}.",
        thousands(outcome.requests as u64),
        thousands(outcome.images as u64),
        percent(outcome.alone.base),
        percent(outcome.alone.collage),
        escape(&outcome.grid),
    )
}

fn picture_lede(outcome: &Outcome) -> String {
    let abstains = if outcome.min_confidence > 0.0 {
        format!(
            " A tile whose confidence is under {} abstains, and its request waits for its base worker.",
            format_args!(
                "{}%",
                (f64::from(outcome.min_confidence) * 1e4).round() / 1e2
            )
        )
    } else {
        String::new()
    };
    format!(
        "Held-out digits that neither network was trained on. Green answers are right, red ones are wrong.{abstains} Of all {} held-out digits at {}, the \
         collage names {} correctly, abstention aside.",
        thousands(outcome.images as u64),
        escape(&outcome.grid),
        percent(outcome.alone.collage),
    )
}

fn facts_list(outcome: &Outcome) -> String {
    let late = |run: &Run| {
        format!(
            "p99 {}, max {}",
            ms(run.generator_late_ms.p99),
            ms(run.generator_late_ms.max)
        )
    };
    let [none, collage] = &outcome.runs;
    let workers = |run: &Run| {
        let one = |w: &Worker| {
            format!(
                "{} {} runs of {} images, median {}",
                w.role,
                w.runs,
                w.images,
                ms(w.run_p50_ms)
            )
        };
        run.workers.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let facts = [
        ("version", format!("collage {}", outcome.version)),
        ("seed", outcome.seed.to_string()),
        ("device", outcome.device.clone()),
        (
            "workers",
            format!(
                "{} base, {} collage",
                outcome.base_workers, outcome.collage_workers
            ),
        ),
        ("straggler (injected)", outcome.injected.join(", ")),
        ("load", load(outcome)),
        (
            "release, deadline",
            format!(
                "{}, {} after a request was due",
                setting_ms(outcome.release_ms),
                setting_ms(outcome.deadline_ms)
            ),
        ),
        ("workers, no redundancy", workers(none)),
        ("workers, collage", workers(collage)),
        (
            "the machine's own noise",
            format!(
                "the load generator woke late by {} (no redundancy); {} (collage)",
                late(none),
                late(collage)
            ),
        ),
    ];
    facts
        .iter()
        .map(|(name, text)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(text)))
        .collect()
}

fn load(outcome: &Outcome) -> String {
    let Outcome {
        requests,
        rate,
        burst,
        ..
    } = outcome;
    format!(
        "{} requests in each run, {burst} every {}: {rate:.0} a second",
        thousands(*requests as u64),
        setting_ms((*burst as f64 / rate * 1e6).round() / 1e3),
    )
}

fn method(outcome: &Outcome) -> String {
    let sleeps = outcome
        .injected
        .iter()
        .map(|s| format!("<code>{}</code>", escape(s)))
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "The load is an open loop: a request is due at its time whether or not earlier ones were answered, and its \
         latency counts from then, so that waiting in line is not hidden. The straggling is <span \
         class=\"injected\">injected</span> ({sleeps}): the worker sleeps, it does not compute, so it takes no processor \
         time from the others. Everything else that is slow here is the machine itself."
    )
}

#[cfg(test)]
mod tests;
