// conv2d_winograd: 3x3 convolutions at stride 1 by Winograd's F(2x2, 3x3), for adapters as in conv2d_broadcast.wgsl.
//
// Formula   for each tile of 2x2 outputs: y = A'[(G w G') * (B' d B)]A over the 4x4 inputs d, summed over channels between
//           (Lavin and Gray, arXiv 1509.09308); 16 multiplications where the sum itself takes 36. Then bias, residual
//           and activation as in conv2d.wgsl; the residual has the output's shape.
// Layout    x, r, y as in conv2d.wgsl, all as vectors of four channels; v (16, tiles, C / 4) and m (16, tiles, O / 4)
//           vectors in f32, for one part of the tiles at a time, so that they stay in the cache;
//           weight (O / 32, 16, C / 4, 32) vectors of four input channels, transformed on the host, in f32
// Threads   _input: one invocation a tile and vector of channels. _product: sixteen matrix products, one invocation four
//           tiles x 32 channels, a workgroup one subgroup of 8 that hands weights from lane to lane.
//           _output: one invocation a tile and vector of channels
// Limits    C a multiple of 4, O of 32; dispatches: _input and _output over x and y; _product ceil(tiles / 32) by O / 32
//           by 16; subgroups of exactly 8
// Speed     README.md, "Measured"

