// Scores of a closed set of columns: only these are read, unless their share of the whole row is asked for.
#include "cuda/launch.cuh"
#include "cuda/one_read.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

// A small closed set travels with the launch; a larger one lies in memory of the device.
inline constexpr int kFew = 128;
struct FewLevels {
  std::int64_t token[kFew];
  int begin[kFew + 1];
  double level_[kFew];
  Index n_groups, n_tokens;
  __device__ Index at(Index t) const { return token[t]; }
  __device__ Index start(Index k) const { return begin[k]; }
  __device__ double level(Index k) const { return level_[k]; }
};
struct ManyLevels {
  const Index *token, *begin;
  const double* level_;
  Index n_groups, n_tokens;
  __device__ Index at(Index t) const { return token[t]; }
  __device__ Index start(Index k) const { return begin[k]; }
  __device__ double level(Index k) const { return level_[k]; }
};

// The columns of the closed set as a row. A thread reads its first one once.
template <class S, class Group, class Levels>
struct Closed {
  using T = Compute<S>;
  const S* x;
  const Levels* levels;
  Index n;
  T first;

  __device__ Closed(const S* row, const Levels* given, Index n_tokens)
      : x(row), levels(given), n(n_tokens), first(Group::rank() < n_tokens ? read(Group::rank()) : T(0)) {}
  __device__ T read(Index t) const { return core::to_compute(x[levels->at(t)]); }
  __device__ T operator[](Index t) const { return t == Group::rank() ? first : read(t); }
  template <class Body, class Fold>
  __device__ void each(const Body& body, const Fold& fold) const {
    int pending = 0;
    for (Index t = Group::rank(); t < n; t += Group::kThreads) {
      T value = (*this)[t];
      body(value, t);
      if (++pending % 4 == 0) fold();
    }
    fold();
  }
};

// sum exp(z) of a row, with its largest element subtracted.
template <class T>
struct RowSum {
  Shift<T> shift;
  Total<T> sum;
};
template <class T, class Row, class Group>
__device__ RowSum<T> row_sum(Row& row, T temperature, const Group& group) {
  const Shift<T> shift(largest_of<T>(row, group), temperature);
  return {shift, exp_sum(row, shift, group)};
}

// part / whole; a part of -inf alone has no share.
template <class T>
__device__ T share_of(const RowSum<T>& part, const RowSum<T>& whole) {
  const bool defined = core::abs(whole.shift.largest) < kInf<T>;
  if (defined && part.shift.largest == -kInf<T>) return T(0);
  if (!defined) return kNaN<T>;
  T low;
  const T d = whole.shift(part.shift.largest, low);
  const Inverse<T> inverse(whole.sum);
  const T ratio = core::fmadd(part.sum.m, inverse.high, core::fmadd(part.sum.m, inverse.low, part.sum.low * inverse.high));
  return core::min(T(1), ratio * exp_below(d, low));  // NaN stays
}

// The most probable member of those that were seen, of equal ones the first; none has the probability -1.
template <class T>
struct Mode {
  T probability;
  Index first;
};
struct MoreProbable {
  template <class T>
  __device__ Mode<T> operator()(Mode<T> a, Mode<T> b) const {
    return a.probability > b.probability || (a.probability == b.probability && a.first < b.first) ? a : b;
  }
};

