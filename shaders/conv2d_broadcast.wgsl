// conv2d_broadcast: for adapters whose subgroups are 8 wide and run on a CPU (lavapipe), after conv2d.wgsl.
//
// Idea      there a load costs about as much as thirty multiplications (lanes are gathered one by one, and a load from
//           an address that all lanes share costs no less inside a loop), a barrier is a coroutine switch, and workgroup
//           memory is memory. So nothing is shared through memory: each lane fetches the weights of another output
//           channel, and subgroupBroadcast, one shuffle, hands them to all.
// Weights   (O padded to 16) / 16 blocks of (taps, ceil(C / 4), 16 channels), as vectors of four input channels.
// Threads   an invocation computes 4 horizontally neighbouring pixels x 16 channels; a workgroup is one subgroup.
//           Sums run channel by channel over all that was fetched, so that few registers are live at a time.
// Limits    dispatch ceil(N * OH * ceil(OW / 4) / 8) by ceil(O / 16); subgroups of exactly 8.
// Speed     README.md, "Measured".

// Four output pixels in a row, from ox on.
struct Place {
    n: u32,
    oy: u32,
    ox: u32,
    live: bool,
}

// The task's place; lanes beyond the last task repeat it and store nothing.
fn place(task: u32) -> Place {
    let per_row = (args.out_w + 3u) / 4u;
    let tasks = args.n * args.out_h * per_row;
    let t = min(task, tasks - 1u);
    return Place(t / (per_row * args.out_h), (t / per_row) % args.out_h, (t % per_row) * 4u, task < tasks);
}

// Vector i of the pixel (iy, ix); 0 outside the map. `row` is the pixel index of (n, iy, 0).
fn input(iy: u32, row: u32, ix: u32, i: u32) -> vec4<f32> {
    let inside = iy < args.h && ix < args.w;
    let at = select(0u, (row + ix) * args.c, inside);
    return select(vec4<f32>(0.0), input4(at, i * 4u), inside);
}

fn store(sum: vec4<f32>, p: Place, k: u32) {
    if (p.live && k < args.out_c) {
        finish(sum.x, p.n, p.oy, p.ox, k);
        if (p.ox + 1u < args.out_w) { finish(sum.y, p.n, p.oy, p.ox + 1u, k); }
        if (p.ox + 2u < args.out_w) { finish(sum.z, p.n, p.oy, p.ox + 2u, k); }
        if (p.ox + 3u < args.out_w) { finish(sum.w, p.n, p.oy, p.ox + 3u, k); }
    }
}

