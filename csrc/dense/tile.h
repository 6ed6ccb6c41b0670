#pragma once
// As many small tables of comparisons as a value type has lanes, one in each, and the state of their fits.
#include "core/ties.h"
#include "dense/border.h"
#include "dense/laplacian.h"
#include "fit.h"

namespace softmap::dense {
namespace {

constexpr double kFixed = 0x1p490;  // precision that holds an item at its mean; weights are scaled to below 2
constexpr double kTrusted = 1e-8;   // rounding moves no score of an ok problem by more than this times max(1, max |s|)

// The problems. Pairs i < j are numbered as in Laplacian; win is for i and loss for j. Set 0 is seen at s_i - s_j + advantage,
// set 1 (ordered tables only) at s_i - s_j - advantage. tie only if `ties`.
template <class P, int kItems = kMaxItems>
struct Tile {
  static constexpr int kPairs = kItems * (kItems - 1) / 2;
  int n;
  bool ordered, ties;
  alignas(64) typename P::template Numbers<kItems> mean, precision;  // not scaled
  alignas(64) typename P::template Sets<kPairs> win, loss, tie;

  SOFTMAP_HD int n_pairs() const { return n * (n - 1) / 2; }
  SOFTMAP_HD int n_sets() const { return ordered ? 2 : 1; }
};

// Their state. Weights and precisions are multiplied by scale, a power of two.
template <class P, int kItems = kMaxItems>
struct State {
  using Place = P;
  using V = typename P::V;
  using Mask = typename core::lane<V>::Mask;
  static constexpr int kColumn = Laplacian<P, kItems>::kColumn;
  using Column = typename P::template Values<kColumn>;
  using Resting = typename P::template Resting<kColumn>;
  using Pairs = typename P::template Values<kItems*(kItems - 1) / 2>;

  Laplacian<P, kItems> hessian;
  Resting mean, precision, s, g;
  Resting weight;  // total of the comparisons of an item
  Column base, step, newton;
  Pairs path;  // resistance of the shortest path between two items
  Column low, lowest, right, right_low;
  Pairs flow;
  typename P::template Values<P::kGroups ? kItems*(kItems - 1) / 2 : 1> third;  // derivative of the objective by the difference
  V scale, largest;                                                             // largest weight
  V size;                                                                       // max(1, max |s|)
  Mask grounded;                                                                // no item has a prior: scores are centred
  V status, n_iter, gradient_max;
  Border<P, kColumn> border;  // where more than the scores is estimated, or ties have a model
};

// A link as a tie model without ties.
template <class Link>
struct NoTies {
  static constexpr bool kPositive = false;
  static constexpr double kShare = 1;
  template <class V>
  SOFTMAP_HD static core::Parts<V> parts(V d, V, V win, V loss, V) {
    const auto f = Link::slopes(d);
    const V zero(0.), up = win * f.win, down = loss * f.loss, curve = fmadd(win, f.win_curve, loss * f.loss_curve);
    return {{up - down, zero, zero, zero}, {up + down, zero, zero, zero}, {curve, zero, zero, zero}};
  }
};

// A value of a column, which is an array or what a Place has in its stead.
template <class Column>
using ValueOf = std::remove_cvref_t<decltype(std::declval<const Column&>()[0])>;

template <class Column, class V = ValueOf<Column>>
SOFTMAP_HD V mean_of(const Column& x, int n) {
  V sum(0.);
  for (int i = 0; i < n; ++i) sum = sum + x[i];
  return sum * V(1. / n);
}
// max |x_i|, NaN where an entry is infinite or NaN.
template <int N = 0, class Column, class V = ValueOf<Column>>
SOFTMAP_HD V largest_of(const Column& x, int n) {
  V largest(0.), zero(0.);
  SOFTMAP_UNROLL(N)
  for (int i = 0; i < n; ++i) {
    largest = max(largest, abs(x[i]));
    zero = fmadd(x[i], V(0.), zero);
  }
  return largest + zero;
}
template <class Column, class V = ValueOf<Column>>
SOFTMAP_HD V dot(const Column& a, const Column& b, int n) {
  V sum(0.);
  for (int i = 0; i < n; ++i) sum = fmadd(a[i], b[i], sum);
  return sum;
}

// x = H^-1 (right + right_low), centred where no item has a prior.
template <int N, class State, class Column>
SOFTMAP_HD void solve_right(State& st, int n, Column& x) {
  using V = typename State::V;
  solve<N>(st.hessian, n, st.right, st.right_low, x);
  const V shift = select(st.grounded, mean_of(x, n), V(0.));
  for (int i = 0; i < n; ++i) x[i] = x[i] - shift;
}

}  // namespace
}  // namespace softmap::dense
