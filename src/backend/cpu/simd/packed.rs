//! Weights in the order in which the kernel reads them.

use bytemuck::{Pod, Zeroable};

/// A cache line, so that vectors of packed weights and of the arena do not straddle two.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// f32 that start on a cache line.
pub struct Lines(Vec<Line>);

impl Lines {
    /// At least `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        Self(vec![Line([0.0; 16]); len.div_ceil(16)])
    }
    /// As [`Lines::zeroed`]; `None` where the system has no such memory.
    pub fn try_zeroed(len: usize) -> Option<Self> {
        let lines = len.div_ceil(16);
        let mut all = Vec::new();
        all.try_reserve_exact(lines).ok()?;
        all.resize(lines, Line([0.0; 16]));
        Some(Self(all))
    }
    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
    /// The elements.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// One panel: the output channels that a tile computes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panel {
    /// First output channel.
    pub channel: usize,
    /// 1 or 2.
    pub vectors: usize,
    /// Of its weights in the packed ones.
    pub offset: usize,
}

/// The weights (O, K) of one convolution as panels of (K, vectors * lanes), and its bias. Channels past O are 0.
pub struct Packed {
    lanes: usize,
    inner: usize,
    channels: usize,
    weights: Lines,
    bias: Lines,
}

impl Packed {
    /// From (O, K) and (O).
    pub fn new(weight: &[f32], bias: &[f32], lanes: usize) -> Self {
        let (channels, inner) = (bias.len(), weight.len() / bias.len().max(1));
        let padded = channels.next_multiple_of(lanes);
        let (weights, bias_lines) = (Lines::zeroed(padded * inner), Lines::zeroed(padded));
        let mut packed = Self {
            lanes,
            inner,
            channels,
            weights,
            bias: bias_lines,
        };
        packed.bias.as_mut_slice()[..channels].copy_from_slice(bias);
        for panel in packed.panels() {
            let width = panel.vectors * lanes;
            let to = &mut packed.weights.as_mut_slice()[panel.offset..][..inner * width];
            for (i, row) in weight
                .chunks_exact(inner)
                .skip(panel.channel)
                .take(width)
                .enumerate()
            {
                for (k, &w) in row.iter().enumerate() {
                    to[k * width + i] = w;
                }
            }
        }
        packed
    }

    /// O.
    pub fn channels(&self) -> usize {
        self.channels
    }
    /// K.
    pub fn inner(&self) -> usize {
        self.inner
    }
    /// All panels, in the order of their channels.
    pub fn panels(&self) -> Vec<Panel> {
        let vectors = self.channels.div_ceil(self.lanes);
        (0..vectors)
            .step_by(2)
            .map(|first| Panel {
                channel: first * self.lanes,
                vectors: (vectors - first).min(2),
                offset: first * self.lanes * self.inner,
            })
            .collect()
    }
    /// (K, vectors * lanes).
    pub fn weights(&self, panel: Panel) -> &[f32] {
        &self.weights.as_slice()[panel.offset..][..panel.vectors * self.lanes * self.inner]
    }
    /// (vectors * lanes).
    pub fn bias(&self, panel: Panel) -> &[f32] {
        &self.bias.as_slice()[panel.channel..][..panel.vectors * self.lanes]
    }
}
