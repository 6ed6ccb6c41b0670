#include "cpu/softmax_exact.h"
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

// A closed set of a row: softmax over the gathered columns z, written to p (one entry a column), and its statistics.
template <class S, class T = Compute<S>>
void level_row(const Row<S>& row, const Groups& g, const double* levels, T temperature, T* z, T* p, Index i,
               const LevelOut<T>& out) {
  const Row<T> closed{z, g.start[g.n_groups], nullptr};
  for (Index k = 0; k < closed.n; ++k) z[k] = core::to_compute(row.x[g.tokens[k]]);
  exact_softmax(closed, temperature, p);
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

}  // namespace

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

#define SOFTMAP_INSTANTIATE(S) \
  template void level_scores(const Rows<const S>&, Groups, const double*, PerRow<Compute<S>>, LevelOut<Compute<S>>, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
