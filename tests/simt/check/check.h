//! What the checks of the simulated driver share: claims that run in processes of their own, and short forms of calls.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "../cuda_api.h"

extern "C" {
CUresult cuInit(unsigned);
CUresult cuDeviceGetAttribute(int*, CUdevice_attribute, CUdevice);
CUresult cuDevicePrimaryCtxRetain(CUcontext*, CUdevice);
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice);
CUresult cuCtxSetCurrent(CUcontext);
CUresult cuCtxSynchronize();
CUresult cuMemGetInfo_v2(size_t*, size_t*);
CUresult cuMemAlloc_v2(CUdeviceptr*, size_t);
CUresult cuMemFree_v2(CUdeviceptr);
CUresult cuMemAllocHost_v2(void**, size_t);
CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void*, size_t);
CUresult cuMemcpyDtoH_v2(void*, CUdeviceptr, size_t);
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr, const void*, size_t, CUstream);
CUresult cuMemcpyDtoHAsync_v2(void*, CUdeviceptr, size_t, CUstream);
CUresult cuMemsetD32Async(CUdeviceptr, unsigned, size_t, CUstream);
CUresult cuStreamCreate(CUstream*, unsigned);
CUresult cuStreamSynchronize(CUstream);
CUresult cuStreamQuery(CUstream);
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned);
CUresult cuStreamBeginCapture_v2(CUstream, CUstreamCaptureMode);
CUresult cuStreamEndCapture(CUstream, CUgraph*);
CUresult cuGraphInstantiateWithFlags(CUgraphExec*, CUgraph, unsigned long long);
CUresult cuGraphLaunch(CUgraphExec, CUstream);
CUresult cuGraphDestroy(CUgraph);
CUresult cuGraphExecDestroy(CUgraphExec);
CUresult cuEventCreate(CUevent*, unsigned);
CUresult cuEventRecord(CUevent, CUstream);
CUresult cuEventQuery(CUevent);
CUresult cuEventSynchronize(CUevent);
CUresult cuModuleLoadData(CUmodule*, const void*);
CUresult cuModuleGetFunction(CUfunction*, CUmodule, const char*);
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int);
CUresult cuLaunchKernelEx(const CUlaunchConfig*, CUfunction, void**, void**);
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                                const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
CUresult cuTensorMapEncodeIm2col(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                                 const int*, const int*, cuuint32_t, cuuint32_t, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
}

/// Ends the claim's process, naming the line.
#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                               \
            std::_Exit(1);                                                                                             \
        }                                                                                                              \
    } while (false)
/// A call's result, with both numbers where it is another.
#define GIVES(expected, call)                                                                                          \
    do {                                                                                                               \
        const int result_ = int(call);                                                                                 \
        if (result_ != int(expected)) {                                                                                \
            std::fprintf(stderr, "%s:%d: %s gives %d\n", __FILE__, __LINE__, #call, result_);                          \
            std::_Exit(1);                                                                                             \
        }                                                                                                              \
    } while (false)
#define OK(call) GIVES(CUDA_SUCCESS, call)

namespace check {

struct Claim {
    const char* name;
    std::vector<const char*> environment; // "NAME=value"
    void (*run)();
};

inline std::vector<Claim>& claims() {
    static std::vector<Claim> all;
    return all;
}

struct Register {
    Register(const char* name, std::initializer_list<const char*> environment, void (*run)()) {
        claims().push_back({name, environment, run});
    }
};

/// CLAIM(name, "NAME=value"...) { body }
#define CLAIM(name, ...)                                                                                               \
    static void name();                                                                                                \
    static const check::Register name##_registered(#name, {__VA_ARGS__}, name);                                        \
    static void name()

/// Runs every claim in a process of its own, as a driver's options and failures are its process's; the number that failed.
inline int run_claims() {
    int failed = 0;
    for (const Claim& claim : claims()) {
        std::fflush(nullptr);
        const pid_t child = fork();
        if (child == 0) {
            for (const char* variable : claim.environment) putenv(const_cast<char*>(variable));
            claim.run();
            std::_Exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0) {
            std::fprintf(stderr, "FAILED %s (status %d)\n", claim.name, status);
            failed++;
        }
    }
    std::printf("%zu claims, %d failed\n", claims().size(), failed);
    return failed;
}

/// An image as a compiler would make it: no more than an ELF header.
inline std::vector<unsigned char> cubin(unsigned arch) {
    std::vector<unsigned char> image(64, 0);
    const unsigned char start[] = {0x7f, 'E', 'L', 'F', 2, 1, 1, 0x41, 8};
    std::memcpy(image.data(), start, sizeof start);
    image[18] = 190;
    const unsigned flags = 0x6000004u | arch << 8u;
    std::memcpy(&image[48], &flags, 4);
    return image;
}

/// The first device, and a module of all kernels.
struct Device {
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUstream stream = nullptr;

    explicit Device(unsigned arch = 90) {
        OK(cuInit(0));
        OK(cuDevicePrimaryCtxRetain(&context, 0));
        OK(cuCtxSetCurrent(context));
        OK(cuModuleLoadData(&module, cubin(arch).data()));
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    }

    CUfunction function(const char* name) const {
        CUfunction f = nullptr;
        OK(cuModuleGetFunction(&f, module, name));
        return f;
    }

    CUdeviceptr allocate(size_t bytes) const {
        CUdeviceptr at = 0;
        OK(cuMemAlloc_v2(&at, bytes));
        return at;
    }

    /// A device copy of host values.
    CUdeviceptr upload(const std::vector<unsigned>& values) const {
        const CUdeviceptr at = allocate(4 * values.size());
        OK(cuMemcpyHtoD_v2(at, values.data(), 4 * values.size()));
        return at;
    }

    std::vector<unsigned> download(CUdeviceptr at, size_t count) const {
        std::vector<unsigned> values(count);
        OK(cuMemcpyDtoH_v2(values.data(), at, 4 * count));
        return values;
    }

    CUresult launch(const char* name, unsigned blocks, unsigned threads, unsigned shared_bytes, const void* args,
                    bool programmatic = false) const {
        CUlaunchAttribute attribute{};
        attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attribute.value.programmaticStreamSerializationAllowed = 1;
        const CUlaunchConfig config{blocks, 1, 1, threads, 1, 1, shared_bytes, stream, &attribute, programmatic ? 1u : 0u};
        void* parameters[] = {const_cast<void*>(args)};
        return cuLaunchKernelEx(&config, function(name), parameters, nullptr);
    }
};

} // namespace check
