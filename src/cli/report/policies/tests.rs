//! The page says what the figures say, and needs nothing beside it.

use super::*;
use crate::cli::bench::policies::outcome::tests::outcome;

#[test]
fn the_page_is_whole_and_needs_nothing_beside_it() {
    let page = html(&outcome());
    assert!(
        !page.contains("{{") && !page.contains("}}"),
        "a place was left open"
    );
    for outside in [
        "http:", "https:", "src=\"/", "url(", "@import", "<script", "<link",
    ] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
    for tag in [
        "div", "svg", "table", "figure", "tr", "td", "th", "dl", "p", "text", "h2", "h3",
    ] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(
            opened,
            page.matches(&format!("</{tag}>")).count(),
            "<{tag}> opened and closed"
        );
    }
    // The frontier, latency by request, accuracy by release; a group is one request here.
    assert_eq!(page.matches("<svg").count(), 3);
    let mut outcome = outcome();
    outcome.burst = 9;
    assert_eq!(
        html(&outcome).matches("<svg").count(),
        5,
        "the first two by group too"
    );
}

#[test]
fn the_page_says_what_was_found_and_that_straggling_was_injected() {
    let outcome = outcome();
    let page = html(&outcome);
    for text in [
        "injected",
        "pause:0:200:0.02",
        "--seed 7",
        "collage:3x3",
        "fewer than ten samples",
        "20.0 ms at 10.00%",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains(&escape(&outcome.equal_work[0].verdict)));
    assert!(page.contains("cpu &quot;&lt;one&gt;&quot; &amp; two") && !page.contains("<one>"));
}

#[test]
fn without_a_rival_or_a_sweep_the_page_says_so_or_says_nothing() {
    let mut outcome = outcome();
    outcome.policies.truncate(1);
    outcome.equal_work.clear();
    outcome.releases.clear();
    let page = html(&outcome);
    assert!(page.contains("Not compared") && !page.contains("Accuracy against release time"));
    let names: Vec<&str> = charts(&outcome).iter().map(|chart| chart.0).collect();
    assert_eq!(names, ["frontier.svg", "latency.svg"]);
}
