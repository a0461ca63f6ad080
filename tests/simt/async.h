//! The asynchronous functions of ptx.cuh, by the PTX ISA's definitions: copies by threads, mbarriers, the copy engine,
//! products by warpgroups.
//!
//! What is issued is done at once (SIMT_ASYNC=early) or when the wait that covers it leaves no choice (late). In late mode
//! what it will write holds NaNs (0xff) from its issue on: reading it is undefined until then, so a reader that does not
//! wait must not be lucky. A kernel has to give the same result both ways.
#pragma once

#include "simt.h"
#include "tensor_core.h"

namespace simt {

/// A call site, for what a mutation may drop.
struct Site {
    const char* file;
    int line;
    bool dropped() const { return simt::dropped(file, line); }
};

// copies.cpp
void copy_issue(void* to, const void* from, u32 valid);
void copy_commit();
void copy_wait(u32 left);

// mbarrier.cpp
void mbarrier_init(void* barrier, u32 arrivals);
void mbarrier_init_fence();
void mbarrier_arrive(void* barrier);
void mbarrier_arrive_expect(void* barrier, u32 bytes);
void mbarrier_wait(void* barrier, u32 parity, Site site);

// proxy.cpp
void fence_proxy_async();

// copy_engine.cpp
void prefetch_map(const void* map);
void load_tile(void* to, const void* map, void* barrier, int x, int y);
void load_im2col(void* to, const void* map, void* barrier, int c, int w, int h, int n, u32 dw, u32 dh);

// warpgroup.cpp
void products_fence();
void products_commit();
void products_wait(u32 left);
void product(const char* name, Half type, float* d, u32 n, u64 a, u64 b, u32 accumulate);
void registers_set(u32 count, bool more);

} // namespace simt

namespace ptx {

// The place of a call, which the functions that a mutation may drop take last.
#define SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define DROPPED simt::dropped(file, line)

inline void cp_async_16(void* to, const void* from, u32 valid) { simt::copy_issue(to, from, valid); }
inline void cp_async_commit(SITE) {
    if (!DROPPED) simt::copy_commit();
}
template <u32 N> inline void cp_async_wait(SITE) {
    if (!DROPPED) simt::copy_wait(N);
}
// Below sm_80 these copy at once.
inline void copy_16(void* to, const void* from) {
    if (simt::arch() >= 80) return simt::copy_issue(to, from, 16);
    simt::shared_offset(to, 16, 16, "copy_16");
    std::memcpy(to, from, 16);
}
inline void copy_commit(SITE) {
    if (!DROPPED && simt::arch() >= 80) simt::copy_commit();
}
template <u32 N> inline void copy_wait(SITE) {
    if (!DROPPED && simt::arch() >= 80) simt::copy_wait(N);
}

inline void mbarrier_init(u64* barrier, u32 arrivals, SITE) {
    if (!DROPPED) simt::mbarrier_init(barrier, arrivals);
}
inline void mbarrier_init_fence(SITE) {
    if (!DROPPED) simt::mbarrier_init_fence();
}
inline void mbarrier_arrive(u64* barrier, SITE) {
    if (!DROPPED) simt::mbarrier_arrive(barrier);
}
inline void mbarrier_arrive_expect(u64* barrier, u32 bytes, SITE) {
    if (!DROPPED) simt::mbarrier_arrive_expect(barrier, bytes);
}
inline void mbarrier_wait(u64* barrier, u32 parity, SITE) {
    if (!DROPPED) simt::mbarrier_wait(barrier, parity, simt::Site{file, line});
}
inline void fence_proxy_async(SITE) {
    if (!DROPPED) simt::fence_proxy_async();
}

inline void tma_prefetch_map(const TensorMap* map) { simt::prefetch_map(map); }
inline void tma_load_2d(void* to, const TensorMap* map, u64* barrier, int x, int y) {
    simt::load_tile(to, map, barrier, x, y);
}
inline void tma_load_im2col(void* to, const TensorMap* map, u64* barrier, int c, int w, int h, int n, u16 dw, u16 dh) {
    simt::load_im2col(to, map, barrier, c, w, h, n, dw, dh);
}

/// As in kernels/ptx.cuh.
inline u64 wgmma_descriptor(const void* tile) {
    return u64((shared_address(tile) & 0x3ffffu) >> 4u) | (u64(1) << 16u) | (u64(1024 >> 4) << 32u) | (u64(1) << 62u);
}
inline void wgmma_fence(SITE) {
    if (!DROPPED) simt::products_fence();
}
inline void wgmma_commit(SITE) {
    if (!DROPPED) simt::products_commit();
}
template <u32 N> inline void wgmma_wait(SITE) {
    if (!DROPPED) simt::products_wait(N);
}
/// Only the device's compiler has to be told: here the sums lie in memory, and calls are calls.
template <u32 N> inline void wgmma_settle(float (&)[N]) {}
inline void wgmma_m64n256k16_f16(float (&d)[128], u64 a, u64 b, u32 accumulate) {
    simt::product("wgmma_m64n256k16_f16", simt::Half::F16, d, 256, a, b, accumulate);
}
inline void wgmma_m64n256k16_bf16(float (&d)[128], u64 a, u64 b, u32 accumulate) {
    simt::product("wgmma_m64n256k16_bf16", simt::Half::BF16, d, 256, a, b, accumulate);
}
inline void wgmma_m64n128k16_f16(float (&d)[64], u64 a, u64 b, u32 accumulate) {
    simt::product("wgmma_m64n128k16_f16", simt::Half::F16, d, 128, a, b, accumulate);
}
inline void wgmma_m64n128k16_bf16(float (&d)[64], u64 a, u64 b, u32 accumulate) {
    simt::product("wgmma_m64n128k16_bf16", simt::Half::BF16, d, 128, a, b, accumulate);
}

template <u32 N> inline void registers_take() { simt::registers_set(N, true); }
template <u32 N> inline void registers_give() { simt::registers_set(N, false); }

#undef SITE
#undef DROPPED

} // namespace ptx
