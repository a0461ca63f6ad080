//! Reading the options. One that cannot be understood ends the program: a test that runs under another policy than it
//! asked for would prove nothing.

#include "options.h"
#include "simt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace simt {

namespace {

[[noreturn]] void refuse(const char* name, const char* value) {
    std::fprintf(stderr, "simt: %s=%s is not understood; see tests/simt/README.md\n", name, value);
    std::abort();
}

const char* variable(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : nullptr;
}

/// A whole number up to `end`, which is moved behind it.
std::uint64_t number(const char* name, const char* value, const char** end) {
    char* rest = nullptr;
    const std::uint64_t n = std::strtoull(value, &rest, 10);
    if (rest == value) refuse(name, value);
    *end = rest;
    return n;
}

std::uint64_t number_or(const char* name, std::uint64_t otherwise) {
    const char* value = variable(name);
    if (value == nullptr) return otherwise;
    const char* end = nullptr;
    const std::uint64_t n = number(name, value, &end);
    if (*end != '\0') refuse(name, value);
    return n;
}

/// N or N@DEVICE.
void launch_of(const char* name, std::uint64_t* launch, int* device) {
    *launch = 0;
    *device = 0;
    const char* value = variable(name);
    if (value == nullptr) return;
    const char* end = nullptr;
    *launch = number(name, value, &end);
    if (*end == '@') *device = int(number(name, end + 1, &end));
    if (*end != '\0' || *launch == 0) refuse(name, value);
}

} // namespace

void Options::read_machine() {
    const Options standard;
    arch = unsigned(number_or("SIMT_ARCH", standard.arch));
    devices = int(number_or("SIMT_DEVICES", std::uint64_t(standard.devices)));
    memory_bytes = number_or("SIMT_MEMORY", standard.memory_bytes);
    sms = int(number_or("SIMT_SMS", std::uint64_t(standard.sms)));
    driver = int(number_or("SIMT_DRIVER", std::uint64_t(standard.driver)));
    if (arch < 50 || arch > 199) refuse("SIMT_ARCH", variable("SIMT_ARCH"));
    if (sms == 0) refuse("SIMT_SMS", variable("SIMT_SMS"));
}

void Options::read_policies() {
    order = Order::Forward;
    seed = 0;
    if (const char* value = variable("SIMT_ORDER")) {
        const char* end = value + std::strlen(value);
        if (std::strcmp(value, "forward") == 0) {
            order = Order::Forward;
        } else if (std::strcmp(value, "reverse") == 0) {
            order = Order::Reverse;
        } else if (std::strncmp(value, "random:", 7) == 0) {
            order = Order::Random;
            seed = number("SIMT_ORDER", value + 7, &end);
        } else {
            refuse("SIMT_ORDER", value);
        }
        if (*end != '\0') refuse("SIMT_ORDER", value);
    }

    early = true;
    if (const char* value = variable("SIMT_ASYNC")) {
        if (std::strcmp(value, "early") != 0 && std::strcmp(value, "late") != 0) refuse("SIMT_ASYNC", value);
        early = std::strcmp(value, "early") == 0;
    }

    drop_file.clear();
    drop_line = 0;
    if (const char* value = variable("SIMT_DROP")) {
        const char* colon = std::strrchr(value, ':');
        if (colon == nullptr || colon == value) refuse("SIMT_DROP", value);
        const char* end = nullptr;
        drop_line = int(number("SIMT_DROP", colon + 1, &end));
        if (*end != '\0') refuse("SIMT_DROP", value);
        drop_file.assign(value, colon);
    }

    launch_of("SIMT_LOSE", &lose, &lose_device);
    launch_of("SIMT_HANG", &hang, &hang_device);
}

Options& options() {
    static Options instance;
    return instance;
}

bool early() { return options().early; }
u32 arch() { return options().arch; }

bool dropped(const char* file, int line) {
    const Options& o = options();
    if (o.drop_line != line || o.drop_file.empty()) return false;
    const char* slash = std::strrchr(file, '/');
    return o.drop_file == (slash == nullptr ? file : slash + 1);
}

} // namespace simt
