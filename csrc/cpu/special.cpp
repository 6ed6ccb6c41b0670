#include "special.h"

#include "core/link.h"
#include "cpu/lanes.h"

namespace softmap::cpu {
namespace {

template <class T, class F>
void map(const T* x, Span<T> out, F&& f) {
  using L = Lanes<T>;
  for (Index k = 0; k < out.size; k += L::size) {
    const int count = static_cast<int>(out.size - k < L::size ? out.size - k : L::size);
    f(L::load(x + k, count, T(0))).store(out.data + k, count);
  }
}

template <class T>
void copy_past_caches(const T* x, Span<T> out) {
  using L = Lanes<T>;
  constexpr Index kAhead = 8192 / sizeof(T);
  Index k = 0;
  const auto aligned = [&](Index i) { return reinterpret_cast<std::uintptr_t>(out.data + i) % (L::size * sizeof(T)) == 0; };
  for (; k < out.size && !aligned(k); ++k) out.data[k] = x[k];
  for (; k + L::size <= out.size; k += L::size) {
    __builtin_prefetch(x + k + kAhead);
    stream(L::load(x + k), out.data + k);
  }
  for (; k < out.size; ++k) out.data[k] = x[k];
  stream_fence();
}

template <class Link, class L>
L quick_slope(L x) {
  return Link::slopes_between(Link::mark(x), Link::mark(L(typename core::lane<L>::Scalar(0)))).win;
}

}  // namespace

template <class T>
void special(Special f, const T* x, Span<T> out) {
  using L = Lanes<T>;
  switch (f) {
    case Special::sigmoid:
      return map(x, out, [](L v) { return core::sigmoid(v); });
    case Special::log_sigmoid:
      return map(x, out, [](L v) { return core::log_sigmoid(v); });
    case Special::softplus:
      return map(x, out, [](L v) { return core::softplus(v); });
    case Special::ndtr:
      return map(x, out, [](L v) { return core::ndtr(v); });
    case Special::log_ndtr:
      return map(x, out, [](L v) { return core::log_ndtr(v); });
    case Special::inverse_mills:
      return map(x, out, [](L v) { return core::inverse_mills(v); });
    case Special::mills_curvature:
      return map(x, out, [](L v) { return core::inverse_mills_curvature(v); });
    case Special::logistic_slope:
      return map(x, out, [](L v) { return core::Logit::slopes(v).win; });
    case Special::logistic_curvature:
      return map(x, out, [](L v) { return core::Logit::slopes(v).win_curve; });
    case Special::logit_slope:
      return map(x, out, [](L v) { return quick_slope<core::Logit>(v); });
    case Special::probit_slope:
      return map(x, out, [](L v) { return quick_slope<core::Probit>(v); });
    case Special::copy_past_caches:
      return copy_past_caches(x, out);
  }
}

template void special(Special, const float*, Span<float>);
template void special(Special, const double*, Span<double>);

}  // namespace softmap::cpu
