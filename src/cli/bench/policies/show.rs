//! The figures as tables: for a terminal, for Markdown and for the report.

use collage::sim::Latency;

use super::outcome::{Outcome, Row};
use crate::cli::text::{self, percent, points, thousands};

/// A title, what needs saying about it, and rows of which the first is the heading; the first column is text.
pub struct Table {
    /// In a few words.
    pub title: &'static str,
    /// In a sentence.
    pub note: String,
    /// As many cells in each.
    pub rows: Vec<Vec<String>>,
}

/// Why there may be a dash in place of a percentile.
const DASH: &str = "A dash: fewer than ten samples lie beyond that percentile, it would be luck.";

/// All of them.
pub fn tables(outcome: &Outcome) -> Vec<Table> {
    let policies = &outcome.policies;
    let mut tables = vec![
        Table {
            title: "by request",
            note: format!(
                "Milliseconds from when a request was due to its answer; one without an answer counts with its deadline. {DASH}"
            ),
            rows: latencies(policies, |row| &row.request),
        },
        Table {
            title: "by group",
            note: format!(
                "Of the last answer of each group of {}. {DASH}",
                outcome.burst
            ),
            rows: latencies(policies, |row| &row.group),
        },
        answers(policies),
        work(policies),
        load(policies),
    ];
    if outcome.burst == 1 {
        tables.remove(1); // a group is a request
    }
    if !outcome.releases.is_empty() {
        tables.push(releases(outcome));
    }
    tables
}

fn latencies(policies: &[Row], of: impl Fn(&Row) -> &Latency) -> Vec<Vec<String>> {
    let heading = [
        "policy", "p50", "p90", "p95", "p99", "p99.9", "max", "mean", "sd",
    ];
    let row = |row: &Row| {
        let l = of(row);
        let cells = [l.p50, l.p90, l.p95, l.p99, l.p999].map(maybe);
        let rest = [l.max, l.mean, l.sd].map(figure);
        [vec![row.policy.clone()], cells.into(), rest.into()].concat()
    };
    headed(&heading, policies.iter().map(row))
}

