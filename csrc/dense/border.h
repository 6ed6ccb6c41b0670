#pragma once
// What all comparisons of a problem share, beside its scores: the advantage of the first position and the parameter of the tie
// model. Minus the Hessian is then (H, C; C', D) with H as in laplacian.h, C and D those of at most two more parameters.
#include "dense/place.h"

namespace softmap::dense {

template <class P, int kColumn>
struct Border {
  using V = typename P::V;
  using Column = typename P::template Values<kColumn>;
  static constexpr int kAdvantage = 0, kTie = 1;
  V value[2];
  typename P::template Values<2> base, step, newton;
  V estimated[2];      // 1 or 0
  V slope[2], low[2];  // of the objective, and what rounding took from it
  V size[2];           // the sum of what the slope is a sum of
  Column cross[2];     // C
  Column reply[2];     // H^-1 C
  V aa, at, tt;        // D
  V i_aa, i_at, i_tt;  // inverse of S = D - C' H^-1 C
  V share;             // of D that is left in S, at least

  SOFTMAP_HD void clear(int n) {
    const V zero(0.);
    SOFTMAP_UNROLL(2)
    for (int k = 0; k < 2; ++k) {
      slope[k] = low[k] = size[k] = zero;
      for (int i = 0; i < n; ++i) cross[k][i] = zero;
    }
    aa = at = tt = zero;
  }

  // A term of the slope by parameter k.
  SOFTMAP_HD void add_slope(int k, V term, V magnitude) {
    V rounding;
    slope[k] = core::two_sum(slope[k], term, rounding);
    low[k] = low[k] + rounding;
    size[k] = size[k] + magnitude;
  }

  // Of a minus second derivative by parameter k and the difference of the scores i and j.
  SOFTMAP_HD void add_cross(int k, int i, int j, V term) {
    cross[k][i] = cross[k][i] + term;
    cross[k][j] = cross[k][j] - term;
  }

  // A parameter that is not estimated: slope 0 and curvature 1, apart from the rest.
  SOFTMAP_HD void hold(int n) {
    const V zero(0.), one(1.);
    SOFTMAP_UNROLL(2)
    for (int k = 0; k < 2; ++k) {
      const auto held = estimated[k] == zero;
      slope[k] = select(held, zero, slope[k] + low[k]);
      size[k] = select(held, zero, size[k]);
      for (int i = 0; i < n; ++i) cross[k][i] = select(held, zero, cross[k][i]);
    }
    aa = select(estimated[kAdvantage] == zero, one, aa);
    tt = select(estimated[kTie] == zero, one, tt);
    at = select((estimated[kAdvantage] == zero) | (estimated[kTie] == zero), zero, at);
  }

  // S^-1, once reply is known. A pivot that rounding may have made up is replaced by a larger one, for a shorter step.
  SOFTMAP_HD void factor(int n) {
    const V least(0x1p-36);
    const auto product = [&](int k, int l) {
      V sum(0.);
      for (int i = 0; i < n; ++i) sum = fmadd(cross[k][i], reply[l][i], sum);
      return sum;
    };
    const V s_aa = max(least * aa, aa - product(0, 0));
    const V s_at = at - product(0, 1), ratio = s_at / s_aa, pivot = (tt - product(1, 1)) - s_at * ratio;
    share = min(s_aa / aa, pivot / tt);
    i_tt = V(1.) / max(least * tt, pivot);
    i_at = -ratio * i_tt;
    i_aa = fmadd(ratio * ratio, i_tt, V(1.) / s_aa);
  }

  // Newton's step of these parameters, and what it changes in x = H^-1 g.
  SOFTMAP_HD void solve(int n, Column& x) {
    V rest[2] = {slope[0], slope[1]};
    SOFTMAP_UNROLL(2)
    for (int k = 0; k < 2; ++k) {
      for (int i = 0; i < n; ++i) rest[k] = fmadd(-cross[k][i], x[i], rest[k]);
    }
    newton[0] = fmadd(i_aa, rest[0], i_at * rest[1]);
    newton[1] = fmadd(i_at, rest[0], i_tt * rest[1]);
    for (int i = 0; i < n; ++i) x[i] = x[i] - fmadd(reply[0][i], newton[0], reply[1][i] * newton[1]);
  }

  // What (a, b)' S^-1 (a, b) is.
  SOFTMAP_HD V form(V a, V b) const { return fmadd(a * a, i_aa, fmadd(V(2.) * a * b, i_at, b * b * i_tt)); }

  // Bounds on how far errors of the scores (given H alone) and of the slopes move everything: returns that of x, and adds to
  // x's own.
  SOFTMAP_HD V error(int n, const Column& error_of_x) const {
    V rest[2], moved[2];
    SOFTMAP_UNROLL(2)
    for (int k = 0; k < 2; ++k) {
      rest[k] = size[k] * V(0x1p-48);
      for (int i = 0; i < n; ++i) rest[k] = fmadd(abs(cross[k][i]), error_of_x[i], rest[k]);
    }
    moved[0] = fmadd(i_aa, rest[0], abs(i_at) * rest[1]);
    moved[1] = fmadd(abs(i_at), rest[0], i_tt * rest[1]);
    V largest = max(moved[0], moved[1]);
    for (int i = 0; i < n; ++i) largest = max(largest, fmadd(abs(reply[0][i]), moved[0], abs(reply[1][i]) * moved[1]));
    return largest;
  }
};

}  // namespace softmap::dense
