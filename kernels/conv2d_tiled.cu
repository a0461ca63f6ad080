//! conv2d_tiled: implicit GEMM by ordinary multiply-adds, after conv2d.cuh (formula, layouts, arguments). The exact path of
//! f32, and what runs the halves where there are no usable tensor cores.
//!
//! Formula   conv2d.cuh's. A sum is a chain of fmaf over the depth (u,v,i) from the lowest, from 0, whatever the tile; then
//!           bias, residual, activation, one rounding to T. So both variants give the same bits, in any batch.
//! Weights   (depth, O): depth = KH*KW*C padded to a multiple of 16, O padded to a multiple of 128, zeros in the padding
//! Threads   a block of 256 computes P pixels x C channels (large 128 x 128, small 64 x 64), 16 of the depth at a time: while
//!           it multiplies one slice in shared memory, the loads of the next are under way to registers, pixels during the
//!           first half and weights during the second. A warp computes
//!           P/4 x C/2 of the tile, in which lane (ly, lx) of 4 x 8 has pixels 4 ly + 16 g + (0..3) and channels
//!           4 lx + 32 g + (0..3), g < 2 (large) or 1: so a warp's reads of shared memory are 64 and 128 bytes side by side.
//! Loads     where C is a multiple of a vector of 16 bytes: vectors of x, 16 of the depth of a pixel by neighbouring lanes;
//!           else elements, neighbouring lanes taking neighbouring pixels. The weights are always read in vectors.
//! Limits    grid (ceil(pixels / P), ceil(O / C)); large 34,816 and small 17,408 bytes of shared memory
//! Speed     bound by multiply-adds: 64 (large) or 16 (small) for 4 or 2 vectors from shared memory; benches/runs
#include <conv2d.cuh>

constexpr u32 THREADS = 256;
constexpr u32 DEPTH = 16;

/// One slice of the depth of a tile, in f32. Pixels of a depth d are exchanged by `swizzled`.
template <u32 P, u32 C> struct Slice {
    f32 x[DEPTH][P];
    f32 w[DEPTH][C];
};

/// Where pixel `row` lies in the rows of a slice for depths 4 q to 4 q + 3: lanes that store neighbouring vectors of one
/// pixel's depth then meet different banks, and fours of pixels stay together.
__device__ inline u32 swizzled(u32 q, u32 row) { return row ^ (q % 4 * 8); }

/// A place in the depth: tap (u, v), input channel i.
struct Tap {
    u32 u, v, i;

    __device__ void advance(const Conv2dArgs& a, u32 by) {
        i += by;
        while (i >= a.c) {
            i -= a.c;
            if (++v == a.kernel_w) {
                v = 0;
                u++;
            }
        }
    }
};

/// Where a pixel's window begins; y and x wrap below 0.
struct alignas(16) Origin {
    u32 image, y, x, pad;

    /// Whether the tap is in the depth and in the map; then `at` is the element's index.
    __device__ bool find(const Conv2dArgs& a, const Tap& tap, u32& at) const {
        const u32 iy = y + tap.u, ix = x + tap.v;
        at = image + (iy * a.w + ix) * a.c + tap.i;
        return tap.u < a.kernel_h && iy < a.h && ix < a.w;
    }
};

__device__ inline Origin origin_of(const Conv2dArgs& a, u32 pixel) {
    const u32 pixels = a.n * a.out_h * a.out_w;
    // Beyond the last pixel it stands in; what is computed is dropped.
    const Pixel p = pixel_at(a, pixel < pixels ? pixel : pixels - 1);
    return Origin{p.n * a.h * a.w * a.c, p.y * a.stride - a.padding, p.x * a.stride - a.padding, 0};
}

template <u32 P, u32 C> struct Shared {
    Slice<P, C> slices[2];
    Origin origins[P]; // here and not in registers, of which the sums leave too few
};
static_assert(sizeof(Shared<128, 128>) == 34816 && sizeof(Shared<64, 64>) == 17408, "as the header says");

