//! cuTensorMapEncode*: the checks that the driver API's documentation lists, and the encoding of tensor_map.h.
//!
//! Interleaved layouts and types packed into less than a byte are refused, as nothing here would read them.

#include "tensor_map.h"
#include "driver.h"

#include <cstring>

namespace simt {

namespace {

/// Bytes of an element; 0 where the type is not simulated.
u32 element_bytes(CUtensorMapDataType type) {
    switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64: return 8;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ:
    case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32:
    case CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ: return 4;
    }
    return 0;
}

bool is_float(CUtensorMapDataType type) {
    return type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_FLOAT64 ||
           type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || (element_bytes(type) == 4 && type >= CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
}

/// What both kinds of map are made from.
struct Common {
    CUtensorMap* map;
    CUtensorMapDataType type;
    u32 rank;
    void* address;
    const cuuint64_t* size;
    const cuuint64_t* pitch;
    const cuuint32_t* element_stride;
    CUtensorMapInterleave interleave;
    CUtensorMapSwizzle swizzle;
    CUtensorMapL2promotion promotion;
    CUtensorMapFloatOOBfill fill;
};

/// Checks and encodes what tiled and im2col maps share; `inner_bytes` are those of a box's fastest dimension.
CUresult encode(const char* call, const Common& c, u64 inner_bytes, TensorMapBits& bits) {
    if (options().arch < 90) {
        explain("%s: tensor maps need sm_90", call);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (c.map == nullptr || reinterpret_cast<std::uintptr_t>(c.map) % 64 != 0) return invalid("%s: the map is not aligned to 64", call);
    if (element_bytes(c.type) == 0) return invalid("%s: type %d is not simulated", call, int(c.type));
    if (c.interleave != CU_TENSOR_MAP_INTERLEAVE_NONE) return invalid("%s: interleaved layouts are not simulated", call);
    if (unsigned(c.swizzle) > CU_TENSOR_MAP_SWIZZLE_128B) return invalid("%s: swizzle %d is not simulated", call, int(c.swizzle));
    if (unsigned(c.promotion) > CU_TENSOR_MAP_L2_PROMOTION_L2_256B) return invalid("%s: promotion %d", call, int(c.promotion));
    if (unsigned(c.fill) > 1 || (c.fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE && !is_float(c.type))) {
        return invalid("%s: fill %d of type %d", call, int(c.fill), int(c.type));
    }
    if (c.address == nullptr || reinterpret_cast<std::uintptr_t>(c.address) % 16 != 0) {
        return invalid("%s: the address %p is not aligned to 16", call, c.address);
    }
    if (c.size == nullptr || c.element_stride == nullptr || (c.rank > 1 && c.pitch == nullptr)) return invalid("%s: null", call);
    for (u32 d = 0; d < c.rank; d++) {
        if (c.size[d] == 0 || c.size[d] > u64(1) << 31) return invalid("%s: size[%u] is %lu", call, d, c.size[d]);
        if (d + 1 < c.rank && (c.pitch[d] % 16 != 0 || c.pitch[d] >= u64(1) << 40)) {
            return invalid("%s: stride[%u] of %lu bytes is no multiple of 16 below 2^40", call, d, c.pitch[d]);
        }
        if (d > 0 && c.pitch[d - 1] < c.size[d - 1] * (d == 1 ? element_bytes(c.type) : c.pitch[d - 2])) {
            return invalid("%s: stride[%u] of %lu bytes is less than the dimension below it takes", call, d - 1, c.pitch[d - 1]);
        }
        if (d > 0 && (c.element_stride[d] == 0 || c.element_stride[d] > 8)) {
            return invalid("%s: element stride[%u] is %u", call, d, c.element_stride[d]);
        }
    }
    if (inner_bytes % 16 != 0) return invalid("%s: the inner dimension's %lu bytes are no multiple of 16", call, inner_bytes);
    const u64 span = c.swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? ~u64(0) : u64(16) << unsigned(c.swizzle);
    if (inner_bytes > span) return invalid("%s: the inner dimension's %lu bytes exceed the swizzle's %lu", call, inner_bytes, span);

    bits.magic = TensorMapBits::MAGIC;
    bits.rank = std::uint8_t(c.rank);
    bits.element_bytes = std::uint8_t(element_bytes(c.type));
    bits.type = std::uint8_t(c.type);
    bits.swizzle = Swizzle(c.swizzle);
    bits.nan_fill = std::uint8_t(c.fill);
    bits.address = reinterpret_cast<std::uintptr_t>(c.address);
    for (u32 d = 0; d < c.rank; d++) {
        bits.size[d] = u32(c.size[d]);
        bits.element_stride[d] = std::uint8_t(d == 0 ? 1 : c.element_stride[d]); // dimension 0 has none without interleave
        if (d + 1 < c.rank) bits.pitch[d] = c.pitch[d];
    }
    return CUDA_SUCCESS;
}

void store(CUtensorMap* map, const TensorMapBits& bits) {
    std::memset(map, 0, sizeof *map);
    std::memcpy(map, &bits, sizeof bits);
}

} // namespace

} // namespace simt

using namespace simt;

CUDA_API cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* size, const cuuint64_t* pitch, const cuuint32_t* box,
                                const cuuint32_t* element_stride, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    constexpr const char* CALL = "cuTensorMapEncodeTiled";
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (rank == 0 || rank > 5) return invalid("%s: rank %u", CALL, rank);
    if (box == nullptr) return invalid("%s: null", CALL);
    TensorMapBits bits{};
    for (u32 d = 0; d < rank; d++) {
        if (box[d] == 0 || box[d] > 256) return invalid("%s: box[%u] is %u", CALL, d, box[d]);
        bits.box[d] = u16(box[d]);
    }
    const Common common{map, type, rank, address, size, pitch, element_stride, interleave, swizzle, promotion, fill};
    const CUresult result = encode(CALL, common, u64(box[0]) * element_bytes(type), bits);
    if (result == CUDA_SUCCESS) store(map, bits);
    return result;
}

