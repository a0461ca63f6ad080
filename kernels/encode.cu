//! encode: u8 images to normalised canvases, equal to Pillow to the bit, in one pass over memory.
//!
//! Formula   two passes, columns then rows, each clip((2^21 + sum over t of coefficient[t] * u8[start + t]) >> 22, 0, 255);
//!           then y = table[channel][u8], which holds (u8 / 255 - mean) / std; a tile without an image is 0
//! Layout    images (H,W,3) u8, rows `pitch` bytes apart at any address; y (N, grid_rows * size, grid_cols * size, 3) in T.
//!           An axis' table: `size` pairs (start, count), start and start + count not falling, then (size, taps) coefficients,
//!           those beyond a count 0. Tile t is place t % (grid_rows * grid_cols), row by row, of canvas t / (that product)
//! Threads   a block of 128 makes a patch of one tile: COLS = 32 columns, a lane each, of ceil(size / gridDim.y) <= ROWS = 64
//!           rows, warp w those with row % 4 = w. It streams the image's rows in chunks: while one is used, the next is copied
//!           to shared memory; the horizontal pass makes of each row packed pixels, one a lane, in a ring of 64 rows; then
//!           each warp makes those of its rows whose last input row has come. So any shrink factor needs the same memory,
//!           and as sums of integers are exact, no cut of the work changes a bit.
//! Wide      where a row of the patch does not fit into the staging or has more than MOST_TAPS coefficients a pixel, a warp
//!           sums one packed pixel at a time straight from the image.
//! Tall      where a pixel's rows do not fit into the ring, the patch is made in groups of four rows, one a warp, whose sums
//!           stay in registers from chunk to chunk.
//! Limits    grid (tiles, rows, ceil(size / 32)), ceil(size / 64) <= rows <= size: 64 rows a block do the least work, fewer
//!           rows make more blocks where there are few tiles; 38,784 bytes of shared memory in f32, 35,712 in the halves.
//!           The 16 aligned bytes around any byte of an image may be read: its allocation begins and ends at multiples of 16
//! Speed     bound by instructions, most of them multiply-adds and the bytes' extraction; benches/runs
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
constexpr u32 COLS = 32;
constexpr u32 ROWS = 64;

constexpr u32 RING = 64;      // rows of packed pixels, a power of two
constexpr u32 CHUNK = 32;     // rows of an image that come at once, at most
constexpr u32 LEAST = 8;      // and at least, where the ring is to hold all that a pixel sums beside them
constexpr u32 MOST_TAPS = 64; // of the horizontal pass where it reads staged rows
constexpr u32 POOL = 22528;   // bytes

constexpr u32 PRECISION = 22;
constexpr i32 ROUNDING = 1 << (PRECISION - 1);

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
    u32 stride;         // 16 bytes more than they are, for what is read beyond a row's last pixel
    u32 inverse;        // 2^20 / vectors, above
    u32 stage_bytes;
    u32 rows;           // that a stage holds, CHUNK at most; 0: not one fits

    __device__ Span(const EncodeTile& tile, const Axis& axis, const Patch& patch) {
        const u32 first = axis.start(patch.col);
        from = tile.pixels + first * 3;
        pitch = tile.pitch;
        bytes = (axis.end(patch.col + patch.cols - 1) - first) * 3;
        vectors = (bytes + 30) / 16;
        stride = vectors * 16 + 16;
        inverse = (1u << 20u) / vectors + 1;
    }
    __device__ void fit(u32 bytes) {
        stage_bytes = bytes;
        rows = bytes / stride;
        if (rows > WARPS) rows = rows / WARPS * WARPS; // as many for each warp
        if (rows > CHUNK) rows = CHUNK;
    }

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

__device__ inline void add_pixel(i32 (&sum)[3], u32 r, u32 g, u32 b, i32 c) {
    sum[0] += i32(r) * c;
    sum[1] += i32(g) * c;
    sum[2] += i32(b) * c;
}

