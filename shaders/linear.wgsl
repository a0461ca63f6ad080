// linear
//
// Formula   y[m,k] = bias[k] + sum over i of x[m,i] * w[k,i]
// Layout    x (M,I), y (M,O) with M the product of all axes but the last;
//           w packed (ceil(I / 4), O) as vectors of four inputs, zeros beyond I
// Threads   one invocation one output channel of four rows, channels fastest, 64 a workgroup: a weight is read once
//           for four rows, neighbours read neighbouring weights, and all read the same x
// Limits    dispatch ceil(O / 64) by ceil(M / 4)
// Speed     bound by its reads of w; README.md, "Measured"

struct Args {
    rows: u32, c: u32, out_c: u32, c4: u32,
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E4>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;
@group(0) @binding(3) var<storage, read> weight: array<E4>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;

// I is a multiple of 4: x is read as vectors of four, else element by element.
override VECTOR: bool = true;

// Inputs i..i+4 of the row that starts at `at`; beyond I the last one stands in, and meets a weight of 0.
fn input4(at: u32, i: u32) -> vec4<f32> {
    if (VECTOR) {
        return vec4<f32>(x[(at + i) >> 2u]);
    }
    let last = at + args.c - 1u;
    return vec4(
        element(at + i),
        element(min(at + i + 1u, last)),
        element(min(at + i + 2u, last)),
        element(min(at + i + 3u, last)),
    );
}

fn element(at: u32) -> f32 {
    return f32(x[at >> 2u][at & 3u]);
}

@compute @workgroup_size(64)
fn linear(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    let k = group.x * 64u + me;
    let row = (group.y + group.z * groups.y) * 4u;
    if (k >= args.out_c || row >= args.rows) {
        return;
    }
    // Rows beyond the last repeat it.
    let last = args.rows - 1u;
    let at0 = row * args.c;
    let at1 = min(row + 1u, last) * args.c;
    let at2 = min(row + 2u, last) * args.c;
    let at3 = min(row + 3u, last) * args.c;
    var sum = vec4(bias[k]);
    for (var i = 0u; i < args.c4; i++) {
        let w = vec4<f32>(weight[i * args.out_c + k]);
        sum += vec4(
            dot(input4(at0, i * 4u), w),
            dot(input4(at1, i * 4u), w),
            dot(input4(at2, i * 4u), w),
            dot(input4(at3, i * 4u), w),
        );
    }
    y[row * args.out_c + k] = E(sum.x);
    if (row + 1u < args.rows) { y[(row + 1u) * args.out_c + k] = E(sum.y); }
    if (row + 2u < args.rows) { y[(row + 2u) * args.out_c + k] = E(sum.z); }
    if (row + 3u < args.rows) { y[(row + 3u) * args.out_c + k] = E(sum.w); }
}
