// conv2d_tiled: implicit GEMM for GPUs, after conv2d.wgsl (formula, layouts, arguments).
//
// GEMM      rows are output pixels (n,oy,ox), columns output channels, depth the taps (u,v,i) with i padded to
//           a multiple of 4 and the whole to a multiple of 16.
// Weights   (depth, O padded to 64), as vectors of four output channels; zeros in all padding.
// Threads   a workgroup of 16x16 computes 64 pixels x 64 channels, 16 of the depth at a time: each invocation brings one
//           vector of x and one of w into workgroup memory, then adds to its 4 pixels x 4 channels in registers.
// Limits    dispatch ceil(pixels / 64) by ceil(O / 64); 8,448 bytes of workgroup memory, 256 invocations.
// Speed     README.md, "Measured".

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
// One element more than a row, so that the transposing stores fall into different banks.
const ROW: u32 = 65u;

var<workgroup> xs: array<f32, 1040>; // (DEPTH, ROW): pixels of one depth side by side
var<workgroup> ws: array<vec4<f32>, 256>; // (DEPTH, TILE / 4)

@compute @workgroup_size(16, 16)
fn conv2d_tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let pixels = args.n * args.out_h * args.out_w;
    let first_pixel = (group.x + group.z * groups.x) * TILE;
    let first_channel = group.y * TILE;

    // What this invocation brings: vector `part` of the depth slice of pixel `row`.
    let row = me >> 2u;
    let part = me & 3u;
    let brought = min(first_pixel + row, pixels - 1u);
    let bx = brought % args.out_w;
    let by = (brought / args.out_w) % args.out_h;
    let bn = brought / (args.out_w * args.out_h);

    let tx = me & 15u;
    let ty = me >> 4u;
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);

    let vectors = args.kernel_h * args.kernel_w * args.c4;
    for (var start = 0u; start < vectors; start += 4u) {
        let v = start + part;
        let tap = v / args.c4;
        let iy = by * args.stride + tap / args.kernel_w - args.padding; // wraps below 0, and so fails the test
        let ix = bx * args.stride_w + tap % args.kernel_w - args.padding_w;
        var brings = vec4<f32>(0.0);
        if (v < vectors && iy < args.h && ix < args.w) {
            brings = input4(((bn * args.h + iy) * args.w + ix) * args.c, (v % args.c4) * 4u);
        }
        let to = part * 4u * ROW + row;
        xs[to] = brings.x;
        xs[to + ROW] = brings.y;
        xs[to + 2u * ROW] = brings.z;
        xs[to + 3u * ROW] = brings.w;
        ws[me] = wide(weight[((start * 4u + ty) * args.out_pad + first_channel) / 4u + tx]);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let w = ws[k * 16u + tx];
            let p = k * ROW + ty * 4u;
            a0 = fma(vec4<f32>(xs[p]), w, a0);
            a1 = fma(vec4<f32>(xs[p + 1u]), w, a1);
            a2 = fma(vec4<f32>(xs[p + 2u]), w, a2);
            a3 = fma(vec4<f32>(xs[p + 3u]), w, a3);
        }
        workgroupBarrier();
    }

    let k = first_channel + tx * 4u;
    finish4(a0, first_pixel + ty * 4u, k, pixels);
    finish4(a1, first_pixel + ty * 4u + 1u, k, pixels);
    finish4(a2, first_pixel + ty * 4u + 2u, k, pixels);
    finish4(a3, first_pixel + ty * 4u + 3u, k, pixels);
}

fn finish4(sum: vec4<f32>, pixel: u32, k: u32, pixels: u32) {
    if (pixel >= pixels) {
        return;
    }
    let ox = pixel % args.out_w;
    let oy = (pixel / args.out_w) % args.out_h;
    let n = pixel / (args.out_w * args.out_h);
    if (k < args.out_c) { finish(sum.x + bias[k], n, oy, ox, k); }
    if (k + 1u < args.out_c) { finish(sum.y + bias[k + 1u], n, oy, ox, k + 1u); }
    if (k + 2u < args.out_c) { finish(sum.z + bias[k + 2u], n, oy, ox, k + 2u); }
    if (k + 3u < args.out_c) { finish(sum.w + bias[k + 3u], n, oy, ox, k + 3u); }
}
