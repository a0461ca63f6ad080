//! conv2d: the last step of a tile whose sums lie in registers as mma.sync leaves them.
//!
//! A tile is ROWS pixels by COLS channels. It passes through shared memory, so that global memory sees whole 16-byte
//! vectors of neighbouring channels although a thread's sums are pairs: the residual comes in, each thread adds its sums to
//! it in place and rounds once, the vectors go out. A row's vectors are swizzled by the row: pairs of eight rows, and
//! vectors of one row, each fall on all banks.
//!
//! Where a row of the tile lies in the output is the kernel's affair: `place.pixel(row)` is its pixel, or NOWHERE.
#pragma once

#include <conv2d.cuh>

constexpr u32 NOWHERE = 0xffffffffu;

template <typename T> __device__ u32 round_pair(f32 low, f32 high);
template <> __device__ __forceinline__ u32 round_pair<f16>(f32 low, f32 high) { return ptx::f32_to_f16x2(low, high); }
template <> __device__ __forceinline__ u32 round_pair<bf16>(f32 low, f32 high) { return ptx::f32_to_bf16x2(low, high); }

__device__ __forceinline__ void multiply(f16, f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { ptx::mma_m16n8k16_f16(d, a, b); }
__device__ __forceinline__ void multiply(bf16, f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { ptx::mma_m16n8k16_bf16(d, a, b); }

/// A place in the staged tile, in elements: of vector `vector` (8 channels) of row `row`.
template <u32 COLS> __device__ __forceinline__ u32 staged(u32 row, u32 vector) {
    static_assert(COLS % 64 == 0, "the swizzle moves vectors within 128 bytes");
    return row * COLS + ((vector ^ (row & 7u)) * 8u);
}

/// Begins to bring the residual of a tile, whose first channel is `channel`, to `tile`. The caller closes the group of
/// copies and waits for it, then meets the block.
template <typename T, u32 ROWS, u32 COLS, u32 THREADS, class Place>
__device__ inline void load_residual(const Conv2dArgs& a, T* tile, const Place& place, u32 channel) {
    const bool plain = residual_is_plain(a);
    const bool vectors = ((a.res_c | a.res_offset) & 7u) == 0;
    const T* residual = static_cast<const T*>(a.residual);
    constexpr u32 VECTORS = COLS / 8;
#pragma unroll 1
    for (u32 item = ptx::thread(); item < ROWS * VECTORS; item += THREADS) {
        const u32 row = item / VECTORS, k = channel + item % VECTORS * 8;
        const u32 pixel = place.pixel(row);
        T* to = tile + staged<COLS>(row, item % VECTORS);
        if (vectors) {
            const u32 from_k = k - a.res_offset; // wraps below the offset, and so is out of range there
            u32 at = pixel;
            if (!plain) {
                const Pixel p = pixel_at(a, pixel);
                at = (p.n * a.res_h + p.y * a.res_stride) * a.res_w + p.x * a.res_stride;
            }
            const bool valid = pixel != NOWHERE && from_k < a.res_c;
            ptx::cp_async_16(to, valid ? residual + (at * a.res_c + from_k) : residual, valid ? 16 : 0);
        } else {
            const Pixel p = pixel_at(a, pixel);
            Vec<T> x;
            for (u32 e = 0; e < 8; ++e) x.v[e] = from_f32<T>(pixel != NOWHERE ? residual_at<T>(a, p, k + e) : 0.0f);
            store_vec(to, x);
        }
    }
}

/// Adds bias and residual to a warp's sums, activates, rounds, and leaves them in `tile`. The warp's first element is
/// (row, column) of the tile.
template <typename T, u32 COLS, u32 M, u32 N>
__device__ __forceinline__ void finish_sums(const Conv2dArgs& a, T* tile, const f32 (&sums)[M][N][4], u32 channel, u32 row,
                                            u32 column) {
    const bool residual = a.residual != nullptr;
    const u32 group = ptx::lane() / 4, pair = ptx::lane() % 4 * 2;
    f32 bias[N][2];
#pragma unroll
    for (u32 n = 0; n < N; ++n) {
        const u32 k = channel + column + n * 8 + pair;
        bias[n][0] = k < a.out_c ? a.bias[k] : 0.0f;
        bias[n][1] = k + 1 < a.out_c ? a.bias[k + 1] : 0.0f;
    }
#pragma unroll
    for (u32 m = 0; m < M; ++m) {
#pragma unroll
        for (u32 n = 0; n < N; ++n) {
#pragma unroll
            for (u32 half = 0; half < 2; ++half) {
                u32* to = reinterpret_cast<u32*>(tile + staged<COLS>(row + m * 16 + half * 8 + group, column / 8 + n) + pair);
                f32 low = sums[m][n][half * 2] + bias[n][0], high = sums[m][n][half * 2 + 1] + bias[n][1];
                if (residual) {
                    const u32 r = *to;
                    low += to_f32(T{u16(r & 0xffffu)});
                    high += to_f32(T{u16(r >> 16u)});
                }
                *to = round_pair<T>(activate(a, low), activate(a, high));
            }
        }
    }
}

/// Eight channels of a pixel from k on, to the output: one vector, or those that exist.
template <typename T> __device__ __forceinline__ void store_channels(const Conv2dArgs& a, u32 pixel, u32 k, const Vec<T>& x) {
    T* to = static_cast<T*>(a.output) + (pixel * a.out_c + k);
    if ((a.out_c & 7u) == 0) {
        store_vec(to, x);
    } else {
#pragma unroll
        for (u32 e = 0; e < 8; ++e) {
            if (k + e < a.out_c) to[e] = x.v[e];
        }
    }
}

/// The staged tile to the output.
template <typename T, u32 ROWS, u32 COLS, u32 THREADS, class Place>
__device__ inline void store_tile(const Conv2dArgs& a, const T* tile, const Place& place, u32 channel) {
    constexpr u32 VECTORS = COLS / 8;
    static_assert(ROWS * VECTORS % THREADS == 0, "every thread has as many vectors");
#pragma unroll 4
    for (u32 i = 0; i < ROWS * VECTORS / THREADS; ++i) {
        const u32 item = ptx::thread() + i * THREADS;
        const u32 row = item / VECTORS, vector = item % VECTORS;
        const u32 pixel = place.pixel(row), k = channel + vector * 8;
        if (pixel != NOWHERE && k < a.out_c) store_channels(a, pixel, k, load_vec(tile + staged<COLS>(row, vector)));
    }
}

/// From sums in registers to the output, through `tile`, which no thread of the block uses any more.
template <typename T, u32 ROWS, u32 COLS, u32 THREADS, u32 M, u32 N, class Place>
__device__ __forceinline__ void finish_tile(const Conv2dArgs& a, T* tile, const f32 (&sums)[M][N][4], const Place& place,
                                            u32 channel, u32 row, u32 column) {
    if (a.residual != nullptr) {
        load_residual<T, ROWS, COLS, THREADS>(a, tile, place, channel);
        ptx::cp_async_commit();
        ptx::cp_async_wait<0>();
        ptx::sync_block();
    }
    finish_sums<T, COLS>(a, tile, sums, channel, row, column);
    ptx::sync_block();
    store_tile<T, ROWS, COLS, THREADS>(a, tile, place, channel);
}
