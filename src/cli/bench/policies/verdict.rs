//! What the figures say in a sentence, whichever way they came out.

use collage::engine::Policy;
use collage::sim::Latency;

use super::outcome::{Outcome, Pair, Row};
use crate::cli::text::{ms, percent, thousands};

/// Two figures closer than this are the same: a share of the larger.
const SAME: f64 = 0.05;

/// The highest percentile that all policies have, of these latencies of theirs.
pub fn tail(rows: &[Row], of: fn(&Row) -> &Latency) -> (&'static str, Vec<f64>) {
    let all = |figure: fn(&Latency) -> Option<f64>| {
        let figures = rows.iter().map(|row| figure(of(row)));
        figures.collect::<Option<Vec<_>>>()
    };
    let p999 = all(|latency| latency.p999).map(|values| ("p99.9", values));
    let p99 = || all(|latency| latency.p99).map(|values| ("p99", values));
    let p90 = || all(|latency| latency.p90).map(|values| ("p90", values));
    let max = || ("maximum", rows.iter().map(|row| of(row).max).collect());
    p999.or_else(p99).or_else(p90).unwrap_or_else(max)
}

/// By group: callers wait for the last answer. A group may be one request.
pub fn group_tail(rows: &[Row]) -> (&'static str, Vec<f64>) {
    tail(rows, |row| &row.group)
}

/// What the shortest tail cost, and what it is without redundancy.
pub fn headline(rows: &[Row], burst: usize) -> String {
    let (name, tails) = group_tail(rows);
    let per = if burst == 1 { "request" } else { "group" };
    let best = tails.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
    let Some((best, row)) = best.and_then(|(i, _)| Some((i, rows.get(i)?))) else {
        return String::new();
    };
    let shortest = format!(
        "{name} by {per} was shortest with {}: {}, for {} of extra device time; {} of its answers were right",
        row.policy,
        ms(tails[best]),
        percent(row.extra.time),
        percent(row.accuracy.all),
    );
    match rows.iter().position(|row| row.policy == "none") {
        Some(none) if none != best => format!(
            "{shortest}. Without redundancy: {} and {}.",
            ms(tails[none]),
            percent(rows[none].accuracy.all)
        ),
        _ => format!("{shortest}."),
    }
}

/// Each policy with a collage beside the `small` one that backs up the same requests.
pub fn pairs(policies: &[Policy], rows: &[Row]) -> Vec<Pair> {
    let (name, tails) = group_tail(rows);
    let at = |wanted: fn(&Policy) -> bool| {
        policies
            .iter()
            .enumerate()
            .filter(move |(_, policy)| wanted(policy))
    };
    let mut pairs = Vec::new();
    for (c, collage) in at(|policy| matches!(policy, Policy::Collage { .. })) {
        let same = |small: &Policy| small.lazy().is_some() == collage.lazy().is_some();
        let small = at(|policy| matches!(policy, Policy::Small { .. })).find(|(_, s)| same(s));
        let Some((s, _)) = small else {
            continue;
        };
        let (a, b) = (&rows[c], &rows[s]);
        pairs.push(Pair {
            collage: a.policy.clone(),
            small: b.policy.clone(),
            verdict: verdict([a, b], name, [tails[c], tails[s]]),
        });
    }
    pairs
}

/// The work first, because the comparison means nothing without it; then time, tail and accuracy.
fn verdict([collage, small]: [&Row; 2], name: &str, [a, b]: [f64; 2]) -> String {
    let (macs_a, macs_b) = (collage.extra.macs, small.extra.macs);
    let work = match compare(macs_a, macs_b) {
        Compared::Same => format!(
            "At equal extra work ({} of the multiply-accumulates)",
            percent(macs_b)
        ),
        _ => format!(
            "Extra work was not equal: {} of the multiply-accumulates with {}, {} with {} ({}). There",
            percent(macs_a),
            collage.policy,
            percent(macs_b),
            small.policy,
            saved(small),
        ),
    };
    let (time_a, time_b) = (collage.extra.time, small.extra.time);
    let time = match compare(time_a, time_b) {
        Compared::Same => "took the same device time".to_owned(),
        Compared::Less(times) => format!("took 1/{times:.1} of the device time"),
        Compared::More(times) => format!("took {times:.1} times the device time"),
    };
    let tail = match compare(a, b) {
        Compared::Same => format!("the same {name}"),
        Compared::Less(times) => format!("a {name} {times:.2} times shorter"),
        Compared::More(times) => format!("a {name} {times:.2} times longer"),
    };
    let right = |row: &Row| row.accuracy.backup.map_or("none given".to_owned(), percent);
    format!(
        "{work}, {} {time} of {} ({} against {}) and had {tail} ({} against {}); of the answers of backups {} were right, \
         against {}.",
        collage.policy,
        small.policy,
        percent(time_a),
        percent(time_b),
        ms(a),
        ms(b),
        right(collage),
        right(small),
    )
}

/// Why small runs may do less work: each goes away with its one request, a collage only with all of them.
fn saved(small: &Row) -> String {
    let extra = &small.extra;
    format!(
        "of {} small runs that were due {} were left out, because their requests had been answered",
        thousands(extra.collage_runs + extra.collages_saved),
        thousands(extra.collages_saved),
    )
}

/// How the first of two figures compares with the second.
#[derive(Debug, PartialEq)]
enum Compared {
    /// As far as such figures can be told apart.
    Same,
    /// So many times smaller.
    Less(f64),
    /// So many times larger.
    More(f64),
}

fn compare(a: f64, b: f64) -> Compared {
    if (a - b).abs() <= SAME * a.max(b) {
        Compared::Same
    } else if a < b {
        Compared::Less(b / a.max(f64::MIN_POSITIVE))
    } else {
        Compared::More(a / b.max(f64::MIN_POSITIVE))
    }
}

/// What all sentences are made from.
pub fn judge(outcome: &mut Outcome, policies: &[Policy]) {
    outcome.headline = headline(&outcome.policies, outcome.burst);
    outcome.equal_work = pairs(policies, &outcome.policies);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_the_right_way_round() {
        assert_eq!(compare(1.0, 1.04), Compared::Same);
        assert_eq!(compare(0.0, 0.0), Compared::Same);
        assert_eq!(compare(1.0, 2.0), Compared::Less(2.0));
        assert_eq!(compare(3.0, 2.0), Compared::More(1.5));
    }
}
