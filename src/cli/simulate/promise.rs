//! The table of promises: one row a policy.

use collage::sim::{Promise, Promises};

use crate::cli::text::table;

/// `None` where nothing was promised.
pub fn text<'a>(promises: impl Iterator<Item = (&'a str, &'a Promises)>) -> Option<String> {
    let mut rows = vec![
        [
            "promises",
            "latency",
            "measured",
            "",
            "accuracy lost",
            "measured",
            "",
        ]
        .map(String::from),
    ];
    for (policy, of) in promises {
        if of.latency.is_none() && of.accuracy.is_none() {
            return None;
        }
        let [a, b, c] = cells(of.latency, |ms| format!("{ms:.1}"));
        let [d, e, f] = cells(of.accuracy, |share| format!("{:.3}%", share * 100.0));
        rows.push([policy.to_owned(), a, b, c, d, e, f]);
    }
    Some(table(&rows, 1))
}

fn cells(promise: Option<Promise>, show: impl Fn(f64) -> String) -> [String; 3] {
    match promise {
        None => ["-", "-", "-"].map(String::from),
        Some(p) => [
            show(p.promised),
            show(p.measured),
            if p.kept { "kept" } else { "broken" }.to_owned(),
        ],
    }
}
