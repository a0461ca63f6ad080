//! The page, written from an outcome whose every figure is known.

use hdrhistogram::Histogram;

use super::picture::{Guess, Picture, Tile};
use super::*;
use crate::cli::demo::outcome::{Alone, Percentiles, Promises, Worker};
use collage::image::Image;

fn run(policy: &'static str, slow_us: u64, by_collage: usize) -> Run {
    let mut histogram = Histogram::new(3).unwrap();
    // 10,000 requests: nine in ten fast, then a tail that reaches `slow_us`.
    for i in 0..10_000u64 {
        histogram
            .record(if i < 9_000 {
                900 + i / 30
            } else {
                1_200 + (slow_us - 1_200) * (i - 9_000) / 999
            })
            .unwrap();
    }
    Run {
        policy,
        requests: 10_000,
        answered: 10_000,
        correct: 9_850,
        accuracy: 0.985,
        by_collage,
        collage_share: by_collage as f64 / 1e4,
        collage_accuracy: (by_collage > 0).then_some(0.97),
        deadline_exceeded: 0,
        overloaded: 0,
        failed: 0,
        latency_ms: Percentiles::of(&histogram),
        generator_late_ms: Percentiles::of(&histogram),
        abstained: 3,
        late: 600,
        base_images: 10_000,
        collage_runs: 1_112,
        promises: Promises::default(),
        workers: [2_400, 2_600, 1_112].map(worker).into(),
        seconds: 20.0,
        histogram,
    }
}

fn worker(runs: u64) -> Worker {
    Worker {
        role: "base",
        runs,
        images: runs + 7,
        injected_runs: 0,
        run_p50_ms: 0.5,
    }
}

fn outcome() -> Outcome {
    let runs = [run("none", 150_000, 0), run("collage", 14_000, 640)];
    Outcome {
        headline: Outcome::headline(&runs),
        device: "cpu \"<one>\" & two".into(),
        repeat: "collage demo --seed 7".into(),
        version: "0.1.0",
        started: "2026-01-01 00:00 UTC".into(),
        seed: 7,
        images: 450,
        requests: 10_000,
        rate: 500.0,
        burst: 9,
        base_workers: 4,
        collage_workers: 1,
        grid: "2x2".into(),
        release_ms: 8.0,
        deadline_ms: 1000.0,
        objective: None,
        injected: vec!["pause:0:150:0.05".into()],
        extra_work: 0.21,
        min_confidence: 0.5,
        alone: Alone {
            base: 0.987,
            collage: 0.975,
        },
        runs,
    }
}

fn pictures() -> Vec<Picture> {
    let image = |side: usize| Image::from_rgb(side, side, vec![128; side * side * 3]).unwrap();
    let guess = |class: &str, confidence| Guess {
        class: class.into(),
        confidence,
    };
    let tile = |base: &str, collage: &str, abstained| Tile {
        image: image(8),
        truth: "3".into(),
        base: guess(base, 0.999),
        collage: guess(collage, 0.62),
        abstained,
    };
    let tiles = vec![
        tile("3", "3", false),
        tile("5", "8", false),
        tile("3", "9", true),
    ];
    vec![Picture {
        grid: (2, 2),
        caption: "a < b".into(),
        canvas: image(32),
        tiles,
    }]
}

#[test]
fn the_page_is_whole_and_needs_nothing_beside_it() {
    let page = html(&outcome(), &pictures()).unwrap();
    assert!(
        !page.contains("{{") && !page.contains("}}"),
        "a place was left open"
    );
    let without_own_markers = page.replace("url(#", "");
    for outside in [
        "http:", "https:", "src=\"/", "url(", "@import", "<script", "<link",
    ] {
        assert!(
            !without_own_markers.contains(outside),
            "{outside} in the page"
        );
    }
    assert!(page.contains("data:image/png;base64,iVBOR"));
    for tag in [
        "div", "svg", "table", "figure", "tr", "td", "dl", "g", "p", "text",
    ] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(
            opened,
            page.matches(&format!("</{tag}>")).count(),
            "<{tag}> opened and closed"
        );
    }
}

#[test]
fn the_page_says_what_was_bought_and_that_the_straggler_was_injected() {
    let outcome = outcome();
    let page = html(&outcome, &[]).unwrap();
    let [none, collage] = &outcome.runs;
    for figure in [none.latency_ms, collage.latency_ms]
        .iter()
        .flat_map(|l| [l.p50, l.p90, l.p99, l.p999, l.max])
    {
        assert!(page.contains(&ms(figure)), "{}", ms(figure));
    }
    for text in [
        "injected",
        "pause:0:150:0.05",
        "6.40%",
        "98.50%",
        "97.00%",
        "--seed 7",
        "10,000",
        "450",
        "21.00%",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(
        outcome.headline.starts_with("p99 fell from "),
        "{}",
        outcome.headline
    );
}

#[test]
fn a_run_that_gained_nothing_is_not_praised() {
    let runs = [run("none", 14_000, 0), run("collage", 150_000, 1)];
    assert!(
        Outcome::headline(&runs).starts_with("p99 did not fall"),
        "{}",
        Outcome::headline(&runs)
    );
    let page = html(&Outcome { runs, ..outcome() }, &[]).unwrap();
    assert!(page.contains("p99 latency did not fall") && page.contains("x longer"));
}

#[test]
fn a_tile_shows_whether_it_is_right_wrong_abstained_or_blank() {
    let page = pictures()[0].html().unwrap();
    for class in ["is-right", "is-wrong", "is-abstained", "is-blank"] {
        assert_eq!(
            page.matches(&format!("answer {class}")).count(),
            1,
            "{class}"
        );
    }
    assert!(page.contains("a &lt; b"));
}

#[test]
fn what_is_filled_in_is_never_taken_for_a_place_or_for_markup() {
    assert_eq!(
        fill(
            "a {{x}} b {{y}}",
            &[("x", "{{y}}".into()), ("y", "<1>".into())]
        ),
        "a {{y}} b <1>"
    );
    let page = html(&outcome(), &[]).unwrap();
    assert!(page.contains("cpu &quot;&lt;one&gt;&quot; &amp; two") && !page.contains("<one>"));
}