/// Adds `COUNT` pixels, 2 to 4, of three bytes each that begin `shift` bits into w[0].
template <u32 COUNT> __device__ inline void add_pixels(i32 (&sum)[3], const u32 (&w)[4], u32 shift, const i32 (&c)[4]) {
    using ptx::byte_of;
    const u32 x0 = ptx::shift_right(w[0], w[1], shift);
    const u32 x1 = ptx::shift_right(w[1], w[2], shift);
    const u32 x2 = ptx::shift_right(w[2], w[COUNT == 4 ? 3 : 2], shift);
    add_pixel(sum, byte_of<0>(x0), byte_of<1>(x0), byte_of<2>(x0), c[0]);
    add_pixel(sum, byte_of<3>(x0), byte_of<0>(x1), byte_of<1>(x1), c[1]);
    if (COUNT >= 3) add_pixel(sum, byte_of<2>(x1), byte_of<3>(x1), byte_of<0>(x2), c[2]);
    if (COUNT >= 4) add_pixel(sum, byte_of<1>(x2), byte_of<2>(x2), byte_of<3>(x2), c[3]);
}

/// Row i of packed pixels, r | g << 8 | b << 16, is at i % RING; the first three again at the end, since rows are read in
/// fours.
using Ring = u32[RING + 3][COLS];

/// Packs the sums of a pixel of row y.
__device__ inline void put(Ring& ring, u32 y, u32 x, const i32 (&sum)[3]) {
    const u32 blue = ptx::pack_u8(0, 0, sum[2] >> PRECISION);
    const u32 rgb = ptx::pack_u8(blue, sum[1] >> PRECISION, sum[0] >> PRECISION);
    const u32 slot = y % RING;
    ring[slot][x] = rgb;
    if (slot < 3) ring[RING + slot][x] = rgb;
}

/// The horizontal pass over staged rows, as one lane sees it.
struct Columns {
    Span span;
    u32 offset;     // of its first pixel in a staged row
    u32 groups;     // its coefficients in fours
    u32 full;       // those groups, of any column, that have more than two coefficients: all but perhaps the last
    i32 few[4];     // its coefficients, where no column has more than four
    u32 many_bytes; // else they are in the pool, (groups, COLS) vectors of four, 0 beyond a column's count

    __device__ Columns(const EncodeTile& tile, const Axis& axis, const Patch& patch, u8* pool)
        : span(tile, axis, patch), few{}, many_bytes(0) {
        const u32 column = patch.column(ptx::lane());
        offset = (axis.start(column) - axis.start(patch.col)) * 3;
        groups = divide_up(axis.count(column), 4);
        full = (axis.taps + 1) / 4;
        if (axis.taps <= 4) {
#pragma unroll
            for (u32 t = 0; t < 4; t++) few[t] = t < axis.taps ? axis.coefficients(column)[t] : 0;
        } else if (axis.taps <= MOST_TAPS) {
            many_bytes = divide_up(axis.taps, 4) * COLS * 16;
            bring(reinterpret_cast<i32*>(pool), axis, patch);
        }
        span.fit(axis.taps <= MOST_TAPS ? (POOL - many_bytes) / 32 * 16 : 0);
    }

    __device__ void bring(i32* to, const Axis& axis, const Patch& patch) const {
        for (u32 x = ptx::warp(); x < COLS; x += WARPS) {
            const i32* from = axis.coefficients(patch.column(x));
            for (u32 t = ptx::lane(); t < many_bytes / (COLS * 4); t += 32) {
                to[(t / 4 * COLS + x) * 4 + t % 4] = t < axis.taps ? from[t] : 0;
            }
        }
    }

