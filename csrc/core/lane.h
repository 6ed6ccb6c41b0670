#pragma once
// What core/ asks of a value type V, and the scalar model of it.
//
// A formula in core/ is written once over V. V is float or double on the host and in a CUDA thread, and cpu::Lanes<T>
// (several numbers in one register) in the CPU kernels. core/ has no loops over arrays, no allocation, no instruction
// sets and no CUDA calls, and does not branch on data: it computes both cases and selects.
//
//   V(c)                  every lane holds the constant c
//   + - * / unary -       IEEE, correctly rounded
//   < <= > >= ==          give lane<V>::Mask, combined with & | !
//   select(mask, a, b)    a where mask, b elsewhere
//   max(a, b)             a > b ? a : b, hence b where either is NaN; min(a, b) likewise
//   fmadd(a, b, c)        a * b + c with one rounding, up to a relative 2^-50 (2^-100 in double) where there is no FMA unit; NaN
//   is allowed
//                         where a or b is infinite or above 2^500 (2^100 in float)
//   muladd(a, b, c)       a * b + c, fused only where that is one instruction: for terms whose rounding does not count
//   abs, sqrt
//   reciprocal(x)         1 / x, off by 2 ULP at most, for x in [2^-100, 2^100]
//   near_quotient(a, b)   a / b, off by 3 ULP at most, for b as above: for terms whose last bits do not count
//   half_reciprocal(x)    1 / x with half of the bits of x at least, where it is a normal number
//   round_even(x)         nearest integer, |x| <= 2^22 in float, 2^51 in double
//   scale2(x, n)          x * 2^n with one rounding; n integral, any size or sign; gradual underflow, overflow to infinity
//   exponent(x)           floor(log2 x) for normal x > 0
//   any(mask), all(mask)
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__CUDACC__)
#define SOFTMAP_HD __host__ __device__ inline
#else
#define SOFTMAP_HD inline
#endif

