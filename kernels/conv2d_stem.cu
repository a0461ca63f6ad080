//! conv2d_stem: the first convolution of a network, of 1 to 4 channels, on the tensor cores of sm_80 and later. f16 and bf16.
//!
//! Formula   as in conv2d.cuh. The depth is (u, e), e = v*C + i: for one row u of the kernel, the KW*C elements of a patch are
//!           neighbours in NHWC. Rows of the depth are rounded up to 8 elements, the whole to 16; so it goes in its own order,
//!           which is the same for any batch.
//! Layout    x, r, y NHWC, C 1 to 4; w (O, KH * R) with R = KW*C rounded up to 8, each row of w padded to a multiple of 16
//!           elements, zeros in all padding; bias (O) f32. O is any.
//! Threads   a block of 128 threads holds the weights of 64 output channels in shared memory and takes tiles of 8 rows by 16
//!           columns of output pixels, one after another: tiles block x, block x + grid x, ... A tile's input, (7*s + KH) by
//!           (15*s + KW) pixels, zero outside the map, is copied to shared memory; a warp computes two rows of 16 pixels, and
//!           loads its fragments straight from the input: pairs of elements, as one word each. Where s*C is odd, every other
//!           pixel's pairs begin at odd elements; a second copy of the input, moved by one element, has them at even ones.
//!           Elements beyond a row of a patch belong to its neighbour; they are cleared, since a NaN times 0 is not 0.
//!           Sixteen words apart modulo 32, the two copies' pairs fall on different banks, as they do for C = 3 and s = 2.
//! Grid      (B, ceil(O / 64)), B from 1 to N * ceil(OH / 8) * ceil(OW / 16), the number of tiles. A few blocks a
//!           multiprocessor are best: weights are then read once. The result does not depend on B.
//! Limits    C <= 4, KH, KW <= 7, stride <= 4, any padding; splits is 1. Fewer than 2^31 elements in each tensor.
//! Speed     benches/runs, `ops`.

#include <conv2d_epilogue.cuh>

constexpr u32 STEM_THREADS = 128;
constexpr u32 STEM_ROWS = 8, STEM_COLS = 16;         // of output pixels in a tile
constexpr u32 STEM_CHANNELS = 64;                    // of the output
constexpr u32 STEM_WEIGHT_PITCH = 7 * 32 + 8;        // elements in the longest row of weights, and what keeps banks apart
constexpr u32 STEM_INPUT = 35 * 67 * 4 + 28;         // elements: stride 4, 7x7, 4 channels; and the words read past the end

template <typename T> struct StemShared {
    T weights[STEM_CHANNELS * STEM_WEIGHT_PITCH];
    T input[STEM_INPUT]; // then the output on its way
    static_assert(STEM_INPUT >= STEM_ROWS * STEM_COLS * STEM_CHANNELS, "the output is staged where the input was");
};

/// What is the same in all tiles.
struct Stem {
    u32 row;          // elements in a row of the kernel, with padding
    u32 depth;        // of a row of weights
    u32 width, rows;  // of a tile's input, in elements and in rows
    u32 pitch;        // elements from a row of it to the next, even
    u32 shifted;      // where its second copy begins; 0 if all pairs begin at even elements anyway

    __device__ __forceinline__ explicit Stem(const Conv2dArgs& a) {
        row = divide_up(a.kernel_w * a.c, 8) * 8;
        depth = divide_up(a.kernel_h * row, 16) * 16;
        width = ((STEM_COLS - 1) * a.stride + a.kernel_w) * a.c;
        rows = (STEM_ROWS - 1) * a.stride + a.kernel_h;
        pitch = divide_up(width, 2) * 2;
        shifted = (a.stride * a.c & 1u) != 0 ? divide_up(rows * pitch, 64) * 64 + 32 : 0;
    }
    /// An odd multiple of 16 bytes, so that eight rows of weights fall on different banks.
    __device__ __forceinline__ u32 weight_pitch() const { return depth + 8; }
};

/// A tile of output pixels: its image and its first row and column.
struct Patch {
    u32 n, y, x, out_h, out_w;

    __device__ __forceinline__ Patch(const Conv2dArgs& a, u32 tile) : out_h(a.out_h), out_w(a.out_w) {
        const u32 across = divide_up(out_w, STEM_COLS), down = divide_up(out_h, STEM_ROWS);
        const u32 line = tile / across;
        n = line / down, y = line % down * STEM_ROWS, x = tile % across * STEM_COLS;
    }
    __device__ __forceinline__ u32 pixel(u32 row) const {
        const u32 at_y = y + row / STEM_COLS, at_x = x + row % STEM_COLS;
        return at_y < out_h && at_x < out_w ? (n * out_h + at_y) * out_w + at_x : NOWHERE;
    }
};

/// Begins to copy the weights of 64 channels from `channel` on; those beyond O become 0.
template <typename T>
__device__ __forceinline__ void copy_weights(const Conv2dArgs& a, const Stem& stem, T* to, u32 channel) {
    const u32 row = ptx::thread() / 2;
    const bool valid = channel + row < a.out_c;
    const T* from = static_cast<const T*>(a.weight) + (valid ? channel + row : 0) * stem.depth;
    for (u32 k = ptx::thread() % 2 * 8; k < stem.depth; k += 16) {
        ptx::cp_async_16(to + row * stem.weight_pitch() + k, from + k, valid ? 16 : 0);
    }
    ptx::cp_async_commit();
}

