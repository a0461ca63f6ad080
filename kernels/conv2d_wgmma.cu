#include <conv2d.cuh>

/// Mirrored in src/backend/cuda/args.rs.
struct Conv2dWgmmaArgs {
    TensorMap weights;
    TensorMap pixels;
    Conv2dArgs conv;
};
static_assert(sizeof(Conv2dWgmmaArgs) == 384, "as src/backend/cuda/args.rs has it");

constexpr u32 DEPTH = 64;        // of a stage: 128 bytes of a row, the widest that the copy engine swizzles
constexpr u32 ROWS = 64;         // channels of a warpgroup
constexpr u32 WARPGROUP = 128;   // its threads
constexpr u32 THREADS = 3 * WARPGROUP;
constexpr u32 MOVERS = 96;       // threads 32 to 127
constexpr u32 LOADER_REGISTERS = 56, MULTIPLIER_REGISTERS = 224; // of a thread; 65,536 in all, with 168 at the start

/// One shape of tile: GROUPS warpgroups share one, 64 channels each.
template <typename T_, u32 PIXELS_, u32 GROUPS_, u32 STAGES_> struct Tile {
    using T = T_;
    static constexpr u32 PIXELS = PIXELS_;
    static constexpr u32 GROUPS = GROUPS_;
    static constexpr u32 STAGES = STAGES_;
    static constexpr u32 CHANNELS = ROWS * GROUPS;
    static constexpr u32 BUFFERS = 2 / GROUPS; // tiles under way at once
    static constexpr u32 CHUNKS = CHANNELS / 8; // vectors of 16 bytes in a pixel's channels
};

template <typename K> struct Stage {
    typename K::T weights[K::CHANNELS][DEPTH];
    typename K::T pixels[K::PIXELS][DEPTH];
};

template <typename K> struct Shared {
    Stage<K> stages[K::STAGES];
    typename K::T staging[K::BUFFERS][K::PIXELS][K::CHANNELS]; // residual, then result; vectors permuted by `staged`
    u64 full[K::STAGES], empty[K::STAGES];                     // a stage is loaded; is used up
    u64 ready[K::BUFFERS], done[K::BUFFERS];                   // a buffer holds the residual; holds the result
    u32 last[K::BUFFERS];                                      // this block completes the tile (where splits > 1)
};

/// Where vector `chunk` of a pixel lies: so permuted, the same vector of 8 pixels is in 8 different groups of banks.
template <typename K> __device__ inline typename K::T* staged(Shared<K>& s, u32 buffer, u32 pixel, u32 chunk) {
    return &s.staging[buffer][pixel][(chunk ^ (pixel & 7u)) * 8u];
}

/// What a block does in one turn: a tile, or one part of its depth.
struct Turn {
    u32 pixel, channel; // the tile's first
    u32 begin, end;     // steps of the depth, DEPTH each
    u32 split;
    u32 ticket;
};

template <typename K> __device__ inline u32 turns(const Conv2dArgs& a) {
    return divide_up(a.n * a.out_h * a.out_w, K::PIXELS) * divide_up(a.out_c, K::CHANNELS) * a.splits;
}

/// Parts of a tile are neighbours, then come the tiles of the same pixels: what runs at the same time shares its pixels in
/// the second-level cache, where the weights stay.
template <typename K> __device__ inline Turn turn_at(const Conv2dArgs& a, u32 index) {
    const u32 pixel_tiles = divide_up(a.n * a.out_h * a.out_w, K::PIXELS);
    const u32 channel_tiles = divide_up(a.out_c, K::CHANNELS);
    const u32 steps = a.kernel_h * a.kernel_w * (a.c / DEPTH);
    const u32 split = index % a.splits;
    const u32 channel_tile = index / a.splits % channel_tiles;
    const u32 pixel_tile = index / a.splits / channel_tiles;
    return Turn{pixel_tile * K::PIXELS, channel_tile * K::CHANNELS, split * steps / a.splits,
                (split + 1) * steps / a.splits, split, pixel_tile + channel_tile * pixel_tiles};
}

/// A place in the ring of stages, and how often the ring went round.
template <typename K> struct Ring {
    u32 stage = 0;
    u32 phase = 0;
    __device__ void advance(u32 steps) {
        const u32 at = stage + steps;
        stage = at % K::STAGES;
        phase ^= at / K::STAGES & 1u;
    }
    __device__ void next() {
        stage++;
        if (stage == K::STAGES) {
            stage = 0;
            phase ^= 1u;
        }
    }
};

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

