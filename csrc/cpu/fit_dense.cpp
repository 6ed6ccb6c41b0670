#include "cpu/newton.h"
#include "cpu/newton_ordinary.h"
#include "cpu/parallel.h"
#include "cpu/prepare.h"

namespace softmap::cpu {
namespace {

template <class Model, int N, bool kOrdered, bool kBorder>
void solve_tile(const Tile& t, State& st, const FitOptions& options) {
  Newton<Model, N, kOrdered, kBorder>{t, st, options.first_advantage.value}.solve_tile(options);
}

using Solver = void (*)(const Tile&, State&, const FitOptions&);
template <class Link>
Solver solver_for(const Tile& t, const FitOptions& options) {
  if (has_border(options)) return &solve_tile<NoTies<Link>, 0, false, true>;
  if (t.ordered) return &solve_tile<Link, 0, true, false>;
  return t.n == 6 ? &solve_tile<Link, 6, false, false> : &solve_tile<Link, 0, false, false>;
}
Solver solver_for(const Tile& t, const FitOptions& options) {
  if (options.ties == TieOption::davidson) return &solve_tile<core::Davidson, 0, false, true>;
  if (options.ties == TieOption::rao_kupper) return &solve_tile<core::RaoKupper, 0, false, true>;
  if (options.ties == TieOption::threshold) return &solve_tile<core::NormalThreshold, 0, false, true>;
  return options.probit ? solver_for<core::Probit>(t, options) : solver_for<core::Logit>(t, options);
}

// Lanes of a tile that need no precautions are solved; false where that is not tried.
using Quick = M (*)(const Tile&, State&, const FitOptions&, bool predicts);
template <class Link, int N>
M solve_ordinary(const Tile& t, State& st, const FitOptions& options, bool predicts) {
  return OrdinaryNewton<Link, N>{t, st}.solve_tile(options, predicts);
}
template <class Link>
Quick quick_for(int n) {
  constexpr Quick of_n[] = {&solve_ordinary<Link, 0>, nullptr,
                            &solve_ordinary<Link, 2>, &solve_ordinary<Link, 3>,
                            &solve_ordinary<Link, 4>, &solve_ordinary<Link, 5>,
                            &solve_ordinary<Link, 6>, &solve_ordinary<Link, 7>,
                            &solve_ordinary<Link, 8>};
  return of_n[n <= 8 ? n : 0];
}
Quick quick_for(const Tile& t, const FitOptions& options) {
  if (t.ordered || has_border(options)) return nullptr;
  return options.probit ? quick_for<core::Probit>(t.n) : quick_for<core::Logit>(t.n);
}

// The problems of a tile, by number.
struct Lot {
  Index problem[kWidth];
  int count;
};

// Loads a tile; spare lanes repeat its last problem.
template <class Load>
V load_lot(const Lot& lot, const Priors& priors, const FitOptions& options, const Load& load, Tile& t, State& st) {
  for (int lane = 0; lane < kWidth; ++lane) {
    const Index problem = lot.problem[lane < lot.count ? lane : lot.count - 1];
    load(t, problem, lane);
    if (priors.stride > 0) load_priors(priors, problem, t, lane);
  }
  return prepare(t, st, options);
}

// How to make all problems quicker: scores near the maximum, where there are; and whether to stop before the last step where it
// is sure to be negligible.
struct Hint {
  bool known, predicts;
  double score[kMaxItems];
};

// Solves all problems, a tile at a time: load(tile, problem, lane) writes one table, finish(state, problems) reads the
// results. What the quick way leaves is collected until it fills a tile.
template <class Load, class Finish>
void for_each_tile(int n, bool ordered, bool ties, Index n_problems, const Priors& priors, const FitOptions& options,
                   const Hint& hint, const Exec& exec, const Load& load, const Finish& finish) {
  const Index cost = 64 * n * n, chunk = (((1 << 20) / cost) / kWidth + 1) * kWidth;
  const int slots = slots_for(exec, n_problems, chunk, n_problems * cost);
  const Scratch<double> tiles(slots, sizeof(Tile) / sizeof(double)), states(slots, sizeof(State) / sizeof(double));
  parallel_for(exec, n_problems, chunk, n_problems * cost, [&](Index first, Index last, int slot) {
    Tile& t = *reinterpret_cast<Tile*>(tiles[slot]);
    State& st = *reinterpret_cast<State*>(states[slot]);
    t.n = n;
    t.ordered = ordered;
    t.ties = ties;
    const Solver solver = solver_for(t, options);
    const Quick quick = quick_for(t, options);
    if (priors.stride == 0) {
      for (int lane = 0; lane < kWidth; ++lane) load_priors(priors, 0, t, lane);
    }
    Lot left{{}, 0};
    const auto solve_left = [&] {
      const V status = load_lot(left, priors, options, load, t, st);
      solver(t, st, options);
      st.status = select(status == V(0.), st.status, status);
      finish(st, left);
      left.count = 0;
    };
    for (Index b = first; b < last; b += kWidth) {
      Lot lot{{}, last - b < kWidth ? static_cast<int>(last - b) : kWidth};
      for (int lane = 0; lane < lot.count; ++lane) lot.problem[lane] = b + lane;
      double solved[kWidth] = {};
      if (quick) {
        st.status = load_lot(lot, priors, options, load, t, st);
        const M none = st.grounded & !st.grounded;
        if (hint.known) {
          for (int i = 0; i < n; ++i) st.s[i] = V(hint.score[i]);
        }
        const M ok = (all(st.grounded) ? none : quick(t, st, options, hint.predicts)) | !(st.status == V(0.));
        select(ok, V(1.), V(0.)).store(solved);
        if (any(ok)) finish(st, lot);
      }
      for (int lane = 0; lane < lot.count; ++lane) {
        if (solved[lane] != 0) continue;
        left.problem[left.count++] = lot.problem[lane];
        if (left.count == kWidth) solve_left();
      }
    }
    if (left.count > 0) solve_left();
  });
}

// The lanes of x, NaN where the status is worse than `worst`.
void store_valid(const State& st, V x, FitStatus worst, double* to) {
  const M valid = (st.status == V(double(FitStatus::ok))) | (st.status == V(double(worst)));
  select(valid, x, V(core::kNaN<double>)).store(to);
}

// Standard errors of the scores minus their mean: with C = I - 11'/n, the diagonal of C H^-1 C is that of
// C H^-1 (n C) / n. The columns of n C are whole numbers that add up to 0, so that nothing of the common mode, which a weak
// prior leaves almost free, gets in.
//
// With a border it is (H - C D^-1 C')^-1 = H^-1 + H^-1 C S^-1 C' H^-1, whose columns H^-1 C are centred likewise.
void standard_errors(State& st, int n, bool border, V* out) {
  const V middle[2] = {border ? mean_of(st.border.reply[0], n) : V(0.), border ? mean_of(st.border.reply[1], n) : V(0.)};
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      st.right[j] = V(j == i ? n - 1. : -1.);
      st.right_low[j] = V(0.);
    }
    solve<0>(st.hessian, n, st.right, st.right_low, st.step);
    V variance = (st.step[i] - mean_of(st.step, n)) * V(1. / n);
    if (border) variance = variance + st.border.form(st.border.reply[0][i] - middle[0], st.border.reply[1][i] - middle[1]);
    out[i] = sqrt(variance * st.scale);
  }
}

