//! Claims about the copy engine: boxes of tiled and im2col tensors, swizzles, when copies land and what is refused.

#include "async_test.h"

#include <cstdlib>

using namespace claims;

namespace {

struct Load {
    TensorMap map;
    u8* out;     // all of shared memory but the barrier's 1,024 bytes at its start
    int at[4];   // x, y or c, w, h, n
    u16 shift[2];
    u32 bytes;   // that the copy is to bring
    u32 offset;  // of the destination, after the first 1,024
};

/// One thread loads one box, waits and copies shared memory out.
void load_box(const Load& load) {
    auto* barrier = static_cast<ptx::u64*>(ptx::shared_memory());
    u8* box = static_cast<u8*>(ptx::shared_memory()) + 1024;
    if (ptx::thread() != 0) return;
    ptx::mbarrier_init(barrier, 1);
    ptx::mbarrier_init_fence();
    ptx::tma_prefetch_map(&load.map);
    TensorMapBits bits;
    std::memcpy(&bits, &load.map, sizeof bits);
    ptx::mbarrier_arrive_expect(barrier, load.bytes);
    if (bits.im2col) {
        ptx::tma_load_im2col(box + load.offset, &load.map, barrier, load.at[0], load.at[1], load.at[2], load.at[3], load.shift[0],
                             load.shift[1]);
    } else {
        ptx::tma_load_2d(box + load.offset, &load.map, barrier, load.at[0], load.at[1]);
    }
    ptx::mbarrier_wait(barrier, 0);
    std::memcpy(load.out, box, simt::shared_bytes() - 1024);
}

std::vector<u16> numbered(u32 count) {
    std::vector<u16> x(count);
    for (u32 i = 0; i < count; i++) x[i] = u16(i % 65521 + 1); // never 0, which is out of bounds
    return x;
}

/// A tensor at the alignment of device memory.
struct Tensor {
    u16* at;
    u32 count;
    explicit Tensor(u32 count) : at(static_cast<u16*>(std::aligned_alloc(256, (count * 2 + 255) / 256 * 256))), count(count) {
        std::memcpy(at, numbered(count).data(), count * 2);
    }
    ~Tensor() { std::free(at); }
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;
};

} // namespace

CLAIM(a_tiled_box_is_zero_where_it_leaves_the_tensor) {
    under_each_policy([](const char*) {
        const Tensor tensor(40 * 11);
        for (const int x : {-8, 0, 16, 32, 48}) {
            for (const int y : {-3, 0, 7, 20}) {
                std::vector<u16> out(16 * 8);
                const TensorMap map = opaque(tiled(tensor.at, 2, 40, 11, 16, 8, Swizzle::None));
                EXPECT((run<load_box>(Load{map, (u8*)out.data(), {x, y}, {}, 256, 0}, 32, 1024 + 256).empty()));
                for (int r = 0; r < 8; r++) {
                    for (int i = 0; i < 16; i++) {
                        const bool inside = x + i >= 0 && x + i < 40 && y + r >= 0 && y + r < 11;
                        EXPECT(out[r * 16 + i] == (inside ? tensor.at[(y + r) * 40 + x + i] : 0));
                    }
                }
            }
        }
    });
}

CLAIM(an_element_stride_leaves_out_rows_of_a_tiled_box) {
    const Tensor tensor(8 * 20);
    TensorMapBits bits = tiled(tensor.at, 2, 8, 20, 8, 7, Swizzle::None);
    bits.element_stride[1] = 3; // rows 0, 3 and 6 of 7
    std::vector<u16> out(8 * 3);
    EXPECT((run<load_box>(Load{opaque(bits), (u8*)out.data(), {0, 2}, {}, 48, 0}, 32, 1024 + 48).empty()));
    for (u32 r = 0; r < 3; r++) {
        for (u32 i = 0; i < 8; i++) EXPECT(out[r * 8 + i] == tensor.at[(2 + 3 * r) * 8 + i]);
    }
}