    /// Rows y, y + WARPS, ..., `N` of them, so that the loads of all are under way at once. `at` is where y's first pixel
    /// would be in the pool if the image's row, whose address ends in `low`, were a multiple of 16. `FEW` is how many
    /// coefficients a column has, 3 or 4 at most, or 0: as many as there are.
    template <u32 FEW, u32 N> __device__ void rows(Ring& ring, const u8* pool, u32 at, u32 low, u32 y) const {
        constexpr u32 WORDS = FEW == 3 ? 3 : 4;
        i32 sum[N][3];
        const u32* words[N];
        u32 shift[N], w[N][4];
#pragma unroll
        for (u32 p = 0; p < N; p++) {
            const u32 byte = at + p * WARPS * span.stride + ((low + p * WARPS * span.pitch) & 15u);
            words[p] = reinterpret_cast<const u32*>(pool + (byte & ~3u));
            shift[p] = byte * 8;
            sum[p][0] = sum[p][1] = sum[p][2] = ROUNDING;
#pragma unroll
            for (u32 i = 0; i < WORDS; i++) w[p][i] = words[p][i];
        }
        if (FEW != 0) {
#pragma unroll
            for (u32 p = 0; p < N; p++) add_pixels<FEW == 3 ? 3 : 4>(sum[p], w[p], shift[p], few);
        }
        for (u32 g = 0; FEW == 0 && g < groups; g++) {
            const Vec<i32> c = reinterpret_cast<const Vec<i32>*>(pool)[g * COLS + ptx::lane()];
#pragma unroll
            for (u32 p = 0; p < N; p++) {
                // A group is three words: the next one's, not beyond the last.
                u32 next[3] = {};
                words[p] += 3;
#pragma unroll
                for (u32 i = 0; i < 3; i++) {
                    if (g + 1 < groups) next[i] = words[p][i + 1];
                }
                if (g < full) {
                    add_pixels<4>(sum[p], w[p], shift[p], c.v);
                } else {
                    add_pixels<2>(sum[p], w[p], shift[p], c.v);
                }
                w[p][0] = w[p][3], w[p][1] = next[0], w[p][2] = next[1], w[p][3] = next[2];
            }
        }
#pragma unroll
        for (u32 p = 0; p < N; p++) put(ring, y + p * WARPS, ptx::lane(), sum[p]);
    }

    template <u32 FEW> __device__ void chunk(Ring& ring, const u8* pool, u32 stage, u32 y, u32 count) const {
        u32 r = ptx::warp();
        u32 at = stage + r * span.stride + offset;
        u32 low = u32(span.from) + (y + r) * span.pitch;
        for (; r + WARPS < count; r += WARPS * 2) {
            rows<FEW, 2>(ring, pool, at, low, y + r);
            at += WARPS * 2 * span.stride;
            low += WARPS * 2 * span.pitch;
        }
        if (r < count) rows<FEW, 1>(ring, pool, at, low, y + r);
    }
};

/// The horizontal pass straight from the image: a warp a pixel, its lanes the columns that the pixel sums.
__device__ inline void narrow_wide(Ring& ring, const EncodeTile& tile, const Axis& axis, const Patch& patch, u32 y,
                                   u32 count) {
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
            if (ptx::lane() == 0) put(ring, y + r, x, sum);
        }
    }
}

/// Input rows of an output row.
struct alignas(8) Window {
    u32 start, end;
};

template <typename T> struct Shared {
    /// The columns' coefficients where they are more than four each, then two stages of image rows.
    alignas(16) u8 pool[POOL];
    Ring ring;
    Vec<i32> few[ROWS]; // the rows' coefficients where they are at most four each
    Window windows[ROWS];
    alignas(16) T made[WARPS][2][COLS * 3]; // two rows of each warp, on their way to memory
    T table[3][256];
};
static_assert(sizeof(Shared<f32>) == 38784 && sizeof(Shared<f16>) == 35712, "as the header says");

/// Adds the first `COUNT` rows of a window.
template <u32 COUNT> __device__ inline void add_few(i32 (&sum)[3], const Ring& ring, u32 start, const Vec<i32>& c) {
    using ptx::byte_of;
    const u32 slot = start % RING;
#pragma unroll
    for (u32 j = 0; j < COUNT; j++) {
        const u32 rgb = ring[slot + j][ptx::lane()];
        add_pixel(sum, byte_of<0>(rgb), byte_of<1>(rgb), byte_of<2>(rgb), c.v[j]);
    }
}

/// Adds rows first to last; c[i] is row i's coefficient.
__device__ inline void add_many(i32 (&sum)[3], const Ring& ring, u32 first, u32 last, const i32* c) {
    using ptx::byte_of;
    for (u32 i = first; i < last; i += 4) {
        const u32 slot = i % RING;
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            const u32 rgb = ring[slot + j][ptx::lane()];
            add_pixel(sum, byte_of<0>(rgb), byte_of<1>(rgb), byte_of<2>(rgb), i + j < last ? c[i + j] : 0);
        }
    }
}