// The variance of sum_i c_i s_i, with c in right and right_low.
V contrast_variance(State& st, int n) {
  for (int i = 0; i < n; ++i) st.base[i] = st.right[i];
  solve<0>(st.hessian, n, st.right, st.right_low, st.step);
  return dot(st.base, st.step, n) * st.scale;
}

// The parameters beside the scores, NaN where there is no solution, and their standard errors, NaN where they were not estimated.
template <class T>
void write_border(const State& st, const Lot& lot, const FitOut<T>& out) {
  const auto& b = st.border;
  double lanes[kWidth];
  const auto write = [&](V x, FitStatus worst, double* to) {
    store_valid(st, x, worst, lanes);
    for (int l = 0; l < lot.count; ++l) to[lot.problem[l]] = lanes[l];
  };
  const V scale[2] = {b.i_aa * st.scale, b.i_tt * st.scale};
  double* const values[2] = {out.advantage, out.tie};
  double* const errors[2] = {out.advantage_error, out.tie_error};
  for (int k = 0; k < 2; ++k) {
    if (!values[k]) continue;
    write(b.value[k], FitStatus::not_converged, values[k]);
    write(select(b.estimated[k] == V(0.), V(core::kNaN<double>), sqrt(scale[k])), FitStatus::ok, errors[k]);
  }
}

