//! The twin of kernels/ptx.cuh: the same functions, each defined by what the PTX ISA says it does, for a CPU.
//!
//! The include path puts this folder before kernels/, so that the .cu files are compiled against it unchanged. What is
//! collective within a warp is in warp.h, what is asynchronous in async.h. Functions that a mutation may drop (barriers,
//! fences, waits) take the place of their call, by default arguments.
#pragma once

#include <cmath>
#include <cstring>
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "simt.h"

// The qualifiers that a kernel may use. A __device__ function is an ordinary one here.
#define __device__
#define __host__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

/// As in kernels/ptx.cuh; the entry goes into the registry of the simulated driver.
#define ENTRY(name, Args, threads, blocks, shared_bytes, ...)                                                          \
    static_assert((shared_bytes) <= 227 * 1024, "more shared memory than any block can have");                         \
    static_assert((threads) % 32 == 0 && (threads) <= 1024, "a block is whole warps, 32 at most");                      \
    static const simt::Registration name##_registration({#name, __FILE__, sizeof(Args), threads, blocks, shared_bytes, \
                                                         [](const void* args) {                                       \
                                                             __VA_ARGS__(*static_cast<const Args*>(args));            \
                                                         }});

/// The opaque tensor map of the driver; tensor_map.h says what this driver puts into it.
struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};

