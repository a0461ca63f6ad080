//! Claims about the project's convolutions on tensor cores: right under each policy, and with no barrier, fence or wait that
//! could be lost without notice.
//!
//! Inputs are small multiples of 1/8, so that sums are exact in any order and results must be equal to the last bit.

#include "async_test.h"

#include <conv2d.cuh>
#include <cstdlib>

using namespace claims;

namespace {

/// As kernels/conv2d_wgmma.cu has it.
struct Conv2dWgmmaArgs {
    TensorMap weights, pixels;
    Conv2dArgs conv;
};

struct Shape {
    u32 n, h, w, c, o, kernel, stride, padding;
    bool residual, relu;
    u32 splits;
};

u32 round_up(u32 x, u32 to) { return (x + to - 1) / to * to; }

template <class T> T* device(u32 count) {
    void* at = std::aligned_alloc(256, round_up(std::max(count, 1u) * u32(sizeof(T)), 256));
    std::memset(at, 0xff, round_up(std::max(count, 1u) * u32(sizeof(T)), 256));
    return static_cast<T*>(at);
}

/// A convolution of samples, and its exact result rounded once.
struct Problem {
    Shape shape;
    Half type;
    u32 out_h, out_w, pixels;
    u16 *x, *w, *residual, *y;
    float *bias, *partial;
    u32* tickets;
    std::vector<u16> expected;

    Problem(Shape s, Half type) : shape(s), type(type) {
        out_h = (s.h + 2 * s.padding - s.kernel) / s.stride + 1, out_w = (s.w + 2 * s.padding - s.kernel) / s.stride + 1;
        pixels = s.n * out_h * out_w;
        const u32 taps = s.kernel * s.kernel, depth = taps * s.c;
        x = device<u16>(s.n * s.h * s.w * s.c), w = device<u16>(s.o * depth), residual = device<u16>(pixels * s.o);
        y = device<u16>(pixels * s.o), bias = device<float>(s.o);
        partial = device<float>(s.splits * pixels * s.o), tickets = device<u32>(4096);
        for (u32 i = 0; i < s.n * s.h * s.w * s.c; i++) x[i] = half(sample(i), type);
        for (u32 i = 0; i < s.o * depth; i++) w[i] = half(sample(i + 1234567), type);
        for (u32 i = 0; i < pixels * s.o; i++) residual[i] = half(sample(i + 7), type);
        for (u32 i = 0; i < s.o; i++) bias[i] = sample(i + 99);
        std::memset(tickets, 0, 4096 * sizeof(u32));

        std::vector<float> xf(s.n * s.h * s.w * s.c), wf(s.o * depth);
        for (u32 i = 0; i < xf.size(); i++) xf[i] = value(x[i], type);
        for (u32 i = 0; i < wf.size(); i++) wf[i] = value(w[i], type);
        for (u32 p = 0; p < pixels; p++) {
            for (u32 k = 0; k < s.o; k++) {
                float sum = 0;
                for (u32 t = 0; t < taps; t++) {
                    const int iy = int(p / out_w % out_h * s.stride + t / s.kernel) - int(s.padding);
                    const int ix = int(p % out_w * s.stride + t % s.kernel) - int(s.padding);
                    if (iy < 0 || ix < 0 || iy >= int(s.h) || ix >= int(s.w)) continue;
                    const float* a = &xf[((p / out_w / out_h * s.h + u32(iy)) * s.w + u32(ix)) * s.c];
                    const float* b = &wf[(k * taps + t) * s.c];
                    for (u32 i = 0; i < s.c; i++) sum += a[i] * b[i];
                }
                sum += bias[k] + (s.residual ? value(residual[p * s.o + k], type) : 0);
                expected.push_back(half(s.relu && !(sum > 0) ? 0 : sum, type));
            }
        }
    }
    ~Problem() {
        for (void* at : {(void*)x, (void*)w, (void*)residual, (void*)y, (void*)bias, (void*)partial, (void*)tickets}) std::free(at);
    }
    Problem(const Problem&) = delete;

    Conv2dArgs args() const {
        const Shape& s = shape;
        return Conv2dArgs{x, y, w, bias, s.residual ? residual : nullptr, s.splits > 1 ? partial : nullptr,
                          s.splits > 1 ? tickets : nullptr, s.n, s.h, s.w, s.c, out_h, out_w, s.o, s.kernel, s.kernel, s.stride,
                          s.padding, out_h, out_w, s.o, 1, 0, s.splits, s.relu};
    }

    /// Launches an entry and gives what is wrong with the result; empty: nothing.
    std::string outcome(const char* entry, const void* given, const u32 (&blocks)[3]) {
        std::memset(y, 0xff, pixels * shape.o * 2);
        std::memset(tickets, 0, 4096 * sizeof(u32)); // one that failed may have left them
        const Entry* found = find_entry(entry);
        if (found == nullptr) return std::string("no entry ") + entry;
        try {
            Grid grid(*found, given, blocks, found->shared_bytes);
            grid.finish();
        } catch (const Failure& failure) {
            return failure.message;
        }
        for (u32 i = 0; i < pixels * shape.o; i++) {
            if (y[i] != expected[i]) {
                char text[200];
                std::snprintf(text, sizeof text, "%s: y[pixel %u, channel %u] is %g, not %g", entry, i / shape.o, i % shape.o,
                              value(y[i], type), value(expected[i], type));
                return text;
            }
        }
        for (u32 i = 0; i < 4096; i++) {
            if (tickets[i] != 0) return "a ticket is left";
        }
        return "";
    }

