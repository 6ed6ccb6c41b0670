#pragma once
// Lanes<T>: one SIMD register of T as a value type, with the contract of core/lane.h. The width follows the flags that
// the including file is compiled with; nothing outside lanes*.h and transpose.h knows about instruction sets.
//
// budget: over 400 lines, because one instruction set stands beside the other.
//
// Beside the contract:
//
//   permute(a, k)         lane i is a[k[i]]
//   permute(a, b, k)      lane i is a[k[i]], or b[k[i] - size]
//   not_less(a, b)        true where a < b is false, also where one is NaN
//   fmadd_where(m, ...)   fmadd, and 0 where m is false
//   low_half, high_half   half of the lanes of a float register in double; from_halves(a, b) is the other way, rounded (not in
//   128 bits)
#include <cstddef>
#include <cstdint>

#include "core/lane.h"
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include "cpu/lanes_neon.h"
#endif

namespace softmap::cpu {

template <class T>
struct Lanes;
template <class T>
struct Mask;

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512BW__)

template <>
struct Mask<float> {
  __mmask16 m;
  friend Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.m & b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.m | b.m)}; }
  friend Mask operator!(Mask a) { return {static_cast<__mmask16>(~a.m)}; }
  friend bool any(Mask a) { return a.m != 0; }
  friend bool all(Mask a) { return a.m == 0xffff; }
};
template <>
struct Mask<double> {
  __mmask8 m;
  friend Mask operator&(Mask a, Mask b) { return {static_cast<__mmask8>(a.m & b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {static_cast<__mmask8>(a.m | b.m)}; }
  friend Mask operator!(Mask a) { return {static_cast<__mmask8>(~a.m)}; }
  friend bool any(Mask a) { return a.m != 0; }
  friend bool all(Mask a) { return a.m == 0xff; }
};

template <>
struct Lanes<float> {
  static constexpr int size = 16;
  using M = Mask<float>;
  __m512 v;
  Lanes() = default;
  Lanes(__m512 r) : v(r) {}
  explicit Lanes(float x) : v(_mm512_set1_ps(x)) {}
  static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static Lanes load(const float* p) { return _mm512_loadu_ps(p); }
  static Lanes load(const float* p, int n, float fill) { return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(n), p); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  friend void stream(Lanes a, float* p) { _mm512_stream_ps(p, a.v); }
  void store(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }

  friend Lanes operator+(Lanes a, Lanes b) { return _mm512_add_ps(a.v, b.v); }
  friend Lanes operator-(Lanes a, Lanes b) { return _mm512_sub_ps(a.v, b.v); }
  friend Lanes operator*(Lanes a, Lanes b) { return _mm512_mul_ps(a.v, b.v); }
  friend Lanes operator/(Lanes a, Lanes b) { return _mm512_div_ps(a.v, b.v); }
  friend Lanes operator-(Lanes a) { return _mm512_xor_ps(a.v, _mm512_set1_ps(-0.f)); }
  friend M operator<(Lanes a, Lanes b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
  friend M operator<=(Lanes a, Lanes b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
  friend M operator==(Lanes a, Lanes b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
  friend M not_less(Lanes a, Lanes b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NLT_UQ)}; }
  friend Lanes select(M m, Lanes a, Lanes b) { return _mm512_mask_blend_ps(m.m, b.v, a.v); }
  friend Lanes max(Lanes a, Lanes b) { return _mm512_max_ps(a.v, b.v); }
  friend Lanes min(Lanes a, Lanes b) { return _mm512_min_ps(a.v, b.v); }
  friend Lanes fmadd(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
  friend Lanes fmadd_where(M m, Lanes a, Lanes b, Lanes c) { return _mm512_maskz_fmadd_ps(m.m, a.v, b.v, c.v); }
  friend Lanes muladd(Lanes a, Lanes b, Lanes c) { return fmadd(a, b, c); }
  friend Lanes abs(Lanes a) { return _mm512_abs_ps(a.v); }
  friend Lanes sqrt(Lanes a) { return _mm512_sqrt_ps(a.v); }
  friend Lanes round_even(Lanes a) { return _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  friend Lanes scale2(Lanes a, Lanes n) { return _mm512_scalef_ps(a.v, n.v); }
  friend Lanes exponent(Lanes a) { return _mm512_getexp_ps(a.v); }
  friend Lanes reciprocal(Lanes a) {
    const Lanes r = _mm512_rcp14_ps(a.v);
    return fmadd(r, fmadd(-a, r, Lanes(1.f)), r);
  }
  friend Lanes permute(Lanes a, const std::int32_t* k) { return _mm512_permutexvar_ps(_mm512_loadu_si512(k), a.v); }
  friend Lanes permute(Lanes a, Lanes b, const std::int32_t* k) {
    return _mm512_permutex2var_ps(a.v, _mm512_loadu_si512(k), b.v);
  }
};

template <>
struct Lanes<double> {
  static constexpr int size = 8;
  using M = Mask<double>;
  __m512d v;
  Lanes() = default;
  Lanes(__m512d r) : v(r) {}
  explicit Lanes(double x) : v(_mm512_set1_pd(x)) {}
  static __mmask8 first(int n) { return static_cast<__mmask8>((1u << n) - 1u); }
  static Lanes load(const double* p) { return _mm512_loadu_pd(p); }
  static Lanes load(const double* p, int n, double fill) { return _mm512_mask_loadu_pd(_mm512_set1_pd(fill), first(n), p); }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  friend void stream(Lanes a, double* p) { _mm512_stream_pd(p, a.v); }
  void store(double* p, int n) const { _mm512_mask_storeu_pd(p, first(n), v); }

  friend Lanes operator+(Lanes a, Lanes b) { return _mm512_add_pd(a.v, b.v); }
  friend Lanes operator-(Lanes a, Lanes b) { return _mm512_sub_pd(a.v, b.v); }
  friend Lanes operator*(Lanes a, Lanes b) { return _mm512_mul_pd(a.v, b.v); }
  friend Lanes operator/(Lanes a, Lanes b) { return _mm512_div_pd(a.v, b.v); }
  friend Lanes operator-(Lanes a) { return _mm512_xor_pd(a.v, _mm512_set1_pd(-0.)); }
  friend M operator<(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ)}; }
  friend M operator<=(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LE_OQ)}; }
  friend M operator==(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ)}; }
  friend M not_less(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_NLT_UQ)}; }
  friend Lanes select(M m, Lanes a, Lanes b) { return _mm512_mask_blend_pd(m.m, b.v, a.v); }
  friend Lanes max(Lanes a, Lanes b) { return _mm512_max_pd(a.v, b.v); }
  friend Lanes min(Lanes a, Lanes b) { return _mm512_min_pd(a.v, b.v); }
  friend Lanes fmadd(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_pd(a.v, b.v, c.v); }
  friend Lanes fmadd_where(M m, Lanes a, Lanes b, Lanes c) { return _mm512_maskz_fmadd_pd(m.m, a.v, b.v, c.v); }
  friend Lanes muladd(Lanes a, Lanes b, Lanes c) { return fmadd(a, b, c); }
  friend Lanes abs(Lanes a) { return _mm512_abs_pd(a.v); }
  friend Lanes sqrt(Lanes a) { return _mm512_sqrt_pd(a.v); }
  friend Lanes round_even(Lanes a) { return _mm512_roundscale_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  friend Lanes scale2(Lanes a, Lanes n) { return _mm512_scalef_pd(a.v, n.v); }
  friend Lanes exponent(Lanes a) { return _mm512_getexp_pd(a.v); }
  // From 14 bits to 42 by e + e^2, then to all.
  friend Lanes reciprocal(Lanes a) {
    const Lanes r = _mm512_rcp14_pd(a.v), e = fmadd(-a, r, Lanes(1.)), s = fmadd(r, fmadd(e, e, e), r);
    return fmadd(s, fmadd(-a, s, Lanes(1.)), s);
  }
  friend Lanes permute(Lanes a, const std::int64_t* k) { return _mm512_permutexvar_pd(_mm512_loadu_si512(k), a.v); }
  friend Lanes permute(Lanes a, Lanes b, const std::int64_t* k) {
    return _mm512_permutex2var_pd(a.v, _mm512_loadu_si512(k), b.v);
  }
};

