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

// What the exponentials of a row leave: max z, the sum of e where z < top as a multiple of exp(top), and how often z = top.
template <class L>
struct BesideTop {
  L top;
  WithRest<L> ratio;
  L ties;
};

template <class L, class T = typename core::lane<L>::Scalar>
[[gnu::always_inline]] inline BesideTop<L> beside_top_of(L top, WithRest<L> smaller, L ties, L reference) {
  L low;
  const L largest = ScaledExp<T>(reference)(top, low), inverse = reciprocal(largest), ratio = smaller.sum * inverse;
  return {top, {ratio, (fmadd(-ratio, largest, smaller.sum) + fmadd(-ratio, low, smaller.rest)) * inverse}, ties};
}

// Of rows of n elements.
template <class L, class T = typename core::lane<L>::Scalar>
[[gnu::always_inline]] inline LogSum<L> log_sum_of(const BesideTop<L>& b, L n) {
  L low, rounding;
  const L one(T(1)), more = core::two_sum(b.ties - one, b.ratio.sum, low), x = core::two_sum(one, more, rounding);
  const auto parts = core::log_parts(x, rounding + (low + b.ratio.rest), L(T(0)));
  const L high = parts.k * L(core::kLn2Short<T>), sum = core::two_sum(b.top, high, rounding);
  const auto masked = (b.top == L(-kInf<T>)) & (b.ties == n);
  return {b.top, high + parts.tail, select(masked, b.top, sum + (rounding + parts.tail))};
}

template <class S, class L = LanesOf<S>>
BesideTop<L> beside_top_of_long_rows(const Block<S>& b) {
  using T = Compute<S>;
  const L zero(T(0)), one(T(1)), top = b.largest_of_rows([&](Index r, Index i) { return b.z(r, i, -kInf<T>); });
  const L reference = reference_of(top);
  for (Index i = 0; i < b.size(); i += L::size) {  // the sign says which are the largest, also where e is NaN: in rows of -inf
    b.prefetch(i);
    const L z = b.z(i), e = ScaledExp<T>(permute(reference, b.owner + i))(z);
    select(z == permute(top, b.owner + i), -max(e, one), e).store(b.kept + i);
  }
  const auto smaller = [&](Index r, Index i) {
    const L e = b.kept_row(r, i);
    return select(e < zero, zero, e);
  };
  const auto tie = [&](Index r, Index i) { return select(b.kept_row(r, i) < zero, one, zero); };
  L ties[L::size];
  b.over_rows(ties, zero, one, tie, Plus{});
  return beside_top_of(top, b.sum_of_rows(T(0), smaller), over_lanes<T>(ties, Plus{}), reference);
}

// Of blocks that lie one after the other in memory.
template <int kN, class S, class L = LanesOf<S>>
[[gnu::noinline]] void log_sums_of(const Block<S>& b, int n_blocks, LogSum<L>* s) {
  using T = Compute<S>;
  BesideTop<L> beside[kMostBlocks];
  if constexpr (kN > 0) {
    const L zero(T(0)), one(T(1));
    const ColumnsOf<kN, S> columns(b, n_blocks);
    WithRest<L> e[kMostBlocks][kN];
    L ties[kMostBlocks];
    for (int q = 0; q < n_blocks; ++q) {
      const ScaledExp<T> exp(reference_of(columns.top[q]));
      L same = zero;
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) {
        const auto largest = columns.c[q][k] == columns.top[q];
        L low;
        const L value = exp(columns.c[q][k], low);
        e[q][k] = {select(largest, zero, value), select(largest, zero, low)};
        same = select(largest, same + one, same);
      }
      ties[q] = same;
    }
    for (int q = 0; q < n_blocks; ++q) {
      beside[q] = beside_top_of(columns.top[q], tree<kN>(e[q], Plus{}), ties[q], reference_of(columns.top[q]));
    }
  } else {
    beside[0] = beside_top_of_long_rows(b);
  }
  const L n(static_cast<T>(b.n));
  for (int q = 0; q < n_blocks; ++q) s[q] = log_sum_of(beside[q], n);
}

// How many blocks run() should take at once.
template <int kN>
inline constexpr int kLogPieces = kN == 0 ? 1 : kMostBlocks;

struct LogSoftmax {
  template <int kN>
  static constexpr int pieces() {
    return kLogPieces<kN>;
  }

  template <int kN, int kBlocks = 1, class S, class L = LanesOf<S>>
  static void run(Block<S> b, Output<S>& out) {
    LogSum<L> s[kBlocks];
    log_sums_of<kN>(b, kBlocks, s);
#pragma GCC unroll 1
    for (int q = 0; q < kBlocks; ++q, b.x += kN * L::size) {
      const auto value = [&](Index i, const auto* owner) {
        return (b.z(i) - permute(s[q].top, owner)) - permute(s[q].excess, owner);
      };
      if (const auto beyond = b.beyond_range(s[q].top); any(beyond)) [[unlikely]] {
        for (Index i = 0; i < (kN > 0 ? kN * L::size : b.size()); i += L::size) value(i, b.owner + i).store(b.kept + i);
        b.replace(beyond, exact_log_softmax<S>);
        out.write(kN > 0 ? kN * L::size : b.size(), [&](Index i) { return L::load(b.kept + i); });
      } else if constexpr (kN > 0) {
        L v[kN];
#pragma GCC unroll 16
        for (int k = 0; k < kN; ++k) v[k] = value(k * L::size, kBetween<Compute<S>, kN>.owner[k]);
        out.write(v);
      } else {
        out.write(b.size(), [&](Index i) { return value(i, b.owner + i); });
      }
    }
  }
};

struct LogSumExp {
  template <int kN>
  static constexpr int pieces() {
    return kLogPieces<kN>;
  }

  // out[r] for the rows that count.
  template <int kN, int kBlocks = 1, class S, class L = LanesOf<S>>
  static void run(Block<S> b, S* out) {
    LogSum<L> s[kBlocks];
    log_sums_of<kN>(b, kBlocks, s);
#pragma GCC unroll 1
    for (int q = 0; q < kBlocks; ++q, b.x += kN * L::size, out += L::size) {
      b.count == L::size ? store(s[q].sum, out) : store<S>(s[q].sum, out, static_cast<int>(b.count));
      if (const auto beyond = b.beyond_range(s[q].top); any(beyond)) [[unlikely]] {
        b.each_of(beyond, [&](Index r) { out[r] = core::to_storage<S>(exact_logsumexp(b.row(r), b.temperature_of(r))); });
      }
    }
  }
};

}  // namespace
}  // namespace softmap::cpu
