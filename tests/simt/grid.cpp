//! The order of a launch's blocks, and the registry of entries.

#include "grid.h"
#include "options.h"

#include <cstdlib>
#include <cstring>
#include <numeric>

namespace simt {

namespace {

std::vector<Entry>& entries() {
    static std::vector<Entry> all; // made by the first registration, whichever file's it is
    return all;
}

} // namespace

Registration::Registration(const Entry& entry) { entries().push_back(entry); }

const Entry* find_entry(const char* name) {
    for (const Entry& entry : entries()) {
        if (std::strcmp(entry.name, name) == 0) return &entry;
    }
    return nullptr;
}

Grid::Grid(const Entry& entry, const void* given, const u32 (&grid)[3], u32 shared_bytes) {
    args = std::aligned_alloc(64, (entry.args_bytes + 63u) / 64u * 64u);
    if (args == nullptr) throw Failure{"no memory for a launch's arguments"};
    std::memcpy(args, given, entry.args_bytes);
    launch.entry = &entry;
    launch.args = args;
    launch.shared_bytes = shared_bytes;
    for (u32 d = 0; d < 3; d++) launch.grid[d] = grid[d];
    blocks = u64(grid[0]) * grid[1] * grid[2];
    if (options().order == Order::Random) {
        shuffled.resize(blocks);
        std::iota(shuffled.begin(), shuffled.end(), u64(0));
        Random random{options().seed};
        for (u64 i = blocks; i > 1; i--) std::swap(shuffled[i - 1], shuffled[random.next() % i]);
    }
}

Grid::~Grid() {
    begun.clear(); // they read the arguments
    std::free(args);
}

u64 Grid::take() {
    const u64 i = taken++;
    switch (options().order) {
    case Order::Forward: return i;
    case Order::Reverse: return blocks - 1 - i;
    case Order::Random: return shuffled[i];
    }
    std::abort(); // the cases above are all
}

void Grid::begin() {
    launch.released = false;
    while (taken < blocks && begun.size() < size_t(options().sms)) {
        auto block = std::make_unique<Block>(launch, take());
        if (!block->run()) begun.push_back(std::move(block));
    }
}

void Grid::finish() {
    launch.released = true;
    for (; !begun.empty(); begun.pop_front()) begun.front()->run();
    while (taken < blocks) Block(launch, take()).run();
}

} // namespace simt
