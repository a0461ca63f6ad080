//! The functions of ptx.cuh in which a whole warp takes part, by the PTX ISA's definitions.
//!
//! All 32 lanes must come to the same function, or the launch fails: on a device a lane that stays away is undefined.
//! What they share is done once, by the last to arrive; memory that it touches is thus seen as late as can be.
//!
//! Fragments (PTX ISA, "ldmatrix", "stmatrix", "Matrix Fragments for mma.m16n8k16 with floating point type"): of an 8x8
//! matrix of halves, lane l holds row l / 4, columns 2 (l % 4) and the next, the first in the lower bits.
#pragma once

#include "simt.h"
#include "tensor_core.h"

namespace simt {

/// Fails where the simulated device is older than an instruction. Numbers are compute capabilities times ten.
inline void require(u32 capability, const char* name) {
    if (arch() < capability) fail("%s needs sm_%u; the device is sm_%u", name, capability, arch());
}

/// Where `p` is in shared memory. Fails unless its `bytes` lie in the block's, aligned to `align`.
inline u32 shared_offset(const void* p, u32 bytes, u32 align, const char* name) {
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    const auto base = reinterpret_cast<std::uintptr_t>(shared_base());
    if (at < base || at - base + bytes > shared_bytes()) fail("%s: %p is not %u bytes of shared memory", name, p, bytes);
    if ((at - base) % align != 0) fail("%s: shared address %#x is not aligned to %u", name, u32(at - base), align);
    return u32(at - base);
}

struct Exchange {
    u32 value;
    u32 from;
    u32 result;
};
/// shfl.sync.idx and .bfly with all lanes and the widest segment: the lane is taken modulo 32.
inline u32 exchange(const char* name, u32 value, u32 from) {
    Exchange mine{value, from % WARP, 0};
    warp_collective<Exchange>(name, mine, [](Exchange* const* lanes) {
        for (u32 i = 0; i < WARP; i++) lanes[i]->result = lanes[lanes[i]->from]->value;
    });
    return mine.result;
}

// From warp.cpp.
void load_matrices(const char* name, u32 (&r)[4], const void* row, bool transposed);
void store_matrices_transposed(void* row, const u32 (&r)[4]);
void multiply_fragments(const char* name, Half type, float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]);

} // namespace simt

namespace ptx {

inline void sync_warp(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    if (simt::dropped(file, line)) return;
    int nothing = 0;
    simt::warp_collective<int>("sync_warp", nothing, [](int* const*) {});
}

inline u32 shuffle(u32 x, u32 from) { return simt::exchange("shuffle", x, from); }
inline u32 shuffle_xor(u32 x, u32 mask) { return simt::exchange("shuffle_xor", x, simt::self().lane ^ mask); }
inline float shuffle(float x, u32 from) { return bits_to_f32(shuffle(f32_to_bits(x), from)); }
inline float shuffle_xor(float x, u32 mask) { return bits_to_f32(shuffle_xor(f32_to_bits(x), mask)); }

inline void ldmatrix_x4(u32 (&r)[4], const void* row) { simt::load_matrices("ldmatrix_x4", r, row, false); }
inline void ldmatrix_x4_trans(u32 (&r)[4], const void* row) { simt::load_matrices("ldmatrix_x4_trans", r, row, true); }
inline void stmatrix_x4_trans(void* row, const u32 (&r)[4]) { simt::store_matrices_transposed(row, r); }

inline void mma_m16n8k16_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    simt::multiply_fragments("mma_m16n8k16_f16", simt::Half::F16, d, a, b);
}
inline void mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    simt::multiply_fragments("mma_m16n8k16_bf16", simt::Half::BF16, d, a, b);
}

} // namespace ptx
