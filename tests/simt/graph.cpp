//! Capture of a stream into a graph, and its replay. A graph is a list: what one stream does is in one order, and captures
//! over several streams are not simulated.

#include "driver.h"

using namespace simt;

CUDA_API cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (unsigned(mode) > CU_STREAM_CAPTURE_MODE_RELAXED) return invalid("cuStreamBeginCapture: mode %d", int(mode));
    if (handle == nullptr) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; // the legacy stream
    if (stream->capture != nullptr) {
        stream->capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    stream->capture = std::make_unique<Capture>();
    stream->capture->mode = mode;
    stream->capture->thread = std::this_thread::get_id();
    return CUDA_SUCCESS;
}

CUDA_API cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (graph == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *graph = nullptr;
    if (stream->capture == nullptr) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (stream->capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && stream->capture->thread != std::this_thread::get_id()) {
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    const std::unique_ptr<Capture> capture = std::move(stream->capture);
    if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = new CUgraph_st{std::move(capture->ops)};
    // What was before the graph is no node of it, and a first kernel starts only when that is done.
    if (!(*graph)->ops.empty()) {
        if (Kernel* first = std::get_if<Kernel>(&(*graph)->ops.front())) first->programmatic = false;
    }
    driver().graphs.insert(*graph);
    return CUDA_SUCCESS;
}

CUDA_API cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (status == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *status = stream->capture == nullptr       ? CU_STREAM_CAPTURE_STATUS_NONE
              : stream->capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                             : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return CUDA_SUCCESS;
}

CUDA_API cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (exec == nullptr || driver().graphs.count(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
    // Bits 1 to 8: free at launch, upload, launch from the device, nodes' priorities. All but the third change nothing here.
    if ((flags & ~11ull) != 0) return invalid("cuGraphInstantiateWithFlags: flags %llu", flags);
    *exec = new CUgraphExec_st{call.context, graph->ops};
    driver().graph_execs.insert(*exec);
    return CUDA_SUCCESS;
}

CUDA_API cuGraphUpload(CUgraphExec exec, CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (call.stream(handle) == nullptr) return call.status;
    return driver().graph_execs.count(exec) == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUDA_API cuGraphLaunch(CUgraphExec exec, CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (driver().graph_execs.count(exec) == 0 || exec->context != call.context) return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture != nullptr) {
        stream->capture->invalidated = true;
        explain("cuGraphLaunch: a graph within a graph is not simulated");
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    for (const Op& op : exec->ops) {
        if (const CUresult r = call.enqueue(stream, op); r != CUDA_SUCCESS) return r;
    }
    return call.enqueue(stream, GraphEnd{});
}

CUDA_API cuGraphDestroy(CUgraph graph) {
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (driver().graphs.erase(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
    delete graph;
    return CUDA_SUCCESS;
}

CUDA_API cuGraphExecDestroy(CUgraphExec exec) {
    Call call(Call::Needs::Driver);
    if (call.status != CUDA_SUCCESS) return call.status;
    if (driver().graph_execs.erase(exec) == 0) return CUDA_ERROR_INVALID_VALUE;
    delete exec; // a launch that is under way has its own copy
    return CUDA_SUCCESS;
}