struct Args {
    n: u32, h: u32, w: u32, c4: u32,
    out_h: u32, out_w: u32, o4: u32, padding: u32,
    tiles_h: u32, tiles_w: u32, first: u32, tiles: u32, // of all, one image's rows and columns; this part's range
    tiles_pad: u32, pad0: u32, pad1: u32, pad2: u32,     // rows of v and m: tiles, to a multiple of 4
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E4>;
@group(0) @binding(2) var<storage, read_write> y: array<E4>;
@group(0) @binding(3) var<storage, read_write> r: array<E4>;
@group(0) @binding(4) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> bias: array<vec4<f32>>;

// 0: none, 1: in a buffer of its own, 2: in the output's place.
override RESIDUAL: u32 = 0u;
override RELU: bool = false;

// Tile t of this part: image, and first output row and column.
fn place(t: u32) -> vec3<u32> {
    let tile = args.first + t;
    let row = tile / args.tiles_w;
    return vec3(row / args.tiles_h, (row % args.tiles_h) * 2u, (tile % args.tiles_w) * 2u);
}

// Vector k of one input; 0 outside the map. Positions wrap below 0, and so fail the test.
fn input(n: u32, iy: u32, ix: u32, k: u32) -> vec4<f32> {
    let inside = iy < args.h && ix < args.w;
    let at = select(0u, ((n * args.h + iy) * args.w + ix) * args.c4 + k, inside);
    return select(vec4<f32>(0.0), vec4<f32>(x[at]), inside);
}

// Row `u` of B' d, for one column of inputs.
fn column(u: u32, d0: vec4<f32>, d1: vec4<f32>, d2: vec4<f32>, d3: vec4<f32>) -> vec4<f32> {
    if (u == 0u) { return d0 - d2; }
    if (u == 1u) { return d1 + d2; }
    if (u == 2u) { return d2 - d1; }
    return d1 - d3;
}

@compute @workgroup_size(64)
fn conv2d_winograd_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let task = (group.x + group.y * groups.x) * 64u + me;
    if (task >= args.tiles * args.c4) {
        return;
    }
    let k = task % args.c4;
    let t = task / args.c4;
    let p = place(t);
    let iy = p.y - args.padding;
    let ix = p.z - args.padding;
    let d00 = input(p.x, iy + 0u, ix + 0u, k);
    let d01 = input(p.x, iy + 0u, ix + 1u, k);
    let d02 = input(p.x, iy + 0u, ix + 2u, k);
    let d03 = input(p.x, iy + 0u, ix + 3u, k);
    let d10 = input(p.x, iy + 1u, ix + 0u, k);
    let d11 = input(p.x, iy + 1u, ix + 1u, k);
    let d12 = input(p.x, iy + 1u, ix + 2u, k);
    let d13 = input(p.x, iy + 1u, ix + 3u, k);
    let d20 = input(p.x, iy + 2u, ix + 0u, k);
    let d21 = input(p.x, iy + 2u, ix + 1u, k);
    let d22 = input(p.x, iy + 2u, ix + 2u, k);
    let d23 = input(p.x, iy + 2u, ix + 3u, k);
    let d30 = input(p.x, iy + 3u, ix + 0u, k);
    let d31 = input(p.x, iy + 3u, ix + 1u, k);
    let d32 = input(p.x, iy + 3u, ix + 2u, k);
    let d33 = input(p.x, iy + 3u, ix + 3u, k);
    // One of 16 to the next: all tiles and channels.
    let step = args.tiles_pad * args.c4;
    let to = t * args.c4 + k;
    let b00 = column(0u, d00, d10, d20, d30);
    let b01 = column(0u, d01, d11, d21, d31);
    let b02 = column(0u, d02, d12, d22, d32);
    let b03 = column(0u, d03, d13, d23, d33);
    let b10 = column(1u, d00, d10, d20, d30);
    let b11 = column(1u, d01, d11, d21, d31);
    let b12 = column(1u, d02, d12, d22, d32);
    let b13 = column(1u, d03, d13, d23, d33);
    let b20 = column(2u, d00, d10, d20, d30);
    let b21 = column(2u, d01, d11, d21, d31);
    let b22 = column(2u, d02, d12, d22, d32);
    let b23 = column(2u, d03, d13, d23, d33);
    let b30 = column(3u, d00, d10, d20, d30);
    let b31 = column(3u, d01, d11, d21, d31);
    let b32 = column(3u, d02, d12, d22, d32);
    let b33 = column(3u, d03, d13, d23, d33);
    v[to] = column(0u, b00, b01, b02, b03);
    v[to + step] = column(1u, b00, b01, b02, b03);
    v[to + 2u * step] = column(2u, b00, b01, b02, b03);
    v[to + 3u * step] = column(3u, b00, b01, b02, b03);
    v[to + 4u * step] = column(0u, b10, b11, b12, b13);
    v[to + 5u * step] = column(1u, b10, b11, b12, b13);
    v[to + 6u * step] = column(2u, b10, b11, b12, b13);
    v[to + 7u * step] = column(3u, b10, b11, b12, b13);
    v[to + 8u * step] = column(0u, b20, b21, b22, b23);
    v[to + 9u * step] = column(1u, b20, b21, b22, b23);
    v[to + 10u * step] = column(2u, b20, b21, b22, b23);
    v[to + 11u * step] = column(3u, b20, b21, b22, b23);
    v[to + 12u * step] = column(0u, b30, b31, b32, b33);
    v[to + 13u * step] = column(1u, b30, b31, b32, b33);
    v[to + 14u * step] = column(2u, b30, b31, b32, b33);
    v[to + 15u * step] = column(3u, b30, b31, b32, b33);
}

