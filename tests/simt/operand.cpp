//! See operand.h.

#include "operand.h"

#include <cstring>
#include <vector>

namespace simt {

Operand::Operand(u64 descriptor, const char* name) : name(name) {
    const auto field = [&](u32 low) { return u32(descriptor >> low & 0x3fffu) << 4; };
    start = field(0), leading = field(16), stride = field(32);
    const u64 fields = 0xc00e3fff3fff3fffu;
    if ((descriptor & ~fields) != 0) fail("%s: the descriptor %#llx sets bits of no field", name, (unsigned long long)descriptor);

    // 0: none; 1, 2, 3: 128, 64, 32 bytes.
    const u32 mode = u32(descriptor >> 62);
    span = mode == 0 ? 16 : 256u >> mode;
    mask = mode == 0 ? 0 : span / 16 - 1;
    if (mode != 0) leading = 16; // "Swizzled layouts: not used"
    // "The value of base offset is 0 when the repeating pattern starts" at 1,024, 512 or 256 bytes; what a device makes of
    // any other value, only the ISA's formula for it is known.
    if (mode != 0 && ((descriptor >> 49 & 7u) != 0 || (start >> 7 & mask) != 0)) {
        fail("%s: the matrix at shared address %#x is not at a boundary of its swizzle's pattern", name, start);
    }
}

void Operand::gather(const AsyncView& view, u32 first, u32 count, u16* to) const {
    for (u32 row = first; row < first + count; row++) {
        for (u32 chunk = 0; chunk < 2; chunk++, to += 8) {
            u32 address = start + row / 8 * stride + row % 8 * span + chunk * leading;
            address ^= (address >> 7 & mask) << 4;
            const u32 offset = address - SHARED_WINDOW; // wraps below the window
            if (offset > shared_bytes() || shared_bytes() - offset < 16) fail("%s: shared address %#x is none", name, address);
            if (!view.agrees(offset, 16)) {
                fail("%s: ordinary writes at shared offset %#x were not fenced by fence_proxy_async", name, offset);
            }
            std::memcpy(to, shared_base() + offset, 16);
        }
    }
}

const float* spread_operand(const Operand& b, const AsyncView& view, Half type, u32 n) {
    // By content: however many stages and steps a kernel has, what matters is that few are in use at a time.
    struct Kept {
        Half type{};
        std::vector<u16> halves;
        std::vector<float> spread;
    };
    static Kept kept[8];
    static std::vector<u16> halves;
    static std::vector<float> rows;

    halves.resize(n * DEPTH);
    b.gather(view, 0, n, halves.data());
    u64 hash = 0;
    for (u32 i = 0; i < n * DEPTH; i += 41) hash = (hash ^ halves[i]) * 0x9e3779b97f4a7c15u;
    Kept& slot = kept[hash >> 61];
    if (slot.type == type && slot.halves == halves) return slot.spread.data();

    rows.resize(n * DEPTH);
    to_floats(type, halves.data(), rows.data(), n * DEPTH);
    slot.type = type;
    slot.halves = halves;
    slot.spread.resize(spread_len(n));
    spread_columns(rows.data(), n, slot.spread.data());
    return slot.spread.data();
}

} // namespace simt
