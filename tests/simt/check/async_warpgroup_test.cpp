//! Claims about products by warpgroups: descriptors, layouts, when they are done, what they refuse.

#include "async_test.h"

#include <cmath>

using namespace claims;

namespace {

/// A product 64 deep of matrices that are in device memory row by row, 64 halves each: 64 rows of a, N of b.
struct Matrices {
    const u16* a;
    const u16* b;
    float* d; // (64, N), its old value in it
    u32 accumulate;
    u32 span; // of the swizzle, 16 (none) to 128 bytes
};

/// Copies rows of 64 halves into shared memory as canonical K-major tiles: columns of `span` bytes, one after another, each
/// of rows of `span` bytes, swizzled.
void store_tile(u8* to, const u16* from, u32 rows, u32 span) {
    for (u32 i = ptx::thread(); i < rows * 8; i += 128) {
        const u32 row = i / 8, column = i % 8 / (span / 16), chunk = i % (span / 16);
        u32 at = column * rows * span + row * span + chunk * 16;
        at ^= (at / 128 % (span / 16)) * 16;
        std::memcpy(to + at, from + 8 * i, 16);
    }
}

/// The descriptor of depth step k, 0 to 3, of such a tile.
ptx::u64 describe(const u8* tile, u32 rows, u32 span, u32 k) {
    const ptx::u64 mode = span == 128 ? 1 : span == 64 ? 2 : span == 32 ? 3 : 0;
    const u32 column = k * 32 / span, within = k * 32 % span;
    const ptx::u64 start = ptx::shared_address(tile + column * rows * span + within);
    // Without a swizzle a row's second chunk is in the next column.
    return start >> 4 | ptx::u64(mode == 0 ? rows * 16 >> 4 : 1) << 16 | ptx::u64(8 * span >> 4) << 32 | mode << 62;
}

template <u32 N, bool BF16> void issue(float (&d)[N / 2], ptx::u64 a, ptx::u64 b, u32 accumulate) {
    if constexpr (N == 256) {
        BF16 ? ptx::wgmma_m64n256k16_bf16(d, a, b, accumulate) : ptx::wgmma_m64n256k16_f16(d, a, b, accumulate);
    } else {
        BF16 ? ptx::wgmma_m64n128k16_bf16(d, a, b, accumulate) : ptx::wgmma_m64n128k16_f16(d, a, b, accumulate);
    }
}

template <u32 N, bool BF16> void multiply_matrices(const Matrices& x) {
    auto* a = static_cast<u8*>(ptx::shared_memory());
    u8* b = a + 64 * 128;
    store_tile(a, x.a, 64, x.span);
    store_tile(b, x.b, N, x.span);
    ptx::fence_proxy_async();
    ptx::sync_block();
    const u32 row = ptx::warp() * 16 + ptx::lane() / 4, column = ptx::lane() % 4 * 2;
    const auto at = [&](u32 i) { return x.d + (row + i / 2 % 2 * 8) * N + i / 4 * 8 + column + i % 2; };
    float d[N / 2];
    for (u32 i = 0; i < N / 2; i++) d[i] = *at(i);
    ptx::wgmma_fence();
    for (u32 k = 0; k < 4; k++) issue<N, BF16>(d, describe(a, 64, x.span, k), describe(b, N, x.span, k), k > 0 || x.accumulate);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    for (u32 i = 0; i < N / 2; i++) *at(i) = d[i];
}

template <u32 N, bool BF16> void check_product(u32 span, u32 accumulate) {
    const Half type = BF16 ? Half::BF16 : Half::F16;
    std::vector<u16> a(64 * 64), b(N * 64);
    std::vector<float> d(64 * N), expected(64 * N);
    for (u32 i = 0; i < a.size(); i++) a[i] = half(sample(i), type);
    for (u32 i = 0; i < b.size(); i++) b[i] = half(sample(i + 7777), type);
    for (u32 i = 0; i < d.size(); i++) d[i] = sample(i + 99);
    for (u32 m = 0; m < 64; m++) {
        for (u32 n = 0; n < N; n++) {
            float sum = accumulate != 0 ? d[m * N + n] : 0;
            for (u32 k = 0; k < 64; k++) sum += value(a[m * 64 + k], type) * value(b[n * 64 + k], type);
            expected[m * N + n] = sum;
        }
    }
    const Matrices matrices{a.data(), b.data(), d.data(), accumulate, span};
    const std::string failure = run<multiply_matrices<N, BF16>>(matrices, 128, (64 + N) * 128);
    if (!failure.empty()) refuse("%s", failure.c_str());
    EXPECT(d == expected);
}

} // namespace

CLAIM(products_are_those_of_the_described_matrices) {
    under_each_policy([](const char*) {
        for (const u32 span : {16u, 32u, 64u, 128u}) {
            for (const u32 accumulate : {0u, 1u}) {
                check_product<256, false>(span, accumulate);
                check_product<256, true>(span, accumulate);
                check_product<128, false>(span, accumulate);
                check_product<128, true>(span, accumulate);
            }
        }
    });
}

CLAIM(the_descriptor_of_ptx_describes_tiles_swizzled_by_128) {
    EXPECT((run<[](const Matrices&) {
        auto* tile = static_cast<u8*>(ptx::shared_memory()) + 2048;
        for (u32 k = 0; k < 4; k++) {
            if (ptx::wgmma_descriptor(tile) + 2 * k != describe(tile, 64, 128, k)) simt::fail("they differ");
        }
    }>(Matrices{}, 128, 16384).empty()));
}

