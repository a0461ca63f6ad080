//! The argument structs of the shaders, field for field as WGSL lays them out in a uniform buffer.
//!
//! Each is a multiple of 16 bytes and holds nothing but 4-byte scalars, so that its layout is the same on both sides.

use bytemuck::{Pod, Zeroable};

/// shaders/conv2d.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Conv2dArgs {
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
    /// Vectors of four input channels.
    pub c4: u32,
    pub res_h: u32,
    pub res_w: u32,
    pub res_c: u32,
    pub res_stride: u32,
    pub res_offset: u32,
    /// Output channels as padded in the packed weights and the bias.
    pub out_pad: u32,
    /// `stride` and `padding` are along the height, these along the width.
    pub stride_w: u32,
    pub padding_w: u32,
}

/// shaders/conv2d_unfold.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct UnfoldArgs {
    /// Of all images.
    pub rows: u32,
    pub w: u32,
    pub c: u32,
    pub out_w: u32,
    pub kernel_w: u32,
    pub stride: u32,
    pub padding: u32,
    /// Vectors of four unfolded channels.
    pub c4: u32,
}

/// shaders/conv2d_winograd.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct WinogradArgs {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    /// Vectors of four input channels.
    pub c4: u32,
    pub out_h: u32,
    pub out_w: u32,
    /// Vectors of four output channels.
    pub o4: u32,
    pub padding: u32,
    /// Rows of tiles of one image.
    pub tiles_h: u32,
    /// Tiles of one row.
    pub tiles_w: u32,
    /// First tile of this part.
    pub first: u32,
    /// Tiles of this part.
    pub tiles: u32,
    /// To a multiple of 4.
    pub tiles_pad: u32,
    pub pad: [u32; 3],
}

/// shaders/max_pool2d.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct MaxPool2dArgs {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub out_h: u32,
    pub out_w: u32,
    pub kernel: u32,
    pub stride: u32,
    pub padding: u32,
    pub pad: [u32; 3],
}

/// shaders/avg_pool2d.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct AvgPool2dArgs {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub kernel_h: u32,
    pub kernel_w: u32,
    pub pad: [u32; 2],
}

/// shaders/linear.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct LinearArgs {
    pub rows: u32,
    pub c: u32,
    pub out_c: u32,
    /// Vectors of four inputs.
    pub c4: u32,
}

/// shaders/top_k.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct TopKArgs {
    pub rows: u32,
    pub c: u32,
    pub k: u32,
    pub inverse_temperature: f32,
}

/// shaders/encode.wgsl
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct EncodeArgs {
    pub size: u32,
    pub grid_rows: u32,
    pub grid_cols: u32,
    pub pad: u32,
}

/// shaders/encode.wgsl: which tiles one dispatch fills.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct EncodePart {
    /// First tile.
    pub first: u32,
    /// Tiles that have an image; later ones of the dispatch are blank.
    pub images: u32,
    pub pad: [u32; 2],
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn layouts_are_those_of_the_shaders() {
        assert_eq!(size_of::<Conv2dArgs>(), 80);
        assert_eq!(offset_of!(Conv2dArgs, kernel_w), 32);
        assert_eq!(offset_of!(Conv2dArgs, res_h), 48);
        assert_eq!(offset_of!(Conv2dArgs, out_pad), 68);
        assert_eq!(offset_of!(Conv2dArgs, padding_w), 76);
        assert_eq!(size_of::<UnfoldArgs>(), 32);
        assert_eq!(offset_of!(UnfoldArgs, c4), 28);
        assert_eq!(size_of::<WinogradArgs>(), 64);
        assert_eq!(offset_of!(WinogradArgs, tiles_h), 32);
        assert_eq!(offset_of!(WinogradArgs, tiles_pad), 48);
        assert_eq!(size_of::<MaxPool2dArgs>(), 48);
        assert_eq!(offset_of!(MaxPool2dArgs, padding), 32);
        assert_eq!(size_of::<AvgPool2dArgs>(), 32);
        assert_eq!(offset_of!(AvgPool2dArgs, kernel_w), 20);
        assert_eq!(size_of::<LinearArgs>(), 16);
        assert_eq!(offset_of!(LinearArgs, c4), 12);
        assert_eq!(size_of::<TopKArgs>(), 16);
        assert_eq!(offset_of!(TopKArgs, inverse_temperature), 12);
        assert_eq!(size_of::<EncodeArgs>(), 16);
        assert_eq!(offset_of!(EncodeArgs, grid_cols), 8);
        assert_eq!(size_of::<EncodePart>(), 16);
        assert_eq!(offset_of!(EncodePart, images), 4);
    }
}
