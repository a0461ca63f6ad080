//! The copy engine (TMA): cp.async.bulk.tensor from global to shared memory, tiled 2-d and im2col 4-d.
//!
//! A copy's box is rows of adjacent elements: dimension 0 of the tensor. PTX ISA, "Tensors": "Tiled mode", "im2col mode",
//! "Swizzling Modes", "Out of Boundary Access"; the driver API, cuTensorMapEncodeTiled and -Im2col, for what the fields of a
//! map mean. All bytes of the box count as transactions, those that are filled with zeros too.
//!
//! Swizzling exchanges 16-byte chunks by address: bits 4-6 (32 B: 4, 64 B: 4-5) of the shared address are XORed with bits 7
//! and up. That is the ISA's table of patterns for a destination at the pattern's boundary (256, 512, 1,024 bytes), and its
//! formula of the "swizzle base offset" for any other.
//!
//! Not modelled: interleaved layouts, NaN fill, rows narrower than the swizzle's span, boxes of other ranks, multicast.

#include "mbarrier.h"
#include "proxy.h"
#include "ptx.cuh"
#include "tensor_map.h"

#include <cstring>
#include <vector>

namespace simt {
namespace {

constexpr u32 CHUNK = 16;

/// An issued copy. A map is read at issue; the tensor when the copy lands.
struct TensorCopy {
    TensorMapBits map;
    u32 offset; // of the destination in shared memory
    u64* barrier;
    int at[4]; // tiled: x, y; im2col: c, w, h, n
    int shift[2];

    u32 row_bytes() const { return u32(map.im2col ? map.channels : map.box[0]) * map.element_bytes; }
    u32 rows() const {
        return map.im2col ? map.pixels : (map.box[1] + map.element_stride[1] - 1u) / map.element_stride[1];
    }

    /// Where the box's chunk lies, an offset in shared memory.
    u32 place(u32 chunk) const {
        u32 address = SHARED_WINDOW + offset + chunk * CHUNK;
        const u32 mask = map.swizzle == Swizzle::B128 ? 7 : map.swizzle == Swizzle::B64 ? 3 : map.swizzle == Swizzle::B32 ? 1 : 0;
        address ^= (address >> 7 & mask) << 4;
        return address - SHARED_WINDOW;
    }

    void land();

  private:
    void store_row(AsyncView& view, u32 row, const u8* start, bool inside) const;
    void land_tile(AsyncView& view) const;
    void land_im2col(AsyncView& view) const;
};

/// One row of the box: from element at[0] of the tensor's row that begins at `start`, zeros where there is none.
void TensorCopy::store_row(AsyncView& view, u32 row, const u8* start, bool inside) const {
    alignas(CHUNK) u8 bytes[256 * 8] = {};
    const u32 count = row_bytes() / map.element_bytes;
    const long long first = at[0] < 0 ? -(long long)at[0] : 0; // of the row's elements that exist
    const long long end = (long long)map.size[0] - at[0] < count ? (long long)map.size[0] - at[0] : count;
    if (inside && first < end) {
        const u32 size = map.element_bytes;
        std::memcpy(bytes + first * size, start + (at[0] + first) * size, size_t(end - first) * size);
    }
    const u32 chunks = row_bytes() / CHUNK;
    for (u32 i = 0; i < chunks; i++) view.write(place(row * chunks + i), bytes + i * CHUNK);
}

void TensorCopy::land_tile(AsyncView& view) const {
    const auto* base = reinterpret_cast<const u8*>(map.address);
    for (u32 row = 0; row < rows(); row++) {
        const long long y = at[1] + (long long)row * map.element_stride[1];
        const bool inside = y >= 0 && y < map.size[1];
        store_row(view, row, base + (inside ? y * (long long)map.pitch[0] : 0), inside);
    }
}

/// The base pixel walks over the bounding box: W by its stride until past the box's upper corner, then from the lower corner
/// on with H, then with the next image. The offsets are added to where it is, without moving the box. (The corners are
/// offsets from 0 and from the last element: the box is [lower, size - 1 + upper].)
void TensorCopy::land_im2col(AsyncView& view) const {
    const auto* base = reinterpret_cast<const u8*>(map.address);
    long long w = at[1], h = at[2], n = at[3];
    for (u32 row = 0; row < rows(); row++) {
        const long long x = w + shift[0], y = h + shift[1];
        const bool inside = x >= 0 && x < map.size[1] && y >= 0 && y < map.size[2] && n >= 0 && n < map.size[3];
        const u8* start = base;
        if (inside) start += x * (long long)map.pitch[0] + y * (long long)map.pitch[1] + n * (long long)map.pitch[2];
        store_row(view, row, start, inside);
        w += map.element_stride[1];
        if (w <= (long long)map.size[1] - 1 + map.upper[0]) continue;
        w = map.lower[0];
        h += map.element_stride[2];
        if (h <= (long long)map.size[2] - 1 + map.upper[1]) continue;
        h = map.lower[1];
        n++;
    }
}

void TensorCopy::land() {
    AsyncView& view = block_state<AsyncView>();
    if (map.im2col) {
        land_im2col(view);
    } else {
        land_tile(view);
    }
    mbarrier_complete(barrier, rows() * row_bytes());
}

/// The copies that have been put off. They land when a block can do nothing else, each only if some thread waits for its
/// barrier, the latest first: nothing says that copies complete in order.
struct Pending {
    std::vector<TensorCopy> copies;
    bool watched = false; // by on_stall

