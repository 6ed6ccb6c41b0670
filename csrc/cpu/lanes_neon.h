#pragma once
// Lanes<T> in NEON registers of 64-bit ARM; part of lanes.h.
#include <arm_neon.h>

#include "core/lane.h"

namespace softmap::cpu {

template <class T>
struct Lanes;
template <class T>
struct Mask;

template <>
struct Mask<float> {
  uint32x4_t m;
  friend Mask operator&(Mask a, Mask b) { return {vandq_u32(a.m, b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {vorrq_u32(a.m, b.m)}; }
  friend Mask operator!(Mask a) { return {vmvnq_u32(a.m)}; }
  friend bool any(Mask a) { return vmaxvq_u32(a.m) != 0; }
  friend bool all(Mask a) { return vminvq_u32(a.m) != 0; }
};
template <>
struct Mask<double> {
  uint64x2_t m;
  friend Mask operator&(Mask a, Mask b) { return {vandq_u64(a.m, b.m)}; }
  friend Mask operator|(Mask a, Mask b) { return {vorrq_u64(a.m, b.m)}; }
  friend Mask operator!(Mask a) { return {veorq_u64(a.m, vdupq_n_u64(~std::uint64_t(0)))}; }
  friend bool any(Mask a) { return (vgetq_lane_u64(a.m, 0) | vgetq_lane_u64(a.m, 1)) != 0; }
  friend bool all(Mask a) { return (vgetq_lane_u64(a.m, 0) & vgetq_lane_u64(a.m, 1)) != 0; }
};

template <>
struct Lanes<float> {
  static constexpr int size = 4;
  using M = Mask<float>;
  float32x4_t v;
  Lanes() = default;
  Lanes(float32x4_t r) : v(r) {}
  explicit Lanes(float x) : v(vdupq_n_f32(x)) {}
  static Lanes load(const float* p) { return vld1q_f32(p); }
  static Lanes load(const float* p, int n, float fill) {
    float x[size] = {fill, fill, fill, fill};
    for (int k = 0; k < n; ++k) x[k] = p[k];
    return vld1q_f32(x);
  }
  void store(float* p) const { vst1q_f32(p, v); }
  friend void stream(Lanes a, float* p) { a.store(p); }
  void store(float* p, int n) const {
    float x[size];
    vst1q_f32(x, v);
    for (int k = 0; k < n; ++k) p[k] = x[k];
  }

  friend Lanes operator+(Lanes a, Lanes b) { return vaddq_f32(a.v, b.v); }
  friend Lanes operator-(Lanes a, Lanes b) { return vsubq_f32(a.v, b.v); }
  friend Lanes operator*(Lanes a, Lanes b) { return vmulq_f32(a.v, b.v); }
  friend Lanes operator/(Lanes a, Lanes b) { return vdivq_f32(a.v, b.v); }
  friend Lanes operator-(Lanes a) { return vnegq_f32(a.v); }
  friend M operator<(Lanes a, Lanes b) { return {vcltq_f32(a.v, b.v)}; }
  friend M operator<=(Lanes a, Lanes b) { return {vcleq_f32(a.v, b.v)}; }
  friend M operator==(Lanes a, Lanes b) { return {vceqq_f32(a.v, b.v)}; }
  friend M not_less(Lanes a, Lanes b) { return !(a < b); }
  friend Lanes select(M m, Lanes a, Lanes b) { return vbslq_f32(m.m, a.v, b.v); }
  friend Lanes max(Lanes a, Lanes b) { return select(b < a, a, b); }
  friend Lanes min(Lanes a, Lanes b) { return select(a < b, a, b); }
  friend Lanes fmadd(Lanes a, Lanes b, Lanes c) { return vfmaq_f32(c.v, a.v, b.v); }
  friend Lanes fmadd_where(M m, Lanes a, Lanes b, Lanes c) {
    return vreinterpretq_f32_u32(vandq_u32(m.m, vreinterpretq_u32_f32(fmadd(a, b, c).v)));
  }
  friend Lanes muladd(Lanes a, Lanes b, Lanes c) { return fmadd(a, b, c); }
  friend Lanes abs(Lanes a) { return vabsq_f32(a.v); }
  friend Lanes sqrt(Lanes a) { return vsqrtq_f32(a.v); }
  friend Lanes round_even(Lanes a) { return vrndnq_f32(a.v); }
  static Lanes pow2(Lanes n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.v), vdupq_n_s32(127)), 23)); }
  friend Lanes exponent(Lanes a) {
    return vcvtq_f32_s32(vsubq_s32(vshrq_n_s32(vreinterpretq_s32_f32(a.v), 23), vdupq_n_s32(127)));
  }
  // The number whose bits are those of z shifted left, added to those of a.
  friend Lanes shift_left(Lanes z, int count, Lanes a) {
    const int32x4_t shifted = vshlq_s32(vreinterpretq_s32_f32(z.v), vdupq_n_s32(count));
    return vreinterpretq_f32_s32(vaddq_s32(shifted, vreinterpretq_s32_f32(a.v)));
  }
  friend Lanes permute(Lanes a, const std::int32_t* k) { return permute(a, a, k); }
  // A table of the bytes of both; entry i is bytes 4 i to 4 i + 3.
  friend Lanes permute(Lanes a, Lanes b, const std::int32_t* k) {
    const uint32x4_t first = vmulq_n_u32(vreinterpretq_u32_s32(vld1q_s32(k)), 0x04040404u);
    const uint8x16_t bytes = vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x03020100u)));
    const uint8x16x2_t table = {{vreinterpretq_u8_f32(a.v), vreinterpretq_u8_f32(b.v)}};
    return vreinterpretq_f32_u8(vqtbl2q_u8(table, bytes));
  }
};

