//! The limit on extra work that lateness asks for: hedges, re-sent requests and lazy collages. Replicas and eager
//! collages are not charged: their share follows from the policy itself.

/// Extra work that may be done before any was earned, in base runs.
const BURST: f64 = 16.0;

/// A bucket of tokens; one token is the work of one base run of one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    share: f64,
    tokens: f64,
}

impl Budget {
    /// `share` tokens are earned by each accepted request.
    pub(super) fn new(share: f64) -> Self {
        Self {
            share: share.max(0.0),
            tokens: BURST,
        }
    }

    pub(super) fn earn(&mut self) {
        // Unused tokens last, within reason: a quiet hour must not pay for a storm.
        self.tokens = (self.tokens + self.share).min(BURST.max(self.share * 1e4));
    }

    pub(super) fn allows(&self, work: f64) -> bool {
        self.tokens >= work
    }

    pub(super) fn spend(&mut self, work: f64) {
        self.tokens -= work;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_the_share_and_the_burst_at_most() {
        let mut budget = Budget::new(0.1);
        let mut spent = 0.0;
        for _ in 0..10_000 {
            budget.earn();
            while budget.allows(1.0) {
                budget.spend(1.0);
                spent += 1.0;
            }
        }
        assert!((1_000.0..=1_016.0).contains(&spent), "{spent}");
    }
}
