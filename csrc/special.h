#pragma once
// The functions of core/ that everything pairwise is made of, one by one, for the tests; and what benchmarks compare with: a copy
// past the caches.
#include "views.h"

namespace softmap {

enum class Special {
  sigmoid,
  log_sigmoid,
  softplus,
  ndtr,
  log_ndtr,
  inverse_mills,
  mills_curvature,
  logistic_slope,
  logistic_curvature,
  logit_slope,
  probit_slope,
  copy_past_caches
};

namespace SOFTMAP_BACKEND {

// out[k] = f(x[k]); x and out have the same size. The slopes are the quick ones of core/link.h.
template <class T>
void special(Special f, const T* x, Span<T> out);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
