#pragma once
// Newton's method for a tile of small tables of comparisons, with care for weights of any size.
//
// budget: over 400 lines, because a border that needs care and the plain way are one method.
#include "dense/tile.h"

namespace softmap::dense {
namespace {

// Newton's method for the problems of a tile, one in each lane. N is their number of items, 0 where it is not known. Model is
// a link, or with a border a tie model.
//
// A step that overshoots, where the slope along it has turned against it, is shortened by the secant rule; no value of the
// objective is needed. A lane that is done keeps its s, so that every later pass repeats its results bit for bit.
template <class P, class Model, int N, bool kOrdered, bool kBorder = false>
struct Newton {
  using V = typename P::V;
  using M = typename State<P>::Mask;
  static constexpr int kStride = P::kStride;
  const Tile<P>& tile;
  State<P>& st;
  double advantage;  // without a border

  SOFTMAP_HD int n() const { return N > 0 ? N : tile.n; }

  struct Pair {
    V flow, size, curve;  // derivative by s_i, the sum of what it is the difference of, minus the second derivative
  };
  SOFTMAP_HD Pair pair(int k, V d) const {
    if constexpr (kBorder) {
      return pair_and_border(k, d, [](int, const core::Parts<V>&) {});
    } else {
      const auto seen = [&](int set, V x) {
        const V win = P::load(tile.win[set] + k * kStride), loss = P::load(tile.loss[set] + k * kStride);
        const auto f = Model::slopes(x);
        const V up = win * f.win, down = loss * f.loss;
        return Pair{up - down, up + down, fmadd(win, f.win_curve, loss * f.loss_curve)};
      };
      if constexpr (!kOrdered) return seen(0, d);
      const Pair a = seen(0, d + V(advantage)), b = seen(1, d - V(advantage));
      return {a.flow + b.flow, a.size + b.size, a.curve + b.curve};
    }
  }

  // One set of comparisons of a pair at the difference x.
  SOFTMAP_HD core::Parts<V> see(int set, int k, V x) const {
    const V win = P::load(tile.win[set] + k * kStride), loss = P::load(tile.loss[set] + k * kStride);
    const V tie = tile.ties ? P::load(tile.tie[set] + k * kStride) : V(0.);
    return Model::parts(x, st.border.value[1], win, loss, tie);
  }
  // body(side, parts) for each set of a pair at the difference d; side is the sign of the advantage.
  template <class Body>
  SOFTMAP_HD void for_each_set(int k, V d, Body&& body) const {
    const V a = st.border.value[0];
    body(1, see(0, k, d + a));
    if (tile.ordered) body(-1, see(1, k, d - a));
  }
  // From the margins to d, and to t.
  SOFTMAP_HD static V by_d(const core::Along<V>& x) { return fmadd(V(Model::kShare), x.below + x.above, x.d); }
  SOFTMAP_HD static V by_t(const core::Along<V>& x) { return x.t + (x.above - x.below); }
  template <class Body>
  SOFTMAP_HD Pair pair_and_border(int k, V d, Body&& body) const {
    constexpr double kSquare = Model::kShare * Model::kShare;
    Pair sum{V(0.), V(0.), V(0.)};
    for_each_set(k, d, [&](int side, const core::Parts<V>& of) {
      body(side, of);
      sum.flow = sum.flow + by_d(of.slope);
      sum.size = sum.size + by_d(of.size);
      sum.curve = sum.curve + fmadd(V(kSquare), of.curve.below + of.curve.above, of.curve.d);
    });
    return sum;
  }
  SOFTMAP_HD Pair pair_into_border(int k, int i, int j, V d, V grid) {
    auto& b = st.border;
    V by_a(0.), mixed(0.);
    const Pair sum = pair_and_border(k, d, [&](int sign, const core::Parts<V>& of) {
      const V side{double(sign)}, dt = V(Model::kShare) * (of.curve.above - of.curve.below);
      const V dd = fmadd(V(Model::kShare * Model::kShare), of.curve.below + of.curve.above, of.curve.d);
      b.add_slope(0, side * by_d(of.slope));
      b.add_slope(1, by_t(of.slope));
      by_a = fmadd(side, dd, by_a);
      mixed = mixed + dt;
      b.aa = b.aa + dd;
      b.at = fmadd(side, dt, b.at);
      b.tt = b.tt + (of.curve.t + (of.curve.below + of.curve.above));
    });
    b.add_cross(0, i, j, cut(by_a, grid));
    b.add_cross(1, i, j, cut(mixed, grid));
    return sum;
  }

