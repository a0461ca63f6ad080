//! Figures against values that were worked out by hand, and sentences from figures.

use std::time::{Duration, SystemTime};

use collage::engine::{Policy, Source};

use super::super::turn::{End, Sample, Turn, Work};
use super::super::{hlog, show, verdict};
use super::*;

fn right(source: Source) -> End {
    let right = true;
    End::Answered { source, right }
}

fn sample(due_ms: u64, late_us: u64, waited_ms: u64, end: End) -> Sample {
    Sample {
        due: Duration::from_millis(due_ms),
        late: Duration::from_micros(late_us),
        waited: Duration::from_millis(waited_ms),
        end,
    }
}

fn turn(counted: Vec<Sample>, work: Work) -> Turn {
    Turn {
        began: Duration::from_secs(3),
        took: Duration::from_secs(2),
        warm_up: vec![sample(0, 0, 9, End::Failed)],
        counted,
        work,
    }
}

/// Six requests in groups of three, in two turns.
fn six() -> [Turn; 2] {
    let work = Work {
        base_busy: Duration::from_millis(40),
        backup_busy: Duration::from_millis(6),
        injected: Duration::from_millis(100),
        base_images: 3,
        copy_images: 1,
        probe_runs: 1,
        collage_runs: 2,
        collages_saved: 1,
        abstained: 1,
        late: 2,
        events: 20,
        scheduling: Duration::from_micros(300),
    };
    let wrong = End::Answered {
        source: Source::Collage,
        right: false,
    };
    let first = vec![
        sample(500, 100, 10, right(Source::Base)),
        sample(500, 1_000, 30, right(Source::Collage)),
        sample(500, 1_001, 20, wrong),
    ];
    let second = vec![
        sample(1_000, 0, 10, right(Source::Base)),
        sample(1_000, 0, 40, right(Source::Copy)),
        sample(1_000, 5_000, 2_000, End::DeadlineExceeded),
    ];
    [turn(first, work), turn(second, work)]
}

#[test]
fn figures_of_six_requests_are_those_worked_out_by_hand() {
    let turns = six();
    let row = Row::new("collage:3x3".into(), &turns, 3, 0.75).scheduled(&turns);
    assert_eq!((row.request.count, row.group.count), (6, 2));
    // Waits 10, 10, 20, 30, 40, 2000; the last of each group 30 and 2000.
    assert_eq!((row.request.max, row.group.max), (2_000.0, 2_000.0));
    assert!((row.request.mean - 2_110.0 / 6.0).abs() < 1e-9);
    assert!((row.group.mean - 1_015.0).abs() < 1e-9 && (row.group.sd - 985.0).abs() < 1e-9);
    assert_eq!((row.request.p50, row.request.p999), (None, None));
    assert_eq!(row.waits.group, [30_000, 2_000_000]);
    let ends = (
        row.answered,
        row.deadline_exceeded,
        row.overloaded,
        row.failed,
    );
    assert_eq!(ends, (5, 1, 0, 0));
    assert!((row.on_time - 5.0 / 6.0).abs() < 1e-12);
    let collage = row.sources["collage"];
    assert_eq!(
        (collage.answers, collage.correct, collage.accuracy),
        (2, 1, Some(0.5))
    );
    assert!((collage.share - 2.0 / 6.0).abs() < 1e-12);
    assert_eq!(row.sources["copy"].answers, 1);
    // Two of two direct, two of three backups, four of six in all.
    assert_eq!(row.accuracy.direct, Some(1.0));
    assert!((row.accuracy.backup.unwrap() - 2.0 / 3.0).abs() < 1e-12);
    assert!((row.accuracy.all - 4.0 / 6.0).abs() < 1e-12);
    // 12 ms over 80 ms; 2 copies, 2 probes and 4 collages of 0.75 over 6 images.
    assert!((row.extra.time - 0.15).abs() < 1e-12);
    assert!((row.extra.macs - 7.0 / 6.0).abs() < 1e-12);
    assert_eq!((row.injected_ms, row.abstained, row.late), (200.0, 2, 4));
    assert!((row.scheduler.us_per_event - 15.0).abs() < 1e-9);
    assert!((row.scheduler.us_per_request - 100.0).abs() < 1e-9);
    // Six requests over schedules of 0.5 and 1 s, five answers in twice 2 s.
    assert!((row.offered_rate.unwrap() - 4.0).abs() < 1e-9);
    assert!((row.achieved_rate - 1.25).abs() < 1e-9);
    let dispatch = row.dispatch.unwrap();
    assert_eq!(dispatch.late, 2, "exactly a millisecond is in time");
    assert_eq!((dispatch.p50_ms, dispatch.max_ms), (0.1, 5.0));
    assert_eq!((row.warm_up.requests, row.warm_up.answered), (2, 0));
}

