#include "cpu/newton.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

constexpr double kSmallestPrecision = 0x1p-1000;

template <class Link, int N, bool kOrdered>
void solve_tile(const Tile& t, State& st, const FitOptions& options) {
  Newton<Link, N, kOrdered>{t, st, options.first_advantage}.solve_tile(options);
}

using Solver = void (*)(const Tile&, State&, const FitOptions&);
template <class Link>
Solver solver_for(const Tile& t) {
  if (t.ordered) return &solve_tile<Link, 0, true>;
  return t.n == 6 ? &solve_tile<Link, 6, false> : &solve_tile<Link, 0, false>;
}

// Whether the objective has one maximum, for the problem in `lane`. Items with a prior count as one node (no direction moves
// them for free); then every node must reach every other along "beat".
bool has_maximum(const Tile& t, int lane) {
  std::uint64_t beat[kMaxItems] = {}, lost[kMaxItems] = {}, start = 0;
  for (int i = 0, k = lane; i < t.n; ++i) {
    if (t.precision[i * kWidth + lane] > 0) start |= std::uint64_t(1) << i;
    for (int j = i + 1; j < t.n; ++j, k += kWidth) {
      const bool win = t.win[0][k] > 0 || (t.ordered && t.win[1][k] > 0);
      const bool loss = t.loss[0][k] > 0 || (t.ordered && t.loss[1][k] > 0);
      beat[i] |= std::uint64_t(win) << j;
      lost[j] |= std::uint64_t(win) << i;
      beat[j] |= std::uint64_t(loss) << i;
      lost[i] |= std::uint64_t(loss) << j;
    }
  }
  if (start == 0) start = 1;
  const auto reaches_all = [&](const std::uint64_t* next) {
    std::uint64_t seen = start, fresh = start;
    while (fresh != 0) {
      const std::uint64_t before = seen;
      for (; fresh != 0; fresh &= fresh - 1) seen |= next[__builtin_ctzll(fresh)];
      fresh = seen & ~before;
    }
    return seen == ~std::uint64_t(0) >> (64 - t.n);
  };
  return reaches_all(beat) && reaches_all(lost);
}

// Calls body(array) for the weights of each kind.
template <class Body>
void for_each_weight(Tile& t, Body&& body) {
  for (int set = 0; set < t.n_sets(); ++set) {
    for (int k = 0; k < t.n_pairs() * kWidth; k += kWidth) {
      body(t.win[set] + k);
      body(t.loss[set] + k);
    }
  }
}

// 1 / sd^2: 0 only for sd = inf, infinite for sd = 0, NaN for what is no standard deviation.
double precision_of(double sd) {
  if (!(sd >= 0)) return core::kNaN<double>;
  const double p = 1. / sd / sd;
  return p > 0 || sd == core::kInf<double> ? p : kSmallestPrecision * 0x1p-50;
}

// Copies the priors of a problem.
void load_priors(const Priors& priors, Index problem, Tile& t, int lane) {
  for (int i = 0; i < t.n; ++i) {
    t.mean[i * kWidth + lane] = priors.mean[problem * priors.stride + i];
    t.precision[i * kWidth + lane] = precision_of(priors.sd[problem * priors.stride + i]);
  }
}

// Priors and the first scores: each item at its mean, those without a prior at the average of the means.
void start(const Tile& t, State& st, M good) {
  const V zero(0.);
  V sum(0.), count(0.);
  st.grounded = good;
  for (int i = 0; i < t.n; ++i) {
    const V given = select(good, V::load(t.precision + i * kWidth), V(1.)), p = min(given * st.scale, V(kFixed));
    const M has_prior = given > zero;
    // So small beside the weights that it would be lost: NaN stops the fit.
    st.precision[i] = select(has_prior & (p < V(kSmallestPrecision)), V(core::kNaN<double>), p);
    st.mean[i] = select(has_prior & good, V::load(t.mean + i * kWidth), zero);
    sum = sum + st.mean[i];
    count = count + select(has_prior, V(1.), zero);
    st.grounded = st.grounded & !has_prior;
  }
  const V average = sum / max(count, V(1.));
  for (int i = 0; i < t.n; ++i) st.s[i] = select(st.precision[i] == zero, average, st.mean[i]);
}