inline Lanes<double> low_half(Lanes<float> a) { return _mm512_cvtps_pd(_mm512_castps512_ps256(a.v)); }
inline Lanes<double> high_half(Lanes<float> a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1)); }
inline Lanes<float> from_halves(Lanes<double> a, Lanes<double> b) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a.v)), _mm512_cvtpd_ps(b.v), 1);
}

#elif defined(__AVX2__) && defined(__FMA__)

// Eight set words, then eight clear ones: a window of it is the mask of the first n lanes.
alignas(64) inline constexpr std::int32_t kWindow[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

template <>
struct Mask<float> {
  __m256 m;
  friend Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.m, b.m)}; }
  friend Mask operator!(Mask a) { return {_mm256_xor_ps(a.m, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))}; }
  friend bool any(Mask a) { return _mm256_movemask_ps(a.m) != 0; }
  friend bool all(Mask a) { return _mm256_movemask_ps(a.m) == 0xff; }
};
template <>
struct Mask<double> {
  __m256d m;
  friend Mask operator&(Mask a, Mask b) { return {_mm256_and_pd(a.m, b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {_mm256_or_pd(a.m, b.m)}; }
  friend Mask operator!(Mask a) { return {_mm256_xor_pd(a.m, _mm256_castsi256_pd(_mm256_set1_epi32(-1)))}; }
  friend bool any(Mask a) { return _mm256_movemask_pd(a.m) != 0; }
  friend bool all(Mask a) { return _mm256_movemask_pd(a.m) == 0xf; }
};

template <>
struct Lanes<float> {
  static constexpr int size = 8;
  using M = Mask<float>;
  __m256 v;
  Lanes() = default;
  Lanes(__m256 r) : v(r) {}
  explicit Lanes(float x) : v(_mm256_set1_ps(x)) {}
  static __m256i first(int n) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kWindow + 8 - n)); }
  static Lanes load(const float* p) { return _mm256_loadu_ps(p); }
  static Lanes load(const float* p, int n, float fill) {
    const __m256i m = first(n);
    return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, m), _mm256_castsi256_ps(m));
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  friend void stream(Lanes a, float* p) { _mm256_stream_ps(p, a.v); }
  void store(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }

  friend Lanes operator+(Lanes a, Lanes b) { return _mm256_add_ps(a.v, b.v); }
  friend Lanes operator-(Lanes a, Lanes b) { return _mm256_sub_ps(a.v, b.v); }
  friend Lanes operator*(Lanes a, Lanes b) { return _mm256_mul_ps(a.v, b.v); }
  friend Lanes operator/(Lanes a, Lanes b) { return _mm256_div_ps(a.v, b.v); }
  friend Lanes operator-(Lanes a) { return _mm256_xor_ps(a.v, _mm256_set1_ps(-0.f)); }
  friend M operator<(Lanes a, Lanes b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
  friend M operator<=(Lanes a, Lanes b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
  friend M operator==(Lanes a, Lanes b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
  friend M not_less(Lanes a, Lanes b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_NLT_UQ)}; }
  friend Lanes select(M m, Lanes a, Lanes b) { return _mm256_blendv_ps(b.v, a.v, m.m); }
  friend Lanes max(Lanes a, Lanes b) { return _mm256_max_ps(a.v, b.v); }
  friend Lanes min(Lanes a, Lanes b) { return _mm256_min_ps(a.v, b.v); }
  friend Lanes fmadd(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
  friend Lanes fmadd_where(M m, Lanes a, Lanes b, Lanes c) { return _mm256_and_ps(m.m, fmadd(a, b, c).v); }
  friend Lanes muladd(Lanes a, Lanes b, Lanes c) { return fmadd(a, b, c); }
  friend Lanes abs(Lanes a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a.v); }
  friend Lanes sqrt(Lanes a) { return _mm256_sqrt_ps(a.v); }
  friend Lanes round_even(Lanes a) { return _mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // 2^n for integral n in the normal range.
  static Lanes pow2(Lanes n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23));
  }
  friend Lanes exponent(Lanes a) {
    const __m256i e = _mm256_srli_epi32(_mm256_castps_si256(a.v), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(e, _mm256_set1_epi32(127)));
  }
  friend Lanes permute(Lanes a, const std::int32_t* k) {
    return _mm256_permutevar8x32_ps(a.v, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(k)));
  }
  friend Lanes permute(Lanes a, Lanes b, const std::int32_t* k) {
    const __m256i i = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(k));
    const __m256 from_b = _mm256_castsi256_ps(_mm256_slli_epi32(i, 28));  // the sign says which
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(a.v, i), _mm256_permutevar8x32_ps(b.v, i), from_b);
  }
};

