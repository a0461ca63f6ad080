//! Memory of the device and pinned memory of the host, and copies.
//!
//! Device memory is ordinary memory at addresses that are device pointers too, so that AddressSanitizer sees what goes
//! beyond an allocation. It is 0xff at first: NaNs. What the host does with a device pointer is not checked.

#include "driver.h"

#include <cstdlib>
#include <cstring>

namespace simt {

namespace {

constexpr size_t ALIGNMENT = 512; // cuMemAlloc promises 256

template <class Map, class Key> bool within(const Map& map, Key at, size_t bytes) {
    auto it = map.upper_bound(at);
    if (it == map.begin()) return false;
    --it;
    const auto offset = size_t(at - it->first);
    return offset <= it->second && bytes <= it->second - offset;
}

void* pointer(CUdeviceptr at) { return reinterpret_cast<void*>(at); }

void* allocate(size_t bytes) {
    void* memory = nullptr;
    if (posix_memalign(&memory, ALIGNMENT, bytes) != 0) return nullptr;
    std::memset(memory, 0xff, bytes);
    return memory;
}

CUresult check_ranges(const Call& call, CUdeviceptr at, size_t bytes, const char* what) {
    if (bytes == 0 || on_device(*call.context, at, bytes)) return CUDA_SUCCESS;
    return invalid("%s: %#llx and %zu bytes from there are no device memory of the current context", what, at, bytes);
}

} // namespace

bool is_pinned(const void* at, size_t bytes) { return within(driver().pinned, static_cast<const u8*>(at), bytes); }

bool on_device(const CUctx_st& context, CUdeviceptr at, size_t bytes) {
    return within(context.allocations, at, bytes) || is_pinned(pointer(at), bytes);
}

} // namespace simt

using namespace simt;

CUDA_API cuMemGetInfo_v2(size_t* free, size_t* total) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (free != nullptr) *free = options().memory_bytes - call.context->used_bytes;
    if (total != nullptr) *total = options().memory_bytes;
    return CUDA_SUCCESS;
}

CUDA_API cuMemAlloc_v2(CUdeviceptr* at, size_t bytes) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (at == nullptr || bytes == 0) return invalid("cuMemAlloc: %zu bytes", bytes);
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    CUctx_st& context = *call.context;
    if (bytes > options().memory_bytes - context.used_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    void* memory = allocate(bytes);
    if (memory == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    *at = reinterpret_cast<CUdeviceptr>(memory);
    context.allocations.emplace(*at, bytes);
    context.used_bytes += bytes;
    return CUDA_SUCCESS;
}

CUDA_API cuMemFree_v2(CUdeviceptr at) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (at == 0) return CUDA_SUCCESS;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    CUctx_st& context = *call.context;
    const auto it = context.allocations.find(at);
    if (it == context.allocations.end()) return invalid("cuMemFree: %#llx was not allocated in the current context", at);
    if (const CUresult r = call.complete_all(); r != CUDA_SUCCESS) return r; // as drivers do
    context.used_bytes -= it->second;
    context.allocations.erase(it);
    std::free(pointer(at));
    return CUDA_SUCCESS;
}

CUDA_API cuMemHostAlloc(void** at, size_t bytes, unsigned flags) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    constexpr unsigned KNOWN = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
    if (at == nullptr || bytes == 0 || (flags & ~KNOWN) != 0) return invalid("cuMemHostAlloc: %zu bytes, flags %u", bytes, flags);
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    *at = allocate(bytes);
    if (*at == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
    driver().pinned.emplace(static_cast<const u8*>(*at), bytes);
    return CUDA_SUCCESS;
}

CUDA_API cuMemAllocHost_v2(void** at, size_t bytes) { return cuMemHostAlloc(at, bytes, 0); }

CUDA_API cuMemFreeHost(void* at) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    const auto it = driver().pinned.find(static_cast<const u8*>(at));
    if (it == driver().pinned.end()) return invalid("cuMemFreeHost: %p was not allocated", at);
    if (const CUresult r = call.complete_all(); r != CUDA_SUCCESS) return r;
    driver().pinned.erase(it);
    std::free(at);
    return CUDA_SUCCESS;
}