template <class T>
void write_test_item(State& st, int n, const Rescale& rescale, bool centred, const Lot& lot, const AnchorOut<T>& out) {
  const int m = n - 1;
  const V test = st.s[m];
  V low = st.s[0], high = low;
  for (int k = 1; k < m; ++k) {
    low = min(st.s[k], low);
    high = max(st.s[k], high);
  }
  const V outside = select(test < low, V(-1.), select(test > high, V(1.), V(0.)));
  const V bottom = min(low, test), range = max(high, test) - bottom;
  V score = test, error(core::kNaN<double>);
  if (rescale.wanted) {  // all scores equal: the middle
    const V share = select(range > V(0.), (test - bottom) / range, V(0.5));
    score = fmadd(share, V(rescale.high - rescale.low), V(rescale.low));
  }
  if (out.standard_errors) {
    for (int i = 0; i < n; ++i) st.right[i] = st.right_low[i] = V(0.);
    if (rescale.wanted) {
      // d score / d (test, low, high) is proportional to (range, test - high, low - test) / range^2.
      const V below = test - low, above = high - test;
      M seek_low = outside == outside, seek_high = seek_low;
      for (int k = 0; k < m; ++k) {
        const M is_low = seek_low & (st.s[k] == low), is_high = seek_high & (st.s[k] == high);
        st.right[k] = select(is_low, -above, V(0.)) + select(is_high, -below, V(0.));
        seek_low = seek_low & !is_low;
        seek_high = seek_high & !is_high;
      }
      st.right[m] = core::two_sum(below, above, st.right_low[m]);
      error = sqrt(contrast_variance(st, n)) * (V(rescale.high - rescale.low) / (range * range));
      error = select(outside == V(0.), abs(error), V(core::kNaN<double>));
    } else if (centred) {
      for (int i = 0; i < n; ++i) st.right[i] = V(i == m ? n - 1. : -1.);
      error = sqrt(contrast_variance(st, n)) * V(1. / n);
    } else {
      st.right[m] = V(1.);
      error = sqrt(contrast_variance(st, n));
    }
  }
  double lanes[4][kWidth];
  store_valid(st, score, FitStatus::not_converged, lanes[0]);
  store_valid(st, error, FitStatus::ok, lanes[1]);
  st.status.store(lanes[2]);
  outside.store(lanes[3]);
  for (int l = 0; l < lot.count; ++l) {
    const Index problem = lot.problem[l];
    out.score[problem] = static_cast<T>(lanes[0][l]);
    if (out.standard_errors) out.standard_errors[problem] = static_cast<T>(lanes[1][l]);
    out.status[problem] = static_cast<FitStatus>(lanes[2][l]);
    out.outside[problem] = lanes[0][l] == lanes[0][l] ? static_cast<std::int8_t>(lanes[3][l]) : std::int8_t(0);
  }
  for (int k = 0; k < m; ++k) {
    store_valid(st, st.s[k], FitStatus::not_converged, lanes[0]);
    for (int l = 0; l < lot.count; ++l) out.anchor_scores[lot.problem[l] * m + k] = static_cast<T>(lanes[0][l]);
  }
}

// Copies one table. Without an order a table of ties that is not symmetric gets a NaN, which is no weight.
template <class T>
void load_table(const Tables<T>& tables, Index problem, Tile& t, int lane) {
  const int n = tables.n;
  const auto at = [&](const T* table, int i, int j) { return static_cast<double>(table[(problem * n + i) * n + j]); };
  for (int i = 0, k = lane; i < n; ++i) {
    for (int j = i + 1; j < n; ++j, k += kWidth) {
      t.win[0][k] = at(tables.wins, i, j);
      t.loss[0][k] = at(tables.losses ? tables.losses : tables.wins, tables.losses ? i : j, tables.losses ? j : i);
      if (tables.losses) {
        t.win[1][k] = at(tables.losses, j, i);
        t.loss[1][k] = at(tables.wins, j, i);
      }
      if (!tables.ties) continue;
      const double one = at(tables.ties, i, j), other = at(tables.ties, j, i);
      t.tie[0][k] = tables.losses || one == other ? one : core::kNaN<double>;
      t.tie[1][k] = other;
    }
  }
}

}  // namespace