// Adds one tap of four input channels (b: their weights) for the four pixels that read v0..v3.
fn tap(sum: vec4<f32>, b: vec4<f32>, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> vec4<f32> {
    var s = fma(vec4(v0.x, v1.x, v2.x, v3.x), vec4(b.x), sum);
    s = fma(vec4(v0.y, v1.y, v2.y, v3.y), vec4(b.y), s);
    s = fma(vec4(v0.z, v1.z, v2.z, v3.z), vec4(b.z), s);
    return fma(vec4(v0.w, v1.w, v2.w, v3.w), vec4(b.w), s);
}

@compute @workgroup_size(8)
fn conv2d_broadcast(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let p = place((group.x + group.z * groups.x) * 8u + lane);
    let channel = group.y * 16u;
    let bias0 = bias[min(channel + 0u + lane, args.out_pad - 1u)];
    let bias1 = bias[min(channel + 8u + lane, args.out_pad - 1u)];
    var a0 = vec4(subgroupBroadcast(bias0, 0u));
    var a1 = vec4(subgroupBroadcast(bias0, 1u));
    var a2 = vec4(subgroupBroadcast(bias0, 2u));
    var a3 = vec4(subgroupBroadcast(bias0, 3u));
    var a4 = vec4(subgroupBroadcast(bias0, 4u));
    var a5 = vec4(subgroupBroadcast(bias0, 5u));
    var a6 = vec4(subgroupBroadcast(bias0, 6u));
    var a7 = vec4(subgroupBroadcast(bias0, 7u));
    var a8 = vec4(subgroupBroadcast(bias1, 0u));
    var a9 = vec4(subgroupBroadcast(bias1, 1u));
    var a10 = vec4(subgroupBroadcast(bias1, 2u));
    var a11 = vec4(subgroupBroadcast(bias1, 3u));
    var a12 = vec4(subgroupBroadcast(bias1, 4u));
    var a13 = vec4(subgroupBroadcast(bias1, 5u));
    var a14 = vec4(subgroupBroadcast(bias1, 6u));
    var a15 = vec4(subgroupBroadcast(bias1, 7u));

    var start = channel * args.kernel_h * args.kernel_w * args.c4 + lane;
    for (var u = 0u; u < args.kernel_h; u++) {
        let iy = p.oy * args.stride + u - args.padding; // wraps below 0, and so fails the test
        let row = (p.n * args.h + iy) * args.w;
        for (var t = 0u; t < args.kernel_w; t++) {
            let ix = p.ox * args.stride_w + t - args.padding_w;
            let s = args.stride_w;
            for (var i = 0u; i < args.c4; i++) {
                let v0 = input(iy, row, ix, i);
                let v1 = input(iy, row, ix + s, i);
                let v2 = input(iy, row, ix + 2u * s, i);
                let v3 = input(iy, row, ix + 3u * s, i);
                let w0 = wide(weight[start]);
                let w1 = wide(weight[start + 8u]);
                start += 16u;
                a0 = tap(a0, subgroupBroadcast(w0, 0u), v0, v1, v2, v3);
                a1 = tap(a1, subgroupBroadcast(w0, 1u), v0, v1, v2, v3);
                a2 = tap(a2, subgroupBroadcast(w0, 2u), v0, v1, v2, v3);
                a3 = tap(a3, subgroupBroadcast(w0, 3u), v0, v1, v2, v3);
                a4 = tap(a4, subgroupBroadcast(w0, 4u), v0, v1, v2, v3);
                a5 = tap(a5, subgroupBroadcast(w0, 5u), v0, v1, v2, v3);
                a6 = tap(a6, subgroupBroadcast(w0, 6u), v0, v1, v2, v3);
                a7 = tap(a7, subgroupBroadcast(w0, 7u), v0, v1, v2, v3);
                a8 = tap(a8, subgroupBroadcast(w1, 0u), v0, v1, v2, v3);
                a9 = tap(a9, subgroupBroadcast(w1, 1u), v0, v1, v2, v3);
                a10 = tap(a10, subgroupBroadcast(w1, 2u), v0, v1, v2, v3);
                a11 = tap(a11, subgroupBroadcast(w1, 3u), v0, v1, v2, v3);
                a12 = tap(a12, subgroupBroadcast(w1, 4u), v0, v1, v2, v3);
                a13 = tap(a13, subgroupBroadcast(w1, 5u), v0, v1, v2, v3);
                a14 = tap(a14, subgroupBroadcast(w1, 6u), v0, v1, v2, v3);
                a15 = tap(a15, subgroupBroadcast(w1, 7u), v0, v1, v2, v3);
            }
        }
    }
    store(a0, p, channel + 0u);
    store(a1, p, channel + 1u);
    store(a2, p, channel + 2u);
    store(a3, p, channel + 3u);
    store(a4, p, channel + 4u);
    store(a5, p, channel + 5u);
    store(a6, p, channel + 6u);
    store(a7, p, channel + 7u);
    store(a8, p, channel + 8u);
    store(a9, p, channel + 9u);
    store(a10, p, channel + 10u);
    store(a11, p, channel + 11u);
    store(a12, p, channel + 12u);
    store(a13, p, channel + 13u);
    store(a14, p, channel + 14u);
    store(a15, p, channel + 15u);
}

// For kernels three wide at stride 1: the four pixels share the six inputs that three taps of a row read.
@compute @workgroup_size(8)
fn conv2d_broadcast_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let p = place((group.x + group.z * groups.x) * 8u + lane);
    let channel = group.y * 16u;
    let bias0 = bias[min(channel + 0u + lane, args.out_pad - 1u)];
    let bias1 = bias[min(channel + 8u + lane, args.out_pad - 1u)];
    var a0 = vec4(subgroupBroadcast(bias0, 0u));
    var a1 = vec4(subgroupBroadcast(bias0, 1u));
    var a2 = vec4(subgroupBroadcast(bias0, 2u));
    var a3 = vec4(subgroupBroadcast(bias0, 3u));
    var a4 = vec4(subgroupBroadcast(bias0, 4u));
    var a5 = vec4(subgroupBroadcast(bias0, 5u));
    var a6 = vec4(subgroupBroadcast(bias0, 6u));
    var a7 = vec4(subgroupBroadcast(bias0, 7u));
    var a8 = vec4(subgroupBroadcast(bias1, 0u));
    var a9 = vec4(subgroupBroadcast(bias1, 1u));
    var a10 = vec4(subgroupBroadcast(bias1, 2u));
    var a11 = vec4(subgroupBroadcast(bias1, 3u));
    var a12 = vec4(subgroupBroadcast(bias1, 4u));
    var a13 = vec4(subgroupBroadcast(bias1, 5u));
    var a14 = vec4(subgroupBroadcast(bias1, 6u));
    var a15 = vec4(subgroupBroadcast(bias1, 7u));

    let ix = p.ox - args.padding_w; // wraps below 0, and so fails the test
    for (var u = 0u; u < args.kernel_h; u++) {
        let iy = p.oy + u - args.padding;
        let row = (p.n * args.h + iy) * args.w;
        var start = (group.y * args.kernel_h + u) * 3u * args.c4 * 16u + lane;
        let next = args.c4 * 16u;
        for (var i = 0u; i < args.c4; i++) {
            let v0 = input(iy, row, ix + 0u, i);
            let v1 = input(iy, row, ix + 1u, i);
            let v2 = input(iy, row, ix + 2u, i);
            let v3 = input(iy, row, ix + 3u, i);
            let v4 = input(iy, row, ix + 4u, i);
            let v5 = input(iy, row, ix + 5u, i);
            let w00 = wide(weight[start]);
            let w01 = wide(weight[start + 8u]);
            let w10 = wide(weight[start + next]);
            let w11 = wide(weight[start + next + 8u]);
            let w20 = wide(weight[start + 2u * next]);
            let w21 = wide(weight[start + 2u * next + 8u]);
            start += 16u;
            a0 = tap(a0, subgroupBroadcast(w00, 0u), v0, v1, v2, v3);
            a0 = tap(a0, subgroupBroadcast(w10, 0u), v1, v2, v3, v4);
            a0 = tap(a0, subgroupBroadcast(w20, 0u), v2, v3, v4, v5);
            a1 = tap(a1, subgroupBroadcast(w00, 1u), v0, v1, v2, v3);
            a1 = tap(a1, subgroupBroadcast(w10, 1u), v1, v2, v3, v4);
            a1 = tap(a1, subgroupBroadcast(w20, 1u), v2, v3, v4, v5);
            a2 = tap(a2, subgroupBroadcast(w00, 2u), v0, v1, v2, v3);
            a2 = tap(a2, subgroupBroadcast(w10, 2u), v1, v2, v3, v4);
            a2 = tap(a2, subgroupBroadcast(w20, 2u), v2, v3, v4, v5);
            a3 = tap(a3, subgroupBroadcast(w00, 3u), v0, v1, v2, v3);
            a3 = tap(a3, subgroupBroadcast(w10, 3u), v1, v2, v3, v4);
            a3 = tap(a3, subgroupBroadcast(w20, 3u), v2, v3, v4, v5);
            a4 = tap(a4, subgroupBroadcast(w00, 4u), v0, v1, v2, v3);
            a4 = tap(a4, subgroupBroadcast(w10, 4u), v1, v2, v3, v4);
            a4 = tap(a4, subgroupBroadcast(w20, 4u), v2, v3, v4, v5);
            a5 = tap(a5, subgroupBroadcast(w00, 5u), v0, v1, v2, v3);
            a5 = tap(a5, subgroupBroadcast(w10, 5u), v1, v2, v3, v4);
            a5 = tap(a5, subgroupBroadcast(w20, 5u), v2, v3, v4, v5);
            a6 = tap(a6, subgroupBroadcast(w00, 6u), v0, v1, v2, v3);
            a6 = tap(a6, subgroupBroadcast(w10, 6u), v1, v2, v3, v4);
            a6 = tap(a6, subgroupBroadcast(w20, 6u), v2, v3, v4, v5);
            a7 = tap(a7, subgroupBroadcast(w00, 7u), v0, v1, v2, v3);
            a7 = tap(a7, subgroupBroadcast(w10, 7u), v1, v2, v3, v4);
            a7 = tap(a7, subgroupBroadcast(w20, 7u), v2, v3, v4, v5);
            a8 = tap(a8, subgroupBroadcast(w01, 0u), v0, v1, v2, v3);
            a8 = tap(a8, subgroupBroadcast(w11, 0u), v1, v2, v3, v4);
            a8 = tap(a8, subgroupBroadcast(w21, 0u), v2, v3, v4, v5);
            a9 = tap(a9, subgroupBroadcast(w01, 1u), v0, v1, v2, v3);
            a9 = tap(a9, subgroupBroadcast(w11, 1u), v1, v2, v3, v4);
            a9 = tap(a9, subgroupBroadcast(w21, 1u), v2, v3, v4, v5);
            a10 = tap(a10, subgroupBroadcast(w01, 2u), v0, v1, v2, v3);
            a10 = tap(a10, subgroupBroadcast(w11, 2u), v1, v2, v3, v4);
            a10 = tap(a10, subgroupBroadcast(w21, 2u), v2, v3, v4, v5);
            a11 = tap(a11, subgroupBroadcast(w01, 3u), v0, v1, v2, v3);
            a11 = tap(a11, subgroupBroadcast(w11, 3u), v1, v2, v3, v4);
            a11 = tap(a11, subgroupBroadcast(w21, 3u), v2, v3, v4, v5);
            a12 = tap(a12, subgroupBroadcast(w01, 4u), v0, v1, v2, v3);
            a12 = tap(a12, subgroupBroadcast(w11, 4u), v1, v2, v3, v4);
            a12 = tap(a12, subgroupBroadcast(w21, 4u), v2, v3, v4, v5);
            a13 = tap(a13, subgroupBroadcast(w01, 5u), v0, v1, v2, v3);
            a13 = tap(a13, subgroupBroadcast(w11, 5u), v1, v2, v3, v4);
            a13 = tap(a13, subgroupBroadcast(w21, 5u), v2, v3, v4, v5);
            a14 = tap(a14, subgroupBroadcast(w01, 6u), v0, v1, v2, v3);
            a14 = tap(a14, subgroupBroadcast(w11, 6u), v1, v2, v3, v4);
            a14 = tap(a14, subgroupBroadcast(w21, 6u), v2, v3, v4, v5);
            a15 = tap(a15, subgroupBroadcast(w01, 7u), v0, v1, v2, v3);
            a15 = tap(a15, subgroupBroadcast(w11, 7u), v1, v2, v3, v4);
            a15 = tap(a15, subgroupBroadcast(w21, 7u), v2, v3, v4, v5);
        }
    }
    store(a0, p, channel + 0u);
    store(a1, p, channel + 1u);
    store(a2, p, channel + 2u);
    store(a3, p, channel + 3u);
    store(a4, p, channel + 4u);
    store(a5, p, channel + 5u);
    store(a6, p, channel + 6u);
    store(a7, p, channel + 7u);
    store(a8, p, channel + 8u);
    store(a9, p, channel + 9u);
    store(a10, p, channel + 10u);
    store(a11, p, channel + 11u);
    store(a12, p, channel + 12u);
    store(a13, p, channel + 13u);
    store(a14, p, channel + 14u);
    store(a15, p, channel + 15u);
}
