//! Which kernel runs a convolution, in which tiles and in how many parts: a pure function of its shape and the device.
//!
//! | dtype | shape and device | kernel |
//! |---|---|---|
//! | halves, sm_80 on | at most 4 channels, 7x7, stride 4 | `conv2d_stem` |
//! | halves, sm_90 | C % 64 = 0, O % 8 = 0, no residual or one in the output's own layout | `conv2d_wgmma` |
//! | halves, sm_80 on | C % 8 = 0 | `conv2d_mma` |
//! | any | any | `conv2d_tiled` |
//!
//! Which of these families runs does not depend on the batch, and within a family every tile adds in the same order. So
//! only `splits`, which divide a sum among blocks, can make an image's result depend on the batch that it is in; a
//! batch-invariant device has none, and its linear steps are never convolutions.

use super::architecture::Architecture;
use super::kernels::{Kernel, Variant};
use super::options::CudaOptions;
use crate::tensor::DType;

/// What the choice depends on, of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceDescription {
    /// Its own.
    pub architecture: Architecture,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The most shared memory that a block can ask for.
    pub shared_bytes: u32,
}

/// What is added before the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Nothing.
    None,
    /// A value that lies as the output does.
    Plain,
    /// A subsampled value, or one of other channels.
    Other,
}

/// A convolution: input (N,H,W,C), output (N,OH,OW,O).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of activations and weights.
    pub dtype: DType,
    /// N, H, W, C.
    pub input: [u32; 4],
    /// N, OH, OW, O.
    pub output: [u32; 4],
    /// KH, KW.
    pub kernel: [u32; 2],
    /// Both axes.
    pub stride: u32,
    /// Both axes, both sides.
    pub padding: u32,
    /// What is added.
    pub shortcut: Shortcut,
}

/// How a convolution runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dChoice {
    /// By what.
    pub kernel: &'static Kernel,
    /// Blocks.
    pub grid: [u32; 3],
    /// Parts of the depth, each summed by blocks of its own.
    pub splits: u32,
}

/// The kernels of convolutions, in the order of the table above.
pub const CONVOLUTIONS: [Variant; 9] = [
    Variant::Stem,
    Variant::WgmmaLarge,
    Variant::WgmmaWide,
    Variant::WgmmaNarrow,
    Variant::MmaLarge,
    Variant::MmaTall,
    Variant::MmaSmall,
    Variant::TiledLarge,
    Variant::TiledSmall,
];

/// The fewest steps of the depth that a part of it is worth: below, writing and adding the parts costs more than it saves.
const PART_STEPS: u32 = 4;
/// The most parts: the block that adds them reads each.
const MOST_PARTS: u32 = 16;
/// Elements of any tensor, which kernels count in 32 bits.
pub const MOST_ELEMENTS: u64 = 1 << 31;

impl Shape {
    /// Output pixels of the whole batch.
    pub fn pixels(&self) -> u32 {
        let [n, h, w, _] = self.output;
        n * h * w
    }
    fn depth(&self) -> u32 {
        self.kernel[0] * self.kernel[1] * self.input[3]
    }
    /// Tiles of the output.
    pub fn tiles(&self, variant: Variant) -> [u32; 2] {
        let tile = variant.tile();
        let across = match variant {
            // 8 rows by 16 columns of an image.
            Variant::Stem => {
                self.output[0] * self.output[1].div_ceil(8) * self.output[2].div_ceil(16)
            }
            _ => self.pixels().div_ceil(tile.pixels),
        };
        [across, self.output[3].div_ceil(tile.channels)]
    }
    fn count(&self, variant: Variant) -> u32 {
        let [pixels, channels] = self.tiles(variant);
        pixels.saturating_mul(channels)
    }
}

/// Whether the kernel can run this convolution on this device.
pub fn takes(variant: Variant, shape: &Shape, device: &DeviceDescription) -> bool {
    let Some(kernel) = variant.kernel(shape.dtype) else {
        return false;
    };
    let [c, o] = [shape.input[3], shape.output[3]];
    let [kh, kw] = shape.kernel;
    let fits = match variant {
        Variant::TiledLarge | Variant::TiledSmall => true,
        Variant::MmaLarge | Variant::MmaTall | Variant::MmaSmall => c.is_multiple_of(8),
        Variant::Stem => c <= 4 && kh.max(kw) <= 7 && shape.stride <= 4,
        Variant::WgmmaLarge | Variant::WgmmaWide | Variant::WgmmaNarrow => {
            let reach = shape.padding + 129; // what the copy engine's corners can say
            c.is_multiple_of(64)
                && o.is_multiple_of(8)
                && shape.shortcut != Shortcut::Other
                && shape.stride <= 8
                && shape.padding <= 128
                && kh.max(kw) <= reach
        }
        _ => false,
    };
    fits && kernel.source.runs_on(device.architecture) && kernel.shared_bytes <= device.shared_bytes
}

