//! mbarriers (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier").
//!
//! "Contents of the mbarrier object": the phase, the pending arrivals (0 to 2^20 - 1), the arrivals expected in the next
//! phase (1 to 2^20 - 1), the tx-count (-(2^20 - 1) to 2^20 - 1). They are kept in the object's own 8 bytes of shared
//! memory, whose format the ISA leaves open, so that a kernel that writes over them shows. A phase completes when the
//! pending arrivals and the tx-count are both 0 ("Phase Completion"); the tx-count may be below 0 before that, where bytes
//! arrive before they are expected.

#include "mbarrier.h"
#include "ptx.cuh"

#include <cstring>

namespace simt {
namespace {

constexpr u32 LIMIT = (1u << 20) - 1;

/// Neither zeros nor the 0xff of fresh memory are a valid state.
struct State {
    u32 phase = 0;    // its parity
    bool seen = true; // a wait has found the phase before this one complete
    u32 expected = 0;
    u32 pending = 0;
    int tx = 0;

    u64 pack() const {
        return u64(phase) | u64(seen) << 1 | u64(expected) << 2 | u64(pending) << 22 | u64(u32(tx) & 0x1fffffu) << 42;
    }
};

State read(const u64* at, const char* name) {
    const u64 word = *at;
    const State state{u32(word & 1), (word >> 1 & 1) != 0, u32(word >> 2) & LIMIT, u32(word >> 22) & LIMIT,
                      int(u32(word >> 42) << 11) >> 11};
    if (word >> 63 != 0 || state.expected == 0) fail("%s: the mbarrier at %p was not initialised, or written over", name, (const void*)at);
    return state;
}

/// Completes the phase if its conditions are met.
void write(u64* at, State state) {
    if (state.pending == 0 && state.tx == 0) {
        state.phase ^= 1u;
        state.pending = state.expected;
        state.seen = false;
    }
    *at = state.pack();
}

u64* locate(void* barrier, const char* name) {
    require(90, name);
    return reinterpret_cast<u64*>(shared_base() + shared_offset(barrier, 8, 8, name));
}

void move_tx(State& state, long long bytes, const char* name) {
    const long long tx = state.tx + bytes;
    if (tx > LIMIT || tx < -(long long)LIMIT) fail("%s: a tx-count of %lld is out of range", name, tx);
    state.tx = int(tx);
}

/// "For each phase at least one test_wait or try_wait must return true before an arrive-on operation in the next."
void arrive(State& state, const char* name) {
    if (!state.seen) fail("%s: no thread has waited for the phase before this one", name);
    if (state.pending == 0) fail("%s: more arrivals than the %u that the phase expects", name, state.expected);
    state.pending--;
}

} // namespace

Mbarriers::Known* Mbarriers::find(const void* at) {
    for (Known& barrier : known) {
        if (barrier.at == at) return &barrier;
    }
    return nullptr;
}

/// Bytes that were expected and never came, or came and were never expected.
void Mbarriers::finish() {
    for (const Known& barrier : known) {
        const State state = read(barrier.at, "a block's end");
        if (state.tx != 0) fail("a block's end: an mbarrier still has a tx-count of %d", state.tx);
    }
}

void mbarrier_init(void* barrier, u32 arrivals) {
    u64* at = locate(barrier, "mbarrier_init");
    if (arrivals == 0 || arrivals > LIMIT) fail("mbarrier_init: %u arrivals", arrivals);
    Mbarriers& barriers = block_state<Mbarriers>();
    if (barriers.find(at) != nullptr) fail("mbarrier_init: %p is an mbarrier already", barrier);
    barriers.known.push_back({at, self().index, false});
    *at = State{0, true, arrivals, arrivals, 0}.pack();
}

void mbarrier_init_fence() {
    require(90, "mbarrier_init_fence");
    for (auto& barrier : block_state<Mbarriers>().known) {
        if (barrier.owner == self().index) barrier.fenced = true;
    }
}

void mbarrier_arrive(void* barrier) {
    u64* at = locate(barrier, "mbarrier_arrive");
    State state = read(at, "mbarrier_arrive");
    arrive(state, "mbarrier_arrive");
    write(at, state);
}

/// Expects first and arrives then, so that the arrival cannot complete the phase without the bytes.
void mbarrier_arrive_expect(void* barrier, u32 bytes) {
    u64* at = locate(barrier, "mbarrier_arrive_expect");
    State state = read(at, "mbarrier_arrive_expect");
    move_tx(state, bytes, "mbarrier_arrive_expect");
    arrive(state, "mbarrier_arrive_expect");
    write(at, state);
}

/// try_wait.parity asks for the current phase, which is incomplete, or the one before it, which is complete.
void mbarrier_wait(void* barrier, u32 parity, Site site) {
    u64* at = locate(barrier, "mbarrier_wait");
    if (parity > 1) fail("mbarrier_wait: a parity of %u", parity);
    read(at, "mbarrier_wait");
    auto* known = block_state<Mbarriers>().find(at);
    if (known != nullptr) known->waiting++;
    wait_for([&] { return (*at & 1) != parity; }, "mbarrier_wait", site.file, site.line);
    known = block_state<Mbarriers>().find(at); // others may have been initialised, which moves them
    if (known != nullptr) known->waiting--;
    State state = read(at, "mbarrier_wait");
    state.seen = true;
    *at = state.pack();
}

u64* mbarrier_for_copies(void* barrier, const char* name) {
    u64* at = locate(barrier, name);
    read(at, name);
    const auto* known = block_state<Mbarriers>().find(at);
    if (known == nullptr || !known->fenced) fail("%s: an mbarrier that mbarrier_init_fence was not called for", name);
    return at;
}

void mbarrier_complete(u64* barrier, u32 bytes) {
    State state = read(barrier, "bytes that have come");
    move_tx(state, -(long long)bytes, "bytes that have come");
    write(barrier, state);
}

bool mbarrier_awaited(const u64* barrier) {
    const auto* known = block_state<Mbarriers>().find(barrier);
    return known != nullptr && known->waiting != 0;
}

} // namespace simt
