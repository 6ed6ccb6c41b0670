// Ordered classes from the logits of "above level k": a thread has a row, whose entries are few.
#include "core/logistic.h"
#include "core/pair.h"
#include "cuda/launch.cuh"
#include "pairwise.h"

namespace softmap::cuda {
namespace {

constexpr int kBlock = 128;

template <class Body>
__device__ void each_row(Index n_rows, Body&& body) {
  for (Index i = Index(blockIdx.x) * kBlock + threadIdx.x; i < n_rows; i += Index(gridDim.x) * kBlock) body(i);
}

template <class T>
__global__ void __launch_bounds__(kBlock) ordinal_probabilities_kernel(OrdinalIn<T> in, T* out) {
  each_row(in.n_rows, [&](Index i) {
    const T* const z = in.logits + i * in.n;
    T* const p = out + i * (in.n + 1);
    T reach = T(1);  // probability of level k or more
    for (Index k = 0; k < in.n; ++k) {
      const auto s = core::logistic(z[k]);
      const T above = z[k] < T(0) ? s.small : s.large, below = z[k] < T(0) ? s.large : s.small;
      p[k] = in.conditional ? reach * below : k == 0 ? below : reach - above;
      reach = in.conditional ? reach * above : above;
    }
    p[in.n] = reach;
  });
}

template <class T>
__global__ void __launch_bounds__(kBlock) ordinal_cross_entropy_kernel(OrdinalIn<T> in, OrdinalTarget<T> target, T* out) {
  each_row(in.n_rows, [&](Index i) {
    const T* const z = in.logits + i * in.n;
    const Index level = target.level[i];
    double sum = 0;
    for (Index k = 0; k < in.n; ++k) {
      const T term = core::log_sigmoid(level > k ? z[k] : -z[k]);
      sum += core::weighted(static_cast<double>(target.weights[k]), static_cast<double>(term));
    }
    out[i] = level >= 0 && level <= in.n ? static_cast<T>(-sum) : core::kNaN<T>;
  });
}

}  // namespace

template <class T>
void ordinal_probabilities(const OrdinalIn<T>& in, T* out, const Exec& exec) {
  launch<&ordinal_probabilities_kernel<T>>(exec, {in.n_rows, kBlock, kBlock}, in, out);
}

template <class T>
void ordinal_cross_entropy(const OrdinalIn<T>& in, const OrdinalTarget<T>& target, T* out, const Exec& exec) {
  launch<&ordinal_cross_entropy_kernel<T>>(exec, {in.n_rows, kBlock, kBlock}, in, target, out);
}

#define SOFTMAP_INSTANTIATE(T)                                               \
  template void ordinal_probabilities(const OrdinalIn<T>&, T*, const Exec&); \
  template void ordinal_cross_entropy(const OrdinalIn<T>&, const OrdinalTarget<T>&, T*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