    static bool advance(void* context) {
        auto& copies = static_cast<Pending*>(context)->copies;
        for (size_t i = copies.size(); i-- > 0;) {
            if (!mbarrier_awaited(copies[i].barrier)) continue;
            TensorCopy copy = copies[i];
            copies.erase(copies.begin() + std::ptrdiff_t(i));
            copy.land();
            return true;
        }
        return false;
    }
    void finish() const {
        if (!copies.empty()) fail("a block ends while %zu of its tensor copies are under way", copies.size());
    }
};

TensorMapBits read_map(const void* map, const char* name) {
    require(90, name);
    TensorMapBits bits;
    std::memcpy(&bits, map, sizeof bits);
    if (bits.magic != TensorMapBits::MAGIC) fail("%s: %p is no tensor map", name, map);
    if (bits.interleave != 0 || bits.nan_fill != 0) fail("%s: a map with interleaving or NaN fill is not modelled", name);
    return bits;
}

void issue(TensorCopy copy, const void* to, const char* name) {
    const u32 row = copy.row_bytes(), bytes = copy.rows() * row;
    const u32 span = copy.map.swizzle == Swizzle::B128 ? 128 : copy.map.swizzle == Swizzle::B64 ? 64 : 32;
    if (row % CHUNK != 0) fail("%s: a box's row of %u bytes is not a multiple of 16", name, row);
    if (copy.map.swizzle != Swizzle::None && row != span) fail("%s: rows of %u bytes swizzled by %u are not modelled", name, row, span);
    copy.offset = shared_offset(to, bytes, 128, name);

    AsyncView& view = block_state<AsyncView>();
    view.refresh();
    for (u32 i = 0; i < bytes / CHUNK; i++) {
        if (copy.place(i) + CHUNK > shared_bytes()) fail("%s: the swizzled box leaves shared memory", name);
        // A copy must not overtake ordinary writes to where it goes.
        if (!view.agrees(copy.place(i), CHUNK)) {
            fail("%s: ordinary writes at shared offset %#x were not fenced by fence_proxy_async", name, copy.place(i));
        }
    }
    if (early()) return copy.land();
    for (u32 i = 0; i < bytes / CHUNK; i++) view.poison(copy.place(i));
    Pending& pending = block_state<Pending>();
    if (!pending.watched) on_stall(Pending::advance, &pending);
    pending.watched = true;
    pending.copies.push_back(copy);
}

} // namespace

/// A hint; only a map can be prefetched.
void prefetch_map(const void* map) { read_map(map, "tma_prefetch_map"); }

void load_tile(void* to, const void* map, void* barrier, int x, int y) {
    const char* name = "tma_load_2d";
    TensorCopy copy{read_map(map, name), 0, mbarrier_for_copies(barrier, name), {x, y}, {}};
    if (copy.map.im2col || copy.map.rank != 2) fail("%s: the map is not of a tiled 2-d tensor", name);
    issue(copy, to, name);
}

void load_im2col(void* to, const void* map, void* barrier, int c, int w, int h, int n, u32 dw, u32 dh) {
    const char* name = "tma_load_im2col";
    TensorCopy copy{read_map(map, name), 0, mbarrier_for_copies(barrier, name), {c, w, h, n}, {int(dw), int(dh)}};
    const TensorMapBits& bits = copy.map;
    if (!bits.im2col || bits.rank != 4) fail("%s: the map is not of a 4-d tensor in im2col mode", name);
    if (dw > 255 || dh > 255) fail("%s: offsets of (%u, %u); a 4-d tensor's are at most 255", name, dw, dh);
    if (bits.element_stride[3] != 1) fail("%s: a stride over images is not modelled", name);
    // "The filter corner location must be within the bounding box." Where it must lie on its grid is not said; a kernel for
    // a convolution always has it there.
    const int base[2] = {w, h};
    for (u32 i = 0; i < 2; i++) {
        const int low = bits.lower[i], high = int(bits.size[i + 1]) - 1 + bits.upper[i];
        if (base[i] < low || base[i] > high) fail("%s: base %d is outside the bounding box [%d, %d]", name, base[i], low, high);
        if ((base[i] - low) % bits.element_stride[i + 1] != 0) fail("%s: base %d is off the strides from %d", name, base[i], low);
    }
    issue(copy, to, name);
}

} // namespace simt
