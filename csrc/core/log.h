#pragma once
#include "core/exp_pair.h"

namespace softmap::core {

// 2 atanh(s) = 2 s + s^3 P(s^2) on |s| <= 0.1716; csrc/core/fit_coefficients.py.
template <class T>
inline constexpr T kLog[7] = {0x1.5555555555558p-1, 0x1.99999999952b2p-2, 0x1.2492492df6947p-2, 0x1.c71c62debf86bp-3,
                              0x1.7462b69705382p-3, 0x1.39fe208c33457p-3, 0x1.2b5b5fb2eac92p-3};
template <>
inline constexpr float kLog<float>[3] = {0x1.55555cp-1f, 0x1.997c2ap-2f, 0x1.2ee73ep-2f};

// log 2 with so few bits that k times it is exact for every exponent k, and the rest.
template <class T>
inline constexpr T kLn2Short = T(0x1.62e42feep-1);
template <class T>
inline constexpr T kLn2Rest = T(0x1.a39ef35793c76p-33);
template <>
inline constexpr float kLn2Short<float> = 0x1.62ep-1f;
template <>
inline constexpr float kLn2Rest<float> = 0x1.0bfbe8p-15f;

// log((x + low) 2^e) as k kLn2Short + tail, the product exact, for a normal x > 0; |low| is at most an ulp of x, e is an integer.
//
//   x = 2^k z,  z in [sqrt(1/2), sqrt(2)),  f = z - 1 + 2^-k low,  s = f / (2 + f)
//   log(1 + f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + s^2 P(s^2))),  and then (k + e) log 2
template <class V>
struct LogParts {
  V k, tail;
};
template <class V>
SOFTMAP_HD LogParts<V> log_parts(V x, V low, V e) {
  using T = typename lane<V>::Scalar;
  const V one = V(T(1)), half = V(T(0.5)), k_whole = exponent(x);
  V z = scale2(x, -k_whole);
  const auto above = z > V(T(0x1.6a09e6p+0));
  z = select(above, z * half, z);
  const V k_z = select(above, k_whole + one, k_whole);
  const V f = (z - one) + scale2(low, -k_z), k = k_z + e;
  const V s = f / (V(T(2)) + f), s2 = s * s, h = half * f * f;
  const V inner = fmadd(s, fmadd(s2, polynomial<kLog<T>>(s2), h), k * V(kLn2Rest<T>));
  return {k, f - (h - inner)};
}

// log((x + low) 2^e) for every x: 0 gives -inf, a negative number NaN, inf inf, NaN NaN; x may be subnormal.
template <class V>
SOFTMAP_HD V log(V x, V low, V e) {
  using T = typename lane<V>::Scalar;
  const V zero = V(T(0));
  const auto tiny = x < V(Format<T>::min_normal);
  const V lift = select(tiny, V(T(0x1p60)), V(T(1)));
  const auto parts = log_parts(x * lift, low * lift, select(tiny, e - V(T(60)), e));
  const V r = fmadd(parts.k, V(kLn2Short<T>), parts.tail);
  return select(x > zero, select(x < V(kInf<T>), r, x), select(x == zero, V(-kInf<T>), V(kNaN<T>)));
}

template <class V>
SOFTMAP_HD V log(V x) {
  const V zero = V(typename lane<V>::Scalar(0));
  return log(x, zero, zero);
}

// log(1 + y), with 1 + y held in two parts.
template <class V>
SOFTMAP_HD V log1p(V y) {
  using T = typename lane<V>::Scalar;
  V low;
  const V x = two_sum(V(T(1)), y, low);
  return select(x < V(kInf<T>), log(x, low, V(T(0))), y);
}

// The same for 0 <= y <= 1, where the exponent of 1 + y is known.
template <class V>
SOFTMAP_HD V log1p_to_one(V y) {
  using T = typename lane<V>::Scalar;
  const V one = V(T(1)), half = V(T(0.5)), zero = V(T(0)), x = one + y, low = y - (x - one);
  const auto above = x > V(T(0x1.6a09e6p+0));
  const V f = (select(above, x * half, x) - one) + select(above, low * half, low);
  const V s = near_quotient(f, V(T(2)) + f), s2 = s * s, h = half * f * f;
  const V inner = fmadd(s, fmadd(s2, polynomial<kLog<T>>(s2), h), select(above, V(kLn2Rest<T>), zero));
  return select(above, V(kLn2Short<T>), zero) + (f - (h - inner));
}

}  // namespace softmap::core
