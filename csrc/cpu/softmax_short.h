#pragma once
// Softmax of many short rows at once. A block is as many rows as a register has lanes: exp is computed along memory, whatever
// rows it belongs to, then the sums of all rows of the block lie in one register.
#include "cpu/lanes_exp.h"
#include "cpu/softmax_exact.h"

namespace softmap::cpu {
namespace {

// Rows of up to so many registers are taken many at a time, where registers are wider than 128 bits.
inline constexpr Index kShortVectors = 12;

// exp is held as exp(x) 2^-reference with a reference that puts exp(0) at 2^kPlace and is the same for all rows. x is held down
// to kMostExponent; rows whose sum is not between kLeast and kMostSum are taken anew.
template <class T>
inline constexpr T kPlace = sizeof(T) == 4 ? T(60) : T(400);
template <class T>
inline constexpr double kLeast = sizeof(T) == 4 ? 0x1p32 : 0x1p100;
template <class T>
inline constexpr T kMostExponent = sizeof(T) == 4 ? T(39) : T(410);
template <class T>
inline constexpr T kMostSum = sizeof(T) == 4 ? T(0x1p100) : T(0x1p900);

inline constexpr Index kAheadBytes = 8192;  // how far ahead memory is asked for

template <class T>
T max_of(Lanes<T> v) {
  T x[Lanes<T>::size];
  v.store(x);
  T m = x[0];
  for (int k = 1; k < Lanes<T>::size; ++k) m = core::max(x[k], m);
  return m;
}

// Indices that pick the even and the odd lanes of two registers.
template <class T>
struct Alternate {
  static constexpr int kSize = Lanes<T>::size;
  typename core::Format<T>::Int even[kSize], odd[kSize];
  constexpr Alternate() : even{}, odd{} {
    for (int k = 0; k < kSize; ++k) even[k] = 2 * k, odd[k] = 2 * k + 1;
  }
};
template <class T>
alignas(64) inline constexpr Alternate<T> kAlternate{};

// A sum, and what rounding took from it: added up plainly, even ten numbers would show in the last bits.
template <class L>
struct WithRest {
  L sum, rest;
  friend WithRest operator+(WithRest a, WithRest b) {
    L rounding;
    const L sum = core::two_sum(a.sum, b.sum, rounding);
    return {sum, (a.rest + b.rest) + rounding};
  }
};

// Lane i is the sum of the lanes of v[i].
template <class T, class W = WithRest<Lanes<T>>>
W sums_of(W (&v)[Lanes<T>::size]) {
  const auto lanes_of = [](W a, W b, const auto* k) { return W{permute(a.sum, b.sum, k), permute(a.rest, b.rest, k)}; };
  const auto merge = [&](W a, W b) { return lanes_of(a, b, kAlternate<T>.even) + lanes_of(a, b, kAlternate<T>.odd); };
  for (int count = Lanes<T>::size / 2; count > 0; count /= 2) {
    for (int k = 0; k < count; ++k) v[k] = merge(v[2 * k], v[2 * k + 1]);
  }
  return v[0];
}

// Indices that gather one column of rows of n elements from n registers: two registers first, then one more at a time.
template <class T, int n>
struct Columns {
  static constexpr int kSize = Lanes<T>::size;
  typename core::Format<T>::Int from[n][n - 1][kSize];
  constexpr Columns() : from{} {
    for (int j = 0; j < n; ++j) {
      for (int k = 0; k < n - 1; ++k) {
        for (int lane = 0; lane < kSize; ++lane) {
          const int at = lane * n + j, in = at / kSize;  // where row `lane` has its column j
          from[j][k][lane] = in == k + 1 ? kSize + at % kSize : k == 0 && in == 0 ? at % kSize : lane;
        }
      }
    }
  }
};
template <class T, int n>
alignas(64) inline constexpr Columns<T, n> kColumns{};

// The row that each element of a block belongs to.
template <class T>
void fill_owners(typename core::Format<T>::Int* owner, Index n) {
  for (Index i = 0; i < Lanes<T>::size * n; ++i) owner[i] = static_cast<typename core::Format<T>::Int>(i / n);
}

// Blocks of Lanes<T>::size rows of n elements that lie one after the other; kN is n where that is known, else 0.
template <class S, int kN>
class ShortRows {
  using T = Compute<S>;
  using L = Lanes<T>;
  using Int = typename core::Format<T>::Int;

