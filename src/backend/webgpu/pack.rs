//! Weights in the order in which the shaders read them, zeros in all padding.

use half::{bf16, f16};

use crate::tensor::{DType, Tensor};

/// How a tensor lies on the device. Part of the key under which its buffer is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// (O, KH, KW, I) to (KH, KW, I padded to 4) padded to 16 in all, by O padded to 64.
    Tiled,
    /// (O, KH, KW, I) to blocks of 16 output channels: (O / 16, KH, KW, I / 4, 16, 4).
    Broadcast,
    /// As `Broadcast`, of (O, KH, 1, KW * I).
    Unfolded,
    /// (O, 3, 3, I) transformed to (O / B, 36, I / 4, B, 4), B of [`winograd_block`], in f32 whatever the dtype.
    Winograd,
    /// (O, I) to (I / 4, O, 4).
    Linear,
    /// (O), in f32 whatever the dtype, padded to 64.
    Bias,
}

/// Output channels that the convolutions' packings and the bias are padded to.
pub fn padded_channels(packing: Packing, channels: usize) -> usize {
    match packing {
        Packing::Tiled | Packing::Bias => channels.next_multiple_of(64),
        Packing::Broadcast | Packing::Unfolded => channels.next_multiple_of(16),
        Packing::Winograd | Packing::Linear => channels,
    }
}

/// Bytes of the packed tensor.
pub fn pack(tensor: &Tensor, packing: Packing, dtype: DType) -> Vec<u8> {
    let data = tensor.data();
    let shape = tensor.shape();
    let packed = match (packing, shape) {
        (Packing::Tiled, &[o, kh, kw, i]) => tiled(data, o, kh * kw, i),
        (Packing::Broadcast, &[o, kh, kw, i]) => broadcast(data, o, kh * kw, i),
        (Packing::Unfolded, &[o, kh, kw, i]) => broadcast(data, o, kh, kw * i),
        (Packing::Winograd, &[o, 3, 3, i]) => {
            return bytemuck::cast_slice(&winograd(&rounded(data, dtype), o, i)).to_vec();
        }
        (Packing::Linear, &[o, i]) => linear(data, o, i),
        (Packing::Bias, &[o]) => {
            let mut packed = vec![0.0; padded_channels(Packing::Bias, o)];
            // A bias counts as a weight: it is rounded as one, though it is read as f32.
            packed[..o].copy_from_slice(&rounded(data, dtype));
            return bytemuck::cast_slice(&packed).to_vec();
        }
        // `check` has matched every tensor's rank with its op.
        _ => data.to_vec(),
    };
    bytes(&packed, dtype)
}

/// As the dtype stores them; a multiple of 4 bytes.
pub fn bytes(data: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F32 => bytemuck::cast_slice(data).to_vec(),
        DType::F16 => {
            let mut halves: Vec<f16> = data.iter().map(|&v| f16::from_f32(v)).collect();
            halves.resize(data.len().next_multiple_of(2), f16::ZERO);
            bytemuck::cast_slice(&halves).to_vec()
        }
        DType::Bf16 => {
            let mut halves: Vec<bf16> = data.iter().map(|&v| bf16::from_f32(v)).collect();
            halves.resize(data.len().next_multiple_of(2), bf16::ZERO);
            bytemuck::cast_slice(&halves).to_vec()
        }
    }
}

/// As the dtype would store them, though they stay f32.
fn rounded(data: &[f32], dtype: DType) -> Vec<f32> {
    data.iter().map(|&v| dtype.rounded(v)).collect()
}

/// Output channels that one invocation of `conv2d_winograd_product` computes.
pub fn winograd_block(channels: usize) -> usize {
    if channels.is_multiple_of(32) { 32 } else { 16 }
}