/// Calls `each(staged vector, index of its first element in the output)` for this thread's vectors of a tile. A vector is
/// always the same thread's, so that one may follow another into its place without a barrier.
template <typename K> struct Vectors {
    u32 chunk, pixel, pixels;
    u32 at, row;
    __device__ Vectors(const Conv2dArgs& a, const Turn& turn, u32 me) {
        chunk = me % K::CHUNKS;
        pixel = me / K::CHUNKS;
        const u32 left = a.n * a.out_h * a.out_w - turn.pixel;
        pixels = turn.channel + chunk * 8 >= a.out_c ? 0 : (left < K::PIXELS ? left : K::PIXELS);
        row = a.out_c;
        at = (turn.pixel + pixel) * row + turn.channel + chunk * 8;
    }
};
constexpr u32 BATCH = 4; // vectors of a thread under way at once

template <typename K> __device__ inline void bring_residual(const Conv2dArgs& a, Shared<K>& s, u32 buffer, const Turn& turn) {
    using T = typename K::T;
    if (a.residual != nullptr) {
        constexpr u32 STRIDE = MOVERS / K::CHUNKS;
        const Vectors<K> mine(a, turn, ptx::thread() - 32u);
        u32 at = mine.at;
        for (u32 pixel = mine.pixel; pixel < mine.pixels; pixel += STRIDE) {
            ptx::cp_async_16(staged<K>(s, buffer, pixel, mine.chunk), static_cast<const T*>(a.residual) + at, 16);
            at += STRIDE * mine.row;
        }
        ptx::cp_async_commit();
        ptx::cp_async_wait<0>();
    }
    ptx::mbarrier_arrive(&s.ready[buffer]);
}

