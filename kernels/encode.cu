//! encode: u8 images to normalised canvases, equal to Pillow to the bit, in one pass over memory.
//!
//! Formula   two passes, columns then rows, each clip((2^21 + sum over t of coefficient[t] * u8[start + t]) >> 22, 0, 255);
//!           then y = table[channel][u8], which holds (u8 / 255 - mean) / std; a tile without an image is 0
//! Layout    images (H,W,3) u8, rows `pitch` bytes apart at any address; y (N, grid_rows * size, grid_cols * size, 3) in T.
//!           An axis' table: `size` pairs (start, count), start and start + count not falling, then (size, taps)
//!           coefficients. Tile t is place t % (grid_rows * grid_cols), row by row, of canvas t / (grid_rows * grid_cols)
//! Threads   a block of 128 makes a patch of one tile: COLS = 32 columns, a lane each, of ceil(size / gridDim.y) <= ROWS = 32
//!           rows, warp w those with row % 4 = w. It streams the image's rows in chunks: while a chunk is used, the next is
//!           copied to shared memory; the horizontal pass makes of it packed pixels in shared memory, one a lane and row;
//!           then every thread adds the chunk's rows to its pixels' sums. So any shrink factor needs the same memory, and as
//!           sums of integers are exact, no cut of the work changes a bit.
//! Wide      where a row of the patch is more than the staging holds or has more than MOST_TAPS coefficients a pixel, a warp
//!           adds up one packed pixel at a time straight from the image.
//! Limits    grid (tiles, rows, ceil(size / 32)), ceil(size / 32) <= rows <= size: 32 rows a block read least, fewer rows
//!           make more blocks where there are few tiles; 30,080 bytes of shared memory in f32, 28,544 in the halves.
//!           The 16 aligned bytes around any byte of an image may be read: its allocation begins and ends at multiples of 16
//! Speed     bound by instructions, two thirds of them multiply-adds and the bytes' extraction; benches/runs
#include <number.cuh>

struct EncodeTile {
    u64 pixels;     // address of the image; 0: blank
    u64 horizontal; // addresses of the axes' tables
    u64 vertical;
    u32 pitch;
    u32 first_row; // of the image, the first that the vertical pass reads, and how many; the tables say it too
    u32 rows;
    u32 horizontal_taps;
    u32 vertical_taps;
    u32 pad;
};
static_assert(sizeof(EncodeTile) == 48, "as src/backend/cuda/args.rs has it");

/// Mirrored in src/backend/cuda/args.rs.
struct EncodeArgs {
    const EncodeTile* tiles;
    const f32* table; // (3, 256)
    void* output;
    u32 size, grid_rows, grid_cols, pad;
};
static_assert(sizeof(EncodeArgs) == 40, "as src/backend/cuda/args.rs has it");

constexpr u32 THREADS = 128;
constexpr u32 WARPS = THREADS / 32;
constexpr u32 ROWS = 32;
constexpr u32 COLS = 32;
constexpr u32 EACH = ROWS / WARPS; // rows of a thread

constexpr u32 CHUNK = 32;     // rows of an image, at most
constexpr u32 MOST_TAPS = 64; // of the horizontal pass where it reads staged rows
constexpr u32 POOL = 22528;   // bytes

constexpr u32 PRECISION = 22;
constexpr i32 ROUNDING = 1 << (PRECISION - 1);

template <typename T> struct Shared {
    /// Before the last chunk is used: the columns' coefficients where they are more than four each, then two stages of image
    /// rows. Afterwards the patch, (ROWS, COLS, 3) in T.
    alignas(16) u8 pool[POOL];
    /// (CHUNK, COLS): r | g << 8 | b << 16. Three rows more, which are read in fours and meet coefficients of 0.
    u32 narrow[CHUNK + 3][COLS];
    T table[3][256];
};
static_assert(sizeof(Shared<f32>) == 30080 && sizeof(Shared<f16>) == 28544, "as the header says");
static_assert(POOL >= ROWS * COLS * 3 * sizeof(f32), "the patch fits");

/// One axis of a resize.
struct Axis {
    const i32* table;
    u32 size, taps;