/// G w G' of each channel pair, in f64 so that the transform itself rounds once.
fn winograd(data: &[f32], o: usize, i: usize) -> Vec<f32> {
    let rows = |g: [f64; 3]| {
        let [a, b, c] = g;
        let (even, odd) = (-(a + c) / 6.0, -b / 6.0);
        let (even2, odd2) = (a / 24.0 + c / 6.0, b / 12.0);
        [
            a / 4.0,
            even + odd,
            even - odd,
            even2 + odd2,
            even2 - odd2,
            c,
        ]
    };
    let (vectors, block) = (i / 4, winograd_block(o));
    let mut packed = vec![0.0; data.len() / 9 * 36];
    for (k, filter) in data.chunks_exact(9 * i.max(1)).enumerate() {
        for j in 0..i {
            let tap = |u: usize, v: usize| f64::from(filter[(u * 3 + v) * i + j]);
            let columns = [0, 1, 2].map(|v| rows([tap(0, v), tap(1, v), tap(2, v)]));
            for u in 0..6 {
                for (v, value) in rows(columns.map(|c| c[u])).into_iter().enumerate() {
                    let row = (k / block * 36 + u * 6 + v) * vectors + j / 4;
                    packed[(row * block + k % block) * 4 + j % 4] = value as f32;
                }
            }
        }
    }
    packed
}

fn tiled(data: &[f32], o: usize, taps: usize, i: usize) -> Vec<f32> {
    let depth = i.next_multiple_of(4);
    let columns = padded_channels(Packing::Tiled, o);
    let mut packed = vec![0.0; (taps * depth).next_multiple_of(16) * columns];
    for (k, row) in data.chunks_exact((taps * i).max(1)).enumerate() {
        for (t, tap) in row.chunks_exact(i.max(1)).enumerate() {
            for (j, &v) in tap.iter().enumerate() {
                packed[(t * depth + j) * columns + k] = v;
            }
        }
    }
    packed
}

fn broadcast(data: &[f32], o: usize, taps: usize, i: usize) -> Vec<f32> {
    let vectors = i.div_ceil(4);
    let mut packed = vec![0.0; padded_channels(Packing::Broadcast, o) * taps * vectors * 4];
    for (k, row) in data.chunks_exact((taps * i).max(1)).enumerate() {
        for (t, tap) in row.chunks_exact(i.max(1)).enumerate() {
            for (j, &v) in tap.iter().enumerate() {
                let vector = ((k / 16 * taps + t) * vectors + j / 4) * 16 + k % 16;
                packed[vector * 4 + j % 4] = v;
            }
        }
    }
    packed
}

fn linear(data: &[f32], o: usize, i: usize) -> Vec<f32> {
    let mut packed = vec![0.0; i.next_multiple_of(4) * o];
    for (k, row) in data.chunks_exact(i.max(1)).enumerate() {
        for (j, &v) in row.iter().enumerate() {
            packed[(j / 4 * o + k) * 4 + j % 4] = v;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize]) -> Tensor {
        let len: usize = shape.iter().product();
        Tensor::new(shape, (1..=len).map(|v| v as f32).collect()).expect("lengths agree")
    }

    #[test]
    fn every_weight_is_packed_once() {
        let conv = counting(&[17, 3, 2, 5]);
        let head = counting(&[7, 9]);
        for (tensor, packing) in [
            (&conv, Packing::Tiled),
            (&conv, Packing::Broadcast),
            (&head, Packing::Linear),
        ] {
            let packed = pack(tensor, packing, DType::F32);
            let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(&packed);
            values.retain(|v| *v != 0.0);
            values.sort_by(f32::total_cmp);
            assert_eq!(values, tensor.data(), "{packing:?}");
        }
    }

    #[test]
    fn broadcast_keeps_four_inputs_of_a_channel_together() {
        let packed = broadcast(counting(&[16, 1, 1, 4]).data(), 16, 1, 4);
        assert_eq!(packed[..8], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }

    #[test]
    fn halves_fill_whole_words() {
        assert_eq!(bytes(&[1.0, 2.0, 3.0], DType::F16).len(), 8);
    }
}
