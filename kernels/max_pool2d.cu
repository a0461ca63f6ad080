//! max_pool2d
//!
//! Formula   y[n,oy,ox,k] = max over u,v of x[n, oy*s+u-p, ox*s+v-p, k], over the positions inside the map
//! Layout    x (N,H,W,C), y (N,OH,OW,C), NHWC
//! Threads   one thread a vector of 16 bytes of channels (unit) of an output pixel where C is a multiple of the vector, else
//!           one thread a channel; units fastest, 256 a block
//! Limits    grid ceil(N * OH * OW * units / 256), units being C / Vec<T>::LEN or C; no shared memory;
//!           every window has a position inside the map (p <= kernel / 2)
//! Speed     bound by its reads of x; benches/runs
#include <number.cuh>

/// Mirrored in src/backend/cuda/args.rs.
struct MaxPool2dArgs {
    const void* input;
    void* output;
    u32 n, h, w, c, out_h, out_w, kernel, stride, padding, pad;
};
static_assert(sizeof(MaxPool2dArgs) == 56, "as src/backend/cuda/args.rs has it");

constexpr u32 THREADS = 256;

/// Positions of a row that are loaded together, so that as many loads are under way.
constexpr u32 AT_ONCE = 3;

/// The larger one; NaN never wins, as in the specification.
__device__ inline f32 larger(f32 best, f32 x) { return x > best ? x : best; }

template <typename T, u32 L> __device__ void pool(const MaxPool2dArgs& a) {
    using U = Unit<T, L>;
    const u32 units = a.c / L;
    const u32 task = ptx::block_x() * THREADS + ptx::thread();
    if (task >= a.n * a.out_h * a.out_w * units) return;
    const u32 pixel = task / units;
    const u32 unit = task - pixel * units;
    const u32 ox = pixel % a.out_w;
    const u32 oy = pixel / a.out_w % a.out_h;
    const u32 n = pixel / (a.out_w * a.out_h);
    // The part of the window inside the map.
    const u32 y = oy * a.stride, x = ox * a.stride;
    const u32 top = y > a.padding ? y - a.padding : 0;
    const u32 left = x > a.padding ? x - a.padding : 0;
    const u32 bottom = y + a.kernel - a.padding < a.h ? y + a.kernel - a.padding : a.h;
    const u32 right = x + a.kernel - a.padding < a.w ? x + a.kernel - a.padding : a.w;

    const U* input = static_cast<const U*>(a.input);
    f32 best[L];
#pragma unroll
    for (u32 i = 0; i < L; i++) best[i] = ptx::bits_to_f32(0xff800000u);
    for (u32 iy = top; iy < bottom; iy++) {
        const U* row = input + (n * a.h + iy) * a.w * units + unit;
        for (u32 ix = left; ix < right; ix += AT_ONCE) {
            U loaded[AT_ONCE];
            // Beyond the window's end its last position stands in: once more does not change a maximum.
#pragma unroll
            for (u32 j = 0; j < AT_ONCE; j++) loaded[j] = row[(ix + j < right ? ix + j : right - 1) * units];
#pragma unroll
            for (u32 j = 0; j < AT_ONCE; j++) {
#pragma unroll
                for (u32 i = 0; i < L; i++) best[i] = larger(best[i], to_f32(loaded[j].v[i]));
            }
        }
    }
    U out;
#pragma unroll
    for (u32 i = 0; i < L; i++) out.v[i] = from_f32<T>(best[i]);
    static_cast<U*>(a.output)[task] = out;
}

template <typename T> __device__ void max_pool2d(const MaxPool2dArgs& a) {
    ptx::grid_wait();
    ptx::grid_launch_next();
    if (a.c % Vec<T>::LEN == 0) {
        pool<T, Vec<T>::LEN>(a);
    } else {
        pool<T, 1>(a);
    }
}

ENTRY(max_pool2d_f32, MaxPool2dArgs, THREADS, 4, 0, max_pool2d<f32>)
ENTRY(max_pool2d_f16, MaxPool2dArgs, THREADS, 4, 0, max_pool2d<f16>)
ENTRY(max_pool2d_bf16, MaxPool2dArgs, THREADS, 4, 0, max_pool2d<bf16>)
