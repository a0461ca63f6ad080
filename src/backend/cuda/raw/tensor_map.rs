//! Tensor maps: how Hopper's copy engine finds its way through a tensor of halves. kernels/conv2d_wgmma.cu says what it wants.

use std::ffi::c_void;

use bytemuck::{Pod, Zeroable};
use cudarc::driver::sys;

use super::library;
use super::status::{Refused, Unavailable};
use crate::tensor::DType;

/// The driver's opaque map, as a kernel's argument holds it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct TensorMap {
    opaque: [u64; 16],
}

/// Of a matrix: (rows, columns), columns fastest, in boxes of 64 columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Of the matrix on the device.
    pub address: u64,
    /// Its rows.
    pub rows: u64,
    /// Its columns.
    pub columns: u64,
    /// Rows of a box.
    pub box_rows: u32,
}

/// Of the patches of a convolution's input, (N, H, W, C), 64 channels at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Im2col {
    /// Of the input on the device.
    pub address: u64,
    /// N, H, W, C.
    pub shape: [u64; 4],
    /// KH, KW.
    pub kernel: [i32; 2],
    /// Both axes.
    pub stride: u32,
    /// Both axes, both sides.
    pub padding: i32,
    /// Output pixels of a box.
    pub pixels: u32,
}

const INTERLEAVE: u32 = sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE as u32;
const SWIZZLE: u32 = sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B as u32;
const PROMOTION: u32 = sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B as u32;
const OUTSIDE: u32 = sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE as u32;

/// Elements of a row of shared memory: 128 bytes.
const COLUMNS: u32 = 64;

fn element(dtype: DType) -> u32 {
    use sys::CUtensorMapDataType_enum as Type;
    match dtype {
        DType::F32 => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32 as u32,
        DType::F16 => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT16 as u32,
        DType::Bf16 => Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 as u32,
    }
}

impl TensorMap {
    /// A matrix of a half-precision dtype.
    pub fn rows(dtype: DType, of: &Rows) -> Result<Self, Refused> {
        let driver = library::driver().map_err(no_driver)?;
        let mut map = Self::default();
        let dims = [of.columns, of.rows];
        let strides = [of.columns * 2];
        let boxes = [COLUMNS, of.box_rows];
        let steps = [1u32; 2];
        // SAFETY: every array has as many elements as a map of rank 2 needs (one stride less), and the driver writes 128
        // bytes to as many, aligned to 64. The address is only noted.
        let status = unsafe {
            (driver.cuTensorMapEncodeTiled)(
                (&raw mut map).cast(),
                element(dtype),
                2,
                of.address as *mut c_void,
                dims.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                INTERLEAVE,
                SWIZZLE,
                PROMOTION,
                OUTSIDE,
            )
        };
        status.of(driver, "cuTensorMapEncodeTiled")?;
        Ok(map)
    }

    /// A convolution's input of a half-precision dtype.
    pub fn im2col(dtype: DType, of: &Im2col) -> Result<Self, Refused> {
        let driver = library::driver().map_err(no_driver)?;
        let mut map = Self::default();
        let [n, h, w, c] = of.shape;
        let dims = [c, w, h, n];
        let strides = [c * 2, w * c * 2, h * w * c * 2];
        // Width first, as in the dims.
        let lower = [-of.padding; 2];
        let upper = [1, 0].map(|axis: usize| of.padding - (of.kernel[axis] - 1));
        let steps = [1, of.stride, of.stride, 1];
        // SAFETY: every array has as many elements as a map of rank 4 needs (one stride less, two corners less), and the
        // driver writes 128 bytes to as many, aligned to 64. The address is only noted.
        let status = unsafe {
            (driver.cuTensorMapEncodeIm2col)(
                (&raw mut map).cast(),
                element(dtype),
                4,
                of.address as *mut c_void,
                dims.as_ptr(),
                strides.as_ptr(),
                lower.as_ptr(),
                upper.as_ptr(),
                COLUMNS,
                of.pixels,
                steps.as_ptr(),
                INTERLEAVE,
                SWIZZLE,
                PROMOTION,
                OUTSIDE,
            )
        };
        status.of(driver, "cuTensorMapEncodeIm2col")?;
        Ok(map)
    }
}

/// Cannot happen where a device is open.
fn no_driver(_: Unavailable) -> Refused {
    Refused {
        call: "cuTensorMapEncode",
        code: sys::CUresult::CUDA_ERROR_NOT_INITIALIZED as u32,
        reason: "no driver".into(),
    }
}
