// One number a row at which a monotone function of the row takes a given value, as in cpu/row_root.cpp. All in double.
#include "core/root.h"
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

struct Smallest {
  __device__ double operator()(double a, double b) const { return core::min(a, b); }
};

template <class Group>
__device__ double sum_of(const Group& group, double value) {
  const auto total = group.reduce(Total<double>{value, 0}, Add());
  return total.m + total.low;
}

// What is known of the columns of a row that are not -inf.
struct Live {
  double lowest, highest;
  long long n, n_largest;
};

template <class Row, class Group>
__device__ double sigmoid_sum_root(Row& row, const Group& group, const Live& live, double target) {
  const double count = static_cast<double>(live.n), middle = core::log(target / (count - target));
  if (!(target > 0 && target < count)) return kNaN<double>;
  if (live.lowest == live.highest) return middle - live.lowest;
  core::IncreasingRoot root(middle - live.highest, middle - live.lowest, middle - 0.5 * (live.lowest + live.highest));
  core::ValueAndSlope f;
  do {
    core::SigmoidSum<double> sum;
    row.each([&](double v, Index) { sum.add(v + root.u); }, [] {});
    f = {sum_of(group, sum.value) - target, sum_of(group, sum.slope)};
  } while (!root.found(f));
  return root.u;
}

template <class Row, class Group>
__device__ double divergence_root(Row& row, const Group& group, const Live& live, double target) {
  const double count = static_cast<double>(live.n);
  if (!(target > 0 && target < kInf<double>)) return kNaN<double>;
  if (target >= core::log(count / static_cast<double>(live.n_largest))) return 0;  // reached only in the limit, or never
  const auto f = [&](double log_beta) {
    const double beta = core::exp(log_beta);
    core::DivergenceSums<double> sums;
    row.each([&](double v, Index) { sums.add((v - live.highest) * beta); }, [] {});
    auto value = core::divergence(count, sum_of(group, sums.mass), sum_of(group, sums.first), sum_of(group, sums.second));
    value.value -= target;
    return value;
  };
  const double start = -core::log(live.highest - live.lowest);
  double low = start, high = start;
  for (double step = 1; f(low).value > 0 && step < 1e4; step *= 2) low -= step;
  for (double step = 1; f(high).value < 0 && step < 1e4; step *= 2) high += step;
  core::IncreasingRoot root(low, high, 0.5 * (low + high));
  while (!root.found(f(root.u))) {
  }
  return core::exp(-root.u);
}

template <class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    row_root_kernel(Dense<const S> x, Root function, EachRow<double> targets, Compute<S>* out) {
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  for (Index i = Group::first(); i < n_rows; i += Group::step()) {
    InDouble<S, Group> row{{x.row(i), n}};
    Live live{kInf<double>, largest_of<double>(row, group), 0, 0};
    row.each(
        [&](double v, Index) {
          const bool lives = v > -kInf<double>;
          if (lives) live.lowest = core::min(v, live.lowest);
          live.n += lives, live.n_largest += v == live.highest;
        },
        [] {});
    live.lowest = group.reduce(live.lowest, Smallest());
    live.n = group.reduce(live.n, Add());
    live.n_largest = group.reduce(live.n_largest, Add());
    double root = kNaN<double>;
    if (live.n > 0 && live.highest < kInf<double> && live.highest - live.lowest < kInf<double>) {
      root = function == Root::kSigmoidSum ? sigmoid_sum_root(row, group, live, targets[i])
                                           : divergence_root(row, group, live, targets[i]);
    }
    if (Group::rank() == 0) out[i] = static_cast<Compute<S>>(root);
  }
}

}  // namespace

template <class S>
void row_root(const Rows<const S>& x, Root function, PerRow<double> target, Compute<S>* out, const Exec& exec) {
  const auto rows = packed(x, exec);
  with_group(rows.n, [&]<class Group>() {
    launch<&row_root_kernel<S, Group>>(exec, {rows.n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, rows, function,
                                       on_device(target), out);
  });
}

#define SOFTMAP_INSTANTIATE(S) template void row_root(const Rows<const S>&, Root, PerRow<double>, Compute<S>*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(core::Half)
SOFTMAP_INSTANTIATE(core::BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