template <>
struct Lanes<double> {
  static constexpr int size = 4;
  using M = Mask<double>;
  __m256d v;
  Lanes() = default;
  Lanes(__m256d r) : v(r) {}
  explicit Lanes(double x) : v(_mm256_set1_pd(x)) {}
  static __m256i first(int n) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kWindow + 8 - 2 * n)); }
  static Lanes load(const double* p) { return _mm256_loadu_pd(p); }
  static Lanes load(const double* p, int n, double fill) {
    const __m256i m = first(n);
    return _mm256_blendv_pd(_mm256_set1_pd(fill), _mm256_maskload_pd(p, m), _mm256_castsi256_pd(m));
  }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  friend void stream(Lanes a, double* p) { _mm256_stream_pd(p, a.v); }
  void store(double* p, int n) const { _mm256_maskstore_pd(p, first(n), v); }

  friend Lanes operator+(Lanes a, Lanes b) { return _mm256_add_pd(a.v, b.v); }
  friend Lanes operator-(Lanes a, Lanes b) { return _mm256_sub_pd(a.v, b.v); }
  friend Lanes operator*(Lanes a, Lanes b) { return _mm256_mul_pd(a.v, b.v); }
  friend Lanes operator/(Lanes a, Lanes b) { return _mm256_div_pd(a.v, b.v); }
  friend Lanes operator-(Lanes a) { return _mm256_xor_pd(a.v, _mm256_set1_pd(-0.)); }
  friend M operator<(Lanes a, Lanes b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)}; }
  friend M operator<=(Lanes a, Lanes b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_LE_OQ)}; }
  friend M operator==(Lanes a, Lanes b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ)}; }
  friend M not_less(Lanes a, Lanes b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_NLT_UQ)}; }
  friend Lanes select(M m, Lanes a, Lanes b) { return _mm256_blendv_pd(b.v, a.v, m.m); }
  friend Lanes max(Lanes a, Lanes b) { return _mm256_max_pd(a.v, b.v); }
  friend Lanes min(Lanes a, Lanes b) { return _mm256_min_pd(a.v, b.v); }
  friend Lanes fmadd(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_pd(a.v, b.v, c.v); }
  friend Lanes fmadd_where(M m, Lanes a, Lanes b, Lanes c) { return _mm256_and_pd(m.m, fmadd(a, b, c).v); }
  friend Lanes muladd(Lanes a, Lanes b, Lanes c) { return fmadd(a, b, c); }
  friend Lanes abs(Lanes a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.), a.v); }
  friend Lanes sqrt(Lanes a) { return _mm256_sqrt_pd(a.v); }
  friend Lanes round_even(Lanes a) { return _mm256_round_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // AVX2 has no conversion between double and int64: adding 1.5 * 2^52 leaves the integer in the low bits.
  static Lanes pow2(Lanes n) {
    const __m256i i = _mm256_castpd_si256(_mm256_add_pd(n.v, _mm256_set1_pd(0x1.8p52 + 1023.)));
    return _mm256_castsi256_pd(_mm256_slli_epi64(i, 52));
  }
  friend Lanes exponent(Lanes a) {
    const __m256i e = _mm256_srli_epi64(_mm256_castpd_si256(a.v), 52);
    const __m256d biased = _mm256_castsi256_pd(_mm256_or_si256(e, _mm256_castpd_si256(_mm256_set1_pd(0x1p52))));
    return _mm256_sub_pd(biased, _mm256_set1_pd(0x1p52 + 1023.));
  }
  // AVX2 permutes words of 32 bits: entry i is words 2 i and 2 i + 1.
  static __m256i words(__m256i i) {
    const __m256i twice = _mm256_add_epi64(i, i), both = _mm256_shuffle_epi32(twice, 0xa0);
    return _mm256_add_epi32(both, _mm256_set_epi32(1, 0, 1, 0, 1, 0, 1, 0));
  }
  static __m256d permuted(__m256d a, __m256i w) { return _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(a), w)); }
  friend Lanes permute(Lanes a, const std::int64_t* k) {
    return permuted(a.v, words(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(k))));
  }
  friend Lanes permute(Lanes a, Lanes b, const std::int64_t* k) {
    const __m256i i = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(k)), w = words(i);
    return _mm256_blendv_pd(permuted(a.v, w), permuted(b.v, w), _mm256_castsi256_pd(_mm256_slli_epi64(i, 61)));
  }
};

