#include <cstdlib>

#include "cpu/short_rows.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

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

inline constexpr Index kBatch = 64;  // rows taken together; the lines of as many more are asked for

// The closed sets of a batch of rows, a row after the other in every column: token t of row r is at z[t * kBatch + r].
template <class S>
class ClosedSets {
  using T = Compute<S>;
  using L = Lanes<T>;
  using D = Lanes<double>;

 public:
  ClosedSets(const Rows<const S>& x, const Groups& groups, const double* levels, PerRow<T> temperature, const Index* offsets,
             const LevelOut<T>& out)
      : x_(x),
        groups_(groups),
        levels_(levels),
        temperature_(temperature),
        offsets_(offsets),
        size_(groups.start[groups.n_groups]),
        n_rows_(x.across.size()),
        out_(out) {}

  static Index room(Index size) { return kBatch * size; }
  // Rows first .. last, at most kBatch.
  void take(Index first, Index last, T* z, double* e) const {
    gather(first, last, z);
    for (Index i = first; i < last; i += L::size) {
      const Index left = last - i;
      const int count = left < L::size ? static_cast<int>(left) : static_cast<int>(L::size);
      if constexpr (sizeof(T) == sizeof(double)) {
        lanes_of_doubles(i, count, z + (i - first), e);
      } else {
        lanes_of_floats(i, count, z + (i - first), e);
      }
    }
  }

 private:
  void gather(Index first, Index last, T* z) const {
    // Of rows that lie closer the processor sees by itself what comes.
    const bool far_apart = n_rows_ > 1 && std::abs(x_.row(1) - x_.row(0)) * Index(sizeof(S)) > 512;
    for (Index i = first; i < last; ++i) {
      if (far_apart && i + kBatch < n_rows_) {
        const S* const ahead = x_.row(i + kBatch);
        for (Index t = 0; t < size_; ++t) __builtin_prefetch(ahead + offsets_[t]);
      }
      const S* const row = x_.row(i);
      for (Index t = 0; t < size_; ++t) z[t * kBatch + (i - first)] = core::to_compute(row[offsets_[t]]);
    }
  }

  // The temperatures of rows i .. i + count, NaN where there is none.
  L divisors(Index i, int count) const {
    T divisor[L::size];
    for (int r = 0; r < L::size; ++r) {
      const T t = temperature_[i + (r < count ? r : 0)];
      divisor[r] = t > T(0) && t < kInf<T> ? t : kNaN<T>;
    }
    return L::load(divisor);
  }
  void put(L p, Index k, Index i, int count) const {
    if (!out_.probabilities) return;
    T probability[L::size];
    p.store(probability);
    for (int r = 0; r < count; ++r) out_.probabilities[(i + r) * groups_.n_groups + k] = probability[r];
  }
  // The most probable member, so far.
  struct Mode {
    L probability = L(T(-1)), level = L(kNaN<T>);
    void see(L p, double of) {
      const auto more = probability < p;
      probability = select(more, p, probability), level = select(more, L(static_cast<T>(of)), level);
    }
  };
  void put(const Mode& mode, Index i, int count) const {
    mode.level.store(out_.mode + i, count);
    select(mode.level == mode.level, mode.probability, mode.level).store(out_.mode_probability + i, count);
  }
  void replace(L wanted, Index i, int count, const T* z, double* e) const {
    T chosen[L::size];
    wanted.store(chosen);
    for (int r = 0; r < count; ++r) {
      if (chosen[r] != T(0)) exact_row(i + r, z + r, e);
    }
  }

