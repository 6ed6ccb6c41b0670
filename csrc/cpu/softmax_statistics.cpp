// Statistics of the softmax of a row, and sums of parts of a row that are merged later.
#include "cpu/row_terms.h"
#include "cpu/statistics_short.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

// With d = z - maximum, p = exp(d), P = sum p:
//   entropy      log P + sum p |d| / P, two terms that are both at least 0
//   expectation  sum p w / P
//   variance     sum p (w - expectation)^2 / P
//   error_norm   Q sqrt(1 + sum (p / Q)^2) / P, where the sums and Q = sum p are without the target, which is Q away from 1
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
    const auto sum = [&](const auto& terms, auto& totals, T lift = T(0)) {
      if (temperature == T(1)) return sum_row(row, Undivided<T>{shifted.offset()}, terms, totals, lift);
      sum_row(row, shifted, terms, totals, lift);
    };

    double sums[4];  // of p, p |d|, columns above the target, p w
    sum(
        [&](L x, L d, L p, Index at, int count, Sum<L>(&s)[4]) {
          s[0] += p;
          s[1] += select(p == L(T(0)), p, p * -d);
          if (has_target) s[2] += select(x > L(x_target), L(T(1)), L(T(0)));
          if (weights) s[3] += select(p == L(T(0)), p, p * load(weights + at, count, T(0)));
        },
        sums);
    const T expectation = static_cast<T>(sums[3] / sums[0]);
    out.entropy[i] = static_cast<T>(static_cast<double>(excess) + sums[1] / sums[0]);
    out.target_log_probability[i] = d_target - excess;
    out.target_rank[i] = has_target && defined ? static_cast<std::int64_t>(sums[2]) + 1 : 0;
    if (out.error_norm) {
      const auto without_target = [&](L p, Index at, int count) {
        if (target < at || target >= at + count) return p;
        T lanes[L::size];
        p.store(lanes);
        lanes[target - at] = T(0);
        return L::load(lanes);
      };
      double others[1], shares[1];
      sum([&](L, L, L p, Index at, int count, Sum<L>(&s)[1]) { s[0] += without_target(p, at, count); }, others, kErrorLift<T>);
      const L per_other(static_cast<T>(1 / core::max(others[0], static_cast<double>(core::Format<T>::min_normal))));
      sum(
          [&](L, L, L p, Index at, int count, Sum<L>(&s)[1]) {
            const L share = without_target(p, at, count) * per_other;
            s[0] += share * share;
          },
          shares, kErrorLift<T>);
      const double norm = others[0] / sums[0] * core::sqrt(1 + shares[0]);
      out.error_norm[i] = has_target && defined ? static_cast<T>(core::scale2(norm, -double(kErrorLift<T>))) : kNaN<T>;
    }
    if (!weights) return;
    double squares[1];
    sum(
        [&](L, L, L p, Index at, int count, Sum<L>(&s)[1]) {
          const L w = load(weights + at, count, T(0)) - L(expectation);
          s[0] += select(p == L(T(0)), p, p * (w * w));
        },
        squares);
    out.expectation[i] = defined ? expectation : kNaN<T>;
    out.variance[i] = defined ? static_cast<T>(squares[0] / sums[0]) : kNaN<T>;
  });
}

// Rows of up to kMostTransposed numbers, as many at a time as a register has lanes.
template <class S, class T = Compute<S>>
void short_statistics(const Rows<const S>& x, PerRow<T> temperature, PerRow<std::int64_t> target, const T* weights,
                      const StatisticsOut<T>& out, const Exec& exec) {
  using L = Lanes<T>;
  const Index n = x.along.size(), n_rows = x.across.size(), chunk = (rows_per_chunk(n) + L::size - 1) / L::size * L::size;
  parallel_for(exec, n_rows, chunk, n_rows * n, [&](Index begin, Index end, int) {
    for (Index i = begin; i < end; i += L::size) {
      const int count = end - i < L::size ? static_cast<int>(end - i) : L::size;
      T t[L::size], wanted[L::size], special[L::size];
      for (int r = 0; r < L::size; ++r) {
        t[r] = r < count ? temperature[i + r] : T(1);
        if (!(t[r] > T(0) && t[r] < kInf<T>)) t[r] = kNaN<T>;
        const Index k = r < count && target.data ? target[i + r] : Index(-1);
        wanted[r] = k >= 0 && k < n ? static_cast<T>(k) : kNaN<T>;
      }
      statistics_of_columns(Columns<S>(x, i, count), L::load(t), target.data ? wanted : nullptr, weights, out, i, count)
          .store(special);
      for (int r = 0; r < count; ++r) {
        if (special[r] == T(0)) continue;
        S buffer[kMostTransposed];
        const Row<S> row{gather(x, i + r, n, buffer), n, nullptr};
        statistics_row(row, temperature[i + r], weights, target.data ? target[i + r] : Index(-1), i + r, out);
      }
    }
  });
}

// Sum of exp(x) in double, whatever the storage.
template <class S>
Total<double> sum_in_double(const S* x, Index n) {
  constexpr Index kBlock = 2048;
  double block[kBlock];
  Total<double> total{core::empty_sum<double>(), -kInf<double>};
  for (Index first = 0; first < n; first += kBlock) {
    const Index count = n - first < kBlock ? n - first : kBlock;
    for (Index k = 0; k < count; ++k) block[k] = static_cast<double>(core::to_compute(x[first + k]));
    const auto part = sum_segment(static_cast<const double*>(block), count, Plain{}, false);
    total.sum = core::add(total.sum, part.sum);
    total.maximum = core::max(part.maximum, total.maximum);
  }
  return total;
}

// Sum of exp(x) over one piece of a row as m 2^e with m in [1, 2); 0 is (0, -inf).
template <class S>
void partial_row(const Row<S>& row, double& m, double& e) {
  Total<double> parts[Row<S>::kMostSegments + 1];
  row.each_segment([&](Index k, Index first, Index last) { parts[k] = sum_in_double(row.x + first, last - first); });
  Total<double> total{core::empty_sum<double>(), -kInf<double>};
  const Index n_parts = (row.n + row.segment() - 1) / row.segment();
  for (Index k = 0; k < n_parts; ++k) {
    total.sum = core::add(total.sum, parts[k].sum);
    total.maximum = core::max(parts[k].maximum, total.maximum);
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
  if (x.along.size() > 0 && x.along.size() <= kMostTransposed)
    return short_statistics(x, temperature, target, weights, out, exec);
  const Scratch<S> buffer(row_slots(x, x.along.size(), exec), x.along.contiguous() ? 0 : x.along.size());
  each_row(x, x.along.size(), exec, buffer, [&](const Row<S>& row, Index i, int) {
    statistics_row(row, temperature[i], weights, target.data ? target[i] : Index(-1), i, out);
  });
}

template <class S>
void logsumexp_partial(const Rows<const S>& x, double* m, double* e, const Exec& exec) {
  const Scratch<S> buffer(row_slots(x, x.along.size(), exec), x.along.contiguous() ? 0 : x.along.size());
  each_row(x, x.along.size(), exec, buffer, [&](const Row<S>& row, Index i, int) { partial_row(row, m[i], e[i]); });
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