inline Lanes<double> low_half(Lanes<float> a) { return _mm256_cvtps_pd(_mm256_castps256_ps128(a.v)); }
inline Lanes<double> high_half(Lanes<float> a) { return _mm256_cvtps_pd(_mm256_extractf128_ps(a.v, 1)); }
inline Lanes<float> from_halves(Lanes<double> a, Lanes<double> b) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(a.v)), _mm256_cvtpd_ps(b.v), 1);
}

#elif !defined(__aarch64__)

// 128-bit vectors of the compiler: SSE2. (g++ drops the attribute from a typedef that depends on T.)
template <class T>
struct Register;
template <>
struct Register<float> {
  typedef float Vector __attribute__((vector_size(16)));
  typedef std::int32_t Bits __attribute__((vector_size(16)));
  typedef std::uint32_t Unsigned __attribute__((vector_size(16)));
};
template <>
struct Register<double> {
  typedef double Vector __attribute__((vector_size(16)));
  typedef std::int64_t Bits __attribute__((vector_size(16)));
  typedef std::uint64_t Unsigned __attribute__((vector_size(16)));
};

template <class T>
struct Mask {
  using Bits = typename Register<T>::Bits;
  static constexpr int size = 16 / sizeof(T);
  Bits m;
  friend Mask operator&(Mask a, Mask b) { return {a.m & b.m}; }
  friend Mask operator|(Mask a, Mask b) { return {a.m | b.m}; }
  friend Mask operator!(Mask a) { return {~a.m}; }
  friend bool any(Mask a) {
    bool r = false;
    for (int k = 0; k < size; ++k) r |= a.m[k] != 0;
    return r;
  }
  friend bool all(Mask a) { return !any(!a); }
};

