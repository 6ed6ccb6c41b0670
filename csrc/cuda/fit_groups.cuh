#pragma once
// Ordinary fits of more items than a thread can hold (fit_ordinary.cuh).
#include "cuda/fit_ordinary.cuh"

namespace softmap::cuda {
namespace {

// Some lanes of a warp a problem of at most twice as many items. The problems of a warp go through everything together.
template <class T, class Link>
struct GroupSolver {
  using V = T;
  static constexpr bool kMixed = sizeof(T) < sizeof(double);
  static constexpr int kColumns = 9;
  const int n_, lanes, rank;
  T *win, *loss, *h;  // of pairs
  T *mean, *precision, *s_, *mark, *g, *right, *newton, *p, *inverse;
  double *wide_mark, *wide_g;
  T n_iter, size;  // steps, max(1, max |s|)

  SOFTMAP_HD static int lanes_for(int n) { return n <= 16 ? 8 : n <= 32 ? 16 : 32; }
  // Bytes of a problem: a multiple of 8, by which the groups of a warp start in different banks.
  SOFTMAP_HD static Index bytes(int n) {
    const Index numbers = 3 * n * (n - 1) / 2 + kColumns * n + (kMixed ? 4 * n : 0);
    const Index lanes = lanes_for(n), twice = 2 * lanes;
    return ((numbers + lanes) / twice * twice + lanes) * Index(sizeof(T));
  }
  __device__ GroupSolver(unsigned char* memory, int n) : n_(n), lanes(lanes_for(n)), rank(static_cast<int>(threadIdx.x) % lanes) {
    memory += static_cast<int>(threadIdx.x) / lanes * bytes(n);
    wide_mark = reinterpret_cast<double*>(memory), wide_g = wide_mark + n;
    T* next = reinterpret_cast<T*>(memory) + (kMixed ? 4 * n : 0);
    for (T** const column : {&mean, &precision, &s_, &mark, &g, &right, &newton, &p, &inverse}) *column = next, next += n;
    win = next, loss = win + n * (n - 1) / 2, h = loss + n * (n - 1) / 2;
  }
  __device__ int n() const { return n_; }
  __device__ static bool all_are(bool done) { return __all_sync(0xffffffffu, done); }
  __device__ T score(int i) const { return is_held(i) ? mean[i] : s_[i]; }
  __device__ static void sync() { __syncwarp(); }
  template <class Combine>
  __device__ T reduce(T value, const Combine& combine) const {
    for (int mask = lanes / 2; mask > 0; mask /= 2) value = combine(value, exchange(value, mask));
    return value;
  }
  __device__ T largest_in_group(T x) const {  // NaN where one is
    return reduce(x, [](T a, T b) { return core::max(a, b) + T(0) * (a + b); });
  }
  __device__ T largest(const T* column) const {
    T of_lane(0);
    for (int i = rank; i < n_; i += lanes) of_lane = core::max(of_lane, core::abs(column[i])) + T(0) * column[i];
    return largest_in_group(of_lane);
  }

  // body(k, i, j) for the pairs of this lane.
  template <class Body>
  __device__ void for_each_pair(Body&& body) const {
    const int n_pairs = n_ * (n_ - 1) / 2;
    for (int k = rank, i = 0, j = 1 + rank; k < n_pairs; k += lanes, j += lanes) {
      while (j >= n_) ++i, j += i + 1 - n_;
      body(k, i, j);
    }
  }
  __device__ bool load(const Weights<T>& weights, const Priors& priors, Index problem) {
    bool ok = true;
    for (int i = rank; i < n_; i += lanes) {
      const Index from = problem * priors.stride + i;
      const T precision_i = T(dense::precision_of(priors.sd[from]));
      mean[i] = s_[i] = T(priors.mean[from]);
      ok &= is_ordinary_prior(mean[i], precision_i);
      precision[i] = core::min(precision_i, kHolds<T>);
    }
    for_each_pair([&](int k, int i, int j) {
      const auto w = weights.pair(problem, i, j);
      ok &= is_ordinary_weight(w.win) && is_ordinary_weight(w.loss);
      win[k] = w.win;
      loss[k] = w.loss;
    });
    sync();
    return largest_in_group(ok && !weights.lacks_last(weight(n_ - 1)) ? T(0) : T(1)) == T(0);
  }
  __device__ T weight(int item) const {
    T sum(0);
    for (int j = 0; j < n_; ++j) {
      if (j == item) continue;
      const int k = j < item ? dense::row_start(n_, j) + item : dense::row_start(n_, item) + j;
      sum = sum + (win[k] + loss[k]);
    }
    return sum;
  }
  __device__ T per_prior() const {
    T of_lane(0);
    for (int i = rank; i < n_; i += lanes) of_lane = core::max(of_lane, weight(i) / precision[i]);
    return largest_in_group(of_lane);
  }
  __device__ T far() const { return largest(mean); }