// Adds four input channels (b: their weights) for four tiles.
fn product(sum: vec4<f32>, b: vec4<f32>, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> vec4<f32> {
    var s = fma(vec4(v0.x, v1.x, v2.x, v3.x), vec4(b.x), sum);
    s = fma(vec4(v0.y, v1.y, v2.y, v3.y), vec4(b.y), s);
    s = fma(vec4(v0.z, v1.z, v2.z, v3.z), vec4(b.z), s);
    return fma(vec4(v0.w, v1.w, v2.w, v3.w), vec4(b.w), s);
}

// Four channels (the sums) of four tiles (their components).
fn store(to: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    m[to] = vec4(a.x, b.x, c.x, d.x);
    m[to + args.o4] = vec4(a.y, b.y, c.y, d.y);
    m[to + 2u * args.o4] = vec4(a.z, b.z, c.z, d.z);
    m[to + 3u * args.o4] = vec4(a.w, b.w, c.w, d.w);
}

@compute @workgroup_size(8)
fn conv2d_winograd_product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let task = group.x * 8u + lane;
    let tasks = args.tiles_pad / 4u;
    let row = group.z * args.tiles_pad + min(task, tasks - 1u) * 4u;
    let at0 = row * args.c4;
    let at1 = at0 + args.c4;
    let at2 = at1 + args.c4;
    let at3 = at2 + args.c4;
    var start = (group.y * 16u + group.z) * args.c4 * 32u + lane;
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var a4 = vec4<f32>(0.0);
    var a5 = vec4<f32>(0.0);
    var a6 = vec4<f32>(0.0);
    var a7 = vec4<f32>(0.0);
    var a8 = vec4<f32>(0.0);
    var a9 = vec4<f32>(0.0);
    var a10 = vec4<f32>(0.0);
    var a11 = vec4<f32>(0.0);
    var a12 = vec4<f32>(0.0);
    var a13 = vec4<f32>(0.0);
    var a14 = vec4<f32>(0.0);
    var a15 = vec4<f32>(0.0);
    var a16 = vec4<f32>(0.0);
    var a17 = vec4<f32>(0.0);
    var a18 = vec4<f32>(0.0);
    var a19 = vec4<f32>(0.0);
    var a20 = vec4<f32>(0.0);
    var a21 = vec4<f32>(0.0);
    var a22 = vec4<f32>(0.0);
    var a23 = vec4<f32>(0.0);
    var a24 = vec4<f32>(0.0);
    var a25 = vec4<f32>(0.0);
    var a26 = vec4<f32>(0.0);
    var a27 = vec4<f32>(0.0);
    var a28 = vec4<f32>(0.0);
    var a29 = vec4<f32>(0.0);
    var a30 = vec4<f32>(0.0);
    var a31 = vec4<f32>(0.0);
    for (var i = 0u; i < args.c4; i++) {
        let v0 = v[at0 + i];
        let v1 = v[at1 + i];
        let v2 = v[at2 + i];
        let v3 = v[at3 + i];
        let w0 = weight[start];
        let w1 = weight[start + 8u];
        let w2 = weight[start + 16u];
        let w3 = weight[start + 24u];
        start += 32u;
        a0 = product(a0, subgroupBroadcast(w0, 0u), v0, v1, v2, v3);
        a1 = product(a1, subgroupBroadcast(w0, 1u), v0, v1, v2, v3);
        a2 = product(a2, subgroupBroadcast(w0, 2u), v0, v1, v2, v3);
        a3 = product(a3, subgroupBroadcast(w0, 3u), v0, v1, v2, v3);
        a4 = product(a4, subgroupBroadcast(w0, 4u), v0, v1, v2, v3);
        a5 = product(a5, subgroupBroadcast(w0, 5u), v0, v1, v2, v3);
        a6 = product(a6, subgroupBroadcast(w0, 6u), v0, v1, v2, v3);
        a7 = product(a7, subgroupBroadcast(w0, 7u), v0, v1, v2, v3);
        a8 = product(a8, subgroupBroadcast(w1, 0u), v0, v1, v2, v3);
        a9 = product(a9, subgroupBroadcast(w1, 1u), v0, v1, v2, v3);
        a10 = product(a10, subgroupBroadcast(w1, 2u), v0, v1, v2, v3);
        a11 = product(a11, subgroupBroadcast(w1, 3u), v0, v1, v2, v3);
        a12 = product(a12, subgroupBroadcast(w1, 4u), v0, v1, v2, v3);
        a13 = product(a13, subgroupBroadcast(w1, 5u), v0, v1, v2, v3);
        a14 = product(a14, subgroupBroadcast(w1, 6u), v0, v1, v2, v3);
        a15 = product(a15, subgroupBroadcast(w1, 7u), v0, v1, v2, v3);
        a16 = product(a16, subgroupBroadcast(w2, 0u), v0, v1, v2, v3);
        a17 = product(a17, subgroupBroadcast(w2, 1u), v0, v1, v2, v3);
        a18 = product(a18, subgroupBroadcast(w2, 2u), v0, v1, v2, v3);
        a19 = product(a19, subgroupBroadcast(w2, 3u), v0, v1, v2, v3);
        a20 = product(a20, subgroupBroadcast(w2, 4u), v0, v1, v2, v3);
        a21 = product(a21, subgroupBroadcast(w2, 5u), v0, v1, v2, v3);
        a22 = product(a22, subgroupBroadcast(w2, 6u), v0, v1, v2, v3);
        a23 = product(a23, subgroupBroadcast(w2, 7u), v0, v1, v2, v3);
        a24 = product(a24, subgroupBroadcast(w3, 0u), v0, v1, v2, v3);
        a25 = product(a25, subgroupBroadcast(w3, 1u), v0, v1, v2, v3);
        a26 = product(a26, subgroupBroadcast(w3, 2u), v0, v1, v2, v3);
        a27 = product(a27, subgroupBroadcast(w3, 3u), v0, v1, v2, v3);
        a28 = product(a28, subgroupBroadcast(w3, 4u), v0, v1, v2, v3);
        a29 = product(a29, subgroupBroadcast(w3, 5u), v0, v1, v2, v3);
        a30 = product(a30, subgroupBroadcast(w3, 6u), v0, v1, v2, v3);
        a31 = product(a31, subgroupBroadcast(w3, 7u), v0, v1, v2, v3);
    }
    if (task < tasks) {
        let to = row * args.o4 + group.y * 8u;
        store(to, a0, a1, a2, a3);
        store(to + 1u, a4, a5, a6, a7);
        store(to + 2u, a8, a9, a10, a11);
        store(to + 3u, a12, a13, a14, a15);
        store(to + 4u, a16, a17, a18, a19);
        store(to + 5u, a20, a21, a22, a23);
        store(to + 6u, a24, a25, a26, a27);
        store(to + 7u, a28, a29, a30, a31);
    }
}

