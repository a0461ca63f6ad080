// max_pool2d
//
// Formula   y[n,oy,ox,k] = max over u,v of x[n, oy*s+u-p, ox*s+v-p, k], over the positions inside the map
// Layout    x (N,H,W,C), y (N,OH,OW,C), NHWC
// Threads   one invocation an output element, channels fastest, 64 a workgroup
// Limits    every window has a position inside the map (p <= kernel / 2)
// Speed     bound by its reads of x; README.md, "Measured"

struct Args {
    n: u32, h: u32, w: u32, c: u32,
    out_h: u32, out_w: u32, kernel: u32, stride: u32,
    padding: u32, pad0: u32, pad1: u32, pad2: u32,
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;

@compute @workgroup_size(64)
fn max_pool2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let to = (group.x + group.y * groups.x) * 64u + me;
    if (to >= args.n * args.out_h * args.out_w * args.c) {
        return;
    }
    let k = to % args.c;
    let ox = (to / args.c) % args.out_w;
    let oy = (to / (args.c * args.out_w)) % args.out_h;
    let n = to / (args.c * args.out_w * args.out_h);
    // The part of the window inside the map.
    let top = max(oy * args.stride, args.padding) - args.padding;
    let left = max(ox * args.stride, args.padding) - args.padding;
    let bottom = min(oy * args.stride + args.kernel - args.padding, args.h);
    let right = min(ox * args.stride + args.kernel - args.padding, args.w);
    var best = f32(x[((n * args.h + top) * args.w + left) * args.c + k]);
    for (var iy = top; iy < bottom; iy++) {
        for (var ix = left; ix < right; ix++) {
            best = max(best, f32(x[((n * args.h + iy) * args.w + ix) * args.c + k]));
        }
    }
    y[to] = E(best);
}