    __device__ u32 start(u32 i) const { return u32(table[i * 2]); }
    __device__ u32 count(u32 i) const { return u32(table[i * 2 + 1]); }
    __device__ u32 end(u32 i) const { return start(i) + count(i); }
    __device__ const i32* coefficients(u32 i) const { return table + size * 2 + i * taps; }
};

/// The part of a tile that a block makes.
struct Patch {
    u32 row, rows, col, cols;

    __device__ explicit Patch(u32 size) {
        const u32 each = divide_up(size, ptx::grid_y());
        row = ptx::block_y() * each;
        rows = row >= size ? 0 : size - row < each ? size - row : each;
        col = ptx::block_z() * COLS;
        cols = size - col < COLS ? size - col : COLS;
    }
    /// Beyond the last column it stands in.
    __device__ u32 column(u32 lane) const { return col + (lane < cols ? lane : cols - 1); }
};

/// The image's columns that a patch reads, as they lie in a stage: rows `stride` bytes apart, each as far from a multiple of
/// 16 as it is in the image.
struct Span {
    u64 from;           // address of the first byte, in row 0
    u32 pitch, bytes;   // of the image's rows; of the span's
    u32 vectors;        // most that a row needs
    u32 stride;         // 16 bytes more than they are, for pixels that meet coefficients of 0
    u32 rows;           // of a chunk; 0: not one fits
    u32 inverse;        // 2^20 / vectors, above

    __device__ Span(const EncodeTile& tile, const Axis& axis, const Patch& patch, u32 stage_bytes) {
        const u32 first = axis.start(patch.col);
        from = tile.pixels + first * 3;
        pitch = tile.pitch;
        bytes = (axis.end(patch.col + patch.cols - 1) - first) * 3;
        vectors = (bytes + 30) / 16;
        stride = vectors * 16 + 16;
        rows = stage_bytes / stride;
        rows = rows < CHUNK ? rows : CHUNK;
        inverse = (1u << 20u) / vectors + 1;
    }
    /// How far row y of the image is from a multiple of 16.
    __device__ u32 skew(u32 y) const { return (u32(from) + y * pitch) & 15u; }

    /// Begins to copy rows y to y + count.
    __device__ void copy(u8* stage, u32 y, u32 count) const {
        for (u32 i = ptx::thread(); i < count * vectors; i += THREADS) {
            const u32 r = (i * inverse) >> 20u; // i / vectors, exactly: i * vectors is below 2^20
            const u32 at = (i - r * vectors) * 16;
            const u64 row = from + u64(y + r) * pitch;
            const u32 skew = u32(row) & 15u;
            if (at < skew + bytes) ptx::copy_16(stage + r * stride + at, reinterpret_cast<const void*>(row - skew + at));
        }
        ptx::copy_commit();
    }
};

/// The lower half of (high, low) shifted right by 0 to 31 bits.
__device__ inline u32 funnel(u32 low, u32 high, u32 shift) { return u32(((u64(high) << 32u) | low) >> shift); }

__device__ inline void add_pixel(i32 (&sum)[3], u32 r, u32 g, u32 b, i32 c) {
    sum[0] += i32(r & 255u) * c;
    sum[1] += i32(g & 255u) * c;
    sum[2] += i32(b & 255u) * c;
}

/// Adds `COUNT` pixels, 3 or 4, that begin `shift` bits into w[0].
template <u32 COUNT> __device__ inline void add_pixels(i32 (&sum)[3], const u32 (&w)[4], u32 shift, const i32 (&c)[4]) {
    const u32 x0 = funnel(w[0], w[1], shift);
    const u32 x1 = funnel(w[1], w[2], shift);
    const u32 x2 = COUNT == 3 ? w[2] >> shift : funnel(w[2], w[3], shift);
    add_pixel(sum, x0, x0 >> 8u, x0 >> 16u, c[0]);
    add_pixel(sum, x0 >> 24u, x1, x1 >> 8u, c[1]);
    add_pixel(sum, x1 >> 16u, x1 >> 24u, x2, c[2]);
    if (COUNT == 4) add_pixel(sum, x2 >> 8u, x2 >> 16u, x2 >> 24u, c[3]);
}

