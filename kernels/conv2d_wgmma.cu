//! conv2d_wgmma: implicit GEMM on Hopper's warpgroup products, fed by the copy engine.
//!
//! Formula   conv2d.cuh's, for f16 and bf16. The weights are the left factor, so that a tile is channels x pixels:
//!           y^T (O, pixels) = w (O, depth) x^T (depth, pixels), both with the depth fastest. So 64 channels fill a product
//!           too, whose right factor may have 256 columns.
//! Layout    w (O, KH, KW, C) as in the plan; the rest as conv2d.cuh says.
//!           Two tensor maps, of the dtype, no interleave, swizzle 128 B, L2 promotion 256 B, zeros outside (OOB_FILL_NONE):
//!           weights  cuTensorMapEncodeTiled, rank 2: dims {KH*KW*C, O}, strides {KH*KW*C*2} bytes, box {64, channels of a
//!                    tile}, element strides {1, 1}.
//!           pixels   cuTensorMapEncodeIm2col, rank 4, of the input: dims {C, W, H, N}, strides {C*2, W*C*2, H*W*C*2} bytes,
//!                    lower corner {-p, -p}, upper corner {p-(KW-1), p-(KH-1)} (W first, as in the dims, whatever order the
//!                    driver's manual names), 64 channels a pixel, pixels of a tile a column, element strides {1, s, s, 1}.
//!           The corners bound where windows begin: at -p + s*ox, of which W-1 + p-(KW-1) is the last place that a window
//!           fits at. The engine walks these places by s, first W, then H, then N, adds the tap (v, u) to each, and gives
//!           zeros outside the map and after the last image.
//! Threads   384, a block a multiprocessor, each of which takes every grid-th turn: a tile, or a part of its depth where
//!           splits > 1. Thread 0 loads stages of 64 of the depth into a ring. Threads 32 to 127 move, by 16 bytes, residuals
//!           in and results out, while the next tile is multiplied. Threads 128 to 383 are two warpgroups that multiply, 64
//!           channels by all pixels of a tile: in large and wide both work on one tile, half the channels each; in narrow
//!           each has tiles of its own, so that one finishes while the other multiplies.
//!           large: 128 channels x 256 pixels, 3 stages. wide: 128 x 128, 6 stages. narrow: 64 x 256, 4 stages.
//! Parts     Each writes its sums to partial (splits, pixels, O); the one that is the last by the tile's ticket adds them in
//!           order. No block waits for another.
//! Order     Weights, which no kernel writes, are fetched before the kernel before has ended; pixels, residual and results
//!           are touched after.
//! Limits    grid (1 to min(turns, multiprocessors)), turns = ceil(pixels / tile) * ceil(O / tile) * splits; splits at most
//!           KH*KW*C / 64; C % 64 == 0; O % 8 == 0; no residual or a plain one; s <= 8; p <= 127; KH, KW <= p + 129; input,
//!           output, weights and residual aligned to 16 bytes; partial below 2^31 elements. Of a 1x1 kernel of stride 1
//!           without padding the host may as well say that it is one row: n = h = 1, w = pixels.
//! Speed     benches/runs.
#include <conv2d_wgmma.cuh>

/// Mirrored in src/backend/cuda/args.rs.
struct Conv2dWgmmaArgs {
    TensorMap weights;
    TensorMap pixels;
    Conv2dArgs conv;
};
static_assert(sizeof(Conv2dWgmmaArgs) == 384, "as src/backend/cuda/args.rs has it");

// ---- the loader: one thread ----

template <typename K>
__device__ inline void load_weights(const Conv2dWgmmaArgs& args, Shared<K>& s, u32 stage, u32 step, u32 channel) {
    ptx::mbarrier_arrive_expect(&s.full[stage], sizeof(Stage<K>));
    ptx::tma_load_2d(s.stages[stage].weights, &args.weights, &s.full[stage], int(step * DEPTH), int(channel));
}