 public:
  static constexpr Index kRows = L::size;
  ShortRows(Index n, T* kept, const Int* owner) : n_(kN > 0 ? kN : n), kept_(kept), owner_(owner) {}

  // out = softmax(x) for one block.
  void softmax(const S* x, S* out) {
    exp_to_kept(x);
    WithRest<L> total = sum_rows();
    const auto fine = (L(T(kLeast<T>)) <= total.sum) & (total.sum <= L(kMostSum<T>));
    if (!all(fine)) [[unlikely]]
      total = redo(total.sum, x);
    // 1 / (sum + rest) in two parts, so that the quotient is rounded once.
    const L scale = L(T(1)) / total.sum, low = fmadd(-total.rest, scale, fmadd(total.sum, -scale, L(T(1)))) * scale;
    for (Index i = 0; i < kRows * width(); i += kRows) {
      const L e = L::load(kept_ + i);
      store(fmadd(e, permute(scale, owner_ + i), e * permute(low, owner_ + i)), out + i);
    }
  }

 private:
  void exp_to_kept(const S* x) {
    const ScaledExp<T> exp(-kPlace<T>);
    const L most(kMostExponent<T>);
    for (Index i = 0; i < kRows * width(); i += kRows) {
      __builtin_prefetch(reinterpret_cast<const char*>(x + i) + kAheadBytes);
      exp(min(most, load(x + i))).store(kept_ + i);
    }
  }
  // Lane i is the sum of row i of what is kept.
  WithRest<L> sum_rows() const {
    if constexpr (kN > 0) return columns<0, kN>();
    const L zero(T(0));
    WithRest<L> row[kRows];
    const int rest = static_cast<int>(n_ % kRows);
    for (Index r = 0; r < kRows; ++r) {
      const T* const p = kept_ + r * n_;
      WithRest<L> even{rest > 0 ? L::load(p + n_ - rest, rest, T(0)) : zero, zero}, odd{zero, zero};
      Index i = 0;
      for (; i + 2 * kRows <= n_; i += 2 * kRows) {
        even = even + WithRest<L>{L::load(p + i), zero};
        odd = odd + WithRest<L>{L::load(p + i + kRows), zero};
      }
      if (i + kRows <= n_) odd = odd + WithRest<L>{L::load(p + i), zero};
      row[r] = even + odd;
    }
    return sums_of<T>(row);
  }

  // The sum of columns first .. first + count - 1, by halves.
  template <int first, int count>
  [[gnu::always_inline]] WithRest<L> columns() const {
    if constexpr (count > 1) {
      return columns<first, count / 2>() + columns<first + count / 2, count - count / 2>();
    } else {
      return {column<first, 0>(permute(L::load(kept_), L::load(kept_ + kRows), kColumns<T, kN>.from[first][0])), L(T(0))};
    }
  }
  template <int j, int k>
  [[gnu::always_inline]] L column(L so_far) const {
    if constexpr (k == kN - 2) {
      return so_far;
    } else {
      return column<j, k + 1>(permute(so_far, L::load(kept_ + (k + 2) * kRows), kColumns<T, kN>.from[j][k + 1]));
    }
  }