  // Floats: rows i .. i + count at once, a lane a row, in double, where a probability has digits to spare.
  void lanes_of_floats(Index i, int count, const T* z, double* e) const {
    const L divisor = divisors(i, count), infinite(kInf<T>), zero(T(0));
    const bool divides = !all(divisor == L(T(1)));
    const auto at = [&](Index t) { return L::load(z + t * kBatch, count, T(0)); };
    const auto divided = [&](L x) { return divides ? x / divisor : x; };
    L top = divided(at(0)), overflows = zero;
    for (Index t = 0; t < size_; ++t) {
      const L x = at(t), v = divided(x);
      top = max(v, top);
      overflows = select((abs(v) == infinite) & (abs(x) < infinite), infinite, overflows);
    }
    // A factor that all exponentials have does not count.
    const ScaledExp<double, QuotientRoots<double>> exp(0.);
    const D top_low = low_half(top), top_high = high_half(top);
    D sum_low(0.), sum_high(0.);
    for (Index t = 0; t < size_; ++t) {
      const L v = divided(at(t));
      const D low = exp(low_half(v) - top_low), high = exp(high_half(v) - top_high);
      low.store(e + t * L::size), high.store(e + t * L::size + D::size);
      sum_low = sum_low + low, sum_high = sum_high + high;
    }
    Moments<D> low{D(1.) / sum_low}, high{D(1.) / sum_high};
    Mode mode;
    for (Index k = 0; k < groups_.n_groups; ++k) {
      low.begin(), high.begin();
      for (Index t = groups_.start[k]; t < groups_.start[k + 1]; ++t) {
        low.add(D::load(e + t * L::size)), high.add(D::load(e + t * L::size + D::size));
      }
      const L p = from_halves(low.finish(levels_[k]), high.finish(levels_[k]));
      // Where the first exponentials of the group were, which are not needed any more.
      low_half(p).store(e + k * L::size), high_half(p).store(e + k * L::size + D::size);
      put(p, k, i, count);
      if (out_.mode) mode.see(p, levels_[k]);
    }
    for (Index k = 0; k < groups_.n_groups; ++k) {
      low.spread(D::load(e + k * L::size), levels_[k]), high.spread(D::load(e + k * L::size + D::size), levels_[k]);
    }
    from_halves(low.score, high.score).store(out_.score + i, count);
    from_halves(low.variance, high.variance).store(out_.variance + i, count);
    if (out_.mode) put(mode, i, count);
    replace(overflows, i, count, z, e);
  }

  // Doubles: rows i .. i + count at once, a lane a row. The reference of exp is each row's own, so that nothing is subtracted
  // from z; what rounding takes from an exponential is added up as well.
  void lanes_of_doubles(Index i, int count, const double* z, double* e) const {
    const D divisor = divisors(i, count), zero(0.), one(1.);
    const bool divides = !all(divisor == one);
    const auto at = [&](Index t) {
      const D x = D::load(z + t * kBatch, count, 0.);
      return divides ? x / divisor : x;
    };
    D top = at(0);
    for (Index t = 1; t < size_; ++t) top = max(at(t), top);
    const ScaledExp<double, QuotientRoots<double>> exp(reference_of(top), kPlace<double> - 1077.);  // as in Softmax
    double* const e_low = e + size_ * D::size;
    WithRest<D> total{zero, zero};
    for (Index t = 0; t < size_; ++t) {
      D low;
      const D value = exp(at(t), low);
      value.store(e + t * D::size), low.store(e_low + t * D::size);
      total = total + WithRest<D>{value, low};
    }
    const D scale = one / total.sum, scale_low = fmadd(-total.rest, scale, fmadd(-total.sum, scale, one)) * scale;
    D score = zero, variance = zero;
    Mode mode;
    for (Index k = 0; k < groups_.n_groups; ++k) {
      WithRest<D> part{zero, zero};
      for (Index t = groups_.start[k]; t < groups_.start[k + 1]; ++t) {
        part = part + WithRest<D>{D::load(e + t * D::size), D::load(e_low + t * D::size)};
      }
      const D p = fmadd(part.sum, scale, fmadd(part.sum, scale_low, part.rest * scale));
      score = fmadd(p, D(levels_[k]), score);
      p.store(e + k * D::size);  // where the first of the group was, which is not needed any more
      put(p, k, i, count);
      if (out_.mode) mode.see(p, levels_[k]);
    }
    for (Index k = 0; k < groups_.n_groups; ++k) {
      const D d = D(levels_[k]) - score;
      variance = fmadd(D::load(e + k * D::size), d * d, variance);
    }
    score.store(out_.score + i, count);
    variance.store(out_.variance + i, count);
    if (out_.mode) put(mode, i, count);
    replace(select(abs(top) < D(kScaledExpLimit<double>), zero, one), i, count, z, e);
  }

