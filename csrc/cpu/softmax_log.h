#pragma once
// log_softmax and logsumexp of long rows that lie in one piece.
#include "cpu/softmax_long.h"

namespace softmap::cpu {
namespace {

// log sum exp(z) as largest z + excess; the excess, at least 0, has all its digits.
template <class T>
struct LogSum {
  T top;
  double excess, value;
};

// The sum over the block that holds the largest z, without it, in units of exp(top).
template <class S, class Arg, class T = Compute<S>>
double rest_beside_top(const Row<S>& row, const Arg& arg, const SegmentSum<T>& s) {
  using L = Lanes<T>;
  const RowExp<T> exp(s.reference);
  const Index last = s.block + kBlock<T> < row.n ? s.block + kBlock<T> : row.n;
  Carried<T> sum;
  for (Index i = s.block; i < last; i += L::size) {
    L low;
    const L z = arg(last - i >= L::size ? load(row.x + i) : load(row.x + i, static_cast<int>(last - i), -kInf<T>), low);
    sum.add(select(z == L(s.top), L(T(0)), exp(z)));
  }
  double total, rest;
  sum_lanes(sum.sum, sum.rest, total, rest);
  T unit[L::size];
  exp(L(s.top)).store(unit);
  return ((s.m + total) + (s.low + rest)) / double(unit[0]);
}

template <class S, class Arg, class T = Compute<S>>
LogSum<T> log_sum_of(const Row<S>& row, const Arg& arg, const SegmentSum<T>& s) {
  double sum, rest;
  s.total(sum, rest);
  // To the power of two that is nearest to exp(top), so that the parts of the logarithm are small.
  const double top = s.top, e = core::round_even(top * core::kLog2E<double>), shift = s.reference - e;
  sum = core::scale2(sum / QuotientRoots<T>::factor, shift), rest = core::scale2(rest / QuotientRoots<T>::factor, shift);
  const double reduced = core::fmadd(e, kLn2High<double>, -top) + e * kLn2Low<double>;
  const double excess = reduced + core::log(sum, rest, 0.0);
  if (!(excess < 0.5)) return {s.top, excess, sizeof(T) == 4 ? top + excess : core::log(sum, rest, e)};
  const double beside = core::log1p(rest_beside_top(row, arg, s));
  return {s.top, beside, top + beside};
}

template <class S, class Arg>
SegmentSum<Compute<S>> sum_of_row(const Row<S>& row, const Arg& arg) {
  return sum_segments(row, [&](Index first, Index last) { return sum_blocks<true>(row.x, first, last, arg); });
}

template <class S, class Arg, class T = Compute<S>>
T logsumexp_row(const Row<S>& row, const Arg& arg, T temperature) {
  const auto sum = sum_of_row(row, arg);
  return sum.fine() ? static_cast<T>(log_sum_of(row, arg, sum).value) : exact_logsumexp(row, temperature);
}

// z - log sum exp(z), the latter in two parts.
template <class S, class Arg>
struct MinusLogSum {
  using T = Compute<S>;
  const S* x;
  Arg arg;
  Lanes<T> high, low;
  MinusLogSum(const S* x_, const Arg& arg_, const LogSum<T>& s) : x(x_), arg(arg_) {
    double rounding;
    const double sum = core::two_sum(double(s.top), s.excess, rounding);
    const T upper = static_cast<T>(sum);
    high = Lanes<T>(upper), low = Lanes<T>(static_cast<T>((sum - double(upper)) + rounding));
  }
  Lanes<T> value(Lanes<T> v) const {
    Lanes<T> none;
    return (arg(v, none) - high) - low;
  }
  Lanes<T> operator()(Index i) const {
    ask_ahead(x + i);
    return value(load(x + i));
  }
  Lanes<T> operator()(Index i, int count) const { return value(load(x + i, count, T(0))); }
};

template <bool kStream, class S, class Arg, class T = Compute<S>>
void log_softmax_row(const Row<S>& row, const Arg& arg, T temperature, S* out) {
  const auto sum = sum_of_row(row, arg);
  if (!sum.fine()) return exact_log_softmax(row, temperature, out);
  const Writer<S, kStream, MinusLogSum<S, Arg>> write(out, row.n, {row.x, arg, log_sum_of(row, arg, sum)});
  row.each_segment([&](Index, Index first, Index last) { write.segment(first, last); });
}

// Log_softmax by fuse_rows: row i waits in a near cache to be read again.
template <bool kStream, class S, class ArgOf, class T = Compute<S>>
void fused_log_softmax(const Rows<const S>& x, const ArgOf& arg_of, const Rows<S>& out, Index first, Index last) {
  const auto row = [&](Index i) { return Row<S>{x.row(i), x.along.size(), nullptr}; };
  fuse_rows<kStream>(
      out, first, last,
      [&](Index i, const auto& write) {
        return sum_segments(row(i), [&](Index from, Index to) {
          return sum_blocks<true>(x.row(i), from, to, arg_of(i), static_cast<T*>(nullptr), KeepNothing{}, write);
        });
      },
      [&](Index i, const SegmentSum<T>& sum) {
        return MinusLogSum<S, decltype(arg_of(i))>(x.row(i), arg_of(i), log_sum_of(row(i), arg_of(i), sum));
      },
      [&](Index i) { exact_log_softmax(row(i), static_cast<T>(arg_of.temperature(i)), out.row(i)); });
}

}  // namespace
}  // namespace softmap::cpu
