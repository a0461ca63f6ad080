//! What a fiber waits at: conditions, barriers, collectives, the kernels before its own. And simt.h's functions, each of
//! which is the running block's.

#include "block.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace simt {

namespace {

bool same(const char* a, const char* b) { return a == b || (a != nullptr && b != nullptr && std::strcmp(a, b) == 0); }

} // namespace

void Block::wait(const Wait& wait) {
    if (current == nullptr) stop(std::string("a wait outside the fibers: ") + wait.what);
    if (wait.ready(wait.context)) return;
    Fiber& fiber = *current;
    fiber.wait = wait;
    switch_context(fiber.context, scheduler);
}

void Block::arrive(u32 id, u32 threads, const char* what, const char* file, int line) {
    Barrier& barrier = barriers[id];
    if (barrier.arrived == 0) barrier.threads = threads;
    if (barrier.threads != threads) {
        stop("barrier " + std::to_string(id) + " of " + std::to_string(threads) + " threads, where others expect " +
             std::to_string(barrier.threads));
    }
    // `bar.sync` is for whole warps: its threads must come from one instruction.
    Barrier::Site& site = barrier.sites[current->thread.warp];
    if (site.passed != barrier.passed) site = Barrier::Site{barrier.passed, file, line};
    if (site.line != line || !same(site.file, file)) {
        stop(std::string("one warp's threads come to a barrier from ") + site.file + ":" + std::to_string(site.line) +
             " and " + file + ":" + std::to_string(line));
    }

    barrier.arrived++;
    if (barrier.arrived == barrier.threads) {
        barrier.arrived = 0;
        barrier.passed++;
        return;
    }
    // No thread can arrive twice before this one has gone on, so that the count cannot run ahead of a waiter.
    struct Passing {
        const Barrier* barrier;
        u64 before;
    } passing{&barrier, barrier.passed};
    const auto passed = [](void* context) {
        const auto* p = static_cast<const Passing*>(context);
        return p->barrier->passed != p->before;
    };
    wait(Wait{passed, &passing, what, file, line});
}

void Block::meet(u32 lanes, const char* name, void* mine, void (*all)(void* const*, const void*), const void* context) {
    const Thread& thread = current->thread;
    const u32 group = thread.index / lanes;
    auto& meetings = lanes == WARP ? warps : warpgroups;
    if (group >= meetings.size()) stop(std::string(name) + ": this warp has no whole warpgroup");
    Meeting& meeting = meetings[group];
    meeting.lanes.resize(lanes);
    if (meeting.arrived == 0) meeting.name = name;
    if (!same(meeting.name, name)) {
        stop(std::string("a collective of a warp or warpgroup meets another: ") + name + " and " + meeting.name);
    }
    meeting.lanes[thread.index % lanes] = mine;
    meeting.arrived++;
    if (meeting.arrived == lanes) {
        all(meeting.lanes.data(), context);
        meeting.arrived = 0;
        meeting.held++;
        return;
    }
    struct Holding {
        const Meeting* meeting;
        u64 before;
    } holding{&meeting, meeting.held};
    const auto held = [](void* context) {
        const auto* h = static_cast<const Holding*>(context);
        return h->meeting->held != h->before;
    };
    wait(Wait{held, &holding, name, nullptr, 0});
}

void Block::wait_for_grid() {
    waiting_for_grid++;
    const auto released = [](void* context) { return static_cast<const Launch*>(context)->released; };
    wait(Wait{released, const_cast<Launch*>(&launch), "grid_wait", nullptr, 0});
    waiting_for_grid--;
}

// ---- simt.h ----

void wait_until(bool (*ready)(void*), void* context, const char* what, const char* file, int line) {
    Block::active->wait(Block::Wait{ready, context, what, file, line});
}

void on_stall(bool (*advance)(void*), void* context) { Block::active->add_stall(advance, context); }

void barrier(u32 id, u32 threads, const char* what, const char* file, int line) {
    Block::active->arrive(id, threads, what, file, line);
}

void grid_wait() { Block::active->wait_for_grid(); }

void detail::collective(u32 lanes, const char* name, void* mine, void (*all)(void* const*, const void*), const void* context) {
    Block::active->meet(lanes, name, mine, all, context);
}

detail::State& detail::thread_state(Make make) { return Block::active->thread_state(make); }
detail::State& detail::block_state(Make make) { return Block::active->block_state(make); }

void fail(const char* format, ...) {
    char text[2048];
    va_list list;
    va_start(list, format);
    std::vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (Block::active == nullptr) throw Failure{text};
    Block::active->stop(text);
}

} // namespace simt
