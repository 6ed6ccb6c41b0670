#pragma once
// Softmax, log_softmax and logsumexp of any row, from sums of (mantissa, exponent) pairs: the two-pass algorithm, compensated.
// Rows that are out of the range of faster loops come here.
#include "cpu/row_sum.h"

namespace softmap::cpu {
namespace {

// out[i] = value(lanes of x) along a row; `fill` stands beyond its end.
template <class S, class Value>
void map_row(const Row<S>& row, S* out, Compute<S> fill, const Value& value) {
  constexpr Index kWidth = LanesOf<S>::size;
  row.each_segment([&](Index, Index first, Index last) {
    Index i = first;
    for (; i + kWidth <= last; i += kWidth) store(value(load(row.x + i)), out + i);
    if (const int rest = static_cast<int>(last - i)) store<S>(value(load(row.x + i, rest, fill)), out + i, rest);
  });
}

template <class S>
void exact_softmax(const Row<S>& row, Compute<S> temperature, S* out) {
  using T = Compute<S>;
  with_total(row, temperature, [&](const auto& arg, const Total<T>& total, const auto&) {
    using L = Lanes<T>;
    // 1 / (m + low) in two parts, so that the quotient is rounded once.
    const T inverse = special(total) == T(0) ? T(1) / total.sum.m : kNaN<T>;
    const T rest = -core::fmadd(total.sum.m, inverse, T(-1)) - total.sum.low * inverse;
    const L scale(inverse), scale_low(rest * inverse), top(total.sum.e);
    map_row(row, out, -kInf<T>, [&](L v) {
      const auto p = exp_of(v, arg, v);
      return scale2(fmadd(p.m, scale, fmadd(p.m, scale_low, p.low * scale)), p.e - top);
    });
  });
}

template <class S>
void exact_log_softmax(const Row<S>& row, Compute<S> temperature, S* out) {
  using T = Compute<S>;
  with_total(row, temperature, [&](const auto& arg, const Total<T>& total, const auto& shifted) {
    using L = Lanes<T>;
    if (total.maximum == kInf<T>) {  // z - inf, as the definition says, or NaN
      map_row(row, out, T(0), [&](L v) { return arg(v, v) - L(special(total)); });
      return;
    }
    const L excess(log_excess(row, total, shifted));
    map_row(row, out, T(0), [&](L v) {
      L low(T(0));
      const L d = shifted(v, low);
      return select(abs(d) < L(kInf<T>), (d - excess) + low, d - excess);
    });
  });
}

template <class S>
Compute<S> exact_logsumexp(const Row<S>& row, Compute<S> temperature) {
  using T = Compute<S>;
  T result;
  with_total(row, temperature, [&](const auto&, const Total<T>& total, const auto& shifted) {
    result = special(total);
    if (result == T(0)) result = log_sum(total, shifted, log_excess(row, total, shifted));
  });
  return result;
}

}  // namespace
}  // namespace softmap::cpu
