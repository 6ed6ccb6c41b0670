#pragma once
// Newton's method for ordinary tables, as dense/newton_ordinary.h, on a GPU: in shared memory and in the type of the tables. A
// problem of few items has a thread, which eliminates them in registers, else some lanes of a warp (fit_groups.cuh); a solver is
// either of them. In float32 a last step, whose gradient is float64, takes back what rounding did.
#include "cuda/device.h"
#include "dense/prepare.h"

namespace softmap::cuda {
namespace {

// Weights and precisions that a table may have to count as ordinary, and the precision that holds an item at its mean.
template <class T>
inline constexpr T kMostWeight = T(0x1p100);
template <>
inline constexpr float kMostWeight<float> = 0x1p20f;
template <class T>
inline constexpr T kHolds = T(dense::kFixed);
template <>
inline constexpr float kHolds<float> = 0x1p60f;

// Where the weights of the problems are: tables, or with `anchors` rows of preferences beside one table.
template <class T>
struct Weights {
  const T* wins;
  const double* anchors;
  int n;

  struct Pair {
    T win, loss;
  };
  // Whether nothing is known of the last item, as of no other: it is then reported missing.
  __device__ bool lacks_last(T its_weight) const { return anchors != nullptr && its_weight == T(0); }
  __device__ Pair pair(Index problem, int i, int j) const {
    if (!anchors) return {wins[(problem * n + i) * n + j], wins[(problem * n + j) * n + i]};
    const int m = n - 1;
    if (j < m) return {T(anchors[i * m + j]), T(anchors[j * m + i])};
    const T p = wins[problem * m + i];
    return p == p ? Pair{T(1. - double(p)), p} : Pair{T(0), T(0)};
  }
};

template <class T>
__device__ bool is_ordinary_weight(T x) {
  return x >= T(0) && x <= kMostWeight<T>;
}
template <class T>
__device__ bool is_ordinary_prior(T mean, T precision) {
  return core::abs(mean) < kMostWeight<T> && precision >= T(1) / kMostWeight<T>;
}

// The flow and the curvature of a pair.
template <class Link, class W>
struct Slopes {
  W flow, curve;
  __device__ Slopes(W mark_i, W mark_j, W win, W loss) {
    const auto f = Link::slopes_between(mark_i, mark_j);
    flow = core::fmadd(win, f.win, -(loss * f.loss));
    curve = core::fmadd(win, f.win_curve, loss * f.loss_curve);
  }
};

// How exactly a type solves, relative to max(1, max |s|): what the steps that are not taken come to, and rounding.
template <class T>
inline constexpr double kError = 0x1p-33;
template <>
inline constexpr double kError<float> = 0x1p-18;
template <class T>
inline constexpr double kUnit = 0x1p-53;
template <>
inline constexpr double kUnit<float> = 0;  // the last step takes it back

// Newton's steps, the last one not taken; false where the problem is not ordinary. With `predicts` a step is the last one, too,
// if the next is sure to be negligible: one of at most `close`, after which the flows of a pair differ from what the curvature
// says by no more than kBend w (2 close)^2 / 2. For the bounds see dense/newton_ordinary.h.
template <class Link, class Solver, class T = typename Solver::V>
__device__ bool step_to_maximum(Solver& self, T per_prior, T close, const FitOptions& options, bool predicts) {
  constexpr int kSteps = 12;
  const T far = self.far(), last = predicts ? close : T(0);
  bool solved = false, done = !(per_prior <= T(0x1p20));
  self.n_iter = T(0);
  for (int iteration = 0; iteration < kSteps && !self.all_are(done); ++iteration) {
    done |= !(self.n_iter < T(options.max_iter));
    if (!done) self.n_iter += T(1);
    const T step = self.solve_step(), size = self.size, steepest = Link::steepest(size + size);
    const T rounding = core::fmadd(steepest, per_prior, size + far) * T((self.n() + 16) * kUnit<T>);
    const bool small = step <= core::max(T(options.tol) * size, last);
    const bool certain = rounding <= T(0.5 * kError<T>) * size && step <= close;
    solved |= small && certain && !done;
    done |= small || !(step <= T(Link::kReach) && size <= T(Link::kReach));
    self.move(done);
  }
  return solved;
}

// Solves; false where the problem is not ordinary.
template <class Link, class Solver, class T = typename Solver::V>
__device__ bool solve_ordinary(Solver& self, const FitOptions& options, bool predicts, bool keeps_hessian) {
  constexpr bool kMixed = sizeof(T) < sizeof(double);
  const T per_prior = self.per_prior();
  const T close = core::sqrt(T(kError<T> / (4. * Link::kBend)) / core::max(per_prior, T(1)));
  bool solved = step_to_maximum<Link>(self, per_prior, close, options, predicts || kMixed);
  if constexpr (kMixed) {
    solved = solved && self.n_iter < T(options.max_iter);
    self.move(!solved);
    solved = self.solve_again() <= close && solved;  // with the Hessian of the step before, which was no longer than that
    self.n_iter += T(1);
    if (keeps_hessian) {
      self.move(!solved);
      self.solve_step();
      self.solve_again();
    }
  }
  self.move(!solved);
  return solved;
}

// A thread a problem. Items that a problem lacks meet nobody and stay where they are.
template <class T, class Link, int kBlock>
struct ThreadSolver {
  using V = T;
  static constexpr int N = 6, kPairs = N * (N - 1) / 2, lanes = 1, rank = 0;
  struct Place {
    using V = T;
    static constexpr bool kGroups = false;
    template <int n>
    using Values = T[n];
  };
  // Entry k of this thread is k * kBlock further; what the loop over the pairs needs.
  struct Shared {
    T win[kPairs * kBlock], loss[kPairs * kBlock], curve[kPairs * kBlock], mark[N * kBlock], g[N * kBlock], s[N * kBlock];
    T mean[N * kBlock], precision[N * kBlock];
    double wide_mark[sizeof(T) < sizeof(double) ? N * kBlock : 1], wide_g[sizeof(T) < sizeof(double) ? N * kBlock : 1];
  };
  Shared& at;
  const int t, n_items;   // thread of the block, items of the problem
  T n_iter = T(0), size;  // steps, max(1, max |s|)
  T newton[N];
  dense::Laplacian<Place, N> hessian;

