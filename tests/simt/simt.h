//! What the emulated ptx.cuh is written on: the running thread, waiting, collectives, policies and failures.
//!
//! A block's threads are fibers of one operating-system thread. Each runs until it waits, so whatever two threads do
//! between two waits happens in one order after the other: the order of SIMT_ORDER. Nothing here is called from two
//! operating-system threads at once; the driver's lock sees to that.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

constexpr u32 WARP = 32;
constexpr u32 WARPGROUP = 128;

// ---- the running thread ----

/// A fiber's place in its block.
struct Thread {
    u32 index;
    u32 lane; // index % 32
    u32 warp; // index / 32
};

/// Where the running block is, and how large it and its grid are.
struct Place {
    u32 block[3];
    u32 grid[3];
    u32 threads;
};

namespace detail {
/// What the running fiber is told of itself; inline, because kernels ask in their innermost loops.
struct Running {
    Thread* thread;
    const Place* place;
    u8* shared;
    u32 shared_bytes;
};
extern Running running;
} // namespace detail

/// The running fiber.
inline Thread& self() { return *detail::running.thread; }
inline const Place& place() { return *detail::running.place; }

/// The block's shared memory: exactly as many bytes as the launch gives, aligned to 1,024, 0xff at first.
inline u8* shared_base() { return detail::running.shared; }
inline u32 shared_bytes() { return detail::running.shared_bytes; }
/// Addresses in the shared window start here and not at 0, so that an uninitialised one does not fit by accident.
constexpr u32 SHARED_WINDOW = 1024;

// ---- waiting ----

/// Runs other fibers until `ready(context)`. It is asked again and again, so it must be cheap; it may do work that is due.
/// `what` names the wait in the report of a deadlock and must outlive it; file and line may be null and 0.
void wait_until(bool (*ready)(void*), void* context, const char* what, const char* file = nullptr, int line = 0);

/// As above, of a function object.
template <class Ready>
void wait_for(Ready ready, const char* what, const char* file = nullptr, int line = 0) {
    wait_until([](void* context) -> bool { return (*static_cast<Ready*>(context))(); }, &ready, what, file, line);
}

/// Registers, for the running block, a function that is asked when none of its fibers can run: it does a piece of
/// outstanding work (a copy that has been put off as long as possible) and says whether it did. It runs outside the fibers.
void on_stall(bool (*advance)(void*), void* context);

/// Barrier `id` of `threads` threads; 0 is the whole block's. All of a warp must come from one call.
void barrier(u32 id, u32 threads, const char* what, const char* file, int line);

/// Waits for the kernels before this one in the stream, where the launch may overlap them.
void grid_wait();

// ---- collectives ----

namespace detail {
void collective(u32 lanes, const char* name, void* mine, void (*all)(void* const*, const void*), const void* context);
template <class Op, u32 N> void together(const char* name, Op& mine, void (*all)(Op* const*)) {
    const auto call = [](void* const* lanes, const void* context) {
        Op* ops[N];
        for (u32 i = 0; i < N; i++) ops[i] = static_cast<Op*>(lanes[i]);
        (*static_cast<void (*const*)(Op* const*)>(context))(ops);
    };
    collective(N, name, &mine, call, &all);
}
} // namespace detail

/// All 32 lanes of the warp hand in their operands; the last to arrive runs `all` on them (by lane) and all go on. The name
/// must be the same in every lane: two collectives that meet are an error.
template <class Op> void warp_collective(const char* name, Op& mine, void (*all)(Op* const lanes[WARP])) {
    detail::together<Op, WARP>(name, mine, all);
}

/// As `warp_collective`, of four warps, the first at a multiple of 4.
template <class Op> void warpgroup_collective(const char* name, Op& mine, void (*all)(Op* const lanes[WARPGROUP])) {
    detail::together<Op, WARPGROUP>(name, mine, all);
}

// ---- state of one's own ----

namespace detail {
struct State {
    virtual ~State() = default;
    virtual void finish() = 0;
};
template <class T> struct StateOf final : State {
    T value{};
    void finish() override {
        if constexpr (requires(T& t) { t.finish(); }) value.finish();
    }
};
using Make = State* (*)();
/// The state that belongs to a key; the address of a `make` function is the key.
State& thread_state(Make make);
State& block_state(Make make);
template <class T> State* make() { return new StateOf<T>; }
} // namespace detail

/// One T a thread, made at its first use and destroyed with the block. Where T has `void finish()`, that is called when the
/// thread ends by itself, within its fiber (so `self` works, and it may `fail`).
template <class T> T& thread_state() { return static_cast<detail::StateOf<T>&>(detail::thread_state(&detail::make<T>)).value; }
/// One T a block; its `finish` is called when all threads have ended, outside the fibers.
template <class T> T& block_state() { return static_cast<detail::StateOf<T>&>(detail::block_state(&detail::make<T>)).value; }

// ---- policies and failures ----

/// Asynchronous work is done as early as possible (at issue) or, if not, as late as the waits permit. SIMT_ASYNC.
bool early();
/// SIMT_DROP names this call: it is to do nothing, and a test is to find that out. The folder of `file` does not count.
bool dropped(const char* file, int line);
/// The device's compute capability times ten. SIMT_ARCH.
u32 arch();
/// The launch fails with the message on standard error; nothing of it runs again. printf's formats.
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char* format, ...);

// ---- entries ----

/// A kernel as its ENTRY declares it.
struct Entry {
    const char* name;
    const char* file;
    u32 args_bytes;
    u32 threads;
    u32 blocks;
    u32 shared_bytes;
    void (*body)(const void* args);
};

/// A static object of this type makes the entry known.
struct Registration {
    explicit Registration(const Entry& entry);
};

/// Null where no file declares it.
const Entry* find_entry(const char* name);

} // namespace simt
