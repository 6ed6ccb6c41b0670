#pragma once
#include "core/log.h"

namespace softmap::core {

// 1 / (1 + exp(-x)), the logistic function; computed from e = exp(-|x|), so that neither tail overflows or cancels. The
// quotient by 1 + e, which is s + low exactly, is refined by one step.
template <class V>
SOFTMAP_HD V sigmoid(V x) {
  using T = typename lane<V>::Scalar;
  const V one = V(T(1)), e = exp(-abs(x)), s = one + e, low = e - (s - one), inverse = near_quotient(one, s);
  const V above = select(x < V(T(0)), e, one), q = above * inverse;
  return fmadd(fmadd(-q, s, above) - q * low, inverse, q);
}

// sigmoid(-|x|) and sigmoid(|x|), each with what rounding took from it.
template <class V>
struct Logistic {
  V small, small_low, large, large_low;
};
template <class V>
SOFTMAP_HD Logistic<V> logistic(V x) {
  const V one = V(typename lane<V>::Scalar(1)), e = exp(-abs(x)), s = one + e, low = e - (s - one),
          inverse = near_quotient(one, s);
  const auto rest = [&](V a, V q) { return (fmadd(-q, s, a) - q * low) * inverse; };  // of a / (s + low), beside q
  const V rough_small = e * inverse, small = rough_small + rest(e, rough_small), large = inverse + rest(one, inverse);
  return {small, rest(e, small), large, rest(one, large)};
}

// log sigmoid(x) = min(x, 0) - log1p(exp(-|x|)).
template <class V>
SOFTMAP_HD V log_sigmoid(V x) {
  using T = typename lane<V>::Scalar;
  const V tail = log1p_to_one(exp(-abs(x)));
  return select(x < V(T(0)), x - tail, -tail);
}

// log(1 + exp(x)) = -log sigmoid(-x).
template <class V>
SOFTMAP_HD V softplus(V x) {
  return -log_sigmoid(-x);
}

}  // namespace softmap::core
