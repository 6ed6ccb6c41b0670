#pragma once
// Softmax of rows of up to some 190 numbers, a block at once.
#include "cpu/short_rows.h"

namespace softmap::cpu {
namespace {

// The reference of exp puts exp(0) at 2^kPlace for all rows. x is held down to kMostExponent; where the sum of a row is not
// between kLeast and kMostSum, each row of the block gets a reference of its own, which comes to the same bits where both would
// do. They will do where every maximum is within kNear.
template <class T>
inline constexpr T kLeast = sizeof(T) == 4 ? T(0x1p32) : T(0x1p100);
template <class T>
inline constexpr T kMostExponent = sizeof(T) == 4 ? T(39) : T(410);
template <class T>
inline constexpr T kMostSum = sizeof(T) == 4 ? T(0x1p100) : T(0x1p900);
template <class T>
inline constexpr T kNear = sizeof(T) == 4 ? T(19) : T(200);

// exp with a reference of the row's own. What it gives as 0 is less than half of the least number beside the largest: 0 in a
// quotient.
template <class S, class T = Compute<S>>
QuotientExp<S> exp_to(LanesOf<S> reference) {
  return QuotientExp<S>(reference, kPlace<T> - (sizeof(T) == 4 ? T(151) : T(1077)));
}

template <class L, class T = typename core::lane<L>::Scalar>
auto is_fine(L total) {
  return (L(kLeast<T>) <= total) & (total <= L(kMostSum<T>));
}
template <class L, class T = typename core::lane<L>::Scalar>
bool are_near(L top) {
  return all(abs(top) <= L(kNear<T>));
}

// e / total, in two parts where T is what is stored, so that it is rounded once.
template <class S, class L = LanesOf<S>>
struct Quotient {
  L scale, low = one();
  Quotient(L s, L l) : scale(s), low(l) {}
  explicit Quotient(WithRest<L> total) : scale(one() / total.sum) {
    if constexpr (kExact) low = fmadd(-total.rest, scale, fmadd(-total.sum, scale, one())) * scale;
  }
  // Of a column: lane r belongs to row r.
  [[gnu::always_inline]] L operator()(L e) const {
    if constexpr (kExact) {
      return fmadd(e, scale, e * low);
    } else {
      return e * scale;
    }
  }
  template <class Int>
  [[gnu::always_inline]] L operator()(L e, const Int* owner) const {
    if constexpr (kExact) {
      return fmadd(e, permute(scale, owner), e * permute(low, owner));
    } else {
      return e * permute(scale, owner);
    }
  }

 private:
  static constexpr bool kExact = sizeof(S) > 2;
  static L one() { return L(typename core::lane<L>::Scalar(1)); }
};

// The sums of the rows whose columns are in c.
template <int kN, class S, class L = LanesOf<S>>
[[gnu::always_inline]] inline WithRest<L> total_of_columns(const L* c) {
  if constexpr (sizeof(S) > 2) {
    return exact_tree<kN>(c);
  } else {
    return {tree<kN>(c, Plus{}), L(0.f)};
  }
}

struct Softmax {
  // How many blocks run() should take at once.
  template <int kN>
  static constexpr int pieces() {
    return kN == 0 || kN > 8 ? 1 : kMostBlocks;
  }

  // kBlocks blocks, one after the other in memory.
  template <int kN, int kBlocks = 1, class S>
  static void run(Block<S>& b, Output<S>& out)
    requires(kN > 0)
  {
    constexpr int kTogether = kBlocks > 1 && kN > 2 ? 2 : kBlocks;
    if (b.apart) [[unlikely]] {
      b.apart = run_apart<kN>(b, kBlocks, out);
      return;
    }
    Block<S> at = b;
#pragma GCC unroll 4
    for (int q = 0; q < kBlocks; q += kTogether, at.x += kTogether * kN * Block<S>::kRows) {
      if (!run_together<kN, kTogether>(at, out)) [[unlikely]]
        b.apart |= run_apart<kN>(at, kTogether, out);
    }
  }

