//! See proxy.h.

#include "proxy.h"
#include "ptx.cuh"

namespace simt {

/// Shared memory as a block starts with it.
AsyncView::AsyncView() : view(shared_bytes(), 0xff) {}

void AsyncView::refresh() {
    if (!fenced) return;
    fenced = false;
    std::memcpy(view.data(), shared_base(), view.size());
}

void AsyncView::write(u32 offset, const u8* from) {
    std::memcpy(view.data() + offset, from, 16);
    std::memcpy(shared_base() + offset, from, 16);
}

void AsyncView::poison(u32 offset) {
    std::memset(view.data() + offset, 0xff, 16);
    std::memset(shared_base() + offset, 0xff, 16);
}

void fence_proxy_async() {
    require(90, "fence_proxy_async");
    block_state<AsyncView>().fence();
}

} // namespace simt
