#pragma once
// Loads and stores of Lanes from any storage type; part of lanes.h.
#include "core/half.h"
#include "cpu/lanes.h"

namespace softmap::cpu {

using core::BFloat16;
using core::Compute;
using core::Half;

// The lanes that elements of S are computed in.
template <class S>
using LanesOf = Lanes<Compute<S>>;

template <class S>
LanesOf<S> load(const S* p) {
  return LanesOf<S>::load(p);
}
template <class T>
void store(Lanes<T> x, T* p) {
  x.store(p);
}

#if defined(__AVX512F__)

alignas(64) inline constexpr std::int16_t kEachTwice[32] = {0, 0, 1, 1, 2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,
                                                            8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15};
template <>
inline Lanes<float> load(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
template <>
inline Lanes<float> load(const BFloat16* p) {
  const __m512i x = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, _mm512_load_si512(kEachTwice), x));
}
inline __m256i narrow(Lanes<float> x, const Half*) { return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
alignas(64) inline constexpr std::int16_t kUpperWords[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                             33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
inline __m512i upper_words(__m512i a, __m512i b) { return _mm512_permutex2var_epi16(a, _mm512_load_si512(kUpperWords), b); }
inline __m256i narrow(Lanes<float> x, const BFloat16*) {
  const __m512i u = _mm512_castps_si512(x.v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  const __m512i r = _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
  return _mm512_castsi512_si256(upper_words(r, r));
}
inline __m512i narrow_numbers(Lanes<float> a, Lanes<float> b, const BFloat16*) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  return upper_words(_mm512_add_epi32(_mm512_castps_si512(a.v), half), _mm512_add_epi32(_mm512_castps_si512(b.v), half));
}
inline __m512i narrow_numbers(Lanes<float> a, Lanes<float> b, const Half* p) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(narrow(a, p)), narrow(b, p), 1);
}
template <class S>
void store_narrow_numbers(Lanes<float> a, S* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(narrow_numbers(a, a, p)));
}
template <class S>
void store_narrow_numbers(Lanes<float> a, Lanes<float> b, S* p) {
  _mm512_storeu_si512(p, narrow_numbers(a, b, p));
}
template <class S>
void stream_narrow_numbers(Lanes<float> a, S* p) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(narrow_numbers(a, a, p)));
}
template <class S>
void stream_narrow_numbers(Lanes<float> a, Lanes<float> b, S* p) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), narrow_numbers(a, b, p));
}
template <class S>
void store_narrow(Lanes<float> x, S* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x, p));
}
template <class S>
void stream_narrow(Lanes<float> x, S* p) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow(x, p));
}

#elif defined(__AVX2__) && defined(__F16C__)

template <>
inline Lanes<float> load(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
template <>
inline Lanes<float> load(const BFloat16* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline __m128i narrow(Lanes<float> x, const Half*) { return _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline __m128i narrow(Lanes<float> x, const BFloat16*) {
  const __m256i u = _mm256_castps_si256(x.v), high = _mm256_srli_epi32(u, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  const __m256i r = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
inline __m256i narrow_numbers(Lanes<float> a, Lanes<float> b, const BFloat16*) {
  const auto rounded = [](Lanes<float> x) {
    return _mm256_srli_epi32(_mm256_add_epi32(_mm256_castps_si256(x.v), _mm256_set1_epi32(0x8000)), 16);
  };
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded(a), rounded(b)), 0xd8);
}
inline __m256i narrow_numbers(Lanes<float> a, Lanes<float> b, const Half* p) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(narrow(a, p)), narrow(b, p), 1);
}
template <class S>
void store_narrow_numbers(Lanes<float> a, S* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(narrow_numbers(a, a, p)));
}
template <class S>
void store_narrow_numbers(Lanes<float> a, Lanes<float> b, S* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_numbers(a, b, p));
}
template <class S>
void stream_narrow_numbers(Lanes<float> a, S* p) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(narrow_numbers(a, a, p)));
}
template <class S>
void stream_narrow_numbers(Lanes<float> a, Lanes<float> b, S* p) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow_numbers(a, b, p));
}
template <class S>
void store_narrow(Lanes<float> x, S* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(x, p));
}
template <class S>
void stream_narrow(Lanes<float> x, S* p) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow(x, p));
}

