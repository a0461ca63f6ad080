//! Claims about the CPU device that hold whatever the ops compute.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::{BackendError, Device};
use collage::model::plan::{AvgPool2d, Plan, Step, Value, ValueId};
use collage::tensor::DType;

/// One pooling step over a map of `side` x `side`.
fn pooling(side: usize) -> Plan {
    let input = Value {
        shape: [1, side, side, 1],
        offset: 0,
    };
    let output = Value {
        shape: [1, 1, 1, 1],
        offset: input.len(),
    };
    Plan {
        name: "a file's wish".into(),
        batch: 1,
        dtype: DType::F32,
        weights: Arc::default(),
        values: vec![input, output],
        steps: vec![Step::AvgPool2d(AvgPool2d {
            input: ValueId(0),
            output: ValueId(1),
            kernel: [side, side],
        })],
        arena_len: input.len() + 128,
    }
}

#[test]
fn an_arena_larger_than_memory_is_refused_at_load() {
    for device in [
        CpuDevice::new(1).expect("one thread"),
        CpuDevice::reference(),
    ] {
        let Some(memory) = device.info().memory_bytes else {
            continue; // known on Linux only
        };
        let side = 1 << 21; // 16 TiB of f32
        let error = device.load(Arc::new(pooling(side))).err();
        let Some(BackendError::OutOfMemory {
            needed, allowed, ..
        }) = error
        else {
            panic!("{error:?}");
        };
        assert!(needed > 1 << 44 && allowed == memory, "{needed} {allowed}");
        assert!(device.load(Arc::new(pooling(1 << 7))).is_ok());
    }
}
