#pragma once
// What all comparisons of a problem share, beside its scores: the advantage of the first position and the parameter of the tie
// model. Minus the Hessian is then (H, C; C', D) with H as in laplacian.h, C and D those of at most two more parameters.
#include "core/ties.h"
#include "dense/place.h"

namespace softmap::dense {

// A change of all scores by sign (x + low), of the advantage by a + a_low, and of the parameter of ties by t. low may be null.
template <class Column, class V>
struct Direction {
  const Column& x;
  const Column* low;
  V sign, a, a_low, t;

  SOFTMAP_HD V score(int i) const { return low ? sign * (x[i] + (*low)[i]) : sign * x[i]; }
  // What changes with it in comparisons of i and j. Differences, of which little may be left, are exact before they are used.
  SOFTMAP_HD core::Along<V> change(int i, int j, V side, V share) const {
    V rounding, rest;
    const V d = core::two_sum(core::two_sum(sign * x[i], -(sign * x[j]), rounding), side * a, rest);
    rest = fmadd(side, a_low, rest) + rounding;
    if (low) rest = fmadd(sign, (*low)[i] - (*low)[j], rest);
    return {d + rest, t, fmadd(share, rest, fmadd(share, d, -t)), fmadd(share, rest, fmadd(share, d, t))};
  }
};

// What is added up, over all comparisons and priors, along two directions.
template <class V>
struct Passage {
  V square{0.}, product{0.};                                        // curvature along the first, and along both
  V slope{0.}, low{0.}, other_slope{0.}, other_low{0.}, error{0.};  // slopes, in two parts, and what the first may be wrong by

  SOFTMAP_HD static V dot(const core::Along<V>& x, const core::Along<V>& y) {
    return fmadd(x.d, y.d, x.t * y.t) + fmadd(x.below, y.below, x.above * y.above);
  }
  SOFTMAP_HD static void add(V& sum, V& low, V term) {
    V rounding;
    sum = core::two_sum(sum, term, rounding);
    low = low + rounding;
  }
  SOFTMAP_HD void add(const core::Parts<V>& of, const core::Along<V>& first, const core::Along<V>& second) {
    const core::Along<V> h{of.curve.d * first.d, of.curve.t * first.t, of.curve.below * first.below,
                           of.curve.above * first.above};
    square = square + dot(h, first);
    product = product + dot(h, second);
    add(slope, low, dot(of.slope, first));
    add(other_slope, other_low, dot(of.slope, second));
    error = fmadd(dot(of.size, {abs(first.d), abs(first.t), abs(first.below), abs(first.above)}), V(0x1p-49), error);
  }
  SOFTMAP_HD void add_prior(V precision, V pull, V first, V second) {
    square = fmadd(precision * first, first, square);
    product = fmadd(precision * first, second, product);
    add(slope, low, pull * first);
    add(other_slope, other_low, pull * second);
    error = fmadd(abs(pull * first), V(0x1p-51), error);
  }
};

template <class P, int kColumn>
struct Border {
  using V = typename P::V;
  using Column = typename P::template Values<kColumn>;
  static constexpr int kAdvantage = 0, kTie = 1;
  V value[2];
  typename P::template Values<2> base, step, newton;
  V estimated[2];      // 1 or 0
  V slope[2], low[2];  // of the objective, and what rounding took from it
  Column cross[2];     // C, and what rounding took from it
  Column cross_low[2], cross_lowest[2];
  Column reply[2];     // H^-1 C; what rounding took from it takes the place of cross_lowest, where it is needed
  V aa, at, tt;        // D
  V i_aa, i_at, i_tt;  // inverse of S = D - C' H^-1 C
  V share;             // of D that is left in S, at least

  // S = (1, 0; r, 1) diag(square) (1, r; 0, 1), and along the directions that this makes of the two parameters: the slope, and
  // what it may be wrong by.
  struct Rest {
    V square[2], slope[2], error[2], ratio;
  };

  SOFTMAP_HD void clear(int n) {
    const V zero(0.);
    SOFTMAP_UNROLL(2)
    for (int k = 0; k < 2; ++k) {
      slope[k] = low[k] = zero;
      for (int i = 0; i < n; ++i) cross[k][i] = cross_low[k][i] = cross_lowest[k][i] = zero;
    }
    aa = at = tt = zero;
  }

