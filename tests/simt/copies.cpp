//! cp.async, 16 bytes a copy, and its groups (PTX ISA, "Data Movement: Non-bulk copy", "cp.async.commit_group",
//! "cp.async.wait_group").
//!
//! Groups are a thread's own. A wait makes the copies of the groups that it covers visible to the thread that waits, and
//! to no other: what the others need is a barrier after it. Copies that no group was closed over are not covered; the end
//! of the thread completes them.

#include "ptx.cuh"

#include <cstring>
#include <vector>

namespace simt {
namespace {

constexpr u32 BYTES = 16;

struct Copy {
    u8* to;
    const u8* from; // null: zeros

    void run() const {
        if (from != nullptr) {
            std::memcpy(to, from, BYTES);
        } else {
            std::memset(to, 0, BYTES);
        }
    }
};

/// A thread's copies in the order of their issue, and where each group that was closed ends.
struct Copies {
    std::vector<Copy> issued;
    std::vector<size_t> groups;
    size_t done = 0;         // of `issued`
    size_t groups_done = 0;  // of `groups`

    void run_to(size_t end) {
        for (; done < end; done++) issued[done].run();
    }
    void finish() { run_to(issued.size()); }
};

} // namespace

void copy_issue(void* to, const void* from, u32 valid) {
    require(80, "cp_async_16");
    u8* at = shared_base() + shared_offset(to, BYTES, BYTES, "cp_async_16");
    if (valid != 0 && valid != BYTES) fail("cp_async_16: %u valid bytes; only 0 and 16 are used here", valid);
    const auto source = reinterpret_cast<std::uintptr_t>(from);
    if (source % BYTES != 0) fail("cp_async_16: the source %p is not aligned to 16", from);
    if (valid != 0 && source - reinterpret_cast<std::uintptr_t>(shared_base()) < shared_bytes()) {
        fail("cp_async_16: the source %p is shared memory, not global", from);
    }
    const Copy copy{at, valid != 0 ? static_cast<const u8*>(from) : nullptr};
    if (early()) return copy.run();
    std::memset(at, 0xff, BYTES);
    thread_state<Copies>().issued.push_back(copy);
}

void copy_commit() {
    require(80, "cp_async_commit");
    if (early()) return;
    Copies& copies = thread_state<Copies>();
    copies.groups.push_back(copies.issued.size());
}

void copy_wait(u32 left) {
    require(80, "cp_async_wait");
    if (early()) return;
    Copies& copies = thread_state<Copies>();
    while (copies.groups.size() - copies.groups_done > left) copies.run_to(copies.groups[copies.groups_done++]);
    if (copies.done == copies.issued.size() && copies.groups_done == copies.groups.size()) copies = Copies{};
}

} // namespace simt
