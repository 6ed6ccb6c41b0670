#include "softmax.h"

#include "core/exp_pair.h"
#include "core/log.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

using core::ExpSum;
using core::kExpPairLimit;
using core::kInf;
using core::kLn2High;
using core::kLn2Low;
using core::kNaN;

// How an element of a row becomes the argument z of the exponential. `low` is what rounding took from z.
struct Plain {
  template <class V>
  V operator()(V x, V&) const {
    return x;
  }
};
template <class T>
struct Divided {
  T temperature;
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

// The lanes of a running sum as one, added in order.
template <class L, class T = typename core::lane<L>::Scalar>
Total<T> merge_lanes(const ExpSum<L>& sum, L top) {
  T m[L::size], low[L::size], e[L::size], t[L::size];
  sum.e.store(e);
  top.store(t);
  Total<T> r{{T(0), T(0), e[0]}, t[0]};
  for (int k = 1; k < L::size; ++k) {
    r.sum.e = core::max(r.sum.e, e[k]);
    r.maximum = core::max(t[k], r.maximum);
  }
  const L keep = scale2(L(T(1)), sum.e - L(r.sum.e));
  (sum.m * keep).store(m);
  (sum.low * keep).store(low);
  for (int k = 0; k < L::size; ++k) {
    T rounding;
    r.sum.m = core::two_sum(r.sum.m, m[k], rounding);
    r.sum.low += low[k] + rounding;
  }
  return r;
}

// Pass 1: sum of exp(z) and maximum of z. With skip_zero, elements whose z is exactly 0 are left out of the sum.
template <class T, class Arg>
Total<T> sum_exp(const T* x, Index n, const Arg& arg, bool skip_zero = false) {
  using L = Lanes<T>;
  constexpr Index kWidth = L::size, kBlock = 4 * kWidth;
  auto total = core::empty_sum<L>();
  L top(-kInf<T>);
  const L skip = skip_zero ? L(T(0)) : L(kNaN<T>);
  const auto pair = [&](L v) {
    L z;
    auto p = exp_of(v, arg, z);
    p.m = select(z == skip, L(T(0)), p.m);
    top = max(z, top);
    return p;
  };
  Index i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    const auto a = pair(L::load(x + i)), b = pair(L::load(x + i + kWidth));
    const auto c = pair(L::load(x + i + 2 * kWidth)), d = pair(L::load(x + i + 3 * kWidth));
    const L e = max(max(a.e, b.e), max(c.e, d.e));
    const L m = (scale2(a.m, a.e - e) + scale2(b.m, b.e - e)) + (scale2(c.m, c.e - e) + scale2(d.m, d.e - e));
    total = core::add(total, m, e);
  }
  for (; i < n; i += kWidth) {
    const auto p = pair(n - i >= kWidth ? L::load(x + i) : L::load(x + i, static_cast<int>(n - i), -kInf<T>));
    total = core::add(total, p.m, p.e);
  }
  return merge_lanes(total, top);
}

// True where the clamp at the limit of exp_pair changed nothing: no element above it counts, none below it contributes.
template <class T>
bool in_range(const ExpSum<T>& s) {
  const T half = kExpPairLimit<T> * T(0.5);
  return s.e > -half && s.e < half;
}

// log sum exp(z) - maximum, at least 0, to full relative accuracy. `shifted` reads z minus the maximum.
//
//   one element far above the rest    log1p(sum of the rest)
//   otherwise                         log(m) + (e log 2 - maximum)
template <class T, class Arg>
T log_excess(const T* x, Index n, const Total<T>& total, const Arg& shifted) {
  const T reduced = core::fmadd(total.sum.e, kLn2High<T>, -total.maximum) + total.sum.e * kLn2Low<T>;
  const T excess = reduced + core::log(total.sum.m, total.sum.low);
  if (!(excess < T(0.5))) return excess;
  const auto rest = sum_exp(x, n, shifted, true).sum;
  return core::log1p(core::scale2(rest.m + rest.low, rest.e));
}

