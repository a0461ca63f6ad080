//! Claims about what warps do with matrices: fragments of ldmatrix, stmatrix and mma.

#include "async_test.h"

#include <cmath>

using namespace claims;

namespace {

/// Four 8x8 matrices of u16, matrix after matrix; element (j, row, column) is tagged with its place.
constexpr u16 tag(u32 j, u32 row, u32 column) { return u16(j << 8 | row << 4 | column); }

struct Out {
    u32* r; // 32 lanes by 4
};

void store_tags() {
    auto* matrices = static_cast<u16*>(ptx::shared_memory());
    for (u32 i = ptx::lane(); i < 256; i += 32) matrices[i] = tag(i / 64, i / 8 % 8, i % 8);
    ptx::sync_warp();
}

} // namespace

CLAIM(ldmatrix_gives_a_lane_two_neighbours_of_row_a_quarter_of_its_number) {
    under_each_policy([](const char*) {
        std::vector<u32> r(128);
        const std::string failure = run<[](const Out& out) {
            store_tags();
            u32 r[4];
            ptx::ldmatrix_x4(r, static_cast<u16*>(ptx::shared_memory()) + 8 * ptx::lane());
            for (u32 j = 0; j < 4; j++) out.r[4 * ptx::lane() + j] = r[j];
        }>(Out{r.data()}, 32, 512);
        EXPECT(failure.empty());
        for (u32 l = 0; l < 32; l++) {
            for (u32 j = 0; j < 4; j++) {
                EXPECT(u16(r[4 * l + j]) == tag(j, l / 4, l % 4 * 2));
                EXPECT(u16(r[4 * l + j] >> 16) == tag(j, l / 4, l % 4 * 2 + 1));
            }
        }
    });
}

CLAIM(ldmatrix_trans_gives_the_fragments_of_the_transposed_matrices) {
    std::vector<u32> r(128);
    const std::string failure = run<[](const Out& out) {
        store_tags();
        u32 r[4];
        ptx::ldmatrix_x4_trans(r, static_cast<u16*>(ptx::shared_memory()) + 8 * ptx::lane());
        for (u32 j = 0; j < 4; j++) out.r[4 * ptx::lane() + j] = r[j];
    }>(Out{r.data()}, 32, 512);
    EXPECT(failure.empty());
    for (u32 l = 0; l < 32; l++) {
        for (u32 j = 0; j < 4; j++) {
            EXPECT(u16(r[4 * l + j]) == tag(j, l % 4 * 2, l / 4));
            EXPECT(u16(r[4 * l + j] >> 16) == tag(j, l % 4 * 2 + 1, l / 4));
        }
    }
}

CLAIM(stmatrix_trans_undoes_ldmatrix_trans) {
    std::vector<u32> r(128);
    const std::string failure = run<[](const Out& out) {
        store_tags();
        auto* row = static_cast<u16*>(ptx::shared_memory()) + 8 * ptx::lane();
        u32 r[4];
        ptx::ldmatrix_x4_trans(r, row);
        ptx::stmatrix_x4_trans(row + 256, r);
        ptx::sync_warp();
        std::memcpy(out.r + 4 * ptx::lane(), row + 256, 16);
    }>(Out{r.data()}, 32, 1024);
    EXPECT(failure.empty());
    std::vector<u16> elements(256);
    std::memcpy(elements.data(), r.data(), 512);
    for (u32 i = 0; i < 256; i++) EXPECT(elements[i] == tag(i / 64, i / 8 % 8, i % 8));
}

CLAIM(rows_of_matrices_are_aligned_and_in_shared_memory) {
    const auto load = []<u32 SHIFT>() {
        return run<[](const Out&) {
            u32 r[4];
            ptx::ldmatrix_x4(r, static_cast<u8*>(ptx::shared_memory()) + 16 * ptx::lane() + SHIFT);
        }>(Out{}, 32, 512);
    };
    EXPECT(says(load.template operator()<8>(), "not aligned to 16"));
    EXPECT(says(load.template operator()<16>(), "not 16 bytes of shared memory"));
    EXPECT(says(run<[](const Out& out) {
        u32 r[4];
        ptx::ldmatrix_x4(r, out.r);
    }>(Out{}, 32, 512), "not 16 bytes of shared memory"));
}