/// What a thread brings of a tile's pixels: vectors where the channels allow (then thread t has vector t % PARTS of pixels
/// t / PARTS + j * ROWS), else elements (then it has EACH of the depth, from t / P * EACH on, of pixel t % P).
template <typename T, u32 P> struct Pixels {
    static constexpr u32 LEN = Vec<T>::LEN;
    static constexpr u32 PARTS = DEPTH / LEN;
    static constexpr u32 ROWS = THREADS / PARTS;
    static constexpr u32 COUNT = P > ROWS ? P / ROWS : 1;
    static constexpr u32 EACH = P * DEPTH / THREADS;
    static_assert(COUNT * LEN >= EACH, "there is room for the elements too");

    Vec<T> brought[COUNT];
    Tap tap{0, 0, 0};

    __device__ static bool vectors(const Conv2dArgs& a) { return a.c % LEN == 0; }
    /// Small tiles of halves have fewer vectors than the block has threads.
    __device__ static bool idle() { return ROWS > P && ptx::thread() / PARTS >= P; }

    __device__ explicit Pixels(const Conv2dArgs& a) {
        tap.advance(a, vectors(a) ? ptx::thread() % PARTS * LEN : ptx::thread() / P * EACH);
    }

    /// Loads the next slice's part.
    __device__ void load(const Conv2dArgs& a, const Origin (&origins)[P]) {
        const T* input = static_cast<const T*>(a.input);
        const u32 t = ptx::thread();
        u32 at;
        if (vectors(a)) {
#pragma unroll
            for (u32 j = 0; j < COUNT; j++) {
                brought[j] = Vec<T>{};
                if (!idle() && origins[t / PARTS + j * ROWS].find(a, tap, at)) brought[j] = load_vec(input + at);
            }
            tap.advance(a, DEPTH);
        } else {
            const Origin origin = origins[t % P];
#pragma unroll
            for (u32 e = 0; e < EACH; e++) {
                T& to = brought[e / LEN].v[e % LEN];
                to = T{};
                if (origin.find(a, tap, at)) to = input[at];
                tap.advance(a, 1);
            }
            tap.advance(a, DEPTH - EACH);
        }
    }

    __device__ void store(const Conv2dArgs& a, f32 (&x)[DEPTH][P]) const {
        const u32 t = ptx::thread();
        if (vectors(a)) {
            if (idle()) return;
#pragma unroll
            for (u32 e = 0; e < COUNT * LEN; e++) {
                const u32 q = t % PARTS * (LEN / 4) + e % LEN / 4;
                x[q * 4 + e % 4][swizzled(q, t / PARTS) + e / LEN * ROWS] = to_f32(brought[e / LEN].v[e % LEN]);
            }
        } else {
#pragma unroll
            for (u32 e = 0; e < EACH; e++) {
                const u32 q = t / P * (EACH / 4) + e / 4;
                x[q * 4 + e % 4][swizzled(q, t % P)] = to_f32(brought[e / LEN].v[e % LEN]);
            }
        }
    }
};

/// What a thread brings of the weights.
template <typename T, u32 C> struct Weights {
    static constexpr u32 LEN = Vec<T>::LEN;
    static constexpr u32 VECTORS = DEPTH * C / LEN;
    static constexpr u32 COUNT = VECTORS > THREADS ? VECTORS / THREADS : 1;
    static constexpr u32 ROWS = THREADS / (C / LEN); // of the depth that all threads bring at once

    Vec<T> brought[COUNT];
    const T* next;
    u32 stride;

    __device__ Weights(const Conv2dArgs& a, u32 first_channel) : stride(divide_up(a.out_c, 128) * 128) {
        const u32 t = ptx::thread();
        next = static_cast<const T*>(a.weight) + t / (C / LEN) * stride + first_channel + t % (C / LEN) * LEN;
    }

    /// Small tiles of halves have fewer vectors than the block has threads.
    __device__ static bool idle() { return VECTORS < THREADS && ptx::thread() >= VECTORS; }

    __device__ void load() {
        if (idle()) return;
#pragma unroll
        for (u32 j = 0; j < COUNT; j++) brought[j] = load_vec(next + j * ROWS * stride);
        next += DEPTH * stride;
    }

    __device__ void store(f32 (&w)[DEPTH][C]) const {
        const u32 t = ptx::thread();
        if (idle()) return;
#pragma unroll
        for (u32 e = 0; e < COUNT * LEN; e++) {
            const u32 d = t / (C / LEN) + e / LEN * ROWS;
            w[d][t % (C / LEN) * LEN + e % LEN] = to_f32(brought[e / LEN].v[e % LEN]);
        }
    }
};

