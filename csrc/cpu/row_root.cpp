// One number a row at which a monotone function of the row takes a given value. All in double, whatever the storage.
#include "core/root.h"
#include "cpu/row_sum.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

using L = Lanes<double>;

// What the lanes of a sum come to.
double total_of(L lanes) {
  double a[L::size], sum = 0;
  lanes.store(a);
  for (int k = 0; k < L::size; ++k) sum += a[k];
  return sum;
}

// t with sum sigmoid(x + t) = target.
double sigmoid_sum_root(const double* x, Index n, double lowest, double highest, double target) {
  const double count = static_cast<double>(n), middle = core::log(target / (count - target));
  if (lowest == highest) return middle - lowest;
  core::IncreasingRoot root(middle - highest, middle - lowest, middle - 0.5 * (lowest + highest));
  const auto f = [&](double t) {
    core::SigmoidSum<L> sum;
    for (Index i = 0; i < n; i += L::size) sum.add(L::load(x + i) + L(t));
    return core::ValueAndSlope{total_of(sum.value) - target, total_of(sum.slope)};
  };
  while (!root.found(f(root.u))) {
  }
  return root.u;
}

// tau with KL(softmax(x / tau) || uniform) = target, from d = x - maximum.
double divergence_root(const double* d, Index n, Index n_largest, double spread, double target) {
  const double count = static_cast<double>(n);
  if (target >= core::log(count / static_cast<double>(n_largest))) return 0;  // reached only in the limit, or never
  const auto f = [&](double log_beta) {
    const double beta = core::exp(log_beta);
    core::DivergenceSums<L> sums;
    for (Index i = 0; i < n; i += L::size) sums.add(L::load(d + i) * L(beta));
    auto v = core::divergence(count, total_of(sums.mass), total_of(sums.first), total_of(sums.second));
    v.value -= target;
    return v;
  };
  const double start = -core::log(spread);
  double low = start, high = start;
  for (double step = 1; f(low).value > 0 && step < 1e4; step *= 2) low -= step;
  for (double step = 1; f(high).value < 0 && step < 1e4; step *= 2) high += step;
  core::IncreasingRoot root(low, high, 0.5 * (low + high));
  while (!root.found(f(root.u))) {
  }
  return core::exp(-root.u);
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
