// Rows that registers hold: each element is read once.
#include "cuda/softmax_row.cuh"

namespace softmap::cuda {
namespace {

// As many threads on a processor as there are registers for, so that some compute while others wait for memory. Of the same code
// ptxas needs more registers for later architectures. 512 threads can have no more than 128.
template <class S, class Group, int per>
constexpr int blocks_at_once() {
  constexpr bool wide = sizeof(Compute<S>) == 8, short_row = Group::kBlockThreads <= 128;
  constexpr bool many = per == 32 && (short_row || kArchitecture >= (sizeof(S) == 4 ? 100 : 120));
  constexpr int n = (wide ? (kArchitecture >= 120 ? 384 : 512) : many ? 768 : 1024) / Group::kBlockThreads;
  return n > 0 ? n : 1;
}

template <Op op, class S, class Group, int per>
__global__ void __launch_bounds__(Group::kBlockThreads, blocks_at_once<S, Group, per>())
    softmax_held_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Dense<S> out, bool vectors) {
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    const Index n_here = there ? n : 0;
    InRegisters<S, Group, per> in_registers(x.row(at), static_cast<int>(n_here), vectors);
    const auto again = [&](bool wanted) { return InMemory<S, Group>{x.row(at), wanted ? n_here : 0}; };
    compute_row<op, S>(
        in_registers, again, n, group, [&] { return ByTemperature(temperature[at]); },
        [&](const auto& row, const auto& value) {
          if constexpr (op != Op::kLogSumExp) {
            row.map(out.row(at), vectors, value);
          } else if (there && Group::rank() == 0) {
            out.data[i] = core::to_storage<S>(value(Compute<S>(0)));
          }
        });
  }
}

// Calls launch_with<Group, per>() for rows of n columns. A thread has 64 bytes of a row: few threads a row, so that little is
// left to be added up between them, and enough for memory to be busy.
template <Op op, class S, class F>
void with_registers(Index n, const F& launch_with) {
  constexpr int per = sizeof(S) == 2 ? 32 : 16;
  if (n <= 64) return launch_with.template operator()<Lanes<4, 128>, 16>();
  if (n <= 4 * per) return launch_with.template operator()<Lanes<4, 128>, per>();
  if (n <= 8 * per) return launch_with.template operator()<Lanes<8, 128>, per>();
  if (n <= 16 * per) return launch_with.template operator()<Lanes<16, 128>, per>();
  if (n <= 32 * per) return launch_with.template operator()<Lanes<32, 128>, per>();
  if (n <= 64 * per) return launch_with.template operator()<Block<64>, per>();
  if (n <= 128 * per) return launch_with.template operator()<Block<128>, per>();
  if (n <= 256 * per) return launch_with.template operator()<Block<256>, per>();
  if (n <= 512 * per) return launch_with.template operator()<Block<512>, per>();
  launch_with.template operator()<Block<kHeldRow<op, S> / 32>, 32>();
}

template <Op op, class S>
void held_rows(const Rows<const S>& x_given, PerRow<Compute<S>> temperature, const Rows<S>& out_given, const Exec& exec) {
  with_dense(x_given, out_given, exec, [&](const auto& x, const auto& out) {
    with_registers<op, S>(x.n, [&]<class Group, int per>() {
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
  if (n <= kHeldRow<op, S>) return held_rows<op>(x, temperature, out, exec);
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
