#include "cpu/lanes.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
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
using Quick = M (*)(const Tile&, State&, const FitOptions&, bool predicts);
template <class Link, int N>
M solve_ordinary(const Tile& t, State& st, const FitOptions& options, bool predicts) {
  return OrdinaryNewton<Registers, Link, N>{t, st}.solve_tile(options, predicts);
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

// Loads a tile; spare lanes repeat its last problem.
template <class Load>
V load_lot(const Lot& lot, const Priors& priors, const FitOptions& options, const Load& load, Tile& t, State& st) {
  for (int lane = 0; lane < kWidth; ++lane) {
    const Index problem = lot.problem[lane < lot.count ? lane : lot.count - 1];
    load(t, problem, lane);
    if (priors.stride > 0) load_priors(priors, problem, t, lane);
  }
  Recession::Least room[3 * kMaxItems * kMaxItems];
  const V status = prepare(t, st, options, room);
  if (has_border(options)) start_border(t, st, options);
  return status;
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

}  // namespace

template <class T>
void fit_many(const Tables<T>& tables, const Priors& priors, const FitOptions& options, const FitOut<T>& out, const Exec& exec) {
  const int n = tables.n;
  const auto load = [&](Tile& t, Index problem, int lane) { load_table(tables, problem, t, lane); };
  const auto finish = [&](State& st, const Lot& lot) { write_fit(st, n, has_border(options), lot, out); };
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
  const int n = tables.m + 1;
  const auto load = [&](Tile& t, Index problem, int lane) { load_row(tables, problem, t, lane); };
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
