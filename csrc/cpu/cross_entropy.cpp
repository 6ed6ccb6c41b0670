// Cross-entropy of two softmaxes, row by row, and what both give a column that is left out of it.
//
// With u = softmax(b / temperature), v = softmax(a / temperature), z = a / temperature and A, B their sums of exponentials as
// multiples of the largest one, -sum u log v is a sum of two terms that are both at least 0:
//
//   log A + (sum of exp(b / temperature - maximum) (maximum - z)) / B
#include "core/beside.h"
#include "cpu/log_softmax_short.h"
#include "cpu/row_terms.h"
#include "cpu/statistics_short.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

template <class S>
struct Arguments {
  Rows<const S> a, b;
  Compute<S> temperature;
  PerRow<std::int64_t> left_out;

  Index n() const { return a.along.size(); }
  // Of row i; -1 where it is none of the columns.
  Index column(Index i) const {
    const auto k = left_out[i];
    return k >= 0 && k < n() ? static_cast<Index>(k) : -1;
  }
};

// z minus its maximum, whatever overflows on the way there; as Shifted and ShiftedFirst.
template <class T>
struct Below {
  T temperature, largest, maximum;
  bool divides, overflows;
  Below(T largest_x, T t)
      : temperature(t),
        largest(largest_x),
        maximum(t == T(1) ? largest : largest / t),
        divides(t != T(1)),
        overflows(!(core::abs(maximum) < kInf<T>) && core::abs(largest) < kInf<T>) {}
  template <class V>
  V operator()(V x, V& low) const {
    if (overflows) return (x - V(largest)) / V(temperature);
    return core::two_sum(divides ? x / V(temperature) : x, V(-maximum), low);
  }
};

// The largest number of a row; NaN where that is among them.
template <class S, class T = Compute<S>>
T largest_of(const Row<S>& row) {
  using L = Lanes<T>;
  T parts[Row<S>::kMostSegments + 1];
  const Index n_parts = row.each_segment([&](Index part, Index first, Index last) {
    L top(-kInf<T>);
    for (Index k = first; k < last; k += L::size) {
      const L x = last - k < L::size ? load(row.x + k, static_cast<int>(last - k), -kInf<T>) : load(row.x + k);
      top = select(x == x, max(x, top), x);  // max(x, NaN) is NaN
    }
    T lanes[L::size];
    top.store(lanes);
    parts[part] = lanes[0];
    for (const T lane : lanes) parts[part] = lane == lane ? core::max(lane, parts[part]) : lane;
  });
  T largest = -kInf<T>;
  for (Index k = 0; k < n_parts; ++k) largest = parts[k] == parts[k] ? core::max(parts[k], largest) : parts[k];
  return largest;
}

// One row, of which `a` and `b` have the left-out column as -inf; own_a and own_b are what they had there.
template <class S, class T = Compute<S>>
void one_row(const Row<S>& a, const Row<S>& b, T temperature, Index column, T own_a, T own_b, Index i,
             const CrossEntropyOut<T>& out) {
  using L = Lanes<T>;
  const T top_a = largest_of(a), top_b = largest_of(b), one(1);
  const bool again = out.probability && temperature != one;
  for (int pass = 0; pass <= (again ? 1 : 0); ++pass) {
    const T t = pass == 0 ? temperature : one;
    const Below<T> below_a(top_a, t), below_b(top_b, t);
    double sums[5];  // of the largest of a and of b, the others of both, and the products
    sum_row(
        b, below_b,
        [&](L, L d_b, L p_b, Index at, int count, Sum<L>(&s)[5]) {
          const L zero(T(0)), x_a = count == L::size ? load(a.x + at) : load(a.x + at, count, -kInf<T>);
          L d_a;
          const auto pair = exp_of(x_a, below_a, d_a);
          const L p_a = scale2(pair.m, pair.e);
          const auto add = [&](L d, L p, Sum<L>& largest, Sum<L>& others) {
            largest += select(d == zero, L(one), zero);
            others += select(d == zero, zero, p);
          };
          add(d_a, p_a, s[0], s[2]), add(d_b, p_b, s[1], s[3]);
          s[4] += select(p_b == zero, p_b, p_b * -d_a);
        },
        sums);
    const T rest_a = static_cast<T>(sums[0] - 1 + sums[2]), rest_b = static_cast<T>(sums[1] - 1 + sums[3]);
    const bool empty = a.n == (column < 0 ? 0 : 1);
    // A product that is infinite makes NaN of their sum; NaN elsewhere shows in the other sums.
    const double product = core::abs(sums[4]) < kInf<double> ? sums[4] : kInf<double>;
    const T mean = static_cast<T>(product / (sums[1] + sums[3]));
    if (pass == 0) out.cross_entropy[i] = empty ? T(0) : core::log1p(rest_a) + mean;
    if (!out.probability || t != one) continue;
    out.log_probability[i] = column < 0 ? kNaN<T> : core::beside(own_a, top_a, rest_a).log_probability;
    out.probability[i] = column < 0 ? kNaN<T> : core::beside(own_b, top_b, rest_b).probability;
  }
}

