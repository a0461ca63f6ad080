//! Claims about the placing of values: blocks that are alive at the same time never share memory.

use collage::model::arena::{self, Block};
use collage::model::plan::ARENA_ALIGN;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default()
    })]

    #[test]
    fn blocks_that_meet_never_overlap(
        spans in prop::collection::vec((1..50usize, 0..30usize, 0..12usize), 0..60),
    ) {
        let blocks: Vec<Block> = spans.into_iter()
            .map(|(len, from, lasts)| Block { len: len * ARENA_ALIGN, from, to: from + lasts })
            .collect();
        let (offsets, arena) = arena::place(&blocks).unwrap();
        for (i, a) in blocks.iter().enumerate() {
            prop_assert!(offsets[i] % ARENA_ALIGN == 0 && offsets[i] + a.len <= arena);
            for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                let apart = offsets[i] + a.len <= offsets[j] || offsets[j] + b.len <= offsets[i];
                prop_assert!(apart || !a.meets(b), "{a:?} at {} and {b:?} at {}", offsets[i], offsets[j]);
            }
        }
        prop_assert!(arena >= arena::lower_bound(&blocks));
    }
}

#[test]
fn blocks_too_large_to_count_are_refused() {
    let block = Block {
        len: usize::MAX / 2,
        from: 0,
        to: 1,
    };
    assert!(arena::place(&[block; 3]).is_none());
    assert_eq!(arena::place(&[]), Some((vec![], 0)));
}
