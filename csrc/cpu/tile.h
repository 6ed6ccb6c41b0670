#pragma once
// As many small tables of comparisons as a register has lanes, one in each, and the state of their fits.
#include "core/ties.h"
#include "cpu/border.h"
#include "cpu/lanes.h"
#include "cpu/laplacian.h"
#include "fit.h"

namespace softmap::cpu {
namespace {

using V = Lanes<double>;
using M = Mask<double>;
constexpr int kWidth = V::size;
constexpr int kMaxPairs = kMaxItems * (kMaxItems - 1) / 2;
constexpr double kFixed = 0x1p490;  // precision that holds an item at its mean; weights are scaled to below 2
constexpr double kTrusted = 1e-8;   // rounding moves no score of an ok problem by more than this times max(1, max |s|)

// The problems, lane l of entry k at k * kWidth + l. Pairs i < j are numbered as in Laplacian; win is for i and loss for j.
// Set 0 is seen at s_i - s_j + advantage, set 1 (ordered tables only) at s_i - s_j - advantage. tie only if `ties`.
struct Tile {
  int n;
  bool ordered, ties;
  alignas(64) double mean[kMaxItems * kWidth], precision[kMaxItems * kWidth];  // not scaled
  alignas(64) double win[2][kMaxPairs * kWidth], loss[2][kMaxPairs * kWidth], tie[2][kMaxPairs * kWidth];

  int n_pairs() const { return n * (n - 1) / 2; }
  int n_sets() const { return ordered ? 2 : 1; }
};

constexpr int kColumn = Laplacian<V, kMaxItems>::kColumn;

// Their state. Weights and precisions are multiplied by scale, a power of two.
struct State {
  Laplacian<V, kMaxItems> hessian;
  V mean[kColumn], precision[kColumn];
  V s[kColumn], base[kColumn], step[kColumn], newton[kColumn];
  V path[kMaxPairs];  // resistance of the shortest path between two items
  V g[kColumn], low[kColumn], lowest[kColumn], right[kColumn], right_low[kColumn];
  V weight[kColumn];  // total of the comparisons of an item
  V flow[kMaxPairs];
  V scale, largest;  // largest weight
  V size;            // max(1, max |s|)
  M grounded;        // no item has a prior: scores are centred
  V status, n_iter, gradient_max;
  Border<V, kColumn> border;  // where more than the scores is estimated, or ties have a model
};

// A link as a tie model without ties.
template <class Link>
struct NoTies {
  static constexpr bool kPositive = false;
  static core::Outcomes<core::Slopes<V>> slopes(V d, V) {
    const auto f = Link::slopes(d);
    const V zero(0.);
    return {{f.win, zero, f.win_curve, zero, zero}, {-f.loss, zero, f.loss_curve, zero, zero}, {zero, zero, zero, zero, zero}};
  }
};

inline V mean_of(const V* x, int n) {
  V sum(0.);
  for (int i = 0; i < n; ++i) sum = sum + x[i];
  return sum * V(1. / n);
}
// max |x_i|, NaN where an entry is infinite or NaN.
inline V largest_of(const V* x, int n) {
  V largest(0.), zero(0.);
  for (int i = 0; i < n; ++i) {
    largest = max(largest, abs(x[i]));
    zero = fmadd(x[i], V(0.), zero);
  }
  return largest + zero;
}
inline V dot(const V* a, const V* b, int n) {
  V sum(0.);
  for (int i = 0; i < n; ++i) sum = fmadd(a[i], b[i], sum);
  return sum;
}

// x = H^-1 (right + right_low), centred where no item has a prior.
template <int N>
inline void solve_right(State& st, int n, V* x) {
  solve<N>(st.hessian, n, st.right, st.right_low, x);
  const V shift = select(st.grounded, mean_of(x, n), V(0.));
  for (int i = 0; i < n; ++i) x[i] = x[i] - shift;
}

}  // namespace
}  // namespace softmap::cpu
