//! Kernels for the checks of the emulator's core: one right, others each wrong in one way.

#include <number.cuh>

struct CoreArgs {
    u32* output;
    const u32* input;
    u32 count;
    u32 pad;
};

/// output[i] = input[threads - 1 - i] within each block, through shared memory.
template <bool BARRIER> __device__ void reverse(const CoreArgs& a) {
    u32* shared = static_cast<u32*>(ptx::shared_memory());
    const u32 i = ptx::thread();
    ptx::grid_wait();
    shared[i] = a.input[ptx::block_x() * 64 + i];
    if (BARRIER) ptx::sync_block();
    a.output[ptx::block_x() * 64 + i] = shared[63 - i];
}
ENTRY(core_reverse_u32, CoreArgs, 64, 1, 256, reverse<true>)
ENTRY(core_reverse_unsynced_u32, CoreArgs, 64, 1, 256, reverse<false>)

/// Half of the block does not come to the barrier.
__device__ inline void half(const CoreArgs&) {
    if (ptx::thread() < 32) ptx::sync_block();
}
ENTRY(core_half_u32, CoreArgs, 64, 1, 0, half)

/// output[i] = input[i] + 1; waits for what was launched before, or does not.
template <bool WAIT> __device__ void increment(const CoreArgs& a) {
    if (WAIT) ptx::grid_wait();
    const u32 i = ptx::block_x() * 32 + ptx::thread();
    if (i < a.count) a.output[i] = a.input[i] + 1;
}
ENTRY(core_increment_u32, CoreArgs, 32, 1, 0, increment<true>)
ENTRY(core_increment_unwaited_u32, CoreArgs, 32, 1, 0, increment<false>)

/// output[i] = in which place thread i ran, over the whole grid of blocks of 32.
__device__ inline void order(const CoreArgs& a) {
    ptx::grid_wait();
    a.output[ptx::block_x() * 32 + ptx::thread()] = ptx::atomic_add_acq_rel(a.output + a.count, 1);
}
ENTRY(core_order_u32, CoreArgs, 32, 1, 0, order)

/// More shared memory than a block has unasked.
__device__ inline void large(const CoreArgs&) { static_cast<u8*>(ptx::shared_memory())[100 * 1024 - 1] = 1; }
ENTRY(core_large_u32, CoreArgs, 32, 1, 100 * 1024, large)

/// Named barriers: the second warp passes one with the first, which the third does not take part in.
__device__ inline void named(const CoreArgs& a) {
    u32* shared = static_cast<u32*>(ptx::shared_memory());
    const u32 i = ptx::thread();
    if (i < 32) shared[i] = i + 1;
    if (i < 64) ptx::sync_named(1, 64);
    if (i >= 32 && i < 64) a.output[i - 32] = shared[63 - i];
}
ENTRY(core_named_u32, CoreArgs, 96, 1, 128, named)