/// A policy whose requests waited `fast`, and one in `slow_in` of them `slow`, with so much backup time a request.
fn policy(name: &str, [fast, slow]: [u64; 2], slow_in: u64, backup_us: u64) -> (Policy, Row) {
    let one = |i: u64| {
        let waited = if i.is_multiple_of(slow_in) {
            slow
        } else {
            fast
        };
        sample(i * 10, 10, waited, right(Source::Base))
    };
    let counted: Vec<Sample> = (0..1_000).map(one).collect();
    let work = Work {
        base_busy: Duration::from_millis(500),
        backup_busy: Duration::from_micros(backup_us * 1_000),
        base_images: 1_000,
        collage_runs: 100,
        ..Work::default()
    };
    let turns = [turn(counted, work)];
    let row = Row::new(name.into(), &turns, 1, 1.0).scheduled(&turns);
    (name.parse().unwrap(), row)
}

/// Three policies, of which `small` is as good as the collage at twice its time.
pub fn outcome() -> Outcome {
    let (policies, rows): (Vec<Policy>, Vec<Row>) = [
        policy("none", [5, 200], 50, 0),
        policy("collage:3x3", [5, 20], 50, 50),
        policy("small", [5, 20], 50, 100),
    ]
    .into_iter()
    .unzip();
    let release = |ms: u64| {
        Release::new(
            Duration::from_millis(ms),
            policy("collage:3x3", [5, 20], 50, 50).1,
        )
    };
    let mut outcome = Outcome {
        bench: "policies",
        headline: String::new(),
        device: "cpu \"<one>\" & two".into(),
        version: "0.1.0",
        started: "2026-01-01 00:00 UTC".into(),
        repeat: "collage bench policies --seed 7".into(),
        seed: 7,
        data: "digits".into(),
        images: 450,
        requests: 1_000,
        burst: 1,
        rounds: 1,
        warm_up: 1,
        rate: Some(100.0),
        closed: None,
        workers: 4,
        collage_workers: 0,
        release_ms: 20.0,
        deadline_ms: 2_000.0,
        injected: vec!["pause:0:200:0.02".into()],
        policies: rows,
        equal_work: Vec::new(),
        releases: vec![release(5), release(20)],
    };
    verdict::judge(&mut outcome, &policies);
    outcome
}

#[test]
fn the_sentences_say_what_the_figures_say() {
    let outcome = outcome();
    let headline = &outcome.headline;
    assert!(
        headline.starts_with("p99 by request was shortest with collage:3x3: 20.0 ms, for 10.00%"),
        "{headline}"
    );
    assert!(
        headline.contains("Without redundancy: 200 ms"),
        "{headline}"
    );
    let [pair] = &outcome.equal_work[..] else {
        panic!("one pair");
    };
    for part in [
        "At equal extra work (10.00%",
        "1/2.0 of the device time of small",
        "the same p99",
    ] {
        assert!(pair.verdict.contains(part), "{part} in {}", pair.verdict);
    }
}

#[test]
fn a_percentile_that_would_be_luck_is_a_dash_with_its_reason() {
    let text = show::text(&outcome());
    let none = text.lines().find(|line| line.starts_with("none")).unwrap();
    let cells: Vec<&str> = none.split_whitespace().collect();
    // p50, p90, p95, p99 and no p99.9 of a thousand.
    assert_eq!(cells[1..6], ["5.00", "5.00", "5.00", "200", "-"]);
    assert!(text.contains("fewer than ten samples"));
    let markdown = show::markdown(&outcome());
    assert!(
        markdown.contains("| none | 5.00 | 5.00 | 5.00 | 200 | - |"),
        "{markdown}"
    );
    assert!(markdown.contains("injected: pause:0:200:0.02"));
}

#[test]
fn a_log_holds_an_interval_a_second_and_says_what_it_counts_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(hlog::name("collage:3x3"));
    assert!(path.ends_with("collage-3x3.hlog"));
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    hlog::write(&path, "collage:3x3", began, &six()).unwrap();
    let log = std::fs::read_to_string(&path).unwrap();
    let (comments, intervals): (Vec<&str>, Vec<&str>) =
        log.lines().partition(|line| line.starts_with('#'));
    assert!(
        comments[0].contains("Histogram log format version 1.3"),
        "{log}"
    );
    assert!(
        comments.contains(&"#[BaseTime: 1000.000 (seconds since epoch)]"),
        "{log}"
    );
    // Due at 0.5 s of one turn and at 1 s of the other, both turns 3 s after the start; maxima in milliseconds.
    assert_eq!(intervals.len(), 2);
    assert!(
        intervals[0].starts_with("3.000,1.000,30.") && intervals[0].contains(",HISTFAAA"),
        "{log}"
    );
    assert!(intervals[1].starts_with("4.000,1.000,200"), "{log}");
}
