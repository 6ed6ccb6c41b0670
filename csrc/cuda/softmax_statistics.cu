// Statistics of the softmax of a row, and sums of parts of a row that are merged later.
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

// Formulas as in cpu/softmax_statistics.cpp: with d = z - maximum, p = exp(d), P = sum p, the entropy is log P + sum p |d| / P.
template <class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    row_statistics_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, EachRow<std::int64_t> targets,
                          const Compute<S>* weights, StatisticsOut<Compute<S>> out) {
  using T = Compute<S>;
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    InMemory<S, Group> row{x.row(at), there ? n : 0};
    const Shift<T> shift(largest_of<T>(row, group), temperature[at]);
    const auto exponentials = exp_total(row, shift, group);
    const std::int64_t target = targets[at];
    const bool defined = core::abs(shift.largest) < kInf<T> && shift.maximum == shift.maximum;
    const bool has_target = target >= 0 && target < n;
    const T excess = defined ? exponentials.excess() : kNaN<T>;
    T ignored;
    const T x_target = has_target ? core::to_compute(row.x[target]) : kNaN<T>, d_target = shift(x_target, ignored);

    Sum<T> mass{}, first{}, weighted{}, squares{};
    long long above = 0;
    row.each(
        [&](T& v, Index k) {
          T low;
          const T d = shift(v, low), p = exp_below(d, low);
          mass += p;
          first += p == T(0) ? p : p * -d;
          above += v > x_target;
          if (weights) weighted += p == T(0) ? p : p * weights[k];
        },
        [&] { mass.fold(), first.fold(), weighted.fold(); });
    const T per_mass = core::reciprocal(total_of(group, mass)), entropy = excess + total_of(group, first) * per_mass;
    const T expectation = total_of(group, weighted) * per_mass;
    const long long rank = group.reduce(above, Add()) + 1;
    if (weights) {
      row.each(
          [&](T& v, Index k) {
            T low;
            const T d = shift(v, low), p = exp_below(d, low), w = weights[k] - expectation;
            squares += p == T(0) ? p : p * (w * w);
          },
          [&] { squares.fold(); });
    }
    const T variance = total_of(group, squares) * per_mass;
    T error_norm = kNaN<T>;
    if (out.error_norm) {
      Sum<T> others{}, shares{};
      const auto other = [&](T v, Index k) {
        T low;
        const T d = shift(v, low);
        return k == target ? T(0) : exp_below(d, low, kLift<T>);
      };
      row.each([&](T& v, Index k) { others += other(v, k); }, [&] { others.fold(); });
      const T missing = total_of(group, others), per_other = T(1) / core::max(missing, core::Format<T>::min_normal);
      row.each(
          [&](T& v, Index k) {
            const T share = other(v, k) * per_other;
            shares += share * share;
          },
          [&] { shares.fold(); });
      error_norm = core::scale2(missing * core::sqrt(T(1) + total_of(group, shares)) * per_mass, T(-kLift<T>));
    }
    if (!there || Group::rank() > 0) continue;
    out.logsumexp[i] = log_sum(shift.maximum, exponentials);
    out.maximum[i] = shift.maximum;
    out.entropy[i] = entropy;
    out.target_log_probability[i] = d_target - excess;
    out.target_rank[i] = has_target && defined ? rank : 0;
    if (out.error_norm) out.error_norm[i] = has_target && defined ? error_norm : kNaN<T>;
    if (!weights) continue;
    out.expectation[i] = defined ? expectation : kNaN<T>;
    out.variance[i] = defined ? variance : kNaN<T>;
  }
}

// The sum of exp(x) as m 2^e with m in [1, 2), from the largest x and the sum of exp(x - largest).
__device__ void as_pair(double largest, Total<double> sum, double& m, double& e) {
  if (!(core::abs(largest) < kInf<double>)) {
    m = largest > 0 ? 1 : largest < 0 ? 0 : kNaN<double>;
    e = largest;
  } else if (core::abs(largest) > core::kExpPairLimit<double>) {  // e log 2 is the largest, and nothing finer can be said
    m = 1;
    e = largest * core::kLog2E<double>;
  } else {
    const auto p = core::exp_pair(largest);
    const double product = core::fmadd(p.m, sum.m, core::fmadd(p.m, sum.low, p.low * sum.m)), k = core::exponent(product);
    m = core::scale2(product, -k);
    e = p.e + k;
  }
}

template <class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads, 1) logsumexp_partial_kernel(Dense<const S> x, double* m, double* e) {
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0;
    InDouble<S, Group> row{{x.row(at), there ? n : 0}};
    const double largest = largest_of<double>(row, group);
    const auto sum = exp_sum(row, Shift<double>(largest, 1.), group);
    if (there && Group::rank() == 0) as_pair(largest, sum, m[i], e[i]);
  }
}

}  // namespace

template <class S>
void row_statistics(const Rows<const S>& x, PerRow<Compute<S>> temperature, PerRow<std::int64_t> target,
                    const Compute<S>* weights, StatisticsOut<Compute<S>> out, const Exec& exec) {
  const auto targets = on_device(target);
  const auto rows = packed(x, exec);
  with_group(rows.n, [&]<class Group>() {
    launch<&row_statistics_kernel<S, Group>>(exec, {rows.n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, rows,
                                             on_device(temperature), targets, weights, out);
  });
}

template <class S>
void logsumexp_partial(const Rows<const S>& x, double* m, double* e, const Exec& exec) {
  const auto rows = packed(x, exec);
  with_group(rows.n, [&]<class Group>() {
    launch<&logsumexp_partial_kernel<S, Group>>(exec, {rows.n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, rows, m, e);
  });
}

#define SOFTMAP_INSTANTIATE(S)                                                                                    \
  template void row_statistics(const Rows<const S>&, PerRow<Compute<S>>, PerRow<std::int64_t>, const Compute<S>*, \
                               StatisticsOut<Compute<S>>, const Exec&);                                           \
  template void logsumexp_partial(const Rows<const S>&, double*, double*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(core::Half)
SOFTMAP_INSTANTIATE(core::BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
