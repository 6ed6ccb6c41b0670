// All of csrc/core for a device, in both precisions: nvcc must take it without a warning.
// tests/test_core.py checks that no function is left out.
#include "core/beside.h"
#include "core/half.h"
#include "core/ordered.h"
#include "core/pair.h"
#include "core/root.h"

namespace softmap::core {
namespace {

template <class T>
struct Results {
  T* next;
  __device__ void put(T x) { *next++ = x; }
  template <class... More>
  __device__ void put(T x, More... more) {
    put(x), put(more...);
  }
  __device__ void put(bool x) { put(T(x)); }
  __device__ void put(LinkLogs<T> l) { put(l.win, l.loss); }
  __device__ void put(LinkSlopes<T> s) { put(s.win, s.loss, s.win_curve, s.loss_curve); }
  __device__ void put(Outcomes<T> o) { put(o.win, o.loss, o.tie); }
  __device__ void put(Slopes<T> s) { put(s.d, s.t, s.dd, s.dt, s.tt); }
  __device__ void put(Outcomes<Slopes<T>> o) { put(o.win), put(o.loss), put(o.tie); }
};

template <class Link, class T>
__device__ void link_functions(Results<T>& to, T x) {
  to.put(Link::probability(x), Link::log_probability(x));
  to.put(Link::log_probabilities(x));
  to.put(Link::slopes(x));
  const auto between = Link::slopes_between(Link::mark(x), Link::mark(T(1)));
  to.put(between);
  to.put(Link::third(between, Link::mark(x), Link::mark(T(1)), x, x));
  to.put(Link::steepest(x), probability<Link>(x, true), standardised(x, x, x), weighted(x, x));
}

template <class Model, class T>
__device__ void tie_functions(Results<T>& to, T x, T t) {
  to.put(Model::probabilities(x, t));
  to.put(Model::log_probabilities(x, t));
  to.put(Model::slopes(x, t));
}

struct PlainBell {
  static constexpr double kUnit = 1;
  template <class T>
  SOFTMAP_HD T operator()(T x2) const {
    return exp(T(-0.5) * x2);
  }
};

template <class T>
__global__ void all_of_core(const T* in, T* out) {
  const T x = in[0], y = in[1], n = round_even(y);
  Results<T> to{out};
  T low;
  to.put(select(x < y, x, y), max(x, y), min(x, y), abs(x), sqrt(x), fmadd(x, y, n), muladd(x, y, n));
  to.put(any(x < y)), to.put(all(x < y));
  to.put(scale2(x, n), exponent(x), two_sum(x, y, low), low);
  const auto pair = exp_pair(x);
  const auto sum = add(add(empty_sum<T>(), pair.m, pair.low, pair.e), ExpSum<T>{x, y, n});
  to.put(sum.m, sum.low, sum.e, exp(x), expm1(x), log(x), log(x, y, n), log1p(x), sigmoid(x), log_sigmoid(x), softplus(x));
  const auto both = log_ndtr_both(x);
  to.put(quick_upper_tail(abs(x), PlainBell()), Logit::smaller_between(x, y, reciprocal(x + y)));
  const auto share = beside(x, y, n);
  to.put(share.log_probability, share.probability);
  const auto f = logistic(x);
  to.put(f.small, f.small_low, f.large, f.large_low);
  to.put(ndtr(x), log_ndtr(x), both.left, both.right, inverse_mills(x), inverse_mills_curvature(x));
  link_functions<Logit>(to, x), link_functions<Probit>(to, x);
  tie_functions<Davidson>(to, x, y), tie_functions<RaoKupper>(to, x, y), tie_functions<NormalThreshold>(to, x, y);
}
template __global__ void all_of_core(const float*, float*);
template __global__ void all_of_core(const double*, double*);

template <class T>
__global__ void ordered_bits(const T* in, T* out) {
  *out = from_ordered<T>(ordered(*in));
}
template __global__ void ordered_bits(const float*, float*);
template __global__ void ordered_bits(const double*, double*);

template <class T>
__global__ void roots(T* out) {
  IncreasingRoot root(out[0], out[1], out[2]);
  SigmoidSum<double> sum;
  sum.add(root.u);
  if (root.found({sum.value, sum.slope})) return;
  DivergenceSums<double> sums;
  sums.add(root.u);
  root.found(divergence(out[3], sums.mass, sums.first, sums.second));
  out[4] = root.u;
}
template __global__ void roots(double*);

template <class S>
__global__ void halves(const S* in, S* out) {
  *out = to_storage<S>(to_compute(*in));
}
template __global__ void halves(const Half*, Half*);
template __global__ void halves(const BFloat16*, BFloat16*);

}  // namespace
}  // namespace softmap::core
