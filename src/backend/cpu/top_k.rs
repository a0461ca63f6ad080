//! Specification of `top_k`: softmax with a temperature, then the k best of each row.

use std::cmp::Ordering;

use crate::backend::Scored;
use crate::model::plan::TopK;

/// Rows of `classes` logits to rows of k results, best first; the lower class first among equals.
///
/// A logit that is not a number ranks last, and a score that would not be a number (a network that overflowed) is 0,
/// so that it never passes a confidence threshold.
pub fn top_k(t: &TopK, logits: &[f32], classes: usize) -> Vec<Vec<Scored>> {
    logits
        .chunks_exact(classes)
        .map(|row| best(t.k, t.temperature, row))
        .collect()
}

/// One row.
pub fn best(k: usize, temperature: f32, row: &[f32]) -> Vec<Scored> {
    let rank = |class: &u32| {
        let logit = row[*class as usize];
        if logit.is_nan() {
            f32::NEG_INFINITY
        } else {
            logit
        }
    };
    let mut classes: Vec<u32> = (0..row.len() as u32).collect();
    let order = |a: &u32, b: &u32| {
        rank(b)
            .partial_cmp(&rank(a))
            .unwrap_or(Ordering::Equal)
            .then(a.cmp(b))
    };
    if k < classes.len() {
        classes.select_nth_unstable_by(k - 1, order);
        classes.truncate(k);
    }
    classes.sort_unstable_by(order);

    // exp(x - max) cannot overflow. f64, so that a thousand small terms lose nothing.
    let max = rank(&classes[0]);
    let weight = |logit: f32| (f64::from(logit - max) / f64::from(temperature)).exp();
    let sum: f64 = row.iter().map(|&x| weight(x)).sum();
    let score = |class: &u32| {
        let score = (weight(row[*class as usize]) / sum) as f32;
        if score.is_nan() { 0.0 } else { score }
    };
    classes
        .iter()
        .map(|class| Scored {
            class: *class,
            score: score(class),
        })
        .collect()
}
