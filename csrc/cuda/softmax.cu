#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

enum class Op { kSoftmax, kLogSoftmax, kLogSumExp };

// put(value) writes value(x) for each x of the row; for kLogSumExp, value() is one number.
template <Op op, class Row, class Group, class Put, class T = typename Row::T>
__device__ void compute_row(Row& row, Index n, const Group& group, T temperature, const Put& put) {
  const Shift<T> shift(largest_of<T>(row, group), temperature);
  if constexpr (op == Op::kSoftmax) {
    const Inverse<T> share(exp_sum<Row::kKeeps>(row, shift, group));
    put([&](T x) {
      T low;
      if constexpr (!Row::kKeeps) {
        const T d = shift(x, low);
        x = exp_below(d, low);
      }
      return share(x);
    });
  } else {
    const auto total = exp_total(row, shift, group);
    const T excess = shift.largest == kInf<T> ? T(0) : total.excess();
    if constexpr (op == Op::kLogSoftmax) {
      put([&](T x) {
        T low;
        const T d = shift(x, low);
        return core::abs(d) < kInf<T> ? (d - excess) + low : d - excess;
      });
    } else {
      put([&](T) { return n == 0 ? -kInf<T> : log_sum(shift, total); });
    }
  }
}

// Writes what compute_row makes: to a row of out, or one number to its place.
template <Op op, class S, class Row, class Group, class... Vectors>
__device__ void write_row(Row& row, Index n, const Group& group, Compute<S> temperature, const Dense<S>& out, Index i, bool there,
                          Vectors... vectors) {
  compute_row<op>(row, n, group, temperature, [&](const auto& value) {
    if constexpr (op != Op::kLogSumExp) {
      row.map(out.row(i), vectors..., value);
    } else if (there && Group::rank() == 0) {
      out.data[i] = core::to_storage<S>(value(Compute<S>(0)));
    }
  });
}

// Long rows.
template <Op op, class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    softmax_rows_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Dense<S> out) {
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  for (Index i = Group::first(); i < n_rows; i += Group::step()) {
    InMemory<S, Group> row{x.row(i), n};
    write_row<op>(row, n, group, temperature[i], out, i, true);
  }
}

// Rows that registers hold: each element is read once.
template <Op op, class S, class Group, int per>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    softmax_held_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Dense<S> out, bool vectors) {
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    InRegisters<S, Group, per> row(x.row(at), there ? static_cast<int>(n) : 0, vectors);
    write_row<op>(row, n, group, temperature[at], out, at, there, vectors);
  }
}

// Calls launch_with<Group, per>() for rows of n columns, where registers hold them.
template <class F>
bool with_registers(Index n, const F& launch_with) {
  if (n <= 4) {
    launch_with.template operator()<Lanes<1, 128>, 4>();
  } else if (n <= 32) {
    launch_with.template operator()<Lanes<8, 128>, 4>();
  } else if (n <= 256) {
    launch_with.template operator()<Lanes<32, 128>, 8>();
  } else if (n <= 1024) {
    launch_with.template operator()<Lanes<32, 128>, 32>();
  } else if (n <= 4096) {
    launch_with.template operator()<Block<512>, 8>();
  } else if (n <= 16384) {
    launch_with.template operator()<Block<512>, 32>();
  } else {
    return false;
  }
  return true;
}

template <Op op, class S>
void each_row(const Dense<const S>& x, PerRow<Compute<S>> given, const Dense<S>& out, const Exec& exec) {
  const Index n_rows = x.n_rows;
  const auto temperature = on_device(given);
  const bool held = with_registers(x.n, [&]<class Group, int per>() {
    using Row = InRegisters<S, Group, per>;
    const bool vectors = Row::suits(x) && (op == Op::kLogSumExp || Row::suits(out));
    launch<&softmax_held_kernel<op, S, Group, per>>(exec, {n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, x, temperature,
                                                    out, vectors);
  });
  using Group = Block<512>;
  if (!held) launch<&softmax_rows_kernel<op, S, Group>>(exec, {n_rows, 1, Group::kBlockThreads}, x, temperature, out);
}

template <Op op, class S>
void map_rows(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if (x.along.size() == 0 || x.across.size() == 0) return;
  const Unpacked<S> to(out, exec);
  each_row<op>(packed(x, exec), temperature, to.dense(), exec);
  to.finish();
}

}  // namespace

template <class S>
void softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_rows<Op::kSoftmax>(x, temperature, out, exec);
}

template <class S>
void log_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_rows<Op::kLogSoftmax>(x, temperature, out, exec);
}

template <class S>
void logsumexp(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  each_row<Op::kLogSumExp>(packed(x, exec), temperature, Dense<S>{out, 1, x.across.size(), 1}, exec);
}

#define SOFTMAP_INSTANTIATE(S)                                                                      \
  template void softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);     \
  template void log_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&); \
  template void logsumexp(const Rows<const S>&, PerRow<Compute<S>>, S*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(core::Half)
SOFTMAP_INSTANTIATE(core::BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
