#pragma once
// From the arrays of a call to the tables of a tile, and from the state of their fits to the results.
#include "dense/tile.h"

namespace softmap::dense {
namespace {

// The problems of a tile, by number.
template <class P>
struct Lot {
  Index problem[P::kLanes];
  int count;
};

// Copies one table. Without an order a table of ties that is not symmetric gets a NaN, which is no weight.
template <class P, class T>
SOFTMAP_HD void load_table(const Tables<T>& tables, Index problem, Tile<P>& t, int lane) {
  const int n = tables.n;
  const auto at = [&](const T* table, int i, int j) { return static_cast<double>(table[(problem * n + i) * n + j]); };
  for (int i = 0, k = lane; i < n; ++i) {
    for (int j = i + 1; j < n; ++j, k += P::kStride) {
      t.win[0][k] = at(tables.wins, i, j);
      t.loss[0][k] = at(tables.losses ? tables.losses : tables.wins, tables.losses ? i : j, tables.losses ? j : i);
      if (tables.losses) {
        t.win[1][k] = at(tables.losses, j, i);
        t.loss[1][k] = at(tables.wins, j, i);
      }
      if (!tables.ties) continue;
      const double one = at(tables.ties, i, j), other = at(tables.ties, j, i);
      t.tie[0][k] = tables.losses || one == other ? one : core::kNaN<double>;
      if (tables.losses) t.tie[1][k] = other;
    }
  }
}

// Copies one row of preferences, NaN where there was no comparison, and the table of the anchors that goes with it.
template <class P, class T>
SOFTMAP_HD void load_row(const AnchorTables<T>& tables, Index problem, Tile<P>& t, int lane) {
  const int m = tables.m, n = m + 1;
  const T* const preferences = tables.preferences + problem * m;
  const auto pair = [n](int i, int j) { return (row_start(n, i) + j) * P::kStride; };
  if (lane == 0) {
    for (int i = 0; i < m; ++i) {
      for (int j = i + 1; j < m; ++j) {
        P::store(typename P::V(tables.anchors[i * m + j]), t.win[0] + pair(i, j));
        P::store(typename P::V(tables.anchors[j * m + i]), t.loss[0] + pair(i, j));
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
  for (int k = lane; missing && k < t.n_pairs() * P::kStride; k += P::kStride) t.win[0][k] = t.loss[0][k] = core::kNaN<double>;
}

// The lanes of x, NaN where the status is worse than `worst`.
template <class P>
SOFTMAP_HD void store_valid(const State<P>& st, typename P::V x, FitStatus worst, double* to) {
  using V = typename P::V;
  const auto valid = (st.status == V(double(FitStatus::ok))) | (st.status == V(double(worst)));
  P::store(select(valid, x, V(core::kNaN<double>)), to);
}

// Standard errors of the scores minus their mean: with C = I - 11'/n, the diagonal of C H^-1 C is that of
// C H^-1 (n C) / n. The columns of n C are whole numbers that add up to 0, so that nothing of the common mode, which a weak
// prior leaves almost free, gets in.
//
// They are left in newton. With a border it is (H - C D^-1 C')^-1 = H^-1 + H^-1 C S^-1 C' H^-1, whose columns H^-1 C are centred
// likewise.
template <class P>
SOFTMAP_HD void standard_errors(State<P>& st, int n, bool border) {
  using V = typename P::V;
  const V middle[2] = {border ? mean_of(st.border.reply[0], n) : V(0.), border ? mean_of(st.border.reply[1], n) : V(0.)};
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      st.right[j] = V(j == i ? n - 1. : -1.);
      st.right_low[j] = V(0.);
    }
    solve<0>(st.hessian, n, st.right, st.right_low, st.step);
    V variance = (st.step[i] - mean_of(st.step, n)) * V(1. / n);
    if (border) variance = variance + st.border.form(st.border.reply[0][i] - middle[0], st.border.reply[1][i] - middle[1]);
    st.newton[i] = sqrt(variance * st.scale);
  }
}

// The variance of sum_i c_i s_i, with c in right and right_low.
template <class P>
SOFTMAP_HD typename P::V contrast_variance(State<P>& st, int n) {
  for (int i = 0; i < n; ++i) st.base[i] = st.right[i];
  solve<0>(st.hessian, n, st.right, st.right_low, st.step);
  return dot(st.base, st.step, n) * st.scale;
}

// The parameters beside the scores, NaN where there is no solution, and their standard errors, NaN where they were not estimated.
template <class P, class T>
SOFTMAP_HD void write_border(const State<P>& st, const Lot<P>& lot, const FitOut<T>& out) {
  using V = typename P::V;
  const auto& b = st.border;
  double lanes[P::kLanes];
  const auto write = [&](V x, FitStatus worst, double* to) {
    store_valid(st, x, worst, lanes);
    for (int l = 0; l < lot.count; ++l) to[lot.problem[l]] = lanes[l];
  };
  const auto write_parameter = [&](V x, V estimated, V variance, double* value, double* error) {
    if (!value) return;
    const V none(core::kNaN<double>);
    write(x, FitStatus::not_converged, value);
    write(select(estimated == V(0.), none, sqrt(variance * st.scale)), FitStatus::ok, error);
  };
  write_parameter(b.value[0], b.estimated[0], b.i_aa, out.advantage, out.advantage_error);
  write_parameter(b.value[1], b.estimated[1], b.i_tt, out.tie, out.tie_error);
}

template <class P, class T>
SOFTMAP_HD void write_test_item(State<P>& st, int n, const Rescale& rescale, bool centred, const Lot<P>& lot,
                                const AnchorOut<T>& out) {
  using V = typename P::V;
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
    V factor(1.);  // of the error of sum_i right_i s_i
    for (int i = 0; i < n; ++i) st.right[i] = st.right_low[i] = V(0.);
    if (rescale.wanted) {
      // d score / d (test, low, high) is proportional to (range, test - high, low - test) / range^2.
      const V below = test - low, above = high - test;
      auto seek_low = outside == outside, seek_high = seek_low;
      for (int k = 0; k < m; ++k) {
        const auto is_low = seek_low & (st.s[k] == low), is_high = seek_high & (st.s[k] == high);
        st.right[k] = select(is_low, -above, V(0.)) + select(is_high, -below, V(0.));
        seek_low = seek_low & !is_low;
        seek_high = seek_high & !is_high;
      }
      st.right[m] = core::two_sum(below, above, st.right_low[m]);
      factor = V(rescale.high - rescale.low) / (range * range);
    } else if (centred) {
      for (int i = 0; i < n; ++i) st.right[i] = V(i == m ? n - 1. : -1.);
      factor = V(1. / n);
    } else {
      st.right[m] = V(1.);
    }
    error = sqrt(contrast_variance(st, n)) * factor;
    if (rescale.wanted) error = select(outside == V(0.), abs(error), V(core::kNaN<double>));
  }
  double lanes[4][P::kLanes];
  store_valid(st, score, FitStatus::not_converged, lanes[0]);
  store_valid(st, error, FitStatus::ok, lanes[1]);
  P::store(st.status, lanes[2]);
  P::store(outside, lanes[3]);
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

// All results of fit_many.
template <class P, class T>
SOFTMAP_HD void write_fit(State<P>& st, int n, bool border, const Lot<P>& lot, const FitOut<T>& out) {
  double lanes[P::kLanes];
  const auto write_items = [&](const typename State<P>::Column& x, FitStatus worst, T* to) {
    for (int i = 0; i < n; ++i) {
      store_valid(st, x[i], worst, lanes);
      for (int l = 0; l < lot.count; ++l) to[lot.problem[l] * n + i] = static_cast<T>(lanes[l]);
    }
  };
  write_items(st.s, FitStatus::not_converged, out.scores);
  if (out.standard_errors) {
    standard_errors(st, n, border);
    write_items(st.newton, FitStatus::ok, out.standard_errors);
  }
  P::store(st.status, lanes);
  for (int l = 0; l < lot.count; ++l) out.status[lot.problem[l]] = static_cast<FitStatus>(lanes[l]);
  P::store(st.n_iter, lanes);
  const auto solved = [&](int l) {
    return out.status[lot.problem[l]] == FitStatus::ok || out.status[lot.problem[l]] == FitStatus::not_converged;
  };
  for (int l = 0; l < lot.count; ++l) out.n_iter[lot.problem[l]] = solved(l) ? static_cast<std::int32_t>(lanes[l]) : 0;
  store_valid(st, st.gradient_max, FitStatus::not_converged, lanes);
  for (int l = 0; l < lot.count; ++l) out.gradient_max[lot.problem[l]] = lanes[l];
  if (border) write_border(st, lot, out);
}

}  // namespace
}  // namespace softmap::dense
