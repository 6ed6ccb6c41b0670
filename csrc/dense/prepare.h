#pragma once
// What the input of a tile decides before anything is solved: the status, the scale of the weights, the first point.
#include "dense/existence.h"
#include "dense/tile.h"

namespace softmap::dense {
namespace {

constexpr double kSmallestPrecision = 0x1p-1000;

// Whether more than the scores is estimated, or ties have a model.
SOFTMAP_HD bool has_border(const FitOptions& options) {
  return options.first_advantage.estimated || options.ties != TieOption::none;
}

// Whether the objective has one maximum, for the problem in `lane`. Items with a prior count as one node (no direction moves
// them for free). The room is for kMaxItems nodes, or t.n.
template <class P>
SOFTMAP_HD bool has_maximum(const Tile<P>& t, const FitOptions& options, int lane, Recession::Least* room) {
  std::uint64_t open = 0;  // items without a prior
  for (int i = 0; i < t.n; ++i) {
    if (!(t.precision[i * P::kStride + lane] > 0)) open |= std::uint64_t(1) << i;
  }
  const auto count = [](std::uint64_t x) {
    int bits = 0;
    for (; x != 0; x &= x - 1) ++bits;
    return bits;
  };
  const int n_open = count(open), n_held = n_open < t.n;
  const auto node = [&](int i) { return open >> i & 1 ? n_held + count(open & ((std::uint64_t(1) << i) - 1)) : 0; };
  bool tied = false;
  Recession recession(n_held + n_open, room);
  for (int i = 0, k = lane; i < t.n; ++i) {
    const int at = node(i);
    for (int j = i + 1; j < t.n; ++j, k += P::kStride) {
      Happened h{};
      SOFTMAP_UNROLL(2)
      for (int set = 0; set < 2; ++set) {
        if (set >= t.n_sets()) continue;
        h.win[set] = t.win[set][k] > 0;
        h.loss[set] = t.loss[set][k] > 0;
        h.tie[set] = t.ties && t.tie[set][k] > 0;
        tied |= h.tie[set];
      }
      recession.add(at, node(j), h);
    }
  }
  const bool free = options.first_advantage.estimated;
  if (!recession.tied_together()) return false;
  if (free && (recession.moves_with_advantage(1) || recession.moves_with_advantage(-1))) return false;
  return !(tied && options.tie.estimated && recession.moves_with_ties(free));
}

// Calls body(array) for the weights of each kind.
template <class P, class Body>
SOFTMAP_HD void for_each_weight(Tile<P>& t, Body&& body) {
  for (int set = 0; set < t.n_sets(); ++set) {
    for (int k = 0; k < t.n_pairs() * P::kStride; k += P::kStride) {
      body(t.win[set] + k);
      body(t.loss[set] + k);
      if (t.ties) body(t.tie[set] + k);
    }
  }
}

// 1 / sd^2: 0 only for sd = inf, infinite for sd = 0, NaN for what is no standard deviation.
SOFTMAP_HD double precision_of(double sd) {
  if (!(sd >= 0)) return core::kNaN<double>;
  const double p = 1. / sd / sd;
  return p > 0 || sd == core::kInf<double> ? p : kSmallestPrecision * 0x1p-50;
}

// Copies the priors of a problem.
template <class P>
SOFTMAP_HD void load_priors(const Priors& priors, Index problem, Tile<P>& t, int lane) {
  for (int i = 0; i < t.n; ++i) {
    t.mean[i * P::kStride + lane] = priors.mean[problem * priors.stride + i];
    t.precision[i * P::kStride + lane] = precision_of(priors.sd[problem * priors.stride + i]);
  }
}

// Priors and the first scores: each item at its mean, those without a prior at the average of the means.
template <class P>
SOFTMAP_HD void start(const Tile<P>& t, State<P>& st, typename State<P>::Mask good) {
  using V = typename P::V;
  const V zero(0.);
  V sum(0.), count(0.);
  st.grounded = good;
  for (int i = 0; i < t.n; ++i) {
    const V given = select(good, P::load(t.precision + i * P::kStride), V(1.)), p = min(given * st.scale, V(kFixed));
    const auto has_prior = given > zero;
    // So small beside the weights that it would be lost: NaN stops the fit.
    st.precision[i] = select(has_prior & (p < V(kSmallestPrecision)), V(core::kNaN<double>), p);
    st.mean[i] = select(has_prior & good, P::load(t.mean + i * P::kStride), zero);
    sum = sum + st.mean[i];
    count = count + select(has_prior, V(1.), zero);
    st.grounded = st.grounded & !has_prior;
  }
  const V average = sum / max(count, V(1.));
  for (int i = 0; i < t.n; ++i) st.s[i] = select(st.precision[i] == zero, average, st.mean[i]);
}

// The first advantage and tie parameter: without ties that at the end of its range; else what would explain the share of ties
// between equals (nu = 2 ties / decided), roughly.
template <class P>
SOFTMAP_HD void start_border(const Tile<P>& t, State<P>& st, const FitOptions& options) {
  using V = typename P::V;
  auto& b = st.border;
  const V zero(0.), one(1.);
  V tied = zero, decided = zero;
  for (int set = 0; set < t.n_sets(); ++set) {
    for (int k = 0; k < t.n_pairs() * P::kStride; k += P::kStride) {
      decided = decided + (P::load(t.win[set] + k) + P::load(t.loss[set] + k));
      if (t.ties) tied = tied + P::load(t.tie[set] + k);
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
  SOFTMAP_UNROLL(2)
  for (int k = 0; k < 2; ++k) b.base[k] = b.value[k];
}

// Status as far as the input decides it; lanes that are not ok get a harmless problem. A border is to be
// started by itself. The room is that of has_maximum.
template <class P>
SOFTMAP_HD typename P::V prepare(Tile<P>& t, State<P>& st, const FitOptions& options, Recession::Least* room) {
  using V = typename P::V;
  using M = typename State<P>::Mask;
  const M never = V(1.) < V(0.);
  const V inf(core::kInf<double>);
  M bad = never, present = never, open = never;
  st.largest = V(0.);
  for_each_weight(t, [&](const double* w) {
    const V x = P::load(w);
    bad = bad | !((x >= V(0.)) & (x < inf));
    present = present | (x == x);
    st.largest = max(x, st.largest);
  });
  if (t.ties && !options.tie.estimated && options.tie.value == (options.ties == TieOption::davidson ? -core::kInf<double> : 0.)) {
    for (int set = 0; set < t.n_sets(); ++set) {  // what happened has probability 0
      for (int k = 0; k < t.n_pairs() * P::kStride; k += P::kStride) bad = bad | (P::load(t.tie[set] + k) > V(0.));
    }
  }
  for (int i = 0; i < t.n; ++i) {
    const V precision = P::load(t.precision + i * P::kStride);
    bad = bad | !((abs(P::load(t.mean + i * P::kStride)) < inf) & (precision >= V(0.)));
    open = open | (precision == V(0.));
  }
  V status = select(bad, V(double(FitStatus::bad_input)), V(double(FitStatus::ok)));
  status = select(present, status, V(double(FitStatus::missing)));
  if (has_border(options)) open = open | (st.largest == st.largest);
  if (any(open & (status == V(0.)))) {
    typename core::lane<V>::Scalar exists[P::kLanes];
    for (int lane = 0; lane < P::kLanes; ++lane) {
      exists[lane] = has_maximum(t, options, lane, room) ? 0. : double(FitStatus::no_maximum);
    }
    status = select(open & (status == V(0.)), P::load(exists), status);
  }
  const M good = status == V(0.);
  st.largest = select(good, st.largest, V(1.));
  const V limit(1000.), size = select(st.largest > V(0x1p-1000), exponent(st.largest), V(0.));
  st.scale = scale2(V(1.), -min(limit, size));
  st.largest = st.largest * st.scale;
  for_each_weight(t, [&](double* w) { P::store(select(good, P::load(w) * st.scale, V(1.)), w); });
  start(t, st, good);
  return status;
}

}  // namespace
}  // namespace softmap::dense
