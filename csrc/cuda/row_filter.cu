// Which columns of a row to keep: typical, top-p, top-k, min-p and epsilon sampling, as in cpu/row_filter.cpp. Weights are added
// up as integers, so that their sums do not depend on the order.
#include "core/ordered.h"
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

using Word = unsigned long long;
inline constexpr int kDigit = 8, kBins = 1 << kDigit;  // bits a pass of the selection

// A sum of weights in fixed point, of one word or of two.
template <int n_words>
struct Fixed {
  Word word[n_words];
  __device__ friend Fixed operator+(Fixed a, Fixed b) {
    for (int k = 0; k < n_words; ++k) a.word[k] += b.word[k];
    return a;
  }
  __device__ bool some() const { return word[0] > 0 || word[n_words - 1] > 0; }
};

// Weights of [0, 1] in fixed point, so that n of them stay within a word. One word has 2^-62 n for its last bit, two the square.
template <class T>
struct Mass {
  static constexpr int kWords = sizeof(T) == 4 ? 1 : 2;
  using Sum = Fixed<kWords>;
  double one, inverse;

  __device__ explicit Mass(Index n) {
    int n_bits = 0;
    while (n >> n_bits) ++n_bits;
    one = core::pow2_scalar(static_cast<double>(62 - n_bits));
    inverse = core::pow2_scalar(static_cast<double>(n_bits - 62));
  }
  __device__ Sum of(T weight) const {
    Sum s;
    double rest = static_cast<double>(weight);
    for (Word& word : s.word) {
      rest *= one;
      word = static_cast<Word>(rest);
      rest -= static_cast<double>(word);
    }
    return s;
  }
  __device__ double value(const Sum& s) const {
    double r = 0;
    for (int k = kWords; k-- > 0;) r = (r + static_cast<double>(s.word[k])) * inverse;
    return r;
  }
};
// Weights of 0 and 1.
struct Count {
  using Sum = Fixed<1>;
  __device__ Sum of(bool is_one) const { return {{is_one}}; }
  __device__ double value(const Sum& s) const { return static_cast<double>(s.word[0]); }
};

// The smallest key for which the weights of all keys up to it come to `goal`; the largest key of some weight where they never
// do. Digit by digit from the top: the weights of the keys that share the digits so far are added up by the next one.
// bits(x) are the ordered bits of a key, weight(x) is what `measure` measures; bins are shared by the group.
template <class U, class Row, class Group, class Measure, class Bits, class Weight>
__device__ U select_by_weight(Row& row, const Group& group, const Measure& measure, const Bits& bits, const Weight& weight,
                              double goal, typename Measure::Sum* bins) {
  using Sum = typename Measure::Sum;
  constexpr int kPer = kBins / Group::kThreads, kWidth = 8 * sizeof(U);
  U leading = 0;
  Sum reached{};
#pragma unroll 1
  for (int shift = kWidth - kDigit; shift >= 0; shift -= kDigit) {
    for (int b = Group::rank(); b < kBins; b += Group::kThreads) bins[b] = Sum{};
    group.sync();
    row.each(
        [&](auto x, Index) {
          const U key = bits(x) >> shift;
          if (key >> kDigit != leading && shift + kDigit < kWidth) return;
          const Sum w = measure.of(weight(x));
          Sum& bin = bins[key & U(kBins - 1)];
          for (int k = 0; k < static_cast<int>(sizeof w.word / sizeof(Word)); ++k) {
            if (w.word[k]) atomicAdd(&bin.word[k], w.word[k]);
          }
        },
        [] {});
    group.sync();
    Sum own{}, total;
    for (int b = 0; b < kPer; ++b) own = own + bins[Group::rank() * kPer + b];
    Sum sum = reached + group.sum_before(own, total), below{};
    int candidate = 0;
    for (int b = 0; b < kPer; ++b) {  // the last one of some weight before the goal
      const Sum w = bins[Group::rank() * kPer + b];
      if (w.some() && measure.value(sum) < goal) candidate = Group::rank() * kPer + b, below = sum;
      sum = sum + w;
    }
    const int chosen = group.reduce(candidate, Largest());
    const bool own_it = chosen / kPer == Group::rank();
    reached = group.reduce(own_it && candidate == chosen ? below : Sum{}, Add());
    leading = leading << kDigit | static_cast<U>(chosen);
    group.sync();  // the bins are cleared next
  }
  return leading;
}

