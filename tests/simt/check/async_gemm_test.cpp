//! Two whole kernels that multiply matrices, as the project's do: by tensor copies, mbarriers and warpgroup products; and by
//! copies of threads, ldmatrix and mma. They must give the same in every order and at both times of asynchronous work, and
//! none of their barriers, fences and waits may be lost without notice.
//!
//! y (M, N) = a (M, K) b (N, K)^T, halves, f32 sums.

#include "async_test.h"

#include <cstdlib>

using namespace claims;

namespace {

constexpr u32 M = 128, N = 256, K = 384; // two tiles by two, each of six steps of 64

struct Gemm {
    TensorMap map_a, map_b;
    const u16* a;
    const u16* b;
    float* y;
};

// ---- by warpgroups: a block takes tiles of 64 x 128, one warpgroup loads and one multiplies ----

constexpr u32 STAGES = 2, STEP = 64, STEPS = K / STEP, TILES = M / 64 * (N / 128);

struct WarpgroupShared {
    u8 a[STAGES][64 * 128];
    u8 b[STAGES][128 * 128];
    float y[64 * 128];
    ptx::u64 full[STAGES], empty[STAGES];
};

constexpr int WARPGROUP_FIRST = __LINE__;
void multiply_by_warpgroups(const Gemm& x) {
    auto& shared = *static_cast<WarpgroupShared*>(ptx::shared_memory());
    if (ptx::thread() == 0) {
        for (u32 i = 0; i < STAGES; i++) {
            ptx::mbarrier_init(&shared.full[i], 1);
            ptx::mbarrier_init(&shared.empty[i], 4); // one thread a warp
        }
        ptx::mbarrier_init_fence();
    }
    ptx::sync_block();

    u32 turn = 0; // stages used so far
    if (ptx::warp() < 4) {
        ptx::registers_give<40>();
        for (u32 tile = ptx::block_x(); tile < TILES && ptx::thread() == 0; tile += ptx::grid_x()) {
            for (u32 step = 0; step < STEPS; step++, turn++) {
                const u32 i = turn % STAGES;
                ptx::mbarrier_wait(&shared.empty[i], ~(turn / STAGES) & 1);
                ptx::mbarrier_arrive_expect(&shared.full[i], (64 + 128) * 128);
                ptx::tma_load_2d(shared.a[i], &x.map_a, &shared.full[i], int(step * STEP), int(tile / 2 * 64));
                ptx::tma_load_2d(shared.b[i], &x.map_b, &shared.full[i], int(step * STEP), int(tile % 2 * 128));
            }
        }
        return;
    }
    ptx::registers_take<216>();
    for (u32 tile = ptx::block_x(); tile < TILES; tile += ptx::grid_x()) {
        float d[64];
        for (u32 step = 0; step < STEPS; step++, turn++) {
            const u32 i = turn % STAGES;
            ptx::mbarrier_wait(&shared.full[i], turn / STAGES & 1);
            ptx::wgmma_fence();
            for (u32 k = 0; k < 4; k++) {
                ptx::wgmma_m64n128k16_f16(d, ptx::wgmma_descriptor(shared.a[i]) + 2 * k, ptx::wgmma_descriptor(shared.b[i]) + 2 * k,
                                          step + k > 0);
            }
            ptx::wgmma_commit();
            if (step > 0) {
                ptx::wgmma_wait<1>(); // the products of the step before
                if (ptx::lane() == 0) ptx::mbarrier_arrive(&shared.empty[(turn - 1) % STAGES]);
            }
        }
        ptx::wgmma_wait<0>();
        if (ptx::lane() == 0) ptx::mbarrier_arrive(&shared.empty[(turn - 1) % STAGES]);

        // By way of shared memory, so that threads write rows. Before the next tile's sums come, its last steps are loaded,
        // for which all warps must have given back stages of that tile, and so have read here.
        const u32 row = ptx::warp() % 4 * 16 + ptx::lane() / 4, column = ptx::lane() % 4 * 2;
        for (u32 j = 0; j < 64; j++) shared.y[(row + j / 2 % 2 * 8) * 128 + j / 4 * 8 + column + j % 2] = d[j];
        ptx::sync_named(1, 128);
        for (u32 j = ptx::thread() - 128; j < 64 * 128; j += 128) {
            x.y[(tile / 2 * 64 + j / 128) * N + tile % 2 * 128 + j % 128] = shared.y[j];
        }
    }
}
constexpr int WARPGROUP_LAST = __LINE__;

// ---- by warps: a block takes 32 x 32, each of four warps 16 x 16 ----

struct WarpShared {
    u16 a[2][32][40], b[2][32][40]; // steps of 32, padded so that rows start at different banks
};

constexpr int WARP_FIRST = __LINE__;
void load_step(const Gemm& x, WarpShared& shared, u32 row, u32 column, u32 step) {
    const u32 i = ptx::thread() / 4, k = ptx::thread() % 4 * 8;
    ptx::cp_async_16(&shared.a[step % 2][i][k], x.a + (row + i) * K + step * 32 + k, 16);
    ptx::cp_async_16(&shared.b[step % 2][i][k], x.b + (column + i) * K + step * 32 + k, 16);
    ptx::cp_async_commit();
}

void multiply_by_warps(const Gemm& x) {
    auto& shared = *static_cast<WarpShared*>(ptx::shared_memory());
    const u32 row = ptx::block_x() / (N / 32) * 32, column = ptx::block_x() % (N / 32) * 32;
    const u32 warp_row = ptx::warp() / 2 * 16, warp_column = ptx::warp() % 2 * 16;
    float d[2][4] = {};
    load_step(x, shared, row, column, 0);
    for (u32 step = 0; step < K / 32; step++) {
        if (step + 1 < K / 32) {
            load_step(x, shared, row, column, step + 1);
            ptx::cp_async_wait<1>();
        } else {
            ptx::cp_async_wait<0>();
        }
        ptx::sync_block();
        for (u32 k = 0; k < 32; k += 16) {
            // Matrices 0 to 3 are the quarters that mma's registers are; of b, two columns of 8 with their two halves.
            const u32 j = ptx::lane() / 8, i = ptx::lane() % 8;
            u32 a[4], b[4];
            ptx::ldmatrix_x4(a, &shared.a[step % 2][warp_row + j % 2 * 8 + i][k + j / 2 * 8]);
            ptx::ldmatrix_x4(b, &shared.b[step % 2][warp_column + j / 2 * 8 + i][k + j % 2 * 8]);
            ptx::mma_m16n8k16_f16(d[0], a, {b[0], b[1]});
            ptx::mma_m16n8k16_f16(d[1], a, {b[2], b[3]});
        }
        ptx::sync_block(); // before the stage is loaded anew
    }
    for (u32 j = 0; j < 8; j++) {
        const u32 m = row + warp_row + ptx::lane() / 4 + j / 2 % 2 * 8;
        x.y[m * N + column + warp_column + j / 4 * 8 + ptx::lane() % 4 * 2 + j % 2] = d[j / 4][j % 4];
    }
}
constexpr int WARP_LAST = __LINE__;

// ---- both ----

/// Operands whose sums are exact, and the product.
struct Problem {
    u16* a = static_cast<u16*>(std::aligned_alloc(256, M * K * 2));
    u16* b = static_cast<u16*>(std::aligned_alloc(256, N * K * 2));
    std::vector<float> expected = std::vector<float>(M * N);