  // Takes the rows anew that the common reference does not suit. A row whose own reference would do comes to the same bits.
  [[gnu::noinline]] WithRest<L> redo(L sums, const S* x) {
    T sum[kRows], exact[kRows];
    sums.store(sum);
    for (Index r = 0; r < kRows; ++r) {
      exact[r] = 0;
      if (sum[r] >= T(kLeast<T>) && sum[r] <= kMostSum<T>) continue;
      L tops(-kInf<T>);
      for (Index i = 0; i < n_; i += kRows) tops = max(load(x + r * n_ + i, part(i), -kInf<T>), tops);
      const T top = max_of(tops);
      if (sum[r] == sum[r] && core::abs(top) < kScaledExpLimit<T>) {
        const ScaledExp<T> exp(core::round_even(top * core::kLog2E<T>) - kPlace<T>);
        for (Index i = 0; i < n_; i += kRows) exp(load(x + r * n_ + i, part(i), -kInf<T>)).store(kept_ + r * n_ + i, part(i));
      } else {
        S row[kShortVectors * L::size];
        if (top > -kInf<T>) exact_softmax(Row<S>{x + r * n_, n_, nullptr}, T(1), row);
        for (Index i = 0; i < n_; ++i) kept_[r * n_ + i] = top > -kInf<T> ? core::to_compute(row[i]) : kNaN<T>;
        exact[r] = 1;
      }
    }
    const WithRest<L> anew = sum_rows();
    const auto is_exact = L::load(exact) == L(T(1));
    return {select(is_exact, L(T(1)), anew.sum), select(is_exact, L(T(0)), anew.rest)};
  }
  Index width() const { return kN > 0 ? kN : n_; }
  int part(Index i) const { return n_ - i < kRows ? static_cast<int>(n_ - i) : static_cast<int>(kRows); }

  Index n_;
  T* kept_;
  const Int* owner_;
};

// All rows of x. Whole blocks of rows that lie one after the other in x and in out (`dense`) are taken where they are, the others
// are gathered, which does not change a bit.
template <int kN, class S>
void short_softmax_of(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, bool dense, const Exec& exec) {
  using T = Compute<S>;
  using Int = typename core::Format<T>::Int;
  constexpr Index kRows = LanesOf<S>::size;
  const Index n = x.along.size(), n_rows = x.across.size(), chunk = (rows_per_chunk(n) + kRows - 1) / kRows * kRows;
  const int slots = slots_for(exec, n_rows, chunk, n_rows * n);
  const Index room = kRows * (n + 2);
  const Scratch<T> kept(slots, room), pieces(slots, 2 * room);
  const Scratch<Int> owner(1, room);
  fill_owners<T>(owner[0], n);
  parallel_for(exec, n_rows, chunk, n_rows * n, [&](Index first, Index last, int slot) {
    ShortRows<S, kN> rows(n, kept[slot], owner[0]);
    ShortRows<T, kN> gathered(n, kept[slot], owner[0]);
    Index i = first;
    for (; dense && i + kRows <= last; i += kRows) rows.softmax(x.data + i * n, out.data + i * n);
    for (; i < last; i += kRows) {
      const Index count = last - i < kRows ? last - i : kRows;
      T *const in = pieces[slot], *const result = in + room;
      for (Index r = 0; r < kRows; ++r) {
        const T t = r < count ? temperature[i + r] : T(1), divisor = t > T(0) && t < kInf<T> ? t : kNaN<T>;
        const S* const from = r < count ? x.row(i + r) : nullptr;
        for (Index k = 0; k < n; ++k) in[r * n + k] = from ? core::to_compute(from[x.along.offset(k)]) / divisor : T(0);
      }
      gathered.softmax(in, result);
      for (Index r = 0; r < count; ++r) {
        S* const to = out.row(i + r);
        for (Index k = 0; k < n; ++k) to[out.along.offset(k)] = core::to_storage<S>(result[r * n + k]);
      }
    }
  });
}

template <class... Args>
void short_softmax(Index n, const Args&... args) {
  switch (n) {
    case 2:
      return short_softmax_of<2>(args...);
    case 3:
      return short_softmax_of<3>(args...);
    case 4:
      return short_softmax_of<4>(args...);
    case 5:
      return short_softmax_of<5>(args...);
    case 6:
      return short_softmax_of<6>(args...);
    case 8:
      return short_softmax_of<8>(args...);
    default:
      return short_softmax_of<0>(args...);
  }
}

}  // namespace
}  // namespace softmap::cpu
