// conv2d: what both variants share: the arguments, the bindings, and the last step of an output element.
//
// Formula   y[n,oy,ox,k] = act(bias[k] + sum over u,v,i of x[n, oy*s+u-p, ox*s+v-p, i] * w[k,u,v,i] + residual)
//           x is 0 outside the map; residual is r[n, oy*rs, ox*rs, k-offset] where that channel exists, else 0.
// Layout    x (N,H,W,C) and r (N,RH,RW,RC) and y (N,OH,OW,O), all NHWC; w packed by each variant (its file says how).
//           x is read as vectors of four channels when C is a multiple of 4 (VECTOR), else element by element.
// Aliasing  a residual may be the output itself (it is then read through y) or the input (through x), because WebGPU
//           forbids binding one range twice for writing.
// Threads, limits and speed: conv2d_tiled.wgsl and conv2d_broadcast.wgsl.

struct Args {
    n: u32, h: u32, w: u32, c: u32,
    out_h: u32, out_w: u32, out_c: u32, kernel_h: u32,
    kernel_w: u32, stride: u32, padding: u32, c4: u32, // c4: vectors of four channels, ceil(c / 4)
    res_h: u32, res_w: u32, res_c: u32, res_stride: u32,
    res_offset: u32, out_pad: u32, stride_w: u32, padding_w: u32, // out_pad: O as padded in w
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<W>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;
@group(0) @binding(3) var<storage, read_write> r: array<E>;
@group(0) @binding(4) var<storage, read> weight: array<W>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

// C is a multiple of 4.
override VECTOR: bool = true;
// 0: none, 1: in a buffer of its own, 2: in the output's place, 3: the input.
override RESIDUAL: u32 = 0u;
override RELU: bool = false;

// Channels i..i+4 of the pixel whose channel 0 is element `at`; those beyond C are 0.
fn input4(at: u32, i: u32) -> vec4<f32> {
    if (VECTOR) {
        return wide(x[(at + i) >> 2u]);
    }
    var v = vec4<f32>(0.0);
    if (i < args.c) { v.x = element(at + i); }
    if (i + 1u < args.c) { v.y = element(at + i + 1u); }
    if (i + 2u < args.c) { v.z = element(at + i + 2u); }
    if (i + 3u < args.c) { v.w = element(at + i + 3u); }
    return v;
}

fn element(at: u32) -> f32 {
    return wide(x[at >> 2u])[at & 3u];
}

// Residual, activation and store of output channel k of one pixel; `sum` has the bias already.
fn finish(sum: f32, n: u32, oy: u32, ox: u32, k: u32) {
    var v = sum;
    let to = ((n * args.out_h + oy) * args.out_w + ox) * args.out_c + k;
    if (RESIDUAL == 2u) {
        v += f32(y[to]);
    } else if (RESIDUAL != 0u) {
        if (k >= args.res_offset && k - args.res_offset < args.res_c) {
            let start = ((n * args.res_h + oy * args.res_stride) * args.res_w + ox * args.res_stride) * args.res_c
                + k - args.res_offset;
            if (RESIDUAL == 1u) {
                v += f32(r[start]);
            } else {
                v += element(start);
            }
        }
    }
    if (RELU) {
        v = max(v, 0.0);
    }
    y[to] = E(v);
}
