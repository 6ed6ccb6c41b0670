#pragma once
// What the input of a tile decides before anything is solved: the status, the scale of the weights, the first point.
#include "cpu/existence.h"
#include "cpu/tile.h"

namespace softmap::cpu {
namespace {

constexpr double kSmallestPrecision = 0x1p-1000;

// Whether more than the scores is estimated, or ties have a model.
bool has_border(const FitOptions& options) { return options.first_advantage.estimated || options.ties != TieOption::none; }

// Whether the objective has one maximum, for the problem in `lane`. Items with a prior count as one node (no direction moves
// them for free).
bool has_maximum(const Tile& t, const FitOptions& options, int lane) {
  int node[kMaxItems], n_nodes = 0;
  bool tied = false;
  for (int i = 0; i < t.n; ++i) n_nodes |= t.precision[i * kWidth + lane] > 0;
  for (int i = 0; i < t.n; ++i) node[i] = t.precision[i * kWidth + lane] > 0 ? 0 : n_nodes++;
  Recession recession(n_nodes);
  for (int i = 0, k = lane; i < t.n; ++i) {
    for (int j = i + 1; j < t.n; ++j, k += kWidth) {
      Happened h{};
      for (int set = 0; set < t.n_sets(); ++set) {
        h.win[set] = t.win[set][k] > 0;
        h.loss[set] = t.loss[set][k] > 0;
        h.tie[set] = t.ties && t.tie[set][k] > 0;
        tied |= h.tie[set];
      }
      recession.add(node[i], node[j], h);
    }
  }
  const bool free = options.first_advantage.estimated;
  if (!recession.tied_together()) return false;
  if (free && (recession.moves_with_advantage(1) || recession.moves_with_advantage(-1))) return false;
  return !(tied && options.tie.estimated && recession.moves_with_ties(free));
}

// Calls body(array) for the weights of each kind.
template <class Body>
void for_each_weight(Tile& t, Body&& body) {
  for (int set = 0; set < t.n_sets(); ++set) {
    for (int k = 0; k < t.n_pairs() * kWidth; k += kWidth) {
      body(t.win[set] + k);
      body(t.loss[set] + k);
      if (t.ties) body(t.tie[set] + k);
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

// The first advantage and tie parameter: without ties that at the end of its range; else what would explain the share of ties
// between equals (nu = 2 ties / decided), roughly.
void start_border(const Tile& t, State& st, const FitOptions& options) {
  auto& b = st.border;
  const V zero(0.), one(1.);
  V tied = zero, decided = zero;
  for (int set = 0; set < t.n_sets(); ++set) {
    for (int k = 0; k < t.n_pairs() * kWidth; k += kWidth) {
      decided = decided + (V::load(t.win[set] + k) + V::load(t.loss[set] + k));
      if (t.ties) tied = tied + V::load(t.tie[set] + k);
    }
  }
  const V ratio = V(2.) * tied / max(decided, V(0x1p-900));
  const bool davidson = options.ties == TieOption::davidson;
  const V guess = davidson ? core::log(ratio) : min(V(options.ties == TieOption::threshold ? 1. : 50.), core::log1p(ratio));
  b.estimated[0] = options.first_advantage.estimated ? one : zero;
  b.estimated[1] = options.tie.estimated && t.ties ? select(tied > zero, one, zero) : zero;
  b.value[0] = V(options.first_advantage.estimated ? 0. : options.first_advantage.value);
  const V end = davidson ? V(-core::kInf<double>) : zero;
  b.value[1] = options.tie.estimated ? select(tied > zero, guess, end) : V(options.tie.value);
  for (int k = 0; k < 2; ++k) b.base[k] = b.value[k];
}

// Status as far as the input decides it; lanes that are not ok get a harmless problem.
V prepare(Tile& t, State& st, const FitOptions& options) {
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
  if (t.ties && !options.tie.estimated && options.tie.value == (options.ties == TieOption::davidson ? -core::kInf<double> : 0.)) {
    for (int set = 0; set < t.n_sets(); ++set) {  // what happened has probability 0
      for (int k = 0; k < t.n_pairs() * kWidth; k += kWidth) bad = bad | (V::load(t.tie[set] + k) > V(0.));
    }
  }
  for (int i = 0; i < t.n; ++i) {
    const V precision = V::load(t.precision + i * kWidth);
    bad = bad | !((abs(V::load(t.mean + i * kWidth)) < inf) & (precision >= V(0.)));
    open = open | (precision == V(0.));
  }
  V status = select(bad, V(double(FitStatus::bad_input)), V(double(FitStatus::ok)));
  status = select(present, status, V(double(FitStatus::missing)));
  const bool border = has_border(options);
  if (border) open = open | (st.largest == st.largest);
  if (any(open & (status == V(0.)))) {
    double exists[kWidth];
    for (int lane = 0; lane < kWidth; ++lane) exists[lane] = has_maximum(t, options, lane) ? 0. : double(FitStatus::no_maximum);
    status = select(open & (status == V(0.)), V::load(exists), status);
  }
  const M good = status == V(0.);
  st.largest = select(good, st.largest, V(1.));
  const V limit(1000.), size = select(st.largest > V(0x1p-1000), exponent(st.largest), V(0.));
  st.scale = scale2(V(1.), -min(limit, size));
  st.largest = st.largest * st.scale;
  for_each_weight(t, [&](double* w) { select(good, V::load(w) * st.scale, V(1.)).store(w); });
  start(t, st, good);
  if (border) start_border(t, st, options);
  return status;
}

}  // namespace
}  // namespace softmap::cpu