  __device__ ThreadSolver(Shared& shared, int thread, int n) : at(shared), t(thread), n_items(n) {}
  __device__ static int n() { return N; }
  __device__ static bool all_are(bool done) { return done; }
  __device__ T s(int i) const { return at.s[i * kBlock + t]; }
  __device__ T score(int i) const { return is_held(i) ? at.mean[i * kBlock + t] : s(i); }

  // Whether the numbers are ordinary.
  __device__ bool load(const Weights<T>& weights, const Priors& priors, Index problem) {
    bool ok = true;
#pragma unroll 1
    for (int i = 0; i < N; ++i) {
      const bool there = i < n_items;
      const Index from = problem * priors.stride + i;
      const T mean = there ? T(priors.mean[from]) : T(0), precision = there ? T(dense::precision_of(priors.sd[from])) : T(1);
      ok &= is_ordinary_prior(mean, precision);
      at.mean[i * kBlock + t] = at.s[i * kBlock + t] = mean;
      at.precision[i * kBlock + t] = core::min(precision, kHolds<T>);
    }
#pragma unroll 1
    for (int k = 0, i = 0, j = 1; k < kPairs; ++k) {
      const auto w = j < n_items ? weights.pair(problem, i, j) : typename Weights<T>::Pair{T(0), T(0)};
      ok &= is_ordinary_weight(w.win) && is_ordinary_weight(w.loss);
      at.win[k * kBlock + t] = w.win;
      at.loss[k * kBlock + t] = w.loss;
      if (++j == N) j = ++i + 1;
    }
    return ok && !weights.lacks_last(weight(n_items - 1));
  }
  __device__ T weight(int item) const {
    T sum(0);
#pragma unroll 1
    for (int k = 0, i = 0, j = 1; k < kPairs; ++k) {
      if (i == item || j == item) sum = sum + (at.win[k * kBlock + t] + at.loss[k * kBlock + t]);
      if (++j == N) j = ++i + 1;
    }
    return sum;
  }
  __device__ T per_prior() const {
    T largest(0);
#pragma unroll 1
    for (int i = 0; i < N; ++i) largest = core::max(weight(i) / at.precision[i * kBlock + t], largest);
    return largest;
  }
  __device__ T far() const {
    T largest(0);
    for (int i = 0; i < N; ++i) largest = core::max(largest, core::abs(at.mean[i * kBlock + t]));
    return largest;
  }

