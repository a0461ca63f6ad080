//! How long runs take, learnt from completions alone: what is normal for the fleet, and how far a worker is off it.

use super::event::{Kind, Micros};

/// Sizes are told apart by powers of two; runs of 2^15 and more images count as one size.
pub(super) const SIZES: usize = 16;
/// A worker this little over normal counts as normal, so that noise does not order the healthy ones.
const NOISE: f64 = 0.25;
/// Slowness beyond this makes no difference to anyone.
const WORST: f64 = 1e6;

/// The fleet's median service time by kind and size of run. A median, because one straggler must not move it.
#[derive(Debug, Default)]
pub(super) struct Normal {
    median_us: [[(f64, u32); SIZES]; 2],
}

/// Which size a run of so many images counts as.
pub(super) fn size(images: usize) -> usize {
    (images.max(1).ilog2() as usize).min(SIZES - 1)
}

impl Normal {
    /// Learns one service time and says how many times normal it was.
    pub(super) fn observe(&mut self, kind: Kind, images: usize, service: Micros) -> f64 {
        let row = match kind {
            Kind::Base => 0,
            Kind::Collage | Kind::Parity => 1,
        };
        let (median, seen) = &mut self.median_us[row][size(images)];
        let service = service.max(1) as f64;
        if *seen == 0 {
            *median = service;
        }
        *seen = seen.saturating_add(1);
        let ratio = service / *median;
        // Steps of 3% against 3%: it settles where as many samples lie above as below. The first are larger, so that
        // a straggler that came first is soon outvoted.
        let step = 1.0 + (1.0 / f64::from(*seen)).max(0.03);
        *median *= if ratio > 1.0 { step } else { 1.0 / step };
        ratio
    }
}

/// A peak-sensitive moving average of service over normal: it rises at once, and its excess over 1 halves with time,
/// so that a worker nobody dares to use is tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowness {
    ratio: f64,
    updated_at: Micros,
    /// Time in which the excess shrinks e-fold.
    forget: f64,
}

impl Slowness {
    pub(super) fn new(forget: Micros, now: Micros) -> Self {
        Self {
            ratio: 1.0,
            updated_at: now,
            forget: forget.max(1) as f64,
        }
    }

    pub(super) fn observe(&mut self, ratio: f64, now: Micros) {
        let age = now.saturating_sub(self.updated_at) as f64;
        let kept = 1.0 + (self.ratio - 1.0) * (-age / self.forget).exp();
        self.ratio = if ratio > kept {
            ratio
        } else {
            kept + (ratio - kept) * 0.3
        }
        .clamp(0.0, WORST);
        self.updated_at = now;
    }

    /// Orders workers, fastest first, the longest unused first among the normal ones. Excess decays alike for all,
    /// so of two workers the same one is slower at any later time: ln(excess) + updated_at/forget never changes
    /// between observations, and an index of it needs no refresh.
    pub(super) fn rank(&self) -> i64 {
        let excess = (self.ratio - 1.0).max(NOISE);
        ((excess.ln() + self.updated_at as f64 / self.forget) * 1e6) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_straggler_does_not_move_what_is_normal() {
        let mut normal = Normal::default();
        for i in 0..1000 {
            normal.observe(Kind::Base, 1, if i % 10 == 0 { 50_000 } else { 1_000 });
        }
        let ratio = normal.observe(Kind::Base, 1, 1_000);
        assert!((0.7..1.4).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_slow_worker_ranks_last_until_its_slowness_is_forgotten() {
        let (mut slow, mut healthy) = (Slowness::new(1_000_000, 0), Slowness::new(1_000_000, 0));
        slow.observe(8.0, 0);
        healthy.observe(1.0, 0);
        assert!(slow.rank() > healthy.rank());
        // Ten seconds later the healthy one was used meanwhile, the slow one was not.
        healthy.observe(1.0, 10_000_000);
        assert!(slow.rank() < healthy.rank());
    }
}