template <typename K> __device__ inline void load(const Conv2dWgmmaArgs& args, Shared<K>& s) {
    const Conv2dArgs& a = args.conv;
    ptx::tma_prefetch_map(&args.weights);
    ptx::tma_prefetch_map(&args.pixels);
    const u32 count = turns<K>(a);
    Turn turn = turn_at<K>(a, ptx::block_x());
    // No kernel writes weights, so the first of them come while the kernel before this one still runs.
    u32 early = turn.end - turn.begin < K::STAGES ? turn.end - turn.begin : K::STAGES;
    for (u32 i = 0; i < early; i++) load_weights<K>(args, s, i, turn.begin + i, turn.channel);
    ptx::grid_wait();
    ptx::grid_launch_next(); // all blocks of this grid are resident: the next kernel's take only what they leave
    Ring<K> ring;
    for (u32 index = ptx::block_x(); index < count; index += ptx::grid_x()) {
        turn = turn_at<K>(a, index);
        const Pixel p = pixel_at(a, turn.pixel);
        const int x = int(p.x * a.stride) - int(a.padding);
        const int y = int(p.y * a.stride) - int(a.padding);
        const u32 vectors = a.c / DEPTH; // steps of one tap
        u32 c = turn.begin % vectors * DEPTH;
        u32 u = turn.begin / vectors / a.kernel_w;
        u32 v = turn.begin / vectors % a.kernel_w;
        for (u32 step = turn.begin; step < turn.end; step++) {
            if (early > 0) {
                early--;
            } else {
                ptx::mbarrier_wait(&s.empty[ring.stage], ring.phase ^ 1u);
                load_weights<K>(args, s, ring.stage, step, turn.channel);
            }
            ptx::tma_load_im2col(s.stages[ring.stage].pixels, &args.pixels, &s.full[ring.stage], int(c), x, y, int(p.n),
                                 u16(v), u16(u));
            ring.next();
            c += DEPTH;
            if (c < a.c) continue;
            c = 0;
            v++;
            if (v < a.kernel_w) continue;
            v = 0;
            u++;
        }
    }
}

// ---- the movers: three warps ----

constexpr u32 MOVERS = 96;
constexpr u32 BATCH = 4; // vectors of a mover under way at once

/// A mover's vectors of a tile: one of every STRIDE pixels, always the same channels. A vector's place is always the same
/// thread's, so a residual may follow a result into it without a barrier.
template <typename K> struct Vectors {
    static constexpr u32 STRIDE = MOVERS / K::CHUNKS;
    u32 chunk;         // of the tile's channels
    u32 pixel, pixels; // the first, and the end, in the tile
    u32 at;            // of the first, in the output and in a plain residual
    __device__ Vectors(const Conv2dArgs& a, const Turn& turn) {
        const u32 me = ptx::thread() - 32u;
        chunk = me % K::CHUNKS;
        pixel = me / K::CHUNKS;
        const u32 left = a.n * a.out_h * a.out_w - turn.pixel;
        pixels = turn.channel + chunk * 8 >= a.out_c ? 0 : (left < K::PIXELS ? left : K::PIXELS);
        at = (turn.pixel + pixel) * a.out_c + turn.channel + chunk * 8;
    }
};

template <typename K>
__device__ inline void bring_residual(const Conv2dArgs& a, Shared<K>& s, u32 buffer, const Turn& turn) {
    if (a.residual != nullptr) {
        const Vectors<K> mine(a, turn);
        const typename K::T* from = static_cast<const typename K::T*>(a.residual) + mine.at;
        for (u32 pixel = mine.pixel; pixel < mine.pixels; pixel += mine.STRIDE) {
            ptx::cp_async_16(staged<K>(s, buffer, pixel, mine.chunk), from, 16);
            from += mine.STRIDE * a.out_c;
        }
        ptx::cp_async_commit();
        ptx::cp_async_wait<0>();
    }
    ptx::mbarrier_arrive(&s.ready[buffer]);
}

template <typename K>
__device__ inline void store_result(const Conv2dArgs& a, Shared<K>& s, u32 buffer, const Turn& turn) {
    const Vectors<K> mine(a, turn);
    typename K::T* to = static_cast<typename K::T*>(a.output) + mine.at;
    for (u32 first = mine.pixel; first < mine.pixels; first += BATCH * mine.STRIDE) {
        Vec<typename K::T> x[BATCH];
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            const u32 pixel = first + i * mine.STRIDE;
            if (pixel < mine.pixels) x[i] = load_vec(staged<K>(s, buffer, pixel, mine.chunk));
        }
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            if (first + i * mine.STRIDE < mine.pixels) store_vec(to, x[i]);
            to += mine.STRIDE * a.out_c;
        }
    }
}

