//! What a tensor core computes, apart from who calls it: 16 rows by n columns, 16 deep, of halves, summed in f32.
//!
//! Order of a sum: an element starts from its old value, or 0, and its 16 products are added one by one, the lowest depth
//! first, each sum rounded to nearest. A device adds in an order of its own and may truncate, so results are to be compared
//! with a tolerance. Products of f16 are exact in f32; those of bf16 are too unless they leave its range of exponents. So
//! it makes no difference whether a host multiplies and adds in one instruction or in two.
//!
//! Fragments are computed where they lie, in the layout that mma's and wgmma's accumulators share (PTX ISA, "Matrix
//! Fragments for mma.m16n8k16" and "wgmma.mma_async.m64nNk16", figure of matrix D): lane 4g + q holds, at index
//! 4j + 2h + e, row g + 8h and column 8j + 2q + e.
#pragma once

#include "simt.h"

namespace simt {

enum class Half : u8 { F16, BF16 };

/// `count` is a multiple of 16.
void to_floats(Half type, const u16* from, float* to, u32 count);

constexpr u32 DEPTH = 16; // of every product here

/// B as the lanes read it, so that their loops run over adjacent elements: for q from 0 to 3, for each depth, B's value for
/// each index of a fragment. `b` is n rows of 16, one a column of the product.
void spread_columns(const float* b, u32 n, float* spread);
constexpr u32 spread_len(u32 n) { return 4 * DEPTH * (n / 2); }

/// d = a b + d, or a b where `accumulate` is false, for 32 lanes' fragments of 16 rows and n columns; n is 8 or a multiple
/// of 128. `a` is 16 rows of 16.
void multiply_warp(float* const d[WARP], u32 n, const float* a, const float* spread, bool accumulate);

} // namespace simt