/// Where a warp's rows go.
template <typename T> struct Output {
    static constexpr u32 LEN = Vec<T>::LEN;
    T* to;
    u32 width, used; // elements of a canvas' row, of the patch's
    bool vectors;    // the tile's rows are whole vectors

    __device__ Output(const EncodeArgs& a, const Patch& patch) : width(a.grid_cols * a.size * 3), used(patch.cols * 3) {
        const u32 tiles = a.grid_rows * a.grid_cols;
        const u32 place = ptx::block_x() % tiles;
        const u32 top = (ptx::block_x() / tiles * a.grid_rows + place / a.grid_cols) * a.size + patch.row;
        to = static_cast<T*>(a.output) + top * width + (place % a.grid_cols * a.size + patch.col) * 3;
        vectors = a.size % LEN == 0;
    }

    /// Row `row` of the patch and, where `count` is 2, the warp's next one.
    __device__ void write(const T (&made)[2][COLS * 3], u32 row, u32 count) const {
        constexpr u32 VECTORS = COLS * 3 / LEN;
        if (vectors) {
#pragma unroll
            for (u32 v = ptx::lane(); v < 2 * VECTORS; v += 32) {
                const u32 r = v / VECTORS, x = v % VECTORS * LEN;
                if (r < count && x < used) store_vec(to + (row + r * WARPS) * width + x, load_vec(&made[r][x]));
            }
        } else {
            for (u32 r = 0; r < count; r++) {
                for (u32 x = ptx::lane(); x < used; x += 32) to[(row + r * WARPS) * width + x] = made[r][x];
            }
        }
    }
};

/// The vertical pass of a warp's rows.
template <typename T> struct Rows {
    Shared<T>& shared;
    const Axis& axis;
    const Patch& patch;
    Output<T> output;

    /// Brings what they need that is not the image, with the whole block.
    __device__ void prepare(const f32* table) const {
        for (u32 i = ptx::thread(); i < 3 * 256; i += THREADS) shared.table[i / 256][i % 256] = from_f32<T>(table[i]);
        for (u32 i = ptx::thread(); i < patch.rows; i += THREADS) {
            shared.windows[i] = Window{axis.start(patch.row + i), axis.end(patch.row + i)};
            if (axis.taps > 4) continue;
            const i32* c = axis.coefficients(patch.row + i);
#pragma unroll
            for (u32 t = 0; t < 4; t++) shared.few[i].v[t] = t < axis.taps ? c[t] : 0;
        }
    }

    /// The pixel of this lane, from its sums.
    __device__ void set(u32 place, const i32 (&sum)[3]) const {
#pragma unroll
        for (u32 k = 0; k < 3; k++) {
            const i32 x = sum[k] >> PRECISION;
            shared.made[ptx::warp()][place][ptx::lane() * 3 + k] = shared.table[k][x < 0 ? 0 : x > 255 ? 255 : x];
        }
    }

    __device__ void write(u32 row, u32 count) const {
        ptx::sync_warp();
        output.write(shared.made[ptx::warp()], row, count);
        ptx::sync_warp(); // before they are made anew
    }

    /// Adds what the ring has of a row's window between rows y and end.
    __device__ void add(i32 (&sum)[3], u32 row, u32 y, u32 end) const {
        const Window w = shared.windows[row];
        const i32* c = axis.coefficients(patch.row + row) - w.start;
        add_many(sum, shared.ring, w.start > y ? w.start : y, w.end < end ? w.end : end, c);
    }

    /// A row whose whole window is in the ring.
    __device__ void make(u32 place, u32 row) const {
        i32 sum[3] = {ROUNDING, ROUNDING, ROUNDING};
        if (axis.taps <= 3) {
            add_few<3>(sum, shared.ring, shared.windows[row].start, shared.few[row]);
        } else if (axis.taps == 4) {
            add_few<4>(sum, shared.ring, shared.windows[row].start, shared.few[row]);
        } else {
            add(sum, row, 0, 0xffffffffu);
        }
        set(place, sum);
    }

    __device__ bool has_come(u32 row, u32 end) const { return row < patch.rows && shared.windows[row].end <= end; }

    /// Makes the warp's rows from `row` on whose windows end by `end`; gives the first that has to wait.
    __device__ u32 make_all(u32 row, u32 end) const {
        while (has_come(row, end)) {
            make(0, row);
            const bool both = has_come(row + WARPS, end);
            if (both) make(1, row + WARPS);
            write(row, both ? 2 : 1);
            row += both ? WARPS * 2 : WARPS;
        }
        return row;
    }
};

