//! conv2d: what its variants share: the arguments, and the last step of an output element.
//!
//! Formula   y[n,oy,ox,k] = act(bias[k] + sum over u,v,i of x[n, oy*s+u-p, ox*s+v-p, i] * w[k,u,v,i] + residual)
//!           x is 0 outside the map; residual is r[n, oy*rs, ox*rs, k-offset] where that channel exists, else 0.
//! GEMM      rows are output pixels (n,oy,ox), columns output channels, depth the taps (u,v,i), i fastest. Every variant adds
//!           the depth in this order, from the lowest, in f32; so an output does not depend on the batch it is in.
//! Layout    x (N,H,W,C), r (N,RH,RW,RC), y (N,OH,OW,O), all NHWC; bias (O) f32; w as each variant says.
//! Aliasing  a residual of stride 1 and offset 0 may be the output itself: the thread that writes an element is the one that
//!           has read it.
#pragma once

#include <number.cuh>

/// Mirrored in src/backend/cuda/args.rs.
struct Conv2dArgs {
    const void* input;
    void* output;
    const void* weight;
    const f32* bias;
    const void* residual; // null: none
    f32* partial;         // (splits, pixels, O) sums of each part of the depth; null where splits is 1
    u32* tickets;         // one for each tile of the output, 0 before and after a launch; null where splits is 1
    u32 n, h, w, c;
    u32 out_h, out_w, out_c;
    u32 kernel_h, kernel_w, stride, padding;
    u32 res_h, res_w, res_c, res_stride, res_offset;
    u32 splits; // parts of the depth, each summed by blocks of its own
    u32 relu;   // 0 or 1
};
static_assert(sizeof(Conv2dArgs) == 128, "as src/backend/cuda/args.rs has it");

/// Where an output pixel is.
struct Pixel {
    u32 n, y, x;
};

__device__ inline Pixel pixel_at(const Conv2dArgs& a, u32 index) {
    return Pixel{index / (a.out_w * a.out_h), index / a.out_w % a.out_h, index % a.out_w};
}

/// What the residual adds to output channel k of a pixel.
template <typename T> __device__ inline f32 residual_at(const Conv2dArgs& a, Pixel p, u32 k) {
    if (a.residual == nullptr || k < a.res_offset || k - a.res_offset >= a.res_c) return 0.0f;
    const u32 at = ((p.n * a.res_h + p.y * a.res_stride) * a.res_w + p.x * a.res_stride) * a.res_c + (k - a.res_offset);
    return to_f32(static_cast<const T*>(a.residual)[at]);
}

/// The residual of a pixel lies as the pixel's outputs do, so that vectors of both can be added.
__device__ inline bool residual_is_plain(const Conv2dArgs& a) {
    return a.residual != nullptr && a.res_stride == 1 && a.res_offset == 0 && a.res_c == a.out_c;
}

__device__ inline f32 activate(const Conv2dArgs& a, f32 x) { return a.relu != 0 ? (x > 0.0f ? x : 0.0f) : x; }
