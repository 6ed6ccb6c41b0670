#pragma once
// Newton's method for ordinary tables, where nothing needs the precautions of Newton: every item has a prior, weights and
// precisions are not graded, and the steps converge by themselves. What turns out not to be ordinary is left to Newton.
#include "dense/tile.h"

namespace softmap::dense {
namespace {

// Which lanes are solved, a matter of their own numbers alone.
template <class P, class Link, int N, int kItems = kMaxItems>
struct OrdinaryNewton {
  using V = typename P::V;
  using M = typename State<P>::Mask;
  static constexpr int kSteps = 12;
  static constexpr double kError = 0x1p-33;  // of a score that is solved, relative to max(1, max |s|), at most

  static constexpr int kPairs = N * (N - 1) / 2;
  static constexpr int kGroup = !P::kGroups || kPairs == 1 ? 1
                                : N > 0 && kPairs % 5 == 0 ? 5
                                : kPairs % 4 == 0          ? 4
                                                           : 3;  // 4 where N is 0

  const Tile<P, kItems>& tile;
  State<P, kItems>& st;

  SOFTMAP_HD int n() const { return N > 0 ? N : tile.n; }
  SOFTMAP_HD V win(int k) const { return P::load(tile.win[0] + k * P::kStride); }
  SOFTMAP_HD V loss(int k) const { return P::load(tile.loss[0] + k * P::kStride); }

  // Gradient and Hessian at s.
  SOFTMAP_HD void evaluate() {
    const int n = this->n();
    V mark[N > 0 ? N : kItems];
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) {
      mark[i] = Link::mark(st.s[i]);
      st.right[i] = st.precision[i] * (st.mean[i] - st.s[i]);
      st.hessian.p[i] = st.precision[i];
    }
    if constexpr (P::kGroups) evaluate_pairs(mark);
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n - 1; ++i) {
      const int row = row_start(n, i);
      V g = st.right[i];
      SOFTMAP_UNROLL(N)
      for (int j = i + 1; j < n; ++j) {
        if constexpr (!P::kGroups) evaluate_pair(row + j, mark[i], mark[j]);
        g = g + st.flow[row + j];
        st.right[j] = st.right[j] - st.flow[row + j];
      }
      st.right[i] = g;
    }
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) st.g[i] = st.right[i];
  }

  SOFTMAP_HD void evaluate_pair(int k, V a, V b) {
    const auto f = Link::slopes_between(a, b);
    const V w = win(k), l = loss(k);
    st.flow[k] = fmadd(w, f.win, -(l * f.loss));
    st.hessian.h[k] = fmadd(w, f.win_curve, l * f.loss_curve);
  }

  // kGroup pairs at a time; the last group repeats the last pair.
  [[gnu::flatten]] SOFTMAP_HD void evaluate_pairs(const V* mark) {
    const int n = this->n(), n_pairs = n * (n - 1) / 2;
    SOFTMAP_UNROLL(N)
    for (int k = 0, i = 0, j = 1; k < n_pairs; k += kGroup) {
      typename P::template Group<kGroup> a, b;
      SOFTMAP_UNROLL(N)
      for (int of = 0; of < kGroup; ++of) {
        P::at(a, of) = mark[i];
        P::at(b, of) = mark[j];
        if (k + of + 1 < n_pairs && ++j == n) j = ++i + 1;
      }
      const auto f = Link::slopes_between(a, b);
      SOFTMAP_UNROLL(N)
      for (int of = 0; of < kGroup; ++of) {
        if (k + of >= n_pairs) break;
        const V w = win(k + of), l = loss(k + of);
        st.flow[k + of] = fmadd(w, P::at(f.win, of), -(l * P::at(f.loss, of)));
        st.hessian.h[k + of] = fmadd(w, P::at(f.win_curve, of), l * P::at(f.loss_curve, of));
      }
    }
  }

  // Newton's step from s; returns its largest entry.
  SOFTMAP_HD V solve_step() {
    evaluate();
    factor<N>(st.hessian, n(), st.grounded & !st.grounded);
    solve_plainly<N>(st.hessian, n(), st.right, st.newton);
    st.size = max(V(1.), largest_of<N>(st.s, n()));
    return largest_of<N>(st.newton, n());
  }
  SOFTMAP_HD void move(M stay) {
    const int n = this->n();
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) st.s[i] = select(stay, st.s[i], st.s[i] + st.newton[i]);
  }
  SOFTMAP_HD M lost(V step) const { return !((step <= V(Link::kReach)) & (st.size <= V(Link::kReach))); }

  // Lanes whose scores are the maximum, with `newton` the last step, not yet taken. With `predicts`, a step is the last one, too,
  // if the one after it is sure to be negligible.
  //
  // H^-1 has no negative entry and H 1 = precision, so a gradient that is wrong by e_i moves no score by more than
  // max e_i / precision_i. Rounding: a slope is wrong by 16 of the 2^-53 of the steepest one at most, and sums add n. After a
  // step x the flows of a pair differ from what the curvature says by no more than kBend w (2 x)^2 / 2.
  SOFTMAP_HD M run(const FitOptions& options, bool predicts) {
    const int n = this->n();
    const V per_prior = add_weights(), far = largest_of<N>(st.mean, n);
    M solved = V(1.) < V(0.), done = !(per_prior <= V(0x1p20));
    st.n_iter = V(0.);
    const V close = sqrt(V(kError / (4. * Link::kBend)) / max(per_prior, V(1.))), last = predicts ? close : V(0.);
    for (int iteration = 0; iteration < kSteps && !all(done); ++iteration) {
      done = done | !(st.n_iter < V(options.max_iter));
      st.n_iter = st.n_iter + select(done, V(0.), V(1.));
      const V step = solve_step(), steepest = Link::steepest(st.size + st.size);
      const V rounding = fmadd(steepest, per_prior, st.size + far) * V((n + 16) * 0x1p-53);
      const M small = step <= max(V(options.tol) * st.size, last);
      const M certain = (rounding <= V(0.5 * kError) * st.size) & (step <= close);
      solved = solved | (small & certain & !done);
      done = done | small | lost(step);
      move(done);
    }
    return solved;
  }

  // Adds up the weights of each item; returns the largest sum in units of the precision.
  SOFTMAP_HD V add_weights() {
    const int n = this->n();
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) st.weight[i] = V(0.);
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n - 1; ++i) {
      const int row = row_start(n, i);
      V sum = st.weight[i];
      SOFTMAP_UNROLL(N)
      for (int j = i + 1; j < n; ++j) {
        const V total = win(row + j) + loss(row + j);
        sum = sum + total;
        st.weight[j] = st.weight[j] + total;
      }
      st.weight[i] = sum;
    }
    V largest(0.);
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) largest = max(st.weight[i] / st.precision[i], largest);
    return largest;
  }

  // As Newton::solve_tile, for the lanes that it returns.
  SOFTMAP_HD M solve_tile(const FitOptions& options, bool predicts) {
    const M solved = run(options, predicts);
    st.gradient_max = V(0.);
    const int n = this->n();
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) {
      const M held = !(st.precision[i] < V(kFixed));
      st.s[i] = select(held, st.mean[i], st.s[i] + st.newton[i]);
      const V share = abs(st.g[i]) / max(st.scale, st.weight[i]);
      st.gradient_max = max(st.gradient_max, select(held, V(0.), share));
    }
    return solved;
  }
};

}  // namespace
}  // namespace softmap::dense
