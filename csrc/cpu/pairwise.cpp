#include "pairwise.h"

#include "core/pair.h"
#include "cpu/lanes.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

using core::kNaN, core::probability, core::standardised, core::weighted;

constexpr Index kChunk = 1 << 13;  // elements

Index rows_per_chunk(Index n) { return kChunk / (n + 1) + 1; }

template <class Body>
void with_link(LinkKind link, Body&& body) {
  if (link == LinkKind::kLogit) return body(core::Logit{});
  body(core::Probit{});
}

// out[i] = value(i, load) for i in [0, n), some registers at a time; load(p) reads those at p.
template <class T, class Value>
[[gnu::flatten]] void map_row(Index n, T* out, Value&& value) {
  using L = Lanes<T>;
  using P = Pack<L, 4>;
  Index i = 0;
  for (; i + 4 * L::size <= n; i += 4 * L::size) value(i, [](const T* p) { return P::load(p); }).store(out + i);
  for (; i + L::size <= n; i += L::size) value(i, [](const T* p) { return L::load(p); }).store(out + i);
  if (const int rest = static_cast<int>(n - i)) {
    value(i, [rest](const T* p) { return L::load(p, rest, T(0)); }).store(out + i, rest);
  }
}

template <class Link, bool log, class T>
void preference_range(const PreferenceIn<T>& in, Index first, Index n, T* out) {
  const bool paired = in.first_advantage == T(0);
  map_row(n, out, [&](Index i, auto load) {
    using L = decltype(load(in.a.data));
    const auto at = [&](const PerRow<T>& p) { return p.stride ? load(p.data + first + i) : L(*p.data); };
    const L d = at(in.a) - at(in.b) + L(in.first_advantage);
    const L x = in.variance_a.data ? standardised(d, at(in.variance_a), at(in.variance_b)) : d;
    if constexpr (log)
      return Link::log_probability(x);
    else
      return probability<Link>(x, paired);
  });
}

template <class Link, class T>
void preference_row(const T* s, const T* variance, Index n, Index row, T first_advantage, T* out) {
  const bool paired = first_advantage == T(0);
  map_row(n, out, [&](Index j, auto load) {
    using L = decltype(load(s));
    const L d = L(s[row]) - load(s + j) + L(first_advantage);
    return probability<Link>(variance ? standardised(d, L(variance[row]), load(variance + j)) : d, paired);
  });
}

// One table of weights of a problem, and its scores, in double and padded with zeros to whole registers.
constexpr Index padded(Index n) { return (n + 15) / 16 * 16; }

template <class T>
void read_row(const T* from, Index n, double* to) {
  for (Index j = 0; j < n; ++j) to[j] = static_cast<double>(from[j]);
  for (Index j = n; j < padded(n); ++j) to[j] = 0;
}

// What one thread needs for rows of n numbers.
struct Rooms {
  double *scores, *wins, *losses, *gradient;
  Rooms(double* p, Index n) : scores(p), wins(p + padded(n)), losses(p + 2 * padded(n)), gradient(p + 3 * padded(n)) {}
  static Index size(Index n) { return 4 * padded(n); }
};

double sum_lanes(Lanes<double> v) {
  double lanes[Lanes<double>::size], sum = 0;
  v.store(lanes);
  for (const double x : lanes) sum += x;
  return sum;
}

// The rows [first, last) of one problem: returns their part of the value, NaN for a bad weight, and adds their part of the
// gradient to `gradient`.
template <class Link, bool with_losses, bool with_gradient, class T>
double likelihood_rows(const LogLikelihoodIn<T>& in, Index problem, Index first, Index last, const Rooms& r, double* gradient) {
  using L = Lanes<double>;
  const Index n = in.n;
  const L zero(0.), advantage(in.first_advantage);
  read_row(in.scores + problem * n, n, r.scores);
  L value = zero;
  for (Index i = first; i < last; ++i) {
    read_row(in.wins + (problem * n + i) * n, n, r.wins);
    if constexpr (with_losses) read_row(in.losses + (problem * n + i) * n, n, r.losses);
    r.wins[i] = r.losses[i] = 0;
    const L mine(r.scores[i]);
    L slope_sum = zero;
    for (Index j = 0; j < n; j += L::size) {
      const L w = L::load(r.wins + j), l = with_losses ? L::load(r.losses + j) : zero;
      if (all((w == zero) & (l == zero))) continue;
      const L x = mine - L::load(r.scores + j) + advantage;
      L term, slope;
      if constexpr (with_losses) {
        const auto logs = Link::log_probabilities(x);
        term = weighted(w, logs.win) + weighted(l, logs.loss);
      } else {
        term = weighted(w, Link::log_probability(x));
      }
      value = value + select((zero <= w) & (zero <= l), term, L(kNaN<double>));
      if constexpr (with_gradient) {
        const auto slopes = Link::slopes(x);
        slope = weighted(w, slopes.win) - (with_losses ? weighted(l, slopes.loss) : zero);
        slope_sum = slope_sum + slope;
        (L::load(gradient + j) - slope).store(gradient + j);
      }
    }
    if constexpr (with_gradient) gradient[i] += sum_lanes(slope_sum);
  }
  return sum_lanes(value);
}

// The results of a problem, all NaN where one of its scores is or where its sum became so.
template <class T>
void write_likelihood(const LogLikelihoodIn<T>& in, Index problem, double sum, const double* sums, T* value, T* gradient) {
  const T* const s = in.scores + problem * in.n;
  for (Index j = 0; j < in.n; ++j) sum = s[j] == s[j] ? sum : kNaN<double>;
  value[problem] = static_cast<T>(sum);
  if (!gradient) return;
  for (Index j = 0; j < in.n; ++j) gradient[problem * in.n + j] = static_cast<T>(sum == sum ? sums[j] : sum);
}

