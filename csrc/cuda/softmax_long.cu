// Long rows are cut into pieces, all over the device: one kernel sums the pieces, and the next one adds up the sums, in the order
// of the columns, and reads the elements once more. In float, up to 32,768 columns, softmax and log_softmax are shared by a
// cluster of blocks instead, which hold the row in their registers: a tenth faster than by pieces on an H200, where in bfloat16
// and for rows of 128,256 numbers pieces are faster, for the blocks of a cluster wait for each other.
#include "cuda/cluster_group.cuh"
#include "cuda/one_read.cuh"
#include "cuda/softmax_row.cuh"

namespace softmap::cuda {
namespace {

// What the sum of a row comes to.
template <class T>
struct RowTotal {
  Shift<T> shift;
  ExpTotal<T> total;
};

// 1 / sum as Terms are scaled, from the sum as a multiple of exp of the largest z.
template <class S, class T = Compute<S>>
__device__ Inverse<T> share_of_terms(const TermsOf<S>& terms, Total<T> sum, T largest) {
  const T top = terms(largest), m = sum.m * top;
  return Inverse<T>(Total<T>{m, core::fmadd(sum.m, top, -m) + sum.low * top});
}

// Writes n elements of a row.
template <Op op, class S, class Threads, class T = Compute<S>>
__device__ void write_part(const S* x, S* out, Index n, bool vectors, T temperature, const RowTotal<T>& whole) {
  const T largest = whole.shift.largest;
  const ByTemperature<T> by(temperature);
  const auto write = [&](const auto& value) {
    in_pieces<S, Threads>(x, n, vectors, [&](const auto& row, Index at) { row.map(out + at, vectors, value); });
  };
  const InMemory<S, Threads> again{x, n};
  const bool suits = TermsOf<S>::suits(largest, by);
  if constexpr (op == Op::kSoftmax) {
    if (suits) {
      const TermsOf<S> terms(largest, by);
      const auto share = share_of_terms<S>(terms, whole.total.sum(), largest);
      write([&](T v) { return share(terms(v)); });
    } else {
      again.map(out, vectors, Softmax<T>{whole.shift, Inverse<T>(whole.total.sum())});
    }
  } else {
    if (suits) {
      const T excess = whole.total.excess(), maximum = by(largest);
      write([&](T v) { return (by(v) - maximum) - excess; });
    } else {
      again.map(out, vectors, LogSoftmax<T>(whole.shift, whole.total));
    }
  }
}

inline constexpr int kSliceThreads = 512, kSlicePer = 16, kSlices = 4;

// What a block makes of its slice.
template <class T>
struct Slice {
  T largest;
  int count;
  Total<T> rest;
};

// Each block computes by terms of its own, so that the blocks wait for each other once.
template <Op op, class S>
__global__ void __launch_bounds__(kSliceThreads, 2)
    softmax_cluster_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Dense<S> out, Index slice, bool vectors) {
  using T = Compute<S>;
  using Group = Cluster<kSliceThreads>;
  using Threads = Block<kSliceThreads>;
  const Group group;
  const Index n_rows = x.n_rows, n = x.n, begin = static_cast<int>(cluster_rank()) * slice, left = n - begin;
  const int n_here = static_cast<int>(left < 0 ? 0 : left < slice ? left : slice);
  for (Index i = Group::first(); i < n_rows; i += Group::step()) {
    InRegisters<S, Threads, kSlicePer> row(x.row(i) + begin, n_here, vectors);
    const auto put = [&](const auto& from, const auto& value) { from.map(out.row(i) + begin, vectors, value); };
    const ByTemperature<T> by(temperature[i]);
    const T own_largest = largest_of<T>(row, Threads());
    const TermsOf<S> own(own_largest, by);
    ExpTotal<T> total{0, {T(0), T(0)}};
    if constexpr (op == Op::kSoftmax) {
      total.rest = term_sum<S>(row, own, Threads());
    } else {
      total = term_total<S>(row, own, Threads(), own_largest);
    }
    const auto of_one = group.of_blocks(Slice<T>{own_largest, static_cast<int>(total.count), total.rest});
    const T largest = group.over_blocks(of_one.largest, Largest());
    const TermsOf<S> terms(largest, by);
    total = seen_from(terms, largest, TermsOf<S>(of_one.largest, by), of_one.largest, ExpTotal<T>{of_one.count, of_one.rest});
    total = {group.over_blocks(total.count, Add()), group.over_blocks(total.rest, Add())};
    if (!TermsOf<S>::suits(largest, by)) {
      compute_with_care<op>(InMemory<S, Threads>{x.row(i) + begin, n_here}, true, n, group, by.given, put);
    } else if constexpr (op == Op::kSoftmax) {
      const Inverse<T> share(total.rest);
      const T factor = terms.factor_from(own);
      put(row, [&](T p) { return share(p * factor); });
    } else {
      const T excess = of_largest(terms, total).excess(), maximum = by(largest);
      put(row, [&](T v) { return (by(v) - maximum) - excess; });
    }
  }
  Group::leave();
}

// A row in pieces.
struct Pieces {
  Index n_pieces, size;
};
Pieces pieces_of(Index n) {
  constexpr Index kPiece = 16384, kMost = 1024, kMultiple = 16;  // pieces begin where vectors do
  const Index wanted = (n + kPiece - 1) / kPiece, n_pieces = wanted < kMost ? wanted : kMost;
  const Index size = ((n + n_pieces - 1) / n_pieces + kMultiple - 1) / kMultiple * kMultiple;
  return {(n + size - 1) / size, size};
}

using OfPiece = Block<256>;

template <class S>
__global__ void __launch_bounds__(OfPiece::kBlockThreads, 1)
    softmax_parts_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Pieces pieces, bool vectors,
                         RowPart<Compute<S>>* parts) {
  const OfPiece group;
  const Index n = x.n_rows * pieces.n_pieces;
  for (Index j = OfPiece::first(); j < n; j += OfPiece::step()) {
    const Index i = j / pieces.n_pieces, begin = j % pieces.n_pieces * pieces.size, rest = x.n - begin;
    const auto part =
        read_once<S, TermsOf<S>>(x.row(i) + begin, rest < pieces.size ? rest : pieces.size, vectors, group, temperature[i]);
    if (OfPiece::rank() == 0) parts[j] = part;
  }
}

