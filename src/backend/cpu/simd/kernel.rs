//! The convolution's inner loop: a tile of M output pixels by N vectors of output channels, in registers.
//!
//! acc[m][n] = sum over r, j of pixel[m][r * row_step + j] * weights[r][j][n]; then bias, residual and relu.
//! In (H, W, C) the inputs under one row of the filter are contiguous, so j runs over KW * I elements at once and a
//! convolution of any kernel is KH such runs. Each output is one chain of sums in the order (r, s, c) whatever the
//! tile's size, so results do not depend on batch size, threads or the place of a pixel in its tile.

#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{Portable, Vector};

/// How far ahead weights are asked for, in elements.
const PREFETCH: usize = 512;

/// One call's operands. Every pointer is to f32.
pub struct Tile {
    /// M inputs: the upper left element under the filter of each output pixel.
    pub pixels: *const *const f32,
    /// KH.
    pub rows: usize,
    /// KW * I.
    pub row_len: usize,
    /// From one row of the input to the next, in elements.
    pub row_step: usize,
    /// (KH, KW * I, N * LANES).
    pub weights: *const f32,
    /// (N * LANES).
    pub bias: *const f32,
    /// M values to add, or null.
    pub residual: *const *const f32,
    /// M outputs, `out_step` elements apart.
    pub out: *mut f32,
    /// In elements.
    pub out_step: usize,
    /// max(x, 0) at the end.
    pub relu: bool,
}

/// A kernel for one number of pixels and vectors.
///
/// # Safety
/// As [`tile`].
pub type TileFn = unsafe fn(&Tile);

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// As reported among the device's features.
    pub name: &'static str,
    /// f32 of one vector; a panel is two vectors of output channels.
    pub lanes: usize,
    /// By pixels less one: two vectors of output channels.
    pub two: &'static [TileFn],
    /// By pixels less one: one vector, for the last channels.
    pub one: &'static [TileFn],
}

impl Kernels {
    /// The best that this processor has.
    pub fn detect() -> Self {
        Self::all().remove(0)
    }

    /// All that this processor has, best first; the last is portable.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx512f") {
                all.push(Self {
                    name: "avx512f",
                    lanes: 16,
                    two: &AVX512_TWO,
                    one: &AVX512_ONE,
                });
            }
            if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                all.push(Self {
                    name: "avx2",
                    lanes: 8,
                    two: &AVX2_TWO,
                    one: &AVX2_ONE,
                });
            }
        }
        all.push(Self {
            name: "portable",
            lanes: 8,
            two: &PORTABLE_TWO,
            one: &PORTABLE_ONE,
        });
        all
    }

    /// Most pixels of a tile.
    pub fn pixels(&self) -> usize {
        self.two.len()
    }
}

/// # Safety
/// The processor has V's instructions, and the tile's pointers cover what its sizes say.
#[allow(clippy::needless_range_loop)] // Constant bounds, so that the accumulators stay in registers.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize>(t: &Tile) {
    // SAFETY: `pixels` holds M pointers, each to `rows` runs of `row_len` elements `row_step` apart; `weights` holds
    // rows * row_len * N vectors; `bias` N; `residual`, unless null, M pointers to N vectors; `out` M times N vectors.
    unsafe {
        let mut acc = [[V::zero(); N]; M];
        let pixels = *t.pixels.cast::<[*const f32; M]>();
        let mut weights = t.weights;
        for row in 0..t.rows {
            let start = row * t.row_step;
            for j in start..start + t.row_len {
                let mut w = [V::zero(); N];
                for n in 0..N {
                    // Far enough ahead for weights that come from the third cache or from memory.
                    V::prefetch(weights.wrapping_add(PREFETCH + n * V::LANES));
                    w[n] = V::load(weights.add(n * V::LANES));
                }
                weights = weights.add(N * V::LANES);
                for m in 0..M {
                    let x = V::splat(pixels[m].add(j));
                    for n in 0..N {
                        acc[m][n] = acc[m][n].fma(x, w[n]);
                    }
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                let mut value = acc[m][n].add(V::load(t.bias.add(n * V::LANES)));
                if !t.residual.is_null() {
                    value = value.add(V::load((*t.residual.add(m)).add(n * V::LANES)));
                }
                if t.relu {
                    value = value.relu();
                }
                value.store(t.out.add(m * t.out_step + n * V::LANES));
            }
        }
    }
}

/// The tables of one instruction set: its entry for each number of pixels.
macro_rules! kernels {
    ($entry:ident, $vector:ty, $(#[$feature:meta])*, $two:ident, $one:ident, $len:literal, [$($m:literal)*]) => {
        $(#[$feature])*
        /// # Safety
        /// As [`tile`].
        unsafe fn $entry<const M: usize, const N: usize>(t: &Tile) {
            // SAFETY: the caller vouches for the same.
            unsafe { tile::<$vector, M, N>(t) }
        }
        static $two: [TileFn; $len] = [$($entry::<$m, 2>),*];
        static $one: [TileFn; $len] = [$($entry::<$m, 1>),*];
    };
}

// As many pixels as leave registers for two vectors of weights and one input: 32, 16 and 16 (or 32 half as wide).
#[cfg(target_arch = "x86_64")]
kernels!(avx512, Avx512, #[target_feature(enable = "avx512f")], AVX512_TWO, AVX512_ONE, 14, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, Avx2, #[target_feature(enable = "avx2,fma")], AVX2_TWO, AVX2_ONE, 6, [1 2 3 4 5 6]);
kernels!(portable, Portable, , PORTABLE_TWO, PORTABLE_ONE, 4, [1 2 3 4]);
