//! conv2d_mma: convolution as a product of matrices on the tensor cores of sm_80 and later, by mma.sync. f16 and bf16.
//!
//! Formula   as in conv2d.cuh. Rows of the product are output pixels, columns output channels; the depth is (u, v, i).
//! Layout    x, r, y NHWC, C a multiple of 8; w (O, KH, KW, C); bias (O) f32. O, kernel, stride and padding are any. A 1x1
//!           convolution of a 1x1 map is `linear`: rows are N, w is (O, C).
//! Threads   a block of 128 threads computes PIXELS x CHANNELS outputs, two warps by two:
//!               large 128 x 128, warps of 64 x 64     tall 128 x 64, warps of 64 x 32     small 64 x 64, warps of 32 x 32
//!           The depth comes in tiles of DEPTH elements, STAGES of them in shared memory or on their way there. A thread
//!           copies one vector of 8 channels from each of some rows of both operands; its vector's tap moves by a whole tile
//!           with three additions and two carries. What is outside the map, the depth or O is zero-filled.
//!           The fragments of 16 of the depth are loaded while those before them are multiplied, across tiles too; so a
//!           tile costs one barrier, behind which its stage is free for the tile STAGES further on.
//!           All three shapes add the depth in the same order, 16 at a time: equal outputs have equal bits.
//!           Reading fragments and writing copies is free of bank conflicts: a row's 16-byte vectors are swizzled by the row.
//! Grid      (ceil(N*OH*OW / PIXELS), ceil(O / CHANNELS), splits). Blocks take the tiles of one run of pixels one after
//!           another, so that the pixels are read from memory once and the weights stay in the second-level cache.
//! Splits    block z sums tiles [z*K/splits, (z+1)*K/splits) of the K tiles of the depth; 1 <= splits <= K. With splits > 1
//!           `partial` and `tickets` are needed, see conv2d_parts.cuh. ticket = pixel tile + channel tile * grid x.
//! Limits    fewer than 2^31 elements in each tensor. Shared memory: see the entries.
//! Speed     benches/runs, `ops`.

#include <conv2d_parts.cuh>

template <u32 PIXELS_, u32 CHANNELS_, u32 DEPTH_, u32 STAGES_> struct Shape {
    static constexpr u32 PIXELS = PIXELS_, CHANNELS = CHANNELS_, DEPTH = DEPTH_, STAGES = STAGES_;
    static constexpr u32 THREADS = 128;
    static constexpr u32 WARP_PIXELS = PIXELS / 2, WARP_CHANNELS = CHANNELS / 2;
    static constexpr u32 M = WARP_PIXELS / 16, N = WARP_CHANNELS / 8; // products a warp for 16 of the depth
    static constexpr u32 STEPS = DEPTH / 16;                          // of 16 in a tile of the depth
    static constexpr u32 VECTORS = DEPTH / 8;                         // in a row of a tile
    static constexpr u32 ROW_STEP = THREADS / VECTORS;                // between the rows of which a thread copies a vector
    static constexpr u32 ROW_BYTES = DEPTH * 2;
    static constexpr u32 WEIGHTS_AT = PIXELS * ROW_BYTES;             // the weights of a stage, behind its pixels
    static constexpr u32 STAGE_BYTES = (PIXELS + CHANNELS) * ROW_BYTES;
    static constexpr u32 SHARED_BYTES = STAGES * STAGE_BYTES;
    static_assert(DEPTH == 32 || DEPTH == 64, "the swizzle knows these");
    static_assert(PIXELS * CHANNELS * 2 <= SHARED_BYTES, "the output is staged where the operands were");

    /// Where vector `vector` of row `row` is, in bytes: eight rows have theirs on different banks.
    __device__ static __forceinline__ u32 swizzled(u32 row, u32 vector) {
        const u32 turn = DEPTH == 64 ? row & 7u : row >> 1u & 3u;
        return row * ROW_BYTES + ((vector ^ turn) * 16);
    }
};

