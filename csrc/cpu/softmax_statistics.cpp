// Statistics of the softmax of a row, and sums of parts of a row that are merged later.
#include "cpu/row_sum.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

// A running sum; low carries what rounding took from m, so that the length of a row does not show.
template <class V>
struct Sum {
  V m{typename core::lane<V>::Scalar(0)}, low{typename core::lane<V>::Scalar(0)};
  void operator+=(V value) {
    V rounding;
    m = core::two_sum(m, value, rounding);
    low = low + rounding;
  }
};

template <class T>
T total_of(const Sum<Lanes<T>>& sum) {
  T m[Lanes<T>::size], low[Lanes<T>::size];
  sum.m.store(m);
  sum.low.store(low);
  Sum<T> total;
  for (int k = 0; k < Lanes<T>::size; ++k) {
    total += m[k];
    total.low += low[k];
  }
  return total.m + total.low;
}

// body(x, d, p, first, count) over a row: d = z minus its maximum and p = exp(d), as lanes; x is -inf beyond the row's end.
template <class S, class Shift, class Body>
void each_exp(const Row<S>& row, const Shift& shifted, const Body& body) {
  using T = Compute<S>;
  using L = Lanes<T>;
  for (Index i = 0; i < row.n; i += L::size) {
    const int count = row.n - i < L::size ? static_cast<int>(row.n - i) : L::size;
    const L x = count == L::size ? load(row.x + i) : load(row.x + i, count, -kInf<T>);
    L d;
    const auto p = exp_of(x, shifted, d);
    body(x, d, scale2(p.m, p.e), i, count);
  }
}

// With d = z - maximum, p = exp(d), P = sum p:
//   entropy      log P + sum p |d| / P, two terms that are both at least 0
//   expectation  sum p w / P
//   variance     sum p (w - expectation)^2 / P
template <class S, class T = Compute<S>>
void statistics_row(const Row<S>& row, T temperature, const T* weights, Index target, Index i, const StatisticsOut<T>& out) {
  with_total(row, temperature, [&](const auto&, const Total<T>& total, const auto& shifted) {
    using L = Lanes<T>;
    const bool defined = special(total) == T(0), has_target = target >= 0 && target < row.n;
    const T excess = defined ? log_excess(row, total, shifted) : kNaN<T>;
    out.logsumexp[i] = defined ? log_sum(total, shifted, excess) : special(total);
    out.maximum[i] = total.sum.m != total.sum.m ? kNaN<T> : shifted.offset();
    T ignored;
    const T x_target = has_target ? core::to_compute(row.x[target]) : kNaN<T>, d_target = shifted(x_target, ignored);

    Sum<L> mass, surprise, first, above;
    each_exp(row, shifted, [&](L x, L d, L p, Index at, int count) {
      mass += p;
      surprise += select(p == L(T(0)), L(T(0)), p * -d);
      above += select(x > L(x_target), L(T(1)), L(T(0)));
      if (weights) first += select(p == L(T(0)), p, p * load(weights + at, count, T(0)));
    });
    const T whole = total_of(mass), expectation = weights ? total_of(first) / whole : kNaN<T>;
    out.entropy[i] = excess + total_of(surprise) / whole;
    out.target_log_probability[i] = d_target - excess;
    out.target_rank[i] = has_target && defined ? static_cast<std::int64_t>(total_of(above)) + 1 : 0;
    if (!weights) return;
    Sum<L> second;
    each_exp(row, shifted, [&](L, L, L p, Index at, int count) {
      const L w = load(weights + at, count, T(0)) - L(expectation);
      second += select(p == L(T(0)), p, p * (w * w));
    });
    out.expectation[i] = defined ? expectation : kNaN<T>;
    out.variance[i] = defined ? total_of(second) / whole : kNaN<T>;
  });
}

constexpr Index kPartialBlock = 4096;

// Sum of exp(x) over one piece of a row as m 2^e with m in [1, 2), in double whatever the storage; 0 is (0, -inf).
template <class S>
void partial_row(const Row<S>& row, double* buffer, double& m, double& e) {
  Total<double> total{core::empty_sum<double>(), -kInf<double>};
  for (Index first = 0; first < row.n; first += kPartialBlock) {
    const Index n = row.n - first < kPartialBlock ? row.n - first : kPartialBlock;
    for (Index k = 0; k < n; ++k) buffer[k] = static_cast<double>(core::to_compute(row.x[first + k]));
    const auto part = sum_segment(static_cast<const double*>(buffer), n, Plain{}, false);
    total.sum = core::add(total.sum, part.sum);
    total.maximum = core::max(part.maximum, total.maximum);
  }
  const double sum = total.sum.m + total.sum.low, outside = special(total);
  const double k = core::exponent(sum);
  m = core::scale2(sum, -k);
  e = total.sum.e + k;
  if (outside != 0) {  // also where it is NaN
    m = outside > 0 ? 1 : outside < 0 ? 0 : kNaN<double>;
    e = outside;
  } else if (!in_range(total.sum)) {  // e log 2 is then the maximum to the last digit, and nothing finer can be said
    m = 1;
    e = total.maximum * core::kLog2E<double>;
  }
}

}  // namespace

template <class S>
void row_statistics(const Rows<const S>& x, PerRow<Compute<S>> temperature, PerRow<std::int64_t> target,
                    const Compute<S>* weights, StatisticsOut<Compute<S>> out, const Exec& exec) {
  const Scratch<S> buffer(row_slots(x, x.along.size(), exec), x.along.contiguous() ? 0 : x.along.size());
  each_row(x, x.along.size(), exec, buffer, [&](const Row<S>& row, Index i, int) {
    statistics_row(row, temperature[i], weights, target.data ? target[i] : Index(-1), i, out);
  });
}

template <class S>
void logsumexp_partial(const Rows<const S>& x, double* m, double* e, const Exec& exec) {
  const int slots = row_slots(x, x.along.size(), exec);
  const Scratch<S> buffer(slots, x.along.contiguous() ? 0 : x.along.size());
  const Scratch<double> block(slots, kPartialBlock);
  each_row(x, x.along.size(), exec, buffer,
           [&](const Row<S>& row, Index i, int slot) { partial_row(row, block[slot], m[i], e[i]); });
}

#define SOFTMAP_INSTANTIATE(S)                                                                                    \
  template void row_statistics(const Rows<const S>&, PerRow<Compute<S>>, PerRow<std::int64_t>, const Compute<S>*, \
                               StatisticsOut<Compute<S>>, const Exec&);                                           \
  template void logsumexp_partial(const Rows<const S>&, double*, double*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