    std::string by_warpgroups(const char* variant, u32 tile_pixels, u32 tile_channels, u32 most_blocks) {
        const Shape& s = shape;
        const u32 turns = divide_up(pixels, tile_pixels) * divide_up(s.o, tile_channels) * s.splits;
        const Conv2dWgmmaArgs given{opaque(tiled(w, 2, s.kernel * s.kernel * s.c, s.o, 64, tile_channels, Swizzle::B128)),
                                    opaque(im2col(x, 2, {s.n, s.h, s.w, s.c}, s.kernel, s.stride, s.padding, 64, tile_pixels, Swizzle::B128)),
                                    args()};
        const std::string entry = std::string("conv2d_wgmma_") + variant + (type == Half::F16 ? "_f16" : "_bf16");
        return outcome(entry.c_str(), &given, {std::min(turns, most_blocks), 1, 1});
    }

    std::string by_warps(const char* variant, u32 tile_pixels, u32 tile_channels) {
        const Conv2dArgs given = args();
        const std::string entry = std::string("conv2d_mma_") + variant + (type == Half::F16 ? "_f16" : "_bf16");
        return outcome(entry.c_str(), &given, {divide_up(pixels, tile_pixels), divide_up(shape.o, tile_channels), shape.splits});
    }
};

std::string by_warpgroups(Problem& problem, u32 variant, u32 blocks) {
    if (variant == 0) return problem.by_warpgroups("large", 256, 128, blocks);
    if (variant == 1) return problem.by_warpgroups("wide", 128, 128, blocks);
    return problem.by_warpgroups("narrow", 256, 64, blocks);
}

std::string by_warps(Problem& problem, u32 variant) {
    if (variant == 0) return problem.by_warps("large", 128, 128);
    if (variant == 1) return problem.by_warps("tall", 128, 64);
    return problem.by_warps("small", 64, 64);
}

const Shape shapes[] = {
    {2, 14, 14, 64, 136, 3, 1, 1, true, true, 1},  {3, 15, 13, 64, 72, 3, 2, 1, false, true, 1}, {2, 9, 9, 128, 128, 1, 1, 0, true, false, 1},
    {2, 13, 12, 64, 64, 1, 2, 0, false, false, 1}, {1, 12, 12, 64, 128, 3, 1, 1, true, true, 3}, {9, 7, 7, 64, 64, 3, 1, 1, true, true, 1},
};

/// What a barrier's loss is looked for with: several turns a block, several stages round, a residual; and parts.
const Shape whole = {3, 14, 14, 64, 192, 3, 1, 1, true, true, 1};
const Shape parts = {2, 14, 14, 64, 128, 3, 1, 1, true, true, 2};

/// Fails unless so many losses in a file go unnoticed.
void expect_noticed(const char* file, size_t unnoticed, const std::function<bool()>& holds) {
    std::string lines;
    const std::vector<int> all = unnoticed_losses(file, 1, 100000, holds);
    for (const int line : all) lines += " " + std::to_string(line);
    if (all.size() != unnoticed) refuse("%zu not noticed where lost, not %zu: lines%s of %s", all.size(), unnoticed, lines.c_str(), file);
}

} // namespace

CLAIM(conv2d_wgmma_is_exact_under_each_policy) {
    for (const Shape& shape : shapes) {
        for (const Half type : {Half::F16, Half::BF16}) {
            Problem problem(shape, type);
            u32 turn = 0;
            under_each_policy([&](const char* policy) { // each variant meets some policies with each shape
                const std::string wrong = by_warpgroups(problem, turn % 3, 1 + turn % 4);
                turn++;
                if (!wrong.empty()) refuse("%s: %s", policy, wrong.c_str());
            });
        }
    }
}

CLAIM(conv2d_mma_is_exact_under_each_policy) {
    for (const Shape& shape : shapes) {
        Problem problem(shape, shape.h % 2 != 0 ? Half::F16 : Half::BF16);
        u32 turn = 0;
        under_each_policy([&](const char* policy) {
            const std::string wrong = by_warps(problem, turn++ % 3);
            if (!wrong.empty()) refuse("%s: %s", policy, wrong.c_str());
        });
    }
}

// Blocks run one after another here, so what orders a block's sums before its ticket, for others to read, has no effect:
// one barrier of join_parts in each file.
CLAIM(no_loss_in_conv2d_wgmma_goes_unnoticed_within_a_block) {
    Problem one(whole, Half::F16), two(parts, Half::BF16);
    expect_noticed(KERNELS "/conv2d_wgmma.cu", 1, [&] {
        for (u32 variant = 0; variant < 3; variant++) {
            if (!by_warpgroups(one, variant, 2).empty() || !by_warpgroups(two, variant, 3).empty()) return false;
        }
        return true;
    });
}

CLAIM(no_loss_in_conv2d_mma_goes_unnoticed_within_a_block) {
    Problem one(whole, Half::F16), two(parts, Half::BF16);
    const auto holds = [&] {
        for (u32 variant = 0; variant < 3; variant++) {
            if (!by_warps(one, variant).empty() || !by_warps(two, variant).empty()) return false;
        }
        return true;
    };
    expect_noticed(KERNELS "/conv2d_mma.cu", 0, holds);
    expect_noticed(KERNELS "/conv2d_epilogue.cuh", 0, holds);
    expect_noticed(KERNELS "/conv2d_parts.cuh", 1, holds);
}
