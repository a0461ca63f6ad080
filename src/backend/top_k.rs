//! What the GPU backends' `top_k` kernels leave in memory, and the answers that it means.

use bytemuck::{Pod, Zeroable};

use super::Scored;

/// One result, as kernels/top_k.cu and shaders/top_k.wgsl write it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct TopKEntry {
    pub class: u32,
    pub score: f32,
}

/// The first `rows` rows of (rows, k) entries. Rows are tiles in order, so those without an image are the last. A score that
/// is not a number is 0, so that it never passes a confidence threshold.
pub fn answers(entries: &[TopKEntry], k: usize, rows: usize) -> Vec<Vec<Scored>> {
    let scored = |e: &TopKEntry| Scored {
        class: e.class,
        score: if e.score.is_nan() { 0.0 } else { e.score },
    };
    let row = |row: &[TopKEntry]| row.iter().map(scored).collect();
    entries.chunks_exact(k).take(rows).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn entries_lie_as_the_kernels_write_them() {
        assert_eq!(size_of::<TopKEntry>(), 8);
        assert_eq!(offset_of!(TopKEntry, score), 4);
    }
}
