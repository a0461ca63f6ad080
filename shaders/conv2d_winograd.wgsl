// conv2d_winograd: 3x3 convolutions at stride 1 with a quarter of the multiplications, in three dispatches.
//
// Formula   Y = A' [ (G w G') * (B' d B) ] A for each 4x4 outputs Y from the 6x6 inputs d, summed over channels between
//           (Lavin and Gray, arXiv 1509.09308); 36 multiplications where the sum itself takes 144. Then bias, residual
//           and activation as in conv2d.wgsl; the residual has the output's shape.
// Layout    x, r, y as in conv2d.wgsl, all as vectors of four channels; v (36, tiles, C / 4) and m (36, tiles, O / 4)
//           vectors in f32, for one part of the tiles at a time, so that they stay in the cache;
//           weight (O / BLOCK, 36, C / 4, BLOCK) vectors of four input channels, transformed on the host, in f32
// Threads   _input: one invocation a tile and vector of channels. _product: 36 matrix products, one invocation TILES
//           tiles x BLOCK channels, a workgroup one subgroup of 8 that hands weights from lane to lane.
//           _output: one invocation a tile and vector of channels
// Limits    C a multiple of 4, O of BLOCK; dispatches: _input and _output over x and y; _product
//           ceil(tiles / (8 * TILES)) by O / BLOCK by 36; subgroups of exactly 8
// Speed     README.md, "Measured"