__device__ inline u32 pack(const i32 (&sum)[3]) {
    return ptx::pack_u8(ptx::pack_u8(0, 0, sum[2] >> PRECISION), sum[1] >> PRECISION, sum[0] >> PRECISION);
}

/// The horizontal pass over a staged chunk. Two rows at a time, so that one's loads are under way during the other's sums.
/// `FEW` is how many coefficients a column has, 3 or 4 at most, which are in `few`; or 0: groups of four, from the pool, of
/// which this lane's column has `groups`. So no more than 16 bytes are read from where a row's last pixel begins.
template <u32 FEW>
__device__ void narrow_staged(u32 (&narrow)[CHUNK + 3][COLS], const u8* stage, const Span& span, u32 y, u32 count,
                              u32 lane_offset, const i32 (&few)[4], const Vec<i32>* many, u32 groups) {
    constexpr u32 WORDS = FEW == 3 ? 3 : 4;
    for (u32 r = ptx::warp(); r < count; r += WARPS * 2) {
        i32 sum[2][3];
        const u32* words[2];
        u32 shift[2];
        u32 w[2][4];
#pragma unroll
        for (u32 p = 0; p < 2; p++) {
            // Beyond the last row the first of the two stands in.
            const u32 row = p == 0 || r + WARPS < count ? r + p * WARPS : r;
            const u32 at = row * span.stride + span.skew(y + row) + lane_offset;
            words[p] = reinterpret_cast<const u32*>(stage) + at / 4;
            shift[p] = at % 4 * 8;
            sum[p][0] = sum[p][1] = sum[p][2] = ROUNDING;
#pragma unroll
            for (u32 i = 0; i < WORDS; i++) w[p][i] = words[p][i];
        }
        if (FEW != 0) {
            add_pixels<FEW == 3 ? 3 : 4>(sum[0], w[0], shift[0], few);
            add_pixels<FEW == 3 ? 3 : 4>(sum[1], w[1], shift[1], few);
        }
        for (u32 g = 0; FEW == 0 && g < groups; g++) {
            const Vec<i32> c = many[g * COLS + ptx::lane()];
            u32 next[2][3]; // a group is three words; beyond the last group it is not used
#pragma unroll
            for (u32 p = 0; p < 2; p++) {
                words[p] += 3;
#pragma unroll
                for (u32 i = 0; i < 3; i++) next[p][i] = g + 1 < groups ? words[p][i + 1] : 0;
                add_pixels<4>(sum[p], w[p], shift[p], c.v);
                w[p][0] = w[p][3];
#pragma unroll
                for (u32 i = 0; i < 3; i++) w[p][i + 1] = next[p][i];
            }
        }
        narrow[r][ptx::lane()] = pack(sum[0]);
        if (r + WARPS < count) narrow[r + WARPS][ptx::lane()] = pack(sum[1]);
    }
}

/// The horizontal pass straight from the image: a warp a pixel, its lanes the columns that the pixel sums.
__device__ inline void narrow_wide(u32 (&narrow)[CHUNK + 3][COLS], const EncodeTile& tile, const Axis& axis,
                                   const Patch& patch, u32 y, u32 count) {
    for (u32 r = ptx::warp(); r < count; r += WARPS) {
        const u8* row = reinterpret_cast<const u8*>(tile.pixels + u64(y + r) * tile.pitch);
        for (u32 x = 0; x < patch.cols; x++) {
            const u8* from = row + axis.start(patch.col + x) * 3;
            const i32* c = axis.coefficients(patch.col + x);
            const u32 taps = axis.count(patch.col + x);
            i32 sum[3] = {};
#pragma unroll 4
            for (u32 t = ptx::lane(); t < taps; t += 32) add_pixel(sum, from[t * 3], from[t * 3 + 1], from[t * 3 + 2], c[t]);
#pragma unroll
            for (u32 k = 0; k < 3; k++) {
#pragma unroll
                for (u32 mask = 16; mask > 0; mask /= 2) sum[k] += i32(ptx::shuffle_xor(u32(sum[k]), mask));
                sum[k] += ROUNDING;
            }
            if (ptx::lane() == 0) narrow[r][x] = pack(sum);
        }
    }
}

