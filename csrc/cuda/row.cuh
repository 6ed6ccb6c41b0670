#pragma once
// Sums over the terms of a row: with the largest element subtracted, which a group of threads finds first, in registers or in
// memory that is near.
#include "core/half.h"
#include "core/log.h"
#include "cuda/group.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

using core::Compute;
using core::kInf;
using core::kNaN;

// An argument with a number a row in memory of the device, or one for all, that lies on the host.
template <class T>
struct EachRow {
  T number;
  const T* per_row;
  __device__ T operator[](Index i) const { return per_row ? per_row[i] : number; }
};
template <class T>
EachRow<T> on_device(const PerRow<T>& given) {
  return given.stride == 0 ? EachRow<T>{*given.data, nullptr} : EachRow<T>{T(0), given.data};
}

// NaN where a or b is.
struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b > a || b != b ? b : a;
  }
  __device__ float operator()(float a, float b) const {
#if defined(SOFTMAP_EMULATED)
    return b > a || b != b ? b : a;
#else
    float largest;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(largest) : "f"(a), "f"(b));
    return largest;
#endif
  }
};

// A running sum. A few terms are added as they are; then fold() adds what they came to, and low carries what rounding took.
template <class T>
struct Sum {
  T fresh, m, low;
  __device__ void operator+=(T value) { fresh += value; }
  __device__ void fold() {
    T rounding;
    m = core::two_sum(m, fresh, rounding);
    low += rounding;
    fresh = T(0);
  }
};
// What sums came to.
template <class T>
struct Total {
  T m, low;
};
struct Add {
  template <class T>
  __device__ Total<T> operator()(Total<T> a, Total<T> b) const {
    T rounding;
    const T m = core::two_sum(a.m, b.m, rounding);
    return {m, (a.low + b.low) + rounding};
  }
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a + b;
  }
};

// What the sums of all threads came to.
template <class T, class Group>
__device__ T total_of(const Group& group, const Sum<T>& sum) {
  const auto total = group.reduce(Total<T>{sum.m, sum.low}, Add());
  return total.m + total.low;
}

// x / y for one positive y and many x, correctly rounded where the result is normal: by a reciprocal of the mantissa of y and
// two corrections, which is shorter than a division.
template <class T>
struct Quotient {
  T mantissa, inverse, scale, scale_too;

  __device__ explicit Quotient(T y) {
    const bool good = y > T(0) && y < kInf<T>, tiny = y < core::Format<T>::min_normal;
    const T lift = T(core::Format<T>::mantissa_bits), lifted = tiny ? core::scale2(y, lift) : y, e = core::exponent(lifted);
    mantissa = good ? core::scale2(lifted, -e) : kNaN<T>;
    inverse = core::reciprocal(mantissa);
    const T exponent = tiny ? lift - e : -e, half = core::round_even(exponent * T(0.5));
    scale = core::scale2(T(1), half);
    scale_too = core::scale2(T(1), exponent - half);
  }
  __device__ T operator()(T x) const {
    T q = x * inverse;
    q = core::fmadd(core::fmadd(-q, mantissa, x), inverse, q);
    q = core::fmadd(core::fmadd(-q, mantissa, x), inverse, q);
    return (core::abs(x) < kInf<T> ? q : x * inverse) * scale * scale_too;
  }
};

// z = x / temperature minus its maximum, from the largest x. A temperature that is not finite and positive makes it NaN.
template <class T>
struct Shift {
  Quotient<T> by_temperature;
  T largest, maximum;
  bool divides, overflows;  // whether z does overflow, but not x

  __device__ Shift(T largest_x, T temperature) : by_temperature(temperature), divides(temperature != T(1)) {
    find_maximum(largest_x);
  }
  // The same for another row, or more of the row, whose largest x is known.
  __device__ Shift moved_to(T largest_x) const {
    Shift s = *this;
    s.find_maximum(largest_x);
    return s;
  }
  // low is what rounding took.
  __device__ T operator()(T x, T& low) const {
    low = T(0);
    if (overflows) return by_temperature(x - largest);
    return core::two_sum(divides ? by_temperature(x) : x, -maximum, low);
  }

 private:
  __device__ void find_maximum(T largest_x) {
    largest = largest_x;
    maximum = divides ? by_temperature(largest) : largest;
    overflows = core::abs(maximum) == kInf<T> && core::abs(largest) < kInf<T>;
  }
};

// Where exp(d) 2^lift is 0 whatever the lift.
template <class T>
inline constexpr T kExpIsZero = sizeof(T) == 4 ? T(-170) : T(-1400);
// A lift above the subnormals, which have fewer digits.
template <class T>
inline constexpr int kLift = sizeof(T) == 4 ? 64 : 512;

