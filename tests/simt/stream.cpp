//! Working off streams: what is in a queue, in its order, and kernels that start before the one before has finished.

#include "driver.h"

#include <cstdio>
#include <cstring>

namespace simt {

namespace {

/// The kernel that comes next, if it may start before the one that is running has finished.
const Kernel* early_next(const CUstream_st& stream) {
    if (stream.queue.empty()) return nullptr;
    const Kernel* next = std::get_if<Kernel>(&stream.queue.front());
    return next != nullptr && next->programmatic ? next : nullptr;
}

/// Counts a launch; false where it is the one that hangs, and throws from the one on that the device is lost.
bool count_launch(CUctx_st& context) {
    options().read_policies();
    const u64 launch = ++context.launches;
    const Options& o = options();
    if (o.lose != 0 && launch >= o.lose && context.device == o.lose_device) {
        context.sticky = CUDA_ERROR_UNKNOWN;
        throw Failure{"SIMT_LOSE: the device is lost at launch " + std::to_string(launch)};
    }
    return o.hang == 0 || launch != o.hang || context.device != o.hang_device;
}

std::unique_ptr<Grid> make_grid(const Kernel& kernel) {
    return std::make_unique<Grid>(*kernel.entry, kernel.args.data(), kernel.grid, kernel.shared_bytes);
}

/// The kernel at the front of the queue becomes the running one.
Step start_kernel(CUstream_st& stream, const Kernel& kernel) {
    if (!count_launch(*stream.context)) {
        if (stream.running != nullptr) stream.running->finish();
        stream.running.reset();
        stream.hung = true;
        return Step::Stuck;
    }
    std::unique_ptr<Grid> next = make_grid(kernel);
    if (stream.running != nullptr) {
        // The hostile order: the next kernel goes as far as it can without what this one writes, and before it reads.
        next->begin();
        stream.running->finish();
    }
    stream.running = std::move(next);
    stream.queue.pop_front();
    return Step::Ran;
}

void copy(const Copy& c) {
    if (c.bytes != 0) std::memmove(c.to, c.staged.empty() ? c.from : c.staged.data(), c.bytes);
}

void fill(const Fill& f) {
    if (f.width == 1) {
        std::memset(f.to, int(f.value), f.count);
        return;
    }
    for (size_t i = 0; i < f.count; i++) std::memcpy(static_cast<u8*>(f.to) + 4 * i, &f.value, 4);
}

/// The front of the queue, which no kernel runs before.
Step do_front(CUstream_st& stream) {
    Op& front = stream.queue.front();
    if (const Kernel* kernel = std::get_if<Kernel>(&front)) return start_kernel(stream, *kernel);
    if (const Await* await = std::get_if<Await>(&front)) {
        if (!await->mark->done) {
            const Step other = step(*await->mark->stream);
            if (other != Step::Idle) return other;
            if (stream.context->sticky != CUDA_SUCCESS) return Step::Idle;
            throw Failure{"an event is awaited that no stream comes to"};
        }
    } else if (const Copy* c = std::get_if<Copy>(&front)) {
        copy(*c);
    } else if (const Fill* f = std::get_if<Fill>(&front)) {
        fill(*f);
    } else if (const Record* record = std::get_if<Record>(&front)) {
        record->mark->time = std::chrono::steady_clock::now();
        record->mark->done = true;
    }
    stream.queue.pop_front();
    return Step::Ran;
}

/// After a failure nothing of the context is done any more.
void abandon(CUctx_st& context) {
    const auto clear = [](CUstream_st& stream) {
        stream.queue.clear();
        stream.running.reset();
    };
    for (CUstream stream : context.streams) clear(*stream);
    if (context.legacy != nullptr) clear(*context.legacy);
}

} // namespace

Step step(CUstream_st& stream) {
    if (stream.hung) return Step::Stuck;
    try {
        if (stream.running != nullptr) {
            if (const Kernel* next = early_next(stream)) return start_kernel(stream, *next);
            stream.running->finish();
            stream.running.reset();
            return Step::Ran;
        }
        return stream.queue.empty() ? Step::Idle : do_front(stream);
    } catch (const Failure& failure) {
        explain("%s", failure.message.c_str());
        if (stream.context->sticky == CUDA_SUCCESS) stream.context->sticky = CUDA_ERROR_LAUNCH_FAILED;
        abandon(*stream.context);
        return Step::Idle;
    }
}

CUresult Call::complete(CUstream stream) {
    for (;;) {
        const Step s = step(*stream);
        if (s == Step::Stuck) hang();
        if (s == Step::Idle) return context->sticky;
    }
}

CUresult Call::complete_all() {
    // By a copy: a failure in one stream leaves the set as it is, but a call that hangs lets others change it.
    const std::vector<CUstream> streams(context->streams.begin(), context->streams.end());
    for (CUstream stream : streams) complete(stream);
    return complete(context->legacy.get());
}

CUresult Call::complete(const std::shared_ptr<Mark>& mark) {
    while (!mark->done && context->sticky == CUDA_SUCCESS) {
        const Step s = step(*mark->stream);
        if (s == Step::Stuck) hang();
        if (s == Step::Idle) break;
    }
    return context->sticky;
}

CUresult Call::enqueue(CUstream stream, Op op) {
    if (Capture* capture = stream->capture.get()) {
        if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        capture->ops.push_back(std::move(op));
        return CUDA_SUCCESS;
    }
    if (stream == context->legacy.get()) {
        // The legacy stream waits for the blocking ones and they for it; here it is never left with work.
        for (CUstream other : std::vector<CUstream>(context->streams.begin(), context->streams.end())) {
            if (other->blocking) complete(other);
        }
        if (context->sticky != CUDA_SUCCESS) return context->sticky;
        stream->queue.push_back(std::move(op));
        return complete(stream);
    }
    stream->queue.push_back(std::move(op));
    // At once, but for the end of the last kernel: one may follow that is to start before it.
    if (options().early) {
        while (!stream->queue.empty() && step(*stream) == Step::Ran) {
        }
    }
    return CUDA_SUCCESS; // as on a device, a failure shows in later calls
}

CUresult Call::forbid_in_capture() {
    const auto me = std::this_thread::get_id();
    bool forbidden = false;
    for (CUctx_st& each : driver().contexts) {
        for (CUstream stream : each.streams) {
            Capture* capture = stream->capture.get();
            if (capture == nullptr || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
            if (capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && capture->thread != me) continue;
            capture->invalidated = true;
            forbidden = true;
        }
    }
    if (forbidden) explain("a call was made that is not permitted while a stream is captured");
    return forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

CUstream Call::stream(CUstream handle) {
    if (handle == nullptr) return context->legacy.get();
    if (context->streams.count(handle) != 0) return handle;
    explain("%p is no stream of the current context", static_cast<void*>(handle));
    status = CUDA_ERROR_INVALID_HANDLE;
    return nullptr;
}

} // namespace simt