  // The border's Rest, added up pair by pair: what the margins of a pair do not change with is then not lost among what they do.
  // Also the slope along the last step. The directions are as exact as that needs, but in plain lanes, where nothing is lost, and
  // on a GPU, whose registers have no room for it.
  static constexpr bool kExact = P::kGroups;
  using Rest = typename Border<P, State<P>::kColumn>::Rest;
  SOFTMAP_HD Rest careful_rest(M plain, V& last_slope) {
    const auto& b = st.border;
    const auto held_a = b.estimated[0] == V(0.), held_t = b.estimated[1] == V(0.);
    const V zero(0.), one(1.);
    Rest rest{{one, one}, {zero, zero}, {zero, zero}, zero};
    const auto take = [&](int k, M held, const Passage<V>& sums) {
      rest.square[k] = select(held, one, sums.square);
      rest.slope[k] = select(held, zero, sums.slope + sums.low);
      rest.error[k] = select(held, zero, sums.error);
    };
    if constexpr (kExact) refine_replies(plain);
    const Direction by_advantage = answered(0);
    V ratio_low(0.);
    if (!all(held_a)) {
      const auto sums = measure(by_advantage, answered(1));
      take(0, held_a, sums);
      rest.ratio = select(held_a | held_t, zero, sums.product / rest.square[0]);
      if (kExact && !all(plain | held_t)) {
        const V left = measure(by_advantage, apart(rest.ratio, zero)).product;
        ratio_low = select(plain | held_a | held_t, zero, left / rest.square[0]);
      }
    }
    const auto sums = measure(apart(rest.ratio, ratio_low), Direction{st.step, nullptr, one, b.step[0], zero, b.step[1]});
    take(1, held_t, sums);
    last_slope = sums.other_slope + sums.other_low;
    return rest;
  }
  using Column = typename State<P>::Column;
  using Direction = dense::Direction<Column, V>;
  // A parameter by 1, the scores by what keeps their slopes: -reply.
  SOFTMAP_HD Direction answered(int k) const {
    const auto& b = st.border;
    return {b.reply[k], kExact ? &b.cross_lowest[k] : nullptr, V(-1.), V(k == 0 ? 1. : 0.), V(0.), V(k == 0 ? 0. : 1.)};
  }
  // The second of these, of which ratio + low times the first is taken away.
  SOFTMAP_HD Direction apart(V ratio, V low) {
    const auto& b = st.border;
    for (int i = 0; i < n(); ++i) {
      const V first = b.reply[0][i], share = ratio * first;
      if constexpr (!kExact) {
        st.right[i] = fmadd(-ratio, first, b.reply[1][i]);
        continue;
      }
      V rounding;
      st.right[i] = core::two_sum(b.reply[1][i], -share, rounding);
      const V rest = fmadd(-low, first, rounding - fmadd(ratio, first, -share));
      st.right_low[i] = rest + fmadd(-ratio, b.cross_lowest[0][i], b.cross_lowest[1][i]);
    }
    return {st.right, kExact ? &st.right_low : nullptr, V(-1.), -ratio, -low, V(1.)};
  }
  SOFTMAP_HD Passage<V> measure(const Direction& first, const Direction& second) const {
    Passage<V> sums;
    for (int i = 0, k = 0; i < n(); ++i) {
      sums.add_prior(st.precision[i], st.precision[i] * (st.mean[i] - st.s[i]), first.score(i), second.score(i));
      for (int j = i + 1; j < n(); ++j, ++k) {
        for_each_set(k, st.s[i] - st.s[j], [&](int sign, const core::Parts<V>& of) {
          const V side{double(sign)}, share(Model::kShare);
          sums.add(of, first.change(i, j, side, share), second.change(i, j, side, share));
        });
      }
    }
    return sums;
  }
  // What H reply is short of C, solved for. Margins that hardly change along such a direction have large slopes where they are
  // not yet balanced, of which the rounding of reply would take its share.
  SOFTMAP_HD void refine_replies(M plain) {
    auto& b = st.border;
    const V none(0.);
    SOFTMAP_UNROLL(2)
    for (int k = 0; k < 2; ++k) {
      if (all(plain | (b.estimated[k] == none))) {
        for (int i = 0; i < n(); ++i) b.cross_lowest[k][i] = none;
        continue;
      }
      const Direction along{b.reply[k], nullptr, V(-1.), k == 0 ? b.estimated[0] : V(0.), V(0.), k == 0 ? V(0.) : b.estimated[1]};
      for (int i = 0; i < n(); ++i) {
        st.right[i] = st.precision[i] * along.score(i);
        st.right_low[i] = fmadd(st.precision[i], along.score(i), -st.right[i]);
      }
      for (int i = 0, pair = 0; i < n(); ++i) {
        for (int j = i + 1; j < n(); ++j, ++pair) {
          V flow(0.);
          for_each_set(pair, st.s[i] - st.s[j], [&](int sign, const core::Parts<V>& of) {
            const core::Along<V> x = along.change(i, j, V(double(sign)), V(Model::kShare));
            flow = flow + by_d({of.curve.d * x.d, of.curve.t * x.t, of.curve.below * x.below, of.curve.above * x.above});
          });
          Passage<V>::add(st.right[i], st.right_low[i], flow);
          Passage<V>::add(st.right[j], st.right_low[j], -flow);
        }
      }
      solve_right<N>(st, n(), b.cross_lowest[k]);
      for (int i = 0; i < n(); ++i) b.cross_lowest[k][i] = select(plain, none, b.cross_lowest[k][i]);
    }
  }

