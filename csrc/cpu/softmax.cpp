#include "softmax.h"

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
void softmax_row(const Row<S>& row, Compute<S> temperature, S* out) {
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
void log_softmax_row(const Row<S>& row, Compute<S> temperature, S* out) {
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
Compute<S> logsumexp_row(const Row<S>& row, Compute<S> temperature) {
  using T = Compute<S>;
  T result;
  with_total(row, temperature, [&](const auto&, const Total<T>& total, const auto& shifted) {
    result = special(total);
    if (result == T(0)) result = log_sum(total, shifted, log_excess(row, total, shifted));
  });
  return result;
}

// log sum exp(z) of the closed set minus that of the whole row, exponentiated.
template <class S, class T = Compute<S>>
T mass_of(const Row<T>& closed, const Row<S>& row, T temperature) {
  T mass;
  with_total(closed, temperature, [&](const auto&, const Total<T>& part, const auto& part_shifted) {
    with_total(row, temperature, [&](const auto&, const Total<T>& whole, const auto& whole_shifted) {
      if (part.maximum == -kInf<T> && special(whole) == T(0)) {
        mass = T(0);
      } else if (special(part) != T(0) || special(whole) != T(0)) {
        mass = kNaN<T>;
      } else {
        const T part_shift = part_shifted.offset() - part.maximum, whole_shift = whole_shifted.offset() - whole.maximum;
        const T ratio = (part.sum.m + part.sum.low) / (whole.sum.m + whole.sum.low);
        const T shift = part_shift == whole_shift ? T(0) : part_shift - whole_shift;
        mass = core::min(core::scale2(ratio, part.sum.e - whole.sum.e) * core::exp(shift), T(1));
      }
    });
  });
  return mass;
}

// A closed set of a row: softmax over the gathered columns z, written to p (one entry a column), and its statistics.
template <class S, class T = Compute<S>>
void level_row(const Row<S>& row, const Groups& g, const double* levels, T temperature, T* z, T* p, Index i,
               const LevelOut<T>& out) {
  const Row<T> closed{z, g.start[g.n_groups], nullptr};
  for (Index k = 0; k < closed.n; ++k) z[k] = core::to_compute(row.x[g.tokens[k]]);
  softmax_row(closed, temperature, p);
  T* const probabilities = out.probabilities + i * g.n_groups;
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
  out.score[i] = static_cast<T>(score);
  out.variance[i] = static_cast<T>(variance);
  if (out.mass) out.mass[i] = mass_of(closed, row, temperature);
}

// Calls row_fn(row, i, to) for every row, with `to` the place of the result.
template <class S, class RowFn>
void map_rows(const Rows<const S>& x, const Rows<S>& out, const Exec& exec, RowFn&& row_fn) {
  const Index n = x.along.size();
  const bool out_place = out.along.contiguous();
  const int slots = row_slots(x, n, exec);
  const Scratch<S> in_buffer(slots, x.along.contiguous() ? 0 : n), out_buffer(slots, out_place ? 0 : n);
  each_row(x, n, exec, in_buffer, [&](const Row<S>& row, Index i, int slot) {
    S* const to = out.row(i);
    S* const result = out_place ? to : out_buffer[slot];
    row_fn(row, i, result);
    if (!out_place) {
      for (Index k = 0; k < n; ++k) to[out.along.offset(k)] = result[k];
    }
  });
}

}  // namespace

template <class S>
void softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_rows(x, out, exec, [&](const Row<S>& row, Index i, S* to) { softmax_row(row, temperature[i], to); });
}

template <class S>
void log_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_rows(x, out, exec, [&](const Row<S>& row, Index i, S* to) { log_softmax_row(row, temperature[i], to); });
}

template <class S>
void logsumexp(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  const Index n = x.along.size();
  const Scratch<S> buffer(row_slots(x, n, exec), x.along.contiguous() ? 0 : n);
  each_row(x, n, exec, buffer,
           [&](const Row<S>& row, Index i, int) { out[i] = core::to_storage<S>(logsumexp_row(row, temperature[i])); });
}

template <class S>
void level_scores(const Rows<const S>& x, Groups groups, const double* levels, PerRow<Compute<S>> temperature,
                  LevelOut<Compute<S>> out, const Exec& exec) {
  const Index n = x.along.size(), k = groups.start[groups.n_groups], read = out.mass ? n : k;
  const int slots = row_slots(x, read, exec);
  const Scratch<S> buffer(slots, x.along.contiguous() ? 0 : n);
  const Scratch<Compute<S>> columns(slots, 2 * k);
  each_row(x, read, exec, buffer, [&](const Row<S>& row, Index i, int slot) {
    level_row(row, groups, levels, temperature[i], columns[slot], columns[slot] + k, i, out);
  });
}

#define SOFTMAP_INSTANTIATE(S)                                                                      \
  template void softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);     \
  template void log_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&); \
  template void logsumexp(const Rows<const S>&, PerRow<Compute<S>>, S*, const Exec&);               \
  template void level_scores(const Rows<const S>&, Groups, const double*, PerRow<Compute<S>>, LevelOut<Compute<S>>, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
