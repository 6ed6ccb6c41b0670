#pragma once
// Roots of increasing functions, and the sums over a row whose roots row_root finds.
#include "core/logistic.h"

namespace softmap::core {

struct ValueAndSlope {
  double value, slope;
};

// The root of an increasing f, known to lie in [low, high], by Newton's method kept inside what is left of the bracket. A
// step that is not half of the one before last gives way to a bisection: between two plateaus Newton's method may go to and
// fro for ever. Relative to max(1, |root|) the root is as near as the rounding of f allows.
//
//   while (!root.found(f(root.u))) {}
struct IncreasingRoot {
  double low, high, u;
  double last_step = kInf<double>, before_last = kInf<double>;
  int n_steps = 0;

  SOFTMAP_HD IncreasingRoot(double low_, double high_, double start) : low(low_), high(high_), u(start) {}

  // Takes the function at u, and moves u.
  SOFTMAP_HD bool found(ValueAndSlope at_u) {
    if (at_u.value == 0 || ++n_steps > 2500) return true;
    if (at_u.value < 0) {
      low = u;
    } else {
      high = u;
    }
    double next = u - at_u.value / at_u.slope;
    const bool slow = abs(next - u) > max(0.5 * before_last, 1e-9 * max(1.0, abs(next)));
    if (slow || !(next >= low && next <= high)) next = low + 0.5 * (high - low);
    const double step = abs(next - u), scale = max(1.0, abs(next)), earlier_step = last_step;
    u = next;
    before_last = last_step, last_step = step;
    return step <= 0x1p-52 * scale || (step < 1e-9 * scale && step >= 0.5 * earlier_step);
  }
};

// sum sigmoid(x + t) and its derivative in t. As sigmoid is between those of the smallest and the largest x, so is the root.
template <class V>
struct SigmoidSum {
  V value = V(0.0), slope = V(0.0);
  SOFTMAP_HD void add(V x_plus_t) {
    const V s = sigmoid(x_plus_t);
    value = value + s;
    slope = fmadd(s, V(1.0) - s, slope);
  }
};

// With d = x - maximum, beta = 1 / tau, p = exp(beta d), P = sum p and s = sum p |beta d| / P, the divergence of
// softmax(x / tau) from uniform is log n - log P - s, and its derivative in log beta is the variance of beta d.
template <class V>
struct DivergenceSums {
  V mass = V(0.0), first = V(0.0), second = V(0.0);
  SOFTMAP_HD void add(V beta_d) {
    const V p = exp(beta_d), weighted = select(p == V(0.0), p, p * beta_d);
    mass = mass + p;
    first = first + weighted;
    second = select(p == V(0.0), second, fmadd(weighted, beta_d, second));
  }
};
SOFTMAP_HD ValueAndSlope divergence(double n, double mass, double first, double second) {
  const double mean = first / mass;
  return {log(n / mass) + mean, second / mass - mean * mean};
}

}  // namespace softmap::core
