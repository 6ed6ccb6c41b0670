#pragma once
// Pass 1 of the softmax family: the sum of exp(z) along a row, z = x / temperature, and the largest z.
#include "core/exp_pair.h"
#include "core/log.h"
#include "cpu/lanes.h"
#include "cpu/lanes_half.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

using core::ExpSum;
using core::kExpPairLimit;
using core::kInf;
using core::kLn2High;
using core::kLn2Low;
using core::kNaN;

// A row in one piece. A long one is cut into segments by its length alone; `exec` is set where threads may share them.
template <class S>
struct Row {
  const S* x;
  Index n;
  const Exec* exec;

  static constexpr Index kShortest = 1 << 16, kMostSegments = 512;
  Index segment() const {
    const Index even = (n / kMostSegments + 1023) / 1024 * 1024;
    return even > kShortest ? even : kShortest;
  }
  // body(k, first, last) for every segment k of [0, n); their number.
  template <class Body>
  Index each_segment(Body&& body) const {
    const Index length = segment();
    const auto run = [&](Index first, Index last, int) {
      for (Index i = first; i < last; i += length) body(i / length, i, i + length < last ? i + length : last);
    };
    if (exec) {
      parallel_for(*exec, n, length, n, run);
    } else {
      run(0, n, 0);
    }
    return (n + length - 1) / length;
  }
};

// How an element of a row becomes the argument z of the exponential. `low` is what rounding took from z.
struct Plain {
  template <class T>
  T of_largest(T x) const {
    return x;
  }
  template <class V>
  V operator()(V x, V&) const {
    return x;
  }
};
template <class T>
struct Divided {
  T temperature;
  T of_largest(T x) const { return x / temperature; }
  template <class V>
  V operator()(V x, V&) const {
    return x / V(temperature);
  }
};
// z - maximum, for rows beyond the exact range of exp_pair and for what is left beside the largest element.
template <class T>
struct Shifted {
  T temperature, maximum;
  T offset() const { return maximum; }
  template <class V>
  V operator()(V x, V& low) const {
    return core::two_sum(x / V(temperature), V(-maximum), low);
  }
};
// (x - maximum) / temperature, for rows of finite x whose quotient overflows.
template <class T>
struct ShiftedFirst {
  T temperature, maximum;
  T offset() const { return maximum / temperature; }
  template <class V>
  V operator()(V x, V&) const {
    return (x - V(maximum)) / V(temperature);
  }
};

template <class T>
struct Total {
  ExpSum<T> sum;
  T maximum;  // of z; -inf for an empty row
};

// exp(z) as a pair. exp(z + low) = exp(z) (1 + low); low counts only where z is small enough for exp(z) not to be 0.
template <class V, class Arg>
core::ExpPair<V> exp_of(V x, const Arg& arg, V& z) {
  using T = typename core::lane<V>::Scalar;
  const V limit = V(kExpPairLimit<T>);
  V low = V(T(0));
  z = arg(x, low);
  auto p = core::exp_pair(min(limit, max(-limit, z)));
  if constexpr (requires { arg.maximum; }) p.m = fmadd(p.m, select(abs(z) < limit, low, V(T(0))), p.m);
  return p;
}

// The first `count` lanes of a running sum as one, added in order; the others are empty.
template <class L, class T = typename core::lane<L>::Scalar>
Total<T> merge_lanes(const ExpSum<L>& sum, L top, int count) {
  T m[L::size], low[L::size], e[L::size], t[L::size];
  sum.e.store(e);
  top.store(t);
  Total<T> r{{T(0), T(0), e[0]}, t[0]};
  for (int k = 1; k < count; ++k) {
    r.sum.e = core::max(r.sum.e, e[k]);
    r.maximum = core::max(t[k], r.maximum);
  }
  const L keep = scale2(L(T(1)), sum.e - L(r.sum.e));
  (sum.m * keep).store(m);
  (sum.low * keep).store(low);
  for (int k = 0; k < count; ++k) {
    T rounding;
    r.sum.m = core::two_sum(r.sum.m, m[k], rounding);
    r.sum.low += low[k] + rounding;
  }
  return r;
}

