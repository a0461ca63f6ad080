//! What a device says of itself, in the three words that matter for trust. Who reads the counters decides what counts
//! as which; here is only what they mean.
//!
//! Clocks that are low because the device idles, or because software caps its power, are no fault: every healthy device
//! does that, and whoever sends a [`Condition`] leaves it out. A condition stands until the next one, so that who stops
//! reading says so with a default one.

/// Clocks and links below this share of their best count as degraded,
const DEGRADED_BELOW: f64 = 0.9;
/// and are so until they are back at this one: nobody flutters.
const WHOLE_FROM: f64 = 0.95;

/// What is wrong with a worker's device; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Condition {
    /// Share that the clocks have of their maximum, where they are held down for a reason that is a fault: heat, the
    /// power brake, a hardware slowdown. 0..=1.
    pub slowed: Option<f64>,
    /// Share that the link to the host has of its best, width times speed, while it is under load. 0..=1.
    pub link: Option<f64>,
    /// It gives wrong results or none: an error that the device does not recover from by itself, memory errors that
    /// were not corrected, or it is gone from its bus.
    pub faulty: bool,
}

impl Condition {
    /// Whether it works, but less well than it could; `was` is what was said of it before.
    pub(super) fn is_degraded(&self, was: bool) -> bool {
        let least = if was { WHOLE_FROM } else { DEGRADED_BELOW };
        // What is not a number says nothing.
        let shares = [self.slowed, self.link].into_iter().flatten();
        shares.into_iter().any(|share| share < least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowed(share: f64) -> Condition {
        Condition {
            slowed: Some(share),
            ..Condition::default()
        }
    }

    #[test]
    fn clocks_at_the_threshold_do_not_flutter() {
        let mut was = false;
        let mut heard = Vec::new();
        for share in [0.92, 0.89, 0.91, 0.94, 0.89, 0.95, 0.91] {
            was = slowed(share).is_degraded(was);
            heard.push(was);
        }
        assert_eq!(heard, [false, true, true, true, true, false, false]);
    }

    #[test]
    fn a_degraded_link_counts_and_what_is_not_a_number_does_not() {
        let link = Some(0.25);
        let narrow = Condition {
            link,
            ..Condition::default()
        };
        assert!(narrow.is_degraded(false));
        assert!(!slowed(f64::NAN).is_degraded(true));
        assert!(!Condition::default().is_degraded(true));
    }
}
