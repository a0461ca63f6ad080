// avg_pool2d
//
// Formula   y[n,oy,ox,k] = mean over u,v of x[n, oy*kh+u, ox*kw+v, k]
// Layout    x (N,H,W,C), y (N,H/kh,W/kw,C), NHWC
// Threads   one invocation an output element, channels fastest, 64 a workgroup
// Limits    none
// Speed     bound by its reads of x; README.md, "Measured"

struct Args {
    n: u32, h: u32, w: u32, c: u32,
    kernel_h: u32, kernel_w: u32, pad0: u32, pad1: u32,
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;

@compute @workgroup_size(64)
fn avg_pool2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let to = (group.x + group.y * groups.x) * 64u + me;
    let out_h = args.h / args.kernel_h;
    let out_w = args.w / args.kernel_w;
    if (to >= args.n * out_h * out_w * args.c) {
        return;
    }
    let k = to % args.c;
    let ox = (to / args.c) % out_w;
    let oy = (to / (args.c * out_w)) % out_h;
    let n = to / (args.c * out_w * out_h);
    var sum = 0.0;
    for (var u = 0u; u < args.kernel_h; u++) {
        let row = (n * args.h + oy * args.kernel_h + u) * args.w + ox * args.kernel_w;
        // Row sums first: a large window loses less to rounding.
        var part = 0.0;
        for (var v = 0u; v < args.kernel_w; v++) {
            part += f32(x[(row + v) * args.c + k]);
        }
        sum += part;
    }
    y[to] = E(sum / f32(args.kernel_h * args.kernel_w));
}