constexpr Index kSlices = 16, kSlicedFrom = 256;

// Small problems are dealt out whole; a large one is cut into kSlices slices of rows whose sums are added in order.
template <class Link, bool with_losses, bool with_gradient, class T>
void likelihoods(const LogLikelihoodIn<T>& in, T* value, T* gradient, const Exec& exec) {
  const Index n = in.n, m = padded(n);
  const int slots = n < kSlicedFrom ? slots_for(exec, in.n_problems, rows_per_chunk(n * n), in.n_problems * n * n)
                                    : slots_for(exec, kSlices, 1, n * n);
  const Scratch<double> rooms(slots, Rooms::size(n));
  const auto rows = &likelihood_rows<Link, with_losses, with_gradient, T>;
  const auto clear = [m](double* p) {
    for (Index j = 0; j < m; ++j) p[j] = 0;
  };
  if (n < kSlicedFrom) {
    parallel_for(exec, in.n_problems, rows_per_chunk(n * n), in.n_problems * n * n, [&](Index first, Index last, int slot) {
      const Rooms r(rooms[slot], n);
      for (Index p = first; p < last; ++p) {
        clear(r.gradient);
        write_likelihood(in, p, rows(in, p, 0, n, r, r.gradient), r.gradient, value, gradient);
      }
    });
    return;
  }
  const Scratch<double> gradients(kSlices, m);
  double values[kSlices];
  for (Index p = 0; p < in.n_problems; ++p) {
    parallel_for(exec, kSlices, 1, n * n, [&](Index first, Index last, int slot) {
      for (Index k = first; k < last; ++k) {
        double* const part = gradients[static_cast<int>(k)];
        clear(part);
        values[k] = rows(in, p, k * n / kSlices, (k + 1) * n / kSlices, Rooms(rooms[slot], n), part);
      }
    });
    double sum = values[0];
    double* const sums = gradients[0];
    for (int k = 1; k < kSlices; ++k) {
      sum += values[k];
      for (Index j = 0; j < n; ++j) sums[j] += gradients[k][j];
    }
    write_likelihood(in, p, sum, sums, value, gradient);
  }
}

template <class Link>
void pair_terms_range(const PairTerms& p, Index first, Index last) {
  using L = Lanes<double>;
  const L zero(0.);
  for (Index i = first; i < last; i += L::size) {
    const int count = static_cast<int>(last - i < L::size ? last - i : L::size);
    const L d = L::load(p.d + i, count, 0.), w = L::load(p.wins + i, count, 0.), l = L::load(p.losses + i, count, 0.);
    const auto logs = Link::log_probabilities(d);
    const auto slopes = Link::slopes(d);
    (weighted(w, logs.win) + weighted(l, logs.loss)).store(p.value + i, count);
    (weighted(w, slopes.win) - weighted(l, slopes.loss)).store(p.slope + i, count);
    (weighted(w, slopes.win_curve) + weighted(l, slopes.loss_curve)).store(p.curvature + i, count);
  }
}

}  // namespace

template <class T>
void preference(LinkKind link, const PreferenceIn<T>& in, Span<T> out, const Exec& exec) {
  with_link(link, [&](auto f) {
    using Link = decltype(f);
    const auto range = in.log ? &preference_range<Link, true, T> : &preference_range<Link, false, T>;
    parallel_for(exec, out.size, kChunk, out.size,
                 [&](Index first, Index last, int) { range(in, first, last - first, out.data + first); });
  });
}

template <class T>
void preference_matrix(LinkKind link, const PreferenceMatrixIn<T>& in, T* out, const Exec& exec) {
  if (in.first_advantage == T(0)) return symmetric_matrix(link, in, out, exec);
  const Index n = in.n, n_rows = in.n_problems * n;
  with_link(link, [&](auto f) {
    parallel_for(exec, n_rows, rows_per_chunk(n), n_rows * n, [&](Index first, Index last, int) {
      for (Index i = first; i < last; ++i) {
        const Index start = i / n * n;
        const T* const variance = in.variance ? in.variance + start : nullptr;
        preference_row<decltype(f)>(in.scores + start, variance, n, i - start, in.first_advantage, out + i * n);
      }
    });
  });
}

template <class T>
void log_likelihood(LinkKind link, const LogLikelihoodIn<T>& in, T* value, T* gradient, const Exec& exec) {
  with_link(link, [&](auto f) {
    using Link = decltype(f);
    if (in.losses) {
      gradient ? likelihoods<Link, true, true>(in, value, gradient, exec)
               : likelihoods<Link, true, false>(in, value, gradient, exec);
    } else {
      gradient ? likelihoods<Link, false, true>(in, value, gradient, exec)
               : likelihoods<Link, false, false>(in, value, gradient, exec);
    }
  });
}

void pair_terms(LinkKind link, const PairTerms& pairs, const Exec& exec) {
  with_link(link, [&](auto f) {
    parallel_for(exec, pairs.n, kChunk, pairs.n,
                 [&](Index first, Index last, int) { pair_terms_range<decltype(f)>(pairs, first, last); });
  });
}

#define SOFTMAP_INSTANTIATE(T)                                                              \
  template void preference(LinkKind, const PreferenceIn<T>&, Span<T>, const Exec&);         \
  template void preference_matrix(LinkKind, const PreferenceMatrixIn<T>&, T*, const Exec&); \
  template void log_likelihood(LinkKind, const LogLikelihoodIn<T>&, T*, T*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
