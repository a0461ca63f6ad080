//! avg_pool2d
//!
//! Formula   y[n,oy,ox,k] = mean over u,v of x[n, oy*kh+u, ox*kw+v, k]
//! Layout    x (N,H,W,C), y (N,H/kh,W/kw,C), NHWC
//! Threads   a block of 256 computes UNITS = 8 units of one window: a unit is a vector of 16 bytes of channels where C is a
//!           multiple of the vector, else a channel. Thread part * 8 + unit adds positions part, part + 32, ... of the window;
//!           then the 32 parts are added, four by shuffles in a warp and the eight warps' in order. So a map of 7x7 has 49
//!           loads under way at once even in a batch of one, and the order does not depend on the batch.
//! Limits    grid (N * (H/kh) * (W/kw), ceil(units / 8)), units being C / Vec<T>::LEN or C; 8 * 8 * Vec<T>::LEN * 4 bytes of
//!           shared memory
//! Speed     bound by its reads of x; benches/runs
#include <number.cuh>

/// Mirrored in src/backend/cuda/args.rs.
struct AvgPool2dArgs {
    const void* input;
    void* output;
    u32 n, h, w, c, kernel_h, kernel_w;
};
static_assert(sizeof(AvgPool2dArgs) == 40, "as src/backend/cuda/args.rs has it");

constexpr u32 THREADS = 256;
constexpr u32 WARPS = THREADS / 32;
constexpr u32 UNITS = 8;
constexpr u32 PARTS = THREADS / UNITS;

template <u32 L> struct Shared {
    f32 sums[WARPS][UNITS][L];
};

template <typename T, u32 L> __device__ void pool(const AvgPool2dArgs& a, Shared<L>& shared) {
    using U = Unit<T, L>;
    const u32 units = a.c / L;
    const u32 local = ptx::thread() % UNITS;
    const u32 part = ptx::thread() / UNITS;
    const u32 unit = ptx::block_y() * UNITS + local;
    const u32 out_w = a.w / a.kernel_w, out_h = a.h / a.kernel_h;
    const u32 window = ptx::block_x();
    const u32 left = window % out_w * a.kernel_w;
    const u32 top = window / out_w % out_h * a.kernel_h;
    const u32 n = window / (out_w * out_h);

    f32 sum[L] = {};
    if (unit < units) {
        const U* input = static_cast<const U*>(a.input) + ((n * a.h + top) * a.w + left) * units + unit;
        const u32 positions = a.kernel_h * a.kernel_w;
#pragma unroll 4
        for (u32 p = part; p < positions; p += PARTS) {
            const u32 u = p / a.kernel_w;
            const U x = input[(u * a.w + (p - u * a.kernel_w)) * units];
#pragma unroll
            for (u32 i = 0; i < L; i++) sum[i] += to_f32(x.v[i]);
        }
    }
#pragma unroll
    for (u32 i = 0; i < L; i++) {
        sum[i] += ptx::shuffle_xor(sum[i], UNITS);
        sum[i] += ptx::shuffle_xor(sum[i], UNITS * 2);
    }
    if (ptx::lane() < UNITS) {
#pragma unroll
        for (u32 i = 0; i < L; i++) shared.sums[ptx::warp()][local][i] = sum[i];
    }
    ptx::sync_block();

    // One thread an output element: the first UNITS * L.
    const u32 element = ptx::thread();
    const u32 k = ptx::block_y() * UNITS * L + element;
    if (element >= UNITS * L || k >= a.c) return;
    f32 total = 0.0f;
#pragma unroll
    for (u32 warp = 0; warp < WARPS; warp++) total += shared.sums[warp][element / L][element % L];
    static_cast<T*>(a.output)[window * a.c + k] = from_f32<T>(total / f32(a.kernel_h * a.kernel_w));
}

template <typename T> __device__ void avg_pool2d(const AvgPool2dArgs& a) {
    void* shared = ptx::shared_memory();
    ptx::grid_wait();
    ptx::grid_launch_next();
    if (a.c % Vec<T>::LEN == 0) {
        pool<T, Vec<T>::LEN>(a, *static_cast<Shared<Vec<T>::LEN>*>(shared));
    } else {
        pool<T, 1>(a, *static_cast<Shared<1>*>(shared));
    }
}

ENTRY(avg_pool2d_f32, AvgPool2dArgs, THREADS, 4, sizeof(Shared<Vec<f32>::LEN>), avg_pool2d<f32>)
ENTRY(avg_pool2d_f16, AvgPool2dArgs, THREADS, 4, sizeof(Shared<Vec<f16>::LEN>), avg_pool2d<f16>)
ENTRY(avg_pool2d_bf16, AvgPool2dArgs, THREADS, 4, sizeof(Shared<Vec<bf16>::LEN>), avg_pool2d<bf16>)
