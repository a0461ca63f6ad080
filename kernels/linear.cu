//! linear: for few rows, where the weights are most of what is read.
//!
//! Formula   y[m,k] = bias[k] + sum over i of x[m,i] * w[k,i]
//! Layout    x (M,I), w (O,I), y (M,O) in T; bias (O) f32
//! Threads   a warp computes OUTPUTS = 2 output channels of ROWS = 8 rows (the last group may have fewer), so that a weight is
//!           read once for eight rows; a block has 4 warps, one after another in channels. Lane l adds vector l, l + 32, ... of
//!           16 bytes where I is a multiple of the vector, else element l, l + 32, ...; then the lanes' sums are added by
//!           shuffles. This order does not depend on the number of rows.
//! Limits    grid (ceil(O / 8), ceil(M / 8)), 128 threads, no shared memory
//! Speed     bound by its reads of w while M <= 8; benches/runs
#include <number.cuh>

/// Mirrored in src/backend/cuda/args.rs.
struct LinearArgs {
    const void* input;
    void* output;
    const void* weight;
    const f32* bias;
    u32 rows, c, out_c, pad;
};
static_assert(sizeof(LinearArgs) == 48, "as src/backend/cuda/args.rs has it");

constexpr u32 WARPS = 4;
constexpr u32 OUTPUTS = 2;
constexpr u32 ROWS = 8;

/// `rows` <= R of them exist. `R` is 1 for a single row, whose loop over the depth then keeps more loads under way.
template <typename T, u32 L, u32 R>
__device__ void multiply(const LinearArgs& a, u32 first_row, u32 rows, u32 first_output) {
    using U = Unit<T, L>;
    const u32 units = a.c / L;
    const U* input = static_cast<const U*>(a.input) + first_row * units;
    const U* weight[OUTPUTS];
#pragma unroll
    for (u32 o = 0; o < OUTPUTS; o++) {
        // Beyond the last output it stands in; its sum is dropped.
        const u32 k = first_output + o < a.out_c ? first_output + o : a.out_c - 1;
        weight[o] = static_cast<const U*>(a.weight) + k * units;
    }

    f32 sum[R][OUTPUTS] = {};
#pragma unroll(R == 1 ? 4 : 1)
    for (u32 at = ptx::lane(); at < units; at += 32) {
        U w[OUTPUTS];
#pragma unroll
        for (u32 o = 0; o < OUTPUTS; o++) w[o] = weight[o][at];
#pragma unroll
        for (u32 r = 0; r < R; r++) {
            if (r >= rows) break;
            const U x = input[r * units + at];
#pragma unroll
            for (u32 i = 0; i < L; i++) {
#pragma unroll
                for (u32 o = 0; o < OUTPUTS; o++) sum[r][o] = ptx::fma(to_f32(x.v[i]), to_f32(w[o].v[i]), sum[r][o]);
            }
        }
    }

#pragma unroll
    for (u32 r = 0; r < R; r++) {
#pragma unroll
        for (u32 o = 0; o < OUTPUTS; o++) {
            f32 total = sum[r][o];
#pragma unroll
            for (u32 mask = 16; mask > 0; mask /= 2) total += ptx::shuffle_xor(total, mask);
            const u32 k = first_output + o;
            if (ptx::lane() == r * OUTPUTS + o && r < rows && k < a.out_c) {
                static_cast<T*>(a.output)[(first_row + r) * a.out_c + k] = from_f32<T>(total + a.bias[k]);
            }
        }
    }
}

template <typename T, u32 L> __device__ void choose_rows(const LinearArgs& a) {
    const u32 first_row = ptx::block_y() * ROWS;
    const u32 rows = a.rows - first_row < ROWS ? a.rows - first_row : ROWS;
    const u32 first_output = (ptx::block_x() * WARPS + ptx::warp()) * OUTPUTS;
    if (rows == 1) {
        multiply<T, L, 1>(a, first_row, rows, first_output);
    } else {
        multiply<T, L, ROWS>(a, first_row, rows, first_output);
    }
}

template <typename T> __device__ void linear(const LinearArgs& a) {
    ptx::grid_wait();
    ptx::grid_launch_next();
    if (a.c % Vec<T>::LEN == 0) {
        choose_rows<T, Vec<T>::LEN>(a);
    } else {
        choose_rows<T, 1>(a);
    }
}

ENTRY(linear_f32, LinearArgs, WARPS * 32, 4, 0, linear<f32>)
ENTRY(linear_f16, LinearArgs, WARPS * 32, 4, 0, linear<f16>)
ENTRY(linear_bf16, LinearArgs, WARPS * 32, 4, 0, linear<bf16>)
