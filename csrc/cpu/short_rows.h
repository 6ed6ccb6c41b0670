#pragma once
// Blocks of short rows, as many as a register has lanes, for the softmax family.
//
// A block of rows that lie one after the other is read as it lies in memory, whatever rows its elements belong to; sums over rows
// go through networks of permutes. kN is the length of a row where that is known when compiling, else 0. A row has the same bits
// in every block.
#include "cpu/lanes_exp.h"
#include "cpu/output.h"
#include "cpu/row_networks.h"
#include "cpu/softmax_exact.h"
#include "cpu/softmax_paths.h"

namespace softmap::cpu {
namespace {

// exp is held as exp(x) 2^-reference with a reference that puts exp(0), or the largest, at about 2^kPlace.
template <class T>
inline constexpr T kPlace = sizeof(T) == 4 ? T(60) : T(400);

// A power of two for each row, so that exp(top) comes to about 2^kPlace.
template <class L, class T = typename core::lane<L>::Scalar>
L reference_of(L top) {
  return round_even(top * L(core::kLog2E<T>)) - L(kPlace<T>);
}

// As many rows of n elements as a register has lanes, of which the first `count` count. `temperature` is null for 1, otherwise an
// entry a row; owner[i] is the row of element i; there is room for the block in `kept`. `apart`: rows of the block before wanted
// references of their own, so that those of this block are likely to.
template <class S>
struct Block {
  using T = Compute<S>;
  using L = Lanes<T>;
  using Int = typename core::Format<T>::Int;
  static constexpr Index kRows = L::size;
  const S* x;
  Index n, count;
  const T* temperature;
  const Int* owner;
  T* kept;
  bool apart = false;

  // Elements i .. i + kRows of the block, and of row r; beyond its end there is `fill`.
  [[gnu::always_inline]] L z(Index i) const {
    const L v = load(x + i);
    return temperature ? v / permute(L::load(temperature), owner + i) : v;
  }
  L z(Index r, Index i, T fill) const {
    const L v = n - i < kRows ? load(x + r * n + i, static_cast<int>(n - i), fill) : load(x + r * n + i);
    return temperature ? v / L(temperature[r]) : v;
  }
  Index size() const { return count * n; }
  Row<S> row(Index r) const { return {x + r * n, n, nullptr}; }
  T temperature_of(Index r) const { return temperature ? temperature[r] : T(1); }
  void prefetch(Index i) const { ask_ahead(x + i); }

  // row[r] is the sum (Op) of at(r, i) over row r: registers with an even and an odd number apart. `other` stands for rows that
  // do not count.
  template <class V, class At, class Op>
  void over_rows(V (&row)[kRows], V empty, V other, const At& at, Op op) const {
#pragma GCC unroll 1
    for (Index r = 0; r < kRows; ++r) {
      V even = r < count ? empty : other, odd = even;
      if (r < count) {
        Index i = 0;
        for (; i + kRows < n; i += 2 * kRows) {
          even = op(even, at(r, i));
          odd = op(odd, at(r, i + kRows));
        }
        if (i < n) even = op(even, at(r, i));
      }
      row[r] = op(even, odd);
    }
  }
  // Lane r is the maximum of at(r, i) over row r, or its sum; 0 and `other` where a row does not count.
  template <class At>
  L largest_of_rows(const At& at) const {
    L row[kRows];
    over_rows(row, L(-kInf<T>), L(T(0)), at, Larger{});
    return over_lanes<T>(row, Larger{});
  }
  template <class At>
  WithRest<L> sum_of_rows(T other, const At& at) const {
    if constexpr (sizeof(S) == 8) {
      WithRest<L> row[kRows];
      over_rows(row, WithRest<L>{L(0.), L(0.)}, WithRest<L>{L(other), L(0.)}, at, Plus{});
      return over_lanes<T>(row, Plus{});
    } else if constexpr (sizeof(S) == 4) {
      using D = Lanes<double>;
      const D more(static_cast<double>(other));
      Wide row[kRows];
      over_rows(row, Wide{D(0.), D(0.)}, Wide{more, more}, at, Plus{});
      return over_lanes(row, Plus{});
    } else {  // good enough for results of 16 bits
      L row[kRows];
      over_rows(row, L(0.f), L(other), at, Plus{});
      return {over_lanes<T>(row, Plus{}), L(0.f)};
    }
  }
  L kept_row(Index r, Index i) const {
    const T* const p = kept + r * n + i;
    return n - i < kRows ? L::load(p, static_cast<int>(n - i), T(0)) : L::load(p);
  }

  // Where the maximum of a row is beyond the range of ScaledExp. Rows of -inf are not, but for those that division led there.
  auto beyond_range(L top) const {
    const auto beyond = L(kScaledExpLimit<T>) <= abs(top);
    return temperature ? beyond : beyond & !(top == L(-kInf<T>));
  }
  // body(r) for those of the rows in the mask that count.
  template <class Body>
  void each_of(typename L::M mask, const Body& body) const {
    T chosen[kRows];
    select(mask, L(T(1)), L(T(0))).store(chosen);
    for (Index r = 0; r < count; ++r) {
      if (chosen[r] != T(0)) body(r);
    }
  }
  // exact(row, temperature, result) for each of them, into what is kept.
  template <class Exact>
  [[gnu::noinline]] void replace(typename L::M mask, const Exact& exact) const {
    each_of(mask, [&](Index r) {
      S result[kShortVectors * kRows];
      exact(row(r), temperature_of(r), result);
      for (Index i = 0; i < n; ++i) kept[r * n + i] = core::to_compute(result[i]);
    });
  }
};

// Blocks that are taken step by step, all of them at each step: from the first load of a block to its last result takes longer
// than a processor looks ahead.
inline constexpr int kMostBlocks = 4;

// The columns of blocks that lie one after the other in memory, and the maximum of each row.
template <int kN, class S>
struct ColumnsOf {
  using L = LanesOf<S>;
  L c[kMostBlocks][kN], top[kMostBlocks];
  ColumnsOf(const Block<S>& b, int n_blocks) {
    const S* const end = b.x + n_blocks * kN * L::size;
    int q = 0;
    for (Block<S> at = b; at.x != end; at.x += kN * L::size, ++q) {
      L v[kN];
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) {
        at.prefetch(k * L::size);
        v[k] = at.z(k * L::size);
      }
      to_columns<kN>(v, c[q]);
      top[q] = tree<kN>(c[q], Larger{});
    }
  }
};

}  // namespace
}  // namespace softmap::cpu
