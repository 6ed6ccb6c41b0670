#include "core/pair.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "pairwise.h"

namespace softmap::cpu {
namespace {

using core::kNaN, core::weighted;
using L = Lanes<double>;

constexpr Index kChunk = 1 << 12;  // pairs

Index rows_per_chunk(Index n) { return kChunk / (n + 1) + 1; }

template <class Body>
void with_model(TieKind kind, Body&& body) {
  if (kind == TieKind::kDavidson) return body(core::Davidson{});
  if (kind == TieKind::kRaoKupper) return body(core::RaoKupper{});
  body(core::NormalThreshold{});
}

template <class T>
L read(const T* from, int count) {
  double lanes[L::size];
  for (int k = 0; k < L::size; ++k) lanes[k] = k < count ? static_cast<double>(from[k]) : 0.;
  return L::load(lanes);
}
// Column i of rows j, j + 1, ... of a table.
template <class T>
L read_column(const T* table, Index n, Index j, Index i, int count) {
  double lanes[L::size];
  for (int k = 0; k < L::size; ++k) lanes[k] = k < count ? static_cast<double>(table[(j + k) * n + i]) : 0.;
  return L::load(lanes);
}
template <class T>
void write(L x, int count, T* to) {
  double lanes[L::size];
  x.store(lanes);
  for (int k = 0; k < count; ++k) to[k] = static_cast<T>(lanes[k]);
}
double sum_lanes(L v) {
  double lanes[L::size], sum = 0;
  v.store(lanes);
  for (const double x : lanes) sum += x;
  return sum;
}

struct Weights {
  L win, loss, tie;
  L valid() const { return select((win >= L(0.)) & (loss >= L(0.)) & (tie >= L(0.)), L(0.), L(kNaN<double>)); }
  bool none() const { return all((win == L(0.)) & (loss == L(0.)) & (tie == L(0.))); }
};

// The log-likelihood of what happened where item i of a problem was named first (a row of the tables), and its derivative by
// score i, where i was named second (a column) included: no sum is shared between rows.
struct RowTerms {
  double value, slope;
};
template <class Model, class T>
RowTerms likelihood_row(const OutcomeLikelihoodIn<T>& in, Index problem, Index i, double t, bool gradient) {
  const auto& p = in.pairs;
  const Index n = p.n;
  const T* const scores = p.scores + problem * n;
  const T *const wins = p.wins + problem * n * n, *const ties = in.ties + problem * n * n;
  const T* const losses = p.losses ? p.losses + problem * n * n : nullptr;
  const L mine(static_cast<double>(scores[i])), advantage(p.first_advantage), zero(0.), parameter(t);
  // A tie in a table without order stands twice: in either triangle it counts half.
  const L tie_share(losses ? 1. : 0.5);
  L value = zero, slope = zero;
  for (Index j = 0; j < n; j += L::size) {
    const int count = static_cast<int>(n - j < L::size ? n - j : L::size);
    double other[L::size];
    for (int k = 0; k < L::size; ++k) other[k] = j + k == i ? 0. : 1.;
    const auto counted = L::load(other) > zero;
    const auto mask = [&](L x) { return select(counted, x, zero); };
    const L row_tie = mask(read(ties + i * n + j, count)), column_tie = mask(read_column(ties, n, j, i, count));
    const Weights row{mask(read(wins + i * n + j, count)), losses ? mask(read(losses + i * n + j, count)) : zero,
                      row_tie * tie_share};
    const L d = mine - read(scores + j, count);
    const L agree = losses ? zero : select(row_tie == column_tie, zero, L(kNaN<double>));
    value = value + (row.valid() + agree);
    if (!row.none()) {
      const auto logs = Model::log_probabilities(d + advantage, parameter);
      value = value + (weighted(row.win, logs.win) + weighted(row.loss, logs.loss) + weighted(row.tie, logs.tie));
    }
    if (!gradient) continue;
    const Weights column{mask(read_column(wins, n, j, i, count)), losses ? mask(read_column(losses, n, j, i, count)) : zero,
                         column_tie * tie_share};
    const auto slopes_of = [&](const Weights& w, L x) {
      const auto s = Model::slopes(x, parameter);
      return weighted(w.win, s.win.d) + weighted(w.loss, s.loss.d) + weighted(w.tie, s.tie.d);
    };
    if (!row.none()) slope = slope + slopes_of(row, d + advantage);
    if (!column.none()) slope = slope - slopes_of(column, advantage - d);
  }
  return {sum_lanes(value), sum_lanes(slope)};
}

}  // namespace

template <class T>
void outcome_matrices(const TieModel& model, const OutcomeMatricesIn<T>& in, T* win, T* tie, const Exec& exec) {
  const Index n = in.n, n_rows = in.n_problems * n;
  with_model(model.kind, [&](auto m) {
    parallel_for(exec, n_rows, rows_per_chunk(n), n_rows * n, [&](Index first, Index last, int) {
      for (Index i = first; i < last; ++i) {
        const T* const scores = in.scores + i / n * n;
        const L mine(static_cast<double>(in.scores[i]) + in.first_advantage);
        for (Index j = 0; j < n; j += L::size) {
          const int count = static_cast<int>(n - j < L::size ? n - j : L::size);
          const auto p = decltype(m)::probabilities(mine - read(scores + j, count), L(model.t));
          write(p.win, count, win + i * n + j);
          write(p.tie, count, tie + i * n + j);
        }
      }
    });
  });
}

template <class T>
void outcome_likelihood(const TieModel& model, const OutcomeLikelihoodIn<T>& in, T* value, T* gradient, const Exec& exec) {
  const Index n = in.pairs.n, n_rows = in.pairs.n_problems * n;
  const Scratch<double> values(1, n_rows), slopes(1, gradient ? n_rows : 1);
  with_model(model.kind, [&](auto m) {
    parallel_for(exec, n_rows, rows_per_chunk(n), n_rows * n, [&](Index first, Index last, int) {
      for (Index i = first; i < last; ++i) {
        const auto terms = likelihood_row<decltype(m)>(in, i / n, i % n, model.t, gradient != nullptr);
        values[0][i] = terms.value;
        if (gradient) slopes[0][i] = terms.slope;
      }
    });
  });
  for (Index p = 0; p < in.pairs.n_problems; ++p) {
    double sum = 0;
    for (Index i = p * n; i < (p + 1) * n; ++i) {
      const auto s = static_cast<double>(in.pairs.scores[i]);
      sum += values[0][i] + (s == s ? 0. : s);
    }
    value[p] = static_cast<T>(sum);
    if (!gradient) continue;
    for (Index i = p * n; i < (p + 1) * n; ++i) gradient[i] = static_cast<T>(sum == sum ? slopes[0][i] : sum);
  }
}

void outcome_terms(const TieModel& model, const OutcomeTerms& p, const Exec& exec) {
  const L t(model.t);
  with_model(model.kind, [&](auto m) {
    parallel_for(exec, p.n, kChunk, p.n, [&](Index first, Index last, int) {
      for (Index i = first; i < last; i += L::size) {
        const int count = static_cast<int>(last - i < L::size ? last - i : L::size);
        const auto load = [&](const double* from) { return L::load(from + i, count, 0.); };
        const L d = load(p.d);
        const Weights w{load(p.wins), load(p.losses), load(p.ties)};
        const auto sum = [&](L win, L loss, L tie) {
          return weighted(w.win, win) + weighted(w.loss, loss) + weighted(w.tie, tie);
        };
        const auto logs = decltype(m)::log_probabilities(d, t);
        const auto s = decltype(m)::slopes(d, t);
        sum(logs.win, logs.loss, logs.tie).store(p.value + i, count);
        sum(s.win.d, s.loss.d, s.tie.d).store(p.by_d + i, count);
        sum(s.win.t, s.loss.t, s.tie.t).store(p.by_t + i, count);
        sum(s.win.dd, s.loss.dd, s.tie.dd).store(p.dd + i, count);
        sum(s.win.dt, s.loss.dt, s.tie.dt).store(p.dt + i, count);
        sum(s.win.tt, s.loss.tt, s.tie.tt).store(p.tt + i, count);
      }
    });
  });
}

#define SOFTMAP_INSTANTIATE(T)                                                                       \
  template void outcome_matrices(const TieModel&, const OutcomeMatricesIn<T>&, T*, T*, const Exec&); \
  template void outcome_likelihood(const TieModel&, const OutcomeLikelihoodIn<T>&, T*, T*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