// From the parts of a row.
template <class T>
__device__ RowTotal<T> merged(const RowPart<T>* parts, Index n, const OfPiece& group, T temperature) {
  T largest = -kInf<T>;
  for (Index k = OfPiece::rank(); k < n; k += OfPiece::kThreads) largest = Largest()(largest, parts[k].largest);
  const Shift<T> shift(group.reduce(largest, Largest()), temperature);
  ExpTotal<T> own{0, {T(0), T(0)}};
  for (Index k = OfPiece::rank(); k < n; k += OfPiece::kThreads) {
    const auto part = seen_from(shift, parts[k]);
    own = {own.count + part.count, Add()(own.rest, part.rest)};
  }
  return {shift, sum_over(group, own).lowered()};
}

template <Op op, class S>
__global__ void __launch_bounds__(OfPiece::kBlockThreads, 1)
    softmax_pieces_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Dense<S> out, Pieces pieces, bool vectors,
                          const RowPart<Compute<S>>* parts) {
  const OfPiece group;
  const Index n = x.n_rows * pieces.n_pieces;
  for (Index back = OfPiece::first(); back < n; back += OfPiece::step()) {
    const Index j = n - 1 - back;  // what was read last may still be in the cache
    const Index i = j / pieces.n_pieces, begin = j % pieces.n_pieces * pieces.size, rest = x.n - begin;
    const auto whole = merged(parts + i * pieces.n_pieces, pieces.n_pieces, group, temperature[i]);
    write_part<op, S, OfPiece>(x.row(i) + begin, out.row(i) + begin, rest < pieces.size ? rest : pieces.size, vectors,
                               temperature[i], whole);
  }
}