  // Gradient and, in the type of the tables, curvatures.
  template <class W>
  __device__ void evaluate(W* mark, W* g) {
#pragma unroll 1
    for (int e = t; e < N * kBlock; e += kBlock) {
      mark[e] = Link::mark(W(at.s[e]));
      g[e] = W(at.precision[e]) * (W(at.mean[e]) - W(at.s[e]));
    }
#pragma unroll 1
    for (int k = t, i = t, j = t + kBlock; k < kPairs * kBlock; k += kBlock) {
      const Slopes<Link, W> of(mark[i], mark[j], W(at.win[k]), W(at.loss[k]));
      g[i] = g[i] + of.flow;
      g[j] = g[j] - of.flow;
      if constexpr (sizeof(W) == sizeof(T)) at.curve[k] = of.curve;
      j += kBlock;
      if (j >= N * kBlock) i += kBlock, j = i + kBlock;
    }
  }
  template <class W>
  __device__ T solve(const W* g) {
    T right[N];
    for (int i = 0; i < N; ++i) right[i] = T(g[i * kBlock + t]);
    dense::solve_plainly<N>(hessian, N, right, newton);
    return dense::largest_of<N>(newton, N);
  }
  __device__ T solve_step() {
    evaluate(at.mark, at.g);
    T here[N];
    for (int k = 0; k < kPairs; ++k) hessian.h[k] = at.curve[k * kBlock + t];
    for (int i = 0; i < N; ++i) hessian.p[i] = at.precision[i * kBlock + t], here[i] = s(i);
    dense::factor<N>(hessian, N, false);
    size = core::max(T(1), dense::largest_of<N>(here, N));
    return solve(at.g);
  }
  __device__ T solve_again() {
    evaluate(at.wide_mark, at.wide_g);
    return solve(at.wide_g);
  }
  __device__ void move(bool stay) {
    for (int i = 0; i < N; ++i) at.s[i * kBlock + t] = stay ? s(i) : s(i) + newton[i];
  }

  // From here on what there is to save.
  __device__ double gradient(int i) const {
    return sizeof(T) < sizeof(double) ? at.wide_g[i * kBlock + t] : double(at.g[i * kBlock + t]);
  }
  __device__ static T largest_in_group(T x) { return x; }
  template <class Hessian>
  __device__ void save_hessian(Hessian& to) const {
    for (int i = 0; i < N; ++i) {
      if (i >= n_items) break;
      for (int j = i + 1; j < N; ++j) {
        if (j < n_items) to.h[dense::row_start(n_items, i) + j] = double(hessian.h[dense::row_start(N, i) + j]);
      }
      to.p[i] = double(hessian.p[i]), to.inverse[i] = double(hessian.inverse[i]);
    }
  }
  __device__ bool is_held(int i) const { return !(at.precision[i * kBlock + t] < kHolds<T>); }
};

}  // namespace
}  // namespace softmap::cuda
