//! Element types and the vectors in which they move. Sums are always f32; these are what lies in memory.
//!
//! No toolkit header is used, so that NVRTC alone is enough to compile a kernel: halves are 16 bits, and are converted by
//! the instructions in ptx.cuh.
#pragma once

#include <ptx.cuh>

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using f32 = float;

/// IEEE binary16.
struct f16 {
    u16 bits;
};

/// The upper half of an IEEE binary32.
struct bf16 {
    u16 bits;
};

__device__ inline f32 to_f32(f32 x) { return x; }
__device__ inline f32 to_f32(f16 x) { return ptx::f16_to_f32(x.bits); }
__device__ inline f32 to_f32(bf16 x) { return ptx::bits_to_f32(u32(x.bits) << 16); }

/// Rounds to nearest, ties to even. A bf16 NaN stays one.
template <typename T> __device__ inline T from_f32(f32 x);
template <> __device__ inline f32 from_f32<f32>(f32 x) { return x; }
template <> __device__ inline f16 from_f32<f16>(f32 x) { return f16{ptx::f32_to_f16(x)}; }
template <> __device__ inline bf16 from_f32<bf16>(f32 x) { return bf16{ptx::f32_to_bf16(x)}; }

/// Sixteen bytes: what one thread loads or stores at once.
template <typename T> struct alignas(16) Vec {
    static constexpr u32 LEN = 16 / sizeof(T);
    T v[LEN];
};

template <typename T> __device__ inline Vec<T> load_vec(const T* from) { return *reinterpret_cast<const Vec<T>*>(from); }
template <typename T> __device__ inline void store_vec(T* to, const Vec<T>& x) { *reinterpret_cast<Vec<T>*>(to) = x; }

/// `L` elements that lie side by side and move together; L is a power of two, and L * sizeof(T) at most 16.
template <typename T, u32 L> struct alignas(L * sizeof(T)) Unit {
    T v[L];
};

__device__ inline u32 divide_up(u32 a, u32 b) { return (a + b - 1) / b; }
