//! The emulator's core and its driver: barriers, orders, streams, graphs, early starts, faults.

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>

#include "check.h"

namespace {

using check::Device;
using Values = std::vector<unsigned>;

/// As core.cu has it.
struct CoreArgs {
    CUdeviceptr output;
    CUdeviceptr input;
    unsigned count;
    unsigned pad;
};

Values counting(unsigned count, unsigned from = 0) {
    Values values(count);
    std::iota(values.begin(), values.end(), from);
    return values;
}

/// What a reversing kernel makes of two blocks of 64, and whether it is right.
bool reverses(const char* kernel) {
    const Device device;
    const CUdeviceptr input = device.upload(counting(128));
    const CUdeviceptr output = device.allocate(512);
    const CoreArgs args{output, input, 128, 0};
    OK(device.launch(kernel, 2, 64, 256, &args));
    OK(cuStreamSynchronize(device.stream));
    const Values values = device.download(output, 128);
    for (unsigned i = 0; i < 128; i++) {
        if (values[i] != i / 64 * 64 + 63 - i % 64) return false;
    }
    return true;
}

CLAIM(barriers_hold_in_forward_order) { EXPECT(reverses("core_reverse_u32")); }
CLAIM(barriers_hold_in_reverse_order, "SIMT_ORDER=reverse") { EXPECT(reverses("core_reverse_u32")); }
CLAIM(barriers_hold_in_a_random_order, "SIMT_ORDER=random:7") { EXPECT(reverses("core_reverse_u32")); }
CLAIM(a_missing_barrier_shows_in_forward_order) { EXPECT(!reverses("core_reverse_unsynced_u32")); }
CLAIM(a_missing_barrier_shows_in_reverse_order, "SIMT_ORDER=reverse") { EXPECT(!reverses("core_reverse_unsynced_u32")); }
CLAIM(a_missing_barrier_shows_in_a_random_order, "SIMT_ORDER=random:7") { EXPECT(!reverses("core_reverse_unsynced_u32")); }
CLAIM(a_dropped_barrier_shows, "SIMT_DROP=core.cu:18") { EXPECT(!reverses("core_reverse_u32")); }
CLAIM(dropping_another_line_changes_nothing, "SIMT_DROP=core.cu:19") { EXPECT(reverses("core_reverse_u32")); }

CLAIM(a_barrier_that_not_all_come_to_is_a_failure_that_stays) {
    const Device device;
    const CoreArgs args{0, 0, 0, 0};
    OK(device.launch("core_half_u32", 1, 64, 0, &args));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuStreamSynchronize(device.stream));
    CUdeviceptr at = 0;
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuMemAlloc_v2(&at, 4));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuStreamQuery(device.stream));
}

CLAIM(named_barriers_join_some_warps) {
    const Device device;
    const CoreArgs args{device.allocate(128), 0, 0, 0};
    OK(device.launch("core_named_u32", 1, 96, 128, &args));
    OK(cuStreamSynchronize(device.stream));
    const Values values = device.download(args.output, 32);
    for (unsigned i = 0; i < 32; i++) EXPECT(values[i] == 64 - 32 - i);
}

/// In which place each of 64 threads of two blocks ran.
Values places() {
    const Device device;
    const CUdeviceptr output = device.allocate(65 * 4);
    OK(cuMemsetD32Async(output, 0, 65, device.stream));
    const CoreArgs args{output, 0, 64, 0};
    OK(device.launch("core_order_u32", 2, 32, 0, &args));
    OK(cuStreamSynchronize(device.stream));
    return device.download(output, 64);
}

CLAIM(threads_run_forward) { EXPECT(places() == counting(64)); }
CLAIM(threads_run_in_reverse, "SIMT_ORDER=reverse") {
    const Values values = places();
    for (unsigned i = 0; i < 64; i++) EXPECT(values[i] == 63 - i);
}
CLAIM(threads_run_in_a_random_order, "SIMT_ORDER=random:3") {
    Values values = places();
    EXPECT(values != counting(64));
    std::sort(values.begin(), values.end());
    EXPECT(values == counting(64));
}

CLAIM(launches_are_checked) {
    const Device device;
    const CoreArgs args{0, 0, 0, 0};
    GIVES(CUDA_ERROR_INVALID_VALUE, device.launch("core_half_u32", 0, 64, 0, &args));
    GIVES(CUDA_ERROR_INVALID_VALUE, device.launch("core_half_u32", 1, 32, 0, &args));
    GIVES(CUDA_ERROR_INVALID_VALUE, device.launch("core_half_u32", 1, 64, 16, &args));
    CUfunction f = nullptr;
    GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&f, device.module, "no_such_kernel"));
}

