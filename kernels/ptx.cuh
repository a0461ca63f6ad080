//! Everything in the kernels that is not plain C++: the thread's place, barriers, asynchronous copies, tensor-core products.
//!
//! A kernel calls these and writes no `asm` and no builtin of its own, for one reason: tests/simt has a second ptx.cuh with
//! the same functions, which defines each by the PTX ISA's text, so that the same .cu files run on a CPU. Where an
//! instruction needs a newer architecture than a file claims, the file must not call it; nothing here checks.
//!
//! Pointers to shared memory are ordinary pointers; they become shared-space addresses here.
#pragma once

/// Declares an entry: its name, its one argument struct, threads a block, blocks a multiprocessor that the registers must
/// allow, bytes of shared memory, and the body, called with the arguments. `src/backend/cuda/kernels.rs` mirrors the figures.
#define ENTRY(name, Args, threads, blocks, shared_bytes, ...)                                                          \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Args args) {            \
        static_assert((shared_bytes) <= 227 * 1024, "more shared memory than any block can have");                     \
        __VA_ARGS__(args);                                                                                             \
    }

/// The opaque tensor map of the driver (`CUtensorMap`).
struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};

namespace ptx {

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// ---- where this thread is ----

__device__ inline u32 thread() { return threadIdx.x; } // blocks have one dimension
__device__ inline u32 block_x() { return blockIdx.x; }
__device__ inline u32 block_y() { return blockIdx.y; }
__device__ inline u32 block_z() { return blockIdx.z; }
__device__ inline u32 grid_x() { return gridDim.x; }
__device__ inline u32 grid_y() { return gridDim.y; }
__device__ inline u32 lane() { return threadIdx.x & 31u; }
__device__ inline u32 warp() { return threadIdx.x >> 5u; }

/// The block's shared memory, of as many bytes as its ENTRY says, aligned to 1,024. Its content is undefined at first.
__device__ inline void* shared_memory() {
    extern __shared__ __align__(1024) unsigned char bytes[];
    return bytes;
}

__device__ inline u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

// ---- numbers ----

__device__ inline float bits_to_f32(u32 bits) { return __uint_as_float(bits); }
__device__ inline u32 f32_to_bits(float x) { return __float_as_uint(x); }
__device__ inline float f16_to_f32(u16 bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
/// To nearest, ties to even.
__device__ inline u16 f32_to_f16(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
/// To nearest, ties to even; by integers, because the instruction needs sm_80.
__device__ inline u16 f32_to_bf16(float x) {
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return u16((bits >> 16u) | 0x40u);
    return u16((bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u);
}
/// Two at once, each to nearest, ties to even; `low` in the lower half. sm_80.
__device__ inline u32 f32_to_f16x2(float low, float high) {
    u32 bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
__device__ inline u32 f32_to_bf16x2(float low, float high) {
    u32 bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}
/// The greater of each pair of halves; where one is a NaN, the other. sm_80.
__device__ inline u32 max_f16x2(u32 x, u32 y) {
    u32 bits;
    asm("max.f16x2 %0, %1, %2;" : "=r"(bits) : "r"(x), "r"(y));
    return bits;
}
__device__ inline u32 max_bf16x2(u32 x, u32 y) {
    u32 bits;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(bits) : "r"(x), "r"(y));
    return bits;
}
/// Both clamped to 0..255; `low` in the lowest byte, `high` in the next, the lower half of `rest` above them.
__device__ inline u32 pack_u8(u32 rest, int high, int low) {
    u32 bits;
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(bits) : "r"(high), "r"(low), "r"(rest));
    return bits;
}
/// The exponential, to about 2 ulp over the range that softmax uses.
__device__ inline float exp(float x) { return expf(x); }
/// x * y + z, rounded once.
__device__ inline float fma(float x, float y, float z) { return __fmaf_rn(x, y, z); }

// ---- barriers and memory order ----

/// All threads of the block; orders their accesses to shared and global memory.
__device__ inline void sync_block() { __syncthreads(); }
/// All 32 threads of the warp; orders their accesses to memory.
__device__ inline void sync_warp() { __syncwarp(); }
/// Barrier `id` (1 to 15) of `threads` threads, a multiple of 32.
__device__ inline void sync_named(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
/// Adds and gives the old value; what this thread wrote or saw before is visible to whoever reads the sum in this way, and
/// the other way round. After a block barrier this covers the whole block's writes.
__device__ inline u32 atomic_add_acq_rel(u32* at, u32 x) {
    u32 old;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(at), "r"(x) : "memory");
    return old;
}
/// A load that sees what other blocks have written and released: not from this multiprocessor's first-level cache.
__device__ inline float load_device(const float* at) { return __ldcg(at); }
/// Four of them, 16-byte aligned.
__device__ inline void load_device_x4(float (&x)[4], const float* at) {
    const float4 v = __ldcg(reinterpret_cast<const float4*>(at));
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}

// ---- within a warp: all 32 threads take part ----

__device__ inline float shuffle_xor(float x, u32 mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
__device__ inline u32 shuffle_xor(u32 x, u32 mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
__device__ inline float shuffle(float x, u32 from) { return __shfl_sync(0xffffffffu, x, from); }
__device__ inline u32 shuffle(u32 x, u32 from) { return __shfl_sync(0xffffffffu, x, from); }

/// Four 8x8 matrices of 16-bit elements; thread 8j + i gives the address of row i of matrix j, 16-byte aligned. sm_75.
__device__ inline void ldmatrix_x4(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
/// As `ldmatrix_x4`, each matrix transposed. sm_75.
__device__ inline void ldmatrix_x4_trans(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
/// The inverse of `ldmatrix_x4_trans`. sm_90.
__device__ inline void stmatrix_x4_trans(void* row, const u32 (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}

/// d += a b over m16n8k16: a row-major, b column-major, f32 sums. sm_80.
__device__ inline void mma_m16n8k16_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- asynchronous copies by threads. sm_80 ----

/// 16 bytes from global to shared memory, of which the first `valid` (0 or 16) are read and the others become 0. Both
/// addresses are 16-byte aligned. `from` is not read where `valid` is 0.
__device__ inline void cp_async_16(void* to, const void* from, u32 valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid) : "memory");
}
/// Closes this thread's group of copies.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `N` of this thread's latest groups are still under way. Other threads' copies need a barrier too.
template <u32 N> __device__ inline void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

/// As `cp_async_16` with all 16 valid, for kernels of all architectures: below sm_80 it is copied at once, through registers.
__device__ inline void copy_16(void* to, const void* from) {
#if __CUDA_ARCH__ >= 800
    cp_async_16(to, from, 16);
#else
    *static_cast<uint4*>(to) = *static_cast<const uint4*>(from);
#endif
}
/// Closes this thread's group of `copy_16`.
__device__ inline void copy_commit() {
#if __CUDA_ARCH__ >= 800
    cp_async_commit();
#endif
}
/// Waits until at most `N` of this thread's latest groups of `copy_16` are still under way.
template <u32 N> __device__ inline void copy_wait() {
#if __CUDA_ARCH__ >= 800
    cp_async_wait<N>();
#endif
}

// ---- mbarriers. sm_90 ----

/// One thread initialises; then `mbarrier_init_fence`, then a block barrier before others use it.
__device__ inline void mbarrier_init(u64* barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
/// Makes initialised barriers visible to the copy engine.
__device__ inline void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void mbarrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
/// Arrives, and lets the phase wait for so many bytes of copies too.
__device__ inline void mbarrier_arrive_expect(u64* barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
/// Waits until the phase of this parity is complete.
__device__ inline void mbarrier_wait(u64* barrier, u32 parity) {
    asm volatile("{\n\t"
                 ".reg .pred done;\n\t"
                 "again:\n\t"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
                 "@!done bra again;\n\t"
                 "}" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}
/// Orders this thread's ordinary writes to shared memory before later accesses by the copy engine and the tensor cores.
__device__ inline void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- the copy engine (TMA). sm_90. One thread issues; `to` is 128-byte aligned, 1,024 where the map swizzles 128 B ----

__device__ inline void tma_prefetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
/// A box of a 2-d tensor from element (x, y), x fastest, to shared memory; its bytes complete on `barrier`.
__device__ inline void tma_load_2d(void* to, const TensorMap* map, u64* barrier, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
                     shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
                 : "memory");
}
/// Pixels of an NHWC tensor in im2col order from base pixel (w, h, n), channels from c on, each at the offsets (dw, dh).
__device__ inline void tma_load_im2col(void* to, const TensorMap* map, u64* barrier, int c, int w, int h, int n, u16 dw,
                                       u16 dh) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
                 "%6}], [%2], {%7, %8};" ::"r"(shared_address(to)),
                 "l"(map), "r"(shared_address(barrier)), "r"(c), "r"(w), "r"(h), "r"(n), "h"(dw), "h"(dh)
                 : "memory");
}

// ---- products by warpgroups (4 warps, the first at a multiple of 4). sm_90a ----

/// Describes a K-major tile of 16-bit elements in shared memory: rows of 64 elements (128 bytes), swizzled by 128 bytes,
/// aligned to 1,024. Adding 2 to the descriptor moves 16 elements along K.
__device__ inline u64 wgmma_descriptor(const void* tile) {
    // Bits 0-13 address / 16; 16-29 leading offset (ignored when swizzled K-major: 1); 32-45 stride of 8 rows / 16;
    // 62-63 layout: 1 is the 128-byte swizzle.
    return u64((shared_address(tile) & 0x3ffffu) >> 4u) | (u64(1) << 16u) | (u64(1024 >> 4) << 32u) | (u64(1) << 62u);
}
/// Before the first product, and whenever registers that a product uses were written otherwise.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Closes this warpgroup's group of products.
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most `N` of the latest groups are still under way.
template <u32 N> __device__ inline void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

/// No instruction: what the program does with d after this line, the compiler does after it too. `wgmma_wait` does not name
/// the sums that it waits for, so without this the compiler could use them earlier.
template <u32 N> __device__ __forceinline__ void wgmma_settle(float (&d)[N]) {
#pragma unroll
    for (u32 i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// Products. `a` describes 64 rows, `b` 256 or 128 rows (the columns of d), both K-major by 16 of the depth; the sums are f32.
// Where `accumulate` is 0, d is what it was not: d = a b, else d += a b. Thread t of the warpgroup holds, for its row
// r = 16 (t / 32) + t % 32 / 4, d[4j], d[4j + 1] at (r, 8j + 2 (t % 4)) and the column after it, d[4j + 2], d[4j + 3] in row
// r + 8. The operands and d are in use until `wgmma_wait` says otherwise.

#define D_NAMES_64                                                                                                     \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"                                             \
    ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"                                 \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"                                 \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define D_NAMES_128                                                                                                    \
    D_NAMES_64                                                                                                         \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"                                 \
    ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"                                 \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"                     \
    ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define D_8(i)                                                                                                         \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define D_64 D_8(0), D_8(8), D_8(16), D_8(24), D_8(32), D_8(40), D_8(48), D_8(56)
#define D_128 D_64, D_8(64), D_8(72), D_8(80), D_8(88), D_8(96), D_8(104), D_8(112), D_8(120)

__device__ __forceinline__ void wgmma_m64n256k16_f16(float (&d)[128], u64 a, u64 b, u32 accumulate) {
    asm volatile("{\n\t"
                 ".reg .pred accumulate;\n\t"
                 "setp.ne.u32 accumulate, %130, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" D_NAMES_128 "}, "
                 "%128, %129, accumulate, 1, 1, 0, 0;\n\t"
                 "}"
                 : D_128
                 : "l"(a), "l"(b), "r"(accumulate));
}

__device__ __forceinline__ void wgmma_m64n256k16_bf16(float (&d)[128], u64 a, u64 b, u32 accumulate) {
    asm volatile("{\n\t"
                 ".reg .pred accumulate;\n\t"
                 "setp.ne.u32 accumulate, %130, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" D_NAMES_128 "}, "
                 "%128, %129, accumulate, 1, 1, 0, 0;\n\t"
                 "}"
                 : D_128
                 : "l"(a), "l"(b), "r"(accumulate));
}

__device__ __forceinline__ void wgmma_m64n128k16_f16(float (&d)[64], u64 a, u64 b, u32 accumulate) {
    asm volatile("{\n\t"
                 ".reg .pred accumulate;\n\t"
                 "setp.ne.u32 accumulate, %66, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" D_NAMES_64 "}, "
                 "%64, %65, accumulate, 1, 1, 0, 0;\n\t"
                 "}"
                 : D_64
                 : "l"(a), "l"(b), "r"(accumulate));
}

__device__ __forceinline__ void wgmma_m64n128k16_bf16(float (&d)[64], u64 a, u64 b, u32 accumulate) {
    asm volatile("{\n\t"
                 ".reg .pred accumulate;\n\t"
                 "setp.ne.u32 accumulate, %66, 0;\n\t"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" D_NAMES_64 "}, "
                 "%64, %65, accumulate, 1, 1, 0, 0;\n\t"
                 "}"
                 : D_64
                 : "l"(a), "l"(b), "r"(accumulate));
}

#undef D_NAMES_64
#undef D_NAMES_128
#undef D_8
#undef D_64
#undef D_128

/// Registers a thread from here on, a multiple of 8; all warps of a warpgroup take part.
template <u32 N> __device__ inline void registers_take() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }
template <u32 N> __device__ inline void registers_give() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }

// ---- programmatic dependent launch ----

/// Waits until the kernels before this one in the stream have finished and their writes are visible. Every kernel calls it
/// before it touches global memory that a launch before it could have written or could still read. sm_90; none below.
__device__ inline void grid_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Lets the next kernel's blocks start where this one leaves room.
__device__ inline void grid_launch_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

} // namespace ptx
