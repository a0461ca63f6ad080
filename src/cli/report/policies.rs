//! The page of `collage bench policies`: which policy bought what, and for how much. No figure is computed here that the
//! JSON does not hold.

use collage::sim::Latency;

use super::chart::{self, Curve, Line, Point};
use super::{escape, fill};
use crate::cli::bench::policies::outcome::{LATE, Outcome, Row};
use crate::cli::bench::policies::{show, verdict};
use crate::cli::text::{self, ms, percent, setting_ms, thousands};

const PAGE: &str = include_str!("policies/page.html");

/// What the cost on the frontier is.
const EXTRA: &str = "extra work: measured device time of backups over that of own runs";

/// The whole page.
pub fn html(outcome: &Outcome) -> String {
    let places = [
        ("style", super::style()),
        ("version", escape(outcome.version)),
        ("when", escape(&outcome.started)),
        ("title", title(outcome)),
        ("lede", lede(outcome)),
        ("frontier", frontiers(outcome)),
        ("curves", curves(outcome)),
        ("pairs", pairs(outcome)),
        ("releases", sweep(outcome)),
        ("tables", tables(outcome)),
        ("command", escape(&outcome.repeat)),
        ("facts_list", facts(outcome)),
    ];
    fill(PAGE, &places)
}

/// The charts by themselves: file names and their content.
pub fn charts(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let mut charts = vec![
        ("frontier.svg", frontier(outcome)),
        ("latency.svg", by_request(outcome)),
    ];
    let by_request = frontier_by_request(outcome);
    charts.extend(by_request.map(|chart| ("frontier-by-request.svg", chart)));
    charts.extend(releases(outcome).map(|chart| ("releases.svg", chart)));
    let alone = |(name, svg): (_, String)| (name, chart::standalone(&svg));
    charts.into_iter().map(alone).collect()
}

fn title(outcome: &Outcome) -> String {
    let (name, tails) = verdict::group_tail(&outcome.policies);
    let best = tails.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
    let Some((i, tail)) = best else {
        return "Policies".into();
    };
    let policy = escape(&outcome.policies[i].policy);
    format!("The shortest {name}: {policy}, {}", ms(*tail))
}

fn lede(outcome: &Outcome) -> String {
    let straggling = match outcome.injected.is_empty() {
        true => "No straggler was injected.".to_owned(),
        false => "Workers were made to straggle (<span class=\"injected\">injected</span>).".into(),
    };
    format!("{} {straggling}", escape(&outcome.headline))
}

/// By group, or by request where a group is one.
fn frontier(outcome: &Outcome) -> String {
    let per = if outcome.burst == 1 {
        "request"
    } else {
        "group"
    };
    frontier_of(outcome, per, |row| &row.group)
}

/// By request, where that is something else: the percentile may be higher, because there are more requests than groups.
fn frontier_by_request(outcome: &Outcome) -> Option<String> {
    (outcome.burst > 1).then(|| frontier_of(outcome, "request", |row| &row.request))
}

fn frontier_of(outcome: &Outcome, per: &str, of: fn(&Row) -> &Latency) -> String {
    let (name, tails) = verdict::tail(&outcome.policies, of);
    let points: Vec<Point<'_>> = outcome
        .policies
        .iter()
        .zip(tails)
        .map(|(row, tail)| Point {
            name: &row.policy,
            extra: row.extra.time,
            tail,
        })
        .collect();
    chart::frontier(&points, &format!("{name} by {per}"), EXTRA)
}

/// Both charts.
fn frontiers(outcome: &Outcome) -> String {
    let charts = std::iter::once(frontier(outcome)).chain(frontier_by_request(outcome));
    charts.map(|svg| figure(&svg)).collect()
}

fn by_request(outcome: &Outcome) -> String {
    chart::percentiles(&drawn(outcome, |row| &row.waits.request), "requests")
}

fn drawn(outcome: &Outcome, of: impl Fn(&Row) -> &Vec<u64>) -> Vec<Curve<'_>> {
    let mut curves = Vec::new();
    for row in &outcome.policies {
        curves.push(Curve {
            name: &row.policy,
            waits: of(row),
        });
    }
    curves
}

/// By request and, where groups are more than that, by group.
fn curves(outcome: &Outcome) -> String {
    let mut html = figure(&by_request(outcome));
    if outcome.burst > 1 {
        let groups = chart::percentiles(&drawn(outcome, |row| &row.waits.group), "groups");
        html += &format!(
            "<p class=\"soft\">The same of the last answer of each group of {}.</p>\n{}",
            outcome.burst,
            figure(&groups)
        );
    }
    html
}

fn figure(svg: &str) -> String {
    format!("<figure class=\"chart scroll\">\n{svg}\n</figure>\n")
}

