#pragma once
// Pack<V, K>: K registers as one value type, with the part of the contract of core/lane.h that the formulas of links need. One
// register at a time, a long formula waits for its own results most of the time; K at once fill the gaps.
#include "core/lane.h"

namespace softmap::cpu {

template <class M, int K>
struct MaskPack {
  M m[K];
  friend MaskPack operator&(MaskPack a, MaskPack b) {
    for (int k = 0; k < K; ++k) a.m[k] = a.m[k] & b.m[k];
    return a;
  }
};

template <class V, int K>
struct Pack {
  using T = typename core::lane<V>::Scalar;
  using M = MaskPack<typename core::lane<V>::Mask, K>;
  V v[K];
  Pack() = default;
  explicit Pack(T x) {
    for (int k = 0; k < K; ++k) v[k] = V(x);
  }
  static Pack load(const T* p) {
    Pack r;
    for (int k = 0; k < K; ++k) r.v[k] = V::load(p + k * V::size);
    return r;
  }
  void store(T* p) const {
    for (int k = 0; k < K; ++k) v[k].store(p + k * V::size);
  }
  // f of the registers of each argument in turn.
  template <class F, class... P>
  static Pack map(F&& f, const P&... x) {
    Pack r;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) r.v[k] = f(x.v[k]...);
    return r;
  }
  template <class F>
  static M compare(F&& f, const Pack& a, const Pack& b) {
    M r;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) r.m[k] = f(a.v[k], b.v[k]);
    return r;
  }
  friend Pack operator+(Pack a, Pack b) {
    return map([](V x, V y) { return x + y; }, a, b);
  }
  friend Pack operator-(Pack a, Pack b) {
    return map([](V x, V y) { return x - y; }, a, b);
  }
  friend Pack operator*(Pack a, Pack b) {
    return map([](V x, V y) { return x * y; }, a, b);
  }
  friend Pack operator/(Pack a, Pack b) {
    return map([](V x, V y) { return x / y; }, a, b);
  }
  friend Pack operator-(Pack a) {
    return map([](V x) { return -x; }, a);
  }
  friend M operator<(Pack a, Pack b) {
    return compare([](V x, V y) { return x < y; }, a, b);
  }
  friend M operator<=(Pack a, Pack b) {
    return compare([](V x, V y) { return x <= y; }, a, b);
  }
  friend M operator==(Pack a, Pack b) {
    return compare([](V x, V y) { return x == y; }, a, b);
  }
  friend M operator>(Pack a, Pack b) { return b < a; }
  friend Pack select(M m, Pack a, Pack b) {
    Pack r;
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) r.v[k] = select(m.m[k], a.v[k], b.v[k]);
    return r;
  }
  friend Pack max(Pack a, Pack b) {
    return map([](V x, V y) { return max(x, y); }, a, b);
  }
  friend Pack min(Pack a, Pack b) {
    return map([](V x, V y) { return min(x, y); }, a, b);
  }
  friend Pack fmadd(Pack a, Pack b, Pack c) {
    return map([](V x, V y, V z) { return fmadd(x, y, z); }, a, b, c);
  }
  friend Pack muladd(Pack a, Pack b, Pack c) {
    return map([](V x, V y, V z) { return muladd(x, y, z); }, a, b, c);
  }
  friend Pack sqrt(Pack a) {
    return map([](V x) { return sqrt(x); }, a);
  }
  friend Pack abs(Pack a) {
    return map([](V x) { return abs(x); }, a);
  }
  friend Pack reciprocal(Pack a) {
    return map([](V x) { return reciprocal(x); }, a);
  }
  friend Pack round_even(Pack a) {
    return map([](V x) { return round_even(x); }, a);
  }
  friend Pack exponent(Pack a) {
    return map([](V x) { return exponent(x); }, a);
  }
  friend Pack scale2(Pack a, Pack b) {
    return map([](V x, V y) { return scale2(x, y); }, a, b);
  }
};

}  // namespace softmap::cpu

namespace softmap::core {
template <class V, int K>
struct lane<cpu::Pack<V, K>> {
  using Scalar = typename lane<V>::Scalar;
  using Mask = cpu::MaskPack<typename lane<V>::Mask, K>;
};
}  // namespace softmap::core