template <typename K> __device__ inline void move(const Conv2dArgs& a, Shared<K>& s) {
    ptx::grid_wait();
    const u32 count = turns<K>(a);
    for (u32 i = 0; i < K::BUFFERS; i++) {
        const u32 index = ptx::block_x() + i * ptx::grid_x();
        if (index < count) bring_residual<K>(a, s, i, turn_at<K>(a, index));
    }
    u32 number = 0;
    for (u32 index = ptx::block_x(); index < count; index += ptx::grid_x(), number++) {
        const u32 buffer = number % K::BUFFERS;
        ptx::mbarrier_wait(&s.done[buffer], number / K::BUFFERS & 1u);
        if (a.splits == 1 || s.last[buffer] != 0) store_result<K>(a, s, buffer, turn_at<K>(a, index));
        const u32 next = index + K::BUFFERS * ptx::grid_x();
        if (next < count) bring_residual<K>(a, s, buffer, turn_at<K>(a, next));
    }
}

// ---- the multipliers: two warpgroups ----

// d += w x, or d = w x where `add` is 0.
__device__ __forceinline__ void product(f16, f32 (&d)[128], u64 w, u64 x, u32 add) {
    ptx::wgmma_m64n256k16_f16(d, w, x, add);
}
__device__ __forceinline__ void product(bf16, f32 (&d)[128], u64 w, u64 x, u32 add) {
    ptx::wgmma_m64n256k16_bf16(d, w, x, add);
}
__device__ __forceinline__ void product(f16, f32 (&d)[64], u64 w, u64 x, u32 add) {
    ptx::wgmma_m64n128k16_f16(d, w, x, add);
}
__device__ __forceinline__ void product(bf16, f32 (&d)[64], u64 w, u64 x, u32 add) {
    ptx::wgmma_m64n128k16_bf16(d, w, x, add);
}

__device__ inline u32 pack(f16, f32 low, f32 high) { return ptx::f32_to_f16x2(low, high); }
__device__ inline u32 pack(bf16, f32 low, f32 high) { return ptx::f32_to_bf16x2(low, high); }

__device__ inline u32 positive(f16, u32 pair) { return ptx::max_f16x2(pair, 0); }
__device__ inline u32 positive(bf16, u32 pair) { return ptx::max_bf16x2(pair, 0); }
__device__ inline f32 low_half(f16, u32 pair) { return to_f32(f16{u16(pair)}); }
__device__ inline f32 high_half(f16, u32 pair) { return to_f32(f16{u16(pair >> 16u)}); }
__device__ inline f32 low_half(bf16, u32 pair) { return ptx::bits_to_f32(pair << 16u); }
__device__ inline f32 high_half(bf16, u32 pair) { return ptx::bits_to_f32(pair & 0xffff0000u); }

/// d = the products of `steps` steps, from where the ring is. One step's products run while the next's are being issued.
/// `follow` then lets the other warpgroup begin, where each has tiles of its own: a wait for a stage knows only whether the
/// ring went round an odd or an even number of times, so nobody may wait for a round before the one before it is loaded.
template <typename K>
__device__ __forceinline__ void multiply_steps(Shared<K>& s, Ring<K>& ring, u32 steps, u32 first_row, u64* follow,
                                               f32 (&d)[K::PIXELS / 2]) {
    u32 previous = 0;
    for (u32 step = 0; step < steps; step++) {
        ptx::mbarrier_wait(&s.full[ring.stage], ring.phase);
        const u64 weights = ptx::wgmma_descriptor(s.stages[ring.stage].weights[first_row]);
        const u64 pixels = ptx::wgmma_descriptor(s.stages[ring.stage].pixels);
        ptx::wgmma_fence();
#pragma unroll
        for (u32 k = 0; k < DEPTH / 16; k++) product(typename K::T{}, d, weights + 2 * k, pixels + 2 * k, k > 0 ? 1u : step);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        if (step > 0 && ptx::lane() == 0) ptx::mbarrier_arrive(&s.empty[previous]);
        previous = ring.stage;
        ring.next();
    }
    if (K::GROUPS == 1 && ptx::lane() == 0) ptx::mbarrier_arrive(follow);
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(d);
    if (ptx::lane() == 0) ptx::mbarrier_arrive(&s.empty[previous]);
}