template <class T>
struct Lanes {
  using F = core::Format<T>;
  using M = Mask<T>;
  using Bits = typename Register<T>::Bits;
  using Vector = typename Register<T>::Vector;
  static constexpr int size = 16 / sizeof(T);
  Vector v;
  Lanes() = default;
  Lanes(Vector r) : v(r) {}
  explicit Lanes(T x) : v(x - Vector{}) {}
  static Lanes load(const T* p) {
    Lanes r;
    __builtin_memcpy(&r.v, p, sizeof(Vector));
    return r;
  }
  static Lanes load(const T* p, int n, T fill) {
    Lanes r(fill);
    for (int k = 0; k < n; ++k) r.v[k] = p[k];
    return r;
  }
  void store(T* p) const { __builtin_memcpy(p, &v, sizeof(Vector)); }
  friend void stream(Lanes a, T* p) { a.store(p); }
  void store(T* p, int n) const {
    for (int k = 0; k < n; ++k) p[k] = v[k];
  }

  friend Lanes operator+(Lanes a, Lanes b) { return a.v + b.v; }
  friend Lanes operator-(Lanes a, Lanes b) { return a.v - b.v; }
  friend Lanes operator*(Lanes a, Lanes b) { return a.v * b.v; }
  friend Lanes operator/(Lanes a, Lanes b) { return a.v / b.v; }
  friend Lanes operator-(Lanes a) { return -a.v; }
  friend M operator<(Lanes a, Lanes b) { return {a.v < b.v}; }
  friend M operator<=(Lanes a, Lanes b) { return {a.v <= b.v}; }
  friend M operator==(Lanes a, Lanes b) { return {a.v == b.v}; }
  friend M not_less(Lanes a, Lanes b) { return !(a < b); }
  friend Lanes select(M m, Lanes a, Lanes b) { return from_bits((m.m & bits(a)) | (~m.m & bits(b))); }
  friend Lanes max(Lanes a, Lanes b) { return select(b < a, a, b); }
  friend Lanes min(Lanes a, Lanes b) { return select(a < b, a, b); }
  friend Lanes muladd(Lanes a, Lanes b, Lanes c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return fmadd(a, b, c);
#else
    return a.v * b.v + c.v;
#endif
  }
  friend Lanes fmadd(Lanes a, Lanes b, Lanes c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    for (int k = 0; k < size; ++k) c.v[k] = core::fmadd(a.v[k], b.v[k], c.v[k]);
    return c;
#else
    return fmadd_by_parts(a, b, c);
#endif
  }
  friend Lanes fmadd_where(M m, Lanes a, Lanes b, Lanes c) { return from_bits(m.m & bits(fmadd(a, b, c))); }
  friend Lanes abs(Lanes a) { return from_bits(bits(a) & ~bits(Lanes(T(-0.)))); }
  friend Lanes sqrt(Lanes a) {
    for (int k = 0; k < size; ++k) a.v[k] = core::sqrt(a.v[k]);
    return a;
  }
  friend Lanes round_even(Lanes a) { return (a.v + F::round_magic) - F::round_magic; }
  static Lanes pow2(Lanes n) { return from_bits((__builtin_convertvector(n.v, Bits) + F::bias) << F::mantissa_bits); }
  friend Lanes exponent(Lanes a) { return __builtin_convertvector((bits(a) >> F::mantissa_bits) - F::bias, Vector); }
  // The number whose bits are those of z shifted left, added to those of a.
  friend Lanes shift_left(Lanes z, int count, Lanes a) {
    using Unsigned = typename Register<T>::Unsigned;  // the sum may pass the largest integer
    return from_bits(reinterpret_cast<Bits>((reinterpret_cast<Unsigned>(z.v) << count) + reinterpret_cast<Unsigned>(a.v)));
  }
  friend Lanes permute(Lanes a, const typename F::Int* k) {
    Lanes r;
    for (int i = 0; i < size; ++i) r.v[i] = a.v[k[i]];
    return r;
  }
  friend Lanes permute(Lanes a, Lanes b, const typename F::Int* k) {
    Lanes r;
    for (int i = 0; i < size; ++i) r.v[i] = k[i] < size ? a.v[k[i]] : b.v[k[i] - size];
    return r;
  }

