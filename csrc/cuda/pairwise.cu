#include "core/half.h"
#include "core/pair.h"
#include "cuda/group.cuh"
#include "cuda/launch.cuh"
#include "pairwise.h"

namespace softmap::cuda {
namespace {

using core::kNaN, core::weighted;

constexpr int kBlock = 256;

template <class Body>
void with_link(LinkKind link, Body&& body) {
  if (link == LinkKind::kLogit) return body.template operator()<core::Logit>();
  body.template operator()<core::Probit>();
}
template <class Body>
void with_model(TieKind kind, Body&& body) {
  if (kind == TieKind::kDavidson) return body.template operator()<core::Davidson>();
  if (kind == TieKind::kRaoKupper) return body.template operator()<core::RaoKupper>();
  body.template operator()<core::NormalThreshold>();
}

// body(k) for k in [0, n), dealt out to all threads.
template <class Body>
__device__ void for_each(Index n, Body&& body) {
  for (Index k = Index(blockIdx.x) * kBlock + threadIdx.x; k < n; k += Index(gridDim.x) * kBlock) body(k);
}

// n neighbours in memory: 16 bytes are one access.
template <class S, int n>
struct alignas(n * sizeof(S)) Vector {
  S v[n];
};
template <class S>
constexpr int kVector = 16 / int(sizeof(S));
template <class S>
bool aligned(const S* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

template <class Link, class T>
__global__ void __launch_bounds__(kBlock) preference_kernel(PreferenceIn<T> in, Span<T> out) {
  for_each(out.size, [&](Index k) {
    const T d = in.a[k] - in.b[k] + in.first_advantage;
    const T x = in.variance_a.data ? core::standardised(d, in.variance_a[k], in.variance_b[k]) : d;
    out.data[k] = in.log ? Link::log_probability(x) : core::probability<Link>(x, in.first_advantage == T(0));
  });
}

// x of entry (i, j) of the matrix of a problem.
template <class T>
__device__ T difference(const PreferenceMatrixIn<T>& in, Index problem, Index i, Index j) {
  const T* const s = in.scores + problem * in.n;
  const T d = s[i] - s[j] + in.first_advantage;
  if (!in.variance) return d;
  const T* const variance = in.variance + problem * in.n;
  return core::standardised(d, variance[i], variance[j]);
}

// The smaller probability of a pair as stored, and 1 minus that.
template <class S>
struct Pair {
  S smaller, larger;
};
template <class Link, class S, class T>
__device__ Pair<S> pair_at(T x) {
  const S smaller = core::to_storage<S>(Link::probability(-core::abs(x)));
  return {smaller, core::to_storage<S>(T(1) - core::to_compute(smaller))};
}

// Entries of all matrices as one array, `width` of them a thread.
template <int width, class Link, class T, class S>
__global__ void __launch_bounds__(kBlock) preference_matrix_kernel(PreferenceMatrixIn<T> in, S* out) {
  const Index n = in.n, size = in.n_problems * n * n;
  for_each((size + width - 1) / width, [&](Index k) {
    Index row = k * width / n, j = k * width % n;
    Vector<S, width> result;
#pragma unroll
    for (int c = 0; c < width; ++c) {
      const T x = difference(in, row / n, row % n, j);
      if (in.first_advantage == T(0)) {
        const auto pair = pair_at<Link, S>(x);
        result.v[c] = x > T(0) ? pair.larger : pair.smaller;
      } else {
        result.v[c] = core::to_storage<S>(Link::probability(x));
      }
      if (++j == n) {
        j = 0;
        row = row + 1 < in.n_problems * n ? row + 1 : row;  // a last thread may have less than `width` of them
      }
    }
    if (k * width + width <= size) {
      *reinterpret_cast<Vector<S, width>*>(out + k * width) = result;
    } else {
      for (int c = 0; c < width; ++c) {
        if (k * width + c < size) out[k * width + c] = result.v[c];
      }
    }
  });
}

// The matrix of one problem without a first advantage, in squares of kSide: each pair of items is computed once, the smaller
// of its two probabilities as stored, and the other is 1 minus it. The mirror image of a square goes through shared memory, so
// that its rows, too, are written whole.
constexpr int kSide = 64;
template <int width, class Link, class T, class S>
__global__ void __launch_bounds__(kBlock, sizeof(T) > 4 ? 2 : 3) symmetric_matrix_kernel(PreferenceMatrixIn<T> in, S* out) {
  constexpr int kPitch = kSide + 1, kVectors = kSide / width, kRows = kBlock / kVectors;
  SOFTMAP_SHARED(S, mirrored, kSide * kPitch);
  const Index n = in.n, n_squares = (n + kSide - 1) / kSide;
  const int column = static_cast<int>(threadIdx.x) % kVectors * width, first_row = static_cast<int>(threadIdx.x) / kVectors;
  for (Index k = blockIdx.x; k < in.n_problems * n_squares * n_squares; k += gridDim.x) {
    const Index problem = k / (n_squares * n_squares), top = k / n_squares % n_squares * kSide, left = k % n_squares * kSide;
    if (left < top) continue;
    S* const matrix = out + problem * n * n;
    const auto write = [&](Index i, Index j, const Vector<S, width>& v) {
      if (i >= n || j >= n) return;
      if (j + width <= n) {
        *reinterpret_cast<Vector<S, width>*>(matrix + i * n + j) = v;
        return;
      }
#pragma unroll
      for (int c = 0; c < width; ++c) {
        if (j + c < n) matrix[i * n + j + c] = v.v[c];
      }
    };
    for (int r = first_row; r < kSide; r += kRows) {
      const Index i = top + r < n ? top + r : n - 1;
      Vector<S, width> row;
#pragma unroll
      for (int c = 0; c < width; ++c) {
        const Index j = left + column + c < n ? left + column + c : n - 1;
        const T d = difference(in, problem, i, j);
        const auto pair = pair_at<Link, S>(d);
        row.v[c] = d > T(0) ? pair.larger : pair.smaller;
        mirrored[(column + c) * kPitch + r] = d < T(0) ? pair.larger : pair.smaller;
      }
      write(top + r, left + column, row);
    }
    if (left == top) continue;  // the same for the whole block
    __syncthreads();
    for (int r = first_row; r < kSide; r += kRows) {
      Vector<S, width> row;
#pragma unroll
      for (int c = 0; c < width; ++c) row.v[c] = mirrored[r * kPitch + column + c];
      write(left + r, top + column, row);
    }
    __syncthreads();
  }
}

template <class T, class S>
void matrices(LinkKind link, const PreferenceMatrixIn<T>& in, S* out, const Exec& exec) {
  const Index n = in.n, size = in.n_problems * n * n;
  if (size == 0) return;
  const bool symmetric = in.first_advantage == T(0) && n >= kSide, whole = aligned(out) && (!symmetric || n % kVector<S> == 0);
  with_link(link, [&]<class Link>() {
    const auto run = [&]<int width>() {
      if (symmetric) {
        const Index n_squares = (n + kSide - 1) / kSide;
        launch<&symmetric_matrix_kernel<width, Link, T, S>>(exec, {in.n_problems * n_squares * n_squares, 1, kBlock}, in, out);
      } else {
        launch<&preference_matrix_kernel<width, Link, T, S>>(exec, {(size + width - 1) / width, kBlock, kBlock}, in, out);
      }
    };
    whole ? run.template operator()<kVector<S>>() : run.template operator()<1>();
  });
}

// What happened between two items, the first of them named first, and its log-likelihood with the derivative by their
// difference x.
struct Weights {
  double win, loss, tie;
  __device__ bool none() const { return win == 0 && loss == 0 && tie == 0; }
};
template <class Link>
struct TwoOutcomes {
  __device__ double value(double x, const Weights& w) const {
    const auto logs = Link::log_probabilities(x);
    return weighted(w.win, logs.win) + weighted(w.loss, logs.loss);
  }
  __device__ double slope(double x, const Weights& w) const {
    const auto slopes = Link::slopes(x);
    return weighted(w.win, slopes.win) - weighted(w.loss, slopes.loss);
  }
};
template <class Model>
struct ThreeOutcomes {
  double t;
  __device__ double value(double x, const Weights& w) const {
    const auto logs = Model::log_probabilities(x, t);
    return weighted(w.win, logs.win) + weighted(w.loss, logs.loss) + weighted(w.tie, logs.tie);
  }
  __device__ double slope(double x, const Weights& w) const {
    const auto s = Model::slopes(x, t);
    return weighted(w.win, s.win.d) + weighted(w.loss, s.loss.d) + weighted(w.tie, s.tie.d);
  }
};

// The table of a problem: what happened where i was named first. A tie in a table without order stands twice: in either
// triangle it counts half.
template <class T>
struct Table {
  const T *wins, *losses, *ties;
  Index n;
  __device__ Weights at(Index i, Index j) const {
    const Index k = i * n + j;
    if (i == j) return {0, 0, 0};
    return {static_cast<double>(wins[k]), losses ? static_cast<double>(losses[k]) : 0.,
            ties ? static_cast<double>(ties[k]) * (losses ? 1. : 0.5) : 0.};
  }
  // 0, or NaN where a weight is none.
  __device__ double valid(Index i, Index j) const {
    const Weights w = at(i, j);
    const bool agree = !ties || losses || ties[i * n + j] == ties[j * n + i] || i == j;
    return w.win >= 0 && w.loss >= 0 && w.tie >= 0 && agree ? 0. : kNaN<double>;
  }
};

struct Sums {
  double value, slope;
};

// A row of a problem for each group: the log-likelihood of what happened where its item was named first, and the derivative by
// its score, where it was named second included: no sum is shared between groups.
template <class Group, class Terms, class T>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    likelihood_rows_kernel(OutcomeLikelihoodIn<T> in, Terms terms, bool gradient, Sums* sums) {
  const auto& p = in.pairs;
  const Index n = p.n, n_rows = p.n_problems * n;
  const Group group;
  for (Index row = Group::first(); Group::first_of_warp(row) < n_rows; row += Group::step()) {
    const bool there = row < n_rows;
    const Index problem = there ? row / n : 0, i = there ? row % n : 0, start = problem * n * n;
    const Table<T> table{p.wins + start, p.losses ? p.losses + start : nullptr, in.ties ? in.ties + start : nullptr, n};
    const T* const s = p.scores + problem * n;
    const double mine = static_cast<double>(s[i]);
    Sums sum{0, 0};
    for (Index j = Group::rank(); there && j < n; j += Group::kThreads) {
      const double d = mine - static_cast<double>(s[j]);
      const Weights first = table.at(i, j);
      sum.value += table.valid(i, j);
      if (!first.none()) sum.value += terms.value(d + p.first_advantage, first);
      if (!gradient) continue;
      const Weights second = table.at(j, i);
      if (!first.none()) sum.slope += terms.slope(d + p.first_advantage, first);
      if (!second.none()) sum.slope -= terms.slope(p.first_advantage - d, second);
    }
    sum = group.reduce(sum, [](Sums a, Sums b) { return Sums{a.value + b.value, a.slope + b.slope}; });
    if (there && Group::rank() == 0) sums[row] = {mine == mine ? sum.value : mine, sum.slope};
  }
}

// The value of each problem, a group each, and its gradient: all NaN where the value is.
template <class Group, class T>
__global__ void __launch_bounds__(Group::kBlockThreads)
    likelihood_sums_kernel(Index n_problems, Index n, const Sums* sums, T* value, T* gradient) {
  const Group group;
  for (Index problem = Group::first(); Group::first_of_warp(problem) < n_problems; problem += Group::step()) {
    const bool there = problem < n_problems;
    const Sums* const of = sums + (there ? problem * n : 0);
    double sum = 0;
    for (Index i = Group::rank(); there && i < n; i += Group::kThreads) sum += of[i].value;
    sum = group.reduce(sum, [](double a, double b) { return a + b; });
    if (there && Group::rank() == 0) value[problem] = static_cast<T>(sum);
    for (Index i = Group::rank(); there && gradient && i < n; i += Group::kThreads) {
      gradient[problem * n + i] = static_cast<T>(sum == sum ? of[i].slope : sum);
    }
  }
}

template <class Terms, class T>
void likelihoods(const OutcomeLikelihoodIn<T>& in, const Terms& terms, T* value, T* gradient, const Exec& exec) {
  const Index n = in.pairs.n, n_problems = in.pairs.n_problems;
  if (n_problems == 0) return;
  Sums* const sums = exec.scratch<Sums>(n_problems * n + 1);
  const auto run = [&]<class Group>() {
    launch<&likelihood_rows_kernel<Group, Terms, T>>(exec, {n_problems * n, Group::kRowsPerBlock, Group::kBlockThreads}, in,
                                                     terms, gradient != nullptr, sums);
    launch<&likelihood_sums_kernel<Group, T>>(exec, {n_problems, Group::kRowsPerBlock, Group::kBlockThreads}, n_problems, n,
                                              static_cast<const Sums*>(sums), value, gradient);
  };
  n <= 16 ? run.template operator()<Lanes<8, 128>>() : run.template operator()<Lanes<32, 128>>();
}

template <class Model, class T>
__global__ void __launch_bounds__(kBlock) outcome_matrices_kernel(OutcomeMatricesIn<T> in, double t, T* win, T* tie) {
  const Index n = in.n;
  for_each(in.n_problems * n * n, [&](Index k) {
    const T* const s = in.scores + k / (n * n) * n;
    const double mine = static_cast<double>(s[k / n % n]) + in.first_advantage;
    const auto p = Model::probabilities(mine - static_cast<double>(s[k % n]), t);
    win[k] = static_cast<T>(p.win);
    tie[k] = static_cast<T>(p.tie);
  });
}

template <class Link>
__global__ void __launch_bounds__(kBlock) pair_terms_kernel(PairTerms p) {
  for_each(p.n, [&](Index k) {
    const double w = p.wins[k], l = p.losses[k];
    const auto logs = Link::log_probabilities(p.d[k]);
    const auto s = Link::slopes(p.d[k]);
    p.value[k] = weighted(w, logs.win) + weighted(l, logs.loss);
    p.slope[k] = weighted(w, s.win) - weighted(l, s.loss);
    p.curvature[k] = weighted(w, s.win_curve) + weighted(l, s.loss_curve);
  });
}

template <class Model>
__global__ void __launch_bounds__(kBlock) outcome_terms_kernel(OutcomeTerms p, double t) {
  for_each(p.n, [&](Index k) {
    const double w = p.wins[k], l = p.losses[k], tied = p.ties[k];
    const auto sum = [&](double of_win, double of_loss, double of_tie) {
      return weighted(w, of_win) + weighted(l, of_loss) + weighted(tied, of_tie);
    };
    const auto logs = Model::log_probabilities(p.d[k], t);
    const auto s = Model::slopes(p.d[k], t);
    p.value[k] = sum(logs.win, logs.loss, logs.tie);
    p.by_d[k] = sum(s.win.d, s.loss.d, s.tie.d);
    p.by_t[k] = sum(s.win.t, s.loss.t, s.tie.t);
    p.dd[k] = sum(s.win.dd, s.loss.dd, s.tie.dd);
    p.dt[k] = sum(s.win.dt, s.loss.dt, s.tie.dt);
    p.tt[k] = sum(s.win.tt, s.loss.tt, s.tie.tt);
  });
}

}  // namespace

template <class T>
void preference(LinkKind link, const PreferenceIn<T>& in, Span<T> out, const Exec& exec) {
  with_link(link, [&]<class Link>() { launch<&preference_kernel<Link, T>>(exec, {out.size, kBlock, kBlock}, in, out); });
}

template <class T>
void preference_matrix(LinkKind link, const PreferenceMatrixIn<T>& in, T* out, const Exec& exec) {
  matrices(link, in, out, exec);
}
template <class T, class S>
void symmetric_matrix(LinkKind link, const PreferenceMatrixIn<T>& in, S* out, const Exec& exec) {
  matrices(link, in, out, exec);
}

template <class T>
void log_likelihood(LinkKind link, const LogLikelihoodIn<T>& in, T* value, T* gradient, const Exec& exec) {
  with_link(link,
            [&]<class Link>() { likelihoods(OutcomeLikelihoodIn<T>{in, nullptr}, TwoOutcomes<Link>{}, value, gradient, exec); });
}

void pair_terms(LinkKind link, const PairTerms& pairs, const Exec& exec) {
  with_link(link, [&]<class Link>() { launch<&pair_terms_kernel<Link>>(exec, {pairs.n, kBlock, kBlock}, pairs); });
}

template <class T>
void outcome_matrices(const TieModel& model, const OutcomeMatricesIn<T>& in, T* win, T* tie, const Exec& exec) {
  with_model(model.kind, [&]<class Model>() {
    launch<&outcome_matrices_kernel<Model, T>>(exec, {in.n_problems * in.n * in.n, kBlock, kBlock}, in, model.t, win, tie);
  });
}

template <class T>
void outcome_likelihood(const TieModel& model, const OutcomeLikelihoodIn<T>& in, T* value, T* gradient, const Exec& exec) {
  with_model(model.kind, [&]<class Model>() { likelihoods(in, ThreeOutcomes<Model>{model.t}, value, gradient, exec); });
}

void outcome_terms(const TieModel& model, const OutcomeTerms& pairs, const Exec& exec) {
  with_model(model.kind,
             [&]<class Model>() { launch<&outcome_terms_kernel<Model>>(exec, {pairs.n, kBlock, kBlock}, pairs, model.t); });
}

#define SOFTMAP_INSTANTIATE(T)                                                                       \
  template void preference(LinkKind, const PreferenceIn<T>&, Span<T>, const Exec&);                  \
  template void preference_matrix(LinkKind, const PreferenceMatrixIn<T>&, T*, const Exec&);          \
  template void symmetric_matrix(LinkKind, const PreferenceMatrixIn<T>&, T*, const Exec&);           \
  template void log_likelihood(LinkKind, const LogLikelihoodIn<T>&, T*, T*, const Exec&);            \
  template void outcome_matrices(const TieModel&, const OutcomeMatricesIn<T>&, T*, T*, const Exec&); \
  template void outcome_likelihood(const TieModel&, const OutcomeLikelihoodIn<T>&, T*, T*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE
template void symmetric_matrix(LinkKind, const PreferenceMatrixIn<float>&, core::Half*, const Exec&);
template void symmetric_matrix(LinkKind, const PreferenceMatrixIn<float>&, core::BFloat16*, const Exec&);

}  // namespace softmap::cuda
