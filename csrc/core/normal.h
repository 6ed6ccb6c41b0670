#pragma once
// The standard normal distribution function Phi, its logarithm, and the derivatives of that, accurate in both tails.
//
// Everything comes from two functions of z = |x| that vary slowly over [0, inf]:
//
//   N(z) = exp(z^2/2) (1 - Phi(z))           Mills ratio over sqrt(2 pi); from 1/2 down to 1 / (z sqrt(2 pi))
//   D(z) = phi(z) / (1 - Phi(z)) - z         from sqrt(2/pi) down to 1/z
//
// (z + 4) N(z) and (z + 4) D(z) are polynomials in t = (z - 4) / (z + 4); csrc/core/fit_coefficients.py.
#include "core/log.h"

namespace softmap::core {

template <class T>
inline constexpr T kUpperTail[25] = {
    0x1.82b4bb8c94dcep-1,   -0x1.373e3a893c28cp-1,  0x1.8c6dbf2cfc2afp-2,   -0x1.7dff2bff68052p-3,  0x1.eec4cc3e4db3ep-5,
    -0x1.ee2761054e5e1p-8,  -0x1.c81719d60dcdbp-9,  0x1.ab825ff09481bp-10,  0x1.17a4aec9fa29ap-13,  -0x1.e4a431b3465b0p-13,
    -0x1.001f7d33a2ff5p-19, 0x1.26d193750d626p-15,  0x1.80ca2044c09bdp-21,  -0x1.8d64fadf80ed1p-18, -0x1.523a2fde9b829p-21,
    0x1.1319f41c90a11p-20,  0x1.24d40b9cf1122p-22,  -0x1.5739b1a22c213p-23, -0x1.763bb001aa685p-24, 0x1.33354e7ae3599p-26,
    0x1.7329462b6b607p-26,  -0x1.4b02181dd18fdp-31, -0x1.04ffdbe7bdef2p-28, -0x1.0236305d3fd38p-33, 0x1.828df1c3afaadp-32};
template <>
inline constexpr float kUpperTail<float>[12] = {0x1.82b4bcp-1f,  -0x1.373e3ap-1f,  0x1.8c6dbep-2f,   -0x1.7dff3ep-3f,
                                                0x1.eec4f2p-5f,  -0x1.ee0e36p-8f,  -0x1.c81f82p-9f,  0x1.a9c96ap-10f,
                                                0x1.1843a8p-13f, -0x1.c8b2f4p-13f, -0x1.cf514ap-20f, 0x1.70bf46p-16f};

// N(z) as a quotient of polynomials without negative coefficients, for 0 <= z <= 40 (15 in float) only; exact at 0.
template <class T>
inline constexpr T kNearUpperTail[10] = {0x1.0000000000000p-1,  0x1.80ed41d061997p-1, 0x1.1f1b8f382d279p-1, 0x1.1003e2a877923p-2,
                                         0x1.64c8173739750p-4,  0x1.4e3786aea361fp-6, 0x1.bead84a9b33fep-9, 0x1.9b7bbbcf44c3ap-12,
                                         0x1.dcb9256c7d79cp-16, 0x1.0b4987a6022bcp-20};
template <>
inline constexpr float kNearUpperTail<float>[5] = {0x1.000000p-1f, 0x1.a80e72p-2f, 0x1.52af44p-3f, 0x1.1bb316p-5f,
                                                   0x1.a79adap-9f};
template <class T>
inline constexpr T kNearUpperTailUnder[11] = {0x1.0000000000000p+0,  0x1.2697b5b781a60p+1, 0x1.3a9acf6c0302ep+1,
                                              0x1.9b89a22ed8cf9p+0,  0x1.6e1b2f4d6966ap-1, 0x1.d05cbbc999c82p-3,
                                              0x1.aae55e7d47429p-5,  0x1.1a3f6ae4a480fp-7, 0x1.028362dbd75a6p-10,
                                              0x1.2abdf26918b0bp-14, 0x1.4efeaf174f68fp-19};
template <>
inline constexpr float kNearUpperTailUnder<float>[6] = {0x1.000000p+0f, 0x1.a04962p+0f, 0x1.20d1e2p+0f,
                                                        0x1.b07a06p-2f, 0x1.639fbcp-4f, 0x1.0971e4p-7f};

template <class T>
inline constexpr T kMillsExcess[30] = {
    0x1.ce0b1e5a9c1bdp+0,   -0x1.2ea4f44735940p+0,  0x1.9b9a89c505d90p-2,   0x1.148dadc5282f8p-4,   -0x1.1b157133423a8p-3,
    0x1.1419b6ca02b53p-5,   0x1.03548cc73b273p-5,   -0x1.54cb6daeeb232p-6,  -0x1.262a0a26756bep-8,  0x1.04e126bc7b6f3p-7,
    -0x1.87bc09a0c561dp-12, -0x1.45d12eabc79aep-9,  0x1.37e10ad7c4283p-11,  0x1.5ce64c1151f6dp-11,  -0x1.2f5df663429a4p-12,
    -0x1.3b1da8821220cp-13, 0x1.b826d7f34d04fp-14,  0x1.aab8d612d917dp-16,  -0x1.0ac15671b251bp-15, -0x1.400787ece0012p-20,
    0x1.13f78c7d9ea02p-17,  -0x1.7f87e16584773p-20, -0x1.de69a76391cc3p-20, 0x1.ad1e887e9f870p-21,  0x1.480927be3b388p-22,
    -0x1.1687629f54336p-22, -0x1.3ad6454f3f009p-25, 0x1.c722cfd259e5cp-25,  0x1.38f9f894ca573p-29,  -0x1.69d88f839587ep-28};
template <>
inline constexpr float kMillsExcess<float>[15] = {0x1.ce0b1ep+0f,  -0x1.2ea4f6p+0f, 0x1.9b9a8cp-2f,   0x1.14905cp-4f,
                                                  -0x1.1b1610p-3f, 0x1.13df00p-5f,  0x1.03701ep-5f,   -0x1.528dc0p-6f,
                                                  -0x1.2a706ep-8f, 0x1.f2e1a2p-8f,  -0x1.a8ebcep-13f, -0x1.053344p-9f,
                                                  0x1.665800p-12f, 0x1.29385ep-12f, -0x1.36aa50p-14f};

template <class T>
inline constexpr T kInvSqrt2Pi = T(0x1.9884533d43651p-2);  // phi(0)
template <class T>
inline constexpr T kInvSqrt2PiLow = T(-0x1.cbc0d30ebfd15p-56);
template <>
inline constexpr float kInvSqrt2PiLow<float> = -0x1.857936p-27f;

// Above the first, 1 - Phi(z) rounds to 0; above the second, z^2/2 alone is log Phi(-z), and N and D count no more.
template <class T>
inline constexpr T kTailEnd = T(40);
template <>
inline constexpr float kTailEnd<float> = 15.f;
template <class T>
inline constexpr T kMillsEnd = T(0x1p40);

// A number in two parts; low is what rounding took from high.
template <class V>
struct TwoParts {
  V high, low;
};
// The two products of the high parts' errors are too small to count.
template <class V>
SOFTMAP_HD TwoParts<V> operator*(TwoParts<V> a, TwoParts<V> b) {
  const V p = a.high * b.high;
  return {p, fmadd(a.high, b.low, fmadd(a.low, b.high, fmadd(a.high, b.high, -p)))};
}

// P(t) / (z + 4) with t = (z - 4) / (z + 4), for 0 <= z <= kMillsEnd and the coefficients c of P. The steps that decide the
// last bits are carried in two parts.
template <const auto& c, class V>
SOFTMAP_HD TwoParts<V> mills_quotient(V z) {
  using T = typename lane<V>::Scalar;
  const V one = V(T(1)), four = V(T(4)), c0 = V(entry<c, 0>()), c1 = V(entry<c, 1>());
  const V s = z + four, s_low = select(z < four, z - (s - four), four - (s - z));
  const V w = one / s, w_low = w * fmadd(-w, s_low, fmadd(-w, s, one));
  const V t = fmadd(V(T(-8)), w_low, fmadd(V(T(-8)), w, one));
  const V p2 = polynomial<c, 2>(t);
  const V p1 = fmadd(p2, t, c1), p1_low = fmadd(p2, t, c1 - p1);
  const V p0 = fmadd(p1, t, c0), p0_low = fmadd(p1_low, t, fmadd(p1, t, c0 - p0));
  return TwoParts<V>{p0, p0_low} * TwoParts<V>{w, w_low};
}

// exp(-z^2/2) = (m.high + m.low) 2^e for 0 <= z <= kTailEnd. z^2 = h + l exactly, and exp(-l/2) = 1 - l/2.
template <class V>
struct Bell {
  TwoParts<V> m;
  V e;
};
template <class V>
SOFTMAP_HD Bell<V> bell(V z) {
  using T = typename lane<V>::Scalar;
  const V h = z * z, l = fmadd(z, z, -h), minus_half = V(T(-0.5));
  const auto p = exp_pair(minus_half * h);
  return {{p.m, fmadd(p.m, minus_half * l, p.low)}, p.e};
}

// Phi(x).
//
//   x <= 0   exp(-x^2/2) N(-x)
//   x >  0   1 - Phi(-x)
template <class V>
SOFTMAP_HD V ndtr(V x) {
  using T = typename lane<V>::Scalar;
  const V z = min(V(kTailEnd<T>), abs(x));
  const auto b = bell(z);
  const auto q = b.m * mills_quotient<kUpperTail<T>>(z);
  const V tail = scale2(q.high + q.low, b.e);
  return select(x > V(T(0)), V(T(1)) - tail, tail);
}

// kNearUpperTail times the unit of a bell.
template <class T, class Bell>
struct LiftedUpperTail {
  T c[kSize<kNearUpperTail<T>>];
  constexpr LiftedUpperTail() : c{} {
    for (int k = 0; k < kSize<kNearUpperTail<T>>; ++k) c[k] = static_cast<T>(Bell::kUnit * kNearUpperTail<T>[k]);
  }
  SOFTMAP_HD constexpr T operator[](int k) const { return c[k]; }
};
template <class T, class Bell>
inline constexpr LiftedUpperTail<T, Bell> kLiftedUpperTail{};

// c[0] + c[1] x + c[2] x^2 + ... as c[0] + x (odd(x^2) + x even(x^2)): short chains, and the last sum decides the last bits.
template <const auto& c, class V>
SOFTMAP_HD V near_polynomial(V x) {
#if defined(__CUDA_ARCH__)  // other threads fill the wait there, and registers are few
  return polynomial<c>(x);
#else
  const V x2 = x * x;
  return muladd(muladd(polynomial<c, 2, 2>(x2), x, polynomial<c, 1, 2>(x2)), x, V(entry<c, 0>()));
#endif
}

// 1 - Phi(z) for z >= 0, where rounding of z itself counts for more than the terms that decide the last bits of ndtr.
// bell(x2) is exp(-x2/2) / Bell::kUnit, with a unit so small that the far tail is a normal number. Exact at 0, where the bell is.
template <class V, class Bell>
SOFTMAP_HD V quick_upper_tail(V z, const Bell& bell) {
  using T = typename lane<V>::Scalar;
  const V x = min(V(kTailEnd<T>), z);
  return bell(x * x) * near_quotient(near_polynomial<kLiftedUpperTail<T, Bell>>(x), near_polynomial<kNearUpperTailUnder<T>>(x));
}

// The arguments of the logarithm in both tails, for z >= 0.
//
//   log Phi(-z) = log N(z) - z^2/2
//   log Phi(z)  = log(1 - (1 - Phi(z)))
template <class V>
struct LogArguments {
  TwoParts<V> left, right;
};
template <class V>
SOFTMAP_HD LogArguments<V> log_arguments(V z) {
  using T = typename lane<V>::Scalar;
  const auto n = mills_quotient<kUpperTail<T>>(min(V(kMillsEnd<T>), z));
  const auto b = bell(min(V(kTailEnd<T>), z));
  const auto q = b.m * n;
  V low;
  const V high = two_sum(V(T(1)), -scale2(q.high, b.e), low);
  return {n, {high, low - scale2(q.low, b.e)}};
}

// log_n - z^2/2.
template <class V>
SOFTMAP_HD V minus_half_square(V log_n, V z) {
  using T = typename lane<V>::Scalar;
  const V half = V(T(-0.5)) * z;
  return select(z < V(kMillsEnd<T>), fmadd(half, z, log_n), half * z);
}

// log Phi(x). -inf gives -inf, NaN gives NaN.
template <class V>
SOFTMAP_HD V log_ndtr(V x) {
  using T = typename lane<V>::Scalar;
  const V z = abs(x);
  const auto a = log_arguments(z);
  const auto right = x > V(T(0));
  const V l = log(select(right, a.right.high, a.left.high), select(right, a.right.low, a.left.low), V(T(0)));
  return select(right, l, minus_half_square(l, z));
}

// log Phi(-z) and log Phi(z) for z >= 0.
template <class V>
struct LogBoth {
  V left, right;
};
template <class V>
SOFTMAP_HD LogBoth<V> log_ndtr_both(V z) {
  const V zero = V(typename lane<V>::Scalar(0));
  const auto a = log_arguments(z);
  return {minus_half_square(log(a.left.high, a.left.low, zero), z), log(a.right.high, a.right.low, zero)};
}

// Derivatives of log Phi at x = -z and x = z: the inverse Mills ratio r(x) = phi(x) / Phi(x) = (log Phi)'(x) and the
// curvature r(x) (x + r(x)) = -(log Phi)''(x). z >= 0; inf and NaN allowed.
//
//   r(-z) = z + D(z)                           curvature r(-z) D(z), without the difference r - z
//   r(z)  = phi(z) r(-z) / (r(-z) - phi(z))    as 1 - Phi(z) = phi(z) / r(-z)
template <class V>
struct NormalSlopes {
  V left, left_curve, right, right_curve, excess;  // excess: D(z)
};
template <class V>
SOFTMAP_HD NormalSlopes<V> normal_slopes(V z) {
  using T = typename lane<V>::Scalar;
  const V z_mills = min(V(kMillsEnd<T>), z), z_tail = min(V(kTailEnd<T>), z);
  const auto q = mills_quotient<kMillsExcess<T>>(z_mills);
  const V d = q.high + q.low;
  V low;
  const V left = two_sum(z_mills, q.high, low), left_low = low + q.low;
  const auto b = bell(z_tail);
  const auto m = b.m * TwoParts<V>{V(kInvSqrt2Pi<T>), V(kInvSqrt2PiLow<T>)};
  const auto above = m * TwoParts<V>{left, left_low};
  const V phi = scale2(m.high, b.e), below = left - phi, inverse = V(T(1)) / below;
  const V below_low = ((left - below) - phi) + (left_low - scale2(m.low, b.e));
  const V ratio = above.high * inverse;
  const V rest = fmadd(-ratio, below_low, fmadd(-ratio, below, above.high) + above.low);
  const V right = fmadd(rest, inverse, ratio);
  return {z + d, (z_mills + d) * d, scale2(right, b.e), scale2(right * (z_tail + scale2(right, b.e)), b.e), d};
}

// The same without the terms that decide the last bits, for 0 <= z <= 2^20.
template <class V>
SOFTMAP_HD NormalSlopes<V> quick_normal_slopes(V z) {
  using T = typename lane<V>::Scalar;
  const V w = reciprocal(z + V(T(4))), t = fmadd(V(T(-8)), w, V(T(1)));
  const V d = w * polynomial_by_halves<kMillsExcess<T>>(t), left = z + d;
  const V phi = exp(V(T(-0.5)) * z * z) * V(kInvSqrt2Pi<T>);
  const V right = phi * left * reciprocal(left - phi);
  return {left, left * d, right, right * (z + right), d};
}

template <class V>
SOFTMAP_HD V inverse_mills(V x) {
  using T = typename lane<V>::Scalar;
  const auto s = normal_slopes(abs(x));
  return select(x > V(T(0)), s.right, s.left);
}

template <class V>
SOFTMAP_HD V inverse_mills_curvature(V x) {
  using T = typename lane<V>::Scalar;
  const auto s = normal_slopes(abs(x));
  return select(x > V(T(0)), s.right_curve, s.left_curve);
}

}  // namespace softmap::core
