//! Runs the claims of the async_*_test.cpp files: `async_test [TEXT]`, those whose name has TEXT in it.

#include "async_test.h"

#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace claims {

namespace {
struct Named {
    const char* name;
    void (*check)();
};
std::vector<Named>& all() {
    static std::vector<Named> claims;
    return claims;
}
} // namespace

Claim::Claim(const char* name, void (*check)()) { all().push_back({name, check}); }

void refuse(const char* format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    std::vsnprintf(text, sizeof text, format, list);
    va_end(list);
    throw std::runtime_error(text);
}

std::string launch(const Entry& entry, const void* args, u32 blocks) {
    try {
        const u32 size[3] = {blocks, 1, 1};
        Grid grid(entry, args, size, entry.shared_bytes);
        grid.finish();
    } catch (const Failure& failure) {
        return failure.message.empty() ? "failed" : failure.message;
    }
    return "";
}

void under_each_policy(const std::function<void(const char*)>& check) {
    const Options before = options();
    for (const bool early : {true, false}) {
        for (u32 i = 0; i < 4; i++) {
            options().early = early;
            options().order = i == 0 ? Order::Forward : i == 1 ? Order::Reverse : Order::Random;
            options().seed = i;
            const char* names[] = {"forward", "reverse", "random:2", "random:3"};
            try {
                check((std::string(early ? "early " : "late ") + names[i]).c_str());
            } catch (...) {
                options() = before;
                throw;
            }
        }
    }
    options() = before;
}

bool some_policy_refuses(const std::function<bool()>& check) {
    bool refused = false;
    under_each_policy([&](const char*) {
        if (refused) return;
        try {
            refused = !check();
        } catch (const std::runtime_error&) {
            refused = true;
        }
    });
    return refused;
}

std::vector<int> unnoticed_losses(const char* file, int first, int last, const std::function<bool()>& holds) {
    std::ifstream source(file);
    if (!source) refuse("cannot read %s", file);
    const auto may_be_dropped = [](const std::string& text) {
        for (const char* call : {"sync_", "mbarrier_", "cp_async_commit", "cp_async_wait", "copy_commit", "copy_wait", "wgmma_fence",
                                 "wgmma_commit", "wgmma_wait", "fence_"}) {
            if (text.find(std::string("ptx::") + call) != std::string::npos) return true;
        }
        return false;
    };
    const Options before = options();
    std::vector<int> unnoticed;
    std::string text;
    for (int line = 1; std::getline(source, text); line++) {
        if (line < first || line > last || !may_be_dropped(text)) continue;
        const char* slash = std::strrchr(file, '/');
        options().drop_file = slash == nullptr ? file : slash + 1;
        options().drop_line = line;
        if (!some_policy_refuses(holds)) unnoticed.push_back(line);
        options() = before;
    }
    return unnoticed;
}

u16 half(float x, Half type) { return type == Half::F16 ? ptx::f32_to_f16(x) : ptx::f32_to_bf16(x); }
float value(u16 bits, Half type) { return type == Half::F16 ? ptx::f16_to_f32(bits) : ptx::bits_to_f32(u32(bits) << 16); }
float sample(u32 seed) { return float(int((seed * 2654435761u) >> 24 & 31u) - 15) / 8; }

TensorMapBits tiled(const void* address, u32 element_bytes, u32 width, u32 height, u32 box_width, u32 box_height, Swizzle swizzle) {
    TensorMapBits map{};
    map.magic = TensorMapBits::MAGIC;
    map.rank = 2;
    map.element_bytes = u8(element_bytes);
    map.swizzle = swizzle;
    for (u8& stride : map.element_stride) stride = 1;
    map.address = reinterpret_cast<std::uintptr_t>(address);
    map.pitch[0] = u64(width) * element_bytes;
    map.size[0] = width, map.size[1] = height;
    map.box[0] = u16(box_width), map.box[1] = u16(box_height);
    return map;
}

TensorMapBits im2col(const void* address, u32 element_bytes, const u32 (&nhwc)[4], u32 kernel, u32 stride, u32 padding, u32 channels,
                     u32 pixels, Swizzle swizzle) {
    TensorMapBits map{};
    map.magic = TensorMapBits::MAGIC;
    map.rank = 4;
    map.im2col = 1;
    map.element_bytes = u8(element_bytes);
    map.swizzle = swizzle;
    for (u8& each : map.element_stride) each = 1;
    map.element_stride[1] = map.element_stride[2] = u8(stride);
    map.address = reinterpret_cast<std::uintptr_t>(address);
    u64 pitch = element_bytes;
    for (u32 d = 0; d < 4; d++) {
        map.size[d] = nhwc[3 - d];
        if (d > 0) map.pitch[d - 1] = pitch;
        pitch *= map.size[d];
    }
    for (u32 d = 0; d < 2; d++) {
        map.lower[d] = std::int16_t(-int(padding));
        map.upper[d] = std::int16_t(int(padding) - int(kernel - 1));
    }
    map.channels = u16(channels);
    map.pixels = u16(pixels);
    return map;
}

} // namespace claims

int main(int count, char** arguments) {
    int run = 0, broken = 0;
    for (const auto& claim : claims::all()) {
        if (count > 1 && std::strstr(claim.name, arguments[1]) == nullptr) continue;
        run++;
        try {
            claim.check();
            std::printf("ok      %s\n", claim.name);
        } catch (const std::runtime_error& error) {
            broken++;
            std::printf("BROKEN  %s\n        %s\n", claim.name, error.what());
        }
        std::fflush(stdout);
    }
    std::printf("%d claims, %d broken\n", run, broken);
    return broken == 0 && run != 0 ? 0 : 1;
}