CLAIM(shared_memory_beyond_48_kib_is_asked_for) {
    const Device device;
    const CoreArgs args{0, 0, 0, 0};
    GIVES(CUDA_ERROR_INVALID_VALUE, device.launch("core_large_u32", 1, 32, 100 * 1024, &args));
    const CUfunction f = device.function("core_large_u32");
    GIVES(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 228 * 1024));
    OK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100 * 1024));
    OK(device.launch("core_large_u32", 1, 32, 100 * 1024, &args));
    OK(cuStreamSynchronize(device.stream));
}

// ---- streams ----

/// Copies from pinned memory that is written over before the stream has been waited for: what arrives.
unsigned reused_staging_memory() {
    const Device device;
    void* staging = nullptr;
    OK(cuMemAllocHost_v2(&staging, 4));
    auto* word = static_cast<unsigned*>(staging);
    const CUdeviceptr at = device.allocate(4);
    *word = 1;
    OK(cuMemcpyHtoDAsync_v2(at, staging, 4, device.stream));
    *word = 2;
    OK(cuStreamSynchronize(device.stream));
    return device.download(at, 1)[0];
}

CLAIM(early_copies_read_pinned_memory_at_once) { EXPECT(reused_staging_memory() == 1); }
CLAIM(late_copies_read_pinned_memory_when_waited_for, "SIMT_ASYNC=late") { EXPECT(reused_staging_memory() == 2); }

CLAIM(late_copies_of_pageable_memory_are_staged, "SIMT_ASYNC=late") {
    const Device device;
    const CUdeviceptr at = device.allocate(4);
    unsigned word = 1;
    OK(cuMemcpyHtoDAsync_v2(at, &word, 4, device.stream));
    word = 2;
    OK(cuStreamSynchronize(device.stream));
    EXPECT(device.download(at, 1)[0] == 1);
}

CLAIM(nothing_late_is_done_before_it_is_waited_for, "SIMT_ASYNC=late") {
    const Device device;
    const CUdeviceptr at = device.allocate(4);
    OK(cuMemsetD32Async(at, 5, 1, device.stream));
    EXPECT(device.download(at, 1)[0] == 0xffffffff); // the legacy stream does not wait for a non-blocking one
    GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(device.stream));
    OK(cuStreamQuery(device.stream)); // who polls comes to an end
    EXPECT(device.download(at, 1)[0] == 5);
}

CLAIM(events_order_streams, "SIMT_ASYNC=late") {
    const Device device;
    CUstream other = nullptr;
    CUevent event = nullptr;
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    const CUdeviceptr at = device.upload({1});
    OK(cuMemsetD32Async(at, 5, 1, device.stream));
    OK(cuEventRecord(event, device.stream));
    OK(cuMemsetD32Async(at, 9, 1, device.stream)); // behind the event: not waited for
    OK(cuStreamWaitEvent(other, event, 0));
    void* word = nullptr;
    OK(cuMemAllocHost_v2(&word, 4));
    OK(cuMemcpyDtoHAsync_v2(word, at, 4, other));
    OK(cuStreamSynchronize(other));
    EXPECT(*static_cast<unsigned*>(word) == 5);
    OK(cuEventQuery(event));
}

// ---- early starts ----

/// Two increments, the second launched so that it may start early; what 0 becomes.
unsigned two_increments(const char* second) {
    const Device device;
    const CUdeviceptr values = device.upload({0, 0, 0});
    const CoreArgs first{values + 4, values, 1, 0};
    const CoreArgs next{values + 8, values + 4, 1, 0};
    OK(device.launch("core_increment_u32", 1, 32, 0, &first));
    OK(device.launch(second, 1, 32, 0, &next, true));
    OK(cuStreamSynchronize(device.stream));
    return device.download(values + 8, 1)[0];
}

CLAIM(a_kernel_that_waits_for_its_grid_reads_what_was_written) { EXPECT(two_increments("core_increment_u32") == 2); }
CLAIM(a_kernel_that_does_not_wait_reads_stale_data) { EXPECT(two_increments("core_increment_unwaited_u32") == 1); }
CLAIM(so_it_does_late, "SIMT_ASYNC=late") { EXPECT(two_increments("core_increment_unwaited_u32") == 1); }
CLAIM(a_dropped_wait_shows, "SIMT_DROP=core.cu:32") { EXPECT(two_increments("core_increment_u32") == 1); }

CLAIM(early_starts_need_sm_90, "SIMT_ARCH=80") {
    const Device device(80);
    const CoreArgs args{0, 0, 0, 0};
    GIVES(CUDA_ERROR_NOT_SUPPORTED, device.launch("core_increment_u32", 1, 32, 0, &args, true));
}

