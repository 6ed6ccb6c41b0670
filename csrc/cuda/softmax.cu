// Rows that registers hold: each element is read once.
#include "cuda/softmax_row.cuh"

namespace softmap::cuda {
namespace {

// Two large blocks side by side, so that one computes while the other waits for memory.
template <class S, class Group>
inline constexpr int kBlocks = Group::kBlockThreads == 512 && sizeof(Compute<S>) == 4 ? 2 : 1;

template <Op op, class S, class Group, int per>
__global__ void __launch_bounds__(Group::kBlockThreads, kBlocks<S, Group>)
    softmax_held_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Dense<S> out, bool vectors) {
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    InRegisters<S, Group, per> row(x.row(at), there ? static_cast<int>(n) : 0, vectors);
    compute_row<op>(row, n, group, temperature[at], [&](const auto& value) {
      if constexpr (op != Op::kLogSumExp) {
        row.map(out.row(at), vectors, value);
      } else if (there && Group::rank() == 0) {
        out.data[i] = core::to_storage<S>(value(Compute<S>(0)));
      }
    });
  }
}

// Calls launch_with<Group, per>() for rows of n columns.
template <class F>
void with_registers(Index n, const F& launch_with) {
  if (n <= 256) {
    launch_with.template operator()<Lanes<32, 128>, 8>();
  } else if (n <= 1024) {
    launch_with.template operator()<Lanes<32, 128>, 32>();
  } else if (n <= 4096) {
    launch_with.template operator()<Block<512>, 8>();
  } else {
    launch_with.template operator()<Block<512>, 32>();
  }
}

template <Op op, class S>
void held_rows(const Rows<const S>& x_given, PerRow<Compute<S>> temperature, const Rows<S>& out_given, const Exec& exec) {
  with_dense(x_given, out_given, exec, [&](const auto& x, const auto& out) {
    with_registers(x.n, [&]<class Group, int per>() {
      using Row = InRegisters<S, Group, per>;
      const bool vectors = Row::suits(x) && (op == Op::kLogSumExp || Row::suits(out));
      launch<&softmax_held_kernel<op, S, Group, per>>(exec, {x.n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, x,
                                                      on_device(temperature), out, vectors);
    });
  });
}

template <Op op, class S>
void map_rows(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  const Index n = x.along.size();
  if (x.across.size() == 0 || (n == 0 && op != Op::kLogSumExp)) return;
  if (n <= kShortRow) return short_rows<op>(x, temperature, out, exec);
  if (n <= kHeldRow) return held_rows<op>(x, temperature, out, exec);
  long_rows<op>(x, temperature, out, exec);
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
  Rows<S> numbers{out, {}, {}};
  numbers.across.n = 1, numbers.across.extent[0] = x.across.size(), numbers.across.stride[0] = 1;
  map_rows<Op::kLogSumExp>(x, temperature, numbers, exec);
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