/// How the convolution runs.
pub fn choose(shape: &Shape, device: &DeviceDescription, options: &CudaOptions) -> Conv2dChoice {
    let forced = options.convolution.filter(|v| takes(*v, shape, device));
    let variant = forced.unwrap_or_else(|| prefer(shape, device));
    let kernel = variant.kernel(shape.dtype);
    // `prefer` gives a kernel that the table has; the portable one stands for all types.
    let kernel = kernel.unwrap_or(&super::kernels::KERNELS[0]);
    let splits = splits(variant, shape, device, options);
    Conv2dChoice {
        kernel,
        grid: grid(variant, shape, device, splits),
        splits,
    }
}

fn prefer(shape: &Shape, device: &DeviceDescription) -> Variant {
    let sms = device.multiprocessors;
    let takes = |variant| takes(variant, shape, device);
    let fills = |variant, times: u32| takes(variant) && shape.count(variant) >= times * sms;
    let narrow = shape.output[3] <= 64;
    if takes(Variant::Stem) {
        Variant::Stem
    } else if takes(Variant::WgmmaNarrow) {
        match narrow {
            true => Variant::WgmmaNarrow,
            // Persistent blocks: with few turns each, smaller tiles leave less of the last turn idle.
            false if fills(Variant::WgmmaLarge, 3) => Variant::WgmmaLarge,
            false => Variant::WgmmaWide,
        }
    } else if takes(Variant::MmaTall) {
        match narrow {
            false if fills(Variant::MmaLarge, 2) => Variant::MmaLarge,
            _ if fills(Variant::MmaTall, 2) => Variant::MmaTall,
            _ if takes(Variant::MmaSmall) => Variant::MmaSmall,
            _ => Variant::MmaTall,
        }
    } else if !narrow && fills(Variant::TiledLarge, 1) {
        Variant::TiledLarge
    } else {
        Variant::TiledSmall
    }
}

/// Steps of the depth, where it can be divided.
fn steps(variant: Variant, shape: &Shape) -> u32 {
    match variant {
        Variant::MmaLarge | Variant::MmaTall => shape.depth().div_ceil(32),
        Variant::MmaSmall => shape.depth().div_ceil(64),
        Variant::WgmmaLarge | Variant::WgmmaWide | Variant::WgmmaNarrow => shape.depth() / 64,
        _ => 1,
    }
}

/// Where tiles are fewer than multiprocessors, the depth is divided among those that would have nothing to do.
fn splits(
    variant: Variant,
    shape: &Shape,
    device: &DeviceDescription,
    options: &CudaOptions,
) -> u32 {
    let steps = steps(variant, shape);
    let wanted = match options.splits {
        Some(wanted) => wanted.min(steps),
        None if options.batch_invariant => 1,
        None => {
            let idle = device.multiprocessors / shape.count(variant).max(1);
            idle.min(steps / PART_STEPS).min(MOST_PARTS)
        }
    };
    let outputs = u64::from(shape.pixels()) * u64::from(shape.output[3]);
    let most = (MOST_ELEMENTS - 1) / outputs.max(1);
    wanted.min(u32::try_from(most).unwrap_or(u32::MAX)).max(1)
}

