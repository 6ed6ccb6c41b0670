#pragma once
// Statistics of the softmax of short rows: a lane has a row, and columns are taken one after the other.
#include "cpu/row_networks.h"
#include "cpu/row_sum.h"
#include "cpu/softmax_paths.h"
#include "cpu/transpose.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

inline constexpr Index kMostTransposed = 256;  // columns

// As many rows as a register has lanes, column by column; `n` columns.
template <class S, class T = Compute<S>, class L = Lanes<T>>
struct Columns {
  L x[kMostTransposed];
  Index n;

  // Rows first .. first + count of `rows`; a lane beyond them has zeros.
  Columns(const Rows<const S>& rows, Index first, int count) : n(rows.along.size()) {
    if (count == L::size && lie_side_by_side(rows, first, count)) {
      const S* const p = rows.row(first);
      for (Index k = 0; k < n; ++k) x[k] = load(p + rows.along.offset(k));
      return;
    }
    const S* row[L::size];
    for (int r = 0; r < count; ++r) row[r] = rows.row(first + r);
    const bool contiguous = rows.along.contiguous();
    for (Index k = 0; k < n; k += L::size) {
      const int width = n - k < L::size ? static_cast<int>(n - k) : L::size;
      L tile[L::size];
      for (int r = 0; r < count; ++r) {
        if (contiguous) ask_ahead(row[r] + k);
        tile[r] = !contiguous        ? gathered(rows, row[r], k, width)
                  : width == L::size ? load(row[r] + k)
                                     : load(row[r] + k, width, T(0));
      }
      for (int r = count; r < L::size; ++r) tile[r] = L(T(0));
      transpose(tile);
      for (int j = 0; j < width; ++j) x[k + j] = tile[j];
    }
  }

 private:
  static L gathered(const Rows<const S>& rows, const S* row, Index k, int width) {
    S part[L::size] = {};
    for (int j = 0; j < width; ++j) part[j] = row[rows.along.offset(k + j)];
    return load(part);
  }
};

// z minus its maximum, one a lane.
template <class L>
struct BelowTop {
  L maximum;
  L operator()(L z, L& low) const { return core::two_sum(z, -maximum, low); }
};

// The quotient of two sums, and what rounding took from it.
template <class L>
WithRest<L> quotient(WithRest<L> a, WithRest<L> b) {
  const L q = a.sum / b.sum;
  return {q, (fmadd(-q, b.sum, a.sum) + fmadd(-q, b.rest, a.rest)) / b.sum};
}

// The terms of an error norm are lifted by this power of 2, so that they keep their digits where the result is subnormal.
template <class T>
inline constexpr T kErrorLift = T(64);

// The statistics of rows first .. first + count, written where they go, as statistics_row defines them; target is null without.
// The lanes in the result are 1 for the rows that must be taken by themselves: those with NaN or without a finite maximum.
template <class S, class T = Compute<S>, class L = Lanes<T>>
__attribute__((flatten)) L statistics_of_columns(const Columns<S>& c, L temperature, const T* target, const T* weights,
                                                 const StatisticsOut<T>& out, Index first, int count) {
  const L zero(T(0)), one(T(1)), nan(kNaN<T>), least(-kInf<T>);
  L z[kMostTransposed], p[kMostTransposed], other[kMostTransposed];
  L top = least;
  for (Index k = 0; k < c.n; ++k) {
    z[k] = c.x[k] / temperature;
    top = max(z[k], top);
  }
  const L wanted = target ? L::load(target) : nan;
  L x_target = nan, ties = zero;
  const BelowTop<L> below{top};
  const WithRest<L> none{zero, zero};
  WithRest<L> smaller = none, all = none, product = none, weighted = none, others = none;
  for (Index k = 0; k < c.n; ++k) {
    L d;
    const auto pair = exp_of(z[k], below, d);
    const L value = scale2(pair.m, pair.e), low = scale2(pair.low, pair.e);
    const auto largest = d == zero;
    ties = select(largest, ties + one, ties);
    smaller = smaller + WithRest<L>{select(largest, zero, value), select(largest, zero, low)};
    product = product + select(value == zero, value, value * -d);
    if (weights) weighted = weighted + select(value == zero, value, value * L(weights[k]));
    if (out.error_norm) {
      other[k] = select(wanted == L(T(k)), zero, scale2(pair.m, pair.e + L(kErrorLift<T>)));
      others = others + other[k];
    }
    x_target = select(wanted == L(T(k)), c.x[k], x_target);
    p[k] = value;
  }
  // log(1 + R), where R is the sum without one of the largest
  L low, rounding;
  const L more = core::two_sum(ties - one, smaller.sum, low), total = core::two_sum(one, more, rounding);
  const L rest = rounding + (low + smaller.rest);
  const auto parts = core::log_parts(total, rest, zero);
  const L high = parts.k * L(core::kLn2Short<T>), excess = high + parts.tail;
  const auto fine = (excess >= zero) & (abs(top) < L(kInf<T>));
  all = {total, rest};

  const auto put = [&](L value, T* to) { count == L::size ? value.store(to + first) : value.store(to + first, count); };
  const L sum = core::two_sum(top, high, rounding);
  put(sum + (rounding + parts.tail), out.logsumexp);
  put(top, out.maximum);
  const WithRest<L> mean_distance = quotient(product, all);
  const L entropy = core::two_sum(excess, mean_distance.sum, low);
  put(entropy + (low + mean_distance.rest), out.entropy);
  L ignored;
  put(below(x_target / temperature, ignored) - excess, out.target_log_probability);

  L rank = one;
  for (Index k = 0; target && k < c.n; ++k) rank = rank + select(x_target < c.x[k], one, zero);
  T ranks[L::size];
  select(x_target == x_target, rank, zero).store(ranks);
  for (int r = 0; r < count; ++r) out.target_rank[first + r] = static_cast<std::int64_t>(ranks[r]);
  if (out.error_norm) {
    // What is less is 0 without the lift.
    const L per_other = one / max(others.sum + others.rest, L(core::Format<T>::min_normal));
    WithRest<L> squares = none;
    for (Index k = 0; k < c.n; ++k) {
      const L share = other[k] * per_other;
      squares = squares + share * share;
    }
    const WithRest<L> missing = quotient(others, all);
    const L norm = (missing.sum + missing.rest) * sqrt(one + (squares.sum + squares.rest));
    // Whether it is a number, said in another way than above: g++ 12 does not compile that twice at -O1.
    put(select(x_target <= L(kInf<T>), scale2(norm, L(-kErrorLift<T>)), x_target), out.error_norm);
  }
  if (weights) {
    const WithRest<L> mean = quotient(weighted, all);
    const L expectation = mean.sum + mean.rest;
    WithRest<L> squares = none;
    for (Index k = 0; k < c.n; ++k) {
      const L w = L(weights[k]) - expectation;
      squares = squares + select(p[k] == zero, p[k], p[k] * (w * w));
    }
    put(expectation, out.expectation);
    const WithRest<L> mean_square = quotient(squares, all);
    put(mean_square.sum + mean_square.rest, out.variance);
  }
  return select(fine, zero, one);
}

}  // namespace
}  // namespace softmap::cpu
