#pragma once
// Linear systems of a weighted graph: H x = g, where H_ij = -h_ij for i != j, H_ii = p_i + sum_j h_ij and h, p >= 0. Minus the
// Hessian of a likelihood of paired comparisons is one, with p the prior precisions.
//
// H is eliminated in the form (h, p), never as a matrix: all entries are then sums of products of numbers >= 0, so that each
// keeps its relative accuracy however the weights are graded. With d_k = p_k + sum_{j>k} h_kj, eliminating k gives
//   h_ij += h_ik h_kj / d_k,   p_i += p_k h_ik / d_k,   g_i += g_k h_ik / d_k        for i, j > k.
// The right-hand side is held in two parts and what k hands on is made to add up to g_k: flows that cancel over a group
// of tightly coupled items cancel exactly, and leave no error for the weak links of the group to amplify.
//
// References: Grassmann, Taksar & Heyman 1985 (elimination without subtraction); O'Cinneide 1993 (its accuracy).
#include "dense/place.h"

namespace softmap::dense {

// The edges (i, j), i < j, of n items are numbered row by row: edge (i, j) is row_start(n, i) + j.
SOFTMAP_HD int row_start(int n, int i) { return i * (2 * n - i - 1) / 2 - (i + 1); }

template <class P, int kItems>
struct Laplacian {
  static constexpr int kColumn = kItems + 7;  // columns a multiple of 4096 bytes apart would share their cache sets
  using Column = typename P::template Values<kColumn>;
  typename P::template Values<kItems*(kItems - 1) / 2> h;  // of edge (i, j); once factored h_ij / d_i
  Column p;                                                // once factored p_i / d_i
  Column inverse;                                          // 1 / d_i
};

// Gives the kRows rows from i on what they get when the kCount items from k on are eliminated, whose rows are not yet divided by
// d. Several rows at once read those of the items once.
template <int kRows, int kCount, int N, class P, int kItems>
SOFTMAP_HD void eliminate_from(Laplacian<P, kItems>& a, int n, int i, int k) {
  using V = typename P::V;
  int row[kCount], of[kRows];
  V ratio[kRows][kCount];
  SOFTMAP_UNROLL(kCount)
  for (int q = 0; q < kCount; ++q) row[q] = row_start(n, k + q);
  SOFTMAP_UNROLL(kRows)
  for (int r = 0; r < kRows; ++r) {
    of[r] = row_start(n, i + r);
    V p = a.p[i + r];
    SOFTMAP_UNROLL(kCount)
    for (int q = 0; q < kCount; ++q) {
      ratio[r][q] = a.h[row[q] + i + r] * a.inverse[k + q];
      p = fmadd(a.p[k + q], ratio[r][q], p);
    }
    a.p[i + r] = p;
    SOFTMAP_UNROLL(kRows)
    for (int j = r + 1; j < kRows; ++j) {
      V h = a.h[of[r] + i + j];
      SOFTMAP_UNROLL(kCount)
      for (int q = 0; q < kCount; ++q) h = fmadd(ratio[r][q], a.h[row[q] + i + j], h);
      a.h[of[r] + i + j] = h;
    }
  }
  SOFTMAP_UNROLL(N)
  for (int j = i + kRows; j < n; ++j) {
    V h[kRows];
    SOFTMAP_UNROLL(kRows)
    for (int r = 0; r < kRows; ++r) h[r] = a.h[of[r] + j];
    SOFTMAP_UNROLL(kCount)
    for (int q = 0; q < kCount; ++q) {
      const V from = a.h[row[q] + j];
      SOFTMAP_UNROLL(kRows)
      for (int r = 0; r < kRows; ++r) h[r] = fmadd(ratio[r][q], from, h[r]);
    }
    SOFTMAP_UNROLL(kRows)
    for (int r = 0; r < kRows; ++r) a.h[of[r] + j] = h[r];
  }
}

// N is n where that is known when compiling, else 0. grounded: lanes whose p are all 0; there the last x is set to 0. Any other
// pivot that is 0 makes x infinite or NaN.
//
// Large systems do not fit into the first cache: four items are eliminated before the rest of the rows is gone through once, some
// rows at a time where registers allow.
template <int N, class P, int kItems, class Mask>
SOFTMAP_HD void factor(Laplacian<P, kItems>& a, int n_items, Mask grounded) {
  using V = typename P::V;
  constexpr int kBlock = N > 0 ? 1 : 4, kRows = P::kGroups ? 4 : 1;
  const int n = N > 0 ? N : n_items;
  const auto invert = [&](int k) {
    const int k_row = row_start(n, k);
    V d = a.p[k];
    SOFTMAP_UNROLL(N)
    for (int j = k + 1; j < n; ++j) d = d + a.h[k_row + j];
    a.inverse[k] = V(1.) / d;
  };
  const auto divide = [&](int k) {
    const int k_row = row_start(n, k);
    SOFTMAP_UNROLL(N)
    for (int j = k + 1; j < n; ++j) a.h[k_row + j] = a.h[k_row + j] * a.inverse[k];
    a.p[k] = a.p[k] * a.inverse[k];
  };
  int first = 0;
  if constexpr (kBlock == 4) {
    for (; first + kBlock < n; first += kBlock) {
      invert(first);
      eliminate_from<1, 1, N>(a, n, first + 1, first), invert(first + 1);
      eliminate_from<1, 2, N>(a, n, first + 2, first), invert(first + 2);
      eliminate_from<1, 3, N>(a, n, first + 3, first), invert(first + 3);
      int i = first + kBlock;
      for (; i + kRows <= n; i += kRows) eliminate_from<kRows, kBlock, N>(a, n, i, first);
      for (; i < n; ++i) eliminate_from<1, kBlock, N>(a, n, i, first);
      for (int k = first; k < first + kBlock; ++k) divide(k);
    }
  }
  SOFTMAP_UNROLL(N)
  for (int k = first; k < n - 1; ++k) {
    invert(k);
    SOFTMAP_UNROLL(N)
    for (int i = k + 1; i < n; ++i) eliminate_from<1, 1, N>(a, n, i, k);
    divide(k);
  }
  a.inverse[n - 1] = select(grounded, V(0.), V(1.) / a.p[n - 1]);
}

// x = H^-1 (g + low); g and low are used up.
template <int N, class P, int kItems, class Column>
SOFTMAP_HD void solve(const Laplacian<P, kItems>& a, int n_items, Column& g, Column& low, Column& x) {
  using V = typename P::V;
  const int n = N > 0 ? N : n_items;
  for (int k = 0; k < n - 1; ++k) {
    const int k_row = row_start(n, k);
    V rest;  // what g_k still has to hand on: first whole shares, then their rounding errors in the same proportions
    const V whole = core::two_sum(g[k], low[k], rest);
    V left = whole;
    const auto hand_on = [&](V share) {
      const V less = left - share;
      rest = rest + ((left - less) - share);
      left = less;
    };
    hand_on(a.p[k] * whole);
    for (int j = k + 1; j < n; ++j) hand_on(a.h[k_row + j] * whole);
    rest = rest + left;
    for (int j = k + 1; j < n; ++j) {
      V rounding;
      g[j] = core::two_sum(g[j], a.h[k_row + j] * whole, rounding);
      low[j] = low[j] + fmadd(a.h[k_row + j], rest, rounding);
    }
    x[k] = whole * a.inverse[k];
  }
  x[n - 1] = (g[n - 1] + low[n - 1]) * a.inverse[n - 1];
  for (int k = n - 2; k >= 0; --k) {
    const int k_row = row_start(n, k);
    V sum = x[k];
    for (int j = n - 1; j > k; --j) sum = fmadd(a.h[k_row + j], x[j], sum);
    x[k] = sum;
  }
}

// The same without that care; g is used up.
template <int N, class P, int kItems, class Column>
SOFTMAP_HD void solve_plainly(const Laplacian<P, kItems>& a, int n_items, Column& g, Column& x) {
  using V = typename P::V;
  const int n = N > 0 ? N : n_items;
  SOFTMAP_UNROLL(N)
  for (int k = 0; k < n - 1; ++k) {
    const int k_row = row_start(n, k);
    SOFTMAP_UNROLL(N)
    for (int j = k + 1; j < n; ++j) g[j] = fmadd(a.h[k_row + j], g[k], g[j]);
  }
  SOFTMAP_UNROLL(N)
  for (int k = n - 1; k >= 0; --k) {
    const int k_row = row_start(n, k);
    V sum = g[k] * a.inverse[k];
    SOFTMAP_UNROLL(N)
    for (int j = n - 1; j > k; --j) sum = fmadd(a.h[k_row + j], x[j], sum);
    x[k] = sum;
  }
}

}  // namespace softmap::dense
