//! An mbarrier's state, for those that complete transactions on it: the copy engine.
#pragma once

#include <vector>

#include "simt.h"

namespace simt {

/// What the emulator knows of a block's mbarriers beside what is in their 8 bytes.
struct Mbarriers {
    struct Known {
        u64* at;
        u32 owner;       // the thread that initialised it
        bool fenced;     // it has called mbarrier_init_fence since
        u32 waiting = 0; // threads
    };
    std::vector<Known> known;

    Known* find(const void* at);
    void finish();
};

/// The barrier, initialised and fenced, as the copy engine needs it; fails otherwise.
u64* mbarrier_for_copies(void* barrier, const char* name);
/// The complete-tx operation.
void mbarrier_complete(u64* barrier, u32 bytes);
/// Whether some thread waits on it now.
bool mbarrier_awaited(const u64* barrier);

} // namespace simt
