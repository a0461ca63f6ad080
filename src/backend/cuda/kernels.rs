//! Every kernel: one constant table that mirrors the ENTRY lines of kernels/*.cu.
//!
//! A name is written here once and never put together at run time. tests/cuda_kernels.rs compares the figures with those that
//! the sources themselves give.

use super::architecture::Architecture;
use crate::tensor::DType;

/// A file of kernels/.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// encode.cu
    Encode,
    /// conv2d_tiled.cu
    Conv2dTiled,
    /// conv2d_mma.cu
    Conv2dMma,
    /// conv2d_stem.cu
    Conv2dStem,
    /// conv2d_wgmma.cu
    Conv2dWgmma,
    /// max_pool2d.cu
    MaxPool2d,
    /// avg_pool2d.cu
    AvgPool2d,
    /// linear.cu
    Linear,
    /// top_k.cu
    TopK,
}

/// A kernel of each element type that it is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    /// `encode`
    Encode,
    /// `conv2d_tiled_large`
    TiledLarge,
    /// `conv2d_tiled_small`
    TiledSmall,
    /// `conv2d_mma_large`
    MmaLarge,
    /// `conv2d_mma_tall`
    MmaTall,
    /// `conv2d_mma_small`
    MmaSmall,
    /// `conv2d_stem`
    Stem,
    /// `conv2d_wgmma_large`
    WgmmaLarge,
    /// `conv2d_wgmma_wide`
    WgmmaWide,
    /// `conv2d_wgmma_narrow`
    WgmmaNarrow,
    /// `max_pool2d`
    MaxPool2d,
    /// `avg_pool2d`
    AvgPool2d,
    /// `linear`
    Linear,
    /// `top_k`
    TopK,
}

/// Part of the output that a block computes in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Output pixels.
    pub pixels: u32,
    /// Output channels.
    pub channels: u32,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its name, in the source and in the cubin.
    pub entry: &'static str,
    /// Where it is.
    pub source: Source,
    /// Which it is.
    pub variant: Variant,
    /// Of which type.
    pub dtype: DType,
    /// A block.
    pub threads: u32,
    /// Blocks a multiprocessor that its registers allow.
    pub blocks: u32,
    /// A block.
    pub shared_bytes: u32,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 9] = [
        Source::Encode,
        Source::Conv2dTiled,
        Source::Conv2dMma,
        Source::Conv2dStem,
        Source::Conv2dWgmma,
        Source::MaxPool2d,
        Source::AvgPool2d,
        Source::Linear,
        Source::TopK,
    ];

    /// Its file in kernels/.
    pub fn file(self) -> &'static str {
        match self {
            Source::Encode => "encode.cu",
            Source::Conv2dTiled => "conv2d_tiled.cu",
            Source::Conv2dMma => "conv2d_mma.cu",
            Source::Conv2dStem => "conv2d_stem.cu",
            Source::Conv2dWgmma => "conv2d_wgmma.cu",
            Source::MaxPool2d => "max_pool2d.cu",
            Source::AvgPool2d => "avg_pool2d.cu",
            Source::Linear => "linear.cu",
            Source::TopK => "top_k.cu",
        }
    }

    /// The file.
    pub(super) fn text(self) -> &'static str {
        match self {
            Source::Encode => include_str!("../../../kernels/encode.cu"),
            Source::Conv2dTiled => include_str!("../../../kernels/conv2d_tiled.cu"),
            Source::Conv2dMma => include_str!("../../../kernels/conv2d_mma.cu"),
            Source::Conv2dStem => include_str!("../../../kernels/conv2d_stem.cu"),
            Source::Conv2dWgmma => include_str!("../../../kernels/conv2d_wgmma.cu"),
            Source::MaxPool2d => include_str!("../../../kernels/max_pool2d.cu"),
            Source::AvgPool2d => include_str!("../../../kernels/avg_pool2d.cu"),
            Source::Linear => include_str!("../../../kernels/linear.cu"),
            Source::TopK => include_str!("../../../kernels/top_k.cu"),
        }
    }

    /// Whether its instructions exist there.
    pub fn runs_on(self, architecture: Architecture) -> bool {
        match self {
            Source::Conv2dWgmma => architecture.is_hopper(),
            Source::Conv2dMma | Source::Conv2dStem => architecture.number() >= 80,
            _ => architecture.number() >= Architecture::OLDEST,
        }
    }
}

/// What the files include, by the names under which they do.
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("conv2d.cuh", include_str!("../../../kernels/conv2d.cuh")),
    (
        "conv2d_epilogue.cuh",
        include_str!("../../../kernels/conv2d_epilogue.cuh"),
    ),
    (
        "conv2d_parts.cuh",
        include_str!("../../../kernels/conv2d_parts.cuh"),
    ),
    (
        "conv2d_wgmma.cuh",
        include_str!("../../../kernels/conv2d_wgmma.cuh"),
    ),
    ("number.cuh", include_str!("../../../kernels/number.cuh")),
    ("ptx.cuh", include_str!("../../../kernels/ptx.cuh")),
];

