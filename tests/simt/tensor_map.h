//! What the simulated driver's cuTensorMapEncode* leave in the 128 opaque bytes of a tensor map, and async.h reads.
//!
//! A map that is here has passed the checks of the driver API's documentation (tensor_map.cpp), so that a reader may
//! rely on them. Dimensions are in the driver's order: 0 is the one whose elements are adjacent.
#pragma once

#include <cstdint>

namespace simt {

/// The values are CUtensorMapSwizzle's.
enum class Swizzle : std::uint8_t { None = 0, B32 = 1, B64 = 2, B128 = 3 };

struct TensorMapBits {
    static constexpr std::uint32_t MAGIC = 0x70616d74; // "tmap": anything else was never encoded
    std::uint32_t magic;
    std::uint8_t rank;          // 1 to 5; im2col 3 to 5
    std::uint8_t im2col;        // 0: tiled
    std::uint8_t element_bytes; // 1, 2, 4 or 8
    std::uint8_t type;          // CUtensorMapDataType
    Swizzle swizzle;
    std::uint8_t interleave;        // CUtensorMapInterleave; only 0 (none) is accepted here
    std::uint8_t nan_fill;          // 0: out of bounds is zeros; 1: NaNs of the type
    std::uint8_t element_stride[5]; // 1 to 8; tiled: elements; im2col: pixels
    std::uint64_t address;          // of element 0, aligned to 16
    std::uint64_t pitch[4];         // bytes from one index to the next in dimensions 1 to 4, multiples of 16
    std::uint32_t size[5];          // elements, at most 2^31
    std::uint16_t box[5];           // tiled: 1 to 256 each, before element strides divide them
    std::int16_t lower[3];          // im2col: corner offsets of W, H, D
    std::int16_t upper[3];
    std::uint16_t channels; // im2col: channels a pixel, 1 to 256
    std::uint16_t pixels;   // im2col: pixels a column, 1 to 1024
};
static_assert(sizeof(TensorMapBits) <= 128, "a CUtensorMap is 128 bytes");

} // namespace simt