/// Calls `each(sum, its place in a part)` for those of this thread's sums that are outputs.
template <typename K, typename Each>
__device__ __forceinline__ void each_sum(const Conv2dArgs& a, const Turn& turn, u32 row, u32 split, f32 (&d)[K::PIXELS / 2],
                                         Each each) {
    const u32 pixels = a.n * a.out_h * a.out_w;
    const u32 first = turn.pixel + ptx::lane() % 4 * 2;
    const u32 left = first < pixels ? pixels - first : 0;
    const u32 rows = row + 8 < a.out_c ? 2 : row < a.out_c ? 1 : 0;
    f32* at = a.partial + (split * pixels + first) * a.out_c + row;
#pragma unroll
    for (u32 j = 0; j < K::PIXELS / 8; j++) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            if (8 * j + i % 2 < left && i / 2 < rows) each(d[4 * j + i], at + i % 2 * a.out_c + i / 2 * 8);
        }
        at += 8 * a.out_c;
    }
}

/// Writes this part's sums; the block that is the last of the tile's parts reads all of them into d, in order.
template <typename K>
__device__ __forceinline__ bool join_parts(const Conv2dArgs& a, Shared<K>& s, const Turn& turn, u32 buffer, u32 row,
                                           f32 (&d)[K::PIXELS / 2]) {
    each_sum<K>(a, turn, row, turn.split, d, [](f32& sum, f32* at) { *at = sum; });
    ptx::sync_named(1 + buffer, K::GROUPS * WARPGROUP); // all threads' sums are written before the ticket says so
    if (ptx::thread() == WARPGROUP * (1 + buffer)) {
        const bool last = ptx::atomic_add_acq_rel(&a.tickets[turn.ticket], 1) == a.splits - 1;
        if (last) a.tickets[turn.ticket] = 0;
        s.last[buffer] = last;
    }
    ptx::sync_named(1 + buffer, K::GROUPS * WARPGROUP);
    if (s.last[buffer] == 0) return false;
#pragma unroll
    for (u32 i = 0; i < K::PIXELS / 2; i++) d[i] = 0.0f;
    for (u32 split = 0; split < a.splits; split++) {
        each_sum<K>(a, turn, row, split, d, [](f32& sum, f32* at) { sum += ptx::load_device(at); });
    }
    return true;
}

/// Adds bias and residual, activates, rounds, and leaves the result in the residual's place. Matrices of 8 channels x 8
/// pixels are transposed on the way: a thread has two pixels of one channel, and memory eight channels of one pixel.
template <typename K>
__device__ __forceinline__ void finish(const Conv2dArgs& a, Shared<K>& s, u32 buffer, u32 first_row, const f32 (&bias)[2],
                                       const f32 (&d)[K::PIXELS / 2]) {
    using T = typename K::T;
    const u32 lane = ptx::lane();
    const u32 chunk = first_row / 8 + lane / 8 % 2;
    const u32 pixel = lane / 16 * 8 + lane % 8;
    const bool adds = a.residual != nullptr;
    u32 r[2][4] = {};
    if (adds) ptx::ldmatrix_x4_trans(r[0], staged<K>(s, buffer, pixel, chunk));
#pragma unroll
    for (u32 j = 0; j < K::PIXELS / 16; j++) {
        if (adds && j + 1 < K::PIXELS / 16) {
            ptx::ldmatrix_x4_trans(r[(j + 1) % 2], staged<K>(s, buffer, 16 * (j + 1) + pixel, chunk));
        }
        u32 y[4];
#pragma unroll
        for (u32 m = 0; m < 4; m++) {
            f32 low = d[8 * j + 2 * m] + bias[m % 2];
            f32 high = d[8 * j + 2 * m + 1] + bias[m % 2];
            if (adds) {
                low += low_half(T{}, r[j % 2][m]);
                high += high_half(T{}, r[j % 2][m]);
            }
            y[m] = pack(T{}, low, high);
            if (a.relu != 0) y[m] = positive(T{}, y[m]); // of what is rounded: half the instructions, the same result
        }
        ptx::stmatrix_x4_trans(staged<K>(s, buffer, 16 * j + pixel, chunk), y);
    }
}

