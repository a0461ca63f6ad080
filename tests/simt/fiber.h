//! Fibers: stacks of their own, between which one operating-system thread switches.
//!
//! A stack ends in a page that nobody may touch, so that an overflow stops the program where it happens. Stacks are kept
//! and used again: a grid of a thousand blocks makes no more of them than one block needs.
#pragma once

#include <cstddef>
#include <vector>

namespace simt {

/// Where a fiber, or the thread that runs the fibers, has been left.
struct Context {
    void* stack_pointer = nullptr;
    // What AddressSanitizer must be told of a stack before it is switched to; unused without it.
    void* fake_stack = nullptr;
    const void* stack_bottom = nullptr;
    std::size_t stack_bytes = 0;
};

struct Stack {
    char* bottom;
    std::size_t bytes;
};

/// Stacks that no fiber uses.
class StackPool {
  public:
    Stack take();
    void give(Stack stack) { idle.push_back(stack); }

  private:
    std::vector<Stack> idle;
};

StackPool& stack_pool();

/// Prepares `context` so that the first switch to it calls `run(argument)`, which must not return.
/// `color` moves the first frame by some cache lines: else all fibers' frames would compete for the same sets of the cache.
void prepare(Context& context, const Stack& stack, unsigned color, void (*run)(void*), void* argument);

/// Leaves `from`, goes on at `to`, and returns when somebody switches to `from` again.
void switch_context(Context& from, Context& to);

/// As `switch_context`, by a fiber that nobody will switch to again.
[[noreturn]] void leave_context(Context& from, Context& to);

/// The first thing that a new fiber does; `from` is what it was switched from.
void enter_context(Context& from);

} // namespace simt