// A row with -inf in the column, if there is one, and what was there in `own`. The row may lie in the buffer.
template <class S>
const S* without(const S* row, Index n, Index column, S* buffer, Compute<S>& own) {
  if (column < 0) return row;
  if (row != buffer) {
    for (Index k = 0; k < n; ++k) buffer[k] = row[k];
  }
  own = core::to_compute(row[column]);
  buffer[column] = core::to_storage<S>(-kInf<Compute<S>>);
  return buffer;
}

// Rows first .. first + count, a lane each; as in one_row. The lanes in the result are 1 for the rows that must be taken by
// themselves: those with NaN, without a finite maximum, or out of the range of ScaledExp.
template <class S, class T = Compute<S>, class L = Lanes<T>>
__attribute__((flatten)) L rows_of_columns(const Columns<S>& a, const Columns<S>& b, T temperature, L top_a, L top_b, L own_a,
                                           L own_b, const CrossEntropyOut<T>& out, Index first, int count) {
  const L zero(T(0)), one(T(1));
  const auto put = [&](L value, T* to) { count == L::size ? value.store(to + first) : value.store(to + first, count); };
  auto fine = zero == zero;
  const bool again = out.probability && temperature != T(1);
  for (int pass = 0; pass <= (again ? 1 : 0); ++pass) {
    const bool divides = pass == 0 && temperature != T(1);
    const L t(temperature), max_a = divides ? top_a / t : top_a, max_b = divides ? top_b / t : top_b;
    // Beyond this range products of subnormals would be lost, where the largest is about 2^kPlace.
    const ScaledExp<T> exp_a(reference_of(max_a)), exp_b(reference_of(max_b), kPlace<T> - (sizeof(T) == 4 ? T(151) : T(1077)));
    L ties_a = zero, ties_b = zero;
    const WithRest<L> none{zero, zero};
    WithRest<L> smaller_a = none, smaller_b = none, product = none;
    for (Index k = 0; k < a.n; ++k) {
      const L z_a = divides ? a.x[k] / t : a.x[k], z_b = divides ? b.x[k] / t : b.x[k];
      const auto add = [&](L z, L e, L low, L top, WithRest<L>& smaller, L& ties) {
        const auto largest = z == top;
        ties = select(largest, ties + one, ties);
        smaller = smaller + WithRest<L>{select(largest, zero, e), select(largest, zero, low)};
      };
      L low_a, low_b;
      const L e_a = exp_a(z_a, low_a), e_b = exp_b(z_b, low_b);
      add(z_a, e_a, low_a, max_a, smaller_a, ties_a), add(z_b, e_b, low_b, max_b, smaller_b, ties_b);
      product = product + select(e_b == zero, e_b, e_b * (max_a - z_a));
    }
    const auto in_a = beside_top_of(max_a, smaller_a, ties_a, reference_of(max_a)),
               in_b = beside_top_of(max_b, smaller_b, ties_b, reference_of(max_b));
    const auto whole = [](WithRest<L> x) { return x.sum + x.rest; };
    const L rest_a = (ties_a - one) + whole(in_a.ratio), rest_b = (ties_b - one) + whole(in_b.ratio);
    const L limit(kScaledExpLimit<T>);
    fine = fine & (abs(max_a) < limit) & (abs(max_b) < limit) & (product.sum < L(kInf<T>));
    if (pass == 0) {
      const L largest = exp_b(max_b), total = fmadd(ties_b, largest, whole(smaller_b));
      put(core::log1p(rest_a) + whole(product) / total, out.cross_entropy);
    }
    if (!out.probability || divides) continue;
    put(core::beside(own_a, max_a, rest_a).log_probability, out.log_probability);
    put(core::beside(own_b, max_b, rest_b).probability, out.probability);
  }
  return select(fine, zero, one);
}