template <typename K> __device__ __forceinline__ void multiply(const Conv2dArgs& a, Shared<K>& s) {
    ptx::grid_wait(); // of the loader too, but then not of this thread's own accesses
    const u32 group = ptx::shuffle(ptx::thread() / WARPGROUP, 0) - 1; // shuffled, so that it is known to be uniform
    const u32 first_row = (K::GROUPS == 1 ? 0 : group * ROWS); // in the tile
    const u32 warp_row = first_row + ptx::warp() % 4 * 16;
    const u32 count = turns<K>(a);
    Ring<K> ring;
    u32 number = 0;
    for (u32 index = ptx::block_x(); index < count; index += ptx::grid_x(), number++) {
        const Turn turn = turn_at<K>(a, index);
        const u32 buffer = number % K::BUFFERS;
        if (K::GROUPS == 1 && buffer != group) {
            ring.advance(turn.end - turn.begin);
            continue;
        }
        const u32 row = turn.channel + warp_row + ptx::lane() / 4;
        const f32 bias[2] = {row < a.out_c ? a.bias[row] : 0.0f, row + 8 < a.out_c ? a.bias[row + 8] : 0.0f};
        if (K::GROUPS == 1 && number > 0) ptx::mbarrier_wait(&s.follow[buffer], (number - 1) / 2 & 1u);
        f32 d[K::PIXELS / 2];
        multiply_steps<K>(s, ring, turn.end - turn.begin, first_row, &s.follow[K::BUFFERS - 1 - buffer], d);
        ptx::mbarrier_wait(&s.ready[buffer], number / K::BUFFERS & 1u);
        if (a.splits == 1 || join_parts<K>(a, s, turn, buffer, row, d)) finish<K>(a, s, buffer, warp_row, bias, d);
        ptx::mbarrier_arrive(&s.done[buffer]);
    }
}

// Of a thread. A block starts with 168 for each; this many for a loader or mover and for a multiplier fit into 65,536.
constexpr u32 MOVER_REGISTERS = 40;
constexpr u32 MULTIPLIER_REGISTERS = 232;

template <typename K> __device__ inline void conv2d_wgmma(const Conv2dWgmmaArgs& args) {
    Shared<K>& s = *static_cast<Shared<K>*>(ptx::shared_memory());
    if (ptx::thread() == 0) {
        for (u32 i = 0; i < K::STAGES; i++) {
            ptx::mbarrier_init(&s.full[i], 1);
            ptx::mbarrier_init(&s.empty[i], K::GROUPS * WARPGROUP / 32);
        }
        for (u32 i = 0; i < K::BUFFERS; i++) {
            ptx::mbarrier_init(&s.ready[i], MOVERS);
            ptx::mbarrier_init(&s.done[i], K::GROUPS * WARPGROUP);
            ptx::mbarrier_init(&s.follow[i], WARPGROUP / 32);
        }
        ptx::mbarrier_init_fence();
    }
    ptx::sync_block();
    if (ptx::thread() < WARPGROUP) {
        ptx::registers_give<MOVER_REGISTERS>();
        if (ptx::thread() == 0) load<K>(args, s);
        if (ptx::warp() != 0) move<K>(args.conv, s);
    } else {
        ptx::registers_take<MULTIPLIER_REGISTERS>();
        multiply<K>(args.conv, s);
    }
}

template <typename T> using Large = Tile<T, 256, 2, 3>;
template <typename T> using Wide = Tile<T, 128, 2, 6>;
template <typename T> using Narrow = Tile<T, 256, 1, 4>;

ENTRY(conv2d_wgmma_large_f16, Conv2dWgmmaArgs, THREADS, 1, sizeof(Shared<Large<f16>>), conv2d_wgmma<Large<f16>>)
ENTRY(conv2d_wgmma_large_bf16, Conv2dWgmmaArgs, THREADS, 1, sizeof(Shared<Large<bf16>>), conv2d_wgmma<Large<bf16>>)
ENTRY(conv2d_wgmma_wide_f16, Conv2dWgmmaArgs, THREADS, 1, sizeof(Shared<Wide<f16>>), conv2d_wgmma<Wide<f16>>)
ENTRY(conv2d_wgmma_wide_bf16, Conv2dWgmmaArgs, THREADS, 1, sizeof(Shared<Wide<bf16>>), conv2d_wgmma<Wide<bf16>>)
ENTRY(conv2d_wgmma_narrow_f16, Conv2dWgmmaArgs, THREADS, 1, sizeof(Shared<Narrow<f16>>), conv2d_wgmma<Narrow<f16>>)
ENTRY(conv2d_wgmma_narrow_bf16, Conv2dWgmmaArgs, THREADS, 1, sizeof(Shared<Narrow<bf16>>), conv2d_wgmma<Narrow<bf16>>)