  // A number on whose grid the sum of the flows at an item has less than 53 bits. No link is steeper than 1 + |d|.
  SOFTMAP_HD V flow_grid() const {
    V reach(0.);
    for (int i = 0; i < n(); ++i) reach = max(reach, abs(st.s[i]));
    V steepest = fmadd(V(2.), reach, V(1. + core::abs(advantage)));
    if constexpr (kBorder) steepest = steepest + abs(st.border.value[0]) + (Model::kPositive ? st.border.value[1] : V(0.));
    return scale2(V(1.5), exponent(V(4. * n()) * st.largest * steepest));
  }

  // flow = a + b + c, with a on the grid and b on one 2^46 finer: so coarse that neither a nor b is rounded in a sum.
  struct Pieces {
    V a, b, c;
  };
  SOFTMAP_HD static Pieces cut(V flow, V grid) {
    const V fine = grid * V(0x1p-46), a = (flow + grid) - grid, rest = flow - a, b = (rest + fine) - fine;
    return {a, b, rest - b};
  }

  // Gradient and Hessian at s. The flow that leaves i is exactly what reaches j, and is added up without rounding, so that
  // the sum over a group of items keeps only its outer flows. Of c, what rounding takes is added up, too (in `right`).
  SOFTMAP_HD void evaluate() {
    const int n = N > 0 ? N : tile.n;
    const V grid = flow_grid();
    for (int i = 0; i < n; ++i) st.g[i] = st.low[i] = st.lowest[i] = st.right[i] = V(0.);
    if constexpr (kBorder) st.border.clear(n);
    for (int i = 0; i < n - 1; ++i) {
      const int row = row_start(n, i);
      V g = st.g[i], low = st.low[i];
      for (int j = i + 1; j < n; ++j) {
        Pair p;
        if constexpr (kBorder) {
          p = pair_into_border(row + j, i, j, st.s[i] - st.s[j], grid);
        } else {
          p = pair(row + j, st.s[i] - st.s[j]);
        }
        const Pieces f = cut(p.flow, grid);
        g = g + f.a;
        low = low + f.b;
        Passage<V>::add(st.lowest[i], st.right[i], f.c);
        st.g[j] = st.g[j] - f.a;
        st.low[j] = st.low[j] - f.b;
        Passage<V>::add(st.lowest[j], st.right[j], -f.c);
        st.hessian.h[row + j] = p.curve;
      }
      st.g[i] = g;
      st.low[i] = low;
    }
    for (int i = 0; i < n; ++i) {
      const V pull = st.precision[i] * (st.mean[i] - st.s[i]);
      V a, b, c;
      const V flow = core::two_sum(core::two_sum(st.g[i], st.low[i], a), st.lowest[i], b);
      const V sum = core::two_sum(flow, pull, c);
      st.g[i] = core::two_sum(sum, ((a + b) + c) + st.right[i], st.low[i]);
      st.hessian.p[i] = st.precision[i];
    }
    if constexpr (kBorder) st.border.hold(n);
  }