/// PIXELS x CHANNELS: 48 KiB a block in `large` and `tall`, so that sm_86 and sm_89 hold two blocks, sm_80 three of `tall`.
using Large = Shape<128, 128, 32, 3>;
using Tall = Shape<128, 64, 32, 4>;
/// For few tiles, where the time to the next tile of the depth is what counts: twice as deep, and more of it under way.
using Small = Shape<64, 64, 64, 4>;

/// Output pixels from `first` on.
struct Run {
    u32 first, pixels;
    __device__ __forceinline__ u32 pixel(u32 row) const { return first + row < pixels ? first + row : NOWHERE; }
};

/// This thread's vector of the depth: its tap (u, v), its channel i, and its distance from the first element of a patch.
struct Cursor {
    u32 u, v, i, offset;
    u32 step_u, step_v, step_i, step_offset; // DEPTH in taps and channels

    __device__ __forceinline__ Cursor(const Conv2dArgs& a, u32 k, u32 depth) {
        i = k % a.c, v = k / a.c % a.kernel_w, u = k / a.c / a.kernel_w;
        step_i = depth % a.c, step_v = depth / a.c % a.kernel_w, step_u = depth / a.c / a.kernel_w;
        offset = (u * a.w + v) * a.c + i;
        step_offset = (step_u * a.w + step_v) * a.c + step_i;
    }
    __device__ __forceinline__ void advance(const Conv2dArgs& a) {
        i += step_i, v += step_v, u += step_u, offset += step_offset;
        if (i >= a.c) i -= a.c, v += 1; // the next tap's first channel follows this one's last
        if (v >= a.kernel_w) v -= a.kernel_w, u += 1, offset += (a.w - a.kernel_w) * a.c;
    }
};

/// What a thread copies: vector `thread % VECTORS` of rows `thread / VECTORS + j * ROW_STEP` of both operands.
template <typename T, class S> struct Copies {
    static constexpr u32 PIXEL_ROWS = S::PIXELS / S::ROW_STEP, CHANNEL_ROWS = S::CHANNELS / S::ROW_STEP;

    Cursor cursor;
    u32 y[PIXEL_ROWS], x[PIXEL_ROWS], patch[PIXEL_ROWS]; // of each pixel's patch: its corner, and its first element
    u32 weight, channel_rows;                            // of the first channel: its element; how many of the rows exist
    u32 to;                                              // bytes from the beginning of a stage

    __device__ __forceinline__ Copies(const Conv2dArgs& a, const Run& run, u32 channel, u32 k)
        : cursor(a, k + ptx::thread() % S::VECTORS * 8, S::DEPTH) {
        const u32 row = ptx::thread() / S::VECTORS, vector = ptx::thread() % S::VECTORS;
        const bool pointwise = a.kernel_h * a.kernel_w * a.stride == 1 && a.padding == 0;
#pragma unroll
        for (u32 j = 0; j < PIXEL_ROWS; ++j) {
            const u32 pixel = run.first + row + j * S::ROW_STEP;
            u32 n = pixel; // patches of a pointwise convolution follow each other as the pixels do
            y[j] = x[j] = 0;
            if (!pointwise) {
                const u32 line = pixel / a.out_w;
                n = line / a.out_h;
                y[j] = (line - n * a.out_h) * a.stride - a.padding, x[j] = (pixel - line * a.out_w) * a.stride - a.padding;
                n *= a.h * a.w;
            }
            patch[j] = (n + y[j] * a.w + x[j]) * a.c;
            if (pixel >= run.pixels) y[j] = 0x80000000u; // outside of every map
        }
        const u32 first = channel + row;
        weight = first * (a.kernel_h * a.kernel_w * a.c) + k + vector * 8;
        channel_rows = first < a.out_c ? divide_up(a.out_c - first, S::ROW_STEP) : 0;
        to = S::swizzled(row, vector); // ROW_STEP is a multiple of the swizzle's period
    }

    /// Begins the next tile of the depth.
    __device__ __forceinline__ void copy(const Conv2dArgs& a, u8* stage, bool wanted) {
        const T* input = static_cast<const T*>(a.input);
        const T* weights = static_cast<const T*>(a.weight);
        const bool inside = wanted && cursor.u < a.kernel_h;
#pragma unroll
        for (u32 j = 0; j < PIXEL_ROWS; ++j) {
            const bool valid = inside && y[j] + cursor.u < a.h && x[j] + cursor.v < a.w;
            const u32 from = patch[j] + cursor.offset;
            ptx::cp_async_16(stage + to + j * S::ROW_STEP * S::ROW_BYTES, input + from, valid ? 16 : 0);
        }
        const u32 row = S::ROW_STEP * (a.kernel_h * a.kernel_w * a.c);
#pragma unroll
        for (u32 j = 0; j < CHANNEL_ROWS; ++j) {
            const bool valid = inside && j < channel_rows;
            ptx::cp_async_16(stage + S::WEIGHTS_AT + to + j * S::ROW_STEP * S::ROW_BYTES, weights + (weight + j * row),
                             valid ? 16 : 0);
        }
        weight += S::DEPTH;
        cursor.advance(a);
    }
};

