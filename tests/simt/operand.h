//! An operand of a warpgroup's product: a matrix of halves in shared memory, as a 64-bit descriptor describes it.
//!
//! PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions": "Matrix Descriptor Format", "Strides", "Canonical Layouts".
//! Both operands are K-major here: a row's 16 halves are two chunks of 16 bytes. Rows go in groups of 8, the stride offset
//! apart; within a group a row is the swizzle's span long (no swizzle: 16 bytes, and the two chunks are the leading offset
//! apart). The swizzle then XORs bits of the whole address, as for the copy engine: it does not start at the descriptor.
#pragma once

#include "proxy.h"
#include "tensor_core.h"

namespace simt {

class Operand {
  public:
    /// Fails on a descriptor that is malformed or that does not lie as the swizzle demands.
    Operand(u64 descriptor, const char* name);

    /// Halves of `count` rows from `first` on, 16 each. Fails where they are not in shared memory, or were written by
    /// ordinary stores that no fence_proxy_async followed.
    void gather(const AsyncView& view, u32 first, u32 count, u16* to) const;

  private:
    const char* name;
    u32 start;   // shared addresses and bytes, all multiples of 16
    u32 leading; // from a row's first chunk to its second
    u32 stride;  // from 8 rows to the next 8
    u32 span;    // from a row to the next
    u32 mask;    // of address bits 7 and up, that are XORed into bits 4 and up
};

/// The product's columns of B, ready for multiply_warp. Kept for as long as the operand holds the same halves: warps and
/// warpgroups share a B.
const float* spread_operand(const Operand& b, const AsyncView& view, Half type, u32 n);

} // namespace simt