  // Of Newton's step: its largest entry and the slope along it; and the slope along the last step.
  struct Found {
    V size, slope, last_slope;
  };
  SOFTMAP_HD Found solve_step() {
    const int n = this->n();
    factor<N>(st.hessian, n, st.grounded);
    for (int i = 0; i < n; ++i) {
      st.right[i] = st.g[i];
      st.right_low[i] = st.low[i];
    }
    solve_right<N>(st, n, st.newton);
    V last_slope = dot(st.g, st.step, n), slope = dot(st.g, st.newton, n);
    if constexpr (!kBorder) {
      return {largest_of(st.newton, n), slope, last_slope};
    } else {
      auto& b = st.border;
      SOFTMAP_UNROLL(2)
      for (int k = 0; k < 2; ++k) {
        for (int i = 0; i < n; ++i) {
          st.right[i] = b.cross[k][i];
          st.right_low[i] = b.cross_low[k][i];
        }
        solve_right<N>(st, n, b.reply[k]);
      }
      last_slope = last_slope + fmadd(b.slope[0], b.step[0], b.slope[1] * b.step[1]);
      auto rest = b.rest(n, st.newton);
      const M plain = min(rest.square[0] / b.aa, rest.square[1] / b.tt) >= V(kPlainShare);
      if (!all(plain)) {
        V careful_slope;
        const auto careful = careful_rest(plain, careful_slope);
        SOFTMAP_UNROLL(2)
        for (int k = 0; k < 2; ++k) {
          rest.square[k] = select(plain, rest.square[k], careful.square[k]);
          rest.slope[k] = select(plain, rest.slope[k], careful.slope[k]);
        }
        rest.ratio = select(plain, rest.ratio, careful.ratio);
        last_slope = select(plain, last_slope, careful_slope);
      }
      b.solve(rest, n, st.newton);
      SOFTMAP_UNROLL(2)
      for (int k = 0; k < 2; ++k) slope = slope + rest.slope[k] * rest.slope[k] / rest.square[k];
      return {max(largest_of(st.newton, n), border_size()), slope, last_slope};
    }
  }
  static constexpr double kPlainShare = 0x1p-10;  // of D in S, below which rounding counts
  // Of the border's part of Newton's step. A parameter that must stay positive counts in proportion to itself.
  SOFTMAP_HD V border_size() const {
    const auto& b = st.border;
    const V of_tie = abs(b.newton[1]) * (Model::kPositive ? V(1.) / min(V(1.), b.value[1]) : V(1.));
    const V largest = max(abs(b.newton[0]), select(b.estimated[1] == V(0.), V(0.), of_tie));
    return largest + V(0.) * (b.newton[0] + b.newton[1]);  // NaN where either is
  }