template <class T>
void fit_many(const Tables<T>& tables, const Priors& priors, const FitOptions& options, const FitOut<T>& out, const Exec& exec) {
  const int n = tables.n;
  const auto load = [&](Tile& t, Index problem, int lane) { load_table(tables, problem, t, lane); };
  const auto finish = [&](State& st, const Lot& lot) {
    const int count = lot.count;
    const Index* const problem = lot.problem;
    double lanes[kWidth];
    const auto write_items = [&](const V* x, FitStatus worst, T* to) {
      for (int i = 0; i < n; ++i) {
        store_valid(st, x[i], worst, lanes);
        for (int l = 0; l < count; ++l) to[problem[l] * n + i] = static_cast<T>(lanes[l]);
      }
    };
    write_items(st.s, FitStatus::not_converged, out.scores);
    if (out.standard_errors) {
      standard_errors(st, n, has_border(options), st.newton);
      write_items(st.newton, FitStatus::ok, out.standard_errors);
    }
    st.status.store(lanes);
    for (int l = 0; l < count; ++l) out.status[problem[l]] = static_cast<FitStatus>(lanes[l]);
    st.n_iter.store(lanes);
    const auto solved = [&](int l) {
      return out.status[problem[l]] == FitStatus::ok || out.status[problem[l]] == FitStatus::not_converged;
    };
    for (int l = 0; l < count; ++l) out.n_iter[problem[l]] = solved(l) ? static_cast<std::int32_t>(lanes[l]) : 0;
    store_valid(st, st.gradient_max, FitStatus::not_converged, lanes);
    for (int l = 0; l < count; ++l) out.gradient_max[problem[l]] = lanes[l];
    if (has_border(options)) write_border(st, lot, out);
  };
  for_each_tile(n, tables.losses != nullptr, tables.ties != nullptr, tables.n_problems, priors, options, {}, exec, load, finish);
}

namespace {

// The anchors where there is no test item, which is then at the mean of its prior.
template <class T>
Hint anchors_alone(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, bool predicts,
                   const Exec& exec) {
  Hint hint{false, predicts, {}};
  if (tables.m < 2) return hint;
  double gradient_max;
  FitStatus status;
  std::int32_t n_iter;
  fit_many<double>({tables.anchors, nullptr, nullptr, 1, tables.m}, priors, options,
                   {hint.score, nullptr, &status, &n_iter, &gradient_max, nullptr, nullptr, nullptr, nullptr}, exec);
  hint.score[tables.m] = priors.mean[tables.m];
  hint.known = status == FitStatus::ok;
  return hint;
}

}  // namespace

template <class T>
void score_against_anchors(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, const Rescale& rescale,
                           bool centred, const AnchorOut<T>& out, const Exec& exec) {
  const int m = tables.m, n = m + 1;
  const auto load = [&](Tile& t, Index problem, int lane) {
    const T* const preferences = tables.preferences + problem * m;
    const auto pair = [n](int i, int j) { return (row_start(n, i) + j) * kWidth; };
    if (lane == 0) {
      for (int i = 0; i < m; ++i) {
        for (int j = i + 1; j < m; ++j) {
          V(tables.anchors[i * m + j]).store(t.win[0] + pair(i, j));
          V(tables.anchors[j * m + i]).store(t.loss[0] + pair(i, j));
        }
      }
    }
    bool missing = true;
    for (int i = 0; i < m; ++i) {
      const double p = static_cast<double>(preferences[i]);
      const bool known = p == p;
      missing &= !known;
      t.loss[0][pair(i, m) + lane] = known ? p : 0.;
      t.win[0][pair(i, m) + lane] = known ? 1. - p : 0.;
    }
    for (int k = lane; missing && k < t.n_pairs() * kWidth; k += kWidth) t.win[0][k] = t.loss[0][k] = core::kNaN<double>;
  };
  const auto finish = [&](State& st, const Lot& lot) { write_test_item(st, n, rescale, centred, lot, out); };
  for_each_tile(n, false, false, tables.n_problems, priors, options,
                anchors_alone(tables, priors, options, !out.standard_errors, exec), exec, load, finish);
}

#define SOFTMAP_INSTANTIATE(T)                                                                                        \
  template void fit_many(const Tables<T>&, const Priors&, const FitOptions&, const FitOut<T>&, const Exec&);          \
  template void score_against_anchors(const AnchorTables<T>&, const Priors&, const FitOptions&, const Rescale&, bool, \
                                      const AnchorOut<T>&, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
