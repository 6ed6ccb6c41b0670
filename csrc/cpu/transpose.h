#pragma once
// Square blocks of registers with rows and columns exchanged.
#include "cpu/lanes.h"

namespace softmap::cpu {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512BW__)

inline void transpose(Lanes<double> (&r)[8]) {
  __m512d t[8];
#pragma GCC unroll 16
  for (int k = 0; k < 8; k += 2) {
    t[k] = _mm512_unpacklo_pd(r[k].v, r[k + 1].v);
    t[k + 1] = _mm512_unpackhi_pd(r[k].v, r[k + 1].v);
  }
#pragma GCC unroll 16
  for (int odd = 0; odd < 2; ++odd) {
    const __m512d a = _mm512_shuffle_f64x2(t[odd], t[2 + odd], 0x88), b = _mm512_shuffle_f64x2(t[4 + odd], t[6 + odd], 0x88);
    const __m512d c = _mm512_shuffle_f64x2(t[odd], t[2 + odd], 0xdd), d = _mm512_shuffle_f64x2(t[4 + odd], t[6 + odd], 0xdd);
    r[odd] = _mm512_shuffle_f64x2(a, b, 0x88);
    r[2 + odd] = _mm512_shuffle_f64x2(c, d, 0x88);
    r[4 + odd] = _mm512_shuffle_f64x2(a, b, 0xdd);
    r[6 + odd] = _mm512_shuffle_f64x2(c, d, 0xdd);
  }
}

inline void transpose(Lanes<float> (&r)[16]) {
  __m512 t[16];  // of rows 4 g to 4 g + 3: column 4 l + q in lane l of t[4 g + q]
#pragma GCC unroll 16
  for (int g = 0; g < 16; g += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[g].v, r[g + 1].v));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[g].v, r[g + 1].v));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[g + 2].v, r[g + 3].v));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[g + 2].v, r[g + 3].v));
    t[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    t[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    t[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    t[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 16
  for (int q = 0; q < 4; ++q) {
    const __m512 a = _mm512_shuffle_f32x4(t[q], t[4 + q], 0x88), b = _mm512_shuffle_f32x4(t[8 + q], t[12 + q], 0x88);
    const __m512 c = _mm512_shuffle_f32x4(t[q], t[4 + q], 0xdd), d = _mm512_shuffle_f32x4(t[8 + q], t[12 + q], 0xdd);
    r[q] = _mm512_shuffle_f32x4(a, b, 0x88);
    r[4 + q] = _mm512_shuffle_f32x4(c, d, 0x88);
    r[8 + q] = _mm512_shuffle_f32x4(a, b, 0xdd);
    r[12 + q] = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
}

#elif defined(__AVX2__) && defined(__FMA__)

inline void transpose(Lanes<double> (&r)[4]) {
  const __m256d a = _mm256_unpacklo_pd(r[0].v, r[1].v), b = _mm256_unpackhi_pd(r[0].v, r[1].v);
  const __m256d c = _mm256_unpacklo_pd(r[2].v, r[3].v), d = _mm256_unpackhi_pd(r[2].v, r[3].v);
  r[0] = _mm256_permute2f128_pd(a, c, 0x20);
  r[1] = _mm256_permute2f128_pd(b, d, 0x20);
  r[2] = _mm256_permute2f128_pd(a, c, 0x31);
  r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

inline void transpose(Lanes<float> (&r)[8]) {
  __m256 t[8];
#pragma GCC unroll 16
  for (int g = 0; g < 8; g += 4) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[g].v, r[g + 1].v));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(r[g].v, r[g + 1].v));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r[g + 2].v, r[g + 3].v));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[g + 2].v, r[g + 3].v));
    t[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    t[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    t[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    t[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
#pragma GCC unroll 16
  for (int q = 0; q < 4; ++q) {
    r[q] = _mm256_permute2f128_ps(t[q], t[4 + q], 0x20);
    r[4 + q] = _mm256_permute2f128_ps(t[q], t[4 + q], 0x31);
  }
}

#else

template <class T>
void transpose(Lanes<T> (&r)[Lanes<T>::size]) {
  constexpr int n = Lanes<T>::size;
  T x[n][n], y[n][n];
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) r[i].store(x[i]);
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < n; ++j) y[i][j] = x[j][i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) r[i] = Lanes<T>::load(y[i]);
}

#endif

}  // namespace softmap::cpu
