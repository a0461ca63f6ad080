//! A seeded order: the same on every machine and in every version, because reports and tests name their seed.

/// The numbers below `len` in an order that only depends on `seed`: Fisher and Yates over SplitMix64.
pub fn shuffled(len: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut state = seed;
    for i in (1..len).rev() {
        // 128-bit multiplication maps 64 random bits to 0..=i; its bias is below 2^-40 for any set that fits in memory.
        let j = ((u128::from(split_mix(&mut state)) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
    order
}

/// The next of a sequence of 64 random bits each. Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators (2014).
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_every_number_once_and_depends_on_the_seed_alone() {
        let order = shuffled(1000, 7);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert_eq!(order, shuffled(1000, 7));
        assert_ne!(order, shuffled(1000, 8));
        assert!(shuffled(0, 1).is_empty() && shuffled(1, 1) == [0]);
    }

    #[test]
    fn split_mix_gives_its_published_sequence() {
        // Of Vigna's splitmix64.c with state 1234567.
        let mut state = 1_234_567;
        let found: Vec<u64> = (0..3).map(|_| split_mix(&mut state)).collect();
        assert_eq!(
            found,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}
