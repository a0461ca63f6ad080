// max_pool2d
//
// Formula   y[n,oy,ox,k] = max over u,v of x[n, oy*s+u-p, ox*s+v-p, k], over the positions inside the map
// Layout    x (N,H,W,C), y (N,OH,OW,C), NHWC
// Threads   one invocation four channels of an output pixel, channels fastest, 64 a workgroup; x is read as vectors of
//           four when C is a multiple of 4 (VECTOR), else element by element
// Limits    every window has a position inside the map (p <= kernel / 2)
// Speed     bound by its reads of x; README.md, "Measured"

struct Args {
    n: u32, h: u32, w: u32, c: u32,
    out_h: u32, out_w: u32, kernel: u32, stride: u32,
    padding: u32, pad0: u32, pad1: u32, pad2: u32,
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E4>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;

// C is a multiple of 4.
override VECTOR: bool = true;

// Channels k..k+4 of a pixel; those beyond C repeat the last.
fn input4(pixel: u32, k: u32) -> vec4<f32> {
    let at = pixel * args.c + k;
    if (VECTOR) {
        return vec4<f32>(x[at >> 2u]);
    }
    let last = pixel * args.c + args.c - 1u;
    return vec4(
        element(at),
        element(min(at + 1u, last)),
        element(min(at + 2u, last)),
        element(min(at + 3u, last)),
    );
}

fn element(at: u32) -> f32 {
    return f32(x[at >> 2u][at & 3u]);
}

@compute @workgroup_size(64)
fn max_pool2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let task = (group.x + group.y * groups.x) * 64u + me;
    let c4 = (args.c + 3u) / 4u;
    if (task >= args.n * args.out_h * args.out_w * c4) {
        return;
    }
    let k = (task % c4) * 4u;
    let pixel = task / c4;
    let ox = pixel % args.out_w;
    let oy = (pixel / args.out_w) % args.out_h;
    let n = pixel / (args.out_w * args.out_h);
    // The part of the window inside the map.
    let top = max(oy * args.stride, args.padding) - args.padding;
    let left = max(ox * args.stride, args.padding) - args.padding;
    let bottom = min(oy * args.stride + args.kernel - args.padding, args.h);
    let right = min(ox * args.stride + args.kernel - args.padding, args.w);
    var best = input4((n * args.h + top) * args.w + left, k);
    for (var iy = top; iy < bottom; iy++) {
        for (var ix = left; ix < right; ix++) {
            best = max(best, input4((n * args.h + iy) * args.w + ix, k));
        }
    }
    let to = pixel * args.c + k;
    y[to] = E(best.x);
    if (k + 1u < args.c) { y[to + 1u] = E(best.y); }
    if (k + 2u < args.c) { y[to + 2u] = E(best.z); }
    if (k + 3u < args.c) { y[to + 3u] = E(best.w); }
}
