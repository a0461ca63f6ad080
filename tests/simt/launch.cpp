//! Launches: what a driver checks of them, and what only this one can, because it knows each kernel's ENTRY.

#include "driver.h"

#include <algorithm>

using namespace simt;

namespace {

CUresult check_launch(const CUfunc_st& function, const CUlaunchConfig& config, void** parameters, void** extra) {
    const Entry& entry = *function.entry;
    const char* name = entry.name;
    if (config.gridDimX == 0 || config.gridDimY == 0 || config.gridDimZ == 0 || config.gridDimX > 0x7fffffffu ||
        config.gridDimY > 65535 || config.gridDimZ > 65535) {
        return invalid("%s: a grid of (%u, %u, %u)", name, config.gridDimX, config.gridDimY, config.gridDimZ);
    }
    // A device would run a smaller block, and the kernel go wrong; it is an error of the host's table of kernels.
    if (config.blockDimX != entry.threads || config.blockDimY != 1 || config.blockDimZ != 1) {
        return invalid("%s: a block of (%u, %u, %u), where its ENTRY says %u", name, config.blockDimX, config.blockDimY,
                       config.blockDimZ, entry.threads);
    }
    if (config.sharedMemBytes > unsigned(function.max_dynamic_shared)) {
        return invalid("%s: %u bytes of shared memory, where the function's attribute allows %d", name, config.sharedMemBytes,
                       function.max_dynamic_shared);
    }
    if (config.sharedMemBytes != entry.shared_bytes) {
        return invalid("%s: %u bytes of shared memory, where its ENTRY says %u", name, config.sharedMemBytes, entry.shared_bytes);
    }
    if (extra != nullptr || parameters == nullptr || parameters[0] == nullptr) {
        return invalid("%s: its one argument is not given by kernelParams", name);
    }
    return CUDA_SUCCESS;
}

/// Reads a launch's attributes; only those that the simulation can honour are taken.
CUresult read_attributes(const char* name, const CUlaunchConfig& config, bool* programmatic) {
    *programmatic = false;
    for (unsigned i = 0; i < config.numAttrs; i++) {
        const CUlaunchAttribute& attribute = config.attrs[i];
        switch (attribute.id) {
        case CU_LAUNCH_ATTRIBUTE_IGNORE:
        case CU_LAUNCH_ATTRIBUTE_PRIORITY: break;
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
            *programmatic = attribute.value.programmaticStreamSerializationAllowed != 0;
            if (*programmatic && options().arch < 90) {
                explain("%s: programmatic launches need sm_90", name);
                return CUDA_ERROR_NOT_SUPPORTED;
            }
            break;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: {
            const auto& d = attribute.value.clusterDim;
            if (d.x != 1 || d.y != 1 || d.z != 1) return invalid("%s: clusters are not simulated", name);
            break;
        }
        default: return invalid("%s: launch attribute %d is not simulated", name, int(attribute.id));
        }
    }
    return CUDA_SUCCESS;
}

} // namespace

CUDA_API cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (config == nullptr || (config->numAttrs != 0 && config->attrs == nullptr)) return CUDA_ERROR_INVALID_VALUE;
    if (driver().functions.count(function) == 0 || function->module->context != call.context) return CUDA_ERROR_INVALID_HANDLE;
    CUstream stream = call.stream(config->hStream);
    if (stream == nullptr) return call.status;
    if (const CUresult r = check_launch(*function, *config, parameters, extra); r != CUDA_SUCCESS) return r;
    bool programmatic = false;
    if (const CUresult r = read_attributes(function->entry->name, *config, &programmatic); r != CUDA_SUCCESS) return r;

    const auto* args = static_cast<const u8*>(parameters[0]);
    return call.enqueue(stream, Kernel{function->entry,
                                       {args, args + function->entry->args_bytes},
                                       {config->gridDimX, config->gridDimY, config->gridDimZ},
                                       config->sharedMemBytes,
                                       programmatic});
}

CUDA_API cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters,
                        void** extra) {
    const CUlaunchConfig config{grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, nullptr, 0};
    return cuLaunchKernelEx(&config, function, parameters, extra);
}

CUDA_API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int threads, size_t shared_bytes) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (blocks == nullptr || threads <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (driver().functions.count(function) == 0) return CUDA_ERROR_INVALID_HANDLE;
    // The registers allow what the launch bounds promise; the shared memory of each block has 1 KiB beside it.
    const size_t by_shared = shared_of_multiprocessor() / (shared_bytes + 1024);
    *blocks = int(std::min<size_t>({function->entry->blocks, 2048u / unsigned(threads), by_shared}));
    return CUDA_SUCCESS;
}
