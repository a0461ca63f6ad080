//! The figures of both runs side by side, as an HTML table.

use crate::cli::demo::outcome::{Outcome, Run};
use crate::cli::text::{ms, percent, points};

/// A name, what it means where that needs saying, the two runs' figures, and how they compare.
struct Row {
    name: &'static str,
    why: &'static str,
    figures: [String; 2],
    change: String,
}

impl Row {
    fn new(name: &'static str, why: &'static str, figures: [String; 2]) -> Self {
        Self {
            name,
            why,
            figures,
            change: String::new(),
        }
    }

    fn changed(self, change: String) -> Self {
        Self { change, ..self }
    }

    fn html(&self) -> String {
        let Self {
            name,
            why,
            figures: [none, collage],
            change,
        } = self;
        let class = if *name == HEADLINE {
            " class=\"strong\""
        } else {
            ""
        };
        let why = if why.is_empty() {
            String::new()
        } else {
            format!("<span class=\"why\">{why}</span>")
        };
        format!(
            "<tr{class}><td>{name}{why}</td><td>{none}</td><td>{collage}</td><td>{change}</td></tr>\n"
        )
    }
}

/// The row that the page's title is about.
const HEADLINE: &str = "Latency p99";

/// The whole table.
pub fn html(outcome: &Outcome) -> String {
    let rows = latencies(outcome).into_iter().chain(counts(outcome));
    let body: String = rows.map(|row| row.html()).collect();
    format!(
        "<table><thead><tr><th></th><th class=\"none\">no redundancy</th><th class=\"collage\">collage</th>\
         <th>change</th></tr></thead>\n<tbody>\n{body}</tbody></table>"
    )
}

fn latencies(outcome: &Outcome) -> Vec<Row> {
    let [none, collage] = &outcome.runs;
    let (a, b) = (none.latency_ms, collage.latency_ms);
    let row = |name, a: f64, b: f64| Row::new(name, "", [ms(a), ms(b)]).changed(times(a, b));
    vec![
        row("Latency p50", a.p50, b.p50),
        row("Latency p90", a.p90, b.p90),
        row(HEADLINE, a.p99, b.p99),
        row("Latency p99.9", a.p999, b.p999),
        row("Latency max", a.max, b.max),
    ]
}

fn counts(outcome: &Outcome) -> Vec<Row> {
    let [none, collage] = &outcome.runs;
    let both = |figure: fn(&Run) -> String| [figure(none), figure(collage)];
    let own = collage
        .collage_accuracy
        .map_or("none given".into(), percent);
    vec![
        Row::new(
            "Accuracy",
            "right answers of all requests; one without answer counts as wrong",
            both(|run| percent(run.accuracy)),
        )
        .changed(points(collage.accuracy - none.accuracy)),
        Row::new(
            "Answered by the collage",
            "",
            both(|run| percent(run.collage_share)),
        ),
        Row::new(
            "Accuracy of the collage's answers",
            "",
            [String::new(), own],
        ),
        Row::new(
            "Collage abstained",
            "tiles that it was not sure of; those requests waited for their base worker",
            both(|run| run.abstained.to_string()),
        ),
        Row::new(
            "Not answered",
            "deadline exceeded, refused by a full queue, or failed",
            both(|run| (run.requests - run.answered).to_string()),
        ),
        Row::new(
            "Extra work",
            "multiply-accumulates of all collage runs over those of all base runs",
            ["0%".into(), percent(outcome.extra_work)],
        ),
    ]
}

/// How two latencies compare, in words that cannot be read the wrong way round.
fn times(none: f64, collage: f64) -> String {
    if none <= 0.0 || collage <= 0.0 {
        return String::new();
    }
    match none / collage {
        r if (0.95..1.05).contains(&r) => "about the same".into(),
        r if r >= 10.0 => format!("{r:.0}x shorter"),
        r if r > 1.0 => format!("{r:.1}x shorter"),
        r => format!("{:.1}x longer", 1.0 / r),
    }
}