impl Kernel {
    /// The most registers a thread that let as many blocks reside as the entry asks for.
    pub fn registers(&self) -> u32 {
        (65_536 / (self.threads * self.blocks) / 8 * 8).min(255)
    }
}

impl Variant {
    /// The element types that it is written for, each with its entry. Empty only where there is no such kernel.
    pub fn kernel(self, dtype: DType) -> Option<&'static Kernel> {
        KERNELS
            .iter()
            .find(|k| k.variant == self && k.dtype == dtype)
    }

    /// What a block of a convolution computes in one turn.
    pub fn tile(self) -> Tile {
        let (pixels, channels) = match self {
            Variant::TiledLarge | Variant::MmaLarge | Variant::WgmmaWide => (128, 128),
            Variant::WgmmaLarge => (256, 128),
            Variant::WgmmaNarrow => (256, 64),
            Variant::MmaTall | Variant::Stem => (128, 64),
            Variant::TiledSmall | Variant::MmaSmall => (64, 64),
            _ => (1, 1),
        };
        Tile { pixels, channels }
    }
}

const fn kernel(
    (entry, dtype): (&'static str, DType),
    (source, variant): (Source, Variant),
    [threads, blocks, shared_bytes]: [u32; 3],
) -> Kernel {
    Kernel {
        entry,
        source,
        variant,
        dtype,
        threads,
        blocks,
        shared_bytes,
    }
}

/// One line a variant: its entries, then threads, blocks a multiprocessor, and shared bytes of each.
macro_rules! kernels {
    ($($source:ident $variant:ident { $($entry:literal $dtype:ident [$threads:expr, $blocks:expr, $shared:expr];)* })*) => {
        /// All of them.
        pub const KERNELS: &[Kernel] = &[$($(
            kernel(($entry, DType::$dtype), (Source::$source, Variant::$variant), [$threads, $blocks, $shared]),
        )*)*];
    };
}

kernels! {
    Encode Encode {
        "encode_f32" F32 [128, 5, 38_784];
        "encode_f16" F16 [128, 6, 35_712];
        "encode_bf16" Bf16 [128, 6, 35_712];
    }
    Conv2dTiled TiledLarge {
        "conv2d_tiled_large_f32" F32 [256, 2, 34_816];
        "conv2d_tiled_large_f16" F16 [256, 2, 34_816];
        "conv2d_tiled_large_bf16" Bf16 [256, 2, 34_816];
    }
    Conv2dTiled TiledSmall {
        "conv2d_tiled_small_f32" F32 [256, 4, 17_408];
        "conv2d_tiled_small_f16" F16 [256, 4, 17_408];
        "conv2d_tiled_small_bf16" Bf16 [256, 4, 17_408];
    }
    Conv2dMma MmaLarge {
        "conv2d_mma_large_f16" F16 [128, 2, 49_152];
        "conv2d_mma_large_bf16" Bf16 [128, 2, 49_152];
    }
    Conv2dMma MmaTall {
        "conv2d_mma_tall_f16" F16 [128, 3, 49_152];
        "conv2d_mma_tall_bf16" Bf16 [128, 3, 49_152];
    }
    Conv2dMma MmaSmall {
        "conv2d_mma_small_f16" F16 [128, 3, 65_536];
        "conv2d_mma_small_bf16" Bf16 [128, 3, 65_536];
    }
    Conv2dStem Stem {
        "conv2d_stem_f16" F16 [128, 4, 48_512];
        "conv2d_stem_bf16" Bf16 [128, 4, 48_512];
    }
    Conv2dWgmma WgmmaLarge {
        "conv2d_wgmma_large_f16" F16 [384, 1, 213_072];
        "conv2d_wgmma_large_bf16" Bf16 [384, 1, 213_072];
    }
    Conv2dWgmma WgmmaWide {
        "conv2d_wgmma_wide_f16" F16 [384, 1, 229_504];
        "conv2d_wgmma_wide_bf16" Bf16 [384, 1, 229_504];
    }
    Conv2dWgmma WgmmaNarrow {
        "conv2d_wgmma_narrow_f16" F16 [384, 1, 229_496];
        "conv2d_wgmma_narrow_bf16" Bf16 [384, 1, 229_496];
    }
    MaxPool2d MaxPool2d {
        "max_pool2d_f32" F32 [256, 4, 0];
        "max_pool2d_f16" F16 [256, 4, 0];
        "max_pool2d_bf16" Bf16 [256, 4, 0];
    }
    AvgPool2d AvgPool2d {
        "avg_pool2d_f32" F32 [256, 4, 1_024];
        "avg_pool2d_f16" F16 [256, 4, 2_048];
        "avg_pool2d_bf16" Bf16 [256, 4, 2_048];
    }
    Linear Linear {
        "linear_f32" F32 [128, 4, 0];
        "linear_f16" F16 [128, 4, 0];
        "linear_bf16" Bf16 [128, 4, 0];
    }
    TopK TopK {
        "top_k_f32" F32 [256, 4, 16_576];
        "top_k_f16" F16 [256, 4, 16_576];
        "top_k_bf16" Bf16 [256, 4, 16_576];
    }
}
