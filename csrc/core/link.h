#pragma once
// Links: P(a beats b) = F(d) as a function of the difference d of two scores.
//
// A link is a struct with static members, each over a value type V:
//   probability(d)         F(d)
//   log_probability(d)     log F(d), exact in the far tails
//   log_probabilities(d)   log F(d) and log F(-d)
//   slopes(d)              derivatives of log F at d and at -d, which Newton's method needs
//   mark(s)                what slopes_between needs of a score, |s| <= kReach
//   slopes_between(a, b)   slopes(s_a - s_b) of the marks of two scores, each off by 2^-49 max(1, |d|) at most
//   kUnit                  about what a difference of 1 in the scores of the logistic link is in those of this one
//   steepest(d)            what (log F)' does not exceed within |d|
//   third(f, a, b, w, l)   third derivative of w log F(d) + l log F(-d) by d, roughly, with f = slopes_between(a, b)
//   kBend, kTwist          what |(log F)'''| and |(log F)''''| do not exceed
#include "core/logistic.h"
#include "core/normal.h"

namespace softmap::core {

template <class V>
struct LinkLogs {
  V win;   // log F(d)
  V loss;  // log F(-d)
};

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
  static constexpr double kUnit = 1, kReach = 40, kBend = 0.0963, kTwist = 0.125;
  template <class V>
  SOFTMAP_HD static V probability(V d) {
    return sigmoid(d);
  }
  template <class V>
  SOFTMAP_HD static V log_probability(V d) {
    return log_sigmoid(d);
  }
  template <class V>
  SOFTMAP_HD static LinkLogs<V> log_probabilities(V d) {
    const V zero = V(typename lane<V>::Scalar(0)), tail = log1p_to_one(exp(-abs(d)));
    return {min(d, zero) - tail, min(-d, zero) - tail};
  }
  // (log F)'(d) = F(-d),  -(log F)''(d) = F(d) F(-d)
  template <class V>
  SOFTMAP_HD static LinkSlopes<V> slopes(V d) {
    const auto f = logistic(d);
    const V curve = fmadd(f.small, f.large, fmadd(f.small, f.large_low, f.small_low * f.large));
    const auto negative = d < V(typename lane<V>::Scalar(0));
    return {select(negative, f.large, f.small), select(negative, f.small, f.large), curve, curve};
  }
  template <class V>
  SOFTMAP_HD static V mark(V s) {
    return exp(s);
  }
  // F(s_a - s_b) = exp(s_a) / (exp(s_a) + exp(s_b)): an exponential an item, not a pair.
  template <class V>
  SOFTMAP_HD static LinkSlopes<V> slopes_between(V a, V b) {
    const V inverse = reciprocal(a + b), up = b * inverse, down = a * inverse, curve = up * down;
    return {up, down, curve, curve};
  }
  template <class V>
  SOFTMAP_HD static V third(const LinkSlopes<V>& f, V, V, V w, V l) {
    return (w + l) * f.win_curve * (f.loss - f.win);
  }
  // min(F(d), F(-d)) for d = s_a - s_b from the marks of both, with |s| <= kMarkReach, and from the first half of the bits of
  // 1 / (a + b). The sum of the marks is s + low exactly.
  template <class T>
  static constexpr T kMarkReach = sizeof(T) > 4 ? T(690) : T(85);
  template <class V>
  SOFTMAP_HD static V smaller_between(V a, V b, V inverse) {
    const V large = max(a, b), small = min(a, b), s = a + b, low = small - (s - large), q = small * inverse;
    return fmadd(fmadd(-q, low, fmadd(-q, s, small)), inverse, q);
  }
  template <class V>
  SOFTMAP_HD static V steepest(V) {
    return V(typename lane<V>::Scalar(1));
  }
};

// Thurstone's case V with variances 1/2: F(d) = Phi(d). Thurstone 1927.
struct Probit {
  static constexpr double kUnit = 0.6, kReach = 20, kBend = 0.2968, kTwist = 0.189;
  template <class V>
  SOFTMAP_HD static V probability(V d) {
    return ndtr(d);
  }
  template <class V>
  SOFTMAP_HD static V log_probability(V d) {
    return log_ndtr(d);
  }
  template <class V>
  SOFTMAP_HD static LinkLogs<V> log_probabilities(V d) {
    const auto l = log_ndtr_both(abs(d));
    const auto negative = d < V(typename lane<V>::Scalar(0));
    return {select(negative, l.left, l.right), select(negative, l.right, l.left)};
  }
  template <class V>
  SOFTMAP_HD static LinkSlopes<V> slopes(V d) {
    const auto s = normal_slopes(abs(d));
    const auto negative = d < V(typename lane<V>::Scalar(0));
    return {select(negative, s.left, s.right), select(negative, s.right, s.left), select(negative, s.left_curve, s.right_curve),
            select(negative, s.right_curve, s.left_curve)};
  }
  template <class V>
  SOFTMAP_HD static V mark(V s) {
    return s;
  }
  template <class V>
  SOFTMAP_HD static LinkSlopes<V> slopes_between(V a, V b) {
    const V d = a - b;
    const auto s = quick_normal_slopes(abs(d));
    const auto negative = d < V(typename lane<V>::Scalar(0));
    return {select(negative, s.left, s.right), select(negative, s.right, s.left), select(negative, s.left_curve, s.right_curve),
            select(negative, s.right_curve, s.left_curve)};
  }
  // (log F)''' = r (c - 1) + c (d + r) with r = (log F)' and c = -(log F)''.
  template <class V>
  SOFTMAP_HD static V third(const LinkSlopes<V>& f, V a, V b, V w, V l) {
    const V d = a - b, one = V(typename lane<V>::Scalar(1));
    return w * fmadd(f.win_curve, d + f.win, f.win * (f.win_curve - one)) -
           l * fmadd(f.loss_curve, f.loss - d, f.loss * (f.loss_curve - one));
  }
  template <class V>
  SOFTMAP_HD static V steepest(V d) {
    return V(typename lane<V>::Scalar(1)) + abs(d);
  }
};

}  // namespace softmap::core