 private:
  static Bits bits(Lanes a) { return reinterpret_cast<Bits>(a.v); }
  static Lanes from_bits(Bits b) { return reinterpret_cast<Vector>(b); }
  // core::fmadd for a machine without the unit, on whole vectors.
  static Lanes fmadd_by_parts(Lanes a, Lanes b, Lanes c) {
    if constexpr (sizeof(T) == 4) {
      typedef double Wide __attribute__((vector_size(32)));
      const Wide r = __builtin_convertvector(a.v, Wide) * __builtin_convertvector(b.v, Wide) + __builtin_convertvector(c.v, Wide);
      return __builtin_convertvector(r, Vector);
    } else {
      const Vector at = T(0x1.0000002p27) * a.v, ah = at - (at - a.v), al = a.v - ah;
      const Vector bt = T(0x1.0000002p27) * b.v, bh = bt - (bt - b.v), bl = b.v - bh;
      const Vector p = a.v * b.v, p_low = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
      const Vector s = p + c.v, t = s - p, s_low = (p - (s - t)) + (c.v - t);
      return s + (s_low + p_low);
    }
  }
};

// All four at once: g++ 12 takes float(double(x)), one by one, for x.
typedef double WideDoubles __attribute__((vector_size(32)));
inline Lanes<double> half_of(Lanes<float> a, int which) {
  const WideDoubles w = __builtin_convertvector(a.v, WideDoubles);
  Lanes<double> r;
  __builtin_memcpy(&r.v, reinterpret_cast<const char*>(&w) + 16 * which, 16);
  return r;
}
inline Lanes<double> low_half(Lanes<float> a) { return half_of(a, 0); }
inline Lanes<double> high_half(Lanes<float> a) { return half_of(a, 1); }
inline Lanes<float> from_halves(Lanes<double> a, Lanes<double> b) {
  WideDoubles w;
  __builtin_memcpy(&w, &a.v, 16);
  __builtin_memcpy(reinterpret_cast<char*>(&w) + 16, &b.v, 16);
  return __builtin_convertvector(w, Register<float>::Vector);
}