CLAIM(swizzles_follow_the_isas_tables) {
    // "Swizzling Modes": which chunk of 16 bytes lies at each place of each 128-byte line, from the pattern's boundary on.
    const u32 b32[2][8] = {{0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6}};
    const u32 b64[4][8] = {{0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6}, {2, 3, 0, 1, 6, 7, 4, 5}, {3, 2, 1, 0, 7, 6, 5, 4}};
    const u32 b128[8][8] = {{0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6}, {2, 3, 0, 1, 6, 7, 4, 5}, {3, 2, 1, 0, 7, 6, 5, 4},
                            {4, 5, 6, 7, 0, 1, 2, 3}, {5, 4, 7, 6, 1, 0, 3, 2}, {6, 7, 4, 5, 2, 3, 0, 1}, {7, 6, 5, 4, 3, 2, 1, 0}};
    const struct {
        Swizzle swizzle;
        u32 span, lines;
        const u32 (*table)[8];
    } modes[] = {{Swizzle::B32, 32, 2, b32}, {Swizzle::B64, 64, 4, b64}, {Swizzle::B128, 128, 8, b128}};
    for (const auto& mode : modes) {
        const u32 width = mode.span / 2, rows = 2048 / mode.span;
        const Tensor tensor(width * rows);
        const TensorMap map = opaque(tiled(tensor.at, 2, width, rows, width, rows, mode.swizzle));
        // At a boundary, and 128 bytes after one, where the pattern goes on by address ("swizzle base offset").
        for (const u32 offset : {0u, 128u}) {
            std::vector<u16> out(1024 + 512);
            EXPECT((run<load_box>(Load{map, (u8*)out.data(), {0, 0}, {}, 2048, offset}, 32, 1024 + 3072).empty()));
            for (u32 line = 0; line < 16; line++) {
                for (u32 place = 0; place < 8; place++) {
                    const u32 chunk = line * 8 + mode.table[(line + offset / 128) % mode.lines][place];
                    for (u32 i = 0; i < 8; i++) EXPECT(out[offset / 2 + line * 64 + place * 8 + i] == tensor.at[chunk * 8 + i]);
                }
            }
        }
    }
}

CLAIM(im2col_gives_each_output_pixels_tap) {
    const struct {
        u32 n, h, w, kernel, stride, padding;
    } convs[] = {{3, 7, 5, 3, 1, 1}, {3, 9, 8, 3, 2, 1}, {2, 8, 8, 3, 2, 1}, {2, 15, 13, 7, 2, 3}, {4, 7, 7, 1, 1, 0},
                 {3, 8, 6, 1, 2, 0}, {3, 7, 9, 1, 2, 0}, {5, 4, 4, 3, 1, 1}, {1, 11, 6, 5, 3, 2}, {2, 6, 7, 3, 1, 0}};
    const u32 c = 128, channels = 64, pixels = 32;
    for (const auto& conv : convs) {
        const u32 out_h = (conv.h + 2 * conv.padding - conv.kernel) / conv.stride + 1;
        const u32 out_w = (conv.w + 2 * conv.padding - conv.kernel) / conv.stride + 1;
        const u32 total = conv.n * out_h * out_w;
        const Tensor tensor(conv.n * conv.h * conv.w * c);
        const TensorMap map = opaque(im2col(tensor.at, 2, {conv.n, conv.h, conv.w, c}, conv.kernel, conv.stride, conv.padding, channels,
                                            pixels, Swizzle::B128));
        const auto check = [&](u32 first, u32 u, u32 v, u32 c0) {
            std::vector<u8> out(pixels * 128);
            Load load{map, out.data(), {int(c0)}, {u16(v), u16(u)}, pixels * 128, 0};
            load.at[1] = int(first % out_w * conv.stride) - int(conv.padding);
            load.at[2] = int(first / out_w % out_h * conv.stride) - int(conv.padding);
            load.at[3] = int(first / out_w / out_h);
            const std::string failure = run<load_box>(load, 32, 1024 + pixels * 128);
            EXPECT(failure.empty());
            for (u32 p = 0; p < pixels; p++) {
                const u32 pixel = first + p; // past the last, the images have ended: zeros
                const int x = int(pixel % out_w * conv.stride + v) - int(conv.padding);
                const int y = int(pixel / out_w % out_h * conv.stride + u) - int(conv.padding);
                const u32 n = pixel / out_w / out_h;
                const bool inside = n < conv.n && x >= 0 && x < int(conv.w) && y >= 0 && y < int(conv.h);
                for (u32 i = 0; i < channels; i++) {
                    u16 got;
                    std::memcpy(&got, &out[swizzled_128(p, i / 8) + i % 8 * 2], 2);
                    EXPECT(got == (inside ? tensor.at[((n * conv.h + u32(y)) * conv.w + u32(x)) * c + c0 + i] : 0));
                }
            }
        };
        under_each_policy([&](const char* name) {
            const bool all = std::strcmp(name, "late forward") == 0;
            for (u32 first = 0; first < total; first += all ? pixels : total) {
                for (u32 tap = 0; tap < conv.kernel * conv.kernel; tap += all ? 1 : 4) check(first, tap / conv.kernel, tap % conv.kernel, 64);
            }
            check(total - 1, 0, 0, 0); // a tile of which one pixel is left
        });
    }
}