/// Adds those of the chunk's rows, y to y + count, that an output row sums; `COUNT`, 3 or 4, at a time.
template <u32 COUNT>
__device__ inline void add_rows(i32 (&sum)[3], const u32 (&narrow)[CHUNK + 3][COLS], const Axis& axis, u32 output, u32 y,
                                u32 count) {
    const u32 start = axis.start(output), end = axis.end(output);
    const i32* c = axis.coefficients(output) - start;
    const u32 first = start > y ? start : y;
    const u32 last = end < y + count ? end : y + count;
    for (u32 i = first; i < last; i += COUNT) {
#pragma unroll
        for (u32 j = 0; j < COUNT; j++) {
            const u32 pixel = narrow[i + j - y][ptx::lane()];
            add_pixel(sum, pixel, pixel >> 8u, pixel >> 16u, i + j < last ? c[i + j] : 0);
        }
    }
}

/// Writes a warp's rows of the patch, in vectors where the tile's rows are whole vectors.
template <typename T> __device__ void write(const EncodeArgs& a, const Patch& patch, const T* made) {
    constexpr u32 LEN = Vec<T>::LEN;
    const u32 tiles = a.grid_rows * a.grid_cols;
    const u32 place = ptx::block_x() % tiles;
    const u32 top = (ptx::block_x() / tiles * a.grid_rows + place / a.grid_cols) * a.size + patch.row;
    const u32 width = a.grid_cols * a.size * 3;
    T* to = static_cast<T*>(a.output) + top * width + (place % a.grid_cols * a.size + patch.col) * 3;
    const u32 used = patch.cols * 3;
    if (a.size % LEN == 0) {
        constexpr u32 VECTORS = COLS * 3 / LEN;
#pragma unroll
        for (u32 i = 0; i < EACH * VECTORS / 32; i++) {
            const u32 v = i * 32 + ptx::lane();
            const u32 row = v / VECTORS * WARPS + ptx::warp(), x = v % VECTORS * LEN;
            if (row < patch.rows && x < used) store_vec(to + row * width + x, load_vec(made + row * (COLS * 3) + x));
        }
    } else {
        for (u32 row = ptx::warp(); row < patch.rows; row += WARPS) {
            for (u32 x = ptx::lane(); x < used; x += 32) to[row * width + x] = made[row * (COLS * 3) + x];
        }
    }
}

/// Blank, or from sums that have all their rows. Each warp's rows are its own, so that no other has to wait.
template <typename T>
__device__ void finish(const EncodeArgs& a, const Patch& patch, Shared<T>& shared, const i32 (&sums)[EACH][3], bool blank) {
    T* made = reinterpret_cast<T*>(shared.pool);
#pragma unroll
    for (u32 j = 0; j < EACH; j++) {
        const u32 row = j * WARPS + ptx::warp();
        if (row >= patch.rows) break;
#pragma unroll
        for (u32 k = 0; k < 3; k++) {
            const i32 x = sums[j][k] >> PRECISION;
            const u32 byte = u32(x < 0 ? 0 : x > 255 ? 255 : x);
            made[(row * COLS + ptx::lane()) * 3 + k] = blank ? from_f32<T>(0.0f) : shared.table[k][byte];
        }
    }
    ptx::sync_warp();
    write(a, patch, made);
}

/// Brings the columns' coefficients to the pool: (groups, COLS) vectors of four, 0 beyond a column's count.
__device__ inline void bring_coefficients(i32* to, const Axis& axis, const Patch& patch, u32 groups) {
    for (u32 x = ptx::warp(); x < COLS; x += WARPS) {
        const u32 column = patch.column(x);
        const u32 count = axis.count(column);
        const i32* from = axis.coefficients(column);
        for (u32 t = ptx::lane(); t < groups * 4; t += 32) to[(t / 4 * COLS + x) * 4 + t % 4] = t < count ? from[t] : 0;
    }
}

