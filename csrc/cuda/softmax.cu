#include "cuda/launch.cuh"
#include "cuda/row.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

enum class Map { kSoftmax, kLogSoftmax };

template <Map map, class S, class Row, class Group, class T = Compute<S>>
__device__ void map_row(const Row& row, const Group& group, T temperature, S* out, const Axes& out_along) {
  const Shift<T> shift(largest_of<T>(row, group), temperature);
  const auto total = exp_total<T>(row, shift, group);
  if constexpr (map == Map::kSoftmax) {
    // 1 / (m + low) in two parts, so that the quotient is rounded once.
    const auto sum = total.sum();
    const T scale = T(1) / sum.m, scale_low = scale * (-core::fmadd(sum.m, scale, T(-1)) - sum.low * scale);
    row.map(out, out_along, [&](T x) {
      T low;
      const T d = shift(x, low), p = exp_below(d, low);
      return core::fmadd(p, scale, p * scale_low);
    });
  } else {
    const T excess = shift.largest == kInf<T> ? T(0) : total.excess();
    row.map(out, out_along, [&](T x) {
      T low;
      const T d = shift(x, low);
      return core::abs(d) < kInf<T> ? (d - excess) + low : d - excess;
    });
  }
}

template <Map map, class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads)
    map_rows_kernel(Rows<const S> x, Temperature<Compute<S>> temperature, Rows<S> out) {
  const Group group;
  const Index n_rows = x.across.size(), n = x.along.size();
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    const InMemory<S, Group> row{x.row(at), x.along, there ? n : 0};
    map_row<map, S>(row, group, temperature[at], out.row(at), out.along);
  }
}

template <class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads)
    logsumexp_rows_kernel(Rows<const S> x, Temperature<Compute<S>> temperature, S* out) {
  using T = Compute<S>;
  const Group group;
  const Index n_rows = x.across.size(), n = x.along.size();
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    const InMemory<S, Group> row{x.row(at), x.along, there ? n : 0};
    const Shift<T> shift(largest_of<T>(row, group), temperature[at]);
    const auto total = exp_total<T>(row, shift, group);
    if (there && Group::rank() == 0) out[i] = core::to_storage<S>(n == 0 ? -kInf<T> : log_sum(shift, total));
  }
}

// Calls launch_with<Group>() for the group that suits a row of n columns.
template <class F>
void with_group(Index n, const F& launch_with) {
  if (n <= 4) return launch_with.template operator()<Lanes<1, 128>>();
  if (n <= 32) return launch_with.template operator()<Lanes<8, 128>>();
  if (n <= 1024) return launch_with.template operator()<Lanes<32, 128>>();
  launch_with.template operator()<Block<512>>();
}

template <Map map, class S>
void map_rows(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if (x.along.size() == 0) return;
  with_group(x.along.size(), [&]<class Group>() {
    launch<&map_rows_kernel<map, S, Group>>(exec, {x.across.size(), Group::kRowsPerBlock, Group::kBlockThreads}, x,
                                            temperature_of(temperature), out);
  });
}

}  // namespace

template <class S>
void softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_rows<Map::kSoftmax>(x, temperature, out, exec);
}

template <class S>
void log_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_rows<Map::kLogSoftmax>(x, temperature, out, exec);
}

template <class S>
void logsumexp(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  with_group(x.along.size(), [&]<class Group>() {
    launch<&logsumexp_rows_kernel<S, Group>>(exec, {x.across.size(), Group::kRowsPerBlock, Group::kBlockThreads}, x,
                                             temperature_of(temperature), out);
  });
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