struct Args {
    n: u32, h: u32, w: u32, c4: u32,
    out_h: u32, out_w: u32, o4: u32, padding: u32,
    tiles_h: u32, tiles_w: u32, first: u32, tiles: u32, // of all, one image's rows and columns; this part's range
    tiles_pad: u32, pad0: u32, pad1: u32, pad2: u32,     // rows of v and m: tiles, to an odd multiple of 4
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<W>;
@group(0) @binding(2) var<storage, read_write> y: array<W>;
@group(0) @binding(3) var<storage, read_write> r: array<W>;
@group(0) @binding(4) var<storage, read_write> v: array<Words>;
@group(0) @binding(5) var<storage, read_write> m: array<Words>;
@group(0) @binding(6) var<storage, read> weight: array<Words>;
@group(0) @binding(7) var<storage, read> bias: array<vec4<f32>>;

// 0: none, 1: in a buffer of its own, 2: in the output's place.
override RESIDUAL: u32 = 0u;
override RELU: bool = false;
// Channels of a product's invocation are 32, else 16.
override WIDE: bool = true;
// Tiles of a product's invocation: 4, or fewer where there are too few tiles to fill its lanes; 1, 2 or 4.
override TILES: u32 = 4u;

// Tile t of this part: image, and first output row and column.
fn place(t: u32) -> vec3<u32> {
    let tile = args.first + t;
    let row = tile / args.tiles_w;
    return vec3(row / args.tiles_h, (row % args.tiles_h) * 4u, (tile % args.tiles_w) * 4u);
}

// Vector k of one input; 0 outside the map. Positions wrap below 0, and so fail the test.
fn input(n: u32, iy: u32, ix: u32, k: u32) -> vec4<f32> {
    let inside = iy < args.h && ix < args.w;
    let at = select(0u, ((n * args.h + iy) * args.w + ix) * args.c4 + k, inside);
    return select(vec4<f32>(0.0), wide(x[at]), inside);
}

struct Six {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
}

// B' s, for the points 0, 1, -1, 2, -2 and infinity.
fn forth(s: Six) -> Six {
    let p = s.e - 4.0 * s.c;
    let q = s.d - 4.0 * s.b;
    let g = s.e - s.c;
    let h = 2.0 * (s.d - s.b);
    return Six(4.0 * (s.a - s.c) - s.c + s.e, p + q, p - q, g + h, g - h, 4.0 * (s.b - s.d) - s.d + s.f);
}

// One column of inputs, transformed.
fn column(n: u32, iy: u32, ix: u32, k: u32) -> Six {
    return forth(Six(
        input(n, iy, ix, k),
        input(n, iy + 1u, ix, k),
        input(n, iy + 2u, ix, k),
        input(n, iy + 3u, ix, k),
        input(n, iy + 4u, ix, k),
        input(n, iy + 5u, ix, k),
    ));
}

// One row of B' d, transformed and stored; `step` from one of 36 to the next.
fn row(to: u32, step: u32, s: Six) {
    let t = forth(s);
    v[to] = pack(t.a);
    v[to + step] = pack(t.b);
    v[to + 2u * step] = pack(t.c);
    v[to + 3u * step] = pack(t.d);
    v[to + 4u * step] = pack(t.e);
    v[to + 5u * step] = pack(t.f);
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
    let c0 = column(p.x, iy, ix, k);
    let c1 = column(p.x, iy, ix + 1u, k);
    let c2 = column(p.x, iy, ix + 2u, k);
    let c3 = column(p.x, iy, ix + 3u, k);
    let c4 = column(p.x, iy, ix + 4u, k);
    let c5 = column(p.x, iy, ix + 5u, k);
    let step = args.tiles_pad * args.c4;
    let to = t * args.c4 + k;
    row(to, step, Six(c0.a, c1.a, c2.a, c3.a, c4.a, c5.a));
    row(to + 6u * step, step, Six(c0.b, c1.b, c2.b, c3.b, c4.b, c5.b));
    row(to + 12u * step, step, Six(c0.c, c1.c, c2.c, c3.c, c4.c, c5.c));
    row(to + 18u * step, step, Six(c0.d, c1.d, c2.d, c3.d, c4.d, c5.d));
    row(to + 24u * step, step, Six(c0.e, c1.e, c2.e, c3.e, c4.e, c5.e));
    row(to + 30u * step, step, Six(c0.f, c1.f, c2.f, c3.f, c4.f, c5.f));
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
    m[to] = pack(vec4(a.x, b.x, c.x, d.x));
    if (TILES > 1u) {
        m[to + args.o4] = pack(vec4(a.y, b.y, c.y, d.y));
    }
    if (TILES > 2u) {
        m[to + 2u * args.o4] = pack(vec4(a.z, b.z, c.z, d.z));
        m[to + 3u * args.o4] = pack(vec4(a.w, b.w, c.w, d.w));
    }
}

@compute @workgroup_size(8)
fn conv2d_winograd_product(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let task = group.x * 8u + lane;
    let tasks = (args.tiles + TILES - 1u) / TILES;
    let row = group.z * args.tiles_pad + min(task, tasks - 1u) * TILES;
    let at0 = row * args.c4;
    // Without the tiles beyond TILES, the sums of the first are repeated, which the compiler sees are not used.
    let at1 = at0 + select(0u, args.c4, TILES > 1u);
    let at2 = at0 + select(0u, 2u * args.c4, TILES > 2u);
    let at3 = at0 + select(0u, 3u * args.c4, TILES > 2u);
    let block = select(16u, 32u, WIDE);
    var start = (group.y * 36u + group.z) * args.c4 * block + lane;
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
        let v0 = unpack(v[at0 + i]);
        let v1 = unpack(v[at1 + i]);
        let v2 = unpack(v[at2 + i]);
        let v3 = unpack(v[at3 + i]);
        let w0 = unpack(weight[start]);
        let w1 = unpack(weight[start + 8u]);
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
        if (WIDE) {
            let w2 = unpack(weight[start + 16u]);
            let w3 = unpack(weight[start + 24u]);
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
        start += block;
    }
    if (task < tasks) {
        let to = row * args.o4 + group.y * (block / 4u);
        store(to, a0, a1, a2, a3);
        store(to + 1u, a4, a5, a6, a7);
        store(to + 2u, a8, a9, a10, a11);
        store(to + 3u, a12, a13, a14, a15);
        if (WIDE) {
            store(to + 4u, a16, a17, a18, a19);
            store(to + 5u, a20, a21, a22, a23);
            store(to + 6u, a24, a25, a26, a27);
            store(to + 7u, a28, a29, a30, a31);
        }
    }
}

fn finish(sum: vec4<f32>, n: u32, oy: u32, ox: u32, k: u32) {
    if (oy >= args.out_h || ox >= args.out_w) {
        return;
    }
    var s = sum;
    let to = ((n * args.out_h + oy) * args.out_w + ox) * args.o4 + k;
    if (RESIDUAL == 1u) {
        s += wide(r[to]);
    }
    if (RESIDUAL == 2u) {
        s += wide(y[to]);
    }
    if (RELU) {
        s = max(s, vec4<f32>(0.0));
    }
    y[to] = stored(s);
}

struct Four {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// A' s.
fn back(s: Six) -> Four {
    let g = s.b + s.c;
    let h = s.b - s.c;
    let p = s.d + s.e;
    let q = s.d - s.e;
    return Four(s.a + g + p, h + 2.0 * q, g + 4.0 * p, h + 8.0 * q + s.f);
}

// One column of products, transformed.
fn products(at: u32, step: u32) -> Four {
    return back(Six(
        unpack(m[at]),
        unpack(m[at + 6u * step]),
        unpack(m[at + 12u * step]),
        unpack(m[at + 18u * step]),
        unpack(m[at + 24u * step]),
        unpack(m[at + 30u * step]),
    ));
}

// The outputs of one row.
fn finish_row(s: Six, n: u32, oy: u32, ox: u32, k: u32) {
    let t = back(s);
    let b = bias[k];
    finish(b + t.a, n, oy, ox, k);
    finish(b + t.b, n, oy, ox + 1u, k);
    finish(b + t.c, n, oy, ox + 2u, k);
    finish(b + t.d, n, oy, ox + 3u, k);
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
    let c0 = products(at, step);
    let c1 = products(at + step, step);
    let c2 = products(at + 2u * step, step);
    let c3 = products(at + 3u * step, step);
    let c4 = products(at + 4u * step, step);
    let c5 = products(at + 5u * step, step);
    let p = place(t);
    finish_row(Six(c0.a, c1.a, c2.a, c3.a, c4.a, c5.a), p.x, p.y, p.z, k);
    finish_row(Six(c0.b, c1.b, c2.b, c3.b, c4.b, c5.b), p.x, p.y + 1u, p.z, k);
    finish_row(Six(c0.c, c1.c, c2.c, c3.c, c4.c, c5.c), p.x, p.y + 2u, p.z, k);
    finish_row(Six(c0.d, c1.d, c2.d, c3.d, c4.d, c5.d), p.x, p.y + 3u, p.z, k);
}