#endif

#if !(defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512BW__))
template <class T>
Lanes<T> reciprocal(Lanes<T> a) {
  return Lanes<T>(T(1)) / a;
}
#endif

template <class T>
T first_lane(Lanes<T> a) {
  return a.v[0];
}

// stream(x, p) stores past the caches, to an aligned p; the fence comes before others may read.
inline void stream_fence() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// Asks for memory that a loop reads, or writes, 8 KiB later: the time that a line takes to come. It may lie beyond an array.
template <bool kWrite = false>
void ask_for(const void* p, std::ptrdiff_t beyond) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::intptr_t>(p) + beyond), kWrite, 3);
}
inline void ask_ahead(const void* x) { ask_for(x, 8192); }
inline void ask_ahead_to_write(const void* out) { ask_for<true>(out, 8192); }

// Where scale2 is not one instruction: the factor in three steps, of which only the last can be inexact.
#if !defined(__AVX512F__)
template <class T>
Lanes<T> scale2(Lanes<T> x, Lanes<T> n) {
  using L = Lanes<T>;
  const T limit = core::Format<T>::exponent_limit;
  n = max(min(n, L(limit)), L(-limit));
  const L third = round_even(n * L(T(0x1.555556p-2)));
  const L p = L::pow2(third);
  return x * p * p * L::pow2(n - third - third);
}
#endif

template <class T>
Mask<T> operator>(Lanes<T> a, Lanes<T> b) {
  return b < a;
}
template <class T>
Mask<T> operator>=(Lanes<T> a, Lanes<T> b) {
  return b <= a;
}

}  // namespace softmap::cpu

namespace softmap::core {
template <class T>
struct lane<cpu::Lanes<T>> {
  using Scalar = T;
  using Mask = cpu::Mask<T>;
};
}  // namespace softmap::core