CUDA_API cuTensorMapEncodeIm2col(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                 const cuuint64_t* size, const cuuint64_t* pitch, const int* lower, const int* upper,
                                 cuuint32_t channels, cuuint32_t pixels, const cuuint32_t* element_stride,
                                 CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                 CUtensorMapFloatOOBfill fill) {
    constexpr const char* CALL = "cuTensorMapEncodeIm2col";
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (rank < 3 || rank > 5) return invalid("%s: rank %u", CALL, rank);
    if (lower == nullptr || upper == nullptr || size == nullptr) return invalid("%s: null", CALL);
    if (channels == 0 || channels > 256) return invalid("%s: %u channels a pixel", CALL, channels);
    if (pixels == 0 || pixels > 1024) return invalid("%s: %u pixels a column", CALL, pixels);
    const int limit = rank == 3 ? 32768 : rank == 4 ? 128 : 16;
    TensorMapBits bits{};
    bits.im2col = 1;
    bits.channels = u16(channels);
    bits.pixels = u16(pixels);
    for (u32 d = 0; d + 2 < rank; d++) {
        if (lower[d] < -limit || lower[d] >= limit || upper[d] < -limit || upper[d] >= limit) {
            return invalid("%s: corners %d and %d of dimension %u", CALL, lower[d], upper[d], d + 1);
        }
        // Base pixels lie in [lower, size + upper): there must be some.
        if (std::int64_t(size[d + 1]) + upper[d] <= lower[d]) return invalid("%s: no base pixel in dimension %u", CALL, d + 1);
        bits.lower[d] = std::int16_t(lower[d]);
        bits.upper[d] = std::int16_t(upper[d]);
    }
    const Common common{map, type, rank, address, size, pitch, element_stride, interleave, swizzle, promotion, fill};
    const CUresult result = encode(CALL, common, u64(channels) * element_bytes(type), bits);
    if (result == CUDA_SUCCESS) store(map, bits);
    return result;
}
