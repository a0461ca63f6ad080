//! A block's threads and what they wait for.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fiber.h"
#include "simt.h"

namespace simt {

/// Ends a launch; thrown outside the fibers only.
struct Failure {
    std::string message;
};

/// A launch, as far as its blocks see it.
struct Launch {
    const Entry* entry = nullptr;
    const void* args = nullptr; // aligned to 64
    u32 grid[3] = {1, 1, 1};
    u32 shared_bytes = 0;
    bool released = true; // false: the kernels before this one have not finished, and grid_wait waits
};

/// A seeded sequence, the same on every machine (splitmix64).
struct Random {
    u64 state;
    u64 next();
    u32 below(u32 n) { return u32(next() % n); }
};

class Block {
  public:
    struct Wait {
        bool (*ready)(void*) = nullptr; // null: it can run
        void* context = nullptr;
        const char* what = nullptr;
        const char* file = nullptr;
        int line = 0;
    };

    /// `number` is the block's in the grid, x fastest.
    Block(const Launch& launch, u64 number);
    ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    /// The block whose fibers run; null outside them.
    static Block* active;

    /// Runs the fibers until all have ended (true) or no more can run before the launch is released (false). Anything else
    /// that keeps them all waiting is a deadlock, and throws Failure, as whatever fails in them does.
    bool run();

    // What the running fiber calls; simt.h says what each is.
    void wait(const Wait& wait);
    void arrive(u32 id, u32 threads, const char* what, const char* file, int line);
    void meet(u32 lanes, const char* name, void* mine, void (*all)(void* const*, const void*), const void* context);
    void wait_for_grid();
    /// Within a fiber leaves it for ever; outside throws.
    [[noreturn]] void stop(const std::string& message);

    // These may be called outside a fiber too.
    void add_stall(bool (*advance)(void*), void* context) { stalls.emplace_back(advance, context); }
    detail::State& thread_state(detail::Make make);
    detail::State& block_state(detail::Make make) { return state_in(states, make); }

  private:
    using States = std::vector<std::pair<detail::Make, std::unique_ptr<detail::State>>>;
    struct Fiber {
        Thread thread{};
        Context context;
        Stack stack{};
        Wait wait;
        bool started = false;
        bool ended = false;
        States states;
    };
    struct Barrier {
        u32 threads = 0;
        u32 arrived = 0;
        u64 passed = 0; // times that it has opened
        // For each warp, when and where its first thread came.
        struct Site {
            u64 passed = ~u64(0);
            const char* file = nullptr;
            int line = 0;
        };
        Site sites[32];
    };
    /// A collective that lanes are arriving at.
    struct Meeting {
        const char* name = nullptr;
        u32 arrived = 0;
        u64 held = 0;
        std::vector<void*> lanes;
    };

    static void body(void* block);
    void resume(Fiber& fiber);
    bool can_run(Fiber& fiber);
    /// Lets fibers run; false where none could.
    bool run_warp(u32 first, int step);
    bool turn();
    bool advance();
    std::string waiting() const;
    std::string name() const;
    static detail::State& state_in(States& states, detail::Make make);

    const Launch& launch;
    Place where{};
    u8* shared = nullptr;
    std::vector<Fiber> fibers;
    u32 left;
    Fiber* current = nullptr; // null while the scheduler runs
    Context scheduler;
    Barrier barriers[16];
    std::vector<Meeting> warps;
    std::vector<Meeting> warpgroups;
    std::vector<std::pair<bool (*)(void*), void*>> stalls;
    States states;
    Random random;
    u32 waiting_for_grid = 0; // fibers within grid_wait
    std::string failure;      // what the fiber that failed said
    bool failed = false;
};

} // namespace simt
