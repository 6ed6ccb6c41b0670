#pragma once
// What the operations on pairs of items share, over a link or a tie model.
#include "core/ties.h"

namespace softmap::core {

// w x, and exactly 0 for a weight of 0.
template <class V>
SOFTMAP_HD V weighted(V w, V x) {
  return select(w == V(typename lane<V>::Scalar(0)), w, w * x);
}

// d in units of the standard deviation of the difference, NaN for a variance that is negative or NaN.
template <class V>
SOFTMAP_HD V standardised(V d, V variance_a, V variance_b) {
  using T = typename lane<V>::Scalar;
  const V zero(T(0));
  const auto valid = (zero <= variance_a) & (zero <= variance_b);
  return select(valid, d / sqrt(variance_a + variance_b), V(kNaN<T>));
}

// F(x). As one of a pair whose probabilities add up to 1: the smaller one is computed, the other is 1 minus it.
template <class Link, class V>
SOFTMAP_HD V probability(V x, bool paired) {
  using T = typename lane<V>::Scalar;
  if (!paired) return Link::probability(x);
  const V smaller = Link::probability(-abs(x));
  return select(x > V(T(0)), V(T(1)) - smaller, smaller);
}

}  // namespace softmap::core