CLAIM(a_lane_that_stays_away_fails_the_launch) {
    EXPECT(!run<[](const Out&) {
        u32 r[4];
        if (ptx::lane() != 3) ptx::ldmatrix_x4(r, static_cast<u8*>(ptx::shared_memory()) + 16 * ptx::lane());
    }>(Out{}, 32, 512).empty());
}

CLAIM(instructions_are_refused_by_devices_that_lack_them) {
    const Options before = options();
    options().arch = 75;
    const std::string mma = run<[](const Out&) {
        float d[4] = {};
        const u32 a[4] = {}, b[2] = {};
        ptx::mma_m16n8k16_f16(d, a, b);
    }>(Out{}, 32, 512);
    options().arch = 100;
    const std::string wgmma = run<[](const Out&) { ptx::wgmma_fence(); }>(Out{}, 128, 512);
    options() = before;
    EXPECT(says(mma, "sm_80"));
    EXPECT(says(wgmma, "sm_90a alone"));
}

namespace {

/// A product of one tile, a 16x16 and b 8x16 (columns of b are rows in memory), by fragments taken element by element
/// where the ISA's figures have them.
struct Tile {
    const u16* a;
    const u16* b;
    float* d; // 16x8, its old value in it
    bool bf16;
};

void multiply_tile(const Tile& tile) {
    const u32 g = ptx::lane() / 4, t = ptx::lane() % 4;
    const auto pair = [](const u16* at) { return u32(at[0]) | u32(at[1]) << 16; };
    const u32 a[4] = {pair(tile.a + g * 16 + 2 * t), pair(tile.a + (g + 8) * 16 + 2 * t), pair(tile.a + g * 16 + 2 * t + 8),
                      pair(tile.a + (g + 8) * 16 + 2 * t + 8)};
    const u32 b[2] = {pair(tile.b + g * 16 + 2 * t), pair(tile.b + g * 16 + 2 * t + 8)};
    float* at[4] = {&tile.d[g * 8 + 2 * t], &tile.d[g * 8 + 2 * t + 1], &tile.d[(g + 8) * 8 + 2 * t], &tile.d[(g + 8) * 8 + 2 * t + 1]};
    float d[4] = {*at[0], *at[1], *at[2], *at[3]};
    tile.bf16 ? ptx::mma_m16n8k16_bf16(d, a, b) : ptx::mma_m16n8k16_f16(d, a, b);
    for (u32 i = 0; i < 4; i++) *at[i] = d[i];
}

} // namespace

CLAIM(mma_adds_the_product_of_its_fragments) {
    for (const Half type : {Half::F16, Half::BF16}) {
        std::vector<u16> a(256), b(128);
        std::vector<float> d(128), expected(128);
        for (u32 i = 0; i < 256; i++) a[i] = half(sample(i), type);
        for (u32 i = 0; i < 128; i++) b[i] = half(sample(i + 1000), type), d[i] = expected[i] = sample(i + 2000);
        for (u32 m = 0; m < 16; m++) {
            for (u32 n = 0; n < 8; n++) {
                for (u32 k = 0; k < 16; k++) expected[m * 8 + n] += value(a[m * 16 + k], type) * value(b[n * 16 + k], type);
            }
        }
        EXPECT((run<multiply_tile>(Tile{a.data(), b.data(), d.data(), type == Half::BF16}, 32, 0).empty()));
        EXPECT(d == expected); // the samples' sums are exact
    }
}

CLAIM(every_half_is_converted_exactly) {
    std::vector<u16> halves(65536);
    for (u32 i = 0; i < 65536; i++) halves[i] = u16(i);
    for (const Half type : {Half::F16, Half::BF16}) {
        std::vector<float> floats(65536);
        to_floats(type, halves.data(), floats.data(), 65536);
        for (u32 i = 0; i < 65536; i++) {
            const float x = value(u16(i), type);
            EXPECT(std::isnan(x) ? std::isnan(floats[i]) : ptx::f32_to_bits(x) == ptx::f32_to_bits(floats[i]));
        }
    }
}