template <class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    row_filter_kernel(Dense<const S> x, EachRow<Compute<S>> temperature, Filter filter, EachRow<double> amounts, Index min_keep,
                      bool* keep) {
  using T = Compute<S>;
  using U = typename core::OrderedBits<T>::type;
  SOFTMAP_SHARED(typename Mass<T>::Sum, bins_of_all, kBins * Group::kRowsPerBlock);
  auto* const bins = bins_of_all + Group::index() * kBins;
  const Group group;
  const Index n_rows = x.n_rows, n = x.n;
  const Mass<T> measure(n);
  for (Index i = Group::first(); i < n_rows; i += Group::step()) {
    InMemory<S, Group> row{x.row(i), n};
    bool* const keeps = keep + i * n;
    const Shift<T> shift(largest_of<T>(row, group), temperature[i]);
    const double amount = amounts[i];
    if (!(core::abs(shift.largest) < kInf<T>) || shift.maximum != shift.maximum || !in_domain(filter, amount)) {
      row.each([&](T, Index k) { keeps[k] = false; }, [] {});
      continue;
    }
    const auto weight = [&](T v) {
      T low;
      const T d = shift(v, low);
      return exp_below(d, low);
    };
    // With P = sum p, -log p / P - entropy is |d| - sum p |d| / P, so that no logarithm is needed.
    typename Mass<T>::Sum mass{};
    Sum<T> first{};
    row.each(
        [&](T v, Index) {
          T low;
          const T d = shift(v, low), p = exp_below(d, low);
          mass = mass + measure.of(p);
          first += p == T(0) ? p : p * -d;
        },
        [&] { first.fold(); });
    const double whole = measure.value(group.reduce(mass, Add()));
    const T mean = static_cast<T>(static_cast<double>(total_of(group, first)) / whole);
    const auto key = [&](T v) {
      T low;
      return filter == Filter::kTypical ? core::abs(-shift(v, low) - mean) : -v;
    };
    const auto bits = [&](T v) { return core::ordered(key(v)); };
    const auto keep_where = [&](const auto& wanted) {
      long long n_kept = 0;
      row.each([&](T v, Index k) { n_kept += keeps[k] = wanted(v); }, [] {});
      return group.reduce(n_kept, Add());
    };
    const auto keep_up_to = [&](U limit) { return keep_where([&](T v) { return bits(v) <= limit && key(v) < kInf<T>; }); };

    long long n_kept = 0;
    if (filter == Filter::kMinP || filter == Filter::kEpsilon) {
      const double least = filter == Filter::kMinP ? amount : amount * whole;
      n_kept = keep_where([&](T v) { return static_cast<double>(weight(v)) >= least; });
    } else if (filter != Filter::kTopK) {
      n_kept = keep_up_to(select_by_weight<U>(row, group, measure, bits, weight, amount * whole, bins));
    }
    const double wanted = core::max(static_cast<double>(min_keep), filter == Filter::kTopK ? amount : 0);
    if (static_cast<double>(n_kept) >= wanted) continue;
    const auto finite = [&](T v) { return key(v) < kInf<T>; };
    keep_up_to(select_by_weight<U>(row, group, Count{}, bits, finite, wanted, reinterpret_cast<Count::Sum*>(bins)));
  }
}

}  // namespace

template <class S>
void row_filter(const Rows<const S>& x, PerRow<Compute<S>> temperature, Filter filter, PerRow<double> amount, Index min_keep,
                bool* keep, const Exec& exec) {
  const auto rows = packed(x, exec);
  with_group(rows.n, [&]<class Group>() {
    launch<&row_filter_kernel<S, Group>>(exec, {rows.n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, rows,
                                         on_device(temperature), filter, on_device(amount), min_keep, keep);
  });
}

#define SOFTMAP_INSTANTIATE(S) \
  template void row_filter(const Rows<const S>&, PerRow<Compute<S>>, Filter, PerRow<double>, Index, bool*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(core::Half)
SOFTMAP_INSTANTIATE(core::BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