CLAIM(im2col_is_as_measured_on_a_device) {
    // Triton's tutorial 13-conv-im2col.py asserts these of a Hopper: two images of 4x4 pixels numbered from 1, corners
    // (-1, -1) and (-1, -1), 16 pixels of 32 floats from (h 1, w 2) on; and from (-1, -1) with offsets (1, 1) or none.
    auto* images = static_cast<float*>(std::aligned_alloc(256, 2 * 16 * 32 * 4));
    for (u32 i = 0; i < 2 * 16 * 32; i++) images[i] = float(i / 32 + 1);
    const TensorMapBits bits = im2col(images, 4, {2, 4, 4, 32}, 3, 1, 1, 32, 16, Swizzle::B128);
    const auto first_channel = [&](int w, int h, u16 shift) {
        std::vector<float> out(16 * 32), channel(16);
        EXPECT((run<load_box>(Load{opaque(bits), (u8*)out.data(), {0, w, h, 0}, {shift, shift}, 2048, 0}, 32, 1024 + 2048).empty()));
        for (u32 i = 0; i < 16; i++) channel[i] = out[swizzled_128(i, 0) / 4];
        return channel;
    };
    EXPECT((first_channel(2, 1, 0) == std::vector<float>{7, 0, 9, 10, 11, 0, 0, 0, 0, 0, 17, 18, 19, 0, 21, 22}));
    EXPECT((first_channel(-1, -1, 0) == std::vector<float>{0, 0, 0, 0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11}));
    EXPECT((first_channel(-1, -1, 1) == std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}));
    std::free(images);
}

CLAIM(a_destination_holds_nans_until_its_copy_is_waited_for) {
    const Tensor tensor(64);
    std::vector<u16> out(64);
    const TensorMap map = opaque(tiled(tensor.at, 2, 64, 1, 64, 1, Swizzle::None));
    const auto peek = [&] {
        EXPECT((run<[](const Load& load) {
            auto* barrier = static_cast<ptx::u64*>(ptx::shared_memory());
            if (ptx::thread() != 0) return;
            ptx::mbarrier_init(barrier, 1);
            ptx::mbarrier_init_fence();
            ptx::tma_load_2d(barrier + 128, &load.map, barrier, 0, 0); // bytes may come before they are expected
            std::memcpy(load.out, barrier + 128, 128);
            ptx::mbarrier_arrive_expect(barrier, 128);
            ptx::mbarrier_wait(barrier, 0);
        }>(Load{map, (u8*)out.data(), {}, {}, 0, 0}, 32, 1024 + 128).empty()));
    };
    peek();
    EXPECT(out[0] == tensor.at[0]);
    const Options before = options();
    options().early = false;
    peek();
    options() = before;
    EXPECT(out[0] == 0xffff && out[63] == 0xffff);
}

