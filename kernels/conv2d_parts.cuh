//! conv2d: a tile whose depth is summed in parts by `splits` blocks, of which the last to finish adds the parts in their
//! order. So the result is the same whichever block is last, but not the same for another number of splits.
#pragma once

#include <conv2d_epilogue.cuh>

struct alignas(8) SumPair {
    f32 low, high;
};

/// A warp's sums to this part of `partial`.
template <u32 M, u32 N, class Place>
__device__ __forceinline__ void store_part(const Conv2dArgs& a, const f32 (&sums)[M][N][4], const Place& place, u32 part,
                                           u32 channel, u32 row, u32 column) {
    const u32 pixels = a.n * a.out_h * a.out_w;
    const u32 group = ptx::lane() / 4, pair = ptx::lane() % 4 * 2;
    const bool pairs = (a.out_c & 1u) == 0; // so that they are aligned, and end where the row does
    f32* to = a.partial + static_cast<u64>(part) * pixels * a.out_c;
#pragma unroll
    for (u32 m = 0; m < M; ++m) {
#pragma unroll
        for (u32 half = 0; half < 2; ++half) {
            const u32 pixel = place.pixel(row + m * 16 + half * 8 + group);
            if (pixel == NOWHERE) continue;
#pragma unroll
            for (u32 n = 0; n < N; ++n) {
                const u32 k = channel + column + n * 8 + pair;
                f32* at = to + (static_cast<u64>(pixel) * a.out_c + k);
                const SumPair sum{sums[m][n][half * 2], sums[m][n][half * 2 + 1]};
                if (pairs) {
                    if (k < a.out_c) *reinterpret_cast<SumPair*>(at) = sum;
                } else {
                    if (k < a.out_c) at[0] = sum.low;
                    if (k + 1 < a.out_c) at[1] = sum.high;
                }
            }
        }
    }
}

/// Whether this block is the last of its tile's; all threads get the same answer. `flag` is a word of shared memory.
__device__ inline bool is_last_part(const Conv2dArgs& a, u32 ticket, u32* flag) {
    ptx::sync_block(); // all threads' sums are written before the ticket says so
    if (ptx::thread() == 0) {
        *flag = ptx::atomic_add_acq_rel(a.tickets + ticket, 1) == a.splits - 1;
        if (*flag != 0) a.tickets[ticket] = 0; // for the next launch: nobody else comes for this one
    }
    ptx::sync_block();
    return *flag != 0;
}

/// The sum over the parts of eight channels of a pixel from k on, in order.
__device__ __forceinline__ void add_parts(const Conv2dArgs& a, u32 pixel, u32 k, f32 (&x)[8]) {
    const u64 part = static_cast<u64>(a.n * a.out_h * a.out_w) * a.out_c;
    const f32* from = a.partial + (static_cast<u64>(pixel) * a.out_c + k);
#pragma unroll
    for (u32 e = 0; e < 8; ++e) x[e] = 0.0f;
    if ((a.out_c & 7u) == 0) {
#pragma unroll 8 // sixteen loads under way
        for (u32 z = 0; z < a.splits; ++z, from += part) {
            f32 low[4], high[4];
            ptx::load_device_x4(low, from);
            ptx::load_device_x4(high, from + 4);
#pragma unroll
            for (u32 e = 0; e < 4; ++e) x[e] += low[e], x[e + 4] += high[e];
        }
    } else {
#pragma unroll 1
        for (u32 z = 0; z < a.splits; ++z, from += part) {
#pragma unroll
            for (u32 e = 0; e < 8; ++e) {
                if (k + e < a.out_c) x[e] += ptx::load_device(from + e);
            }
        }
    }
}

/// From the parts to the output. A thread reads the residual of exactly the elements that it writes.
template <typename T, u32 ROWS, u32 COLS, u32 THREADS, class Place>
__device__ inline void finish_parts(const Conv2dArgs& a, const Place& place, u32 channel) {
    constexpr u32 VECTORS = COLS / 8;
    const bool vectors = residual_is_plain(a) && (a.out_c & 7u) == 0;
#pragma unroll 1
    for (u32 item = ptx::thread(); item < ROWS * VECTORS; item += THREADS) {
        const u32 pixel = place.pixel(item / VECTORS), k = channel + item % VECTORS * 8;
        if (pixel == NOWHERE || k >= a.out_c) continue;
        Vec<T> residual{};
        if (vectors) {
            residual = load_vec(static_cast<const T*>(a.residual) + (pixel * a.out_c + k));
        } else if (a.residual != nullptr) {
            const Pixel p = pixel_at(a, pixel);
#pragma unroll
            for (u32 e = 0; e < 8; ++e) residual.v[e] = from_f32<T>(residual_at<T>(a, p, k + e));
        }
        f32 x[8];
        add_parts(a, pixel, k, x);
        Vec<T> y;
#pragma unroll
        for (u32 e = 0; e < 8; ++e) {
            const f32 bias = k + e < a.out_c ? a.bias[k + e] : 0.0f;
            y.v[e] = from_f32<T>(activate(a, x[e] + bias + to_f32(residual.v[e])));
        }
        store_channels(a, pixel, k, y);
    }
}