  // The search along a step: s = base + length * step.
  struct Search {
    V slope;  // at the base
    V size;   // max |step|
    V length;
    V tail_slope;  // share of `slope` that is left after `length` in the tail of the link
  };
  static constexpr double kTailSlope = 0.3, kFlatReach = 32;  // the longest difference that is believed of a flat part

  // Products of the last step with itself and with Newton's.
  struct Along {
    V last, newton;
  };
  SOFTMAP_HD Along along_last() const {
    Along along{V(0.), V(0.)};
    for (int i = 0; i < n(); ++i) {
      along.last = fmadd(st.step[i], st.step[i], along.last);
      along.newton = fmadd(st.newton[i], st.step[i], along.newton);
    }
    if constexpr (kBorder) {
      const auto& b = st.border;
      along.last = along.last + fmadd(b.step[0], b.step[0], b.step[1] * b.step[1]);
      along.newton = along.newton + fmadd(b.newton[0], b.step[0], b.newton[1] * b.step[1]);
    }
    return along;
  }

  // Returns the lanes that converged; s is then where gradient and Hessian were evaluated and newton the last step.
  SOFTMAP_HD M run(const FitOptions& options) {
    M done = V(1.) < V(0.), converged = done;
    Search line{V(0.), V(0.), V(1.), V(kTailSlope)};
    st.n_iter = V(0.);
    for (int i = 0; i < n(); ++i) st.step[i] = V(0.);
    if constexpr (kBorder) st.border.step[0] = st.border.step[1] = V(0.);
    for (int iteration = 0; iteration < options.max_iter && !all(done); ++iteration) {
      st.n_iter = st.n_iter + select(done, V(0.), V(1.));
      evaluate();
      const Found found = solve_step();
      st.size = max(V(1.), largest_of(st.s, n()));
      const M small = found.size <= V(options.tol) * st.size;
      // Below 1/16 a step of Newton's method cannot overshoot, but rounding could make it look so.
      const M far = line.length * line.size > V(0.0625);
      const auto along = along_last();
      const V moved = line.length * along.last;
      // The next step may take the last one back, beyond a kink, although the slope is small beside that at the base, or is that
      // of other directions. Where it goes on the same way and is much longer, a tail or a slope of one size lies ahead.
      const M back = ((found.last_slope < V(0.)) & (along.newton < V(-0.75) * moved)) | (along.newton < V(-4.) * moved);
      const M flat = (found.last_slope >= V(0.5) * line.slope) & (line.length * line.size <= V(kFlatReach)) &
                     (along.newton * line.size >= V(0.5) * found.size * along.last);
      const M kept = (found.last_slope >= V(-0.5) * line.slope) & ((found.size <= V(16.) * line.size) | flat);
      const M over = far & !small & (back | !kept);
      const M lost = !((found.size == found.size) | over);
      converged = converged | (small & !done);
      done = done | small | lost;
      advance(done, over, far, found, line);
    }
    return converged;
  }