CLAIM(tensor_copies_are_refused_where_they_are_undefined_or_not_modelled) {
    const Tensor tensor(4096);
    const TensorMapBits plain = tiled(tensor.at, 2, 64, 64, 64, 8, Swizzle::B128);
    const auto attempt = [&](const TensorMapBits& bits, const Load& load) {
        Load copy = load;
        copy.map = opaque(bits);
        std::vector<u8> out(4096);
        copy.out = out.data();
        return run<load_box>(copy, 32, 1024 + 2048);
    };
    const Load good{{}, nullptr, {}, {}, 1024, 0};
    EXPECT(attempt(plain, good).empty());
    TensorMapBits bits = plain;
    bits.magic = 0;
    EXPECT(says(attempt(bits, good), "no tensor map"));
    bits = plain;
    bits.box[0] = 32;
    EXPECT(says(attempt(bits, good), "swizzled by 128"));
    bits = plain;
    bits.box[1] = 17;
    EXPECT(says(attempt(bits, good), "not 2176 bytes of shared memory"));
    Load load = good;
    load.offset = 64;
    EXPECT(says(attempt(plain, load), "not aligned to 128"));
    load = good;
    load.bytes = 1023; // one byte comes unasked: the phase never ends
    EXPECT(says(attempt(plain, load), "deadlock"));

    const TensorMapBits images = im2col(tensor.at, 2, {1, 8, 8, 64}, 3, 2, 1, 64, 8, Swizzle::B128);
    load = good;
    load.at[1] = load.at[2] = -1;
    EXPECT(attempt(images, load).empty());
    load.at[1] = 0;
    EXPECT(says(attempt(images, load), "off the strides"));
    load.at[1] = 7;
    EXPECT(says(attempt(images, load), "outside the bounding box"));
    load.at[1] = -1;
    load.shift[0] = 256;
    EXPECT(says(attempt(images, load), "at most 255"));
}

namespace {

/// What a thread may forget before a tensor copy.
template <bool INIT_FENCE, bool PROXY_FENCE> void load_after_a_write(const Load& load) {
    auto* barrier = static_cast<ptx::u64*>(ptx::shared_memory());
    if (ptx::thread() != 0) return;
    ptx::mbarrier_init(barrier, 1);
    if (INIT_FENCE) ptx::mbarrier_init_fence();
    barrier[130] = 0;
    if (PROXY_FENCE) ptx::fence_proxy_async();
    ptx::mbarrier_arrive_expect(barrier, 128);
    ptx::tma_load_2d(barrier + 128, &load.map, barrier, 0, 0);
    ptx::mbarrier_wait(barrier, 0);
}

} // namespace

CLAIM(tensor_copies_need_both_fences) {
    const Tensor tensor(64);
    const Load load{opaque(tiled(tensor.at, 2, 64, 1, 64, 1, Swizzle::None)), nullptr, {}, {}, 0, 0};
    under_each_policy([&](const char*) {
        EXPECT((run<load_after_a_write<true, true>>(load, 32, 2048).empty()));
        EXPECT(says(run<load_after_a_write<false, true>>(load, 32, 2048), "mbarrier_init_fence"));
        EXPECT(says(run<load_after_a_write<true, false>>(load, 32, 2048), "fence_proxy_async"));
    });
}

CLAIM(a_block_does_not_end_before_its_copies) {
    const Tensor tensor(64);
    const Load load{opaque(tiled(tensor.at, 2, 64, 1, 64, 1, Swizzle::None)), nullptr, {}, {}, 0, 0};
    const auto forget = [&] {
        return run<[](const Load& load) {
            auto* barrier = static_cast<ptx::u64*>(ptx::shared_memory());
            if (ptx::thread() != 0) return;
            ptx::mbarrier_init(barrier, 1);
            ptx::mbarrier_init_fence();
            ptx::tma_load_2d(barrier + 128, &load.map, barrier, 0, 0);
        }>(load, 32, 2048);
    };
    under_each_policy([&](const char*) { EXPECT(!forget().empty()); });
}
