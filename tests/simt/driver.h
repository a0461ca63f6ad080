//! The simulated driver's objects and what its calls share.
//!
//! One lock is held during every call, also while kernels run within it. Streams are queues of operations that nothing
//! works off but calls: a stream's work is done when a call demands it, and under SIMT_ASYNC=early as soon as it can be.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "cuda_api.h"
#include "grid.h"
#include "options.h"

namespace simt {

// ---- operations of a stream ----

struct Kernel {
    const Entry* entry;
    std::vector<u8> args;
    u32 grid[3];
    u32 shared_bytes;
    bool programmatic; // may start before the kernel before it has finished
};
struct Copy {
    void* to;
    const void* from;
    size_t bytes;
    std::vector<u8> staged; // what a pageable source held at the call; else empty, and `from` is read when it is done
};
struct Fill {
    void* to;
    u32 value;
    u32 width; // bytes of the value that count: 1 or 4
    size_t count;
};
/// A point of a stream that an event was recorded at.
struct Mark {
    CUstream stream;
    bool done = false;
    std::chrono::steady_clock::time_point time{};
};
struct Record {
    std::shared_ptr<Mark> mark;
};
struct Await {
    std::shared_ptr<Mark> mark;
};
/// The end of a graph: a kernel behind it does not start early.
struct GraphEnd {};
using Op = std::variant<Kernel, Copy, Fill, Record, Await, GraphEnd>;

/// Operations that a stream collects instead of doing them.
struct Capture {
    std::vector<Op> ops;
    CUstreamCaptureMode mode;
    std::thread::id thread;
    bool invalidated = false;
};

} // namespace simt

// ---- what the handles point to ----

struct CUstream_st {
    CUcontext context;
    bool blocking;
    int priority;
    std::deque<simt::Op> queue;
    std::unique_ptr<simt::Grid> running; // a kernel that has been taken from the queue and not been finished
    std::unique_ptr<simt::Capture> capture;
    bool hung = false; // by SIMT_HANG, for ever
};

struct CUevent_st {
    CUcontext context;
    bool timing;
    bool captured = false;
    std::shared_ptr<simt::Mark> mark; // null: never recorded
};

struct CUgraph_st {
    std::vector<simt::Op> ops;
};
struct CUgraphExec_st {
    CUcontext context;
    std::vector<simt::Op> ops;
};

struct CUfunc_st {
    CUmodule module;
    const simt::Entry* entry;
    int max_dynamic_shared = 48 * 1024;
};
struct CUmod_st {
    CUcontext context;
    bool lists_symbols = false; // an image without a table of symbols is taken to hold every entry
    std::set<std::string> symbols;
    std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};

/// A device's primary context.
struct CUctx_st {
    int device;
    unsigned retained = 0;
    CUresult sticky = CUDA_SUCCESS; // the error after which nothing works any more
    simt::u64 launches = 0;
    simt::u64 used_bytes = 0;
    std::map<CUdeviceptr, size_t> allocations;
    std::set<CUstream> streams;
    std::unique_ptr<CUstream_st> legacy; // the stream that null means
    std::set<CUmodule> modules;
};

namespace simt {

struct Driver {
    std::mutex lock;
    bool initialised = false;
    std::deque<CUctx_st> contexts; // one a device; they do not move
    std::map<const u8*, size_t> pinned;
    std::set<CUevent> events;
    std::set<CUgraph> graphs;
    std::set<CUgraphExec> graph_execs;
    std::set<CUfunction> functions;
};
Driver& driver();

/// Says on standard error why a call is refused; the number alone would send one searching.
[[gnu::format(printf, 1, 2)]] void explain(const char* format, ...);
/// The same, and gives CUDA_ERROR_INVALID_VALUE.
[[gnu::format(printf, 1, 2)]] CUresult invalid(const char* format, ...);

/// Held for the length of a call: the lock, and the calling thread's context if there must be one.
class Call {
  public:
    enum class Needs { Nothing, Driver, Context };
    explicit Call(Needs needs = Needs::Context);
    /// What the call must return if it is not CUDA_SUCCESS: not initialised, no context, or the context's sticky error.
    CUresult status = CUDA_SUCCESS;
    CUcontext context = nullptr;

    /// The stream of a handle, null being the legacy one; null and `status` set if there is none.
    CUstream stream(CUstream handle);
    /// For calls that may not be made while some stream is captured (which then spoils the capture).
    CUresult forbid_in_capture();
    /// Works off a stream, or all of the context. Where a kernel hangs, so does this call, for ever and without the lock.
    CUresult complete(CUstream stream);
    CUresult complete_all();
    CUresult complete(const std::shared_ptr<Mark>& mark);
    /// Adds to a stream or to its capture.
    CUresult enqueue(CUstream stream, Op op);

  private:
    [[noreturn]] void hang();
    std::unique_lock<std::mutex> guard;
};

/// The calling thread's current context.
CUcontext& current_context();

/// Does the next piece of a stream's work.
enum class Step { Ran, Idle, Stuck };
Step step(CUstream_st& stream);

/// True where [at, at + bytes) lies in one allocation of the context, or in pinned memory.
bool on_device(const CUctx_st& context, CUdeviceptr at, size_t bytes);
bool is_pinned(const void* at, size_t bytes);

/// Shared memory that a block may have on this machine, when asked for, and a multiprocessor.
u32 shared_limit();
u32 shared_of_multiprocessor();

} // namespace simt