  // Score and variance of the rows in one register.
  template <class V>
  struct Moments {
    V inverse, sum = V(0.), score = V(0.), variance = V(0.);
    void begin() { sum = V(0.); }
    void add(V e) { sum = sum + e; }
    V finish(double level) {
      sum = sum * inverse;
      score = fmadd(sum, V(level), score);
      return sum;
    }
    void spread(V p, double level) {
      const V d = V(level) - score;
      variance = fmadd(p, d * d, variance);
    }
  };

  // Row i, whose tokens are kBatch apart from z on.
  void exact_row(Index i, const T* z, double* room) const {
    T *const row = reinterpret_cast<T*>(room), *const probabilities = row + size_;
    for (Index t = 0; t < size_; ++t) row[t] = z[t * kBatch];
    exact_softmax(Row<T>{row, size_, nullptr}, temperature_[i], row);
    double score = 0, variance = 0;
    T mode = kNaN<T>, most = T(-1);
    for (Index k = 0; k < groups_.n_groups; ++k) {
      double sum = 0;
      for (Index t = groups_.start[k]; t < groups_.start[k + 1]; ++t) sum += static_cast<double>(row[t]);
      probabilities[k] = static_cast<T>(sum);
      if (out_.probabilities) out_.probabilities[i * groups_.n_groups + k] = probabilities[k];
      if (most < probabilities[k]) most = probabilities[k], mode = static_cast<T>(levels_[k]);
      score = core::fmadd(sum, levels_[k], score);
    }
    for (Index k = 0; k < groups_.n_groups; ++k) {
      const double d = levels_[k] - score;
      variance = core::fmadd(static_cast<double>(probabilities[k]), d * d, variance);
    }
    out_.score[i] = static_cast<T>(score);
    out_.variance[i] = static_cast<T>(variance);
    if (out_.mode) out_.mode[i] = mode, out_.mode_probability[i] = mode == mode ? most : mode;
  }

  const Rows<const S>& x_;
  const Groups& groups_;
  const double* levels_;
  PerRow<T> temperature_;
  const Index* offsets_;
  Index size_, n_rows_;
  const LevelOut<T>& out_;
};

}  // namespace

template <class S>
void level_scores(const Rows<const S>& x, Groups groups, const double* levels, PerRow<Compute<S>> temperature,
                  LevelOut<Compute<S>> out, const Exec& exec) {
  using T = Compute<S>;
  const Index n = x.along.size(), k = groups.start[groups.n_groups], n_rows = x.across.size();
  const Scratch<Index> offsets(1, k);
  for (Index t = 0; t < k; ++t) offsets[0][t] = x.along.offset(groups.tokens[t]);
  const ClosedSets<S> sets(x, groups, levels, temperature, offsets[0], out);
  const int n_slots = slots_for(exec, n_rows, kBatch, n_rows * k);
  const Scratch<T> gathered(n_slots, ClosedSets<S>::room(k));
  const Scratch<double> exponentials(n_slots, ClosedSets<S>::room(k));
  parallel_for(exec, n_rows, kBatch, n_rows * k, [&](Index begin, Index end, int slot) {
    for (Index first = begin; first < end; first += kBatch) {
      sets.take(first, first + kBatch < end ? first + kBatch : end, gathered[slot], exponentials[slot]);
    }
  });
  if (!out.mass) return;
  if (k == n) {  // the closed set is the whole row, for no token is there twice
    for (Index i = 0; i < n_rows; ++i) out.mass[i] = out.score[i] == out.score[i] ? T(1) : kNaN<T>;
    return;
  }
  const int slots = row_slots(x, n, exec);
  const Scratch<S> buffer(slots, x.along.contiguous() ? 0 : n);
  const Scratch<T> closed(slots, k);
  each_row(x, n, exec, buffer, [&](const Row<S>& row, Index i, int slot) {
    for (Index t = 0; t < k; ++t) closed[slot][t] = core::to_compute(row.x[groups.tokens[t]]);
    out.mass[i] = mass_of(Row<T>{closed[slot], k, nullptr}, row, temperature[i]);
  });
}

#define SOFTMAP_INSTANTIATE(S) \
  template void level_scores(const Rows<const S>&, Groups, const double*, PerRow<Compute<S>>, LevelOut<Compute<S>>, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
