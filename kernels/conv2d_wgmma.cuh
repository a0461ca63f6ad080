//! The tiles of conv2d_wgmma: their shapes, their place in shared memory, and the order in which blocks take them.
#pragma once

#include <conv2d.cuh>

constexpr u32 DEPTH = 64;        // of a stage: 128 bytes of a row, the widest that the copy engine swizzles
constexpr u32 ROWS = 64;         // channels of a warpgroup
constexpr u32 WARPGROUP = 128;   // its threads
constexpr u32 THREADS = 3 * WARPGROUP;

/// One shape of tile: GROUPS warpgroups share one, 64 channels each.
template <typename T_, u32 PIXELS_, u32 GROUPS_, u32 STAGES_> struct Tile {
    using T = T_;
    static constexpr u32 PIXELS = PIXELS_;
    static constexpr u32 GROUPS = GROUPS_;
    static constexpr u32 STAGES = STAGES_;
    static constexpr u32 CHANNELS = ROWS * GROUPS;
    static constexpr u32 BUFFERS = 2 / GROUPS; // tiles under way at once
    static constexpr u32 CHUNKS = CHANNELS / 8; // vectors of 16 bytes in a pixel's channels
};

template <typename K> struct Stage {
    typename K::T weights[K::CHANNELS][DEPTH];
    typename K::T pixels[K::PIXELS][DEPTH];
};

template <typename K> struct Shared {
    Stage<K> stages[K::STAGES];
    typename K::T staging[K::BUFFERS][K::PIXELS][K::CHANNELS]; // residual, then result; vectors permuted by `staged`
    u64 full[K::STAGES], empty[K::STAGES];                     // a stage is loaded; is used up
    u64 ready[K::BUFFERS], done[K::BUFFERS];                   // a buffer holds the residual; holds the result
    u64 follow[K::BUFFERS];                                    // the tile before has all its stages (where GROUPS is 1)
    u32 last[K::BUFFERS];                                      // this block completes the tile (where splits > 1)
};

/// Where vector `chunk` of a pixel lies: so permuted, the same vector of 8 pixels is in 8 different groups of banks.
template <typename K> __device__ inline typename K::T* staged(Shared<K>& s, u32 buffer, u32 pixel, u32 chunk) {
    return &s.staging[buffer][pixel][(chunk ^ (pixel & 7u)) * 8u];
}

/// What a block does in one turn: a tile, or one part of its depth.
struct Turn {
    u32 pixel, channel; // the tile's first
    u32 begin, end;     // steps of the depth, DEPTH each
    u32 split;
    u32 ticket;
};

template <typename K> __device__ inline u32 turns(const Conv2dArgs& a) {
    return divide_up(a.n * a.out_h * a.out_w, K::PIXELS) * divide_up(a.out_c, K::CHANNELS) * a.splits;
}

/// Parts of a tile are neighbours, then come the tiles of the same pixels: what runs at the same time shares its pixels in
/// the second-level cache, where the weights stay.
template <typename K> __device__ inline Turn turn_at(const Conv2dArgs& a, u32 index) {
    const u32 pixel_tiles = divide_up(a.n * a.out_h * a.out_w, K::PIXELS);
    const u32 channel_tiles = divide_up(a.out_c, K::CHANNELS);
    const u32 steps = a.kernel_h * a.kernel_w * (a.c / DEPTH);
    const u32 split = index % a.splits;
    const u32 channel_tile = index / a.splits % channel_tiles;
    const u32 pixel_tile = index / a.splits / channel_tiles;
    return Turn{pixel_tile * K::PIXELS, channel_tile * K::CHANNELS, split * steps / a.splits,
                (split + 1) * steps / a.splits, split, pixel_tile + channel_tile * pixel_tiles};
}

/// A place in the ring of stages, and how often the ring went round.
template <typename K> struct Ring {
    u32 stage = 0;
    u32 phase = 0;
    __device__ void advance(u32 steps) {
        const u32 at = stage + steps;
        stage = at % K::STAGES;
        phase ^= at / K::STAGES & 1u;
    }
    __device__ void next() {
        stage++;
        if (stage == K::STAGES) {
            stage = 0;
            phase ^= 1u;
        }
    }
};
