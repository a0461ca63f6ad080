//! Claims about the CPU device that hold whatever the ops compute.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::{BackendError, Device};

mod window;

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
        let error = device.load(Arc::new(window::average(side))).err();
        let Some(BackendError::OutOfMemory {
            needed, allowed, ..
        }) = error
        else {
            panic!("{error:?}");
        };
        assert!(needed > 1 << 44 && allowed == memory, "{needed} {allowed}");
        assert!(device.load(Arc::new(window::average(1 << 7))).is_ok());
    }
}