/// Both passes over all rows that the patch needs.
template <typename T>
__device__ void resample(const EncodeTile& tile, u32 size, const Patch& patch, Shared<T>& shared, i32 (&sums)[EACH][3]) {
    const Axis horizontal{reinterpret_cast<const i32*>(tile.horizontal), size, tile.horizontal_taps};
    const Axis vertical{reinterpret_cast<const i32*>(tile.vertical), size, tile.vertical_taps};
    const u32 groups = horizontal.taps <= 4 ? 0 : divide_up(horizontal.taps, 4);
    const u32 coefficient_bytes = groups * COLS * 16;
    const u32 stage_bytes = horizontal.taps <= MOST_TAPS ? (POOL - coefficient_bytes) / 32 * 16 : 0;
    u8* stages = shared.pool + coefficient_bytes;
    const Span span(tile, horizontal, patch, stage_bytes);
    const bool wide = span.rows == 0;
    const u32 chunk = wide ? CHUNK : span.rows;
    const u32 end = vertical.end(patch.row + patch.rows - 1);
    u32 y = vertical.start(patch.row);
    if (!wide) span.copy(stages, y, end - y < chunk ? end - y : chunk);

    const u32 column = patch.column(ptx::lane());
    const u32 offset = (horizontal.start(column) - horizontal.start(patch.col)) * 3;
    i32 few[4] = {};
    if (groups == 0) {
#pragma unroll
        for (u32 t = 0; t < 4; t++) few[t] = t < horizontal.count(column) ? horizontal.coefficients(column)[t] : 0;
    } else if (!wide) {
        bring_coefficients(reinterpret_cast<i32*>(shared.pool), horizontal, patch, groups);
    }
    const Vec<i32>* many = reinterpret_cast<const Vec<i32>*>(shared.pool);
    const u32 own_groups = divide_up(horizontal.count(column), 4);

    for (u32 turn = 0; y < end; turn++, y += chunk) {
        const u32 count = end - y < chunk ? end - y : chunk;
        const u8* stage = stages + turn % 2 * stage_bytes;
        ptx::copy_wait<0>();
        ptx::sync_block(); // the chunk is there, and all are done with the packed pixels of the last
        if (!wide && y + chunk < end) {
            span.copy(stages + (turn + 1) % 2 * stage_bytes, y + chunk, end - y - chunk < chunk ? end - y - chunk : chunk);
        }
        if (wide) {
            narrow_wide(shared.narrow, tile, horizontal, patch, y, count);
        } else if (groups != 0) {
            narrow_staged<0>(shared.narrow, stage, span, y, count, offset, few, many, own_groups);
        } else if (horizontal.taps <= 3) {
            narrow_staged<3>(shared.narrow, stage, span, y, count, offset, few, many, own_groups);
        } else {
            narrow_staged<4>(shared.narrow, stage, span, y, count, offset, few, many, own_groups);
        }
        ptx::sync_block();
#pragma unroll
        for (u32 j = 0; j < EACH; j++) {
            const u32 row = j * WARPS + ptx::warp();
            if (row >= patch.rows) break;
            if (vertical.taps <= 3) {
                add_rows<3>(sums[j], shared.narrow, vertical, patch.row + row, y, count);
            } else {
                add_rows<4>(sums[j], shared.narrow, vertical, patch.row + row, y, count);
            }
        }
    }
}

template <typename T> __device__ void encode(const EncodeArgs& a) {
    Shared<T>& shared = *static_cast<Shared<T>*>(ptx::shared_memory());
    const Patch patch(a.size);
    if (patch.rows == 0) return;
    ptx::grid_wait();
    ptx::grid_launch_next();
    const EncodeTile tile = a.tiles[ptx::block_x()];
    const bool blank = tile.pixels == 0;
    i32 sums[EACH][3];
#pragma unroll
    for (u32 j = 0; j < EACH; j++) sums[j][0] = sums[j][1] = sums[j][2] = ROUNDING;
    if (!blank) {
        for (u32 i = ptx::thread(); i < 3 * 256; i += THREADS) shared.table[i / 256][i % 256] = from_f32<T>(a.table[i]);
        resample(tile, a.size, patch, shared, sums);
    }
    finish(a, patch, shared, sums, blank);
}

ENTRY(encode_f32, EncodeArgs, THREADS, 7, sizeof(Shared<f32>), encode<f32>)
ENTRY(encode_f16, EncodeArgs, THREADS, 7, sizeof(Shared<f16>), encode<f16>)
ENTRY(encode_bf16, EncodeArgs, THREADS, 7, sizeof(Shared<bf16>), encode<bf16>)
