#pragma once
// Networks of permutes for short rows. A block is as many rows of n elements as a register has lanes, one after the other: n
// registers. Sums over its rows then lie in one register, a lane a row.
//
// What is added to what is fixed by `tree`, whatever the way there: neighbours first, an odd one last.
#include <utility>

#include "cpu/lanes.h"

namespace softmap::cpu {
namespace {

struct Plus {
  template <class A, class B>
  A operator()(A a, B b) const {
    return a + b;
  }
};
struct Larger {
  template <class L>
  L operator()(L a, L b) const {
    return max(b, a);
  }
};

// A sum, and what rounding took from it.
template <class L>
struct WithRest {
  L sum, rest;
  friend WithRest operator+(WithRest a, WithRest b) {
    L rounding;
    const L total = core::two_sum(a.sum, b.sum, rounding);
    return {total, (a.rest + b.rest) + rounding};
  }
  friend WithRest operator+(WithRest a, L b) {
    L rounding;
    const L total = core::two_sum(a.sum, b, rounding);
    return {total, a.rest + rounding};
  }
  template <class Int>
  friend WithRest permute(WithRest a, WithRest b, const Int* k) {
    return {permute(a.sum, b.sum, k), permute(a.rest, b.rest, k)};
  }
};

template <int n, class L, class Op>
[[gnu::always_inline]] inline L tree(const L* v, Op op) {
  if constexpr (n == 1) {
    return v[0];
  } else if constexpr (n % 2 == 1) {
    return op(tree<n - 1>(v, op), v[n - 1]);
  } else {
    L half[n / 2];
#pragma GCC unroll 16
    for (int k = 0; k < n / 2; ++k) half[k] = op(v[2 * k], v[2 * k + 1]);
    return tree<n / 2>(half, op);
  }
}

// tree<n> with what rounding takes.
template <int n, class L>
[[gnu::always_inline]] inline WithRest<L> exact_tree(const L* v) {
  if constexpr (n % 2 == 1) {
    return exact_tree<n - 1>(v) + v[n - 1];
  } else {
    WithRest<L> half[n / 2];
#pragma GCC unroll 16
    for (int k = 0; k < n / 2; ++k) half[k].sum = core::two_sum(v[2 * k], v[2 * k + 1], half[k].rest);
    return tree<n / 2>(half, Plus{});
  }
}

// Indices for two registers: the even lanes of both, and the odd ones; the two taken alternately, and what is left of them then.
template <class T>
struct Alternate {
  static constexpr int kSize = Lanes<T>::size;
  typename core::Format<T>::Int even[kSize], odd[kSize], first[kSize], second[kSize];
  constexpr Alternate() : even{}, odd{}, first{}, second{} {
    for (int k = 0; k < kSize; ++k) {
      even[k] = 2 * k, odd[k] = 2 * k + 1;
      first[k] = k % 2 * kSize + k / 2, second[k] = first[k] + kSize / 2;
    }
  }
};
template <class T>
alignas(64) inline constexpr Alternate<T> kAlternate{};

// Indices between rows of n elements (n registers) and their columns (n registers as well): two registers first, then one more at
// a time. `owner` is the row of each element.
template <class T, int n>
struct Between {
  static constexpr int kSize = Lanes<T>::size;
  using Int = typename core::Format<T>::Int;
  Int column[n][n > 1 ? n - 1 : 1][kSize], row[n][n > 1 ? n - 1 : 1][kSize], owner[n][kSize];
  constexpr Between() : column{}, row{}, owner{} {
    for (int j = 0; j < n; ++j) {
      for (int lane = 0; lane < kSize; ++lane) {
        owner[j][lane] = (j * kSize + lane) / n;
        for (int k = 0; k < n - 1; ++k) {
          column[j][k][lane] = pick(k, lane, (lane * n + j) / kSize, (lane * n + j) % kSize);
          row[j][k][lane] = pick(k, lane, (j * kSize + lane) % n, (j * kSize + lane) / n);
        }
      }
    }
  }
  // At step k: lane `at` of register `in` where that is the one just added, otherwise what is there already.
  static constexpr int pick(int k, int lane, int in, int at) { return in == k + 1 ? kSize + at : k == 0 && in == 0 ? at : lane; }
};
template <class T, int n>
alignas(64) inline constexpr Between<T, n> kBetween{};

template <int n, class L, class Steps>
[[gnu::always_inline]] inline L pick_from(const L* v, const Steps& steps) {
  L r = permute(v[0], v[1], steps[0]);
#pragma GCC unroll 16
  for (int k = 2; k < n; ++k) r = permute(r, v[k], steps[k - 1]);
  return r;
}

// c[j] = column j of the rows in v.
template <int n, class T>
[[gnu::always_inline]] inline void to_columns(const Lanes<T>* v, Lanes<T>* c) {
  if constexpr (n == 1) {
    c[0] = v[0];
  } else if constexpr (n % 2 == 0) {
    Lanes<T> half[n / 2], columns[n / 2];
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const auto* const lanes = odd ? kAlternate<T>.odd : kAlternate<T>.even;
#pragma GCC unroll 16
      for (int k = 0; k < n / 2; ++k) half[k] = permute(v[2 * k], v[2 * k + 1], lanes);
      to_columns<n / 2>(half, columns);
#pragma GCC unroll 16
      for (int k = 0; k < n / 2; ++k) c[2 * k + odd] = columns[k];
    }
  } else {
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) c[j] = pick_from<n>(v, kBetween<T, n>.column[j]);
  }
}

