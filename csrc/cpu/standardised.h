#pragma once
#include "cpu/lanes.h"

namespace softmap::cpu {

// d in units of the standard deviation of the difference.
template <class L>
L standardised(L d, L variance_a, L variance_b) {
  using T = typename core::lane<L>::Scalar;
  const L zero(T(0));
  const auto valid = (zero <= variance_a) & (zero <= variance_b);
  return select(valid, d / sqrt(variance_a + variance_b), L(core::kNaN<T>));
}

}  // namespace softmap::cpu