// Calls body(arg, total, shifted) with the way of reading this row that stays accurate. `arg` gives z, or z minus its
// maximum where the row is out of the exact range; `total` is the sum under arg; `shifted` always gives z minus its maximum.
template <class T, class Arg, class Body>
void with_total_of(const T* x, Index n, T temperature, const Arg& arg, Body& body) {
  const auto total = sum_exp(x, n, arg);
  const bool is_nan = total.sum.m != total.sum.m;
  if (!is_nan && !in_range(total.sum)) {
    T largest = -kInf<T>;
    for (Index i = 0; i < n; ++i) largest = core::max(x[i], largest);
    const T maximum = largest / temperature;
    if (core::abs(maximum) < kInf<T>) {
      const Shifted<T> shifted{temperature, maximum};
      return body(shifted, sum_exp(x, n, shifted), shifted);
    }
    if (core::abs(largest) < kInf<T>) {
      const ShiftedFirst<T> shifted{temperature, largest};
      return body(shifted, sum_exp(x, n, shifted), shifted);
    }
  }
  body(arg, total, Shifted<T>{temperature, total.maximum});
}

template <class T, class Body>
void with_total(const T* x, Index n, T temperature, Body&& body) {
  if (temperature == T(1)) return with_total_of(x, n, temperature, Plain{}, body);
  const bool valid = temperature > T(0) && temperature < kInf<T>;
  with_total_of(x, n, temperature, Divided<T>{valid ? temperature : kNaN<T>}, body);
}

// 1 / sum, NaN where the softmax is undefined: nothing but -inf, or +inf in the row.
template <class T>
T inverse(const Total<T>& total) {
  const bool defined = core::abs(total.maximum) < kInf<T>;
  return defined ? T(1) / (total.sum.m + total.sum.low) : kNaN<T>;
}

template <class T>
void softmax_row(const T* x, Index n, T temperature, T* out) {
  with_total(x, n, temperature, [&](const auto& arg, const Total<T>& total, const auto&) {
    using L = Lanes<T>;
    const L scale(inverse(total)), top(total.sum.e);
    const auto value = [&](L v) {
      const auto p = exp_of(v, arg, v);
      return scale2(p.m * scale, p.e - top);
    };
    Index i = 0;
    for (; i + L::size <= n; i += L::size) value(L::load(x + i)).store(out + i);
    if (const int rest = static_cast<int>(n - i)) value(L::load(x + i, rest, -kInf<T>)).store(out + i, rest);
  });
}

template <class T>
void log_softmax_row(const T* x, Index n, T temperature, T* out) {
  with_total(x, n, temperature, [&](const auto& arg, const Total<T>& total, const auto& shifted) {
    using L = Lanes<T>;
    const bool infinite = total.maximum == kInf<T>;  // then z - inf, as the definition says
    const L excess(infinite ? kInf<T> : log_excess(x, n, total, shifted));
    const auto value = [&](L v) {
      L low(T(0));
      if (infinite) return arg(v, low) - excess;
      const L d = shifted(v, low);
      return select(abs(d) < L(kInf<T>), (d - excess) + low, d - excess);
    };
    Index i = 0;
    for (; i + L::size <= n; i += L::size) value(L::load(x + i)).store(out + i);
    if (const int rest = static_cast<int>(n - i)) value(L::load(x + i, rest, T(0))).store(out + i, rest);
  });
}

template <class T>
T logsumexp_row(const T* x, Index n, T temperature) {
  T result;
  with_total(x, n, temperature, [&](const auto&, const Total<T>& total, const auto& shifted) {
    const bool finite = core::abs(total.maximum) < kInf<T>;
    if (total.sum.m != total.sum.m) {
      result = kNaN<T>;
    } else {
      result = finite ? shifted.offset() + log_excess(x, n, total, shifted) : total.maximum;
    }
  });
  return result;
}

// A closed set of a row: softmax over the gathered columns z, written to p (one entry a column), and its statistics.
template <class T>
void level_row(const T* x, Index n, const Groups& g, const double* levels, T temperature, T* z, T* p, Index row,
               const LevelOut<T>& out) {
  const Index k_columns = g.start[g.n_groups];
  for (Index k = 0; k < k_columns; ++k) z[k] = x[g.tokens[k]];
  softmax_row(z, k_columns, temperature, p);
  T* const probabilities = out.probabilities + row * g.n_groups;
  double score = 0, variance = 0;
  for (Index k = 0; k < g.n_groups; ++k) {
    double sum = 0;
    for (Index t = g.start[k]; t < g.start[k + 1]; ++t) sum += static_cast<double>(p[t]);
    probabilities[k] = static_cast<T>(sum);
    score = core::fmadd(sum, levels[k], score);
  }
  for (Index k = 0; k < g.n_groups; ++k) {
    const double d = levels[k] - score;
    variance = core::fmadd(static_cast<double>(probabilities[k]), d * d, variance);
  }
  out.score[row] = static_cast<T>(score);
  out.variance[row] = static_cast<T>(variance);
  if (out.mass) {
    const T difference = logsumexp_row(z, k_columns, temperature) - logsumexp_row(x, n, temperature);
    out.mass[row] = core::exp(core::min(difference, T(0)));
  }
}

