//! What the environment says of the simulated machine and of the order in which it does things; README.md lists it.
#pragma once

#include <cstdint>
#include <string>

namespace simt {

enum class Order { Forward, Reverse, Random };

struct Options {
    // The machine: read by cuInit.
    unsigned arch = 90;
    int devices = 1;
    std::uint64_t memory_bytes = std::uint64_t(8) << 30;
    int sms = 4;
    int driver = 13000;

    // Policies and faults: read at each launch, so that a test may change them.
    Order order = Order::Forward;
    std::uint64_t seed = 0;
    bool early = true;
    std::string drop_file; // empty: nothing is dropped
    int drop_line = 0;
    // Launches are counted from 1 on each device; 0: never.
    std::uint64_t lose = 0;
    int lose_device = 0;
    std::uint64_t hang = 0;
    int hang_device = 0;

    void read_machine();
    void read_policies();
};

/// Those in force. Guarded by the driver's lock.
Options& options();

} // namespace simt