  template <int kN, class S, class L = LanesOf<S>>
  static void run(Block<S>& b, Output<S>& out)
    requires(kN == 0)
  {
    using T = Compute<S>;
    const auto z = [&](Index r, Index i) { return b.z(r, i, -kInf<T>); };
    const auto sum_of_rows = [&] { return b.sum_of_rows(kLeast<T>, [&](Index r, Index i) { return b.kept_row(r, i); }); };
    WithRest<L> total;
    if (!b.apart) {
      const QuotientExp<S> exp(-kPlace<T>);
      for (Index i = 0; i < b.size(); i += L::size) {
        b.prefetch(i);
        exp(min(L(kMostExponent<T>), b.z(i))).store(b.kept + i);
      }
      total = sum_of_rows();
      b.apart = !all(is_fine(total.sum));
    }
    auto beyond = L(T(1)) < L(T(0));
    if (b.apart) [[unlikely]] {
      const L top = b.largest_of_rows(z), reference = reference_of(top);
      for (Index i = 0; i < b.size(); i += L::size) {
        b.prefetch(i);
        exp_to<S>(permute(reference, b.owner + i))(b.z(i)).store(b.kept + i);
      }
      total = sum_of_rows();
      beyond = b.beyond_range(top);
      b.apart = !are_near(top);
    }
    const Quotient<S> share(total);
    const auto value = [&](Index i) { return share(L::load(b.kept + i), b.owner + i); };
    if (!any(beyond)) [[likely]]
      return out.write(b.size(), value);
    for (Index i = 0; i < b.size(); i += L::size) value(i).store(b.kept + i);
    b.replace(beyond, exact_softmax<S>);
    out.write(b.size(), [&](Index i) { return L::load(b.kept + i); });
  }

 private:
  // With one reference for all; false, and nothing is written, where it does not suit some row. While one block waits for its
  // sums the processor has the others to do.
  template <int kN, int kBlocks, class S, class L = LanesOf<S>>
  [[gnu::always_inline]] static bool run_together(const Block<S>& b, Output<S>& out) {
    using T = Compute<S>;
    const QuotientExp<S> exp(-kPlace<T>);
    L e[kBlocks * kN];
    WithRest<L> total[kBlocks];
#pragma GCC unroll 16
    for (int k = 0; k < kBlocks * kN; ++k) {
      b.prefetch(k * L::size);
      e[k] = exp(min(L(kMostExponent<T>), b.z(k * L::size)));
    }
    bool fine = true;
#pragma GCC unroll 4
    for (int q = 0; q < kBlocks; ++q) {
      L c[kN];
      to_columns<kN>(e + q * kN, c);
      total[q] = total_of_columns<kN, S>(c);
      fine &= all(is_fine(total[q].sum));
    }
    if (!fine && !others_are_masked<kN>(b, total)) [[unlikely]]
      return false;
#pragma GCC unroll 4
    for (int q = 0; q < kBlocks; ++q) {
      const Quotient<S> share(total[q]);
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) e[q * kN + k] = share(e[q * kN + k], kBetween<T, kN>.owner[k]);
    }
    out.write(e);
    return true;
  }

  // True where the rows whose sums are not fine are all -inf: these come to NaN, as they should.
  template <int kN, int kBlocks, class S, class L = LanesOf<S>>
  [[gnu::noinline]] static bool others_are_masked(Block<S> b, const WithRest<L> (&total)[kBlocks]) {
    using T = Compute<S>;
    const L zero(T(0)), least(-kInf<T>);
    for (int q = 0; q < kBlocks; ++q, b.x += kN * L::size) {
      const auto fine = is_fine(total[q].sum);
      if (all(fine)) continue;
      if (b.temperature || !all(fine | (total[q].sum == zero))) return false;
      L v[kN], c[kN];
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) v[k] = b.z(k * L::size);
      to_columns<kN>(v, c);
      if (!all(fine | (tree<kN>(c, Larger{}) == least))) return false;
    }
    return true;
  }

  // With a reference for each row, column by column; true where the next rows will want that too.
  template <int kN, class S, class L = LanesOf<S>>
  [[gnu::noinline]] static bool run_apart(Block<S> b, int n_blocks, Output<S>& out) {
    ColumnsOf<kN, S> columns(b, n_blocks);
    bool near = true;
    for (int q = 0; q < n_blocks; ++q) {
      const auto exp = exp_to<S>(reference_of(columns.top[q]));
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) columns.c[q][k] = exp(columns.c[q][k]);
      near &= are_near(columns.top[q]);
    }
    L scale[kMostBlocks], low[kMostBlocks];
    for (int q = 0; q < n_blocks; ++q) {
      const Quotient<S> share(total_of_columns<kN, S>(columns.c[q]));
      scale[q] = share.scale, low[q] = share.low;
    }
    for (int q = 0; q < n_blocks; ++q, b.x += kN * L::size) {
      const Quotient<S> share(scale[q], low[q]);
      L v[kN];
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) columns.c[q][k] = share(columns.c[q][k]);
      to_rows<kN>(columns.c[q], v);
      if (const auto beyond = b.beyond_range(columns.top[q]); any(beyond)) [[unlikely]] {
        for (int k = 0; k < kN; ++k) v[k].store(b.kept + k * L::size);
        b.replace(beyond, exact_softmax<S>);
        for (int k = 0; k < kN; ++k) v[k] = L::load(b.kept + k * L::size);
      }
      out.write(v);
    }
    return !near;
  }
};

}  // namespace
}  // namespace softmap::cpu