fn grid(variant: Variant, shape: &Shape, device: &DeviceDescription, splits: u32) -> [u32; 3] {
    let [pixels, channels] = shape.tiles(variant);
    let sms = device.multiprocessors.max(1);
    match variant {
        // Three blocks a multiprocessor, each of which keeps its weights.
        Variant::Stem => [pixels.min((3 * sms / channels).max(1)), channels, 1],
        Variant::WgmmaLarge | Variant::WgmmaWide | Variant::WgmmaNarrow => {
            [(pixels * channels * splits).min(sms), 1, 1]
        }
        _ => [pixels, channels, splits],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(architecture: &str, multiprocessors: u32, shared_kib: u32) -> DeviceDescription {
        DeviceDescription {
            architecture: architecture.parse().unwrap(),
            multiprocessors,
            shared_bytes: shared_kib * 1024,
        }
    }

    fn h200() -> DeviceDescription {
        device("90a", 132, 227)
    }

    /// A padded square convolution of stride 1.
    fn shape(dtype: DType, batch: u32, side: u32, c: u32, o: u32, kernel: u32) -> Shape {
        Shape {
            dtype,
            input: [batch, side, side, c],
            output: [batch, side, side, o],
            kernel: [kernel; 2],
            stride: 1,
            padding: kernel / 2,
            shortcut: Shortcut::None,
        }
    }

    fn chosen(shape: &Shape, device: &DeviceDescription) -> Conv2dChoice {
        choose(shape, device, &CudaOptions::default())
    }

    #[test]
    fn f32_is_always_exact() {
        for device in [device("75", 40, 64), h200()] {
            let large = chosen(&shape(DType::F32, 64, 56, 128, 128, 3), &device);
            assert_eq!(large.kernel.entry, "conv2d_tiled_large_f32");
            let small = chosen(&shape(DType::F32, 1, 7, 512, 512, 3), &device);
            assert_eq!(
                (small.kernel.entry, small.splits),
                ("conv2d_tiled_small_f32", 1)
            );
        }
    }

    #[test]
    fn halves_take_the_best_cores_of_each_architecture() {
        let halves = shape(DType::F16, 8, 28, 128, 128, 3);
        for (device, entry) in [
            (device("75", 40, 64), "conv2d_tiled_large_f16"),
            (device("80", 108, 163), "conv2d_mma_small_f16"),
            (device("86", 46, 99), "conv2d_mma_tall_f16"),
            (h200(), "conv2d_wgmma_wide_f16"),
            (device("100", 148, 227), "conv2d_mma_small_f16"),
            (device("120", 84, 99), "conv2d_mma_small_f16"),
        ] {
            assert_eq!(chosen(&halves, &device).kernel.entry, entry);
        }
    }

    #[test]
    fn a_network_at_224_takes_every_hopper_kernel() {
        let entry = |batch, side, c, o, kernel| {
            let shape = shape(DType::Bf16, batch, side, c, o, kernel);
            chosen(&shape, &h200()).kernel.entry
        };
        assert_eq!(entry(256, 112, 3, 64, 7), "conv2d_stem_bf16");
        assert_eq!(entry(256, 56, 64, 64, 3), "conv2d_wgmma_narrow_bf16");
        assert_eq!(entry(256, 28, 128, 128, 3), "conv2d_wgmma_large_bf16");
        assert_eq!(entry(8, 14, 256, 256, 3), "conv2d_wgmma_wide_bf16");
        assert_eq!(entry(64, 32, 16, 16, 3), "conv2d_mma_tall_bf16");
        assert_eq!(entry(1, 9, 5, 7, 3), "conv2d_tiled_small_bf16");
    }

    #[test]
    fn few_tiles_divide_their_depth_unless_batches_must_not_matter() {
        let last = shape(DType::F16, 1, 7, 512, 512, 3);
        let choice = chosen(&last, &h200());
        assert_eq!((choice.splits, choice.grid), (16, [64, 1, 1]));
        let invariant = CudaOptions {
            batch_invariant: true,
            ..CudaOptions::default()
        };
        let choice = choose(&last, &h200(), &invariant);
        assert_eq!((choice.splits, choice.grid), (1, [4, 1, 1]));
    }

    #[test]
    fn a_subsampled_shortcut_is_not_for_the_copy_engine() {
        let mut shape = shape(DType::F16, 8, 16, 64, 64, 3);
        shape.shortcut = Shortcut::Other;
        assert!(chosen(&shape, &h200()).kernel.entry.contains("mma"));
        shape.shortcut = Shortcut::Plain;
        assert!(chosen(&shape, &h200()).kernel.entry.contains("wgmma"));
    }

    #[test]
    fn forced_kernels_run_what_they_take() {
        for variant in CONVOLUTIONS {
            let options = CudaOptions {
                convolution: Some(variant),
                splits: Some(3),
                ..CudaOptions::default()
            };
            for shape in [
                shape(DType::F16, 2, 9, 64, 64, 3),
                shape(DType::F16, 2, 9, 3, 64, 3),
            ] {
                let choice = choose(&shape, &h200(), &options);
                if takes(variant, &shape, &h200()) {
                    assert_eq!(choice.kernel.variant, variant);
                }
                assert!(choice.splits == 1 || choice.splits == 3);
            }
        }
    }
}
