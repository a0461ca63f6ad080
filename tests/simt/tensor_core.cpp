//! The loops of tensor_core.h. Whole networks run through them, so they are written with the compiler's vectors, once, and
//! compiled for three instruction sets, of which the first call takes the best that the host has.
//!
//! (By hand, because target_clones needs an ifunc, which runs before a sanitizer's runtime does.)

// The build turns contraction off, for kernels; here it changes nothing but the speed (see tensor_core.h).
#pragma GCC optimize("fp-contract=fast")

#include "tensor_core.h"

#include <cstring>

namespace simt {
namespace {

// Element-aligned, because a fragment is an ordinary array of floats on a fiber's stack.
typedef float F16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef float F4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef u32 U16x __attribute__((vector_size(64), aligned(4), may_alias));
typedef u16 H16 __attribute__((vector_size(32), aligned(2), may_alias));

#define INLINE __attribute__((always_inline)) inline

/// A half's exponent and fraction, moved up, are a float too small by 2^112, subnormals included; multiplying is exact.
INLINE void f16_to_floats(const u16* from, float* to, u32 count) {
    for (u32 i = 0; i < count; i += 16) {
        const U16x bits = __builtin_convertvector(*reinterpret_cast<const H16*>(from + i), U16x);
        const U16x sign = (bits & 0x8000u) << 16;
        const U16x moved = (bits & 0x7fffu) << 13;
        const U16x scaled = (U16x)((F16)moved * 0x1p112f);
        const U16x special = (bits & 0x7c00u) == 0x7c00u; // infinities and NaNs: all ones, else 0
        *reinterpret_cast<U16x*>(to + i) = ((special & (moved | 0x7f800000u)) | (~special & scaled)) | sign;
    }
}

/// One lane's fragment: 64 accumulators at a time stay in registers for all 16 depths.
INLINE void multiply_lane(float* d, u32 half, const float* low, const float* high, const float* columns, bool accumulate) {
    F16 rows[DEPTH]; // an index's bit 1 says which of the lane's two rows it is in
    for (u32 k = 0; k < DEPTH; k++) {
        const float a = low[k], b = high[k];
        rows[k] = F16{a, a, b, b, a, a, b, b, a, a, b, b, a, a, b, b};
    }
    for (u32 at = 0; at < half; at += 64) {
        F16* out = reinterpret_cast<F16*>(d + at);
        F16 s0{}, s1{}, s2{}, s3{};
        if (accumulate) s0 = out[0], s1 = out[1], s2 = out[2], s3 = out[3];
        for (u32 k = 0; k < DEPTH; k++) {
            const F16* b = reinterpret_cast<const F16*>(columns + k * half + at);
            s0 += rows[k] * b[0];
            s1 += rows[k] * b[1];
            s2 += rows[k] * b[2];
            s3 += rows[k] * b[3];
        }
        out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3;
    }
}

/// The same for mma's 8 columns, where a lane has 4 accumulators: four lanes at a time, so that their sums do not wait for
/// each other.
INLINE void multiply_short(float* const* d, const float* a, const float* spread, bool accumulate) {
    F4 rows[8][DEPTH];
    for (u32 g = 0; g < 8; g++) {
        for (u32 k = 0; k < DEPTH; k++) {
            const float low = a[g * DEPTH + k], high = a[(g + 8) * DEPTH + k];
            rows[g][k] = F4{low, low, high, high};
        }
    }
    for (u32 q = 0; q < 4; q++) {
        const F4* columns = reinterpret_cast<const F4*>(spread + q * DEPTH * 4);
        for (u32 g = 0; g < 8; g += 4) {
            F4* out[4];
            for (u32 i = 0; i < 4; i++) out[i] = reinterpret_cast<F4*>(d[4 * (g + i) + q]);
            F4 s0{}, s1{}, s2{}, s3{};
            if (accumulate) s0 = *out[0], s1 = *out[1], s2 = *out[2], s3 = *out[3];
            for (u32 k = 0; k < DEPTH; k++) {
                s0 += rows[g][k] * columns[k];
                s1 += rows[g + 1][k] * columns[k];
                s2 += rows[g + 2][k] * columns[k];
                s3 += rows[g + 3][k] * columns[k];
            }
            *out[0] = s0, *out[1] = s1, *out[2] = s2, *out[3] = s3;
        }
    }
}

INLINE void multiply(float* const* d, u32 n, const float* a, const float* spread, bool accumulate) {
    if (n == 8) return multiply_short(d, a, spread, accumulate);
    const u32 half = n / 2;
    for (u32 q = 0; q < 4; q++) { // outermost, so that a quarter of B stays in the first cache
        const float* columns = spread + q * DEPTH * half;
        for (u32 g = 0; g < 8; g++) {
            multiply_lane(d[4 * g + q], half, a + g * DEPTH, a + (g + 8) * DEPTH, columns, accumulate);
        }
    }
}

struct Loops {
    void (*multiply)(float* const*, u32, const float*, const float*, bool);
    void (*f16_to_floats)(const u16*, float*, u32);
};

#define LOOPS(name, ...)                                                                                               \
    __VA_ARGS__ void name##_multiply(float* const* d, u32 n, const float* a, const float* spread, bool accumulate) {  \
        multiply(d, n, a, spread, accumulate);                                                                        \
    }                                                                                                                  \
    __VA_ARGS__ void name##_floats(const u16* from, float* to, u32 count) { f16_to_floats(from, to, count); }        \
    constexpr Loops name##_loops{name##_multiply, name##_floats};

LOOPS(plain, )
#ifdef __x86_64__
LOOPS(avx2, __attribute__((target("avx2,fma"))))
LOOPS(avx512, __attribute__((target("avx512f,avx512bw,avx512vl,fma,prefer-vector-width=512"))))
#endif

const Loops& loops() {
    static const Loops& best = []() -> const Loops& {
#ifdef __x86_64__
        if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) return avx512_loops;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_loops;
#endif
        return plain_loops;
    }();
    return best;
}

} // namespace

void to_floats(Half type, const u16* from, float* to, u32 count) {
    if (type == Half::F16) return loops().f16_to_floats(from, to, count);
    for (u32 i = 0; i < count; i++) {
        const u32 bits = u32(from[i]) << 16;
        std::memcpy(to + i, &bits, sizeof bits);
    }
}

void spread_columns(const float* b, u32 n, float* spread) {
    for (u32 q = 0; q < 4; q++) {
        for (u32 k = 0; k < DEPTH; k++) {
            const float* column = b + 2 * q * DEPTH + k;
            for (u32 j = 0; j < n / 8; j++, column += 8 * DEPTH, spread += 4) {
                spread[0] = spread[2] = column[0];
                spread[1] = spread[3] = column[DEPTH];
            }
        }
    }
}

void multiply_warp(float* const d[WARP], u32 n, const float* a, const float* spread, bool accumulate) {
    loops().multiply(d, n, a, spread, accumulate);
}

} // namespace simt
