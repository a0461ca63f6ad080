//! Switching stacks: by hand on x86-64, by ucontext elsewhere. AddressSanitizer is told of every switch, because it keeps
//! the bounds of the running stack and the places of its variables.

#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace simt {

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t STACK_BYTES = 512 * 1024; // redzones make frames several times larger
#else
constexpr std::size_t STACK_BYTES = 128 * 1024;
#endif

} // namespace

Stack StackPool::take() {
    if (!idle.empty()) {
        const Stack stack = idle.back();
        idle.pop_back();
#ifdef __SANITIZE_ADDRESS__
        // A fiber that was given up in mid-flight has left its frames' redzones behind.
        __asan_unpoison_memory_region(stack.bottom, stack.bytes);
#endif
        return stack;
    }
    const auto page = std::size_t(sysconf(_SC_PAGESIZE));
    void* region = mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (region == MAP_FAILED || mprotect(region, page, PROT_NONE) != 0) {
        std::perror("simt: no memory for a fiber's stack");
        std::abort();
    }
    return {static_cast<char*>(region) + page, STACK_BYTES};
}

StackPool& stack_pool() {
    static StackPool pool;
    return pool;
}

#ifdef __x86_64__

// Saves what a function must leave as it was (System V ABI) on the stack it leaves, and takes the same from the other.
// The control words of the floating-point units are the same in all fibers.
extern "C" void simt_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
.globl simt_switch
.hidden simt_switch
.type simt_switch, @function
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch, .-simt_switch

.p2align 4
.globl simt_start
.hidden simt_start
.type simt_start, @function
simt_start:
    movq %r12, %rdi
    xorl %ebp, %ebp
    callq *%r13
    ud2
.size simt_start, .-simt_start
)");
extern "C" void simt_start();

void prepare(Context& context, const Stack& stack, unsigned color, void (*run)(void*), void* argument) {
    context = Context{nullptr, nullptr, stack.bottom, stack.bytes};
    auto top = reinterpret_cast<std::uintptr_t>(stack.bottom + stack.bytes) - (color % 32u) * 128u;
    auto* frame = reinterpret_cast<std::uintptr_t*>(top & ~std::uintptr_t(15)) - 9;
    // As simt_switch pops them: r15, r14, r13, r12, rbx, rbp, the return address. At simt_start the stack is then aligned
    // as before a call.
    frame[0] = 0;
    frame[1] = 0;
    frame[2] = reinterpret_cast<std::uintptr_t>(run);
    frame[3] = reinterpret_cast<std::uintptr_t>(argument);
    frame[4] = 0;
    frame[5] = 0;
    frame[6] = reinterpret_cast<std::uintptr_t>(&simt_start);
    frame[7] = 0;
    context.stack_pointer = frame;
}

namespace {
void raw_switch(Context& from, Context& to) { simt_switch(&from.stack_pointer, to.stack_pointer); }
} // namespace

#else

namespace {

// makecontext hands over ints; a pointer takes two.
void start(unsigned run_high, unsigned run_low, unsigned argument_high, unsigned argument_low) {
    const auto join = [](unsigned high, unsigned low) { return std::uintptr_t(std::uint64_t(high) << 32 | low); };
    reinterpret_cast<void (*)(void*)>(join(run_high, run_low))(reinterpret_cast<void*>(join(argument_high, argument_low)));
}

void raw_switch(Context& from, Context& to) {
    ucontext_t here;
    from.stack_pointer = &here; // lives on the stack that is left, as long as it is left
    swapcontext(&here, static_cast<ucontext_t*>(to.stack_pointer));
}

} // namespace

void prepare(Context& context, const Stack& stack, unsigned color, void (*run)(void*), void* argument) {
    // The ucontext of a fiber that has not started yet lies at the bottom of its stack.
    auto* fresh = reinterpret_cast<ucontext_t*>(stack.bottom);
    getcontext(fresh);
    fresh->uc_stack.ss_sp = stack.bottom + sizeof(ucontext_t);
    fresh->uc_stack.ss_size = stack.bytes - sizeof(ucontext_t) - (color % 32u) * 128u;
    fresh->uc_link = nullptr;
    const auto high = [](const void* p) { return unsigned(std::uint64_t(reinterpret_cast<std::uintptr_t>(p)) >> 32); };
    const auto low = [](const void* p) { return unsigned(reinterpret_cast<std::uintptr_t>(p)); };
    const void* code = reinterpret_cast<const void*>(run);
    makecontext(fresh, reinterpret_cast<void (*)()>(start), 4, high(code), low(code), high(argument), low(argument));
    context = Context{fresh, nullptr, stack.bottom, stack.bytes};
}

#endif

void switch_context(Context& from, Context& to) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_bytes);
#endif
    raw_switch(from, to);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void leave_context(Context& from, Context& to) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(nullptr, to.stack_bottom, to.stack_bytes);
#endif
    raw_switch(from, to);
    std::abort(); // a fiber that has left was switched to
}

void enter_context(Context& from) {
#ifdef __SANITIZE_ADDRESS__
    // Only here does one learn the bounds of the thread's own stack, to which the fibers switch back.
    __sanitizer_finish_switch_fiber(nullptr, &from.stack_bottom, &from.stack_bytes);
#else
    (void)from;
#endif
}

} // namespace simt
