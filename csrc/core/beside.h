#pragma once
#include "core/log.h"

namespace softmap::core {

// What a softmax gives one number, as it is and as its logarithm.
template <class V>
struct Share {
  V log_probability, probability;
};

// Of x beside others, whose largest is `top` and whose exponentials come to (1 + rest) exp(top). With d = x - top, e = exp(-|d|):
//
//   d > 0   p = 1 / (1 + more),   more = (1 + rest) e
//   else    p = e / (1 + more),   more = rest + e
//   log p = min(d, 0) - log1p(more)
//
// A top of -inf says that the others are none, or masked: then p = 1. NaN for x = +inf and where none at all is there.
template <class V>
SOFTMAP_HD Share<V> beside(V x, V top, V rest) {
  using T = typename lane<V>::Scalar;
  const V zero = V(T(0)), one = V(T(1)), inf = V(kInf<T>);
  V low;
  const V d = select(x < inf, two_sum(x, -top, low), V(kNaN<T>));
  const auto above = d > zero;
  V e = exp(-abs(d));
  e = fmadd(e, select(e > zero, select(above, -low, low), zero), e);
  const V others = select(top == -inf, zero, rest), more = select(above, fmadd(others, e, e), others + e);
  return {select(above, zero, d) - log1p(more), select(above, one, e) / (one + more)};
}

}  // namespace softmap::core
