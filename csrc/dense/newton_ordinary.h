#pragma once
// Newton's method for ordinary tables, where nothing needs the precautions of Newton: every item has a prior, weights and
// precisions are not graded, and the steps converge by themselves. What turns out not to be ordinary is left to Newton.
//
// With kThird a step x is corrected by y, H y = half the third derivative along x, from the same factors (Chebyshev's method):
// a solve more in an evaluation, of which fewer are needed.
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

  static constexpr bool kThird = P::kGroups;

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
  [[gnu::flatten]] SOFTMAP_HD void evaluate_pairs(V* mark) {
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
        const core::LinkSlopes<V> slopes{P::at(f.win, of), P::at(f.loss, of), P::at(f.win_curve, of), P::at(f.loss_curve, of)};
        st.third[k + of] = Link::third(slopes, P::at(a, of), P::at(b, of), w, l);
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

  // Corrects Newton's step, of largest entry `step`, where that changes it by less than half. Returns what the gradient may
  // be after it, in units of the weights of an item: with z the correction, whose largest entry is c, a flow changes by
  // third (2 x z + z^2) / 2 and the rest of its Taylor series, each difference of scores by no more than 2 (step + c).
  SOFTMAP_HD V correct(V step) {
    const V twice = step + step;
    if constexpr (!kThird) {
      return V(0.5 * Link::kBend) * twice * twice;
    } else {
      const int n = this->n();
      SOFTMAP_UNROLL(N)
      for (int i = 0; i < n; ++i) st.right[i] = V(0.);
      SOFTMAP_UNROLL(N)
      for (int i = 0; i < n - 1; ++i) {
        const int row = row_start(n, i);
        V g = st.right[i];
        SOFTMAP_UNROLL(N)
        for (int j = i + 1; j < n; ++j) {
          const V x = st.newton[i] - st.newton[j], flow = st.third[row + j] * x * x;
          g = g + flow;
          st.right[j] = st.right[j] - flow;
        }
        st.right[i] = g * V(0.5);
      }
      st.right[n - 1] = st.right[n - 1] * V(0.5);
      solve_plainly<N>(st.hessian, n, st.right, st.step);
      const V change = largest_of<N>(st.step, n);
      const M good = change <= V(0.5) * step;
      SOFTMAP_UNROLL(N)
      for (int i = 0; i < n; ++i) st.newton[i] = st.newton[i] + select(good, st.step[i], V(0.));
      const V twice_change = change + change, far = twice + twice_change;
      const V rest = fmadd(V(Link::kBend) * twice_change, twice + change, V(Link::kTwist / 6.) * far * far * far);
      return select(good, rest, V(core::kInf<double>));
    }
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
  // max e_i / precision_i. Rounding: a slope is wrong by 16 of the 2^-53 of the steepest one at most, and sums add n.
  SOFTMAP_HD M run(const FitOptions& options, bool started, bool predicts) {
    const int n = this->n();
    const V per_prior = add_weights(), far = largest_of<N>(st.mean, n);
    if (!started) guess();
    M solved = V(1.) < V(0.), done = !(per_prior <= V(0x1p20));
    st.n_iter = V(0.);
    const V error(0.5 * kError);
    for (int iteration = 0; iteration < kSteps && !all(done); ++iteration) {
      done = done | !(st.n_iter < V(options.max_iter));
      st.n_iter = st.n_iter + select(done, V(0.), V(1.));
      const V step = solve_step(), steepest = Link::steepest(st.size + st.size);
      const V rounding = fmadd(steepest, per_prior, st.size + far) * V((n + 16) * 0x1p-53);
      const V left = per_prior * correct(step);
      const M close = left <= error * st.size, small = step <= V(options.tol) * st.size;
      const M certain = (rounding <= error * st.size) & close;
      const M last = predicts ? small | certain : small;
      solved = solved | (last & certain & !done);
      done = done | last | lost(step);
      move(done);
    }
    return solved;
  }

  // Scores to begin with, by the share of what each item won against opponents as good as the average, of which the prior counts
  // for as many wins as losses: log(won / lost) = 2 atanh(q), roughly, which stays below 3.7. Where prior means differ, these.
  SOFTMAP_HD void guess() {
    const int n = this->n();
    auto alike = st.scale == st.scale;
    SOFTMAP_UNROLL(N)
    for (int i = 1; i < n; ++i) alike = alike & (st.mean[i] == st.mean[0]);
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) {
      const V both = fmadd(V(2.), st.precision[i], st.weight[i]), q = fmadd(V(2.), st.base[i], -st.weight[i]) / both, q2 = q * q;
      const V ahead = q * fmadd(V(-4.), q2, V(15.)) * reciprocal(fmadd(V(-9.), q2, V(15.)));
      st.s[i] = select(alike, fmadd(ahead, V(2. * Link::kUnit), st.mean[i]), st.mean[i]);
    }
  }

  // Adds up the weights of each item, and those of its wins (in base); returns the largest sum in units of the precision.
  SOFTMAP_HD V add_weights() {
    const int n = this->n();
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) st.weight[i] = st.base[i] = V(0.);
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n - 1; ++i) {
      const int row = row_start(n, i);
      V sum = st.weight[i], won = st.base[i];
      SOFTMAP_UNROLL(N)
      for (int j = i + 1; j < n; ++j) {
        const V total = win(row + j) + loss(row + j);
        sum = sum + total;
        won = won + win(row + j);
        st.weight[j] = st.weight[j] + total;
        st.base[j] = st.base[j] + loss(row + j);
      }
      st.weight[i] = sum;
      st.base[i] = won;
    }
    V largest(0.);
    SOFTMAP_UNROLL(N)
    for (int i = 0; i < n; ++i) largest = max(st.weight[i] / st.precision[i], largest);
    return largest;
  }

  // As Newton::solve_tile, for the lanes that it returns. `started`: from scores that are near the maximum.
  SOFTMAP_HD M solve_tile(const FitOptions& options, bool started, bool predicts) {
    const M solved = run(options, started, predicts);
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
