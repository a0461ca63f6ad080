//! top_k
//!
//! Formula   the k largest of softmax(x / temperature), largest first, the lower class first among equals
//! Layout    x (M,C) in T; out (M,k) pairs of class and score
//! Threads   a block of 256 a row. A thread owns classes thread, thread + 256, ... and offers the best of those not yet taken;
//!           each of the k turns takes the best offer of the block, and its owner alone looks for another.
//! Numbers   a NaN ranks last, with -infinity. As in the specification a score is NaN where the sum is (a NaN or +infinity
//!           among the logits); the host makes it 0.
//! Limits    grid (M); 1 <= k <= C; 16,576 bytes of shared memory
//! Speed     one pass over a row and k turns of one barrier each; benches/runs
#include <number.cuh>

struct TopKEntry {
    u32 label;
    f32 score;
};

/// Mirrored in src/backend/cuda/args.rs.
struct TopKArgs {
    const void* input;
    TopKEntry* output;
    u32 rows, c, k;
    f32 inverse_temperature;
};
static_assert(sizeof(TopKArgs) == 32, "as src/backend/cuda/args.rs has it");

constexpr u32 THREADS = 256;
constexpr u32 WARPS = THREADS / 32;

/// Classes whose logits are kept near; those beyond are read again where an owner looks for another offer.
constexpr u32 KEPT = 4096;

struct Offer {
    f32 value;
    u32 label;
};

struct Shared {
    f32 logits[KEPT];
    Offer offers[2][WARPS]; // of even and odd turns, so that one barrier a turn is enough
    f32 sums[WARPS];
    u32 pad[8];
};
static_assert(sizeof(Shared) == 16576, "as the header says");

/// Comes before all other offers, and after: what a thread with no classes left offers.
__device__ inline Offer nothing() { return Offer{ptx::bits_to_f32(0xff800000u), 0xffffffffu}; }

/// By its bits, since a compiler may assume that there is no NaN.
__device__ inline f32 rank(f32 x) {
    const u32 bits = ptx::f32_to_bits(x);
    return (bits & 0x7fffffffu) > 0x7f800000u ? ptx::bits_to_f32(0xff800000u) : x;
}

__device__ inline bool before(Offer a, Offer b) { return a.value > b.value || (a.value == b.value && a.label < b.label); }

/// The best of the warp's offers, in every lane. `lanes` is how many neighbours take part, a power of two.
__device__ inline Offer best_of_lanes(Offer mine, u32 lanes) {
    for (u32 mask = lanes / 2; mask > 0; mask /= 2) {
        const Offer other{ptx::shuffle_xor(mine.value, mask), ptx::shuffle_xor(mine.label, mask)};
        if (before(other, mine)) mine = other;
    }
    return mine;
}

/// One row, as one thread sees it.
template <typename T> struct Row {
    const T* x;
    const f32* kept;
    u32 c;

    __device__ f32 logit(u32 i) const { return i < KEPT ? kept[i] : to_f32(x[i]); }

    /// The best of this thread's classes that come after the one taken last.
    __device__ Offer next(Offer last) const {
        Offer best = nothing();
        for (u32 i = ptx::thread(); i < c; i += THREADS) {
            const Offer offer{rank(logit(i)), i};
            if (before(last, offer) && before(offer, best)) best = offer;
        }
        return best;
    }

    /// This thread's part of the softmax's sum.
    __device__ f32 part(f32 highest, f32 inverse_temperature) const {
        f32 sum = 0.0f;
        for (u32 i = ptx::thread(); i < c; i += THREADS) sum += ptx::exp((logit(i) - highest) * inverse_temperature);
        return sum;
    }
};

/// The sum over the block, the same bits in every thread.
__device__ inline f32 sum_block(Shared& shared, f32 part) {
#pragma unroll
    for (u32 mask = 16; mask > 0; mask /= 2) part += ptx::shuffle_xor(part, mask);
    if (ptx::lane() == 0) shared.sums[ptx::warp()] = part;
    ptx::sync_block();
    f32 sum = 0.0f;
#pragma unroll
    for (u32 warp = 0; warp < WARPS; warp++) sum += shared.sums[warp];
    return sum;
}

template <typename T> __device__ void top_k(const TopKArgs& a) {
    Shared& shared = *static_cast<Shared*>(ptx::shared_memory());
    ptx::grid_wait();
    ptx::grid_launch_next();
    const u32 row_index = ptx::block_x();
    const Row<T> row{static_cast<const T*>(a.input) + row_index * a.c, shared.logits, a.c};

    // A thread reads only the logits that it has kept itself, so there is no barrier.
    Offer mine = nothing();
#pragma unroll 4
    for (u32 i = ptx::thread(); i < a.c; i += THREADS) {
        const f32 x = to_f32(row.x[i]);
        if (i < KEPT) shared.logits[i] = x;
        const Offer offer{rank(x), i};
        if (before(offer, mine)) mine = offer;
    }
    Offer of_warp = best_of_lanes(mine, 32);

    f32 highest = 0.0f, sum = 0.0f;
    for (u32 turn = 0; turn < a.k; turn++) {
        if (ptx::lane() == 0) shared.offers[turn % 2][ptx::warp()] = of_warp;
        ptx::sync_block();
        const Offer taken = best_of_lanes(shared.offers[turn % 2][ptx::lane() % WARPS], WARPS);
        if (turn == 0) {
            highest = taken.value;
            sum = sum_block(shared, row.part(highest, a.inverse_temperature));
        }
        if (ptx::thread() == 0) {
            // The logit itself, not its rank: a NaN that is among the k best has a NaN for its score.
            const f32 x = to_f32(row.x[taken.label]);
            const f32 score = ptx::exp((x - highest) * a.inverse_temperature) / sum;
            a.output[row_index * a.k + turn] = TopKEntry{taken.label, score};
        }
        if (taken.label % THREADS / 32 == ptx::warp()) {
            if (taken.label % THREADS == ptx::thread()) mine = row.next(taken);
            of_warp = best_of_lanes(mine, 32);
        }
    }
}

ENTRY(top_k_f32, TopKArgs, THREADS, 4, sizeof(Shared), top_k<f32>)
ENTRY(top_k_f16, TopKArgs, THREADS, 4, sizeof(Shared), top_k<f16>)
ENTRY(top_k_bf16, TopKArgs, THREADS, 4, sizeof(Shared), top_k<bf16>)
