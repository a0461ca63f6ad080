//! What the async_*_test.cpp files share: claims, launches of small kernels under each policy, numbers.
//!
//! A claim throws where it does not hold. Kernels are written as those of the project are, against ptx.cuh; what they ought
//! to give is computed from plain definitions, by loops over the indices of a formula.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "block.h"
#include "grid.h"
#include "options.h"
#include "ptx.cuh"
#include "tensor_map.h"

namespace claims {

using namespace simt;

struct Claim {
    Claim(const char* name, void (*check)());
};

/// `CLAIM(name) { ... }`
#define CLAIM(name)                                                                                                    \
    static void name();                                                                                                \
    static const claims::Claim name##_claim(#name, name);                                                             \
    static void name()

[[noreturn, gnu::format(printf, 1, 2)]] void refuse(const char* format, ...);
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) claims::refuse("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                         \
    } while (false)

std::string launch(const Entry& entry, const void* args, u32 blocks);

/// Runs a kernel and gives what the launch failed with; empty: nothing. BODY is a captureless lambda that takes the args.
template <auto BODY, class Args> std::string run(const Args& args, u32 threads, u32 shared, u32 blocks = 1) {
    const auto body = [](const void* given) { BODY(*static_cast<const Args*>(given)); };
    return launch(Entry{"claim", __FILE__, sizeof(Args), threads, 1, shared, body}, &args, blocks);
}

/// Calls `check` for both times of asynchronous work and several orders of threads, whose name it is told.
void under_each_policy(const std::function<void(const char*)>& check);
/// As above, and puts the policies back: whether any of them makes `check` give false or throw.
bool some_policy_refuses(const std::function<bool()>& check);
/// Leaves out, one after another, each call in `file` between two lines that a mutation may drop, and gives the lines
/// whose loss `holds` does not notice under any policy.
std::vector<int> unnoticed_losses(const char* file, int first, int last, const std::function<bool()>& holds);

/// Whether a failure was met, and says this.
inline bool says(const std::string& failure, const char* text) { return failure.find(text) != std::string::npos; }

u16 half(float x, Half type);
float value(u16 bits, Half type);
/// Small multiples of 1/8, exact in every type, different at each index.
float sample(u32 seed);

/// Maps as the driver would encode them.
TensorMapBits tiled(const void* address, u32 element_bytes, u32 width, u32 height, u32 box_width, u32 box_height, Swizzle swizzle);
/// Of (n, h, w, c) for a convolution, by CUTLASS's rule for the corners.
TensorMapBits im2col(const void* address, u32 element_bytes, const u32 (&nhwc)[4], u32 kernel, u32 stride, u32 padding, u32 channels,
                     u32 pixels, Swizzle swizzle);
inline TensorMap opaque(const TensorMapBits& bits) {
    TensorMap map{};
    std::memcpy(&map, &bits, sizeof bits);
    return map;
}

/// Where a chunk of 16 bytes lies when 128 bytes are swizzled: the ISA's table, whose row r is 0 to 7 XOR r.
inline u32 swizzled_128(u32 row, u32 chunk) { return row * 128 + (chunk ^ row % 8) * 16; }

} // namespace claims