// exp(d + low) 2^lift for d <= 0, or above where it does not overflow; NaN gives NaN.
template <class T>
__device__ T exp_below(T d, T low, int lift = 0) {
  using F = core::Format<T>;
  using I = typename F::Int;
  constexpr T kLimit = kExpIsZero<T>;
  const auto p = core::exp_pair(core::max(kLimit, d));
  const T m = p.m + core::fmadd(p.m, d > kLimit ? low : T(0), p.low);
  // 2^e in two steps, so that only the last can be inexact. The integer e stands in the last bits of e + magic.
  const auto bits = [](T x) {
    I i;
    memcpy(&i, &x, sizeof x);
    return i;
  };
  const auto power = [](I n) {
    const auto i = static_cast<unsigned long long>(n + F::bias) << F::mantissa_bits;  // of a float the lower half
    T x;
    memcpy(&x, &i, sizeof x);
    return x;
  };
  const I n = bits(p.e + F::round_magic) - bits(F::round_magic) + lift, half = n >> 1;
  return m * power(half) * power(n - half);
}

template <class T, class Row, class Group>
__device__ T largest_of(Row&& row, const Group& group) {
  T largest = -kInf<T>;
  row.each([&](T x, Index) { largest = Largest()(largest, x); }, [] {});
  return group.reduce(largest, Largest());
}

// sum of exp(d).
template <class T, class Row, class Group>
__device__ Total<T> exp_sum(const Row& row, const Shift<T>& shift, const Group& group) {
  Sum<T> sum{T(0), T(0), T(0)};
  row.each(
      [&](T x, Index) {
        T low;
        const T d = shift(x, low);
        sum += exp_below(d, low);
      },
      [&] { sum.fold(); });
  return group.reduce(Total<T>{sum.m, sum.low}, Add());
}

// sum of exp(d): of the terms with d = 0, which are counted, and of the rest.
template <class T>
struct ExpTotal {
  long long count;
  Total<T> rest;

  __device__ Total<T> sum() const {
    const T high = static_cast<T>(count), low = static_cast<T>(count - static_cast<long long>(high));
    return Add()(Total<T>{high, low}, rest);
  }
  // From a lifted rest.
  __device__ ExpTotal lowered() const {
    return {count, {core::scale2(rest.m, T(-kLift<T>)), core::scale2(rest.low, T(-kLift<T>))}};
  }
  __device__ bool one_leads() const { return count == 1 && rest.m < T(0.5); }
  // log of the sum, with all its digits: 0 only where nothing is beside the largest.
  __device__ T excess() const {
    if (count == 1) return core::log1p(rest.m + rest.low);
    const auto s = sum();
    return core::log(s.m, s.low, T(0));
  }
};

// 1 / sum in two parts, so that a quotient is rounded once.
template <class T>
struct Inverse {
  T high, low;
  __device__ explicit Inverse(Total<T> sum) : high(core::reciprocal(sum.m)) {
    low = high * (-core::fmadd(sum.m, high, T(-1)) - sum.low * high);
  }
  __device__ T operator()(T x) const { return core::fmadd(x, high, x * low); }
};

// The rest is lifted by kLift<T>.
template <class T, class Row, class Group>
__device__ ExpTotal<T> lifted_total(const Row& row, const Shift<T>& shift, const Group& group) {
  long long count = 0;
  Sum<T> rest{T(0), T(0), T(0)};
  row.each(
      [&](T x, Index) {
        T low;
        const T d = shift(x, low), p = exp_below(d, low, kLift<T>);
        count += d == T(0);
        rest += d == T(0) ? T(0) : p;
      },
      [&] { rest.fold(); });
  const auto lifted = group.reduce(Total<T>{rest.m, rest.low}, Add());
  return {group.reduce(count, Add()), lifted};
}
template <class T, class Row, class Group>
__device__ ExpTotal<T> exp_total(const Row& row, const Shift<T>& shift, const Group& group) {
  return lifted_total(row, shift, group).lowered();
}

// log sum exp(z) = maximum + log(sum). With sum = 2^k m, maximum + k log 2 is added in two parts, as it may cancel.
template <class T>
__device__ T log_sum(T maximum, const ExpTotal<T>& total) {
  if (!(core::abs(maximum) < kInf<T>)) return maximum;
  if (total.one_leads()) return maximum + total.excess();
  const auto s = total.sum();
  T k = core::exponent(s.m);
  if (core::scale2(s.m, -k) > T(0x1.6a09e6p+0)) k += T(1);
  T low;
  const T whole = core::two_sum(maximum, k * core::kLn2Short<T>, low);
  const T rest = core::log(core::scale2(s.m, -k), core::scale2(s.low, -k), T(0));
  return whole + (low + core::fmadd(k, core::kLn2Rest<T>, rest));
}

}  // namespace
}  // namespace softmap::cuda
