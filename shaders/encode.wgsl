// encode: u8 images to normalised canvases, equal to Pillow to the bit.
//
// Formula   two passes, columns then rows, each clip((2^21 + sum over t of coefficient[t] * u8[start + t]) >> 22, 0, 255);
//           then y = table[channel][u8], which holds (u8 / 255 - mean) / std; a tile without an image is 0
// Layout    bytes: the images' (H,W,3) bytes one after another, each from a multiple of 4;
//           narrow: for each image (rows, size) pixels, each r | g << 8 | b << 16; y (N, rows * size, cols * size, 3)
//           jobs: IMAGE words an image (see Image), then the axes' tables: (size) pairs of start and count, then
//           (size, taps) coefficients
// Threads   encode_columns: one invocation a pixel of narrow; encode_rows: one invocation a pixel of a tile.
//           Workgroups of 8x8 over columns and rows, one layer an image (encode_rows: a tile, blank ones too)
// Limits    at most max_compute_workgroups_per_dimension images a dispatch
// Speed     README.md, "Measured"

struct Args {
    size: u32, grid_rows: u32, grid_cols: u32, pad0: u32,
}

// Of one run's part: images from tile `first` on.
struct Part {
    first: u32, images: u32, pad0: u32, pad1: u32,
}

@group(0) @binding(0) var<uniform> args: Args;
@group(0) @binding(1) var<storage, read> bytes: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<E>;
@group(0) @binding(3) var<storage, read> jobs: array<i32>;
@group(0) @binding(4) var<storage, read_write> narrow: array<u32>;
@group(0) @binding(5) var<storage, read> table: array<f32>;
@group(0) @binding(6) var<uniform> part: Part;

const IMAGE: u32 = 9u;

struct Image {
    bytes: u32,       // where its bytes begin
    width: u32,
    first_row: u32,   // of the image, the first that encode_rows reads
    rows: u32,        // of narrow
    narrow: u32,      // where its pixels begin
    horizontal: u32,  // where its tables begin, in jobs
    vertical: u32,
    horizontal_taps: u32,
    vertical_taps: u32,
}

fn image(i: u32) -> Image {
    let at = i * IMAGE;
    return Image(
        u32(jobs[at]), u32(jobs[at + 1u]), u32(jobs[at + 2u]), u32(jobs[at + 3u]),
        u32(jobs[at + 4u]), u32(jobs[at + 5u]), u32(jobs[at + 6u]), u32(jobs[at + 7u]),
        u32(jobs[at + 8u]),
    );
}

fn byte(at: u32) -> i32 {
    return i32((bytes[at >> 2u] >> ((at & 3u) * 8u)) & 0xffu);
}

fn clip(sum: vec3<i32>) -> vec3<u32> {
    return vec3<u32>(clamp(sum >> vec3(22u), vec3(0), vec3(255)));
}

@compute @workgroup_size(8, 8)
fn encode_columns(@builtin(global_invocation_id) id: vec3<u32>) {
    let im = image(id.z);
    if (id.x >= args.size || id.y >= im.rows) {
        return;
    }
    let start = u32(jobs[im.horizontal + id.x * 2u]);
    let count = u32(jobs[im.horizontal + id.x * 2u + 1u]);
    let coefficients = im.horizontal + args.size * 2u + id.x * im.horizontal_taps;
    var at = im.bytes + ((im.first_row + id.y) * im.width + start) * 3u;
    var sum = vec3(1 << 21u);
    for (var t = 0u; t < count; t++) {
        sum += vec3(byte(at), byte(at + 1u), byte(at + 2u)) * jobs[coefficients + t];
        at += 3u;
    }
    let rgb = clip(sum);
    narrow[im.narrow + id.y * args.size + id.x] = rgb.x | (rgb.y << 8u) | (rgb.z << 16u);
}

@compute @workgroup_size(8, 8)
fn encode_rows(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= args.size || id.y >= args.size) {
        return;
    }
    let tile = part.first + id.z;
    let tiles = args.grid_rows * args.grid_cols;
    let place = tile % tiles;
    let row = ((tile / tiles) * args.grid_rows + place / args.grid_cols) * args.size + id.y;
    let to = ((row * args.grid_cols + place % args.grid_cols) * args.size + id.x) * 3u;
    if (id.z >= part.images) {
        y[to] = E(0.0);
        y[to + 1u] = E(0.0);
        y[to + 2u] = E(0.0);
        return;
    }
    let im = image(id.z);
    let start = u32(jobs[im.vertical + id.y * 2u]);
    let count = u32(jobs[im.vertical + id.y * 2u + 1u]);
    let coefficients = im.vertical + args.size * 2u + id.y * im.vertical_taps;
    var at = im.narrow + (start - im.first_row) * args.size + id.x;
    var sum = vec3(1 << 21u);
    for (var t = 0u; t < count; t++) {
        let pixel = vec3<i32>(vec3(narrow[at]) >> vec3(0u, 8u, 16u)) & vec3(255);
        sum += pixel * jobs[coefficients + t];
        at += args.size;
    }
    let rgb = clip(sum);
    y[to] = E(table[rgb.x]);
    y[to + 1u] = E(table[256u + rgb.y]);
    y[to + 2u] = E(table[512u + rgb.z]);
}
