// top_k
//
// Formula   the k largest of softmax(x / temperature), largest first, the lower class first among equals
// Layout    x (M,C); out (M,k) pairs of class and bits of the score
// Threads   one workgroup of 64 a row; k rounds, each the best element that comes after the last one
// Limits    dispatch M, over x and y when M is large; 1 <= k <= C
// Speed     k + 2 passes over a row; README.md, "Measured"

struct Args {
    rows: u32, c: u32, k: u32, inverse_temperature: f32,
}

struct Entry {
    label: u32,
    score: f32,
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read_write> x: array<E>;
@group(0) @binding(2) var<storage, read_write> out: array<Entry>;

const WIDTH: u32 = 64u;
const LOWEST: f32 = -3.4028234e38;

var<workgroup> values: array<f32, 64>;
var<workgroup> classes: array<u32, 64>;

// NaN is found by its bits, since a compiler may assume that there is none. It ranks last, as does -infinity.
fn logit(at: u32) -> f32 {
    let v = f32(x[at]);
    let bits = bitcast<u32>(v);
    let lowest = (bits & 0x7fffffffu) > 0x7f800000u || bits == 0xff800000u;
    return select(v, LOWEST, lowest);
}

fn before(v: f32, label: u32, other: f32, other_label: u32) -> bool {
    return v > other || (v == other && label < other_label);
}

@compute @workgroup_size(64)
fn top_k(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) me: u32,
) {
    // Uniform over the workgroup, so that the barriers below are reached by all or by none.
    let row = group.x + group.y * groups.x;
    if (row >= args.rows) {
        return;
    }
    let at = row * args.c;
    var sum = 0.0;
    var highest = 0.0;
    var last = 0.0;
    var last_label = 0u;
    for (var turn = 0u; turn < args.k; turn++) {
        // Each invocation's best of its share, among those that come after the last one taken.
        var best = LOWEST;
        var label = 0xffffffffu;
        for (var i = me; i < args.c; i += WIDTH) {
            let v = logit(at + i);
            if ((turn == 0u || before(last, last_label, v, i)) && before(v, i, best, label)) {
                best = v;
                label = i;
            }
        }
        values[me] = best;
        classes[me] = label;
        workgroupBarrier();
        for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
            if (me < half && before(values[me + half], classes[me + half], values[me], classes[me])) {
                values[me] = values[me + half];
                classes[me] = classes[me + half];
            }
            workgroupBarrier();
        }
        last = values[0];
        last_label = classes[0];
        workgroupBarrier();
        if (turn == 0u) {
            highest = last;
            var part = 0.0;
            for (var i = me; i < args.c; i += WIDTH) {
                part += exp((logit(at + i) - highest) * args.inverse_temperature);
            }
            values[me] = part;
            workgroupBarrier();
            for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
                if (me < half) {
                    values[me] += values[me + half];
                }
                workgroupBarrier();
            }
            sum = values[0];
            workgroupBarrier();
        }
        if (me == 0u) {
            let score = exp((last - highest) * args.inverse_temperature) / sum;
            out[row * args.k + turn] = Entry(last_label, score);
        }
    }
}