// One segment. With skip_zero, elements whose z is exactly 0 are left out of the sum.
template <class S, class Arg>
Total<Compute<S>> sum_segment(const S* x, Index n, const Arg& arg, bool skip_zero) {
  using T = Compute<S>;
  using L = Lanes<T>;
  constexpr Index kWidth = L::size, kBlock = 4 * kWidth;
  auto total = core::empty_sum<L>();
  L top(-kInf<T>);
  const L skip = skip_zero ? L(T(0)) : L(kNaN<T>);
  const auto pair = [&](L v) {
    L z;
    auto p = exp_of(v, arg, z);
    p.m = select(z == skip, L(T(0)), p.m);
    p.low = select(z == skip, L(T(0)), p.low);
    p.e = select(z == skip, L(core::kLowestExponent<T>), p.e);
    top = max(z, top);
    return p;
  };
  Index i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    const auto a = pair(load(x + i)), b = pair(load(x + i + kWidth));
    const auto c = pair(load(x + i + 2 * kWidth)), d = pair(load(x + i + 3 * kWidth));
    const L e = max(max(a.e, b.e), max(c.e, d.e));
    const L one(T(1)), in_a = scale2(one, a.e - e), in_b = scale2(one, b.e - e);
    const L in_c = scale2(one, c.e - e), in_d = scale2(one, d.e - e);
    const L m = fmadd(a.m, in_a, b.m * in_b) + fmadd(c.m, in_c, d.m * in_d);  // exact products
    const L low = muladd(a.low, in_a, b.low * in_b) + muladd(c.low, in_c, d.low * in_d);
    total = core::add(total, m, low, e);
  }
  for (; i < n; i += kWidth) {
    const auto p = pair(n - i >= kWidth ? load(x + i) : load(x + i, static_cast<int>(n - i), -kInf<T>));
    total = core::add(total, p.m, p.low, p.e);
  }
  return merge_lanes(total, top, n < kWidth ? static_cast<int>(n) : L::size);
}

template <class S, class Arg>
Total<Compute<S>> sum_exp(const Row<S>& row, const Arg& arg, bool skip_zero = false) {
  if (row.n <= Row<S>::kShortest) return sum_segment(row.x, row.n, arg, skip_zero);
  using T = Compute<S>;
  Total<T> parts[Row<S>::kMostSegments + 1];
  const Index n_parts = row.each_segment(
      [&](Index k, Index first, Index last) { parts[k] = sum_segment(row.x + first, last - first, arg, skip_zero); });
  Total<T> total = parts[0];
  for (Index k = 1; k < n_parts; ++k) {
    total.sum = core::add(total.sum, parts[k].sum);
    total.maximum = core::max(parts[k].maximum, total.maximum);
  }
  return total;
}

// True where the clamp at the limit of exp_pair changed nothing: no element above it counts, none below it contributes.
template <class T>
bool in_range(const ExpSum<T>& s) {
  const T half = kExpPairLimit<T> * T(0.5);
  return s.e > -half && s.e < half;
}

// Calls body(arg, total, shifted) with the way of reading this row that stays accurate. `arg` gives z, or z minus its
// maximum where the row is out of the exact range; `total` is the sum under arg; `shifted` always gives z minus its maximum.
template <class S, class Arg, class Body, class T = Compute<S>>
void with_total_of(const Row<S>& row, T temperature, const Arg& arg, Body& body) {
  const auto total = sum_exp(row, arg);
  const bool is_nan = total.sum.m != total.sum.m;
  if (!is_nan && !in_range(total.sum)) {
    T largest = -kInf<T>;
    for (Index i = 0; i < row.n; ++i) largest = core::max(core::to_compute(row.x[i]), largest);
    const T maximum = largest / temperature;
    if (core::abs(maximum) < kInf<T>) {
      const Shifted<T> shifted{temperature, maximum};
      return body(shifted, sum_exp(row, shifted), shifted);
    }
    if (core::abs(largest) < kInf<T>) {
      const ShiftedFirst<T> shifted{temperature, largest};
      return body(shifted, sum_exp(row, shifted), shifted);
    }
  }
  body(arg, total, Shifted<T>{temperature, total.maximum});
}

