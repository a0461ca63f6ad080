//! `cargo bench --bench networks`: whole networks, on our backends. What it is worth is seen beside others:
//! benches/peers.

mod cases;
mod harness;

use collage::backend::cpu::CpuDevice;
use criterion::{Criterion, criterion_group, criterion_main};

/// Judged by the CPU's fast path, which tests/ops.rs compares with the specification: that takes seconds a network.
fn networks(c: &mut Criterion) {
    let judge = CpuDevice::new(0).unwrap_or_else(|e| panic!("the cpu backend: {e}"));
    harness::bench(c, cases::networks::all(), &judge);
}

criterion_group!(benches, networks);
criterion_main!(benches);
