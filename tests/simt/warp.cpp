//! Matrices that a warp moves between shared memory and its registers, and multiplies. See warp.h.

#include "ptx.cuh"

#include <cstring>

namespace simt {
namespace {

struct Matrices {
    u8* row;   // the one that this lane gives the address of: lane 8j + i gives row i of matrix j
    u32* r;    // this lane's fragments, one a matrix
};

void load(Matrices* const* lanes) {
    for (u32 j = 0; j < 4; j++) {
        for (u32 lane = 0; lane < WARP; lane++) {
            std::memcpy(&lanes[lane]->r[j], lanes[8 * j + lane / 4]->row + 4 * (lane % 4), 4);
        }
    }
}

/// With .trans, a lane holds of column l / 4 the rows 2 (l % 4) and the next.
void load_transposed(Matrices* const* lanes) {
    for (u32 j = 0; j < 4; j++) {
        for (u32 lane = 0; lane < WARP; lane++) {
            u16 pair[2];
            for (u32 e = 0; e < 2; e++) std::memcpy(&pair[e], lanes[8 * j + 2 * (lane % 4) + e]->row + 2 * (lane / 4), 2);
            std::memcpy(&lanes[lane]->r[j], pair, 4);
        }
    }
}

void store_transposed(Matrices* const* lanes) {
    for (u32 j = 0; j < 4; j++) {
        for (u32 lane = 0; lane < WARP; lane++) {
            u16 pair[2];
            std::memcpy(pair, &lanes[lane]->r[j], 4);
            for (u32 e = 0; e < 2; e++) std::memcpy(lanes[8 * j + 2 * (lane % 4) + e]->row + 2 * (lane / 4), &pair[e], 2);
        }
    }
}

struct Fragments {
    float* d;
    const u32* a;
    const u32* b;
};

/// a: registers 0 to 3 are the 8x8 quarters top left, bottom left, top right, bottom right. b: 0 and 1 are the upper and
/// lower half of its columns, of which lane l holds column l / 4. d: as tensor_core.h says.
template <Half TYPE> void multiply(Fragments* const* lanes) {
    u16 a[16 * DEPTH], b[8 * DEPTH];
    float* d[WARP];
    for (u32 lane = 0; lane < WARP; lane++) {
        const u32 row = lane / 4, k = 2 * (lane % 4);
        for (u32 i = 0; i < 4; i++) std::memcpy(&a[(row + 8 * (i % 2)) * DEPTH + k + 8 * (i / 2)], &lanes[lane]->a[i], 4);
        for (u32 i = 0; i < 2; i++) std::memcpy(&b[row * DEPTH + k + 8 * i], &lanes[lane]->b[i], 4);
        d[lane] = lanes[lane]->d;
    }
    float rows[16 * DEPTH], columns[8 * DEPTH], spread[spread_len(8)];
    to_floats(TYPE, a, rows, 16 * DEPTH);
    to_floats(TYPE, b, columns, 8 * DEPTH);
    spread_columns(columns, 8, spread);
    multiply_warp(d, 8, rows, spread, true);
}

} // namespace

void load_matrices(const char* name, u32 (&r)[4], const void* row, bool transposed) {
    require(75, name);
    Matrices mine{shared_base() + shared_offset(row, 16, 16, name), r};
    warp_collective<Matrices>(name, mine, transposed ? load_transposed : load);
}

void store_matrices_transposed(void* row, const u32 (&r)[4]) {
    require(90, "stmatrix_x4_trans");
    u32 copy[4];
    std::memcpy(copy, r, sizeof copy);
    Matrices mine{shared_base() + shared_offset(row, 16, 16, "stmatrix_x4_trans"), copy};
    warp_collective<Matrices>("stmatrix_x4_trans", mine, store_transposed);
}

void multiply_fragments(const char* name, Half type, float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    require(80, name);
    Fragments mine{d, a, b};
    warp_collective<Fragments>(name, mine, type == Half::F16 ? multiply<Half::F16> : multiply<Half::BF16>);
}

} // namespace simt