/// Copies a tile's input, element by element, for a row begins at any of them.
template <typename T>
__device__ __forceinline__ void copy_input(const Conv2dArgs& a, const Stem& stem, const Patch& patch, T* to) {
    constexpr u32 AT_ONCE = 8;
    const T* input = static_cast<const T*>(a.input);
    const u32 y = patch.y * a.stride - a.padding, x = (patch.x * a.stride - a.padding) * a.c, across = a.w * a.c;
    const u32 step_row = STEM_THREADS / stem.width, step_col = STEM_THREADS % stem.width;
    u32 row = ptx::thread() / stem.width, col = ptx::thread() % stem.width;
    while (row < stem.rows) {
        T element[AT_ONCE];
        u32 at[AT_ONCE];
#pragma unroll
        for (u32 e = 0; e < AT_ONCE; ++e) {
            const bool wanted = row < stem.rows;
            const bool inside = wanted && y + row < a.h && x + col < across;
            element[e] = inside ? input[(patch.n * a.h + y + row) * across + x + col] : T{0};
            at[e] = wanted ? row * stem.pitch + col : NOWHERE;
            row += step_row, col += step_col;
            if (col >= stem.width) col -= stem.width, row += 1;
        }
#pragma unroll
        for (u32 e = 0; e < AT_ONCE; ++e) {
            if (at[e] == NOWHERE) continue;
            to[at[e]] = element[e];
            if (stem.shifted != 0 && at[e] != 0) to[stem.shifted + at[e] - 1] = element[e];
        }
    }
}

/// Sums a warp's two rows of 16 pixels for the first 8 * N channels.
template <u32 N, typename T>
__device__ __forceinline__ void sum_patches(const Conv2dArgs& a, const Stem& stem, const StemShared<T>& shared,
                                            f32 (&sums)[2][STEM_CHANNELS / 8][4]) {
    const u32 lane = ptx::lane(), group = lane / 4, pair = lane % 4 * 2;
    const u32 step = a.stride * a.c, patch = a.kernel_w * a.c;
    u32 pixel = ptx::warp() * 2 * a.stride * stem.pitch + group * step + pair;
    if ((group & step & 1u) != 0) pixel += stem.shifted - 1;
    const T* weights = shared.weights + (lane % 8 + lane / 16 * 8) * stem.weight_pitch() + lane / 8 % 2 * 8;
    u32 u = 0, from = 0; // the next eight of the depth: their row of the kernel, their first element in it
#pragma unroll 1
    for (u32 k = 0; k < stem.depth; k += 16) {
        u32 at[2], keep[2];
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const u32 exist = u < a.kernel_h ? patch - from : 0;
            at[half] = u < a.kernel_h ? pixel + u * stem.pitch + from : pixel;
            keep[half] = pair + 1 < exist ? 0xffffffffu : pair < exist ? 0xffffu : 0;
            from += 8;
            if (from == stem.row) from = 0, u += 1;
        }
        u32 pixels[2][4];
#pragma unroll
        for (u32 m = 0; m < 2; ++m) {
#pragma unroll
            for (u32 part = 0; part < 4; ++part) { // rows of the map by m, pixels 8 on by part % 2, depth 8 on by part / 2
                const T* word = shared.input + at[part / 2] + m * a.stride * stem.pitch + part % 2 * 8 * step;
                pixels[m][part] = *reinterpret_cast<const u32*>(word) & keep[part / 2];
            }
        }
#pragma unroll
        for (u32 n = 0; n < N; n += 2) {
            u32 two[4];
            ptx::ldmatrix_x4(two, weights + n * 8 * stem.weight_pitch() + k);
            const u32 first[2] = {two[0], two[1]}, second[2] = {two[2], two[3]};
#pragma unroll
            for (u32 m = 0; m < 2; ++m) {
                multiply(T{}, sums[m][n], pixels[m], first);
                multiply(T{}, sums[m][n + 1], pixels[m], second);
            }
        }
    }
}

template <typename T> __device__ __forceinline__ void conv2d_stem(const Conv2dArgs& a) {
    StemShared<T>& shared = *static_cast<StemShared<T>*>(ptx::shared_memory());
    const Stem stem(a);
    const u32 channel = ptx::block_y() * STEM_CHANNELS;
    const u32 tiles = a.n * divide_up(a.out_h, STEM_ROWS) * divide_up(a.out_w, STEM_COLS);

    ptx::grid_wait();
    ptx::grid_launch_next();
    copy_weights(a, stem, shared.weights, channel);
#pragma unroll 1
    for (u32 tile = ptx::block_x(); tile < tiles; tile += ptx::grid_x()) {
        const Patch patch(a, tile);
        copy_input(a, stem, patch, shared.input);
        ptx::cp_async_wait<0>();
        ptx::sync_block();
        f32 sums[2][STEM_CHANNELS / 8][4] = {};
        if (a.out_c - channel > 32) {
            sum_patches<8>(a, stem, shared, sums);
        } else if (a.out_c - channel > 16) {
            sum_patches<4>(a, stem, shared, sums);
        } else {
            sum_patches<2>(a, stem, shared, sums);
        }
        ptx::sync_block();
        finish_tile<T, STEM_ROWS * STEM_COLS, STEM_CHANNELS, STEM_THREADS>(a, shared.input, sums, patch, channel,
                                                                           ptx::warp() * 32, 0);
        ptx::sync_block();
    }
}

ENTRY(conv2d_stem_f16, Conv2dArgs, STEM_THREADS, 4, sizeof(StemShared<f16>), conv2d_stem<f16>)
ENTRY(conv2d_stem_bf16, Conv2dArgs, STEM_THREADS, 4, sizeof(StemShared<bf16>), conv2d_stem<bf16>)
