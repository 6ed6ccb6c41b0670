// One number a row at which a monotone function of the row takes a given value. All in double, whatever the storage.
#include "core/logistic.h"
#include "cpu/row_sum.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

using L = Lanes<double>;

struct Value {
  double value, slope;
};

// The root of an increasing f, known to lie in [low, high], by Newton's method kept inside what is left of the bracket. A
// step that is not half of the one before last gives way to a bisection: between two plateaus Newton's method may go to and
// fro for ever. Relative to max(1, |root|) the root is as near as the rounding of f allows.
template <class F>
double increasing_root(const F& f, double low, double high, double u) {
  double last_step = kInf<double>, before_last = kInf<double>;
  for (int k = 0; k < 2500; ++k) {
    const Value v = f(u);
    if (v.value == 0) return u;
    (v.value < 0 ? low : high) = u;
    double next = u - v.value / v.slope;
    const bool slow = core::abs(next - u) > core::max(0.5 * before_last, 1e-9 * core::max(1.0, core::abs(next)));
    if (slow || !(next >= low && next <= high)) next = low + 0.5 * (high - low);
    const double step = core::abs(next - u), scale = core::max(1.0, core::abs(next));
    if (step <= 0x1p-52 * scale || (step < 1e-9 * scale && step >= 0.5 * last_step)) return next;
    before_last = last_step, last_step = step;
    u = next;
  }
  return u;
}

// t with sum sigmoid(x + t) = target. As sigmoid is between those of the smallest and the largest x, so is the root.
double sigmoid_sum_root(const double* x, Index n, double lowest, double highest, double target) {
  const double count = static_cast<double>(n), middle = core::log(target / (count - target));
  const auto f = [&](double t) {
    L sum(0.0), slope(0.0);
    for (Index i = 0; i < n; i += L::size) {
      const L s = core::sigmoid(L::load(x + i) + L(t));
      sum = sum + s;
      slope = fmadd(s, L(1.0) - s, slope);
    }
    double a[L::size], b[L::size];
    sum.store(a), slope.store(b);
    Value v{-target, 0};
    for (int k = 0; k < L::size; ++k) v.value += a[k], v.slope += b[k];
    return v;
  };
  if (lowest == highest) return middle - lowest;
  return increasing_root(f, middle - highest, middle - lowest, middle - 0.5 * (lowest + highest));
}

// tau with KL(softmax(x / tau) || uniform) = target, from d = x - maximum. With beta = 1 / tau, p = exp(beta d), P = sum p and
// s = sum p |beta d| / P, the divergence is log n - log P - s, and its derivative in log beta is the variance of beta d.
double divergence_root(const double* d, Index n, Index n_largest, double spread, double target) {
  const double count = static_cast<double>(n);
  if (target >= core::log(count / static_cast<double>(n_largest))) return 0;  // reached only in the limit, or never
  const auto f = [&](double log_beta) {
    const double beta = core::exp(log_beta);
    L mass(0.0), first(0.0), second(0.0);
    for (Index i = 0; i < n; i += L::size) {
      const L z = L::load(d + i) * L(beta), p = core::exp(z);
      const L weighted = select(p == L(0.0), p, p * z);
      mass = mass + p;
      first = first + weighted;
      second = select(p == L(0.0), second, fmadd(weighted, z, second));
    }
    double a[L::size], b[L::size], c[L::size];
    mass.store(a), first.store(b), second.store(c);
    for (int k = 1; k < L::size; ++k) a[0] += a[k], b[0] += b[k], c[0] += c[k];
    const double mean = b[0] / a[0];
    return Value{core::log(count / a[0]) + mean - target, c[0] / a[0] - mean * mean};
  };
  const double start = -core::log(spread);
  double low = start, high = start;
  for (double step = 1; f(low).value > 0 && step < 1e4; step *= 2) low -= step;
  for (double step = 1; f(high).value < 0 && step < 1e4; step *= 2) high += step;
  return core::exp(-increasing_root(f, low, high, 0.5 * (low + high)));
}

template <class S, class T = Compute<S>>
T root_row(const Row<S>& row, Root function, double target, double* x) {
  double lowest = kInf<double>, highest = -kInf<double>;
  Index n = 0, n_largest = 0;
  for (Index i = 0; i < row.n; ++i) {
    const double v = static_cast<double>(core::to_compute(row.x[i]));
    if (v == -kInf<double>) continue;
    if (!(v < kInf<double>)) return kNaN<T>;
    n_largest = v > highest ? 1 : n_largest + (v == highest);
    lowest = core::min(v, lowest), highest = core::max(v, highest);
    x[n++] = v;
  }
  const Index whole = (n + L::size - 1) / L::size * L::size;
  for (Index i = n; i < whole; ++i) x[i] = -kInf<double>;
  if (n == 0 || !(highest - lowest < kInf<double>)) return kNaN<T>;
  if (function == Root::kSigmoidSum) {
    if (!(target > 0 && target < static_cast<double>(n))) return kNaN<T>;
    return static_cast<T>(sigmoid_sum_root(x, n, lowest, highest, target));
  }
  if (!(target > 0 && target < kInf<double>)) return kNaN<T>;
  for (Index i = 0; i < n; ++i) x[i] -= highest;
  return static_cast<T>(divergence_root(x, n, n_largest, highest - lowest, target));
}

}  // namespace

template <class S>
void row_root(const Rows<const S>& x, Root function, PerRow<double> target, Compute<S>* out, const Exec& exec) {
  const Index n = x.along.size();
  const int slots = row_slots(x, n, exec);
  const Scratch<S> buffer(slots, x.along.contiguous() ? 0 : n);
  const Scratch<double> live(slots, n);
  each_row(x, n, exec, buffer,
           [&](const Row<S>& row, Index i, int slot) { out[i] = root_row(row, function, target[i], live[slot]); });
}

#define SOFTMAP_INSTANTIATE(S) template void row_root(const Rows<const S>&, Root, PerRow<double>, Compute<S>*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