namespace softmap::core {

template <class V>
struct lane {
  using Scalar = V;
  using Mask = bool;
};

template <class T>
inline constexpr T kInf = static_cast<T>(__builtin_huge_val());
template <class T>
inline constexpr T kNaN = static_cast<T>(__builtin_nan(""));

// What IEEE fixes for a scalar type.
template <class T>
struct Format;
template <>
struct Format<float> {
  using Int = std::int32_t;
  static constexpr int mantissa_bits = 23, bias = 127;
  static constexpr float round_magic = 0x1.8p23f;  // x + magic - magic rounds x to an integer
  static constexpr float min_normal = 0x1p-126f, largest = 0x1.fffffep127f;
  static constexpr float exponent_limit = 300.f;  // 2^n with |n| above this is 0 or infinity for every mantissa
};
template <>
struct Format<double> {
  using Int = std::int64_t;
  static constexpr int mantissa_bits = 52, bias = 1023;
  static constexpr double round_magic = 0x1.8p52;
  static constexpr double min_normal = 0x1p-1022, largest = 0x1.fffffffffffffp1023;
  static constexpr double exponent_limit = 2200.;
};

SOFTMAP_HD float select(bool m, float a, float b) { return m ? a : b; }
SOFTMAP_HD double select(bool m, double a, double b) { return m ? a : b; }
SOFTMAP_HD float max(float a, float b) { return a > b ? a : b; }
SOFTMAP_HD double max(double a, double b) { return a > b ? a : b; }
SOFTMAP_HD float min(float a, float b) { return a < b ? a : b; }
SOFTMAP_HD double min(double a, double b) { return a < b ? a : b; }
SOFTMAP_HD float abs(float x) { return ::fabsf(x); }
SOFTMAP_HD double abs(double x) { return ::fabs(x); }
SOFTMAP_HD float sqrt(float x) { return ::sqrtf(x); }
SOFTMAP_HD double sqrt(double x) { return ::sqrt(x); }
#if defined(__CUDA_ARCH__)  // a division is a call there
SOFTMAP_HD float half_reciprocal(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
SOFTMAP_HD double half_reciprocal(double x) {
  double r;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(x));
  return ::fma(r, ::fma(-x, r, 1.), r);
}
SOFTMAP_HD float reciprocal(float x) {
  const float r = half_reciprocal(x);
  return ::fmaf(r, ::fmaf(-x, r, 1.f), r);
}
SOFTMAP_HD double reciprocal(double x) {
  double r = half_reciprocal(x);
  r = ::fma(r, ::fma(-x, r, 1.), r);
  return ::fma(r, ::fma(-x, r, 1.), r);
}
SOFTMAP_HD float near_quotient(float a, float b) { return a * reciprocal(b); }
SOFTMAP_HD double near_quotient(double a, double b) { return a * reciprocal(b); }
#else
template <class V>
SOFTMAP_HD V near_quotient(V a, V b) {
  return a / b;
}
SOFTMAP_HD float half_reciprocal(float x) { return 1.f / x; }
SOFTMAP_HD double half_reciprocal(double x) { return 1. / x; }
SOFTMAP_HD float reciprocal(float x) { return 1.f / x; }
SOFTMAP_HD double reciprocal(double x) { return 1. / x; }
#endif
SOFTMAP_HD bool any(bool m) { return m; }
SOFTMAP_HD bool all(bool m) { return m; }

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
SOFTMAP_HD float fmadd(float a, float b, float c) { return ::fmaf(a, b, c); }
SOFTMAP_HD double fmadd(double a, double b, double c) { return ::fma(a, b, c); }
SOFTMAP_HD float muladd(float a, float b, float c) { return fmadd(a, b, c); }
SOFTMAP_HD double muladd(double a, double b, double c) { return fmadd(a, b, c); }
#else
SOFTMAP_HD float muladd(float a, float b, float c) { return a * b + c; }
SOFTMAP_HD double muladd(double a, double b, double c) { return a * b + c; }
// libm's software fma is forty times slower than these. float: the product is exact in double. double: the product is
// split into two exact halves (Dekker 1971), the sum is Knuth's two-sum.
SOFTMAP_HD float fmadd(float a, float b, float c) { return static_cast<float>(static_cast<double>(a) * b + c); }
SOFTMAP_HD double fmadd(double a, double b, double c) {
  const double split = 0x1.0000002p27;
  const double at = split * a, ah = at - (at - a), al = a - ah;
  const double bt = split * b, bh = bt - (bt - b), bl = b - bh;
  const double p = a * b, p_low = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
  const double s = p + c, t = s - p, s_low = (p - (s - t)) + (c - t);
  return s + (s_low + p_low);
}
#endif

template <class T>
SOFTMAP_HD T round_even_scalar(T x) {
  return (x + Format<T>::round_magic) - Format<T>::round_magic;
}
SOFTMAP_HD float round_even(float x) { return round_even_scalar(x); }
SOFTMAP_HD double round_even(double x) { return round_even_scalar(x); }

// 2^n as a number, for integral n within the normal range.
template <class T>
SOFTMAP_HD T pow2_scalar(T n) {
  using F = Format<T>;
  using I = typename F::Int;
  const I bits = (static_cast<I>(n) + F::bias) * (I(1) << F::mantissa_bits);
  T r;
  memcpy(&r, &bits, sizeof r);
  return r;
}
// The factor is applied in three steps: only the last can be inexact.
template <class T>
SOFTMAP_HD T scale2_scalar(T x, T n) {
  const T lim = Format<T>::exponent_limit;
  n = max(min(n, lim), -lim);
  const T third = round_even(n * T(0x1.555556p-2));
  const T p = pow2_scalar(third);
  return x * p * p * pow2_scalar(n - third - third);
}
SOFTMAP_HD float scale2(float x, float n) { return scale2_scalar(x, n); }
SOFTMAP_HD double scale2(double x, double n) { return scale2_scalar(x, n); }

template <class T>
SOFTMAP_HD T exponent_scalar(T x) {
  using F = Format<T>;
  typename F::Int bits;
  memcpy(&bits, &x, sizeof x);
  return static_cast<T>((bits >> F::mantissa_bits) - F::bias);
}
SOFTMAP_HD float exponent(float x) { return exponent_scalar(x); }
SOFTMAP_HD double exponent(double x) { return exponent_scalar(x); }

// x + y = s + low exactly, for any x, y.
template <class V>
SOFTMAP_HD V two_sum(V x, V y, V& low) {
  const V s = x + y, t = s - x;
  low = (x - (s - t)) + (y - t);
  return s;
}

// Entry k of a table: a device function may use the value of a constant of the host, not its address.
template <const auto& table, int k>
SOFTMAP_HD constexpr auto entry() {
  constexpr auto value = table[k];
  return value;
}
template <const auto& table>
inline constexpr int kSize = sizeof(table) / sizeof(table[0]);

// c[first] + c[first+step] x + c[first+2*step] x^2 + ..., by Horner; for polynomials that correct a larger term.
template <const auto& c, int first = 0, int step = 1, class V>
SOFTMAP_HD V polynomial(V x) {
  constexpr int n_steps = (kSize<c> - 1 - first) / step, last = first + n_steps * step;
  V p = V(entry<c, last>());
#if defined(__CUDA_ARCH__)
  [&]<int... k>(std::integer_sequence<int, k...>) {
    ((p = muladd(p, x, V(entry<c, last - (k + 1) * step>()))), ...);
  }(std::make_integer_sequence<int, n_steps>());
#else  // the same as a loop, of which the compilers of the host make faster code
  for (int k = last - step; k >= first; k -= step) p = muladd(p, x, V(c[k]));
#endif
  return p;
}

// The same as even(x^2) + x odd(x^2): two chains of half the length.
template <const auto& c, class V>
SOFTMAP_HD V polynomial_by_halves(V x) {
  const V x2 = x * x;
  return muladd(polynomial<c, 1, 2>(x2), x, polynomial<c, 0, 2>(x2));
}

}  // namespace softmap::core
