//! A launch's blocks, one after another.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "block.h"

namespace simt {

/// One launch of a kernel. It may be begun before the kernels that it depends on have run (programmatic dependent launch):
/// then its first blocks go as far as their grid_wait. A kernel that does not call grid_wait goes wholly too early.
class Grid {
  public:
    /// The arguments are copied, to where a tensor map among them is aligned.
    Grid(const Entry& entry, const void* args, const u32 (&grid)[3], u32 shared_bytes);
    ~Grid();
    Grid(const Grid&) = delete;
    Grid& operator=(const Grid&) = delete;

    /// Runs blocks until as many wait for the kernels before as there are multiprocessors, or none is left.
    void begin();
    /// The kernels before have finished: runs all that is left. Both throw Failure.
    void finish();

  private:
    /// The next block's number in the order of SIMT_ORDER.
    u64 take();

    Launch launch;
    void* args;
    u64 blocks;
    u64 taken = 0;
    std::vector<u64> shuffled; // empty but for a random order
    std::deque<std::unique_ptr<Block>> begun;
};

} // namespace simt
