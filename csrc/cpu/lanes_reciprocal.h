#pragma once
// half_reciprocal(x): 1 / x with half of the bits of x at least, where the reciprocal is a normal number; part of lanes.h.
#include "cpu/lanes.h"

namespace softmap::cpu {

#if defined(__AVX512F__)
inline Lanes<float> half_reciprocal(Lanes<float> x) { return _mm512_rcp14_ps(x.v); }
inline Lanes<double> half_reciprocal(Lanes<double> x) {
  const Lanes<double> r = _mm512_rcp14_pd(x.v);
  return fmadd(r, fmadd(-x, r, Lanes<double>(1.)), r);
}
#else
template <class T>
Lanes<T> half_reciprocal(Lanes<T> x) {
  return Lanes<T>(T(1)) / x;
}
#endif

}  // namespace softmap::cpu