// Rows of up to kMostTransposed numbers, as many at a time as a register has lanes.
template <class S, class T = Compute<S>>
void short_rows(const Arguments<S>& in, const CrossEntropyOut<T>& out, const Exec& exec) {
  using L = Lanes<T>;
  const Index n = in.n(), n_rows = in.a.across.size(), chunk = (rows_per_chunk(2 * n) + L::size - 1) / L::size * L::size;
  parallel_for(exec, n_rows, chunk, 2 * n_rows * n, [&](Index begin, Index end, int) {
    for (Index i = begin; i < end; i += L::size) {
      const int count = end - i < L::size ? static_cast<int>(end - i) : L::size;
      Columns<S> a(in.a, i, count), b(in.b, i, count);
      const L least(-kInf<T>);
      L top_a = least, top_b = least, own_a(kNaN<T>), own_b(kNaN<T>);
      T special[L::size];
      if (out.probability) {
        for (int r = 0; r < L::size; ++r) special[r] = r < count ? static_cast<T>(in.column(i + r)) : T(-1);
        const L wanted = L::load(special);
        for (Index k = 0; k < n; ++k) {
          const auto out_here = wanted == L(static_cast<T>(k));
          own_a = select(out_here, a.x[k], own_a), own_b = select(out_here, b.x[k], own_b);
          a.x[k] = select(out_here, least, a.x[k]), b.x[k] = select(out_here, least, b.x[k]);
        }
      }
      for (Index k = 0; k < n; ++k) top_a = max(a.x[k], top_a), top_b = max(b.x[k], top_b);
      const L careful = rows_of_columns(a, b, in.temperature, top_a, top_b, own_a, own_b, out, i, count);
      if (all(careful == L(T(0)))) continue;
      careful.store(special);
      for (int r = 0; r < count; ++r) {
        if (special[r] == T(0)) continue;
        S buffer_a[kMostTransposed], buffer_b[kMostTransposed];
        T x_a = kNaN<T>, x_b = x_a;
        const Index column = in.column(i + r);
        const Row<S> row_a{without(gather(in.a, i + r, n, buffer_a), n, column, buffer_a, x_a), n, nullptr};
        const Row<S> row_b{without(gather(in.b, i + r, n, buffer_b), n, column, buffer_b, x_b), n, nullptr};
        one_row(row_a, row_b, in.temperature, column, x_a, x_b, i + r, out);
      }
    }
  });
}

}  // namespace

template <class S>
void cross_entropy(const Rows<const S>& a, const Rows<const S>& b, Compute<S> temperature, PerRow<std::int64_t> left_out,
                   CrossEntropyOut<Compute<S>> out, const Exec& exec) {
  using T = Compute<S>;
  const Arguments<S> in{a, b, temperature, left_out};
  const Index n = in.n();
  if (n > 0 && n <= kMostTransposed) return short_rows(in, out, exec);
  const bool in_place = b.along.contiguous() && a.along.contiguous() && !out.probability;
  const Scratch<S> buffers(row_slots(b, n, exec), in_place ? 0 : 2 * n);
  each_row(b, n, exec, buffers, [&](const Row<S>& row, Index i, int slot) {
    S *const for_b = buffers[slot], *const for_a = in_place ? for_b : for_b + n;
    T own_a = kNaN<T>, own_b = own_a;
    const Index column = in.column(i);
    const Row<S> row_a{without(gather(a, i, n, for_a), n, column, for_a, own_a), n, row.exec};
    const Row<S> row_b{without(row.x, n, column, for_b, own_b), n, row.exec};
    one_row(row_a, row_b, temperature, column, own_a, own_b, i, out);
  });
}

#define SOFTMAP_INSTANTIATE(S)                                                                              \
  template void cross_entropy(const Rows<const S>&, const Rows<const S>&, Compute<S>, PerRow<std::int64_t>, \
                              CrossEntropyOut<Compute<S>>, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