namespace {

/// What may be wrong in a product.
enum Wrong { NOTHING, NO_PROXY_FENCE, NO_FENCE, NO_FENCE_AGAIN, BEFORE_PATTERN, BASE_OFFSET, OUTSIDE, DIFFERENT, NO_COMMIT, NO_WAIT };

template <Wrong WRONG> void attempt(const Matrices& x) {
    auto* a = static_cast<u8*>(ptx::shared_memory());
    u8* b = a + 64 * 128;
    std::memset(a + 320 * ptx::thread() / 2 * 2, 0, 320);
    if (WRONG != NO_PROXY_FENCE) ptx::fence_proxy_async();
    ptx::sync_block();
    float d[64];
    if (WRONG != NO_FENCE) ptx::wgmma_fence();
    ptx::u64 describes_a = ptx::wgmma_descriptor(WRONG == BEFORE_PATTERN ? a + 128 : WRONG == OUTSIDE ? a + 320 * 128 - 1024 : a);
    if (WRONG == BASE_OFFSET) describes_a |= ptx::u64(1) << 49;
    if (WRONG == DIFFERENT && ptx::warp() == 2) describes_a += 2;
    ptx::wgmma_m64n128k16_f16(d, describes_a, ptx::wgmma_descriptor(b), 0);
    if (WRONG != NO_COMMIT) ptx::wgmma_commit();
    if (WRONG == NO_FENCE_AGAIN) {
        ptx::wgmma_wait<0>();
        ptx::wgmma_m64n128k16_f16(d, describes_a, ptx::wgmma_descriptor(b), 1);
        ptx::wgmma_commit();
    }
    if (WRONG != NO_WAIT) ptx::wgmma_wait<0>();
    for (u32 i = 0; i < 64; i++) x.d[ptx::thread() * 64 + i] = d[i];
}

/// The failure, or what d became.
template <Wrong WRONG> std::string outcome() {
    std::vector<float> d(128 * 64, 5.0f);
    const std::string failure = run<attempt<WRONG>>(Matrices{nullptr, nullptr, d.data(), 0, 128}, 128, 320 * 128);
    if (!failure.empty()) return failure;
    return std::isnan(d[77]) ? "NaN" : d[77] == 0 ? "" : "something else";
}

} // namespace

CLAIM(products_are_refused_where_the_isa_leaves_them_undefined) {
    under_each_policy([](const char*) {
        EXPECT(outcome<NOTHING>().empty());
        EXPECT(says(outcome<NO_PROXY_FENCE>(), "fence_proxy_async"));
        EXPECT(says(outcome<NO_FENCE>(), "wgmma_fence"));
        EXPECT(says(outcome<NO_FENCE_AGAIN>(), "wgmma_fence"));
        EXPECT(says(outcome<BEFORE_PATTERN>(), "not at a boundary"));
        EXPECT(says(outcome<BASE_OFFSET>(), "not at a boundary"));
        EXPECT(says(outcome<OUTSIDE>(), "is none"));
        EXPECT(says(outcome<DIFFERENT>(), "different operands"));
    });
}

CLAIM(accumulators_hold_nans_until_they_are_waited_for) {
    const Options before = options();
    options().early = false;
    EXPECT(says(outcome<NO_WAIT>(), "under way"));
    EXPECT(says(outcome<NO_COMMIT>(), "under way"));
    const auto peek = [] {
        std::vector<float> d(64, 5.0f);
        EXPECT((run<[](const Matrices& x) {
            auto* a = static_cast<u8*>(ptx::shared_memory());
            std::memset(a + 192 * ptx::thread(), 0, 192);
            ptx::fence_proxy_async();
            ptx::sync_block();
            float first[64] = {}, second[64] = {};
            ptx::wgmma_fence();
            ptx::wgmma_m64n128k16_f16(first, ptx::wgmma_descriptor(a), ptx::wgmma_descriptor(a + 8192), 0);
            ptx::wgmma_commit();
            ptx::wgmma_m64n128k16_f16(second, ptx::wgmma_descriptor(a), ptx::wgmma_descriptor(a + 8192), 0);
            ptx::wgmma_commit();
            ptx::wgmma_wait<1>();
            if (ptx::thread() == 0) x.d[0] = first[0], x.d[1] = second[0];
            ptx::wgmma_wait<0>();
            if (ptx::thread() == 0) x.d[2] = second[0];
        }>(Matrices{nullptr, nullptr, d.data(), 0, 128}, 128, 192 * 128).empty()));
        return d;
    };
    const std::vector<float> late = peek();
    EXPECT(late[0] == 0 && std::isnan(late[1]) && late[2] == 0);
    options() = before;
    const std::vector<float> soon = peek();
    EXPECT(soon[0] == 0 && soon[1] == 0 && soon[2] == 0);
}

CLAIM(a_warp_that_has_waited_says_nothing_of_the_others) {
    // The last warp, which opens the barrier and so runs ahead, overwrites the operands once it has waited itself; the others'
    // rows come out wrong.
    const Options before = options();
    options().early = false;
    std::vector<float> d(128, 5.0f);
    const std::string failure = run<[](const Matrices& x) {
        auto* a = static_cast<u8*>(ptx::shared_memory());
        std::memset(a + 192 * ptx::thread(), 0, 192);
        ptx::fence_proxy_async();
        ptx::sync_block();
        float sums[64] = {};
        ptx::wgmma_fence();
        ptx::wgmma_m64n128k16_f16(sums, ptx::wgmma_descriptor(a), ptx::wgmma_descriptor(a + 8192), 0);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        if (ptx::thread() == 96) {
            std::memset(a, 0xff, 192 * 128);
            ptx::fence_proxy_async();
        }
        x.d[ptx::thread()] = sums[0];
    }>(Matrices{nullptr, nullptr, d.data(), 0, 128}, 128, 192 * 128);
    options() = before;
    EXPECT(failure.empty());
    EXPECT(d[127] == 0 && std::isnan(d[0]));
}