template <class S>
__global__ void __launch_bounds__(OfPiece::kBlockThreads, 1)
    logsumexp_pieces_kernel(EachRow<Compute<S>> temperature, Dense<S> out, Index n_pieces, const RowPart<Compute<S>>* parts) {
  const OfPiece group;
  for (Index i = OfPiece::first(); i < out.n_rows; i += OfPiece::step()) {
    const auto whole = merged(parts + i * n_pieces, n_pieces, group, temperature[i]);
    if (OfPiece::rank() == 0) out.data[i] = core::to_storage<S>(log_sum(whole.shift.maximum, whole.total));
  }
}

template <Op op, class S>
void by_pieces(const Dense<const S>& x, EachRow<Compute<S>> temperature, const Dense<S>& out, const Exec& exec) {
  using Row = InRegisters<S, OfPiece, kAtOnce>;
  const auto pieces = pieces_of(x.n);
  const Index n_parts = x.n_rows * pieces.n_pieces;
  const bool vectors = Row::suits(x) && (op == Op::kLogSumExp || Row::suits(out));
  auto* const parts = exec.scratch<RowPart<Compute<S>>>(n_parts);
  launch<&softmax_parts_kernel<S>>(exec, {n_parts, 1, OfPiece::kBlockThreads}, x, temperature, pieces, vectors, parts);
  if constexpr (op == Op::kLogSumExp) {
    launch<&logsumexp_pieces_kernel<S>>(exec, {x.n_rows, 1, OfPiece::kBlockThreads}, temperature, out, pieces.n_pieces, parts);
  } else {
    launch<&softmax_pieces_kernel<op, S>>(exec, {n_parts, 1, OfPiece::kBlockThreads}, x, temperature, out, pieces, vectors,
                                          parts);
  }
}

// True where a cluster did it.
template <Op op, class S>
bool by_cluster(const Dense<const S>& x, EachRow<Compute<S>> temperature, const Dense<S>& out, const Exec& exec) {
  using Row = InRegisters<S, Block<kSliceThreads>, kSlicePer>;
  constexpr Index kMultiple = 16;
  if (x.n > kSlices * kSliceThreads * kSlicePer) return false;
  const Index slice = ((x.n + kSlices - 1) / kSlices + kMultiple - 1) / kMultiple * kMultiple;
  const Work work{x.n_rows, 1, kSliceThreads, 0, kSlices};
  constexpr auto kernel = &softmax_cluster_kernel<op, S>;
  if (!has_clusters<kernel>(exec, work)) return false;
  launch<kernel>(exec, work, x, temperature, out, slice, Row::suits(x) && Row::suits(out));
  return true;
}

}  // namespace

template <Op op, class S>
void long_rows(const Rows<const S>& x_given, PerRow<Compute<S>> temperature, const Rows<S>& out_given, const Exec& exec) {
  with_dense(x_given, out_given, exec, [&](const auto& x, const auto& out) {
    if constexpr (op != Op::kLogSumExp && std::is_same_v<S, float>) {
      if (by_cluster<op>(x, on_device(temperature), out, exec)) return;
    }
    by_pieces<op>(x, on_device(temperature), out, exec);
  });
}

#define SOFTMAP_INSTANTIATE_OP(op, S) \
  template void long_rows<op>(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);
#define SOFTMAP_INSTANTIATE(S)               \
  SOFTMAP_INSTANTIATE_OP(Op::kSoftmax, S)    \
  SOFTMAP_INSTANTIATE_OP(Op::kLogSoftmax, S) \
  SOFTMAP_INSTANTIATE_OP(Op::kLogSumExp, S)
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(core::Half)
SOFTMAP_INSTANTIATE(core::BFloat16)
#undef SOFTMAP_INSTANTIATE
#undef SOFTMAP_INSTANTIATE_OP

}  // namespace softmap::cuda
