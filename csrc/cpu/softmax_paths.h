#pragma once
// The ways of the softmax family that are compiled apart, and what they are for.
#include "core/half.h"
#include "cpu/exec.h"
#include "views.h"

namespace softmap::cpu {

inline constexpr Index kShortVectors = 12;  // registers in the longest short row

// True where `count` rows from `first` on lie side by side in memory.
template <class S>
bool lie_side_by_side(const Rows<S>& x, Index first, Index count) {
  const Axes& a = x.across;
  return x.along.n == 1 && a.n > 0 && a.stride[a.n - 1] == 1 && first % a.extent[a.n - 1] + count <= a.extent[a.n - 1];
}

// softmax_short.cpp: rows of 2 elements to kShortVectors registers.
template <class S>
bool is_short(Index n);
template <class S>
void short_softmax(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);
template <class S>
void short_log_softmax(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);
template <class S>
void short_logsumexp(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, S* out, const Exec& exec);

// softmax_columns.cpp: rows of at least kShortestColumn that lie side by side in x; out may be anything. Their sums are in
// another order, which shorter rows are spared: these have the same bits wherever they lie.
inline constexpr Index kShortestColumn = 17;
template <class S>
bool are_columns(const Rows<const S>& x);
template <class S>
void columns_softmax(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);
template <class S>
void columns_log_softmax(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);
template <class S>
void columns_logsumexp(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, S* out, const Exec& exec);

}  // namespace softmap::cpu