fn pairs(outcome: &Outcome) -> String {
    if outcome.equal_work.is_empty() {
        return "<p class=\"soft\">Not compared: that takes a policy with collages and <code>small</code> beside it.</p>".into();
    }
    let heading = [
        "policy",
        "extra MACs",
        "extra time",
        "p99 by request",
        "p99 by group",
        "by backups",
        "of those right",
    ];
    let cells = |name: &String| -> Option<Vec<String>> {
        let row = outcome.policies.iter().find(|row| row.policy == *name)?;
        let maybe = |value: Option<f64>| value.map_or("-".to_owned(), ms);
        let backups = row.on_time - row.sources.get("base").map_or(0.0, |base| base.share);
        Some(vec![
            name.clone(),
            percent(row.extra.macs),
            percent(row.extra.time),
            maybe(row.request.p99),
            maybe(row.group.p99),
            percent(backups),
            row.accuracy.backup.map_or("-".to_owned(), percent),
        ])
    };
    let pair = |pair: &crate::cli::bench::policies::outcome::Pair| {
        let mut rows = vec![heading.map(String::from).to_vec()];
        rows.extend([&pair.collage, &pair.small].into_iter().filter_map(cells));
        format!("{}<p>{}</p>\n", table(&rows), escape(&pair.verdict))
    };
    outcome.equal_work.iter().map(pair).collect()
}

/// The chart, if release times were swept.
fn releases(outcome: &Outcome) -> Option<String> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for release in &outcome.releases {
        let point = (release.release_ms, release.accuracy.all);
        match lines.iter_mut().find(|line| line.name == release.policy) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                series: outcome
                    .policies
                    .iter()
                    .position(|row| row.policy == release.policy)
                    .unwrap_or(0),
                name: &release.policy,
                points: vec![point],
            }),
        }
    }
    let none = outcome.policies.iter().find(|row| row.policy == "none");
    let none = none.map(|row| row.accuracy.all);
    (!lines.is_empty()).then(|| chart::releases(&lines, none))
}

fn sweep(outcome: &Outcome) -> String {
    let Some(svg) = releases(outcome) else {
        return String::new();
    };
    format!(
        "<h2>Accuracy against release time</h2>\n<p class=\"soft\">The earlier a collage may answer, the more answers are \
         its own. One round at each release time. Dotted: without redundancy.</p>\n{}",
        figure(&svg)
    )
}

fn tables(outcome: &Outcome) -> String {
    let one = |found: show::Table| {
        format!(
            "<h3>{}</h3>\n<p class=\"soft\">{}</p>\n{}",
            escape(&show::capital(found.title)),
            escape(&found.note),
            table(&found.rows)
        )
    };
    show::tables(outcome).into_iter().map(one).collect()
}

/// The first row is the heading.
fn table(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>, tag: &str| {
        let cells = row
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let (heading, body) = rows.split_at(rows.len().min(1));
    let heading: String = heading.iter().map(|row| line(row, "th")).collect();
    let body: String = body.iter().map(|row| line(row, "td")).collect();
    format!(
        "<div class=\"scroll\"><table><thead>{heading}</thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )
}

fn facts(outcome: &Outcome) -> String {
    let load = match (outcome.rate, outcome.closed) {
        (Some(rate), _) => format!("{rate} a second, an open loop with Poisson arrivals"),
        (None, closed) => format!("a closed loop of {} groups at a time", closed.unwrap_or(1)),
    };
    let late = outcome.policies.iter().filter_map(|row| row.dispatch);
    let latest = late.clone().map(|d| d.max_ms).fold(0.0, f64::max);
    let share = late.map(|d| d.late_share).fold(0.0, f64::max);
    let facts = [
        ("version", format!("collage {}", outcome.version)),
        ("device", outcome.device.clone()),
        (
            "workers",
            format!(
                "{} base, {} collage",
                outcome.workers, outcome.collage_workers
            ),
        ),
        ("stragglers (injected)", show::injected(outcome)),
        (
            "requests",
            format!(
                "{} of each policy in groups of {}, in {} rounds; before each, {} groups that are counted apart",
                thousands(outcome.requests as u64),
                outcome.burst,
                outcome.rounds,
                outcome.warm_up
            ),
        ),
        ("load", load),
        (
            "images",
            format!("{} of {}", thousands(outcome.images as u64), outcome.data),
        ),
        (
            "release, deadline",
            format!(
                "{}, {} after a request was due",
                setting_ms(outcome.release_ms),
                setting_ms(outcome.deadline_ms)
            ),
        ),
        ("seed", outcome.seed.to_string()),
        (
            "the machine's own noise",
            format!(
                "at most {} of a policy's requests were sent more than {} late, the latest by {}",
                percent(share),
                text::setting_ms(LATE.as_secs_f64() * 1e3),
                ms(latest)
            ),
        ),
    ];
    facts
        .iter()
        .map(|(name, text)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(text)))
        .collect()
}

#[cfg(test)]
mod tests;
