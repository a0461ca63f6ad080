//! When groups of requests arrive: a Poisson process that depends on its seed alone, so that every policy meets the same.

use std::time::Duration;

use crate::cli::shuffle::split_mix;

/// What the draws of one round are for; each has a sequence of its own.
#[derive(Clone, Copy)]
pub enum Draw {
    /// Arrivals of the counted groups.
    Counted,
    /// Arrivals of the warm-up's groups.
    WarmUp,
    /// The engine's: the luck of injected stragglers.
    Engine,
}

/// A seed for one purpose in one round.
pub fn seed(seed: u64, round: usize, draw: Draw) -> u64 {
    let mut state = seed ^ (round as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    state = split_mix(&mut state) ^ draw as u64;
    split_mix(&mut state)
}

/// Times after the start at which `groups` groups are due, so many a second on average: gaps are exponential, so that how
/// long the last one was ago says nothing about when the next one comes.
pub fn poisson(groups: usize, per_second: f64, seed: u64) -> Vec<Duration> {
    let mut state = seed;
    let mut at = 0.0;
    let due = |_| {
        // In (0, 1]: its logarithm is finite.
        let uniform = ((split_mix(&mut state) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        at -= uniform.ln() / per_second;
        Duration::from_secs_f64(at)
    };
    (0..groups).map(due).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_the_mean_and_the_variance_of_a_poisson_process() {
        let (groups, rate) = (100_000, 50.0);
        let due = poisson(groups, rate, 7);
        assert!(due.is_sorted());
        let gaps: Vec<f64> = due
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64() * rate)
            .collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n;
        // Exponential with mean 1: the variance is 1, and e^-1 of the gaps are longer than the mean. Over 100,000
        // draws the mean's own standard deviation is 0.003, the variance's 0.009.
        assert!((mean - 1.0).abs() < 0.015, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        let longer = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / n;
        assert!((longer - (-1f64).exp()).abs() < 0.01, "{longer}");
        // So are the counts in intervals of the length of ten gaps: mean and variance are both 10.
        let mut counts = vec![0.0f64; groups / 10];
        for at in &due {
            if let Some(count) = counts.get_mut((at.as_secs_f64() * rate / 10.0) as usize) {
                *count += 1.0;
            }
        }
        let counts = &counts[..counts.len() * 9 / 10]; // the last ones may lie beyond the last arrival
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let spread = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        assert!(
            (mean - 10.0).abs() < 0.2 && (spread - 10.0).abs() < 0.7,
            "{mean} {spread}"
        );
    }

    #[test]
    fn arrivals_depend_on_their_seed_alone_and_each_draw_has_its_own() {
        assert_eq!(poisson(50, 3.0, 1), poisson(50, 3.0, 1));
        assert_ne!(poisson(50, 3.0, 1), poisson(50, 3.0, 2));
        let draws = [Draw::Counted, Draw::WarmUp, Draw::Engine];
        let mut seeds: Vec<u64> = (0..4)
            .flat_map(|round| draws.map(|draw| seed(9, round, draw)))
            .collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 12);
    }
}