    Problem() {
        for (u32 i = 0; i < M * K; i++) a[i] = half(sample(i), Half::F16);
        for (u32 i = 0; i < N * K; i++) b[i] = half(sample(i + 31), Half::F16);
        for (u32 m = 0; m < M; m++) {
            for (u32 n = 0; n < N; n++) {
                for (u32 k = 0; k < K; k++) expected[m * N + n] += sample(m * K + k) * sample(n * K + k + 31);
            }
        }
    }

    template <auto BODY> bool holds(u32 threads, u32 shared, u32 blocks, std::string* failure = nullptr) const {
        std::vector<float> y(M * N, -1);
        const Gemm gemm{opaque(tiled(a, 2, K, M, 64, 64, Swizzle::B128)), opaque(tiled(b, 2, K, N, 64, 128, Swizzle::B128)), a, b, y.data()};
        const std::string said = run<BODY>(gemm, threads, shared, blocks);
        if (failure != nullptr) *failure = said;
        return said.empty() && y == expected;
    }
};

const Problem& problem() {
    static const Problem only;
    return only;
}

bool warpgroups_hold() { return problem().holds<multiply_by_warpgroups>(256, sizeof(WarpgroupShared), 2); }
bool warps_hold() { return problem().holds<multiply_by_warps>(128, sizeof(WarpShared), M / 32 * (N / 32)); }

void expect_noticed(int first, int last, bool (*holds)()) {
    std::string lines;
    for (const int line : unnoticed_losses(__FILE__, first, last, holds)) lines += " " + std::to_string(line);
    if (!lines.empty()) refuse("not noticed where lost, in lines%s of %s", lines.c_str(), __FILE__);
}

} // namespace

CLAIM(a_product_by_warpgroups_holds_under_each_policy) {
    under_each_policy([](const char* policy) {
        std::string failure;
        if (!problem().holds<multiply_by_warpgroups>(256, sizeof(WarpgroupShared), 2, &failure)) refuse("%s: %s", policy, failure.c_str());
    });
}

CLAIM(a_product_by_warps_holds_under_each_policy) {
    under_each_policy([](const char* policy) {
        if (!warps_hold()) refuse("%s", policy);
    });
}

CLAIM(no_loss_in_a_product_by_warpgroups_goes_unnoticed) { expect_noticed(WARPGROUP_FIRST, WARPGROUP_LAST, warpgroups_hold); }

CLAIM(no_loss_in_a_product_by_warps_goes_unnoticed) { expect_noticed(WARP_FIRST, WARP_LAST, warps_hold); }
