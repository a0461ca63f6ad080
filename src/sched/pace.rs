//! How fast requests come to be grouped, and so how large a group may hope to become.

use super::event::Micros;

/// Gaps remembered.
const GAPS: usize = 16;
/// Before so many were seen nothing is hoped for.
const ENOUGH: usize = 4;

/// The median of the last gaps between arrivals: neither a pause of an hour nor a burst of a few moves it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    gaps: [Micros; GAPS],
    next: usize,
    known: usize,
    last: Option<Micros>,
}

impl Pace {
    /// Another one came.
    pub(super) fn arrived(&mut self, now: Micros) {
        if let Some(last) = self.last.replace(now) {
            self.gaps[self.next] = now.saturating_sub(last);
            self.next = (self.next + 1) % GAPS;
            self.known = (self.known + 1).min(GAPS);
        }
    }

    /// How many come within `wait` of one of them, that one included.
    pub(super) fn expected(&self, wait: Micros) -> f64 {
        let known = self.known;
        if known < ENOUGH {
            return 1.0;
        }
        let mut gaps = self.gaps;
        let (_, &mut median, _) = gaps[..known].select_nth_unstable(known / 2);
        // Of independent arrivals the median gap is ln 2 of the mean.
        1.0 + wait as f64 * std::f64::consts::LN_2 / (median as f64).max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(gaps: impl IntoIterator<Item = Micros>) -> Pace {
        let mut pace = Pace::default();
        let mut now = 0;
        pace.arrived(now);
        for gap in gaps {
            now += gap;
            pace.arrived(now);
        }
        pace
    }

    #[test]
    fn nothing_is_hoped_for_before_anything_is_known() {
        assert_eq!(Pace::default().expected(1_000), 1.0);
        assert_eq!(after([1, 1, 1]).expected(1_000), 1.0);
    }

    #[test]
    fn independent_arrivals_are_expected_as_they_come() {
        // Exponential gaps of 1 ms, by their quantiles, in a scattered order.
        let gap = |i: u64| {
            let u = (i * 7 % 16) as f64 / 16.0 + 1.0 / 32.0;
            (-(1.0 - u).ln() * 1_000.0) as Micros
        };
        let expected = after((0..16).map(gap)).expected(10_000);
        assert!((expected - 11.0).abs() < 1.5, "{expected}");
    }

    #[test]
    fn a_pause_or_a_few_at_once_change_little() {
        let steady = after([1_000; 16]).expected(8_000);
        let pause = after([1_000; 15].into_iter().chain([3_600_000_000]));
        assert_eq!(pause.expected(8_000), steady);
        let at_once = after([1_000; 13].into_iter().chain([0; 3]));
        assert_eq!(at_once.expected(8_000), steady);
    }

    #[test]
    fn bursts_are_expected_to_come_whole() {
        let bursts = (0..32).map(|i| if i % 8 == 7 { 50_000 } else { 0 });
        assert!(after(bursts).expected(5_000) > 1_000.0);
    }
}