fn answers(policies: &[Row]) -> Table {
    let mut names: Vec<&String> = policies.iter().flat_map(|row| row.sources.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let by = names.iter().map(|name| format!("by {name}"));
    let mut heading = vec!["policy".to_owned(), "on time".to_owned()];
    heading.extend(by);
    heading.extend(["right", "of own", "of backups"].map(String::from));
    let row = |row: &Row| {
        let share = |name: &&String| row.sources.get(*name).map_or(0.0, |share| share.share);
        let right = |share: Option<f64>| share.map_or("-".to_owned(), percent);
        let mut cells = vec![row.policy.clone(), percent(row.on_time)];
        cells.extend(names.iter().map(share).map(percent));
        cells.extend([
            percent(row.accuracy.all),
            right(row.accuracy.direct),
            right(row.accuracy.backup),
        ]);
        cells
    };
    let mut rows = vec![heading];
    rows.extend(policies.iter().map(row));
    Table {
        title: "answers",
        note: "On time: answered by the deadline. Right: of all requests, one without an answer counts as wrong; of the \
               answers by requests' own base runs; of all other answers."
            .into(),
        rows,
    }
}

fn work(policies: &[Row]) -> Table {
    let heading = [
        "policy",
        "extra time",
        "extra MACs",
        "base ms",
        "backup ms",
        "copies",
        "collages",
        "left out",
        "probes",
        "injected ms",
    ];
    let row = |row: &Row| {
        let extra = &row.extra;
        vec![
            row.policy.clone(),
            percent(extra.time),
            percent(extra.macs),
            format!("{:.0}", extra.base_ms),
            format!("{:.0}", extra.backup_ms),
            thousands(extra.copy_images),
            thousands(extra.collage_runs),
            thousands(extra.collages_saved),
            thousands(extra.probe_runs),
            format!("{:.0}", row.injected_ms),
        ]
    };
    Table {
        title: "extra work",
        note: "Measured time of backups on the devices over that of requests' own base runs, injected delays excluded; and \
               the same by multiply-accumulates. Copies are replicas, hedges and re-sent requests; collages include small \
               runs, and are left out when all their requests were answered before; probes watch a straggler."
            .into(),
        rows: headed(&heading, policies.iter().map(row)),
    }
}

fn load(policies: &[Row]) -> Table {
    let heading = [
        "policy",
        "offered/s",
        "achieved/s",
        "sent late",
        "late p50",
        "late p99",
        "late max",
        "us an event",
        "us a request",
    ];
    let row = |row: &Row| {
        let dispatch = row.dispatch;
        let late = |of: fn(&super::outcome::Dispatch) -> f64| maybe(dispatch.as_ref().map(of));
        vec![
            row.policy.clone(),
            row.offered_rate
                .map_or("-".to_owned(), |rate| format!("{rate:.1}")),
            format!("{:.1}", row.achieved_rate),
            dispatch.map_or("-".to_owned(), |d| percent(d.late_share)),
            late(|d| d.p50_ms),
            late(|d| d.p99_ms),
            late(|d| d.max_ms),
            format!("{:.1}", row.scheduler.us_per_event),
            format!("{:.1}", row.scheduler.us_per_request),
        ]
    };
    Table {
        title: "load and overhead",
        note: "Sent late: more than a millisecond after a request was due; its latency counts from when it was due all the \
               same. Then the time that scheduling took, on whichever thread, for each submission, report of a worker or timeout, \
               and for each request."
            .into(),
        rows: headed(&heading, policies.iter().map(row)),
    }
}

fn releases(outcome: &Outcome) -> Table {
    let heading = [
        "policy",
        "release",
        "p50",
        "p99",
        "p99.9",
        "by backups",
        "right",
        "change",
        "of backups",
    ];
    let none = outcome.policies.iter().find(|row| row.policy == "none");
    let row = |release: &super::outcome::Release| {
        let l = &release.request;
        let change = none.map(|none| release.accuracy.all - none.accuracy.all);
        vec![
            release.policy.clone(),
            figure(release.release_ms),
            maybe(l.p50),
            maybe(l.p99),
            maybe(l.p999),
            percent(release.backup_share),
            percent(release.accuracy.all),
            change.map_or("-".to_owned(), points),
            release.accuracy.backup.map_or("-".to_owned(), percent),
        ]
    };
    Table {
        title: "release times",
        note: format!("By request, one round each. The change is against `none` above. {DASH}"),
        rows: headed(&heading, outcome.releases.iter().map(row)),
    }
}

fn headed(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
    std::iter::once(heading).chain(rows).collect()
}

/// Milliseconds: three digits are what a histogram's reader would see.
fn figure(ms: f64) -> String {
    match ms {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn maybe(ms: Option<f64>) -> String {
    ms.map_or("-".to_owned(), figure)
}

/// For a terminal.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    for table in tables(outcome) {
        text += &format!("{}\n", text::table(&titled(&table), 1));
        text += &format!("{}\n\n", table.note);
    }
    for sentence in sentences(outcome) {
        text += &format!("{sentence}\n");
    }
    text
}

/// For a repository.
pub fn markdown(outcome: &Outcome) -> String {
    let mut text = format!(
        "# Policies, {}\n\n{}, collage {}; every straggler is injected: {}.\n\n```sh\n{}\n```\n",
        outcome.started,
        outcome.device,
        outcome.version,
        injected(outcome),
        outcome.repeat
    );
    for sentence in sentences(outcome) {
        text += &format!("\n{sentence}\n");
    }
    for table in tables(outcome) {
        let line = |row: &[String]| format!("| {} |\n", row.join(" | "));
        let rows = titled(&table);
        let (heading, body) = rows.split_at(1);
        text += &format!("\n## {}\n\n{}\n\n", capital(table.title), table.note);
        text += &heading.iter().map(|row| line(row)).collect::<String>();
        text += &format!("|---{}|\n", "|---:".repeat(heading[0].len() - 1));
        text += &body.iter().map(|row| line(row)).collect::<String>();
    }
    text
}

/// The stragglers, or that there are none.
pub fn injected(outcome: &Outcome) -> String {
    match outcome.injected.is_empty() {
        true => "none".to_owned(),
        false => outcome.injected.join(", "),
    }
}

/// What the figures say in words.
pub fn sentences(outcome: &Outcome) -> Vec<String> {
    let pairs = outcome.equal_work.iter().map(|pair| pair.verdict.clone());
    std::iter::once(outcome.headline.clone())
        .chain(pairs)
        .collect()
}

/// The title stands above the policies' names.
fn titled(table: &Table) -> Vec<Vec<String>> {
    let mut rows = table.rows.clone();
    if let Some(cell) = rows.first_mut().and_then(|heading| heading.first_mut()) {
        *cell = table.title.to_owned();
    }
    rows
}

/// With a capital letter.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
