// Which columns of a row to keep: typical, top-p, top-k, min-p and epsilon sampling. Each is a threshold on a key.
#include "core/ordered.h"
#include "cpu/row_terms.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

constexpr int kDigit = 11, kShortDigit = 6;  // bits a pass of the selection, for long and short rows

template <class T>
struct Work {  // the selection uses up weight, not key
  T *key, *weight;
  typename core::OrderedBits<T>::type* left;
  double* bins;
};

// The smallest key for which the weights of all keys up to it add up to `goal`; the largest key of some weight where they never
// do. Digit by digit from the top: the weights are added up by the next bits, and the keys of one bin are left.
template <class T>
T select_by_weight(const Work<T>& w, Index n, double goal) {
  using U = typename core::OrderedBits<T>::type;
  for (Index i = 0; i < n; ++i) w.left[i] = core::ordered(w.key[i]);
  double reached = 0;
  for (int shift = 8 * sizeof(U); shift > 0 && n > 1;) {
    const int wanted = n < 1024 ? kShortDigit : kDigit, width = shift < wanted ? shift : wanted, n_bins = 1 << width;
    shift -= width;
    const auto digit = [&](U bits) { return static_cast<int>(bits >> shift & static_cast<U>(n_bins - 1)); };
    for (int b = 0; b < n_bins; ++b) w.bins[b] = 0;
    for (Index i = 0; i < n; ++i) w.bins[digit(w.left[i])] += static_cast<double>(w.weight[i]);
    int chosen = 0;
    double below = reached, sum = reached;
    for (int b = 0; b < n_bins && sum < goal; ++b) {
      if (!(w.bins[b] > 0)) continue;
      chosen = b, below = sum;
      sum += w.bins[b];
    }
    reached = below;
    Index kept = 0;
    for (Index i = 0; i < n; ++i) {
      const U bits = w.left[i];
      const T weight = w.weight[i];
      w.left[kept] = bits, w.weight[kept] = weight;
      kept += digit(bits) == chosen;
    }
    n = kept;
  }
  return core::from_ordered<T>(w.left[0]);
}

template <class T>
Index keep_up_to(const T* key, Index n, T limit, bool* keep) {
  Index kept = 0;
  for (Index i = 0; i < n; ++i) kept += keep[i] = key[i] <= limit && key[i] < kInf<T>;
  return kept;
}

// With d = z - maximum, p = exp(d), P = sum p: -log p / P - entropy is -d - (sum p |d| / P), so that no logarithm is needed.
template <class S, class T = Compute<S>>
void filter_row(const Row<S>& row, T temperature, Filter filter, double amount, Index min_keep, const Work<T>& w, bool* keep) {
  with_total(row, temperature, [&](const auto&, const Total<T>& total, const auto& shifted) {
    using L = Lanes<T>;
    const Index n = row.n;
    for (Index i = 0; i < n; ++i) keep[i] = false;
    if (special(total) != T(0) || !in_domain(filter, amount)) return;
    double sums[2];  // of p, and of p |d|
    const auto terms = [&](L x, L d, L p, Index at, int count, auto& to) {
      p.store(w.weight + at, count);
      (filter == Filter::kTypical ? d : -x).store(w.key + at, count);
      to[0] += p;
      to[1] += select(p == L(T(0)), L(T(0)), p * -d);
    };
    sum_row<2>(row, shifted, terms, sums);
    const double whole = sums[0];
    if (filter == Filter::kTypical) {
      const T mean = static_cast<T>(sums[1] / whole);
      for (Index i = 0; i < n; ++i) w.key[i] = core::abs(-w.key[i] - mean);
    }
    Index kept = 0;
    if (filter == Filter::kMinP || filter == Filter::kEpsilon) {
      const double least = filter == Filter::kMinP ? amount : amount * whole;
      for (Index i = 0; i < n; ++i) kept += keep[i] = static_cast<double>(w.weight[i]) >= least;
    } else if (filter != Filter::kTopK) {
      kept = keep_up_to(w.key, n, select_by_weight(w, n, amount * whole), keep);
    }
    const double least = filter == Filter::kTopK ? amount : 0;
    const double count = static_cast<double>(min_keep) > least ? static_cast<double>(min_keep) : least;
    if (static_cast<double>(kept) >= count) return;
    for (Index i = 0; i < n; ++i) w.weight[i] = w.key[i] < kInf<T> ? T(1) : T(0);
    keep_up_to(w.key, n, select_by_weight(w, n, count), keep);
  });
}

}  // namespace

template <class S>
void row_filter(const Rows<const S>& x, PerRow<Compute<S>> temperature, Filter filter, PerRow<double> amount, Index min_keep,
                bool* keep, const Exec& exec) {
  using T = Compute<S>;
  const Index n = x.along.size();
  const int slots = row_slots(x, n, exec);
  const Scratch<S> buffer(slots, x.along.contiguous() ? 0 : n);
  const Scratch<T> key(slots, n), weight(slots, n);
  const Scratch<typename core::OrderedBits<T>::type> left(slots, n);
  const Scratch<double> bins(slots, 1 << kDigit);
  each_row(x, n, exec, buffer, [&](const Row<S>& row, Index i, int slot) {
    const Work<T> work{key[slot], weight[slot], left[slot], bins[slot]};
    filter_row(row, temperature[i], filter, amount[i], min_keep, work, keep + i * n);
  });
}

#define SOFTMAP_INSTANTIATE(S) \
  template void row_filter(const Rows<const S>&, PerRow<Compute<S>>, Filter, PerRow<double>, Index, bool*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