// The other way.
template <int n, class T>
[[gnu::always_inline]] inline void to_rows(const Lanes<T>* c, Lanes<T>* v) {
  if constexpr (n == 1) {
    v[0] = c[0];
  } else if constexpr (n % 2 == 0) {
    Lanes<T> half[n / 2], even[n / 2], odd[n / 2];
#pragma GCC unroll 16
    for (int k = 0; k < n / 2; ++k) half[k] = c[2 * k];
    to_rows<n / 2>(half, even);
#pragma GCC unroll 16
    for (int k = 0; k < n / 2; ++k) half[k] = c[2 * k + 1];
    to_rows<n / 2>(half, odd);
#pragma GCC unroll 16
    for (int k = 0; k < n / 2; ++k) {
      v[2 * k] = permute(even[k], odd[k], kAlternate<T>.first);
      v[2 * k + 1] = permute(even[k], odd[k], kAlternate<T>.second);
    }
  } else {
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) v[j] = pick_from<n>(c, kBetween<T, n>.row[j]);
  }
}

// Lane i is the sum (Op) of the lanes of v[i], where n is their number: tree<n> of them. V is Lanes<T> or WithRest of them.
template <class T, int n = Lanes<T>::size, class V, class Op>
[[gnu::always_inline]] inline V over_lanes(const V* v, Op op) {
  if constexpr (n == 1) {
    return v[0];
  } else {
    V half[n / 2];
#pragma GCC unroll 16
    for (int k = 0; k < n / 2; ++k) {
      half[k] = op(permute(v[2 * k], v[2 * k + 1], kAlternate<T>.even), permute(v[2 * k], v[2 * k + 1], kAlternate<T>.odd));
    }
    return over_lanes<T, n / 2>(half, op);
  }
}

// A sum of floats in double.
struct Wide {
  Lanes<double> low, high;
  friend Wide operator+(Wide a, Lanes<float> b) { return {a.low + low_half(b), a.high + high_half(b)}; }
  friend Wide operator+(Wide a, Wide b) { return {a.low + b.low, a.high + b.high}; }
};
inline WithRest<Lanes<float>> over_lanes(const Wide* v, Plus plus) {
  constexpr int kHalf = Lanes<double>::size;
  Lanes<double> row[2 * kHalf];
#pragma GCC unroll 16
  for (int k = 0; k < 2 * kHalf; ++k) row[k] = v[k].low + v[k].high;
  const auto low = over_lanes<double>(row, plus), high = over_lanes<double>(row + kHalf, plus);
  const auto sum = from_halves(low, high);
  return {sum, from_halves(low - low_half(sum), high - high_half(sum))};
}

}  // namespace
}  // namespace softmap::cpu
