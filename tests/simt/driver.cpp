//! The driver's beginnings: initialisation, devices, contexts, errors' names, and what every call does first.

#include "driver.h"

#include <cstdarg>
#include <cstdlib>
#include <cstdio>
#include <cstring>

namespace simt {

Driver& driver() {
    // Never destroyed: other threads may be within a call when the program ends.
    static Driver& instance = *new Driver;
    return instance;
}

void explain(const char* format, ...) {
    char text[2048];
    va_list list;
    va_start(list, format);
    std::vsnprintf(text, sizeof text, format, list);
    va_end(list);
    std::fprintf(stderr, "simt: %s\n", text);
}

CUresult invalid(const char* format, ...) {
    char text[2048];
    va_list list;
    va_start(list, format);
    std::vsnprintf(text, sizeof text, format, list);
    va_end(list);
    explain("%s", text);
    return CUDA_ERROR_INVALID_VALUE;
}

CUcontext& current_context() {
    static thread_local CUcontext context = nullptr;
    return context;
}

Call::Call(Needs needs) : guard(driver().lock) {
    if (needs == Needs::Nothing) return;
    if (!driver().initialised) {
        status = CUDA_ERROR_NOT_INITIALIZED;
        return;
    }
    if (needs == Needs::Driver) return;
    context = current_context();
    status = context == nullptr || context->retained == 0 ? CUDA_ERROR_INVALID_CONTEXT : context->sticky;
}

void Call::hang() {
    guard.unlock();
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

namespace {

struct Name {
    CUresult result;
    const char* name;
    const char* text;
};

constexpr Name NAMES[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CUDA_ERROR_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const Name* find_name(CUresult result) {
    for (const Name& name : NAMES) {
        if (name.result == result) return &name;
    }
    return nullptr;
}

/// The shared memory of the architectures (KiB): a multiprocessor's; a block's is 1 KiB less.
u32 shared_kib() {
    switch (options().arch) {
    case 75: return 65; // a Turing block may have all 64
    case 80: case 87: return 164;
    case 86: case 89: case 120: case 121: return 100;
    case 90: case 100: case 103: case 110: return 228;
    default: return 97;
    }
}

} // namespace

u32 shared_limit() { return (shared_kib() - 1) * 1024; }
u32 shared_of_multiprocessor() { return options().arch == 75 ? 64 * 1024 : shared_kib() * 1024; }

} // namespace simt

using namespace simt;

CUDA_API cuInit(unsigned flags) {
    Call call(Call::Needs::Nothing);
    if (flags != 0) return invalid("cuInit: flags must be 0");
    Driver& d = driver();
    if (!d.initialised) {
        options().read_machine();
        options().read_policies();
        if (options().devices == 0) return CUDA_ERROR_NO_DEVICE;
        for (int i = 0; i < options().devices; i++) d.contexts.emplace_back().device = i;
        d.initialised = true;
    }
    return CUDA_SUCCESS;
}

CUDA_API cuDriverGetVersion(int* version) {
    Call call(Call::Needs::Nothing);
    if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
    options().read_machine(); // may be asked before cuInit
    *version = options().driver;
    return CUDA_SUCCESS;
}

CUDA_API cuGetErrorName(CUresult error, const char** text) {
    if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const Name* name = find_name(error);
    *text = name != nullptr ? name->name : nullptr;
    return name != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUDA_API cuGetErrorString(CUresult error, const char** text) {
    if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const Name* name = find_name(error);
    *text = name != nullptr ? name->text : nullptr;
    return name != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUDA_API cuDeviceGetCount(int* count) {
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *count = options().devices;
    return CUDA_SUCCESS;
}

CUDA_API cuDeviceGet(CUdevice* device, int ordinal) {
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (ordinal < 0 || ordinal >= options().devices) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

namespace {

/// The beginning of the calls about a device.
CUresult check_device(const Call& call, const void* result, CUdevice device) {
    if (call.status != CUDA_SUCCESS) return call.status;
    if (result == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return device < 0 || device >= options().devices ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

} // namespace

CUDA_API cuDeviceGetName(char* name, int length, CUdevice device) {
    Call call(Call::Needs::Driver);
    if (const CUresult r = check_device(call, name, device); r != CUDA_SUCCESS) return r;
    if (length <= 0) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(name, size_t(length), "Simulated GPU (sm_%u)", options().arch);
    return CUDA_SUCCESS;
}

CUDA_API cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    Call call(Call::Needs::Driver);
    if (const CUresult r = check_device(call, bytes, device); r != CUDA_SUCCESS) return r;
    *bytes = options().memory_bytes;
    return CUDA_SUCCESS;
}

CUDA_API cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
    Call call(Call::Needs::Driver);
    if (const CUresult r = check_device(call, uuid, device); r != CUDA_SUCCESS) return r;
    std::memcpy(uuid->bytes, "simulated gpu  ", 16);
    uuid->bytes[15] = char('0' + device);
    return CUDA_SUCCESS;
}

CUDA_API cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
    Call call(Call::Needs::Driver);
    if (const CUresult r = check_device(call, id, device); r != CUDA_SUCCESS) return r;
    if (length < 13) return CUDA_ERROR_INVALID_VALUE;
    std::snprintf(id, size_t(length), "0000:%02X:00.0", unsigned(device + 1));
    return CUDA_SUCCESS;
}

CUDA_API cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    Call call(Call::Needs::Driver);
    if (const CUresult r = check_device(call, value, device); r != CUDA_SUCCESS) return r;
    const unsigned arch = options().arch;
    const bool half = arch == 86 || arch == 89 || arch == 120 || arch == 121; // the smaller chips of a generation
    const auto is = [&](long v) {
        *value = int(v);
        return CUDA_SUCCESS;
    };
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return is(1024);
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X: return is(1024);
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return is(1024);
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return is(64);
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return is(0x7fffffff);
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y: return is(65535);
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return is(65535);
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return is(48 * 1024);
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: return is(64 * 1024);
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return is(32);
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: return is(64 * 1024);
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return is(1755000);
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return is(options().sms);
    case CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT: return is(0);
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: return is(0);
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: return is(1);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE: return is(0);
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS: return is(1);
    case CU_DEVICE_ATTRIBUTE_ECC_ENABLED: return is(1);
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: return is(device + 1);
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID: return is(0);
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID: return is(0);
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return is(2619000);
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return is(5120);
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return is(50 * 1024 * 1024);
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return is(arch == 75 ? 1024 : half ? 1536 : 2048);
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: return is(3);
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: return is(1);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return is(arch / 10);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return is(arch % 10);
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED: return is(1);
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return is(shared_of_multiprocessor());
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: return is(64 * 1024);
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH: return is(1);
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return is(shared_limit());
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR: return is(half ? 24 : arch == 75 ? 16 : 32);
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK: return is(arch == 75 ? 0 : 1024);
    case CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED: return is(arch >= 90);
    }
    return invalid("cuDeviceGetAttribute: attribute %d is not simulated", int(attribute));
}

CUDA_API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    Call call(Call::Needs::Driver);
    if (const CUresult r = check_device(call, context, device); r != CUDA_SUCCESS) return r;
    CUctx_st& primary = driver().contexts[size_t(device)];
    if (primary.sticky != CUDA_SUCCESS) return primary.sticky; // only a new process helps
    if (primary.retained++ == 0) {
        primary.legacy = std::make_unique<CUstream_st>();
        primary.legacy->context = &primary;
        primary.legacy->blocking = true;
        primary.legacy->priority = 0;
    }
    *context = &primary;
    return CUDA_SUCCESS;
}

CUDA_API cuCtxSetCurrent(CUcontext context) {
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (context != nullptr && context->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    current_context() = context;
    return CUDA_SUCCESS;
}

CUDA_API cuCtxGetCurrent(CUcontext* context) {
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *context = current_context();
    return CUDA_SUCCESS;
}

CUDA_API cuCtxSynchronize() {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    return call.complete_all();
}

CUDA_API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return CUDA_SUCCESS;
}

CUDA_API cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (device < 0 || device >= options().devices) return CUDA_ERROR_INVALID_DEVICE;
    CUctx_st& primary = driver().contexts[size_t(device)];
    if (primary.retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (primary.retained > 1) {
        primary.retained--;
        return CUDA_SUCCESS;
    }
    call.context = &primary;
    call.complete_all();
    primary.retained = 0;
    for (const auto& [at, bytes] : primary.allocations) std::free(reinterpret_cast<void*>(at));
    primary.allocations.clear();
    primary.used_bytes = 0;
    for (CUstream stream : primary.streams) delete stream;
    primary.streams.clear();
    primary.legacy.reset();
    for (CUmodule module : primary.modules) {
        for (auto& [name, function] : module->functions) driver().functions.erase(function.get());
        delete module;
    }
    primary.modules.clear();
    return primary.sticky;
}
