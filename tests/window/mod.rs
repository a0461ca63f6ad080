//! A plan whose size is one number: for the tests of what a device cannot hold or finish.

use std::sync::Arc;

use collage::model::plan::{ARENA_ALIGN, AvgPool2d, Plan, Step, Value, ValueId};
use collage::tensor::DType;

/// One average over a map of `side` x `side`.
pub fn average(side: usize) -> Plan {
    let input = Value {
        shape: [1, side, side, 1],
        offset: 0,
    };
    let output = Value {
        shape: [1, 1, 1, 1],
        offset: input.len().next_multiple_of(ARENA_ALIGN),
    };
    Plan {
        name: "vast".into(),
        batch: 1,
        dtype: DType::F32,
        weights: Arc::default(),
        values: vec![input, output],
        steps: vec![Step::AvgPool2d(AvgPool2d {
            input: ValueId(0),
            output: ValueId(1),
            kernel: [side, side],
        })],
        arena_len: output.offset + ARENA_ALIGN,
    }
}