template <class S, class Body, class T = Compute<S>>
void with_total(const Row<S>& row, T temperature, Body&& body) {
  if (temperature == T(1)) return with_total_of(row, temperature, Plain{}, body);
  const bool valid = temperature > T(0) && temperature < kInf<T>;
  with_total_of(row, temperature, Divided<T>{valid ? temperature : kNaN<T>}, body);
}

// log sum exp(z) - maximum, at least 0, to full relative accuracy. `shifted` reads z minus the maximum.
//
//   one element far above the rest    log1p(sum of the rest)
//   otherwise                         log(m) + (e log 2 - maximum), where e log 2 is near the maximum
template <class S, class Arg, class T = Compute<S>>
T log_excess(const Row<S>& row, const Total<T>& total, const Arg& shifted) {
  const T reduced = core::fmadd(total.sum.e, kLn2High<T>, -total.maximum) + total.sum.e * kLn2Low<T>;
  const T excess = reduced + core::log(total.sum.m, total.sum.low, T(0));
  if (!(excess < T(0.5))) return excess;
  const auto rest = sum_exp(row, shifted, true).sum;
  return core::log1p(core::scale2(rest.m + rest.low, rest.e));
}

// What the total says of the whole row, 0 for an ordinary one: NaN where an element is NaN, else +-inf where the sum is.
template <class T>
T special(const Total<T>& total) {
  if (total.sum.m != total.sum.m) return kNaN<T>;
  return core::abs(total.maximum) < kInf<T> ? T(0) : total.maximum;
}

// log sum exp(z) from the total and its excess over the maximum. Where the total is of z - shift, its own maximum is 0 and
// the shift is the offset.
template <class T, class Arg>
T log_sum(const Total<T>& total, const Arg& shifted, T excess) {
  if (excess < T(0.5)) return shifted.offset() + excess;
  return (shifted.offset() - total.maximum) + core::log(total.sum.m, total.sum.low, total.sum.e);
}

// Rows that do not lie in one piece are copied, so that every layout gives the same bits.
template <class S>
const S* gather(const Rows<const S>& x, Index i, Index n, S* buffer) {
  const S* const p = x.row(i);
  if (x.along.contiguous()) return p;
  for (Index k = 0; k < n; ++k) buffer[k] = p[x.along.offset(k)];
  return buffer;
}

// Rows a chunk, so that a chunk is some 16,000 elements.
Index rows_per_chunk(Index n) { return n >= (1 << 14) ? 1 : (1 << 14) / (n + 1) + 1; }

// Few long rows: threads then share each row instead of dealing out rows. The bits are the same.
template <class S>
bool shares_rows(const Rows<const S>& x, Index read, const Exec& exec) {
  return x.across.size() < 2 * exec.n_threads && read > 2 * Row<S>::kShortest;
}

// The slots of each_row.
template <class S>
int row_slots(const Rows<const S>& x, Index read, const Exec& exec) {
  const Index n_rows = x.across.size();
  return shares_rows(x, read, exec) ? 1 : slots_for(exec, n_rows, rows_per_chunk(read), n_rows * read);
}

// body(row, i, slot) for every row of x, of which `read` elements are read.
template <class S, class Body>
void each_row(const Rows<const S>& x, Index read, const Exec& exec, const Scratch<S>& buffers, Body&& body) {
  const Index n = x.along.size(), n_rows = x.across.size();
  if (shares_rows(x, read, exec)) {
    for (Index i = 0; i < n_rows; ++i) body(Row<S>{gather(x, i, n, buffers[0]), n, &exec}, i, 0);
    return;
  }
  parallel_for(exec, n_rows, rows_per_chunk(read), n_rows * read, [&](Index first, Index last, int slot) {
    for (Index i = first; i < last; ++i) body(Row<S>{gather(x, i, n, buffers[slot]), n, nullptr}, i, slot);
  });
}

}  // namespace
}  // namespace softmap::cpu
