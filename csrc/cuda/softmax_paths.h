#pragma once
// The ways of softmax.cu for rows of some length. out is one row a row, or, for kLogSumExp, one number a row.
#include "softmax.h"

namespace softmap::cuda {

enum class Op { kSoftmax, kLogSoftmax, kLogSumExp };

inline constexpr Index kShortRow = 32, kHeldRow = 16384;  // of that many columns at most

// Rows of kShortRow columns at most: many rows a block.
template <Op op, class S>
void short_rows(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);

// Rows of more than kHeldRow columns: several blocks a row.
template <Op op, class S>
void long_rows(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);

}  // namespace softmap::cuda