template <typename K> __device__ inline void store_result(const Conv2dArgs& a, Shared<K>& s, u32 buffer, const Turn& turn) {
    using T = typename K::T;
    constexpr u32 STRIDE = MOVERS / K::CHUNKS;
    const Vectors<K> mine(a, turn, ptx::thread() - 32u);
    T* to = static_cast<T*>(a.output) + mine.at;
    for (u32 first = mine.pixel; first < mine.pixels; first += BATCH * STRIDE) {
        Vec<T> x[BATCH];
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            const u32 pixel = first + i * STRIDE;
            if (pixel < mine.pixels) x[i] = load_vec(staged<K>(s, buffer, pixel, mine.chunk));
        }
#pragma unroll
        for (u32 i = 0; i < BATCH; i++) {
            if (first + i * STRIDE < mine.pixels) store_vec(to + i * STRIDE * mine.row, x[i]);
        }
        to += BATCH * STRIDE * mine.row;
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

__device__ __forceinline__ void product(f16, f32 (&d)[128], u64 a, u64 b, u32 add) { ptx::wgmma_m64n256k16_f16(d, a, b, add); }
__device__ __forceinline__ void product(bf16, f32 (&d)[128], u64 a, u64 b, u32 add) { ptx::wgmma_m64n256k16_bf16(d, a, b, add); }
__device__ __forceinline__ void product(f16, f32 (&d)[64], u64 a, u64 b, u32 add) { ptx::wgmma_m64n128k16_f16(d, a, b, add); }
__device__ __forceinline__ void product(bf16, f32 (&d)[64], u64 a, u64 b, u32 add) { ptx::wgmma_m64n128k16_bf16(d, a, b, add); }

__device__ inline u32 pack(f16, f32 low, f32 high) { return ptx::f32_to_f16x2(low, high); }
__device__ inline u32 pack(bf16, f32 low, f32 high) { return ptx::f32_to_bf16x2(low, high); }

__device__ inline f32 low_half(f16, u32 pair) { return to_f32(f16{u16(pair)}); }
__device__ inline f32 high_half(f16, u32 pair) { return to_f32(f16{u16(pair >> 16u)}); }
__device__ inline f32 low_half(bf16, u32 pair) { return ptx::bits_to_f32(pair << 16u); }
__device__ inline f32 high_half(bf16, u32 pair) { return ptx::bits_to_f32(pair & 0xffff0000u); }

/// d = the products of `steps` steps, from where the ring is. One step's products run while the next's are being issued.
template <typename K>
__device__ __forceinline__ void multiply_steps(Shared<K>& s, Ring<K>& ring, u32 steps, u32 first_row, f32 (&d)[K::PIXELS / 2]) {
    u32 previous = 0;
    for (u32 step = 0; step < steps; step++) {
        ptx::mbarrier_wait(&s.full[ring.stage], ring.phase);
        const u64 weights = ptx::wgmma_descriptor(s.stages[ring.stage].weights[first_row]);
        const u64 pixels = ptx::wgmma_descriptor(s.stages[ring.stage].pixels);
        ptx::wgmma_fence();
#pragma unroll
        for (u32 k = 0; k < DEPTH / 16; k++) product(typename K::T{}, d, weights + 2 * k, pixels + 2 * k, step + k);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
        if (step > 0 && ptx::lane() == 0) ptx::mbarrier_arrive(&s.empty[previous]);
        previous = ring.stage;
        ring.next();
    }
    ptx::wgmma_wait<0>();
    ptx::wgmma_settle(d);
    if (ptx::lane() == 0) ptx::mbarrier_arrive(&s.empty[previous]);
}

/// Writes this part's sums; the block that is the last of the tile's parts reads all of them into d, in order.
template <typename K>
__device__ __forceinline__ bool join_parts(const Conv2dArgs& a, Shared<K>& s, const Turn& turn, u32 buffer, u32 row,
                                           f32 (&d)[K::PIXELS / 2]) {
    const u32 pixels = a.n * a.out_h * a.out_w;
    const u32 column = turn.pixel + ptx::lane() % 4 * 2;
    f32* part = a.partial + turn.split * pixels * a.out_c + row;
#pragma unroll
    for (u32 i = 0; i < K::PIXELS / 2; i++) {
        const u32 pixel = column + i / 4 * 8 + i % 2;
        const u32 below = i / 2 % 2 * 8;
        if (pixel < pixels && row + below < a.out_c) part[pixel * a.out_c + below] = d[i];
    }
    const u32 barrier = 1 + buffer;
    ptx::sync_named(barrier, K::GROUPS * WARPGROUP);
    if (ptx::thread() == WARPGROUP * (1 + buffer)) {
        const u32 before = ptx::atomic_add_acq_rel(&a.tickets[turn.ticket], 1);
        s.last[buffer] = before == a.splits - 1;
        if (before == a.splits - 1) a.tickets[turn.ticket] = 0;
    }
    ptx::sync_named(barrier, K::GROUPS * WARPGROUP);
    if (s.last[buffer] == 0) return false;
#pragma unroll
    for (u32 i = 0; i < K::PIXELS / 2; i++) d[i] = 0.0f;
    for (u32 split = 0; split < a.splits; split++) {
        const f32* from = a.partial + split * pixels * a.out_c + row;
#pragma unroll
        for (u32 i = 0; i < K::PIXELS / 2; i++) {
            const u32 pixel = column + i / 4 * 8 + i % 2;
            const u32 below = i / 2 % 2 * 8;
            if (pixel < pixels && row + below < a.out_c) d[i] += ptx::load_device(from + pixel * a.out_c + below);
        }
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
#pragma unroll
    for (u32 j = 0; j < K::PIXELS / 16; j++) {
        T* at = staged<K>(s, buffer, 16 * j + pixel, chunk);
        u32 r[4] = {0, 0, 0, 0};
        if (adds) ptx::ldmatrix_x4_trans(r, at);
#pragma unroll
        for (u32 m = 0; m < 4; m++) {
            f32 low = d[8 * j + 2 * m] + bias[m % 2];
            f32 high = d[8 * j + 2 * m + 1] + bias[m % 2];
            if (adds) {
                low += low_half(T{}, r[m]);
                high += high_half(T{}, r[m]);
            }
            r[m] = pack(T{}, activate(a, low), activate(a, high));
        }
        ptx::stmatrix_x4_trans(at, r);
    }
}

template <typename K> __device__ __forceinline__ void multiply(const Conv2dArgs& a, Shared<K>& s) {
    ptx::grid_wait();
    const u32 group = ptx::thread() / WARPGROUP - 1;
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
        f32 d[K::PIXELS / 2];
        multiply_steps<K>(s, ring, turn.end - turn.begin, first_row, d);
        ptx::mbarrier_wait(&s.ready[buffer], number / K::BUFFERS & 1u);
        if (a.splits == 1 || join_parts<K>(a, s, turn, buffer, row, d)) finish<K>(a, s, buffer, warp_row, bias, d);
        ptx::mbarrier_arrive(&s.done[buffer]);
    }
}

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
        }
        ptx::mbarrier_init_fence();
    }
    ptx::sync_block();
    if (ptx::thread() < WARPGROUP) {
        ptx::registers_give<LOADER_REGISTERS>();
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