  // A term of the slope by parameter k.
  SOFTMAP_HD void add_slope(int k, V term) {
    V rounding;
    slope[k] = core::two_sum(slope[k], term, rounding);
    low[k] = low[k] + rounding;
  }

  // Of a minus second derivative by parameter k and the difference of the scores i and j: three parts, sums of which are exact.
  template <class Pieces>
  SOFTMAP_HD void add_cross(int k, int i, int j, const Pieces& term) {
    cross[k][i] = cross[k][i] + term.a;
    cross[k][j] = cross[k][j] - term.a;
    cross_low[k][i] = cross_low[k][i] + term.b;
    cross_low[k][j] = cross_low[k][j] - term.b;
    cross_lowest[k][i] = cross_lowest[k][i] + term.c;
    cross_lowest[k][j] = cross_lowest[k][j] - term.c;
  }

  // A parameter that is not estimated: slope 0 and curvature 1, apart from the rest.
  SOFTMAP_HD void hold(int n) {
    const V zero(0.), one(1.);
    SOFTMAP_UNROLL(2)
    for (int k = 0; k < 2; ++k) {
      const auto held = estimated[k] == zero;
      slope[k] = select(held, zero, slope[k] + low[k]);
      for (int i = 0; i < n; ++i) {
        V a, b;
        const V sum = core::two_sum(core::two_sum(cross[k][i], cross_low[k][i], a), cross_lowest[k][i], b);
        cross[k][i] = select(held, zero, sum);
        cross_low[k][i] = select(held, zero, a + b);
      }
    }
    aa = select(estimated[kAdvantage] == zero, one, aa);
    tt = select(estimated[kTie] == zero, one, tt);
    at = select((estimated[kAdvantage] == zero) | (estimated[kTie] == zero), zero, at);
  }

  // S, once reply is known, and the slopes, with x = H^-1 g. A pivot that rounding may have made up is replaced by a larger one,
  // for a shorter step.
  SOFTMAP_HD Rest rest(int n, const Column& x) const {
    const V least(0x1p-36), none(0.);
    const auto product = [&](int k, const Column& of) {
      V sum(0.);
      for (int i = 0; i < n; ++i) sum = fmadd(cross[k][i], of[i], sum);
      return sum;
    };
    const V s_aa = max(least * aa, aa - product(0, reply[0])), s_at = at - product(0, reply[1]), ratio = s_at / s_aa;
    const V slope_a = slope[0] - product(0, x), slope_t = slope[1] - product(1, x);
    return {{s_aa, max(least * tt, (tt - product(1, reply[1])) - s_at * ratio)},
            {slope_a, fmadd(-ratio, slope_a, slope_t)},
            {none, none},
            ratio};
  }

  // S^-1, Newton's step of these parameters, and what it changes in x = H^-1 g.
  SOFTMAP_HD void solve(const Rest& s, int n, Column& x) {
    share = min(s.square[0] / aa, s.square[1] / tt);
    i_tt = V(1.) / s.square[1];
    i_at = -s.ratio * i_tt;
    i_aa = fmadd(s.ratio * s.ratio, i_tt, V(1.) / s.square[0]);
    newton[1] = s.slope[1] * i_tt;
    newton[0] = fmadd(-s.ratio, newton[1], s.slope[0] / s.square[0]);
    for (int i = 0; i < n; ++i) x[i] = x[i] - fmadd(reply[0][i], newton[0], reply[1][i] * newton[1]);
  }

  // What (a, b)' S^-1 (a, b) is.
  SOFTMAP_HD V form(V a, V b) const { return fmadd(a * a, i_aa, fmadd(V(2.) * a * b, i_at, b * b * i_tt)); }

  // Bounds on how far errors of the slopes move everything: returns that of all.
  SOFTMAP_HD V error(const Rest& s, int n) const {
    const V moved_t = s.error[1] / s.square[1], moved_a = s.error[0] / s.square[0];
    V largest = max(moved_t, fmadd(abs(s.ratio), moved_t, moved_a));
    for (int i = 0; i < n; ++i) {
      const V of_t = abs(fmadd(-s.ratio, reply[0][i], reply[1][i]));
      largest = max(largest, fmadd(abs(reply[0][i]), moved_a, of_t * moved_t));
    }
    return largest;
  }
};

}  // namespace softmap::dense
