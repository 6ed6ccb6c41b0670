// Preferences, matrices of them and log-likelihoods of pairs.
//
// budget: over 400 lines, because the link and tie models of one family serve its matrices and its likelihoods alike.
#include <type_traits>

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
template <class S, int n>
__device__ void store(const Vector<S, n>& v, S* to) {
#if defined(SOFTMAP_EMULATED)
  *reinterpret_cast<Vector<S, n>*>(to) = v;
#else  // an assignment is taken to pieces
  if constexpr (sizeof v == 16) {
    int w[4];
    memcpy(w, &v, sizeof v);
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" : : "l"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]) : "memory");
  } else if constexpr (sizeof v == 8) {
    int w[2];
    memcpy(w, &v, sizeof v);
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" : : "l"(to), "r"(w[0]), "r"(w[1]) : "memory");
  } else {
    *reinterpret_cast<Vector<S, n>*>(to) = v;
  }
#endif
}
template <class S>
constexpr int kVector = 16 / int(sizeof(S));
template <class S>
bool aligned(const S* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

// The squares on and above the diagonal of a matrix, as a table of `rows` by `columns`: a row r of them and the one that is r
// from the end fill a row together.
struct Squares {
  int side, columns, rows;
  Squares(Index n, int side_of_square)
      : side(static_cast<int>((n + side_of_square - 1) / side_of_square)), columns(side | 1), rows((side + 1) / 2) {}
  __device__ void find(int k, int& row, int& column) const {
    const int r = k / columns, c = k % columns, even = columns - side;
    const bool upper = c >= r + even;
    row = upper ? r : side - r - even;
    column = upper ? c - even : side - 1 - c;
  }
};

template <class Link, class T>
__global__ void __launch_bounds__(kBlock) preference_kernel(PreferenceIn<T> in, Span<T> out) {
  for_each(out.size, [&](Index k) {
    const T d = in.a[k] - in.b[k] + in.first_advantage;
    const T x = in.variance_a.data ? core::standardised(d, in.variance_a[k], in.variance_b[k]) : d;
    out.data[k] = in.log ? Link::log_probability(x) : core::probability<Link>(x, in.first_advantage == T(0));
  });
}

// The smaller probability of a pair as stored, and 1 minus that.
template <class S>
struct Pair {
  S smaller, larger;
};
template <class S, class T>
__device__ Pair<S> as_stored(T p) {
  const S smaller = core::to_storage<S>(p);
  return {smaller, core::to_storage<S>(T(1) - core::to_compute(smaller))};
}

// exp(-x2/2) / kUnit for x2 from 0 to the square of core::kTailEnd.
template <class T>
struct LiftedBell {
  static constexpr int kLift = sizeof(T) > 4 ? 500 : 64;
  static constexpr double kUnit = sizeof(T) > 4 ? 0x1p-500 : 0x1p-64;

  // The exponent, an integer, stands in the last bits of z, from where it is added to that of m.
  __device__ T operator()(T x2) const {
    using F = core::Format<T>;
    using Bits = std::make_unsigned_t<typename F::Int>;
    constexpr T kMagic = F::round_magic + T(kLift);
    const T x = T(-0.5) * x2, z = core::fmadd(x, core::kLog2E<T>, kMagic), e = z - kMagic;
    const T t = core::fmadd(e, -core::kLn2Low<T>, core::fmadd(e, -core::kLn2High<T>, x));
    T m = T(1) + core::fmadd(t * t, core::polynomial<core::kExp<T>>(t), t);
    Bits bits_m, bits_z;
    memcpy(&bits_m, &m, sizeof m);
    memcpy(&bits_z, &z, sizeof z);
    bits_m += bits_z << F::mantissa_bits;
    memcpy(&m, &bits_m, sizeof m);
    return m;
  }
};

// The smaller one of F(d) and F(-d), where d is the difference of two scores. What is computed once an item is its mark; where
// that cannot be, quick() is NaN and direct() takes its place.
template <class Link>
struct Smaller;
template <>
struct Smaller<core::Logit> {
  static constexpr bool kMarked = true;
  template <class T>
  __device__ static T mark(T s) {
    return core::abs(s) <= core::Logit::kMarkReach<T> ? core::exp(s) : kNaN<T>;
  }
  template <class T>
  __device__ static T quick(T mine, T theirs, T) {
    return core::Logit::smaller_between(mine, theirs, core::half_reciprocal(mine + theirs));
  }
  template <class T>
  __device__ static T direct(T d) {
    return core::Logit::probability(-core::abs(d));
  }
};
template <>
struct Smaller<core::Probit> {
  static constexpr bool kMarked = false;
  template <class T>
  __device__ static T quick(T, T, T d) {
    return core::quick_upper_tail(core::abs(d), LiftedBell<T>());
  }
};

template <class Link, class T>
__global__ void __launch_bounds__(kBlock) mark_kernel(const T* scores, Index n, T* marks) {
  for_each(n, [&](Index k) { marks[k] = Smaller<Link>::mark(scores[k]); });
}

// A thread takes `width` neighbouring columns of kRows rows; `paired` where there is no first advantage.
constexpr int kRows = 16;
template <int width, bool paired, class Link, class T, class S>
__global__ void __launch_bounds__(kBlock) preference_matrix_kernel(PreferenceMatrixIn<T> in, const T* all_marks, S* out) {
  const Index n = in.n, n_groups = n / width, n_chunks = (n + kRows - 1) / kRows;
  for_each(in.n_problems * n_chunks * n_groups, [&](Index k) {
    const Index chunk = k / n_groups, problem = chunk / n_chunks, first = (chunk - problem * n_chunks) * kRows;
    const Index column = (k - chunk * n_groups) * width;
    const T *const scores = in.scores + problem * n, *const marks = all_marks + problem * n;
    const T* const variance = in.variance ? in.variance + problem * n : nullptr;
    T theirs[width], their_mark[width];
#pragma unroll
    for (int c = 0; c < width; ++c) {
      theirs[c] = scores[column + c];
      their_mark[c] = marks[column + c];
    }
    S* to = out + (problem * n + first) * n + column;
#pragma unroll 1
    for (Index i = first; i < n && i < first + kRows; ++i, to += n) {
      const T mine = scores[i], my_mark = marks[i];
      const auto difference = [&](int c) {
        const T d = mine - theirs[c] + in.first_advantage;
        return variance ? core::standardised(d, variance[i], variance[column + c]) : d;
      };
      Vector<S, width> result;
      if constexpr (paired) {
        T p[width];
        bool found = true;
#pragma unroll
        for (int c = 0; c < width; ++c) {
          p[c] = Smaller<Link>::quick(my_mark, their_mark[c], Smaller<Link>::kMarked ? T(0) : difference(c));
          found &= p[c] == p[c];
        }
        if constexpr (Smaller<Link>::kMarked) {
          if (!found) {
#pragma unroll
            for (int c = 0; c < width; ++c) p[c] = p[c] == p[c] ? p[c] : Smaller<Link>::direct(mine - theirs[c]);
          }
        }
#pragma unroll
        for (int c = 0; c < width; ++c) {
          const auto pair = as_stored<S>(p[c]);
          result.v[c] = mine > theirs[c] ? pair.larger : pair.smaller;
        }
      } else {
#pragma unroll
        for (int c = 0; c < width; ++c) result.v[c] = core::to_storage<S>(Link::probability(difference(c)));
      }
      store(result, to);
    }
  });
}

// Matrices without a first advantage and variances, whose rows are whole vectors. A pair of items is computed once: the smaller
// of its two probabilities as stored, and the other is 1 minus it. A block takes squares of kSide on or above the diagonal, a
// thread in them squares of `width`, which it writes, and their mirror images, in whole vectors.
constexpr int kSide = 64, kSquareBlock = 64;
// At once on a processor; of half types ptxas needs more registers for later architectures.
template <class S>
constexpr int kSquareBlocks = kArchitecture >= 100 && sizeof(S) == 2 ? 8 : 12;
template <int width, class Link, class T, class S>
__global__ void __launch_bounds__(kSquareBlock, kSquareBlocks<S>)
    symmetric_matrix_kernel(PreferenceMatrixIn<T> in, const T* all_marks, Squares squares, S* out) {
  constexpr int kColumns = 8;  // of threads
  const Index n = in.n;
  const int of_problem = squares.columns * squares.rows;
  const int thread = static_cast<int>(threadIdx.x), first_row = thread / kColumns * width,
            first_column = thread % kColumns * width;
  for (Index k = blockIdx.x; k < in.n_problems * of_problem; k += gridDim.x) {
    const Index problem = k / of_problem;
    int row, column;
    squares.find(static_cast<int>(k - problem * of_problem), row, column);
    const T *const scores = in.scores + problem * n, *const marks = all_marks + problem * n;
    S* const matrix = out + problem * n * n;
    const Index top = Index(row) * kSide + first_row, left = Index(column) * kSide + first_column;
#pragma unroll 1
    for (Index i = top; i < n && i - top < kSide - first_row; i += kSquareBlock / kColumns * width) {
#pragma unroll 1
      for (Index j = left; j < n && j - left < kSide - first_column; j += kColumns * width) {
        Vector<S, width> rows[width], mirrored[width];
        bool found = true;
#pragma unroll
        for (int a = 0; a < width; ++a) {
#pragma unroll
          for (int b = 0; b < width; ++b) {
            const T d = scores[i + a] - scores[j + b], p = Smaller<Link>::quick(marks[i + a], marks[j + b], d);
            if constexpr (Smaller<Link>::kMarked) found &= p == p;
            const auto pair = as_stored<S>(p);
            rows[a].v[b] = d > T(0) ? pair.larger : pair.smaller;
            mirrored[b].v[a] = d > T(0) ? pair.smaller : pair.larger;
          }
        }
#pragma unroll
        for (int a = 0; a < width; ++a) store(rows[a], matrix + (i + a) * n + j);
        if (row != column) {
#pragma unroll
          for (int b = 0; b < width; ++b) store(mirrored[b], matrix + (j + b) * n + i);
        }
        if constexpr (Smaller<Link>::kMarked) {
          if (found) continue;
#pragma unroll 1
          for (int entry = 0; entry < width * width; ++entry) {
            const Index a = i + entry / width, b = j + entry % width;
            const T d = scores[a] - scores[b], p = Smaller<Link>::quick(marks[a], marks[b], d);
            if (p == p) continue;
            const auto pair = as_stored<S>(Smaller<Link>::direct(d));
            matrix[a * n + b] = d > T(0) ? pair.larger : pair.smaller;
            if (row != column) matrix[b * n + a] = d > T(0) ? pair.smaller : pair.larger;
          }
        }
      }
    }
  }
}

template <class T, class S>
void matrices(LinkKind link, const PreferenceMatrixIn<T>& in, S* out, const Exec& exec) {
  const Index n = in.n, n_scores = in.n_problems * n, size = n_scores * n;
  if (size == 0) return;
  with_link(link, [&]<class Link>() {
    const T* marks = in.scores;
    const bool paired = in.first_advantage == T(0);
    if constexpr (Smaller<Link>::kMarked) {
      T* const made = exec.scratch<T>(n_scores);
      if (paired) launch<&mark_kernel<Link, T>>(exec, {n_scores, kBlock, kBlock}, in.scores, n_scores, made);
      marks = made;
    }
    const bool whole = aligned(out) && n % kVector<S> == 0;
    if (paired && !in.variance && whole && n >= kSide) {
      constexpr int width = sizeof(S) < 4 ? 4 : kVector<S>;  // of halves, larger squares take too many registers
      const Squares squares(n, kSide);
      launch<&symmetric_matrix_kernel<width, Link, T, S>>(exec, {in.n_problems * squares.columns * squares.rows, 1, kSquareBlock},
                                                          in, marks, squares, out);
      return;
    }
    const auto run = [&]<int width, bool is_paired>() {
      const Index n_chunks = (n + kRows - 1) / kRows;
      launch<&preference_matrix_kernel<width, is_paired, Link, T, S>>(
          exec, {in.n_problems * n_chunks * (n / width), kBlock, kBlock}, in, marks, out);
    };
    if constexpr (sizeof(S) == sizeof(T)) {
      if (!paired) return whole ? run.template operator()<kVector<S>, false>() : run.template operator()<1, false>();
    }
    whole ? run.template operator()<kVector<S>, true>() : run.template operator()<1, true>();
  });
}

// What happened between two items, the first of them named first, and its log-likelihood with the derivative by their
// difference x.
struct Weights {
  double win, loss, tie;
  __device__ bool none() const { return win == 0 && loss == 0 && tie == 0; }
  __device__ bool valid() const { return win >= 0 && loss >= 0 && tie >= 0; }
};
template <class Link>
struct TwoOutcomes {
  static constexpr bool kTies = false;
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
  static constexpr bool kTies = true;
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

// What happened in a problem, or in all of them. A tie in a table without order stands twice: in either triangle it counts half.
template <class Terms, class T>
struct Tables {
  const T *wins, *losses, *ties;
  __device__ Tables from(Index k) const { return {wins + k, losses ? losses + k : losses, ties ? ties + k : ties}; }
  __device__ Weights at(Index k) const {
    return {static_cast<double>(wins[k]), losses ? static_cast<double>(losses[k]) : 0.,
            Terms::kTies ? static_cast<double>(ties[k]) * (losses ? 1. : 0.5) : 0.};
  }
};
template <class Terms, class T>
__device__ Tables<Terms, T> tables_of(const OutcomeLikelihoodIn<T>& in, Index problem) {
  return Tables<Terms, T>{in.pairs.wins, in.pairs.losses, in.ties}.from(problem * in.pairs.n * in.pairs.n);
}

// Of the games between two items: the log-likelihood, NaN where a weight is none, and its derivative by the first score.
struct Sums {
  double value, slope;
};
// `first` is what happened where the first of them was named first, `second` where the second one was; d is how far the scores
// are apart.
template <class Terms, class T>
__device__ Sums of_games(const OutcomeLikelihoodIn<T>& in, const Terms& terms, double d, Weights first, Weights second,
                         bool gradient) {
  const bool agree = in.pairs.losses || first.tie == second.tie;
  Sums sum{first.valid() && second.valid() && agree ? 0. : kNaN<double>, 0};
  const double advantage = in.pairs.first_advantage;
  if (advantage == 0) {  // who was named first does not count
    first = {first.win + second.loss, first.loss + second.win, first.tie + second.tie};
    second = {0, 0, 0};
  }
  // One place in the code for both, and for what their formulas share.
#pragma unroll 1
  for (double sign = 1;; sign = -1) {
    if (!first.none()) {
      const double x = sign * d + advantage;
      sum.value += terms.value(x, first);
      if (gradient) sum.slope += sign * terms.slope(x, first);
    }
    if (sign < 0 || second.none()) return sum;
    first = second;
  }
}

// Problems of up to Group::kThreads items, each of which is a thread's: with all that are 1, 2, ... places after it, in a circle,
// so that each pair comes once.
template <class Group, class Terms, class T>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    likelihood_kernel(OutcomeLikelihoodIn<T> in, Terms terms, T* value, T* gradient) {
  const int n = static_cast<int>(in.pairs.n), i = Group::rank();
  const Group group;
  for (Index problem = Group::first(); Group::first_of_warp(problem) < in.pairs.n_problems; problem += Group::step()) {
    const bool present = problem < in.pairs.n_problems, there = present && i < n;
    const auto tables = tables_of<Terms>(in, there ? problem : 0);
    const double mine = there ? static_cast<double>(in.pairs.scores[problem * n + i]) : 0.;
    Sums sum{mine == mine ? 0. : mine, 0};
    for (int apart = 1; 2 * apart <= n; ++apart) {
      const int after = i + apart < n ? i + apart : i + apart - n, before = i < apart ? i - apart + n : i - apart;
      const double theirs = Group::from(mine, after);
      Sums games{0, 0};
      if (there && (2 * apart < n || i < after)) {
        games = of_games(in, terms, mine - theirs, tables.at(i * n + after), tables.at(after * n + i), gradient);
      }
      sum.value += games.value;
      sum.slope += games.slope - Group::from(games.slope, before);
    }
    const double total = group.reduce(sum.value, [](double a, double b) { return a + b; });
    if (present && i == 0) value[problem] = static_cast<T>(total);  // also of no items
    if (there && gradient) gradient[problem * n + i] = static_cast<T>(total == total ? sum.slope : total);
  }
}

// Larger problems, in squares of kTile on or above the diagonal, each with its mirror image, a block each. `values` are those of
// all squares; `slopes` are the derivatives of all items from each square in turn that they are part of.
constexpr int kTile = 32, kTileBlock = 128;
template <class Terms, class T>
__global__ void __launch_bounds__(kTileBlock, 1)
    likelihood_squares_kernel(OutcomeLikelihoodIn<T> in, Terms terms, Squares squares, double* values, double* slopes) {
  constexpr int kPitch = kTile + 1, kWarps = kTileBlock / kWarp, kRowsOfWarp = kTile / kWarps;
  SOFTMAP_SHARED(T, mirrored, 3 * kTile * kPitch);
  SOFTMAP_SHARED(double, slope, kTile* kPitch);
  const Index n = in.pairs.n;
  const int of_problem = squares.columns * squares.rows, lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp;
  const Tables<Terms, T> other{mirrored, in.pairs.losses ? mirrored + kTile * kPitch : nullptr,
                               in.ties ? mirrored + 2 * kTile * kPitch : nullptr};
  for (Index k = blockIdx.x; k < in.pairs.n_problems * of_problem; k += gridDim.x) {
    const Index problem = k / of_problem;
    int row, column;
    squares.find(static_cast<int>(k - problem * of_problem), row, column);
    const Index top = Index(row) * kTile, left = Index(column) * kTile;
    const auto tables = tables_of<Terms>(in, problem);
    const T* const scores = in.pairs.scores + problem * n;
    for (int r = warp; r < kTile; r += kWarps) {
      if (left + r >= n || top + lane >= n) continue;
      const Index from = (left + r) * n + top + lane;
      const int to = r * kPitch + lane;
      mirrored[to] = tables.wins[from];
      if (tables.losses) mirrored[kTile * kPitch + to] = tables.losses[from];
      if (tables.ties) mirrored[2 * kTile * kPitch + to] = tables.ties[from];
    }
    __syncthreads();
    const Index j = left + lane;
    const double theirs = j < n ? static_cast<double>(scores[j]) : 0.;
    double value = theirs == theirs ? 0. : theirs;
#pragma unroll 1
    for (int r = warp * kRowsOfWarp; r < (warp + 1) * kRowsOfWarp; ++r) {
      const Index i = top + r;
      Sums games{0, 0};
      if (j < n && i < (row == column ? j : n)) {
        const double d = static_cast<double>(scores[i]) - theirs;
        games = of_games(in, terms, d, tables.at(i * n + j), other.at(lane * kPitch + r), slopes != nullptr);
      }
      value += games.value;
      slope[r * kPitch + lane] = games.slope;
    }
    __syncthreads();
    if (slopes && warp < 2) {  // a thread sums a row, or a column, which on the diagonal belong to the same item
      double by_row = 0, by_column = 0;
      for (int c = 0; c < kTile; ++c) {
        if (warp == 0) by_row += slope[lane * kPitch + c];
        if ((warp == 0) == (row == column)) by_column -= slope[c * kPitch + lane];
      }
      const Index item = (warp == 0 ? top : left) + lane;
      double* const part = slopes + (problem * squares.side + (warp == 0 ? column : row)) * n;
      if (item < n && (warp == 0 || row != column)) part[item] = by_row + by_column;
    }
    value = Block<kTileBlock>().reduce(value, [](double a, double b) { return a + b; });
    if (threadIdx.x == 0) values[k] = value;
  }
}

// The value of each problem, a block each.
template <class T>
__global__ void __launch_bounds__(kBlock)
    likelihood_values_kernel(Index n_problems, Index n_squares, const double* values, T* value) {
  for (Index problem = blockIdx.x; problem < n_problems; problem += gridDim.x) {
    double sum = 0;
    for (Index k = threadIdx.x; k < n_squares; k += kBlock) sum += values[problem * n_squares + k];
    sum = Block<kBlock>().reduce(sum, [](double a, double b) { return a + b; });
    if (threadIdx.x == 0) value[problem] = static_cast<T>(sum);
  }
}
// The gradient, all NaN where the value is.
using SomeLanes = Lanes<8, 128>;
template <class T>
__global__ void __launch_bounds__(SomeLanes::kBlockThreads)
    likelihood_gradient_kernel(Index n_problems, Index n, int n_parts, const double* slopes, const T* value, T* gradient) {
  // Neighbouring items of a warp share what it reads.
  const SomeLanes group;
  for (Index k = SomeLanes::first(); SomeLanes::first_of_warp(k) < n_problems * n; k += SomeLanes::step()) {
    const bool there = k < n_problems * n;
    const Index problem = there ? k / n : 0;
    const double* const of_item = slopes + problem * n_parts * n + (k - problem * n);
    double sum = 0;
    for (int part = SomeLanes::rank(); there && part < n_parts; part += SomeLanes::kThreads) sum += of_item[part * n];
    sum = group.reduce(sum, [](double a, double b) { return a + b; });
    if (there && SomeLanes::rank() == 0) gradient[k] = value[problem] == value[problem] ? static_cast<T>(sum) : value[problem];
  }
}

template <class Terms, class T>
void likelihoods(const OutcomeLikelihoodIn<T>& in, const Terms& terms, T* value, T* gradient, const Exec& exec) {
  const Index n = in.pairs.n, n_problems = in.pairs.n_problems;
  if (n_problems == 0) return;
  const auto small = [&]<class Group>() {
    launch<&likelihood_kernel<Group, Terms, T>>(exec, {n_problems, Group::kRowsPerBlock, Group::kBlockThreads}, in, terms, value,
                                                gradient);
  };
  if (n <= 8) return small.template operator()<Lanes<8, 128>>();
  if (n <= kWarp) return small.template operator()<Lanes<kWarp, 128>>();
  const Squares squares(n, kTile);
  const Index n_squares = Index(squares.columns) * squares.rows;
  double* const values = exec.scratch<double>(n_problems * n_squares);
  double* const slopes = gradient ? exec.scratch<double>(n_problems * squares.side * n) : nullptr;
  launch<&likelihood_squares_kernel<Terms, T>>(exec, {n_problems * n_squares, 1, kTileBlock}, in, terms, squares, values, slopes);
  launch<&likelihood_values_kernel<T>>(exec, {n_problems, 1, kBlock}, n_problems, n_squares, static_cast<const double*>(values),
                                       value);
  if (!gradient) return;
  launch<&likelihood_gradient_kernel<T>>(exec, {n_problems * n, SomeLanes::kRowsPerBlock, SomeLanes::kBlockThreads}, n_problems,
                                         n, squares.side, static_cast<const double*>(slopes), static_cast<const T*>(value),
                                         gradient);
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
