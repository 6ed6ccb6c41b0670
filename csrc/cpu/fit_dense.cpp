#include "cpu/lanes.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/transpose.h"
#include "dense/newton.h"
#include "dense/newton_ordinary.h"
#include "dense/prepare.h"
#include "dense/results.h"

namespace softmap::cpu {
namespace {

using namespace dense;

// One problem a lane of a register.
struct Registers {
  using V = Lanes<double>;
  static constexpr int kLanes = V::size, kStride = V::size;
  static constexpr bool kGroups = true;
  template <int n>
  using Numbers = double[n * kStride];
  template <int n>
  using Sets = Numbers<n>[2];
  template <int n>
  using Values = V[n];
  template <int n>
  using Resting = V[n];
  template <int K>
  using Group = Pack<V, K>;
  template <class G>
  static auto& at(G& group, int k) {
    return group.v[k];
  }
  static V load(const double* p) { return V::load(p); }
  static void store(V x, double* p) { x.store(p); }
};
using V = Registers::V;
using M = Mask<double>;
using Tile = dense::Tile<Registers>;
using State = dense::State<Registers>;
using Lot = dense::Lot<Registers>;
constexpr int kWidth = Registers::kLanes;

template <class Model, int N, bool kOrdered, bool kBorder>
void solve_tile(const Tile& t, State& st, const FitOptions& options) {
  Newton<Registers, Model, N, kOrdered, kBorder>{t, st, options.first_advantage.value}.solve_tile(options);
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
using Quick = M (*)(const Tile&, State&, const FitOptions&, bool started, bool predicts);
template <class Link, int N>
M solve_ordinary(const Tile& t, State& st, const FitOptions& options, bool started, bool predicts) {
  return OrdinaryNewton<Registers, Link, N>{t, st}.solve_tile(options, started, predicts);
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

// The problem of a lane; spare lanes repeat the first one.
Index problem_of(const Lot& lot, int lane) { return lot.problem[lane < lot.count ? lane : 0]; }

// Asks for the tables of the next tile while this one is solved: their rows are too short for the processor to see them coming.
void ask_for_next(const double* next, const double* end, int n) {
  constexpr Index kLine = 64 / sizeof(double), kMost = 1 << 10;  // numbers: of a line; what leaves room in the first cache
  const Index wanted = Index(kWidth) * n * n, there = end - next;
  for (Index k = 0; k < wanted && k < there && k < kMost; k += kLine) __builtin_prefetch(next + k);
}

// As load_table for each lane, where all numbers are in one table of doubles: squares of it are transposed in registers.
void load_wins(const Tables<double>& tables, const Lot& lot, Tile& t) {
  const int n = tables.n;
  const double* table[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) table[lane] = tables.wins + problem_of(lot, lane) * n * n;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; j += kWidth) {
      const int count = n - j < kWidth ? n - j : kWidth;
      V entries[kWidth];
#pragma GCC unroll 8
      for (int lane = 0; lane < kWidth; ++lane) {
        const double* const from = table[lane] + i * n + j;
        entries[lane] = count == kWidth ? V::load(from) : V::load(from, count, 0.);
      }
      transpose(entries);
#pragma GCC unroll 8
      for (int c = 0; c < kWidth; ++c) {
        if (c >= count || j + c == i) continue;
        const int low = j + c < i ? j + c : i, high = j + c < i ? i : j + c;
        entries[c].store((j + c < i ? t.loss[0] : t.win[0]) + (row_start(n, low) + high) * kWidth);
      }
    }
  }
  ask_for_next(table[kWidth - 1] + n * n, tables.wins + tables.n_problems * n * n, n);
}
template <class T>
void load_tables(const Tables<T>& tables, const Lot& lot, Tile& t) {
  if constexpr (sizeof(T) == sizeof(double)) {
    if (!tables.losses && !tables.ties) return load_wins(tables, lot, t);
  }
  for (int lane = 0; lane < kWidth; ++lane) load_table(tables, problem_of(lot, lane), t, lane);
}

// Loads a tile.
template <class Load>
V load_lot(const Lot& lot, const Priors& priors, const FitOptions& options, const Load& load, Tile& t, State& st) {
  load(t, lot);
  for (int lane = 0; priors.stride > 0 && lane < kWidth; ++lane) load_priors(priors, problem_of(lot, lane), t, lane);
  Recession::Least room[3 * kMaxItems * kMaxItems];
  const V status = prepare(t, st, options, room);
  if (has_border(options)) start_border(t, st, options);
  return status;
}

// How to make all problems quicker: scores near the maximum, where there are; and whether to stop before the last step where it
// is sure to be negligible. Where the last item met the first n_responses ones with preferences p, and a weight of 1 each, the
// scores are near score + sum_k response[k] (p_k - 1/2).
constexpr int kMaxResponses = 15;
struct Hint {
  bool known, predicts;
  int n_responses;
  double score[kMaxItems], response[kMaxResponses][kMaxResponses + 1];
};

void start_near(const Hint& hint, const Tile& t, State& st) {
  const int n = t.n;
  for (int i = 0; i < n; ++i) st.s[i] = V(hint.score[i]);
  const V half = V(0.5) / st.scale;
  for (int k = 0; k < hint.n_responses; ++k) {
    const int last = (row_start(n, k) + n - 1) * kWidth;
    const V change = (V::load(t.loss[0] + last) - V::load(t.win[0] + last)) * half;
    for (int i = 0; i < n; ++i) st.s[i] = fmadd(change, V(hint.response[k][i]), st.s[i]);
  }
}

// Solves all problems, a tile at a time: load(tile, problems) writes their tables, finish(state, problems) reads the
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
        if (hint.known) start_near(hint, t, st);
        const M ok = (all(st.grounded) ? none : quick(t, st, options, hint.known, hint.predicts)) | !(st.status == V(0.));
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

}  // namespace

template <class T>
void fit_many(const Tables<T>& tables, const Priors& priors, const FitOptions& options, const FitOut<T>& out, const Exec& exec) {
  const int n = tables.n;
  const auto load = [&](Tile& t, const Lot& lot) { load_tables(tables, lot, t); };
  const auto finish = [&](State& st, const Lot& lot) { write_fit(st, n, has_border(options), lot, out); };
  for_each_tile(n, tables.losses != nullptr, tables.ties != nullptr, tables.n_problems, priors, options, {}, exec, load, finish);
}

namespace {

template <class T>
void solve_rows(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, const Rescale& rescale,
                bool centred, const Hint& hint, const AnchorOut<T>& out, const Exec& exec) {
  const int n = tables.m + 1;
  const auto load = [&](Tile& t, const Lot& lot) {
    for (int lane = 0; lane < kWidth; ++lane) load_row(tables, problem_of(lot, lane), t, lane);
  };
  const auto finish = [&](State& st, const Lot& lot) { write_test_item(st, n, rescale, centred, lot, out); };
  for_each_tile(n, false, false, tables.n_problems, priors, options, hint, exec, load, finish);
}

// What the anchors say about all test items: their scores where there is none, which is then at the mean of its prior; and
// for few anchors how all scores respond to each preference, by its ends 0 and 1 while the others are 1/2.
template <class T>
Hint hint_of(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, bool predicts, const Exec& exec) {
  Hint hint{false, predicts, 0, {}, {}};
  const int m = tables.m, n = m + 1, n_rows = 2 * m + 1;
  if (m < 2) return hint;
  double gradient_max;
  FitStatus status;
  std::int32_t n_iter;
  fit_many<double>({tables.anchors, nullptr, nullptr, 1, m}, priors, options,
                   {hint.score, nullptr, &status, &n_iter, &gradient_max, nullptr, nullptr, nullptr, nullptr}, exec);
  hint.score[m] = priors.mean[m];
  hint.known = status == FitStatus::ok;
  if (!hint.known || m > kMaxResponses) return hint;
  constexpr int kRows = 2 * kMaxResponses + 1;
  double preference[kRows * kMaxResponses], score[kRows], anchor[kRows * kMaxResponses];
  std::int8_t outside[kRows];
  FitStatus row_status[kRows];
  for (int k = 0; k < n_rows * m; ++k) preference[k] = 0.5;
  for (int k = 0; k < m; ++k) preference[2 * k * m + k] = 0., preference[(2 * k + 1) * m + k] = 1.;
  solve_rows<double>({preference, tables.anchors, n_rows, m}, priors, options, {}, false, hint,
                     {score, nullptr, anchor, outside, row_status}, exec);
  for (int row = 0; row < n_rows; ++row) {
    if (row_status[row] != FitStatus::ok) return hint;
  }
  const auto at = [&](int row, int i) { return i < m ? anchor[row * m + i] : score[row]; };
  for (int i = 0; i < n; ++i) {
    hint.score[i] = at(2 * m, i);
    for (int k = 0; k < m; ++k) hint.response[k][i] = at(2 * k + 1, i) - at(2 * k, i);
  }
  hint.n_responses = m;
  return hint;
}

}  // namespace

template <class T>
void score_against_anchors(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, const Rescale& rescale,
                           bool centred, const AnchorOut<T>& out, const Exec& exec) {
  const Hint hint = hint_of(tables, priors, options, !out.standard_errors, exec);
  solve_rows(tables, priors, options, rescale, centred, hint, out, exec);
}

#define SOFTMAP_INSTANTIATE(T)                                                                                        \
  template void fit_many(const Tables<T>&, const Priors&, const FitOptions&, const FitOut<T>&, const Exec&);          \
  template void score_against_anchors(const AnchorTables<T>&, const Priors&, const FitOptions&, const Rescale&, bool, \
                                      const AnchorOut<T>&, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