// Rows that do not lie in one piece are copied, so that every layout gives the same bits.
template <class T>
const T* gather(const Rows<const T>& x, Index row, Index n, T* buffer) {
  const T* const p = x.row(row);
  if (x.along.contiguous()) return p;
  for (Index k = 0; k < n; ++k) buffer[k] = p[x.along.offset(k)];
  return buffer;
}

// Rows a chunk, so that a chunk is some 16,000 elements.
Index rows_per_chunk(Index n) { return n >= (1 << 14) ? 1 : (1 << 14) / (n + 1) + 1; }

// Calls row_fn(in, n, row, to) for every row, with `to` the place of the result.
template <class T, class RowFn>
void map_rows(const Rows<const T>& x, const Rows<T>& out, const Exec& exec, RowFn&& row_fn) {
  const Index n = x.along.size(), n_rows = x.across.size();
  const bool in_place = x.along.contiguous(), out_place = out.along.contiguous();
  const Scratch<T> buffer(exec.n_threads, (in_place ? 0 : n) + (out_place ? 0 : n));
  parallel_for(exec, n_rows, rows_per_chunk(n), n_rows * n, [&](Index first, Index last, int slot) {
    for (Index i = first; i < last; ++i) {
      T* const to = out.row(i);
      T* const result = out_place ? to : buffer[slot];
      row_fn(gather(x, i, n, buffer[slot] + (out_place ? 0 : n)), n, i, result);
      if (!out_place) {
        for (Index k = 0; k < n; ++k) to[out.along.offset(k)] = result[k];
      }
    }
  });
}

}  // namespace

template <class T>
void softmax(const Rows<const T>& x, PerRow<T> temperature, const Rows<T>& out, const Exec& exec) {
  map_rows(x, out, exec, [&](const T* in, Index n, Index row, T* to) { softmax_row(in, n, temperature[row], to); });
}

template <class T>
void log_softmax(const Rows<const T>& x, PerRow<T> temperature, const Rows<T>& out, const Exec& exec) {
  map_rows(x, out, exec, [&](const T* in, Index n, Index row, T* to) { log_softmax_row(in, n, temperature[row], to); });
}

template <class T>
void logsumexp(const Rows<const T>& x, PerRow<T> temperature, T* out, const Exec& exec) {
  const Index n = x.along.size(), n_rows = x.across.size();
  const Scratch<T> buffer(exec.n_threads, x.along.contiguous() ? 0 : n);
  parallel_for(exec, n_rows, rows_per_chunk(n), n_rows * n, [&](Index first, Index last, int slot) {
    for (Index i = first; i < last; ++i) out[i] = logsumexp_row(gather(x, i, n, buffer[slot]), n, temperature[i]);
  });
}

template <class T>
void level_scores(const Rows<const T>& x, Groups groups, const double* levels, PerRow<T> temperature, LevelOut<T> out,
                  const Exec& exec) {
  const Index n = x.along.size(), n_rows = x.across.size(), k = groups.start[groups.n_groups];
  const Scratch<T> buffer(exec.n_threads, 2 * k + (x.along.contiguous() ? 0 : n));
  const Index read = out.mass ? n : k;
  parallel_for(exec, n_rows, rows_per_chunk(read), n_rows * read, [&](Index first, Index last, int slot) {
    T* const z = buffer[slot];
    for (Index i = first; i < last; ++i) {
      const T* const row = gather(x, i, n, z + 2 * k);
      level_row(row, n, groups, levels, temperature[i], z, z + k, i, out);
    }
  });
}

#define SOFTMAP_INSTANTIATE(T)                                                             \
  template void softmax(const Rows<const T>&, PerRow<T>, const Rows<T>&, const Exec&);     \
  template void log_softmax(const Rows<const T>&, PerRow<T>, const Rows<T>&, const Exec&); \
  template void logsumexp(const Rows<const T>&, PerRow<T>, T*, const Exec&);               \
  template void level_scores(const Rows<const T>&, Groups, const double*, PerRow<T>, LevelOut<T>, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