/// A warp's operands of one step: 16 of the depth.
template <class S> struct Fragments {
    u32 pixels[S::M][4], channels[S::N][2];

    /// `pixels_at`, `channels_at`: this thread's row of each, at step 0.
    __device__ __forceinline__ void load(const u8* stage, u32 step, u32 pixels_at, u32 channels_at) {
        // A step is two vectors, and vectors are numbered by the bits from 16 on, which the swizzle only turns.
#pragma unroll
        for (u32 m = 0; m < S::M; ++m) ptx::ldmatrix_x4(pixels[m], stage + (pixels_at ^ (step * 32)) + m * 16 * S::ROW_BYTES);
#pragma unroll
        for (u32 n = 0; n < S::N; n += 2) {
            u32 two[4];
            ptx::ldmatrix_x4(two, stage + (channels_at ^ (step * 32)) + n * 8 * S::ROW_BYTES);
            channels[n][0] = two[0], channels[n][1] = two[1], channels[n + 1][0] = two[2], channels[n + 1][1] = two[3];
        }
    }
};

/// Sums tiles [begin, end) of the depth. Where the vectors are is worked out before the kernels ahead have finished.
template <typename T, class S>
__device__ __forceinline__ void sum_depth(const Conv2dArgs& a, u8* shared, const Run& run, u32 channel, u32 begin, u32 end,
                                          f32 (&sums)[S::M][S::N][4]) {
    Copies<T, S> copies(a, run, channel, begin * S::DEPTH);
    ptx::grid_wait();
    ptx::grid_launch_next();
#pragma unroll
    for (u32 s = 0; s < S::STAGES; ++s) {
        copies.copy(a, shared + s * S::STAGE_BYTES, begin + s < end);
        ptx::cp_async_commit();
    }
    const u32 lane = ptx::lane(), warp = ptx::warp();
    const u32 pixels_at = S::swizzled(warp / 2 * S::WARP_PIXELS + lane % 16, lane / 16);
    const u32 channels_at =
        S::WEIGHTS_AT + S::swizzled(warp % 2 * S::WARP_CHANNELS + lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (u32 m = 0; m < S::M; ++m) {
#pragma unroll
        for (u32 n = 0; n < S::N; ++n) sums[m][n][0] = sums[m][n][1] = sums[m][n][2] = sums[m][n][3] = 0.0f;
    }
    Fragments<S> fragments[2];
    ptx::cp_async_wait<S::STAGES - 1>();
    ptx::sync_block();
    fragments[0].load(shared, 0, pixels_at, channels_at);
    u32 at = 0; // bytes from the first stage to this tile's
#pragma unroll 1
    for (u32 tile = begin; tile < end; ++tile) {
        const u32 next = at + S::STAGE_BYTES == S::SHARED_BYTES ? 0 : at + S::STAGE_BYTES;
#pragma unroll
        for (u32 step = 0; step < S::STEPS; ++step) {
            if (step + 1 < S::STEPS) {
                fragments[(step + 1) % 2].load(shared + at, step + 1, pixels_at, channels_at);
            } else {
                ptx::cp_async_wait<S::STAGES - 2>();
                ptx::sync_block(); // the next tile is here, and nobody needs this one's stage any more
                fragments[(step + 1) % 2].load(shared + next, 0, pixels_at, channels_at); // after the last: not used
                copies.copy(a, shared + at, tile + S::STAGES < end);
                ptx::cp_async_commit();
            }
#pragma unroll
            for (u32 m = 0; m < S::M; ++m) {
#pragma unroll
                for (u32 n = 0; n < S::N; ++n) {
                    multiply(T{}, sums[m][n], fragments[step % 2].pixels[m], fragments[step % 2].channels[n]);
                }
            }
        }
        at = next;
    }
    ptx::cp_async_wait<0>();
    ptx::sync_block();
}

template <typename T, class S> __device__ __forceinline__ void conv2d_mma(const Conv2dArgs& a) {
    u8* shared = static_cast<u8*>(ptx::shared_memory());
    const u32 channel_tiles = divide_up(a.out_c, S::CHANNELS);
    const u32 block = ptx::block_x() + ptx::block_y() * ptx::grid_x();
    const u32 pixel_tile = block / channel_tiles, channel_tile = block % channel_tiles;
    const Run run{pixel_tile * S::PIXELS, a.n * a.out_h * a.out_w};
    const u32 channel = channel_tile * S::CHANNELS;
    const u32 tiles = divide_up(a.kernel_h * a.kernel_w * a.c, S::DEPTH), part = ptx::block_z();
    const u32 row = ptx::warp() / 2 * S::WARP_PIXELS, column = ptx::warp() % 2 * S::WARP_CHANNELS;

    f32 sums[S::M][S::N][4];
    sum_depth<T, S>(a, shared, run, channel, part * tiles / a.splits, (part + 1) * tiles / a.splits, sums);
    if (a.splits > 1) {
        store_part(a, sums, run, part, channel, row, column);
        u32* flag = reinterpret_cast<u32*>(shared);
        if (is_last_part(a, pixel_tile + channel_tile * ptx::grid_x(), flag)) {
            finish_parts<T, S::PIXELS, S::CHANNELS, S::THREADS>(a, run, channel);
        }
        return;
    }
    finish_tile<T, S::PIXELS, S::CHANNELS, S::THREADS>(a, reinterpret_cast<T*>(shared), sums, run, channel, row, column);
}

ENTRY(conv2d_mma_large_f16, Conv2dArgs, 128, 2, Large::SHARED_BYTES, conv2d_mma<f16, Large>)
ENTRY(conv2d_mma_large_bf16, Conv2dArgs, 128, 2, Large::SHARED_BYTES, conv2d_mma<bf16, Large>)
ENTRY(conv2d_mma_tall_f16, Conv2dArgs, 128, 3, Tall::SHARED_BYTES, conv2d_mma<f16, Tall>)
ENTRY(conv2d_mma_tall_bf16, Conv2dArgs, 128, 3, Tall::SHARED_BYTES, conv2d_mma<bf16, Tall>)
ENTRY(conv2d_mma_small_f16, Conv2dArgs, 128, 3, Small::SHARED_BYTES, conv2d_mma<f16, Small>)
ENTRY(conv2d_mma_small_bf16, Conv2dArgs, 128, 3, Small::SHARED_BYTES, conv2d_mma<bf16, Small>)