// Status as far as the input decides it; lanes that are not ok get a harmless problem.
V prepare(Tile& t, State& st) {
  const M never = V(1.) < V(0.);
  const V inf(core::kInf<double>);
  M bad = never, present = never, open = never;
  st.largest = V(0.);
  for_each_weight(t, [&](const double* w) {
    const V x = V::load(w);
    bad = bad | !((x >= V(0.)) & (x < inf));
    present = present | (x == x);
    st.largest = max(x, st.largest);
  });
  for (int i = 0; i < t.n; ++i) {
    const V precision = V::load(t.precision + i * kWidth);
    bad = bad | !((abs(V::load(t.mean + i * kWidth)) < inf) & (precision >= V(0.)));
    open = open | (precision == V(0.));
  }
  V status = select(bad, V(double(FitStatus::bad_input)), V(double(FitStatus::ok)));
  status = select(present, status, V(double(FitStatus::missing)));
  if (any(open & !bad)) {
    double exists[kWidth];
    for (int lane = 0; lane < kWidth; ++lane) exists[lane] = has_maximum(t, lane) ? 0. : double(FitStatus::no_maximum);
    status = select(open & (status == V(0.)), V::load(exists), status);
  }
  const M good = status == V(0.);
  st.largest = select(good, st.largest, V(1.));
  const V limit(1000.), size = select(st.largest > V(0x1p-1000), exponent(st.largest), V(0.));
  st.scale = scale2(V(1.), -min(limit, size));
  st.largest = st.largest * st.scale;
  for_each_weight(t, [&](double* w) { select(good, V::load(w) * st.scale, V(1.)).store(w); });
  start(t, st, good);
  return status;
}

// Solves all problems, a tile at a time: load(tile, problem, lane) writes one table, finish(state, first problem, count)
// reads the results.
template <class Load, class Finish>
void for_each_tile(int n, bool ordered, Index n_problems, const Priors& priors, const FitOptions& options, const Exec& exec,
                   const Load& load, const Finish& finish) {
  const Index cost = 64 * n * n, chunk = (((1 << 20) / cost) / kWidth + 1) * kWidth;
  const int slots = slots_for(exec, n_problems, chunk, n_problems * cost);
  const Scratch<double> tiles(slots, sizeof(Tile) / sizeof(double)), states(slots, sizeof(State) / sizeof(double));
  parallel_for(exec, n_problems, chunk, n_problems * cost, [&](Index first, Index last, int slot) {
    Tile& t = *reinterpret_cast<Tile*>(tiles[slot]);
    State& st = *reinterpret_cast<State*>(states[slot]);
    t.n = n;
    t.ordered = ordered;
    const Solver solver = options.probit ? solver_for<core::Probit>(t) : solver_for<core::Logit>(t);
    if (priors.stride == 0) {
      for (int lane = 0; lane < kWidth; ++lane) load_priors(priors, 0, t, lane);
    }
    for (Index b = first; b < last; b += kWidth) {
      const int count = last - b < kWidth ? static_cast<int>(last - b) : kWidth;
      for (int lane = 0; lane < kWidth; ++lane) {  // spare lanes repeat the last problem
        const Index problem = b + (lane < count ? lane : count - 1);
        load(t, problem, lane);
        if (priors.stride > 0) load_priors(priors, problem, t, lane);
      }
      const V status = prepare(t, st);
      solver(t, st, options);
      st.status = select(status == V(0.), st.status, status);
      finish(st, b, count);
    }
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
void standard_errors(State& st, int n, V* out) {
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) {
      st.right[j] = V(j == i ? n - 1. : -1.);
      st.right_low[j] = V(0.);
    }
    solve<0>(st.hessian, n, st.right, st.right_low, st.step);
    out[i] = sqrt((st.step[i] - mean_of(st.step, n)) * V(1. / n) * st.scale);
  }
}

// The variance of sum_i c_i s_i, with c in right and right_low.
V contrast_variance(State& st, int n) {
  for (int i = 0; i < n; ++i) st.base[i] = st.right[i];
  solve<0>(st.hessian, n, st.right, st.right_low, st.step);
  return dot(st.base, st.step, n) * st.scale;
}

template <class T>
void write_test_item(State& st, int n, const Rescale& rescale, bool centred, Index first, int count, const AnchorOut<T>& out) {
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
  for (int l = 0; l < count; ++l) {
    out.score[first + l] = static_cast<T>(lanes[0][l]);
    if (out.standard_errors) out.standard_errors[first + l] = static_cast<T>(lanes[1][l]);
    out.status[first + l] = static_cast<FitStatus>(lanes[2][l]);
    out.outside[first + l] = lanes[0][l] == lanes[0][l] ? static_cast<std::int8_t>(lanes[3][l]) : std::int8_t(0);
  }
  for (int k = 0; k < m; ++k) {
    store_valid(st, st.s[k], FitStatus::not_converged, lanes[0]);
    for (int l = 0; l < count; ++l) out.anchor_scores[(first + l) * m + k] = static_cast<T>(lanes[0][l]);
  }
}

}  // namespace

