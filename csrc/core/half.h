#pragma once
// The 16-bit formats: storage only. They are converted when loaded and stored, and computed in float.
#include "core/lane.h"

namespace softmap::core {

struct Half {
  std::uint16_t bits;  // IEEE binary16: 1 sign, 5 exponent, 10 mantissa
};
struct BFloat16 {
  std::uint16_t bits;  // the upper half of a float
};

// The type that an element is computed in.
template <class S>
struct ComputeOf {
  using type = S;
};
template <>
struct ComputeOf<Half> {
  using type = float;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <class S>
using Compute = typename ComputeOf<S>::type;

SOFTMAP_HD float float_from_bits(std::uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}
SOFTMAP_HD std::uint32_t bits_of(float f) {
  std::uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

SOFTMAP_HD float to_compute(float x) { return x; }
SOFTMAP_HD double to_compute(double x) { return x; }
SOFTMAP_HD float to_compute(BFloat16 x) { return float_from_bits(static_cast<std::uint32_t>(x.bits) << 16); }
// Exponents are rebiased by 112; a subnormal is its mantissa times 2^-24.
SOFTMAP_HD float to_compute(Half x) {
#if defined(__CUDA_ARCH__)  // one instruction there, as are those to storage
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits));
  return f;
#else
  const std::uint32_t sign = (x.bits & 0x8000u) << 16, magnitude = x.bits & 0x7fffu;
  const std::uint32_t rebias = magnitude >= 0x7c00u ? 224u << 23 : 112u << 23;
  const float normal = float_from_bits((magnitude << 13) + rebias);
  const float value = magnitude < 0x400u ? static_cast<float>(magnitude) * 0x1p-24f : normal;
  return float_from_bits(bits_of(value) | sign);
#endif
}

// To storage, rounded to nearest, ties to even; subnormals kept, NaN stays NaN.
template <class S>
SOFTMAP_HD S to_storage(Compute<S> x) {
  return x;
}
template <>
SOFTMAP_HD BFloat16 to_storage<BFloat16>(float x) {
#if defined(__CUDA_ARCH__)
  BFloat16 r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
  return r;
#else
  const std::uint32_t u = bits_of(x);
  const std::uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
  return {static_cast<std::uint16_t>(x == x ? rounded : (u >> 16 | 0x40u))};
#endif
}
template <>
SOFTMAP_HD Half to_storage<Half>(float x) {
#if defined(__CUDA_ARCH__)
  Half r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
  return r;
#else
  const std::uint32_t u = bits_of(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
  const std::uint32_t normal = (a + 0xfffu + (a >> 13 & 1u) - (112u << 23)) >> 13;
  // Below 2^-14: adding 1/2 leaves the multiple of 2^-24 in the low bits.
  const std::uint32_t subnormal = bits_of(float_from_bits(a) + 0.5f) - bits_of(0.5f);
  const std::uint32_t finite = a < 0x38800000u ? subnormal : normal;
  const std::uint32_t magnitude = a > 0x7f800000u ? 0x7e00u : a >= 0x477ff000u ? 0x7c00u : finite;
  return {static_cast<std::uint16_t>(sign | magnitude)};
#endif
}

}  // namespace softmap::core
