//! The asynchronous proxy's view of shared memory: what the copy engine and the warpgroups' products see.
//!
//! Ordinary writes and asynchronous accesses go by different proxies; between them fence.proxy.async must stand (PTX ISA,
//! "Memory Consistency Model: Proxies", "Async proxy"). The view here lags behind memory: it holds what was there at the
//! last fence, and what the copy engine wrote since. Where an asynchronous access finds that memory and view differ, an
//! ordinary write was not fenced, and the launch fails.
//!
//! It errs on the lenient side: a fence by any thread counts for all, and also for what is written between it and the next
//! asynchronous access (the view is brought up to date only then, because that is cheap). Writes of the bytes that were
//! there before go unnoticed.
#pragma once

#include <cstring>
#include <vector>

#include "simt.h"

namespace simt {

class AsyncView {
  public:
    AsyncView();
    void fence() { fenced = true; }
    /// Brings the view up to date if a fence was called; before any of the below.
    void refresh();
    /// Whether `bytes` at the offset are as the view has them.
    bool agrees(u32 offset, u32 bytes) const {
        return std::memcmp(view.data() + offset, shared_base() + offset, bytes) == 0;
    }
    /// An asynchronous write of 16 bytes, or of poison over all of them.
    void write(u32 offset, const u8* from);
    void poison(u32 offset);

  private:
    std::vector<u8> view;
    bool fenced = false;
};

} // namespace simt
