#pragma once
// The ways to a softmax, each by its name: for tests and benchmarks. softmax() chooses among the last four.
#include "views.h"

namespace softmap {

enum class Algorithm {
  three_pass_recompute,  // the maximum; the sum of exp(x - maximum); exponentials once more
  three_pass_reload,     // the maximum; the sum, exponentials being kept in out; the quotient
  two_pass,  // Dukhan & Ablavatski, arXiv:2001.04438, algorithm 3: sums of (mantissa, exponent); exponentials once more
  online,    // the sum to a reference that moves; exponentials once more
  reload,    // the same sum, exponentials being kept in out; the quotient
  fused,     // pass 1 of a row together with pass 2 of the row before it
  automatic
};

namespace SOFTMAP_BACKEND {

// softmax of C-contiguous rows by that algorithm, on one thread; x is not out. With `stream` the last pass stores past the
// caches, which of the first three wants rows that begin at aligned addresses. two_pass and the three-pass ones add up in T.
template <class T>
void softmax_by(Algorithm algorithm, const T* x, Index n_rows, Index n, T* out, bool stream);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
