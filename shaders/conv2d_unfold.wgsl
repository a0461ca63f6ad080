// conv2d_unfold: before conv2d_broadcast where C is not a multiple of 4, as in a first layer on RGB.
//
// Formula   y[n,iy,ox, t*C+i] = x[n, iy, ox*s+t-p, i] for t < KW, 0 outside the map and for channels beyond KW*C: a KH x KW
//           convolution of x is a KH x 1 convolution of y
// Layout    x (N,H,W,C), y (N,H,OW,ceil(KW * C / 4)) vectors of four
// Threads   one invocation a pixel of y, 64 a workgroup
// Limits    none. A convolution reads each input many times, and there an element costs as much to load as a vector
// Speed     README.md, "Measured"

struct Args {
    rows: u32, w: u32, c: u32, out_w: u32, // rows: N * H
    kernel_w: u32, stride: u32, padding: u32, c4: u32, // c4: vectors of y's channels
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E>;
@group(0) @binding(2) var<storage, read_write> y: array<W>;

// Element k of a window that begins `left` (which wraps below 0) elements into row `row`: the pixels of a row follow on
// each other, so that no division is needed, which such an adapter does lane by lane.
fn unfolded(row: u32, left: u32, k: u32) -> f32 {
    let inside = left + k < args.w * args.c && k < args.kernel_w * args.c;
    let at = select(0u, row * args.w * args.c + left + k, inside);
    return select(0.0, f32(x[at]), inside);
}

@compute @workgroup_size(64)
fn conv2d_unfold(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let pixel = (group.x + group.y * groups.x) * 64u + me;
    if (pixel >= args.rows * args.out_w) {
        return;
    }
    let row = pixel / args.out_w;
    let left = ((pixel - row * args.out_w) * args.stride - args.padding) * args.c;
    for (var i = 0u; i < args.c4; i++) {
        let k = i * 4u;
        y[pixel * args.c4 + i] = stored(vec4(
            unfolded(row, left, k),
            unfolded(row, left, k + 1u),
            unfolded(row, left, k + 2u),
            unfolded(row, left, k + 3u),
        ));
    }
}