/// A thread's sums: PIXELS x CHANNELS of its block's tile, in fours.
template <u32 P, u32 C> struct Sums {
    static constexpr u32 PIXELS = P / 16;
    static constexpr u32 CHANNELS = C / 16;

    f32 sum[PIXELS][CHANNELS] = {};
    u32 row, column; // of the first pixel and channel in the tile

    __device__ Sums() {
        row = ptx::warp() % 4 * (P / 4) + ptx::lane() / 8 * 4;
        column = ptx::warp() / 4 * (C / 2) + ptx::lane() % 8 * 4;
    }

    /// Of the i-th pixel and the j-th channel in the tile.
    __device__ u32 pixel(u32 i) const { return row + i / 4 * 16 + i % 4; }
    __device__ u32 channel(u32 j) const { return column + j / 4 * 32 + j % 4; }

    /// Half a slice's depth, from `FIRST` on.
    template <u32 FIRST> __device__ void add(const Slice<P, C>& slice) {
#pragma unroll
        for (u32 d = FIRST; d < FIRST + DEPTH / 2; d++) {
            Vec<f32> x[PIXELS / 4], w[CHANNELS / 4];
#pragma unroll
            for (u32 g = 0; g < PIXELS / 4; g++) x[g] = load_vec(&slice.x[d][swizzled(d / 4, pixel(g * 4))]);
#pragma unroll
            for (u32 g = 0; g < CHANNELS / 4; g++) w[g] = load_vec(&slice.w[d][channel(g * 4)]);
#pragma unroll
            for (u32 i = 0; i < PIXELS; i++) {
#pragma unroll
                for (u32 j = 0; j < CHANNELS; j++) {
                    sum[i][j] = ptx::fma(x[i / 4].v[i % 4], w[j / 4].v[j % 4], sum[i][j]);
                }
            }
        }
    }

    /// Four channels from k on of pixel i, in vectors: O is a multiple of 4, and the residual plain or none.
    template <typename T> __device__ void write_vector(const Conv2dArgs& a, u32 i, u32 j, u32 pixel, u32 k) const {
        const u32 at = pixel * a.out_c + k;
        const Vec<f32> bias = load_vec(a.bias + k);
        Unit<T, 4> residual{}, out;
        if (a.residual != nullptr) residual = *reinterpret_cast<const Unit<T, 4>*>(static_cast<const T*>(a.residual) + at);
#pragma unroll
        for (u32 e = 0; e < 4; e++) {
            out.v[e] = from_f32<T>(activate(a, sum[i][j + e] + bias.v[e] + to_f32(residual.v[e])));
        }
        *reinterpret_cast<Unit<T, 4>*>(static_cast<T*>(a.output) + at) = out;
    }

    template <typename T> __device__ void write(const Conv2dArgs& a, u32 first_pixel, u32 first_channel) const {
        const u32 pixels = a.n * a.out_h * a.out_w;
        const bool vectors = a.out_c % 4 == 0 && (a.residual == nullptr || residual_is_plain(a));
#pragma unroll
        for (u32 i = 0; i < PIXELS; i++) {
            const u32 p = first_pixel + pixel(i);
            if (p >= pixels) continue;
#pragma unroll
            for (u32 j = 0; j < CHANNELS; j += 4) {
                const u32 k = first_channel + channel(j);
                if (vectors) {
                    if (k < a.out_c) write_vector<T>(a, i, j, p, k);
                    continue;
                }
#pragma unroll
                for (u32 e = 0; e < 4; e++) {
                    if (k + e >= a.out_c) break;
                    const f32 x = sum[i][j + e] + a.bias[k + e] + residual_at<T>(a, pixel_at(a, p), k + e);
                    static_cast<T*>(a.output)[p * a.out_c + k + e] = from_f32<T>(activate(a, x));
                }
            }
        }
    }
};

template <typename T, u32 P, u32 C> __device__ void conv2d_tiled(const Conv2dArgs& a) {
    Shared<P, C>& shared = *static_cast<Shared<P, C>*>(ptx::shared_memory());
    const u32 first_pixel = ptx::block_x() * P;
    const u32 first_channel = ptx::block_y() * C;
    if (ptx::thread() < P) shared.origins[ptx::thread()] = origin_of(a, first_pixel + ptx::thread());
    ptx::sync_block();
    Pixels<T, P> pixels(a);
    Weights<T, C> weights(a, first_channel);
    Sums<P, C> sums;
    ptx::grid_wait();
    ptx::grid_launch_next();

    const u32 slices = divide_up(a.kernel_h * a.kernel_w * a.c, DEPTH);
    pixels.load(a, shared.origins);
    weights.load();
    pixels.store(a, shared.slices[0].x);
    weights.store(shared.slices[0].w);
    for (u32 s = 0; s < slices; s++) {
        ptx::sync_block();
        const Slice<P, C>& slice = shared.slices[s % 2];
        Slice<P, C>& next = shared.slices[(s + 1) % 2]; // multiplied before the barrier
        const bool more = s + 1 < slices;
        // Half the product covers each load, so that only one part is in registers at a time.
        if (more) pixels.load(a, shared.origins);
        sums.template add<0>(slice);
        if (more) {
            pixels.store(a, next.x);
            weights.load();
        }
        sums.template add<DEPTH / 2>(slice);
        if (more) weights.store(next.w);
    }
    sums.template write<T>(a, first_pixel, first_channel);
}

ENTRY(conv2d_tiled_large_f32, Conv2dArgs, THREADS, 2, sizeof(Shared<128, 128>), conv2d_tiled<f32, 128, 128>)
ENTRY(conv2d_tiled_large_f16, Conv2dArgs, THREADS, 2, sizeof(Shared<128, 128>), conv2d_tiled<f16, 128, 128>)
ENTRY(conv2d_tiled_large_bf16, Conv2dArgs, THREADS, 2, sizeof(Shared<128, 128>), conv2d_tiled<bf16, 128, 128>)
ENTRY(conv2d_tiled_small_f32, Conv2dArgs, THREADS, 4, sizeof(Shared<64, 64>), conv2d_tiled<f32, 64, 64>)
ENTRY(conv2d_tiled_small_f16, Conv2dArgs, THREADS, 4, sizeof(Shared<64, 64>), conv2d_tiled<f16, 64, 64>)
ENTRY(conv2d_tiled_small_bf16, Conv2dArgs, THREADS, 4, sizeof(Shared<64, 64>), conv2d_tiled<bf16, 64, 64>)