template <class T>
void fit_many(const Tables<T>& tables, const Priors& priors, const FitOptions& options, const FitOut<T>& out, const Exec& exec) {
  const int n = tables.n;
  const auto load = [&](Tile& t, Index problem, int lane) {
    const T* const wins = tables.wins + problem * n * n;
    const T* const losses = tables.losses ? tables.losses + problem * n * n : nullptr;
    for (int i = 0, k = lane; i < n; ++i) {
      for (int j = i + 1; j < n; ++j, k += kWidth) {
        t.win[0][k] = static_cast<double>(wins[i * n + j]);
        t.loss[0][k] = static_cast<double>(losses ? losses[i * n + j] : wins[j * n + i]);
        if (!losses) continue;
        t.win[1][k] = static_cast<double>(losses[j * n + i]);
        t.loss[1][k] = static_cast<double>(wins[j * n + i]);
      }
    }
  };
  const auto finish = [&](State& st, Index first, int count) {
    double lanes[kWidth];
    const auto write_items = [&](const V* x, FitStatus worst, T* to) {
      for (int i = 0; i < n; ++i) {
        store_valid(st, x[i], worst, lanes);
        for (int l = 0; l < count; ++l) to[(first + l) * n + i] = static_cast<T>(lanes[l]);
      }
    };
    write_items(st.s, FitStatus::not_converged, out.scores);
    if (out.standard_errors) {
      standard_errors(st, n, st.newton);
      write_items(st.newton, FitStatus::ok, out.standard_errors);
    }
    st.status.store(lanes);
    for (int l = 0; l < count; ++l) out.status[first + l] = static_cast<FitStatus>(lanes[l]);
    st.n_iter.store(lanes);
    const auto solved = [&](int l) {
      return out.status[first + l] == FitStatus::ok || out.status[first + l] == FitStatus::not_converged;
    };
    for (int l = 0; l < count; ++l) out.n_iter[first + l] = solved(l) ? static_cast<std::int32_t>(lanes[l]) : 0;
    store_valid(st, st.gradient_max, FitStatus::not_converged, lanes);
    for (int l = 0; l < count; ++l) out.gradient_max[first + l] = lanes[l];
  };
  for_each_tile(n, tables.losses != nullptr, tables.n_problems, priors, options, exec, load, finish);
}

template <class T>
void score_against_anchors(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, const Rescale& rescale,
                           bool centred, const AnchorOut<T>& out, const Exec& exec) {
  const int m = tables.m, n = m + 1;
  const auto load = [&](Tile& t, Index problem, int lane) {
    const T* const preferences = tables.preferences + problem * m;
    bool missing = true;
    for (int i = 0; i < m; ++i) missing &= preferences[i] != preferences[i];
    for (int i = 0, k = lane; i < m; ++i, k += kWidth) {
      for (int j = i + 1; j < m; ++j, k += kWidth) {
        t.win[0][k] = missing ? core::kNaN<double> : tables.anchors[i * m + j];
        t.loss[0][k] = missing ? core::kNaN<double> : tables.anchors[j * m + i];
      }
      t.loss[0][k] = static_cast<double>(preferences[i]);
      t.win[0][k] = 1. - t.loss[0][k];
    }
  };
  const auto finish = [&](State& st, Index first, int count) { write_test_item(st, n, rescale, centred, first, count, out); };
  for_each_tile(n, false, tables.n_problems, priors, options, exec, load, finish);
}

#define SOFTMAP_INSTANTIATE(T)                                                                                        \
  template void fit_many(const Tables<T>&, const Priors&, const FitOptions&, const FitOut<T>&, const Exec&);          \
  template void score_against_anchors(const AnchorTables<T>&, const Priors&, const FitOptions&, const Rescale&, bool, \
                                      const AnchorOut<T>&, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
