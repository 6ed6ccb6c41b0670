#pragma once
// exp(x) held as mantissa * 2^exponent, so that a sum of exponentials needs no maximum: the accumulation step of the
// two-pass softmax.
//
// Reference: Dukhan & Ablavatski, "Two-Pass Softmax Algorithm", 2020, arXiv:2001.04438, algorithm 3.
#include "core/lane.h"

namespace softmap::core {

// log 2 in two parts: the first rounded to T, the second the rest.
template <class T>
inline constexpr T kLn2High = T(0x1.62e42fefa39efp-1);
template <class T>
inline constexpr T kLn2Low = T(0x1.abc9e3b39803fp-56);
template <>
inline constexpr float kLn2Low<float> = -0x1.05c61p-29f;
template <class T>
inline constexpr T kLog2E = T(0x1.71547652b82fep+0);

// exp(t) = 1 + t + t^2 P(t) on |t| <= 0.3475; csrc/core/fit_coefficients.py.
template <class T>
inline constexpr T kExp[11] = {0x1.0000000000000p-1,  0x1.5555555555557p-3,  0x1.5555555555556p-5,  0x1.1111111110085p-7,
                               0x1.6c16c16c162a3p-10, 0x1.a01a01ac16f76p-13, 0x1.a01a01a6f35fbp-16, 0x1.71de019d031e7p-19,
                               0x1.27e4db0f8a3efp-22, 0x1.af4f1ddf981a8p-26, 0x1.1f73b376c0f55p-29};
template <>
inline constexpr float kExp<float>[6] = {0x1.000000p-1f, 0x1.555556p-3f,  0x1.5554e8p-5f,
                                         0x1.1110e0p-7f, 0x1.6d44b2p-10f, 0x1.a12652p-13f};

// The bits of c 2^(j / 2^bits), less the j that a shift by the rest of the mantissa adds to them. In float, the common factor c
// was found by search: with it all entries lie within 0.14 (16 of them) and 0.03 ULP (8) of a float. It cancels in quotients.
template <class T, int bits>
struct RootTable {
  static constexpr double factor = sizeof(T) > 4 ? 1.0 : bits == 4 ? 0x1.a9a1283793a50p+0 : 0x1.ad6fb40ae7e28p+0;
  static constexpr double kRoot[16] = {
      0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
      0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
      0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
      0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0};  // 2^(j / 16)
  alignas(64) typename Format<T>::Int entry[1 << bits];
  constexpr RootTable() : entry{} {
    using I = typename Format<T>::Int;
    for (int j = 0; j < 1 << bits; ++j) {
      entry[j] =
          __builtin_bit_cast(I, static_cast<T>(factor * kRoot[j << (4 - bits)])) - (I(j) << (Format<T>::mantissa_bits - bits));
    }
  }
};
template <class T, int bits>
inline constexpr RootTable<T, bits> kRoots{};

// exp(r) = 1 + r + r^2 P(r) on |r| <= log(2) / 32 and log(2) / 16, and a little more; csrc/core/fit_coefficients.py.
template <class T>
inline constexpr T kExpBy16[5] = {0x1.0000000000000p-1, 0x1.55555554da276p-3, 0x1.5555555517be6p-5, 0x1.11120e2f9908fp-7,
                                  0x1.6c17be8a88d34p-10};
template <>
inline constexpr float kExpBy16<float>[2] = {0x1.0001660000000p-1f, 0x1.5556720000000p-3f};
inline constexpr float kExpBy8[3] = {0x1.0000000000000p-1f, 0x1.555bc40000000p-3f, 0x1.55599e0000000p-5f};

// The largest |x| that exp_pair takes: n = round(x log2 e) is then an exact integer with room for rounding.
template <class T>
inline constexpr T kExpPairLimit = T(0x1p50);
template <>
inline constexpr float kExpPairLimit<float> = 0x1p21f;

template <class V>
struct ExpPair {
  V m;    // mantissa, in [0.70, 1.42]
  V e;    // exponent, an integer
  V low;  // what rounding took from m
};

// exp(x) = (m + low) * 2^e for |x| <= kExpPairLimit; NaN gives a NaN mantissa. exp_pair(0) is exactly (1, 0).
//
//   e = round(x / log 2),  t = x - e log 2,  m + low = exp(t) = 1 + (t + t^2 P(t))
template <class V>
SOFTMAP_HD ExpPair<V> exp_pair(V x) {
  using T = typename lane<V>::Scalar;
  const V e = round_even(x * V(kLog2E<T>));
  V t = fmadd(e, V(-kLn2High<T>), x);
  t = fmadd(e, V(-kLn2Low<T>), t);
  const V r = fmadd(t * t, polynomial<kExp<T>>(t), t);
  const V m = V(T(1)) + r;
  return {m, e, r - (m - V(T(1)))};
}

// exp(x) for every x: 0 at -inf, gradual underflow, infinity on overflow, NaN at NaN.
template <class V>
SOFTMAP_HD V exp(V x) {
  using T = typename lane<V>::Scalar;
  const V limit = V(T(2) * Format<T>::exponent_limit);
  const ExpPair<V> p = exp_pair(min(limit, max(-limit, x)));
  return scale2(p.m, p.e);
}

// A sum of pairs, (m + low) * 2^e: low carries what rounding took from m, so that the length of a row does not show.
template <class V>
struct ExpSum {
  V m, low, e;
};

// An exponent below that of every pair: what 0 has.
template <class T>
inline constexpr T kLowestExponent = T(-8) * kExpPairLimit<T>;

template <class V>
SOFTMAP_HD ExpSum<V> empty_sum() {
  using T = typename lane<V>::Scalar;
  return {V(T(0)), V(T(0)), V(kLowestExponent<T>)};
}

// sum + (m + low) * 2^e.
template <class V>
SOFTMAP_HD ExpSum<V> add(ExpSum<V> sum, V m, V low, V e) {
  using T = typename lane<V>::Scalar;
  const V top = max(sum.e, e), one = V(T(1));
  const V keep = scale2(one, sum.e - top), take = scale2(one, e - top);
  V rounding;
  const V total = two_sum(sum.m * keep, m * take, rounding);
  return {total, fmadd(sum.low, keep, fmadd(low, take, rounding)), top};
}

template <class V>
SOFTMAP_HD ExpSum<V> add(ExpSum<V> a, ExpSum<V> b) {
  return add(a, b.m, b.low, b.e);
}

}  // namespace softmap::core
