//! Weights in the order in which the kernels read them, zeros in all padding.

use half::{bf16, f16};

use crate::tensor::{DType, Tensor};

/// How a tensor lies on the device. Part of the key under which its memory is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// (O, KH, KW, I) or (O, I) to (KH*KW*I padded to 16, O padded to 128).
    Tiled,
    /// As in the plan.
    Plain,
    /// (O, KH, KW, I) to (O, KH * (KW*I padded to 8), padded to 16).
    Stem,
    /// (O), rounded as the dtype but in f32.
    Bias,
}

/// The packed tensor's bytes.
pub fn pack(tensor: &Tensor, packing: Packing, dtype: DType) -> Vec<u8> {
    let data = tensor.data();
    let outputs = tensor.shape().first().copied().unwrap_or(0);
    match packing {
        Packing::Tiled => bytes(&tiled(data, outputs), dtype),
        Packing::Plain => bytes(data, dtype),
        Packing::Stem => {
            let rows = tensor.shape().get(1).copied().unwrap_or(1);
            bytes(&stem(data, outputs, rows), dtype)
        }
        // A bias counts as a weight: it is rounded as one, though it is read as f32.
        Packing::Bias => {
            let rounded: Vec<f32> = data.iter().map(|&x| dtype.rounded(x)).collect();
            bytemuck::cast_slice(&rounded).to_vec()
        }
    }
}

/// Bytes of the packed tensor, of `shape`.
pub fn packed_bytes(shape: &[usize], packing: Packing, dtype: DType) -> usize {
    let len: usize = shape.iter().product();
    let outputs = shape.first().copied().unwrap_or(0).max(1);
    let depth = len / outputs;
    match packing {
        Packing::Tiled => {
            depth.next_multiple_of(16) * outputs.next_multiple_of(128) * dtype.bytes()
        }
        Packing::Plain => len * dtype.bytes(),
        Packing::Stem => {
            let rows = shape.get(1).copied().unwrap_or(1).max(1);
            outputs * stem_depth(depth, rows) * dtype.bytes()
        }
        Packing::Bias => len * 4,
    }
}

/// As the dtype stores them.
pub fn bytes(data: &[f32], dtype: DType) -> Vec<u8> {
    let mut out = vec![0; data.len() * dtype.bytes()];
    store(data, dtype, &mut out);
    out
}

/// Into `out`, which has `data.len() * dtype.bytes()` bytes.
pub fn store(data: &[f32], dtype: DType, out: &mut [u8]) {
    match dtype {
        DType::F32 => out.copy_from_slice(bytemuck::cast_slice(data)),
        DType::F16 => {
            for (to, &x) in out.chunks_exact_mut(2).zip(data) {
                to.copy_from_slice(&f16::from_f32(x).to_le_bytes());
            }
        }
        DType::Bf16 => {
            for (to, &x) in out.chunks_exact_mut(2).zip(data) {
                to.copy_from_slice(&bf16::from_f32(x).to_le_bytes());
            }
        }
    }
}

/// The inverse of [`store`].
pub fn load(bytes: &[u8], dtype: DType) -> Vec<f32> {
    let pair = |b: &[u8]| [b[0], b[1]];
    match dtype {
        DType::F32 => {
            let words = bytes.chunks_exact(4);
            words
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect()
        }
        DType::F16 => {
            let halves = bytes.chunks_exact(2).map(pair);
            halves.map(|b| f16::from_le_bytes(b).to_f32()).collect()
        }
        DType::Bf16 => {
            let halves = bytes.chunks_exact(2).map(pair);
            halves.map(|b| bf16::from_le_bytes(b).to_f32()).collect()
        }
    }
}

fn tiled(data: &[f32], outputs: usize) -> Vec<f32> {
    let depth = data.len() / outputs.max(1);
    let columns = outputs.next_multiple_of(128);
    let mut packed = vec![0.0; depth.next_multiple_of(16) * columns];
    for (k, row) in data.chunks_exact(depth.max(1)).enumerate() {
        for (d, &x) in row.iter().enumerate() {
            packed[d * columns + k] = x;
        }
    }
    packed
}

fn stem_depth(depth: usize, rows: usize) -> usize {
    ((depth / rows).next_multiple_of(8) * rows).next_multiple_of(16)
}

fn stem(data: &[f32], outputs: usize, rows: usize) -> Vec<f32> {
    let depth = data.len() / outputs.max(1);
    let (row, padded) = (depth / rows.max(1), stem_depth(depth, rows.max(1)));
    let mut packed = vec![0.0; outputs * padded];
    for (k, filter) in data.chunks_exact(depth.max(1)).enumerate() {
        for (u, from) in filter.chunks_exact(row.max(1)).enumerate() {
            let at = k * padded + u * row.next_multiple_of(8);
            packed[at..at + row].copy_from_slice(from);
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize]) -> Tensor {
        let len: usize = shape.iter().product();
        Tensor::new(shape, (1..=len).map(|v| v as f32).collect::<Vec<_>>()).expect("lengths agree")
    }

    #[test]
    fn every_weight_is_packed_once_and_the_rest_is_zero() {
        let conv = counting(&[17, 3, 2, 5]);
        let head = counting(&[7, 9]);
        for (tensor, packing) in [
            (&conv, Packing::Tiled),
            (&conv, Packing::Plain),
            (&conv, Packing::Stem),
            (&head, Packing::Tiled),
            (&head, Packing::Plain),
        ] {
            let packed = pack(tensor, packing, DType::F32);
            let expected = packed_bytes(tensor.shape(), packing, DType::F32);
            assert_eq!(packed.len(), expected, "{packing:?}");
            let mut values = load(&packed, DType::F32);
            values.retain(|v| *v != 0.0);
            values.sort_by(f32::total_cmp);
            assert_eq!(values, tensor.data(), "{packing:?}");
        }
    }

    #[test]
    fn tiled_rows_are_depths() {
        let packed = tiled(counting(&[2, 1, 1, 3]).data(), 2);
        assert_eq!(packed.len(), 16 * 128);
        assert_eq!((packed[0], packed[1], packed[128]), (1.0, 4.0, 2.0));
    }

    #[test]
    fn stem_rows_of_the_kernel_begin_at_multiples_of_eight() {
        let packed = stem(counting(&[1, 2, 3, 3]).data(), 1, 2);
        assert_eq!(packed.len(), 32);
        assert_eq!((packed[0], packed[8], packed[9]), (1.0, 9.0, 0.0));
        assert_eq!((packed[16], packed[24]), (10.0, 18.0));
    }

    #[test]
    fn a_bias_is_rounded_but_stays_f32() {
        let bias = Tensor::new([1], vec![1.0 + 1.0 / 4096.0]).expect("one");
        let packed = pack(&bias, Packing::Bias, DType::Bf16);
        assert_eq!(load(&packed, DType::F32), [1.0]);
    }

    #[test]
    fn halves_are_loaded_as_stored() {
        for dtype in DType::ALL {
            let data = [0.5, -2.0, 100.0];
            assert_eq!(load(&bytes(&data, dtype), dtype), data);
        }
    }
}