namespace ptx {

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// ---- where this thread is ----

inline u32 thread() { return simt::self().index; }
inline u32 block_x() { return simt::place().block[0]; }
inline u32 block_y() { return simt::place().block[1]; }
inline u32 block_z() { return simt::place().block[2]; }
inline u32 grid_x() { return simt::place().grid[0]; }
inline u32 grid_y() { return simt::place().grid[1]; }
inline u32 lane() { return simt::self().lane; }
inline u32 warp() { return simt::self().warp; }

inline void* shared_memory() { return simt::shared_base(); }

/// An address in the shared window. A pointer to anything else is an error, as it is undefined on a device.
inline u32 shared_address(const void* p) {
    const auto* at = static_cast<const simt::u8*>(p);
    const auto* base = simt::shared_base();
    if (at < base || at > base + simt::shared_bytes()) simt::fail("shared_address: %p is not in shared memory", p);
    return simt::SHARED_WINDOW + u32(at - base);
}

// ---- numbers ----

inline float bits_to_f32(u32 bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline u32 f32_to_bits(float x) {
    u32 bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

/// Exact: every half is a float.
inline float f16_to_f32(u16 bits) {
#ifdef __F16C__
    return _cvtsh_ss(bits);
#else
    const u32 sign = u32(bits & 0x8000u) << 16u;
    const u32 exponent = (bits >> 10u) & 31u;
    const u32 fraction = bits & 0x3ffu;
    if (exponent == 31) return bits_to_f32(sign | 0x7f800000u | fraction << 13u | (fraction != 0 ? 0x400000u : 0u));
    if (exponent == 0) { // a subnormal: fraction * 2^-24
        const float x = float(fraction) * 0x1p-24f;
        return sign != 0 ? -x : x;
    }
    return bits_to_f32(sign | (exponent + 112u) << 23u | fraction << 13u);
#endif
}

/// To nearest, ties to even. A NaN becomes 0x7fff, as the device's instruction has it.
inline u16 f32_to_f16(float x) {
    if (x != x) return 0x7fffu;
#ifdef __F16C__
    return u16(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
#else
    const u32 sign = (f32_to_bits(x) >> 16u) & 0x8000u;
    const u32 magnitude = f32_to_bits(x) & 0x7fffffffu;
    if (magnitude >= 0x47800000u) return u16(sign | 0x7c00u); // 65,536 and more
    if (magnitude < 0x38800000u) {                            // below 2^-14: a multiple of 2^-24, rounded by the addition
        const float shifted = bits_to_f32(magnitude) + 0.5f;
        return u16(sign | (f32_to_bits(shifted) - 0x3f000000u));
    }
    // The carry of rounding may move the exponent up, to infinity too: the fields are adjacent for that.
    const u32 rounded = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
    return u16(sign | ((rounded >> 13u) - (112u << 10u)));
#endif
}

/// As in kernels/ptx.cuh.
inline u16 f32_to_bf16(float x) {
    const u32 bits = f32_to_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return u16((bits >> 16u) | 0x40u);
    return u16((bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u);
}
inline u32 f32_to_f16x2(float low, float high) { return f32_to_f16(low) | u32(f32_to_f16(high)) << 16u; }
/// The instruction's NaN is 0x7fff, whatever the other's payload.
inline u32 f32_to_bf16x2(float low, float high) {
    const u16 halves[] = {low != low ? u16(0x7fffu) : f32_to_bf16(low), high != high ? u16(0x7fffu) : f32_to_bf16(high)};
    return halves[0] | u32(halves[1]) << 16u;
}

/// The greater of two; of a NaN and a number the number; of both zeros the positive one. Bits are those of the greater.
inline u16 max_half(u16 x, float x_value, u16 y, float y_value) {
    if (x_value != x_value) return y_value != y_value ? u16(0x7fffu) : y;
    if (y_value != y_value) return x;
    if (x_value == y_value) return u16(x & y); // the same bits, but for zeros of two signs
    return x_value > y_value ? x : y;
}
inline u32 max_f16x2(u32 x, u32 y) {
    const auto half = [](u16 a, u16 b) { return u32(max_half(a, f16_to_f32(a), b, f16_to_f32(b))); };
    return half(u16(x), u16(y)) | half(u16(x >> 16u), u16(y >> 16u)) << 16u;
}
inline u32 max_bf16x2(u32 x, u32 y) {
    const auto value = [](u16 bits) { return bits_to_f32(u32(bits) << 16u); };
    const auto half = [&](u16 a, u16 b) { return u32(max_half(a, value(a), b, value(b))); };
    return half(u16(x), u16(y)) | half(u16(x >> 16u), u16(y >> 16u)) << 16u;
}
/// cvt.pack.sat.u8.s32.b32.
inline u32 pack_u8(u32 rest, int high, int low) {
    const auto clamp = [](int x) { return u32(x < 0 ? 0 : x > 255 ? 255 : x); };
    return rest << 16u | clamp(high) << 8u | clamp(low);
}
inline float exp(float x) { return std::exp(x); }
inline float fma(float x, float y, float z) { return std::fma(x, y, z); }

// ---- barriers and memory order ----

inline void sync_block(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    if (simt::dropped(file, line)) return;
    simt::barrier(0, simt::place().threads, "sync_block", file, line);
}
inline void sync_named(u32 id, u32 threads, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    if (simt::dropped(file, line)) return;
    if (id == 0 || id > 15 || threads == 0 || threads % 32 != 0) simt::fail("sync_named(%u, %u): no such barrier", id, threads);
    simt::barrier(id, threads, "sync_named", file, line);
}
/// Blocks run one after another, and a fiber is not interrupted, so that these are whole by nature.
inline u32 atomic_add_acq_rel(u32* at, u32 x) {
    const u32 old = *at;
    *at += x;
    return old;
}
inline float load_device(const float* at) { return *at; }
inline void load_device_x4(float (&x)[4], const float* at) {
    if (reinterpret_cast<std::uintptr_t>(at) % 16 != 0) simt::fail("load_device_x4: %p is not aligned to 16", static_cast<const void*>(at));
    for (u32 i = 0; i < 4; i++) x[i] = at[i];
}

// ---- programmatic dependent launch ----

inline void grid_wait(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    if (!simt::dropped(file, line)) simt::grid_wait();
}
/// Only a device has something to gain from it: here the next kernel is started early whether this is called or not.
inline void grid_launch_next() {}

} // namespace ptx

#include "warp.h"

#include "async.h"
