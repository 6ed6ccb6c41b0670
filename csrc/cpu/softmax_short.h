#pragma once
// Softmax of rows of up to some 190 numbers, a block at once.
#include "cpu/short_rows.h"

namespace softmap::cpu {
namespace {

// The reference of exp puts exp(0) at 2^kPlace for all rows. x is held down to kMostExponent; rows whose sum is not between
// kLeast and kMostSum are taken anew.
template <class T>
inline constexpr T kLeast = sizeof(T) == 4 ? T(0x1p32) : T(0x1p100);
template <class T>
inline constexpr T kMostExponent = sizeof(T) == 4 ? T(39) : T(410);
template <class T>
inline constexpr T kMostSum = sizeof(T) == 4 ? T(0x1p100) : T(0x1p900);

template <class L, class T = typename core::lane<L>::Scalar>
auto is_fine(L total) {
  return (L(kLeast<T>) <= total) & (total <= L(kMostSum<T>));
}

// Takes the rows anew that the common reference does not suit, into what is kept: with a reference of their own, which comes to
// the same bits where both would do, or, beyond the range of ScaledExp, exactly: then they are final, and 1 in the result.
template <class S>
[[gnu::noinline]] Lanes<Compute<S>> redo_softmax(const Block<S>& b, Lanes<Compute<S>> totals) {
  using T = Compute<S>;
  using L = Lanes<T>;
  T total[L::size], exact[L::size];
  totals.store(total);
  for (Index r = 0; r < L::size; ++r) {
    exact[r] = 0;
    if (r >= b.count || (total[r] >= kLeast<T> && total[r] <= kMostSum<T>)) continue;
    T* const e = b.kept + r * b.n;
    T tops[L::size], top = -kInf<T>;
    L most(-kInf<T>);
    for (Index i = 0; i < b.n; i += L::size) most = max(b.z(r, i, -kInf<T>), most);
    most.store(tops);
    for (const T t : tops) top = core::max(t, top);
    if (total[r] == total[r] && core::abs(top) < kScaledExpLimit<T>) {
      const ScaledExp<T> exp(core::round_even(top * core::kLog2E<T>) - kPlace<T>);
      for (Index i = 0; i < b.n; i += L::size) {
        const L v = exp(b.z(r, i, -kInf<T>));
        b.n - i < L::size ? v.store(e + i, static_cast<int>(b.n - i)) : v.store(e + i);
      }
    } else {
      const bool masked = top == -kInf<T> && !b.temperature;  // all of it: a frequent case
      S row[kShortVectors * L::size];
      if (!masked) exact_softmax(b.row(r), b.temperature_of(r), row);
      for (Index i = 0; i < b.n; ++i) e[i] = masked ? kNaN<T> : core::to_compute(row[i]);
      exact[r] = 1;
    }
  }
  return L::load(exact);
}

// e / total, in two parts where T is what is stored, so that it is rounded once.
template <class S, class L = LanesOf<S>>
struct Quotient {
  L scale, low;
  explicit Quotient(WithRest<L> total) : scale(one() / total.sum) {
    if constexpr (kExact) low = fmadd(-total.rest, scale, fmadd(-total.sum, scale, one())) * scale;
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

// The sums of the rows in e.
template <int kN, class S, class L = LanesOf<S>>
[[gnu::always_inline]] inline WithRest<L> total_of(const L* e) {
  L c[kN];
  to_columns<kN>(e, c);
  if constexpr (sizeof(S) > 2) {
    return exact_tree<kN>(c);
  } else {
    return {tree<kN>(c, Plus{}), L(0.f)};
  }
}

// total, and 1 for the rows that are final.
template <class L>
WithRest<L> unless_final(L is_final, WithRest<L> total) {
  using T = typename core::lane<L>::Scalar;
  const auto done = is_final == L(T(1));
  return {select(done, is_final, total.sum), select(done, L(T(0)), total.rest)};
}

struct Softmax {
  // How many blocks run() should take at once.
  template <int kN>
  static constexpr int pieces() {
    return kN == 0 || kN > 8 ? 1 : kN == 2 ? 4 : 2;
  }

  // kBlocks blocks, one after the other in memory: while one waits for its sums the processor has the others to do.
  template <int kN, int kBlocks = 1, class S, class L = LanesOf<S>>
  static void run(const Block<S>& b, Output<S>& out)
    requires(kN > 0)
  {
    using T = Compute<S>;
    const ScaledExp<T> exp(-kPlace<T>);
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
      total[q] = total_of<kN, S>(e + q * kN);
      fine &= all(is_fine(total[q].sum));
    }
    if (!fine) [[unlikely]]
      return run_anew<kN, kBlocks>(b, out);
#pragma GCC unroll 4
    for (int q = 0; q < kBlocks; ++q) {
      const Quotient<S> share(total[q]);
#pragma GCC unroll 16
      for (int k = 0; k < kN; ++k) e[q * kN + k] = share(e[q * kN + k], kBetween<T, kN>.owner[k]);
    }
    out.write(e);
  }

  template <int kN, class S, class L = LanesOf<S>>
  static void run(const Block<S>& b, Output<S>& out)
    requires(kN == 0)
  {
    using T = Compute<S>;
    const ScaledExp<T> exp(-kPlace<T>);
    for (Index i = 0; i < b.size(); i += L::size) {
      b.prefetch(i);
      exp(min(L(kMostExponent<T>), b.z(i))).store(b.kept + i);
    }
    const auto sums = [&] { return b.sum_of_rows(kLeast<T>, [&](Index r, Index i) { return b.kept_row(r, i); }); };
    WithRest<L> total = sums();
    if (!all(is_fine(total.sum))) [[unlikely]] {
      const L is_final = redo_softmax(b, total.sum);
      total = unless_final(is_final, sums());
    }
    const Quotient<S> share(total);
    out.write(b.size(), [&](Index i) { return share(L::load(b.kept + i), b.owner + i); });
  }

 private:
  template <int kN, int kBlocks, class S, class L = LanesOf<S>>
  [[gnu::noinline]] static void run_anew(Block<S> b, Output<S>& out) {
    using T = Compute<S>;
    const ScaledExp<T> exp(-kPlace<T>);
    for (int q = 0; q < kBlocks; ++q, b.x += kN * L::size) {
      L e[kN];
      for (int k = 0; k < kN; ++k) e[k] = exp(min(L(kMostExponent<T>), b.z(k * L::size)));
      for (int k = 0; k < kN; ++k) e[k].store(b.kept + k * L::size);
      const L is_final = redo_softmax(b, total_of<kN, S>(e).sum);
      for (int k = 0; k < kN; ++k) e[k] = L::load(b.kept + k * L::size);
      const Quotient<S> share(unless_final(is_final, total_of<kN, S>(e)));
      for (int k = 0; k < kN; ++k) e[k] = share(e[k], kBetween<T, kN>.owner[k]);
      out.write(e);
    }
  }
};

}  // namespace
}  // namespace softmap::cpu