template <>
struct Lanes<double> {
  static constexpr int size = 2;
  using M = Mask<double>;
  float64x2_t v;
  Lanes() = default;
  Lanes(float64x2_t r) : v(r) {}
  explicit Lanes(double x) : v(vdupq_n_f64(x)) {}
  static Lanes load(const double* p) { return vld1q_f64(p); }
  static Lanes load(const double* p, int n, double fill) {
    double x[size] = {fill, fill};
    for (int k = 0; k < n; ++k) x[k] = p[k];
    return vld1q_f64(x);
  }
  void store(double* p) const { vst1q_f64(p, v); }
  friend void stream(Lanes a, double* p) { a.store(p); }
  void store(double* p, int n) const {
    double x[size];
    vst1q_f64(x, v);
    for (int k = 0; k < n; ++k) p[k] = x[k];
  }

  friend Lanes operator+(Lanes a, Lanes b) { return vaddq_f64(a.v, b.v); }
  friend Lanes operator-(Lanes a, Lanes b) { return vsubq_f64(a.v, b.v); }
  friend Lanes operator*(Lanes a, Lanes b) { return vmulq_f64(a.v, b.v); }
  friend Lanes operator/(Lanes a, Lanes b) { return vdivq_f64(a.v, b.v); }
  friend Lanes operator-(Lanes a) { return vnegq_f64(a.v); }
  friend M operator<(Lanes a, Lanes b) { return {vcltq_f64(a.v, b.v)}; }
  friend M operator<=(Lanes a, Lanes b) { return {vcleq_f64(a.v, b.v)}; }
  friend M operator==(Lanes a, Lanes b) { return {vceqq_f64(a.v, b.v)}; }
  friend M not_less(Lanes a, Lanes b) { return !(a < b); }
  friend Lanes select(M m, Lanes a, Lanes b) { return vbslq_f64(m.m, a.v, b.v); }
  friend Lanes max(Lanes a, Lanes b) { return select(b < a, a, b); }
  friend Lanes min(Lanes a, Lanes b) { return select(a < b, a, b); }
  friend Lanes fmadd(Lanes a, Lanes b, Lanes c) { return vfmaq_f64(c.v, a.v, b.v); }
  friend Lanes fmadd_where(M m, Lanes a, Lanes b, Lanes c) {
    return vreinterpretq_f64_u64(vandq_u64(m.m, vreinterpretq_u64_f64(fmadd(a, b, c).v)));
  }
  friend Lanes muladd(Lanes a, Lanes b, Lanes c) { return fmadd(a, b, c); }
  friend Lanes abs(Lanes a) { return vabsq_f64(a.v); }
  friend Lanes sqrt(Lanes a) { return vsqrtq_f64(a.v); }
  friend Lanes round_even(Lanes a) { return vrndnq_f64(a.v); }
  static Lanes pow2(Lanes n) { return vreinterpretq_f64_s64(vshlq_n_s64(vaddq_s64(vcvtq_s64_f64(n.v), vdupq_n_s64(1023)), 52)); }
  friend Lanes exponent(Lanes a) {
    return vcvtq_f64_s64(vsubq_s64(vshrq_n_s64(vreinterpretq_s64_f64(a.v), 52), vdupq_n_s64(1023)));
  }
  friend Lanes shift_left(Lanes z, int count, Lanes a) {
    const int64x2_t shifted = vshlq_s64(vreinterpretq_s64_f64(z.v), vdupq_n_s64(count));
    return vreinterpretq_f64_s64(vaddq_s64(shifted, vreinterpretq_s64_f64(a.v)));
  }
  friend Lanes permute(Lanes a, const std::int64_t* k) { return permute(a, a, k); }
  friend Lanes permute(Lanes a, Lanes b, const std::int64_t* k) {
    double x[2 * size];
    a.store(x);
    b.store(x + size);
    return Lanes(x[k[0]], x[k[1]]);
  }

 private:
  Lanes(double low, double high) : v(vcombine_f64(vdup_n_f64(low), vdup_n_f64(high))) {}
};

inline Lanes<double> low_half(Lanes<float> a) { return vcvt_f64_f32(vget_low_f32(a.v)); }
inline Lanes<double> high_half(Lanes<float> a) { return vcvt_high_f64_f32(a.v); }
inline Lanes<float> from_halves(Lanes<double> a, Lanes<double> b) { return vcvt_high_f32_f64(vcvt_f32_f64(a.v), b.v); }

}  // namespace softmap::cpu
