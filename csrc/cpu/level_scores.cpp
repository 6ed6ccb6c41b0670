#include "cpu/softmax_exact.h"
#include "cpu/softmax_paths.h"
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

// The closed sets of some rows: gathered into z, with their probabilities in p, one entry a column.
template <class S>
class ClosedSets {
  using T = Compute<S>;

 public:
  ClosedSets(const Rows<const S>& x, const Groups& groups, PerRow<T> temperature)
      : x_(x), groups_(groups), temperature_(temperature), size_(groups.start[groups.n_groups]), n_rows_(x.across.size()) {}

  void gather(Index first, Index last, T* z) const {
    for (Index i = first; i < last; ++i) {
      if (i + kBatch < n_rows_) {
        const S* const ahead = x_.row(i + kBatch);
        for (Index k = 0; k < size_; ++k) __builtin_prefetch(ahead + x_.along.offset(groups_.tokens[k]));
      }
      const S* const row = x_.row(i);
      for (Index k = 0; k < size_; ++k) *z++ = core::to_compute(row[x_.along.offset(groups_.tokens[k])]);
    }
  }
  // z is overwritten. Floats are taken in double, many rows at once: there p has digits to spare.
  void softmax(Index first, Index last, T* z, double* p) const {
    if (sizeof(T) == sizeof(double) || !is_short<double>(size_)) {
      for (Index i = first; i < last; ++i) exact_row(i, z + (i - first) * size_, p + (i - first) * size_);
      return;
    }
    const double one = 1;
    for (Index i = first, k = 0; i < last; ++i) {
      const T t = temperature_[i], divisor = t > T(0) && t < kInf<T> ? t : kNaN<T>;
      for (const Index end = k + size_; k < end; ++k) p[k] = static_cast<double>(z[k] / divisor);
    }
    const Axes across{1, {last - first}, {size_}}, along{1, {size_}, {1}};
    const Rows<double> rows{p, across, along};
    bool overflow[kBatch];
    for (Index r = 0; r < last - first; ++r) {
      overflow[r] = false;
      for (Index k = r * size_; k < (r + 1) * size_; ++k)
        overflow[r] |= core::abs(p[k]) == kInf<double> && core::abs(z[k]) < kInf<T>;
    }
    short_softmax(Rows<const double>{p, across, along}, PerRow<double>{&one, 0}, rows, Exec{1});
    for (Index r = 0; r < last - first; ++r) {
      if (overflow[r]) exact_row(first + r, z + r * size_, p + r * size_);
    }
  }
  // Everything but the mass of row i, from its probabilities.
  void statistics(Index i, const double* p, const double* levels, const LevelOut<T>& out) const {
    T* const probabilities = out.probabilities + i * groups_.n_groups;
    double score = 0, variance = 0;
    for (Index k = 0; k < groups_.n_groups; ++k) {
      double sum = 0;
      for (Index t = groups_.start[k]; t < groups_.start[k + 1]; ++t) sum += p[t];
      probabilities[k] = static_cast<T>(sum);
      score = core::fmadd(sum, levels[k], score);
    }
    for (Index k = 0; k < groups_.n_groups; ++k) {
      const double d = levels[k] - score;
      variance = core::fmadd(static_cast<double>(probabilities[k]), d * d, variance);
    }
    out.score[i] = static_cast<T>(score);
    out.variance[i] = static_cast<T>(variance);
  }

 private:
  void exact_row(Index i, T* z, double* p) const {
    exact_softmax(Row<T>{z, size_, nullptr}, temperature_[i], z);
    for (Index k = 0; k < size_; ++k) p[k] = static_cast<double>(z[k]);
  }

  const Rows<const S>& x_;
  const Groups& groups_;
  PerRow<T> temperature_;
  Index size_, n_rows_;
};

}  // namespace

template <class S>
void level_scores(const Rows<const S>& x, Groups groups, const double* levels, PerRow<Compute<S>> temperature,
                  LevelOut<Compute<S>> out, const Exec& exec) {
  using T = Compute<S>;
  const Index n = x.along.size(), k = groups.start[groups.n_groups], n_rows = x.across.size();
  const ClosedSets<S> sets(x, groups, temperature);
  const int n_slots = slots_for(exec, n_rows, kBatch, n_rows * k);
  const Scratch<T> gathered(n_slots, kBatch * k);
  const Scratch<double> probabilities(n_slots, kBatch * k);
  parallel_for(exec, n_rows, kBatch, n_rows * k, [&](Index begin, Index end, int slot) {
    T* const z = gathered[slot];
    double* const p = probabilities[slot];
    for (Index first = begin; first < end; first += kBatch) {
      const Index last = first + kBatch < end ? first + kBatch : end;
      sets.gather(first, last, z);
      sets.softmax(first, last, z, p);
      for (Index i = first; i < last; ++i) sets.statistics(i, p + (i - first) * k, levels, out);
    }
  });
  if (!out.mass) return;
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