#else

template <class S>
Lanes<float> load_each(const S* p) {
  float x[Lanes<float>::size];
  for (int k = 0; k < Lanes<float>::size; ++k) x[k] = core::to_compute(p[k]);
  return Lanes<float>::load(x);
}
template <class S>
void store_narrow(Lanes<float> v, S* p) {
  float x[Lanes<float>::size];
  v.store(x);
  for (int k = 0; k < Lanes<float>::size; ++k) p[k] = core::to_storage<S>(x[k]);
}
template <>
inline Lanes<float> load(const Half* p) {
  return load_each(p);
}
template <>
inline Lanes<float> load(const BFloat16* p) {
  return load_each(p);
}
template <class S>
void stream_narrow(Lanes<float> v, S* p) {
  store_narrow(v, p);
}
template <class S>
void store_narrow_numbers(Lanes<float> a, S* p) {
  store_narrow(a, p);
}
template <class S>
void store_narrow_numbers(Lanes<float> a, Lanes<float> b, S* p) {
  store_narrow(a, p);
  store_narrow(b, p + Lanes<float>::size);
}
template <class S>
void stream_narrow_numbers(Lanes<float> a, S* p) {
  store_narrow(a, p);
}
template <class S>
void stream_narrow_numbers(Lanes<float> a, Lanes<float> b, S* p) {
  store_narrow_numbers(a, b, p);
}

#endif

inline void store(Lanes<float> x, Half* p) { store_narrow(x, p); }
inline void store(Lanes<float> x, BFloat16* p) { store_narrow(x, p); }
inline void stream(Lanes<float> x, Half* p) { stream_narrow(x, p); }
inline void stream(Lanes<float> x, BFloat16* p) { stream_narrow(x, p); }

// The first n lanes from memory, `fill` in the others.
template <class S>
LanesOf<S> load(const S* p, int n, Compute<S> fill) {
  if constexpr (sizeof(S) >= 4) {
    return LanesOf<S>::load(p, n, fill);
  } else {
    S x[LanesOf<S>::size];
    for (int k = 0; k < LanesOf<S>::size; ++k) x[k] = k < n ? p[k] : core::to_storage<S>(fill);
    return load(static_cast<const S*>(x));
  }
}
template <class S>
void store(LanesOf<S> v, S* p, int n) {
  if constexpr (sizeof(S) >= 4) {
    v.store(p, n);
  } else {
    S x[LanesOf<S>::size];
    store(v, x);
    for (int k = 0; k < n; ++k) p[k] = x[k];
  }
}

// One or two registers of numbers, of NaN only those that S has, or the first n lanes of one. Those of 16 bits are rounded in
// fewer instructions: what lies halfway between two may go away from 0, not to the even one.
template <class S, class... L>
void store_numbers(S* p, L... v) {
  if constexpr (sizeof(S) == 2) {
    store_narrow_numbers(v..., p);
  } else {
    int i = -1;
    (v.store(p + LanesOf<S>::size * ++i), ...);
  }
}
template <class S, class... L>
void stream_numbers(S* p, L... v) {
  if constexpr (sizeof(S) == 2) {
    stream_narrow_numbers(v..., p);
  } else {
    int i = -1;
    (stream(v, p + LanesOf<S>::size * ++i), ...);
  }
}
template <class S>
void store_first_numbers(S* p, int n, LanesOf<S> v) {
  if constexpr (sizeof(S) == 2) {
    S x[LanesOf<S>::size];
    store_narrow_numbers(v, x);
    for (int k = 0; k < n; ++k) p[k] = x[k];
  } else {
    v.store(p, n);
  }
}

}  // namespace softmap::cpu
