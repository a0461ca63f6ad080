//! Tensor maps: each limit of the driver API's documentation, just kept and just broken.

#include "check.h"

namespace {

using check::Device;

/// A tiled map of a matrix of 16-bit elements that is in order, to be spoilt in one place.
struct Tiled {
    alignas(64) CUtensorMap map{};
    CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    unsigned rank = 2;
    void* address = reinterpret_cast<void*>(0x10000);
    cuuint64_t size[3] = {64, 100, 3};
    cuuint64_t pitch[2] = {128, 12800};
    cuuint32_t box[3] = {64, 128, 1};
    cuuint32_t stride[3] = {1, 1, 1};
    CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
    CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;

    CUresult encode() {
        return cuTensorMapEncodeTiled(&map, type, rank, address, size, pitch, box, stride, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                      CU_TENSOR_MAP_L2_PROMOTION_NONE, fill);
    }
};

/// As `Tiled`, of the pixels of an (N, H, W, C) tensor.
struct Im2col {
    alignas(64) CUtensorMap map{};
    unsigned rank = 4;
    cuuint64_t size[4] = {64, 14, 14, 2};
    cuuint64_t pitch[3] = {128, 1792, 25088};
    int lower[2] = {-1, -1};
    int upper[2] = {-1, -1};
    unsigned channels = 64;
    unsigned pixels = 128;
    cuuint32_t stride[4] = {1, 2, 2, 1};

    CUresult encode() {
        return cuTensorMapEncodeIm2col(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, reinterpret_cast<void*>(0x10000), size, pitch,
                                       lower, upper, channels, pixels, stride, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                       CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                       CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    }
};

/// What becomes of a map that `spoil` has changed.
template <class Map> CUresult with(void (*spoil)(Map&)) {
    Map map;
    spoil(map);
    return map.encode();
}

CLAIM(tiled_maps_are_checked) {
    const Device device;
    const auto tiled = with<Tiled>;
    OK(tiled([](Tiled&) {}));
    OK(tiled([](Tiled& m) { m.box[1] = 256; }));
    OK(tiled([](Tiled& m) { m.rank = 3; }));
    const auto refuses = [](CUresult r) { GIVES(CUDA_ERROR_INVALID_VALUE, r); };
    refuses(tiled([](Tiled& m) { m.address = reinterpret_cast<void*>(0x10008); }));
    refuses(tiled([](Tiled& m) { m.size[1] = 0; }));
    refuses(tiled([](Tiled& m) { m.size[1] = (1ull << 31) + 1; }));
    refuses(tiled([](Tiled& m) { m.pitch[0] = 136; }));
    refuses(tiled([](Tiled& m) { m.pitch[0] = 112; }));
    refuses(tiled([](Tiled& m) { m.box[1] = 257; }));
    refuses(tiled([](Tiled& m) { m.box[1] = 0; }));
    refuses(tiled([](Tiled& m) { m.box[0] = 4; }));
    refuses(tiled([](Tiled& m) { m.box[0] = 72; }));
    refuses(tiled([](Tiled& m) { m.swizzle = CU_TENSOR_MAP_SWIZZLE_64B; }));
    refuses(tiled([](Tiled& m) { m.stride[1] = 9; }));
    refuses(tiled([](Tiled& m) { m.rank = 6; }));
    refuses(tiled([](Tiled& m) {
        m.type = CU_TENSOR_MAP_DATA_TYPE_UINT16;
        m.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
    }));
}

CLAIM(im2col_maps_are_checked) {
    const Device device;
    const auto im2col = with<Im2col>;
    OK(im2col([](Im2col&) {}));
    OK(im2col([](Im2col& m) { m.pixels = 1024; }));
    const auto refuses = [](CUresult r) { GIVES(CUDA_ERROR_INVALID_VALUE, r); };
    refuses(im2col([](Im2col& m) { m.rank = 2; }));
    refuses(im2col([](Im2col& m) { m.pixels = 1025; }));
    refuses(im2col([](Im2col& m) { m.channels = 257; }));
    refuses(im2col([](Im2col& m) { m.channels = 128; }));
    refuses(im2col([](Im2col& m) { m.lower[0] = -129; }));
    refuses(im2col([](Im2col& m) { m.upper[1] = 128; }));
    refuses(im2col([](Im2col& m) { m.upper[0] = -15; }));
}

CLAIM(tensor_maps_need_sm_90, "SIMT_ARCH=89") {
    const Device device(89);
    GIVES(CUDA_ERROR_NOT_SUPPORTED, Tiled{}.encode());
}

} // namespace