fn finish(sum: vec4<f32>, n: u32, oy: u32, ox: u32, k: u32) {
    if (oy >= args.out_h || ox >= args.out_w) {
        return;
    }
    var s = sum;
    let to = ((n * args.out_h + oy) * args.out_w + ox) * args.o4 + k;
    if (RESIDUAL == 1u) {
        s += vec4<f32>(r[to]);
    }
    if (RESIDUAL == 2u) {
        s += vec4<f32>(y[to]);
    }
    if (RELU) {
        s = max(s, vec4<f32>(0.0));
    }
    y[to] = E4(s);
}

@compute @workgroup_size(64)
fn conv2d_winograd_output(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let task = (group.x + group.y * groups.x) * 64u + me;
    if (task >= args.tiles * args.o4) {
        return;
    }
    let k = task % args.o4;
    let t = task / args.o4;
    let step = args.tiles_pad * args.o4;
    let at = t * args.o4 + k;
    let m00 = m[at];
    let m01 = m[at + step];
    let m02 = m[at + 2u * step];
    let m03 = m[at + 3u * step];
    let m10 = m[at + 4u * step];
    let m11 = m[at + 5u * step];
    let m12 = m[at + 6u * step];
    let m13 = m[at + 7u * step];
    let m20 = m[at + 8u * step];
    let m21 = m[at + 9u * step];
    let m22 = m[at + 10u * step];
    let m23 = m[at + 11u * step];
    let m30 = m[at + 12u * step];
    let m31 = m[at + 13u * step];
    let m32 = m[at + 14u * step];
    let m33 = m[at + 15u * step];
    let e00 = m00 + m10 + m20;
    let e10 = m10 - m20 - m30;
    let e01 = m01 + m11 + m21;
    let e11 = m11 - m21 - m31;
    let e02 = m02 + m12 + m22;
    let e12 = m12 - m22 - m32;
    let e03 = m03 + m13 + m23;
    let e13 = m13 - m23 - m33;
    let b = bias[k];
    let p = place(t);
    finish(b + e00 + e01 + e02, p.x, p.y, p.z, k);
    finish(b + e01 - e02 - e03, p.x, p.y, p.z + 1u, k);
    finish(b + e10 + e11 + e12, p.x, p.y + 1u, p.z, k);
    finish(b + e11 - e12 - e13, p.x, p.y + 1u, p.z + 1u, k);
}
