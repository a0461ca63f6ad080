//! The calls about streams and events.

#include "driver.h"

using namespace simt;

CUDA_API cuStreamCreateWithPriority(CUstream* result, unsigned flags, int priority) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (result == nullptr || (flags & ~CU_STREAM_NON_BLOCKING) != 0) return invalid("cuStreamCreate: flags %u", flags);
    auto* stream = new CUstream_st;
    stream->context = call.context;
    stream->blocking = (flags & CU_STREAM_NON_BLOCKING) == 0;
    stream->priority = priority; // clamped by drivers; nothing here runs at once with another, so it changes nothing
    call.context->streams.insert(stream);
    *result = stream;
    return CUDA_SUCCESS;
}

CUDA_API cuStreamCreate(CUstream* result, unsigned flags) { return cuStreamCreateWithPriority(result, flags, 0); }

CUDA_API cuStreamDestroy_v2(CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    if (handle == nullptr) return invalid("cuStreamDestroy: the legacy stream");
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    // A device goes on with the stream's work after the call; here it is done now, but a hanging kernel does not hold the call.
    while (step(*stream) == Step::Ran) {
    }
    call.context->streams.erase(stream);
    if (!stream->hung && stream->queue.empty()) delete stream; // marks may still point to one that has work left
    return CUDA_SUCCESS;
}

CUDA_API cuStreamSynchronize(CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (stream->capture != nullptr) {
        stream->capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return call.complete(stream);
}

namespace {

/// What a query does: under `late` one piece of work, so that who polls comes to an end but never at the first time.
CUresult query(const Call& call, CUstream stream, const std::shared_ptr<Mark>& mark) {
    const auto pending = [&] {
        return mark != nullptr ? !mark->done : stream->hung || stream->running != nullptr || !stream->queue.empty();
    };
    if (pending() && !options().early) {
        step(*stream);
        return call.context->sticky != CUDA_SUCCESS ? call.context->sticky : CUDA_ERROR_NOT_READY;
    }
    while (pending() && step(*stream) == Step::Ran) {
    }
    if (call.context->sticky != CUDA_SUCCESS) return call.context->sticky;
    return pending() ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

} // namespace

CUDA_API cuStreamQuery(CUstream handle) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (stream->capture != nullptr) {
        stream->capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return query(call, stream, nullptr);
}

CUDA_API cuStreamWaitEvent(CUstream handle, CUevent event, unsigned flags) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (driver().events.count(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
    if (flags != 0) return invalid("cuStreamWaitEvent: flags %u", flags);
    if (event->captured || stream->capture != nullptr) {
        // A capture that goes over to another stream, and waits for work outside, are not simulated.
        const bool within = event->captured && stream->capture != nullptr && event->mark->stream == stream;
        if (within) return CUDA_SUCCESS; // the stream's own order says so already
        if (stream->capture != nullptr) stream->capture->invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (event->mark == nullptr || event->mark->done) return CUDA_SUCCESS;
    return call.enqueue(stream, Await{event->mark});
}

CUDA_API cuEventCreate(CUevent* result, unsigned flags) {
    Call call;
    if (call.status != CUDA_SUCCESS) return call.status;
    constexpr unsigned KNOWN = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING;
    if (result == nullptr || (flags & ~KNOWN) != 0) return invalid("cuEventCreate: flags %u", flags);
    *result = new CUevent_st{call.context, (flags & CU_EVENT_DISABLE_TIMING) == 0, false, nullptr};
    driver().events.insert(*result);
    return CUDA_SUCCESS;
}

namespace {

CUresult check_event(const Call& call, CUevent event) {
    if (call.status != CUDA_SUCCESS) return call.status;
    return driver().events.count(event) == 0 ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

} // namespace

CUDA_API cuEventDestroy_v2(CUevent event) {
    Call call;
    if (const CUresult r = check_event(call, event); r != CUDA_SUCCESS) return r;
    driver().events.erase(event);
    delete event; // what was recorded lives on in the streams
    return CUDA_SUCCESS;
}

CUDA_API cuEventRecord(CUevent event, CUstream handle) {
    Call call;
    if (const CUresult r = check_event(call, event); r != CUDA_SUCCESS) return r;
    CUstream stream = call.stream(handle);
    if (stream == nullptr) return call.status;
    if (event->context != call.context) return CUDA_ERROR_INVALID_HANDLE;
    event->mark = std::make_shared<Mark>();
    event->mark->stream = stream;
    event->captured = stream->capture != nullptr;
    // In a capture it only stands for its place: a graph does not record it.
    return event->captured ? CUDA_SUCCESS : call.enqueue(stream, Record{event->mark});
}

CUDA_API cuEventQuery(CUevent event) {
    Call call;
    if (const CUresult r = check_event(call, event); r != CUDA_SUCCESS) return r;
    if (event->captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    return event->mark == nullptr || event->mark->done ? CUDA_SUCCESS : query(call, event->mark->stream, event->mark);
}

CUDA_API cuEventSynchronize(CUevent event) {
    Call call;
    if (const CUresult r = check_event(call, event); r != CUDA_SUCCESS) return r;
    if (event->captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (const CUresult r = call.forbid_in_capture(); r != CUDA_SUCCESS) return r;
    const std::shared_ptr<Mark> mark = event->mark; // the event may be recorded anew while this call hangs
    return mark == nullptr ? CUDA_SUCCESS : call.complete(mark);
}

CUDA_API cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    Call call;
    if (const CUresult r = check_event(call, start); r != CUDA_SUCCESS) return r;
    if (const CUresult r = check_event(call, end); r != CUDA_SUCCESS) return r;
    if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (!start->timing || !end->timing || start->mark == nullptr || end->mark == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (!start->mark->done || !end->mark->done) return CUDA_ERROR_NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(end->mark->time - start->mark->time).count();
    return CUDA_SUCCESS;
}

CUDA_API cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
    return cuEventElapsedTime(milliseconds, start, end);
}
