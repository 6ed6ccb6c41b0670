#pragma once
// The ways of softmax.cu for rows of some length. out is one row a row, or, for kLogSumExp, one number a row.
#include "softmax.h"

namespace softmap::cuda {

enum class Op { kSoftmax, kLogSoftmax, kLogSumExp };

// Of that many columns at most. Numbers of 16 bits would be read twice by the way of longer rows, so that a block of 1024 holds
// them; a sum reads them once either way.
inline constexpr Index kShortRow = 32;
template <Op op, class S>
inline constexpr Index kHeldRow = sizeof(S) == 2 && op != Op::kLogSumExp ? 32768 : 16384;

// Rows of kShortRow columns at most: many rows a block.
template <Op op, class S>
void short_rows(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);

// Rows of more columns than kHeldRow: several blocks a row.
template <Op op, class S>
void long_rows(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);

}  // namespace softmap::cuda
