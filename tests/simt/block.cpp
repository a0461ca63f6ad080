//! The scheduler of a block's fibers.
//!
//! A fiber runs until it waits for something that is not so yet; then the next in the order that can run does. Threads
//! are thus as far apart as the barriers between them allow, which is what shows a barrier that is missing.

#include "block.h"
#include "options.h"

#include <cstdlib>
#include <cstring>

namespace simt {

namespace detail {
Running running{};
} // namespace detail

Block* Block::active = nullptr;

u64 Random::next() {
    state += 0x9e3779b97f4a7c15u;
    u64 z = state;
    z = (z ^ (z >> 30u)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27u)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31u);
}

Block::Block(const Launch& launch, u64 number)
    : launch(launch), fibers(launch.entry->threads), left(launch.entry->threads),
      random{options().seed * 0x2545f4914f6cdd1du + number} {
    for (u32 d = 0; d < 3; d++) where.grid[d] = launch.grid[d];
    where.block[0] = u32(number % launch.grid[0]);
    where.block[1] = u32(number / launch.grid[0] % launch.grid[1]);
    where.block[2] = u32(number / launch.grid[0] / launch.grid[1]);
    where.threads = left;

    // Exactly as large as it says, so that AddressSanitizer sees what reaches beyond; NaNs where nothing was written.
    void* memory = nullptr;
    if (posix_memalign(&memory, 1024, launch.shared_bytes) != 0) throw Failure{"no memory for a block's shared memory"};
    shared = static_cast<u8*>(memory);
    std::memset(shared, 0xff, launch.shared_bytes);

    for (u32 i = 0; i < left; i++) fibers[i].thread = Thread{i, i % WARP, i / WARP};
    warps.resize(left / WARP);
    warpgroups.resize(left / WARPGROUP);
}

Block::~Block() {
    for (Fiber& fiber : fibers) {
        if (fiber.started) stack_pool().give(fiber.stack);
    }
    std::free(shared);
    if (active == this) active = nullptr;
}

void Block::body(void* block) {
    Block& self = *static_cast<Block*>(block);
    enter_context(self.scheduler);
    Fiber& fiber = *self.current;
    self.launch.entry->body(self.launch.args);
    for (auto& [make, state] : fiber.states) state->finish();
    fiber.ended = true;
    self.left--;
    leave_context(fiber.context, self.scheduler);
}

void Block::resume(Fiber& fiber) {
    if (!fiber.started) {
        fiber.started = true;
        fiber.stack = stack_pool().take();
        prepare(fiber.context, fiber.stack, fiber.thread.index, body, this);
    }
    fiber.wait.ready = nullptr;
    current = &fiber;
    detail::running.thread = &fiber.thread;
    switch_context(scheduler, fiber.context);
    current = nullptr;
    if (failed) throw Failure{failure};
}

bool Block::can_run(Fiber& fiber) {
    if (fiber.ended) return false;
    if (fiber.wait.ready == nullptr) return true;
    detail::running.thread = &fiber.thread; // a condition may ask who waits
    return fiber.wait.ready(fiber.wait.context);
}

/// Runs the lanes of a warp from `first` on, up or down, again and again until none can run: a warp that passes its
/// collectives alone gets as far ahead of the others as the block's barriers let it.
bool Block::run_warp(u32 first, int step) {
    bool ran = false;
    for (bool again = true; again;) {
        again = false;
        for (u32 lane = 0, i = first; lane < WARP; lane++, i += u32(step)) {
            if (!can_run(fibers[i])) continue;
            resume(fibers[i]);
            again = ran = true;
        }
    }
    return ran;
}

bool Block::turn() {
    const auto count = u32(fibers.size());
    bool ran = false;
    switch (options().order) {
    case Order::Forward:
        for (u32 first = 0; first < count; first += WARP) ran = run_warp(first, 1) || ran;
        break;
    case Order::Reverse:
        for (u32 first = count; first > 0; first -= WARP) ran = run_warp(first - 1, -1) || ran;
        break;
    case Order::Random: {
        // From a random fiber on, in random strides, the first that can run, and only that one. A block is whole warps and
        // an odd stride visits all of a power of two; where it is not one, the plain search after it finds the rest.
        const u32 first = random.below(count);
        const u32 stride = random.below(count) | 1u;
        for (u32 i = 0; i < count && !ran; i++) {
            Fiber& fiber = fibers[(first + i * stride) % count];
            ran = can_run(fiber);
            if (ran) resume(fiber);
        }
        for (u32 i = 0; i < count && !ran; i++) {
            ran = can_run(fibers[i]);
            if (ran) resume(fibers[i]);
        }
        break;
    }
    }
    return ran;
}

bool Block::advance() {
    bool any = false;
    for (const auto& [function, context] : stalls) any = function(context) || any;
    return any;
}

bool Block::run() {
    active = this;
    detail::running = detail::Running{nullptr, &where, shared, launch.shared_bytes};
    while (left != 0) {
        if (turn() || advance()) continue;
        if (waiting_for_grid != 0 && !launch.released) return false;
        throw Failure{"deadlock in " + name() + ":\n" + waiting()};
    }
    for (auto& [make, state] : states) state->finish();
    states.clear();
    active = nullptr;
    return true;
}

/// A line for each run of threads that wait for the same thing at the same place.
std::string Block::waiting() const {
    std::string report;
    const auto describe = [](const Fiber& fiber) -> std::string {
        if (fiber.ended) return "ended";
        if (!fiber.started) return "not started";
        std::string text = std::string("waits: ") + fiber.wait.what;
        if (fiber.wait.file != nullptr) text += std::string(" at ") + fiber.wait.file + ":" + std::to_string(fiber.wait.line);
        return text;
    };
    for (size_t first = 0; first < fibers.size();) {
        const std::string text = describe(fibers[first]);
        size_t last = first;
        while (last + 1 < fibers.size() && describe(fibers[last + 1]) == text) last++;
        report += "  threads " + std::to_string(first) + " to " + std::to_string(last) + ": " + text + "\n";
        first = last + 1;
    }
    return report;
}

detail::State& Block::state_in(States& states, detail::Make make) {
    for (auto& [key, state] : states) {
        if (key == make) return *state;
    }
    states.emplace_back(make, std::unique_ptr<detail::State>(make()));
    return *states.back().second;
}

detail::State& Block::thread_state(detail::Make make) {
    // By the thread and not by `current`: a condition that is asked for a fiber runs outside it.
    return state_in(fibers[detail::running.thread->index].states, make);
}

std::string Block::name() const {
    return std::string(launch.entry->name) + ", block (" + std::to_string(where.block[0]) + ", " +
           std::to_string(where.block[1]) + ", " + std::to_string(where.block[2]) + ")";
}

void Block::stop(const std::string& message) {
    if (current == nullptr) throw Failure{name() + ": " + message};
    failure = name() + ", thread " + std::to_string(current->thread.index) + ": " + message;
    failed = true;
    leave_context(current->context, scheduler);
}

} // namespace simt
