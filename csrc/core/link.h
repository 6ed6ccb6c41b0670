#pragma once
// Links: P(a beats b) = F(d) as a function of the difference d of two scores.
//
// A link is a struct with static members, each over a value type V:
//   probability(d)       F(d)
//   log_probability(d)   log F(d), exact in the far tails
//   slopes(d)            derivatives of log F at d and at -d, which Newton's method needs
#include "core/logistic.h"

namespace softmap::core {

// Derivatives of the log-likelihood of one pair, all at least 0.
template <class V>
struct LinkSlopes {
  V win;         // (log F)'(d)
  V loss;        // (log F)'(-d)
  V win_curve;   // -(log F)''(d)
  V loss_curve;  // -(log F)''(-d)
};

// Bradley-Terry: F(d) = 1 / (1 + exp(-d)). Bradley & Terry 1952.
struct Logit {
  template <class V>
  SOFTMAP_HD static V probability(V d) {
    return sigmoid(d);
  }
  template <class V>
  SOFTMAP_HD static V log_probability(V d) {
    return log_sigmoid(d);
  }
  // (log F)'(d) = F(-d),  -(log F)''(d) = F(d) F(-d)
  template <class V>
  SOFTMAP_HD static LinkSlopes<V> slopes(V d) {
    using T = typename lane<V>::Scalar;
    const V one = V(T(1)), e = exp(-abs(d)), q = one / (one + e), small = e * q, curve = q * small;
    const auto negative = d < V(T(0));
    return {select(negative, q, small), select(negative, small, q), curve, curve};
  }
};

}  // namespace softmap::core
