//! The argument structs of the kernels, field for field as kernels/*.cu declare them.

use bytemuck::{Pod, Zeroable};

use super::raw::TensorMap;

/// kernels/conv2d.cuh
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Conv2dArgs {
    pub input: u64,
    pub output: u64,
    pub weight: u64,
    pub bias: u64,
    /// 0: none.
    pub residual: u64,
    /// (splits, pixels, O) f32; 0 where `splits` is 1.
    pub partial: u64,
    /// One u32 a tile, 0 between launches; 0 where `splits` is 1.
    pub tickets: u64,
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub out_h: u32,
    pub out_w: u32,
    pub out_c: u32,
    pub kernel_h: u32,
    pub kernel_w: u32,
    pub stride: u32,
    pub padding: u32,
    pub res_h: u32,
    pub res_w: u32,
    pub res_c: u32,
    pub res_stride: u32,
    pub res_offset: u32,
    pub splits: u32,
    pub relu: u32,
}

/// kernels/conv2d_wgmma.cu
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Conv2dWgmmaArgs {
    pub weights: TensorMap,
    pub pixels: TensorMap,
    pub conv: Conv2dArgs,
}

/// kernels/encode.cu
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct EncodeArgs {
    /// [`EncodeTile`] of every tile of every canvas.
    pub tiles: u64,
    /// (3, 256) f32: a channel's byte, normalised.
    pub table: u64,
    pub output: u64,
    pub size: u32,
    pub grid_rows: u32,
    pub grid_cols: u32,
    pub pad: u32,
}

/// kernels/encode.cu
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct EncodeTile {
    /// (H, W, 3) u8; 0: a blank tile.
    pub pixels: u64,
    /// i32: `size` pairs of start and count, then (size, taps) coefficients.
    pub horizontal: u64,
    pub vertical: u64,
    /// Bytes from a row to the next.
    pub pitch: u32,
    pub first_row: u32,
    pub rows: u32,
    pub horizontal_taps: u32,
    pub vertical_taps: u32,
    pub pad: u32,
}

/// kernels/max_pool2d.cu
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct MaxPool2dArgs {
    pub input: u64,
    pub output: u64,
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub out_h: u32,
    pub out_w: u32,
    pub kernel: u32,
    pub stride: u32,
    pub padding: u32,
    pub pad: u32,
}

/// kernels/avg_pool2d.cu
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct AvgPool2dArgs {
    pub input: u64,
    pub output: u64,
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub kernel_h: u32,
    pub kernel_w: u32,
}

/// kernels/linear.cu
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct LinearArgs {
    pub input: u64,
    pub output: u64,
    pub weight: u64,
    pub bias: u64,
    pub rows: u32,
    pub c: u32,
    pub out_c: u32,
    pub pad: u32,
}

/// kernels/top_k.cu
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct TopKArgs {
    pub input: u64,
    /// [`TopKEntry`](crate::backend::top_k::TopKEntry), (rows, k).
    pub output: u64,
    pub rows: u32,
    pub c: u32,
    pub k: u32,
    pub inverse_temperature: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_lie_as_the_kernels_declare_them() {
        assert_eq!(size_of::<Conv2dArgs>(), 128);
        assert_eq!(std::mem::offset_of!(Conv2dArgs, n), 56);
        assert_eq!(std::mem::offset_of!(Conv2dArgs, res_h), 100);
        assert_eq!(std::mem::offset_of!(Conv2dArgs, relu), 124);
        assert_eq!(size_of::<Conv2dWgmmaArgs>(), 384);
        assert_eq!(align_of::<Conv2dWgmmaArgs>(), 64);
        assert_eq!(std::mem::offset_of!(Conv2dWgmmaArgs, pixels), 128);
        assert_eq!(std::mem::offset_of!(Conv2dWgmmaArgs, conv), 256);
        assert_eq!(size_of::<EncodeArgs>(), 40);
        assert_eq!(std::mem::offset_of!(EncodeArgs, size), 24);
        assert_eq!(size_of::<EncodeTile>(), 48);
        assert_eq!(std::mem::offset_of!(EncodeTile, pitch), 24);
        assert_eq!(size_of::<MaxPool2dArgs>(), 56);
        assert_eq!(std::mem::offset_of!(MaxPool2dArgs, kernel), 40);
        assert_eq!(size_of::<AvgPool2dArgs>(), 40);
        assert_eq!(std::mem::offset_of!(AvgPool2dArgs, kernel_h), 32);
        assert_eq!(size_of::<LinearArgs>(), 48);
        assert_eq!(std::mem::offset_of!(LinearArgs, rows), 32);
        assert_eq!(size_of::<TopKArgs>(), 32);
        assert_eq!(std::mem::offset_of!(TopKArgs, rows), 16);
    }
}