  // Where to evaluate next, and from which base along which step.
  //
  //   overshot        back: to Newton's own step, or to the geometric mean of the length that was too long and one that cannot
  //                   be, as the curvature changes by at most a factor exp(r) over a change r of a difference of scores (logit)
  //   still in a tail where flows fall like exp(-d), Newton's steps are about 1 long and reduce the slope to 1 / e each:
  //                   double the length as long as the slope falls no faster than that
  //   else            Newton's step, at most 16 times what the last one was, and where it says more than that at most kFlatReach
  SOFTMAP_HD void advance(M done, M over, M far, const Found& found, Search& line) {
    const V range = V(2.) * line.size, safe = core::log1p(range) / range, one(1.);
    const V shorter = select(line.length > one, one, sqrt(line.length * min(safe, V(0.25) * line.length)));
    const M tail = far & (line.length >= one) & (found.last_slope > line.tail_slope * line.slope);
    const M usual = found.size <= V(16.) * line.size;
    const V more = V(16.) * line.length * line.size, reach = select(usual, more, min(more, V(kFlatReach)));
    const V first = select((line.length < one) | (far & !usual), min(one, reach / found.size), one);
    line.length = select(over, shorter, select(tail, line.length + line.length, first));
    line.tail_slope = select(tail & !over, line.tail_slope * line.tail_slope, V(kTailSlope));
    if constexpr (kBorder) {
      auto& b = st.border;
      SOFTMAP_UNROLL(2)
      for (int k = 0; k < 2; ++k) {
        b.base[k] = select(over, b.base[k], b.value[k]);
        b.step[k] = select(over, b.step[k], b.newton[k]);
      }
      if constexpr (Model::kPositive) {  // no further than to a quarter
        const V limit = V(-0.75) * b.base[1] / b.step[1];
        line.length = select((b.step[1] < V(0.)) & (limit < line.length), limit, line.length);
      }
      SOFTMAP_UNROLL(2)
      for (int k = 0; k < 2; ++k) {
        const V moved = fmadd(line.length, b.step[k], b.base[k]);
        b.value[k] = select(done | (b.estimated[k] == V(0.)), b.value[k], moved);
      }
    }
    for (int i = 0; i < n(); ++i) {
      st.base[i] = select(over, st.base[i], st.s[i]);
      st.step[i] = select(over, st.step[i], st.newton[i]);
      st.s[i] = select(done, st.s[i], fmadd(line.length, st.step[i], st.base[i]));
    }
    line.slope = select(over, line.slope, found.slope);
    line.size = select(over, line.size, found.size);
  }

  // Lanes whose solution rounding cannot have moved by more than kTrusted.
  //
  // A flow is wrong by up to e = 2^-49 of the numbers that it is the difference of. It leaves i and reaches j, so it moves no
  // score by more than e r_ij, where r_ij is the resistance between i and j in a network of conductances h and, to the
  // ground, p. r_ij <= 1 / h_ij, and n shifts e / h_ij of 2^-36 each, one a pair of a spanning tree, are harmless; where there
  // are larger ones (flows that others balance), r_ij is bounded by the shortest path. The error of sums is H^-1 |error|.
  SOFTMAP_HD M trusted() {
    M simple = st.scale == st.scale;
    const V grid = flow_grid();
    for (int i = 0; i < n(); ++i) {
      st.right[i] = abs(st.g[i]) * V(0x1p-100);
      st.right_low[i] = V(0.);
    }
    for_each_pair([&](int, int i, int j, const Pair& p, V error) {
      const V rounding = abs(cut(p.flow, grid).c) * V(0x1p-92);  // at most 64 terms, 2^-53 of their sum each, in two parts
      st.right[i] = st.right[i] + rounding;
      st.right[j] = st.right[j] + rounding;
      simple = simple & (error <= p.curve * V(0x1p-36));
    });
    solve<N>(st.hessian, n(), st.right, st.right_low, st.step);
    V bound = V(2.) * largest_of(st.step, n());
    V balanced(0.);
    if (!all(simple)) balanced = select(simple, V(0.), flow_error());
    bound = bound + balanced;
    if constexpr (kBorder) {
      V slope;
      const auto rest = careful_rest(st.border.share >= V(kPlainShare), slope);
      bound = bound + st.border.error(rest, n());
      return (bound <= V(kTrusted) * st.size) & (st.border.share >= V(kLeastShare));
    } else {
      return bound <= V(kTrusted) * st.size;
    }
  }

