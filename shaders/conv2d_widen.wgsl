// conv2d_widen: before conv2d_broadcast where C is not a multiple of 4, as in a first layer on RGB.
//
// Formula   y[m,k] = x[m,k] for k < C, 0 for the channels up to the next multiple of 4
// Layout    x (M,C), y (M,ceil(C / 4)) vectors of four; M is the number of pixels
// Threads   one invocation a vector, 64 a workgroup
// Limits    none. A convolution reads each input many times, and there an element costs as much to load as a vector
// Speed     README.md, "Measured"

struct Args {
    pixels: u32, c: u32, c4: u32, pad0: u32,
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<E4>;

@compute @workgroup_size(64)
fn conv2d_widen(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let to = (group.x + group.y * groups.x) * 64u + me;
    if (to >= args.pixels * args.c4) {
        return;
    }
    let k = (to % args.c4) * 4u;
    let at = (to / args.c4) * args.c;
    let last = args.c - 1u;
    var v = vec4(x[at + k], x[at + min(k + 1u, last)], x[at + min(k + 2u, last)], x[at + min(k + 3u, last)]);
    v = select(E4(0.0), v, vec4(k) + vec4(0u, 1u, 2u, 3u) < vec4(args.c));
    y[to] = v;
}
