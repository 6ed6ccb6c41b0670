// Short rows: a few lanes a row, and many rows a block, whose elements lie side by side and are moved as one piece. Rows that
// fill a vector of 16 bytes together are a thread's.
#include "cuda/softmax_row.cuh"

namespace softmap::cuda {
namespace {

inline constexpr int kThreads = 128;

template <class S>
inline constexpr int kVector = 16 / sizeof(S);
template <class S>
struct alignas(16) Vector {
  S element[kVector<S>];
};

// Rows of n columns side by side, all at one temperature, and both arrays aligned. What is computed once for all rows, and that
// a vector has several of them, halves the instructions of a row at least.
template <Op op, class S, int n>
__global__ void __launch_bounds__(kThreads, 1) softmax_packed_kernel(Dense<const S> x, Compute<S> temperature, Dense<S> out) {
  using Group = Lanes<1, kThreads>;
  using Row = InRegisters<S, Group, n>;
  const Group group;
  const ByTemperature<Compute<S>> by(temperature);
  const Index n_elements = x.n_rows * n, n_vectors = (n_elements + kVector<S> - 1) / kVector<S>;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_vectors; i += Group::step()) {
    const Index begin = i * kVector<S>, left = n_elements - begin;
    Vector<S> v{};
    if (left >= kVector<S>) {
      v = *reinterpret_cast<const Vector<S>*>(x.data + begin);
    } else {
#pragma unroll
      for (int k = 0; k < kVector<S>; ++k) {
        if (k < left) v.element[k] = x.data[begin + k];
      }
    }
#pragma unroll
    for (int r = 0; r < kVector<S>; r += n) {
      Row row(v.element + r, n, false);
      const auto again = [&](bool wanted) -> const Row { return {v.element + r, wanted ? n : 0, false}; };
      compute_row<op, S>(
          row, again, n, group, [&] { return by; },
          [&](const auto& from, const auto& value) { from.map(v.element + r, false, value); });
    }
    if (left >= kVector<S>) {
      *reinterpret_cast<Vector<S>*>(out.data + begin) = v;
    } else {
#pragma unroll
      for (int k = 0; k < kVector<S>; ++k) {
        if (k < left) out.data[begin + k] = v.element[k];
      }
    }
  }
}

// n elements between global and shared memory, 16 bytes a thread where they are aligned.
template <class S>
__device__ void copy_tile(const S* from, S* to, int n, bool vectors) {
  const int whole = vectors ? n / kVector<S> : 0;
#pragma unroll 4
  for (int k = static_cast<int>(threadIdx.x); k < whole; k += kThreads) {
    reinterpret_cast<Vector<S>*>(to)[k] = reinterpret_cast<const Vector<S>*>(from)[k];
  }
  for (int k = whole * kVector<S> + static_cast<int>(threadIdx.x); k < n; k += kThreads) to[k] = from[k];
}

// How the rows of a tile are reached: by vectors where they lie, element by element there, or by way of shared memory.
enum class Way { kVectors, kElements, kTile, kTileByVectors };

template <Op op, class S, int n_lanes, int per>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_short_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Dense<S> out, Way way) {
  using Group = Lanes<n_lanes, kThreads>;
  constexpr int kRows = 4 * Group::kRowsPerBlock;
  SOFTMAP_SHARED(S, tile, kRows * n_lanes * per);
  const Group group;
  const Index n_rows = x.n_rows;
  const int n = static_cast<int>(x.n);
  const bool by_tile = way == Way::kTile || way == Way::kTileByVectors, vectors = way == Way::kVectors;
  for (Index first = Index(blockIdx.x) * kRows; first < n_rows; first += Index(gridDim.x) * kRows) {
    const int n_here = n_rows - first < kRows ? static_cast<int>(n_rows - first) : kRows;
    if (by_tile) {
      copy_tile(x.row(first), tile, n_here * n, way == Way::kTileByVectors);
      __syncthreads();
    }
#pragma unroll 1
    for (int r = Group::index(); r < kRows; r += Group::kRowsPerBlock) {
      const bool there = r < n_here;
      const Index i = there ? first + r : first;
      const S* const from = by_tile ? tile + r * n : x.row(i);
      const int n_columns = there ? n : 0;
      InRegisters<S, Group, per> in_registers(from, n_columns, vectors);
      const auto again = [&](bool wanted) { return InMemory<S, Group>{from, wanted ? n_columns : 0}; };
      compute_row<op, S>(
          in_registers, again, n, group, [&] { return ByTemperature(temperature[i]); },
          [&](const auto& row, const auto& value) {
            if constexpr (op != Op::kLogSumExp) {
              row.map(by_tile ? tile + r * n : out.row(i), vectors, value);
            } else if (there && Group::rank() == 0) {
              out.data[i] = core::to_storage<S>(value(Compute<S>(0)));
            }
          });
    }
    if (!by_tile) continue;
    __syncthreads();
    if (op == Op::kLogSumExp) continue;
    copy_tile(tile, out.row(first), n_here * n, way == Way::kTileByVectors);
    __syncthreads();
  }
}

template <class S>
bool is_aligned(const Dense<S>& rows) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0;
}

}  // namespace

template <Op op, class S>
void short_rows(const Rows<const S>& x_given, PerRow<Compute<S>> temperature, const Rows<S>& out_given, const Exec& exec) {
  with_dense(x_given, out_given, exec, [&](const auto& x, const auto& out) {
    const auto with = [&]<int n_lanes, int per>() {
      using Group = Lanes<n_lanes, kThreads>;
      using Row = InRegisters<S, Group, per>;
      constexpr bool numbers = op == Op::kLogSumExp;
      const bool together = x.stride == x.n && (numbers || out.stride == out.n);
      const bool aligned = is_aligned(x) && (numbers || is_aligned(out));
      if constexpr (!numbers && n_lanes == 1 && kVector<S> % per == 0) {
        if (x.n == per && together && aligned && temperature.stride == 0) {
          const Index n_vectors = (x.n_rows * per + kVector<S> - 1) / kVector<S>;
          return launch<&softmax_packed_kernel<op, S, per>>(exec, {n_vectors, kThreads, kThreads}, x, *temperature.data, out);
        }
      }
      const bool direct = Row::kVector > 1 && Row::suits(x) && (numbers || Row::suits(out));
      const Way way = direct ? Way::kVectors : !together ? Way::kElements : aligned ? Way::kTileByVectors : Way::kTile;
      launch<&softmax_short_kernel<op, S, n_lanes, per>>(exec, {x.n_rows, 4 * Group::kRowsPerBlock, kThreads}, x,
                                                         on_device(temperature), out, way);
    };
    if (x.n <= 2) return with.template operator()<1, 2>();
    if (x.n <= 4) return with.template operator()<1, 4>();
    if (x.n == 5) return with.template operator()<1, 5>();
    if (x.n <= 8) return with.template operator()<1, 8>();
    if (x.n <= 16) return with.template operator()<2, 8>();
    with.template operator()<4, 8>();
  });
}

#define SOFTMAP_INSTANTIATE_OP(op, S) \
  template void short_rows<op>(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);
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