template <typename T>
__device__ void resample(const EncodeTile& tile, const Patch& patch, const Axis& horizontal, const Rows<T>& rows) {
    Shared<T>& shared = rows.shared;
    const Columns columns(tile, horizontal, patch, shared.pool);
    const Span& span = columns.span;
    const bool wide = span.rows == 0;
    const bool tall = rows.axis.taps + LEAST > RING;
    u32 chunk = wide ? CHUNK : span.rows;
    if (!tall && chunk + rows.axis.taps > RING) chunk = RING - rows.axis.taps;
    const u32 group = tall ? WARPS : ROWS;
    u32 row = ptx::warp(), turn = 0;
    for (u32 first = 0; first < patch.rows; first += group) {
        const u32 last = (first + group < patch.rows ? first + group : patch.rows) - 1;
        const u32 end = rows.axis.end(patch.row + last);
        u32 y = rows.axis.start(patch.row + first);
        u32 count = end - y < chunk ? end - y : chunk;
        i32 sum[3] = {ROUNDING, ROUNDING, ROUNDING};
        u32 stage = columns.many_bytes + turn % 2 * span.stage_bytes;
        if (!wide) span.copy(shared.pool + stage, y, count);
        for (; y < end; turn++) {
            const u32 next = y + count;
            const u32 next_count = end - next < chunk ? end - next : chunk;
            stage = columns.many_bytes + turn % 2 * span.stage_bytes;
            ptx::copy_wait<0>();
            ptx::sync_block(); // the chunk has come, and all are done with the ring
            if (!wide && next_count > 0) {
                span.copy(shared.pool + columns.many_bytes + (turn + 1) % 2 * span.stage_bytes, next, next_count);
            }
            if (wide) {
                narrow_wide(shared.ring, tile, horizontal, patch, y, count);
            } else if (horizontal.taps > 4) {
                columns.chunk<0>(shared.ring, shared.pool, stage, y, count);
            } else if (horizontal.taps == 4) {
                columns.chunk<4>(shared.ring, shared.pool, stage, y, count);
            } else {
                columns.chunk<3>(shared.ring, shared.pool, stage, y, count);
            }
            ptx::sync_block();
            if (!tall) row = rows.make_all(row, next);
            if (tall && row <= last) rows.add(sum, row, y, next);
            y = next;
            count = next_count;
        }
        if (tall && row <= last) {
            rows.set(0, sum);
            rows.write(row, 1);
            row += WARPS;
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
    const Axis horizontal{reinterpret_cast<const i32*>(tile.horizontal), a.size, tile.horizontal_taps};
    const Axis vertical{reinterpret_cast<const i32*>(tile.vertical), a.size, tile.vertical_taps};
    const Rows<T> rows{shared, vertical, patch, Output<T>(a, patch)};
    if (tile.pixels != 0) {
        rows.prepare(a.table);
        resample(tile, patch, horizontal, rows);
        return;
    }
    for (u32 r = 0; r < 2; r++) {
        for (u32 x = ptx::lane(); x < COLS * 3; x += 32) shared.made[ptx::warp()][r][x] = from_f32<T>(0.0f);
    }
    ptx::sync_warp();
    for (u32 row = ptx::warp(); row < patch.rows; row += WARPS) rows.output.write(shared.made[ptx::warp()], row, 1);
}

ENTRY(encode_f32, EncodeArgs, THREADS, 5, sizeof(Shared<f32>), encode<f32>)
ENTRY(encode_f16, EncodeArgs, THREADS, 6, sizeof(Shared<f16>), encode<f16>)
ENTRY(encode_bf16, EncodeArgs, THREADS, 6, sizeof(Shared<bf16>), encode<bf16>)