// ---- graphs ----

CLAIM(a_captured_graph_replays, "SIMT_ASYNC=late") {
    const Device device;
    const CUdeviceptr values = device.upload({0, 0});
    void* word = nullptr;
    OK(cuMemAllocHost_v2(&word, 4));
    const CoreArgs there{values + 4, values, 1, 0};
    const CoreArgs back{values, values + 4, 1, 0};
    OK(cuStreamBeginCapture_v2(device.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(device.launch("core_increment_u32", 1, 32, 0, &there, true));
    OK(device.launch("core_increment_u32", 1, 32, 0, &back, true));
    OK(cuMemcpyDtoHAsync_v2(word, values, 4, device.stream));
    CUgraph graph = nullptr;
    CUgraphExec exec = nullptr;
    OK(cuStreamEndCapture(device.stream, &graph));
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cuGraphDestroy(graph));
    EXPECT(device.download(values, 1)[0] == 0); // capture does nothing
    for (unsigned i = 1; i <= 3; i++) {
        OK(cuGraphLaunch(exec, device.stream));
        OK(cuStreamSynchronize(device.stream));
        EXPECT(*static_cast<unsigned*>(word) == 2 * i);
    }
    OK(cuGraphExecDestroy(exec));
}

CLAIM(what_is_not_permitted_spoils_a_capture) {
    const Device device;
    OK(cuStreamBeginCapture_v2(device.stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CUdeviceptr at = 0;
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc_v2(&at, 4));
    CUgraph graph = nullptr;
    GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(device.stream, &graph));
    OK(cuMemAlloc_v2(&at, 4));
}

// ---- faults ----

CLAIM(memory_runs_out, "SIMT_MEMORY=1000") {
    const Device device;
    const CUdeviceptr first = device.allocate(600);
    CUdeviceptr second = 0;
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&second, 600));
    OK(cuMemFree_v2(first));
    OK(cuMemAlloc_v2(&second, 600));
    size_t free = 0;
    size_t total = 0;
    OK(cuMemGetInfo_v2(&free, &total));
    EXPECT(free == 400 && total == 1000);
}

CLAIM(a_lost_device_stays_lost, "SIMT_LOSE=2") {
    const Device device;
    const CUdeviceptr values = device.upload({0, 0});
    const CoreArgs args{values + 4, values, 1, 0};
    OK(device.launch("core_increment_u32", 1, 32, 0, &args));
    OK(cuStreamSynchronize(device.stream));
    OK(device.launch("core_increment_u32", 1, 32, 0, &args));
    GIVES(CUDA_ERROR_UNKNOWN, cuStreamSynchronize(device.stream));
    GIVES(CUDA_ERROR_UNKNOWN, cuMemFree_v2(values));
}

CLAIM(a_hanging_kernel_holds_its_stream_and_not_the_driver, "SIMT_HANG=1") {
    const Device device;
    const CUdeviceptr values = device.upload({0, 0});
    const CoreArgs args{values + 4, values, 1, 0};
    OK(device.launch("core_increment_u32", 1, 32, 0, &args));
    bool ended = false;
    std::thread waiter([&] {
        OK(cuCtxSetCurrent(device.context));
        cuStreamSynchronize(device.stream);
        ended = true;
    });
    waiter.detach();
    for (int i = 0; i < 20; i++) {
        GIVES(CUDA_ERROR_NOT_READY, cuStreamQuery(device.stream));
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT(!ended);
}

CLAIM(cubins_of_other_generations_are_refused, "SIMT_ARCH=86") {
    const Device device(80);
    CUmodule module = nullptr;
    OK(cuModuleLoadData(&module, check::cubin(86).data()));
    GIVES(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, check::cubin(89).data()));
    GIVES(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, check::cubin(90).data()));
    GIVES(CUDA_ERROR_NO_BINARY_FOR_GPU, cuModuleLoadData(&module, check::cubin(75).data()));
    const unsigned char text[128] = ".version 8.0";
    GIVES(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, text));
}

CLAIM(misuse_is_refused) {
    GIVES(CUDA_ERROR_NOT_INITIALIZED, cuCtxSynchronize());
    OK(cuInit(0));
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
    const Device device;
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(12345));
    const CUdeviceptr at = device.allocate(16);
    unsigned word = 0;
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(at + 13, &word, 4));
    OK(cuMemcpyHtoD_v2(at + 12, &word, 4));
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(reinterpret_cast<CUstream>(&word)));
}

} // namespace

int main() { return check::run_claims() == 0 ? 0 : 1; }
