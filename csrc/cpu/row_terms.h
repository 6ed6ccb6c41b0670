#pragma once
// Sums over the terms of a row, once its maximum is known.
#include "cpu/row_sum.h"

namespace softmap::cpu {
namespace {

// A running sum; low carries what rounding took, so that neither the length of a row nor the order of its numbers shows.
template <class V>
struct Sum {
  V m{typename core::lane<V>::Scalar(0)}, low = m;
  void operator+=(V value) {
    V rounding;
    m = core::two_sum(m, value, rounding);
    low = low + rounding;
  }
};

template <class T>
T total_of(const Sum<Lanes<T>>& sum, int n_lanes) {
  T m[Lanes<T>::size], low[Lanes<T>::size];
  sum.m.store(m);
  sum.low.store(low);
  Sum<T> total;
  for (int k = 0; k < n_lanes; ++k) {
    total += m[k];
    total.low += low[k];
  }
  return total.m + total.low;
}

// z minus its maximum at temperature 1, without the division.
template <class T>
struct Undivided {
  T maximum;
  template <class V>
  V operator()(V x, V& low) const {
    return core::two_sum(x, V(-maximum), low);
  }
};

// sums[j] of one segment of a row: terms(x, d, p, first, count, sums) adds the terms of some columns, with d = z minus its
// maximum and p = exp(d) 2^lift as lanes; x is -inf beyond the end. Left to itself, the compiler calls a function for each
// exponential.
template <int n_sums, class S, class Shift, class Terms, class T = Compute<S>>
__attribute__((flatten)) void sum_terms(const S* x_row, Index first, Index last, const Shift& shifted, const Terms& terms,
                                        T* totals, T lift) {
  using L = Lanes<T>;
  Sum<L> sums[n_sums];
  for (Index i = first; i < last; i += L::size) {
    const int count = last - i < L::size ? static_cast<int>(last - i) : L::size;
    const L x = count == L::size ? load(x_row + i) : load(x_row + i, count, -kInf<T>);
    L d;
    const auto p = exp_of(x, shifted, d);
    terms(x, d, scale2(p.m, p.e + L(lift)), i, count, sums);
  }
  const int n_lanes = last - first < L::size ? static_cast<int>(last - first) : L::size;
  for (int j = 0; j < n_sums; ++j) totals[j] = total_of(sums[j], n_lanes);
}

// The same of a whole row. Segments of a long one are summed apart, by several threads, and added in order.
template <int n_sums, class S, class Shift, class Terms, class T = Compute<S>>
void sum_row(const Row<S>& row, const Shift& shifted, const Terms& terms, double (&totals)[n_sums], T lift = T(0)) {
  T parts[Row<S>::kMostSegments + 1][n_sums];
  row.each_segment(
      [&](Index k, Index first, Index last) { sum_terms<n_sums>(row.x, first, last, shifted, terms, parts[k], lift); });
  const Index n_parts = (row.n + row.segment() - 1) / row.segment();
  for (int j = 0; j < n_sums; ++j) {
    Sum<double> total;
    for (Index k = 0; k < n_parts; ++k) {
      total += static_cast<double>(parts[k][j]);
    }
    totals[j] = total.m + total.low;
  }
}

}  // namespace
}  // namespace softmap::cpu
