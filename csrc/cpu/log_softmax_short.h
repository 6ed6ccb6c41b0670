#pragma once
// log_softmax and logsumexp of rows of up to some 190 numbers, a block at once.
#include "cpu/short_rows.h"

namespace softmap::cpu {
namespace {

// Logarithms: with e = exp(z) and top = max z, log sum e = top + log(1 + R), R = (sum of e without one of the largest) /
// exp(top).

template <class L>
struct LogSum {
  L top, excess, sum;  // max z, log(1 + R), and their sum, rounded once
};

// A power of two for each row, so that exp(top) comes to about 2^kPlace.
template <class L, class T = typename core::lane<L>::Scalar>
L reference_of(L top) {
  return round_even(top * L(core::kLog2E<T>)) - L(kPlace<T>);
}

// `smaller` is the sum of e where z < top, `ties` is how often z = top.
template <class L, class T = typename core::lane<L>::Scalar>
LogSum<L> log_sum_of(L top, WithRest<L> smaller, L ties) {
  L low, rounding;
  const L one(T(1)), largest = ScaledExp<T>(reference_of(top))(top, low), ratio = smaller.sum / largest;
  const L rest = (fmadd(-ratio, largest, smaller.sum) + fmadd(-ratio, low, smaller.rest)) / largest;
  const L more = core::two_sum(ties - one, ratio, low), x = core::two_sum(one, more, rounding);
  const auto parts = core::log_parts(x, rounding + (low + rest), L(T(0)));
  const L high = parts.k * L(core::kLn2Short<T>), sum = core::two_sum(top, high, rounding);
  return {top, high + parts.tail, sum + (rounding + parts.tail)};
}

template <int kN, class S, class L = LanesOf<S>>
[[gnu::always_inline]] inline LogSum<L> log_sum_of_columns(const L* c) {
  using T = Compute<S>;
  const L top = tree<kN>(c, Larger{}), zero(T(0)), one(T(1));
  const ScaledExp<T> exp(reference_of(top));
  WithRest<L> e[kN];
  L ties = zero;
#pragma GCC unroll 16
  for (int k = 0; k < kN; ++k) {
    const auto largest = c[k] == top;
    L low;
    const L value = exp(c[k], low);
    e[k] = {select(largest, zero, value), select(largest, zero, low)};
    ties = select(largest, ties + one, ties);
  }
  return log_sum_of(top, tree<kN>(e, Plus{}), ties);
}

template <class S, class L = LanesOf<S>>
LogSum<L> log_sum_of_long_rows(const Block<S>& b) {
  using T = Compute<S>;
  const L zero(T(0)), one(T(1)), top = b.largest_of_rows([&](Index r, Index i) { return b.z(r, i, -kInf<T>); });
  const L reference = reference_of(top);
  for (Index i = 0; i < b.size(); i += L::size) {  // the sign says which are the largest
    b.prefetch(i);
    const L z = b.z(i), e = ScaledExp<T>(permute(reference, b.owner + i))(z);
    select(z == permute(top, b.owner + i), -e, e).store(b.kept + i);
  }
  const auto smaller = [&](Index r, Index i) {
    const L e = b.kept_row(r, i);
    return select(e < zero, zero, e);
  };
  const auto tie = [&](Index r, Index i) { return select(b.kept_row(r, i) < zero, one, zero); };
  L ties[L::size];
  b.over_rows(ties, zero, one, tie, Plus{});
  return log_sum_of(top, b.sum_of_rows(T(0), smaller), over_lanes<T>(ties, Plus{}));
}

// Calls body(r) for the rows that count and have a NaN or no maximum in the range of ScaledExp.
template <class S, class L, class Body>
void each_special_row(const Block<S>& b, const LogSum<L>& s, Body&& body) {
  using T = Compute<S>;
  const auto fine = (s.excess >= L(T(0))) & (abs(s.top) < L(kScaledExpLimit<T>));
  if (all(fine)) [[likely]]
    return;
  T is_fine[L::size];
  select(fine, L(T(1)), L(T(0))).store(is_fine);
  for (Index r = 0; r < b.count; ++r) {
    if (is_fine[r] == T(0)) body(r);
  }
}

struct LogSoftmax {
  template <int kN>
  static constexpr int pieces() {
    return 1;
  }

  template <int kN, class S, class L = LanesOf<S>>
  static void run(const Block<S>& b, Output<S>& out) {
    constexpr int kRegisters = kN > 0 ? kN : 1;
    L v[kRegisters], c[kRegisters];
    LogSum<L> s;
    if constexpr (kN > 0) {
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) {
        b.prefetch(k * L::size);
        v[k] = b.z(k * L::size);
      }
      to_columns<kN>(v, c);
      s = log_sum_of_columns<kN, S>(c);
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) c[k] = (c[k] - s.top) - s.excess;
      to_rows<kN>(c, v);
    } else {
      s = log_sum_of_long_rows(b);
    }
    bool special = false;
    each_special_row(b, s, [&](Index r) {
      S row[kShortVectors * L::size];
      exact_log_softmax(b.row(r), b.temperature_of(r), row);
      if (!special) keep<kN>(b, s, v);
      special = true;
      for (Index i = 0; i < b.n; ++i) b.kept[r * b.n + i] = core::to_compute(row[i]);
    });
    if (special) [[unlikely]] {
      out.write(kN > 0 ? kN * L::size : b.size(), [&](Index i) { return L::load(b.kept + i); });
    } else if constexpr (kN > 0) {
      out.write(v);
    } else {
      out.write(b.size(), [&](Index i) { return value(b, s, i); });
    }
  }

 private:
  template <class S, class L>
  static L value(const Block<S>& b, const LogSum<L>& s, Index i) {
    return (b.z(i) - permute(s.top, b.owner + i)) - permute(s.excess, b.owner + i);
  }
  template <int kN, class S, class L>
  static void keep(const Block<S>& b, const LogSum<L>& s, const L* v) {
    if constexpr (kN > 0) {
      for (int k = 0; k < kN; ++k) v[k].store(b.kept + k * L::size);
    } else {
      for (Index i = 0; i < b.size(); i += L::size) value(b, s, i).store(b.kept + i);
    }
  }
};

struct LogSumExp {
  // out[r] for the rows that count.
  template <int kN, class S, class L = LanesOf<S>>
  static void run(const Block<S>& b, S* out) {
    LogSum<L> s;
    if constexpr (kN > 0) {
      L v[kN], c[kN];
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) {
        b.prefetch(k * L::size);
        v[k] = b.z(k * L::size);
      }
      to_columns<kN>(v, c);
      s = log_sum_of_columns<kN, S>(c);
    } else {
      s = log_sum_of_long_rows(b);
    }
    b.count == L::size ? store(s.sum, out) : store<S>(s.sum, out, static_cast<int>(b.count));
    each_special_row(b, s, [&](Index r) { out[r] = core::to_storage<S>(exact_logsumexp(b.row(r), b.temperature_of(r))); });
  }
};

}  // namespace
}  // namespace softmap::cpu