template <class S, class Levels, class Group, bool with_mass>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    level_scores_kernel(Dense<const S> x, const __grid_constant__ Levels levels, EachRow<Compute<S>> temperature,
                        LevelOut<Compute<S>> out, bool vectors) {
  using T = Compute<S>;
  const Group group;
  const Index n_rows = x.n_rows;
  [[maybe_unused]] const Index n = x.n;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    const Closed<S, Group, Levels> closed(x.row(at), &levels, there ? levels.n_tokens : 0);
    const auto part = row_sum(closed, temperature[at], group);
    const Inverse<T> share(part.sum);
    const auto probability = [&](Index k) {
      double sum = 0;
      for (Index t = levels.start(k); t < levels.start(k + 1); ++t) {
        T low;
        const T d = part.shift(closed[t], low), p = exp_below(d, low);
        sum += static_cast<double>(share(p));
      }
      return sum;
    };
    const double first = there && Group::rank() < levels.n_groups ? probability(Group::rank()) : 0;
    const auto known = [&](Index k) { return k == Group::rank() ? first : probability(k); };
    Sum<double> score{}, variance{};
    Mode<T> mode{-1, 0};
    for (Index k = Group::rank(); there && k < levels.n_groups; k += Group::kThreads) {
      score += known(k) * levels.level(k);
      score.fold();
    }
    const double mean = total_of(group, score);
    for (Index k = Group::rank(); there && k < levels.n_groups; k += Group::kThreads) {
      const double p = known(k), d = levels.level(k) - mean;
      const T rounded = static_cast<T>(p);
      if (out.probabilities) out.probabilities[i * levels.n_groups + k] = rounded;
      if (out.mode && rounded >= T(0)) mode = MoreProbable()(mode, Mode<T>{rounded, k});
      variance += p * (d * d);
      variance.fold();
    }
    const double spread = total_of(group, variance);
    if (out.mode) mode = group.reduce(mode, MoreProbable());
    if (there && Group::rank() == 0) {
      out.score[i] = static_cast<T>(mean);
      out.variance[i] = static_cast<T>(spread);
      if (out.mode) {
        const bool defined = mode.probability >= T(0);
        out.mode[i] = defined ? static_cast<T>(levels.level(mode.first)) : kNaN<T>;
        out.mode_probability[i] = defined ? mode.probability : kNaN<T>;
      }
    }
    if constexpr (with_mass) {
      const auto whole = read_once<S, Terms<T>>(x.row(at), there ? n : 0, vectors, group, temperature[at]);
      const ExpTotal<T> total{whole.count, whole.rest};
      const T mass = share_of(part, RowSum<T>{Shift<T>(whole.largest, temperature[at]), total.lowered().sum()});
      if (there && Group::rank() == 0) out.mass[i] = mass;
    }
  }
}

template <class S, class Levels>
void run(const Dense<const S>& x, const Levels& levels, PerRow<Compute<S>> temperature, const LevelOut<Compute<S>>& out,
         const Exec& exec) {
  const auto with = [&]<class Group, bool with_mass>() {
    launch<&level_scores_kernel<S, Levels, Group, with_mass>>(exec, {x.n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, x,
                                                              levels, on_device(temperature), out,
                                                              InRegisters<S, Group, kAtOnce>::suits(x));
  };
  if (!out.mass) return with.template operator()<Lanes<8, 128>, false>();
  with_group(x.n, [&]<class Group>() { with.template operator()<Group, true>(); });
}

// What travels with one launch of a table that lies on the host.
inline constexpr int kPiece = 448;
template <class T>
struct Piece {
  T value[kPiece];
};
template <class T>
__global__ void copy_piece_kernel(const __grid_constant__ Piece<T> from, T* to, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) to[i] = from.value[i];
}
// A copy of a table of the host in memory of the device, piece by piece: a graph keeps the arguments of its launches, but
// nothing of the memory of the host.
template <class T>
const T* copied(const Exec& exec, const T* from, Index n) {
  T* const to = exec.scratch<T>(n);
  for (Index first = 0; first < n; first += kPiece) {
    const int size = static_cast<int>(n - first < kPiece ? n - first : kPiece);
    Piece<T> piece{};
    for (int i = 0; i < size; ++i) piece.value[i] = from[first + i];
    launch<&copy_piece_kernel<T>>(exec, {1, 1, 128}, piece, to + first, size);
  }
  return to;
}

}  // namespace

// The closed set and its levels lie on the host.
template <class S>
void level_scores(const Rows<const S>& x, Groups groups, const double* levels, PerRow<Compute<S>> temperature,
                  LevelOut<Compute<S>> out, const Exec& exec) {
  const Index n_groups = groups.n_groups, n_tokens = groups.n_tokens;
  if (n_groups > kFew || n_tokens > kFew) {
    const ManyLevels many{copied(exec, groups.tokens, n_tokens), copied(exec, groups.start, n_groups + 1),
                          copied(exec, levels, n_groups), n_groups, n_tokens};
    return run(packed(x, exec), many, temperature, out, exec);
  }
  FewLevels few{};
  few.n_groups = n_groups, few.n_tokens = n_tokens;
  for (Index t = 0; t < n_tokens; ++t) few.token[t] = groups.tokens[t];
  for (Index k = 0; k <= n_groups; ++k) few.begin[k] = static_cast<int>(groups.start[k]);
  for (Index k = 0; k < n_groups; ++k) few.level_[k] = levels[k];
  run(packed(x, exec), few, temperature, out, exec);
}

#define SOFTMAP_INSTANTIATE(S) \
  template void level_scores(const Rows<const S>&, Groups, const double*, PerRow<Compute<S>>, LevelOut<Compute<S>>, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(core::Half)
SOFTMAP_INSTANTIATE(core::BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