  // Of D in S: below, the rounding of reply, squared, could have made it up.
  static constexpr double kLeastShare = 0x1p-84;

  // body(number, i, j, pair, error of its flow) for every pair.
  template <class Body>
  SOFTMAP_HD void for_each_pair(Body&& body) const {
    for (int i = 0, k = 0; i < n(); ++i) {
      for (int j = i + 1; j < n(); ++j, ++k) {
        const Pair p = pair(k, st.s[i] - st.s[j]);
        body(k, i, j, p, fmadd(p.size, V(0x1p-49), V(0x1p-1020)));
      }
    }
  }

  // sum of e_ij r_ij over the large e_ij, with shortest paths by Floyd and Warshall.
  SOFTMAP_HD V flow_error() {
    for_each_pair([&](int k, int i, int j, const Pair& p, V) {
      st.path[k] = min(V(1.) / p.curve, V(1.) / st.precision[i] + V(1.) / st.precision[j]);
    });
    const auto at = [&](int i, int j) { return i < j ? row_start(n(), i) + j : row_start(n(), j) + i; };
    for (int via = 0; via < n(); ++via) {
      for (int i = 0; i < n(); ++i) {
        for (int j = i + 1; j < n(); ++j) {
          if (i == via || j == via) continue;
          V& path = st.path[at(i, j)];
          path = min(path, st.path[at(i, via)] + st.path[at(via, j)]);
        }
      }
    }
    V sum(0.);
    for_each_pair([&](int k, int, int, const Pair& p, V error) {
      sum = sum + select(error <= p.curve * V(0x1p-36), V(0.), error * st.path[k]);
    });
    return sum;
  }

  SOFTMAP_HD void solve_tile(const FitOptions& options) {
    const M converged = run(options), ok = converged & trusted();
    st.status = select(ok, V(double(FitStatus::ok)), V(double(FitStatus::not_converged)));
    for (int i = 0; i < n(); ++i) st.s[i] = select(converged, st.s[i] + st.newton[i], st.s[i]);
    if constexpr (kBorder) {
      auto& b = st.border;
      SOFTMAP_UNROLL(2)
      for (int k = 0; k < 2; ++k) {
        const auto moves = converged & !(b.estimated[k] == V(0.));
        b.value[k] = select(moves, b.value[k] + b.newton[k], b.value[k]);
      }
    }
    const V shift = select(st.grounded, mean_of(st.s, n()), V(0.));
    for (int i = 0; i < n(); ++i) st.s[i] = st.s[i] - shift;
    st.gradient_max = V(0.);
    for (int i = 0; i < n(); ++i) {
      st.s[i] = select(st.precision[i] < V(kFixed), st.s[i], st.mean[i]);
      const V share = abs(st.g[i]) / max(st.scale, weight_of(i));
      st.gradient_max = max(st.gradient_max, select(st.precision[i] < V(kFixed), share, V(0.)));
    }
    if constexpr (kBorder) {
      V total(0.);
      for (int i = 0; i < n(); ++i) total = total + V(0.5) * weight_of(i);
      const V larger = max(abs(st.border.slope[0]), abs(st.border.slope[1]));
      st.gradient_max = max(st.gradient_max, larger / max(st.scale, total));
    }
  }

  // Total weight of the comparisons of item i.
  SOFTMAP_HD V weight_of(int i) const {
    V sum(0.);
    for (int j = 0; j < n(); ++j) {
      if (j == i) continue;
      const int k = (j < i ? row_start(n(), j) + i : row_start(n(), i) + j) * kStride;
      for (int set = 0; set < tile.n_sets(); ++set) {
        sum = sum + (P::load(tile.win[set] + k) + P::load(tile.loss[set] + k));
        if (tile.ties) sum = sum + P::load(tile.tie[set] + k);
      }
    }
    return sum;
  }
};

}  // namespace
}  // namespace softmap::dense