  // Gradient and, in the type of the tables, curvatures. In each round the lanes have disjoint pairs, as at a tournament: of n
  // players or, where n is odd, one more, whose opponent has a rest. One player keeps a seat, all others move on by one.
  template <class W>
  __device__ void evaluate(W* marks, W* to) {
    for (int i = rank; i < n_; i += lanes) {
      marks[i] = Link::mark(W(s_[i]));
      to[i] = W(precision[i]) * (W(mean[i]) - W(s_[i]));
    }
    sync();
    const int seats = n_ + n_ % 2, moving = seats - 1;
    for (int round = 0; round < moving; ++round) {
      const int one = rank == 0 ? moving : round + rank < moving ? round + rank : round + rank - moving;
      const int other = rank == 0 ? round : round >= rank ? round - rank : round - rank + moving;
      if (rank < seats / 2 && one < n_ && other < n_) {
        const int i = one < other ? one : other, j = one < other ? other : one, k = dense::row_start(n_, i) + j;
        const Slopes<Link, W> of(marks[i], marks[j], W(win[k]), W(loss[k]));
        to[i] = to[i] + of.flow;
        to[j] = to[j] - of.flow;
        if constexpr (sizeof(W) == sizeof(T)) h[k] = of.curve;
      }
      sync();
    }
  }
  // As dense::factor: a lane has columns.
  __device__ void factor() {
    for (int i = rank; i < n_; i += lanes) p[i] = precision[i];
    sync();
    for (int k = 0; k < n_; ++k) {
      T* const row = h + dense::row_start(n_, k);
      T d(0);
      for (int j = k + 1 + rank; j < n_; j += lanes) d = d + row[j];
      const T inverse_k = T(1) / (reduce(d, [](T a, T b) { return a + b; }) + p[k]);
      for (int j = k + 1 + rank; j < n_; j += lanes) {
        const T share = row[j] * inverse_k;
        p[j] = core::fmadd(p[k], share, p[j]);
        T* to = h + dense::row_start(n_, k + 1) + j;
#pragma unroll 4
        for (int i = k + 1; i < j; ++i) {
          *to = core::fmadd(row[i], share, *to);
          to += n_ - 2 - i;
        }
      }
      sync();
      for (int j = k + 1 + rank; j < n_; j += lanes) row[j] = row[j] * inverse_k;
      if (rank == 0) p[k] = p[k] * inverse_k, inverse[k] = inverse_k;
    }
    sync();
  }
  template <class W>
  __device__ T solve(const W* from) {
    for (int i = rank; i < n_; i += lanes) right[i] = T(from[i]);
    sync();
    for (int k = 0; k < n_ - 1; ++k) {
      const T* const row = h + dense::row_start(n_, k);
      for (int j = k + 1 + rank; j < n_; j += lanes) right[j] = core::fmadd(row[j], right[k], right[j]);
      sync();
    }
    for (int i = rank; i < n_; i += lanes) newton[i] = right[i] * inverse[i];
    sync();
    for (int k = n_ - 1; k > 0; --k) {
      for (int i = rank; i < k; i += lanes) newton[i] = core::fmadd(h[dense::row_start(n_, i) + k], newton[k], newton[i]);
      sync();
    }
    return largest(newton);
  }
  __device__ T solve_step() {
    evaluate(mark, g);
    factor();
    size = core::max(T(1), largest(s_));
    return solve(g);
  }
  __device__ T solve_again() {
    evaluate(wide_mark, wide_g);
    return solve(wide_g);
  }
  __device__ void move(bool stay) {
    for (int i = rank; i < n_; i += lanes) s_[i] = stay ? s_[i] : s_[i] + newton[i];
    sync();
  }
  __device__ double gradient(int i) const { return kMixed ? wide_g[i] : double(g[i]); }
  template <class Hessian>
  __device__ void save_hessian(Hessian& to) const {
    for_each_pair([&](int k, int, int) { to.h[k] = double(h[k]); });
    for (int i = rank; i < n_; i += lanes) to.p[i] = double(p[i]), to.inverse[i] = double(inverse[i]);
  }
  __device__ bool is_held(int i) const { return !(precision[i] < kHolds<T>); }
};

}  // namespace
}  // namespace softmap::cuda