CUDA_API cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr at) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
    for (CUctx_st& context : driver().contexts) {
        const bool host = is_pinned(pointer(at), 1);
        if (!host && !within(context.allocations, at, 1)) continue;
        CUdeviceptr start;
        size_t bytes;
        if (host) {
            const auto it = std::prev(driver().pinned.upper_bound(static_cast<const u8*>(pointer(at))));
            start = reinterpret_cast<CUdeviceptr>(it->first);
            bytes = it->second;
        } else {
            const auto it = std::prev(context.allocations.upper_bound(at));
            start = it->first;
            bytes = it->second;
        }
        switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT: *static_cast<CUcontext*>(value) = &context; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *static_cast<unsigned*>(value) = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: *static_cast<CUdeviceptr*>(value) = at; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            if (!host) return CUDA_ERROR_INVALID_VALUE;
            *static_cast<void**>(value) = pointer(at);
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED: *static_cast<unsigned*>(value) = 0; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *static_cast<int*>(value) = context.device; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: *static_cast<CUdeviceptr*>(value) = start; return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE: *static_cast<size_t*>(value) = bytes; return CUDA_SUCCESS;
        }
        return invalid("cuPointerGetAttribute: attribute %d is not simulated", int(attribute));
    }
    return CUDA_ERROR_INVALID_VALUE; // pageable memory, or nobody's
}

// ---- copies. Those without a stream use the legacy stream, and so do not wait for non-blocking streams ----

CUDA_API cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    if (const CUresult r = check_ranges(call, to, bytes, "cuMemcpyHtoD"); r != CUDA_SUCCESS) return r;
    return call.enqueue(call.context->legacy.get(), Copy{pointer(to), from, bytes, {}});
}

CUDA_API cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    if (const CUresult r = check_ranges(call, from, bytes, "cuMemcpyDtoH"); r != CUDA_SUCCESS) return r;
    return call.enqueue(call.context->legacy.get(), Copy{to, pointer(from), bytes, {}});
}

CUDA_API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (const CUresult r = check_ranges(call, to, bytes, "cuMemcpyHtoDAsync"); r != CUDA_SUCCESS) return r;
    Copy copy{pointer(to), from, bytes, {}};
    // Pageable memory goes through the driver's own staging memory: it is read before the call returns.
    if (stream->capture == nullptr && !is_pinned(from, bytes)) {
        copy.staged.assign(static_cast<const u8*>(from), static_cast<const u8*>(from) + bytes);
    }
    return call.enqueue(stream, std::move(copy));
}

CUDA_API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (const CUresult r = check_ranges(call, from, bytes, "cuMemcpyDtoHAsync"); r != CUDA_SUCCESS) return r;
    const CUresult queued = call.enqueue(stream, Copy{to, pointer(from), bytes, {}});
    if (queued != CUDA_SUCCESS || stream->capture != nullptr || is_pinned(to, bytes)) return queued;
    return call.complete(stream); // into pageable memory the call returns when the copy is done
}

CUDA_API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (const CUresult r = check_ranges(call, to, bytes, "cuMemcpyDtoDAsync"); r != CUDA_SUCCESS) return r;
    if (const CUresult r = check_ranges(call, from, bytes, "cuMemcpyDtoDAsync"); r != CUDA_SUCCESS) return r;
    return call.enqueue(stream, Copy{pointer(to), pointer(from), bytes, {}});
}

CUDA_API cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    if (const CUresult r = check_ranges(call, to, count, "cuMemsetD8"); r != CUDA_SUCCESS) return r;
    return call.enqueue(call.context->legacy.get(), Fill{pointer(to), value, 1, count});
}

CUDA_API cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (const CUresult r = check_ranges(call, to, count, "cuMemsetD8Async"); r != CUDA_SUCCESS) return r;
    return call.enqueue(stream, Fill{pointer(to), value, 1, count});
}

CUDA_API cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (to % 4 != 0) return invalid("cuMemsetD32Async: %#llx is not aligned to 4", to);
    if (const CUresult r = check_ranges(call, to, 4 * count, "cuMemsetD32Async"); r != CUDA_SUCCESS) return r;
    return call.enqueue(stream, Fill{pointer(to), value, 4, count});
}
