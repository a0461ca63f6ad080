//! `cargo bench --bench ops`: every op alone, on our backends. What it is worth is seen beside others: benches/peers.

mod cases;
mod harness;

use collage::backend::cpu::CpuDevice;
use criterion::{Criterion, criterion_group, criterion_main};

/// Judged by the specification.
fn ops(c: &mut Criterion) {
    harness::bench(c, cases::ops::all(), &CpuDevice::reference());
}

criterion_group!(benches, ops);
criterion_main!(benches);
