#pragma once
// The terms exp(z) of a row whose largest element is known, z = x / temperature, in few instructions each: for rows whose
// largest z is of ordinary size, at temperatures that are. All other rows go by Shift (row.cuh), whose every step is careful.
#include "cuda/row.cuh"

namespace softmap::cuda {
namespace {

// x / temperature, correctly rounded, where a temperature is of ordinary size: by Markstein's theorem, for the inverse is.
template <class T>
struct ByTemperature {
  T given, temperature, inverse;
  bool ordinary;

  __device__ explicit ByTemperature(T any) : given(any) {
    constexpr T kMost = T(0x1p60);
    ordinary = given >= T(1) / kMost && given <= kMost;
    temperature = ordinary ? given : T(1);
    const T near = core::reciprocal(temperature);
    inverse = core::fmadd(near, core::fmadd(-temperature, near, T(1)), near);
  }
  // For finite quotients.
  __device__ T of(T x) const {
    const T q = x * inverse;
    return core::fmadd(core::fmadd(-q, temperature, x), inverse, q);
  }
  __device__ T operator()(T x) const {
    const T q = x * inverse;
    return core::abs(q) < kInf<T> ? of(x) : q;
  }
};

__device__ float larger(float a, float b) { return ::fmaxf(a, b); }
__device__ double larger(double a, double b) { return ::fmax(a, b); }

// exp(z) as a multiple of 2^reference, where the reference is the exponent of the largest term, lifted by kLift<T>. So sums
// that were begun with different references are added without rounding.
//
//   n = round(z / log 2),  r = z - n log 2,  term = exp(r) 2^(n - reference)
template <class T>
class Terms {
 public:
  // largest may be NaN.
  __device__ static bool suits(T largest, const ByTemperature<T>& by) {
    return by.ordinary && core::abs(by.of(largest)) <= kMostZ;
  }
  __device__ Terms(T largest, const ByTemperature<T>& by) : by_(by) { move_to(largest); }

  // The same for more of the row. Terms of a row that suits are right whatever was seen of it before.
  __device__ void move_to(T largest) {
    const T most = kMostZ * by_.temperature;
    largest_ = by_.of(core::max(-most, core::min(most, largest)));
    reference_ = core::round_even(largest_ * core::kLog2E<T>);
    least_ = (largest_ - kDeep) * by_.temperature;
    magic_ = core::Format<T>::round_magic - (reference_ - T(kLift<T>));
  }
  // For x up to the largest. So far below it that no result shows it, they are all the same.
  __device__ T operator()(T x) const {
    const T z = by_.of(larger(x, least_));
    const T k = core::fmadd(z, core::kLog2E<T>, magic_), n = k - magic_;  // k holds n - reference + lift in its last bits
    T r = core::fmadd(n, -core::kLn2High<T>, z);
    r = core::fmadd(n, -core::kLn2Low<T>, r);
    const T m = T(1) + core::fmadd(r * r, core::polynomial<core::kExp<T>>(r), r);
    Bits exponent, bits;
    memcpy(&exponent, &k, sizeof k);
    memcpy(&bits, &m, sizeof m);
    bits += exponent << core::Format<T>::mantissa_bits;
    T p;
    memcpy(&p, &bits, sizeof p);
    return p;
  }
  // What turns sums of terms with a lower reference into sums of these.
  __device__ T factor_from(const Terms& before) const { return core::scale2(T(1), before.reference_ - reference_); }
  // A sum of terms as a multiple of exp of the largest z.
  __device__ Total<T> of_largest(Total<T> sum) const {
    const auto p = core::exp_pair(largest_);
    const Inverse<T> inverse(Total<T>{p.m, p.low});
    const T m = sum.m * inverse.high, n = reference_ - p.e;
    const T low = core::fmadd(sum.m, inverse.high, -m) + core::fmadd(sum.m, inverse.low, sum.low * inverse.high);
    return {core::scale2(m, n), core::scale2(low, n)};
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  // exp(-kDeep) is below half of the smallest number.
  static constexpr T kMostZ = sizeof(T) == 4 ? T(1000) : T(4000), kDeep = sizeof(T) == 4 ? T(120) : T(800);

  ByTemperature<T> by_;
  T largest_;  // z
  T reference_, least_, magic_;
};

__device__ float exp2_near(float x) {
#if defined(SOFTMAP_EMULATED)
  return x < -126.f ? 0.f : ::exp2f(x);
#else
  float p;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(p) : "f"(x));
  return p;
#endif
}

// The same for numbers of 16 bits: for their digits the 2^x of the hardware will do, relative to the largest itself.
class HalfTerms {
 public:
  __device__ static bool suits(float largest, const ByTemperature<float>& by) {
    return by.ordinary && core::abs(largest * by.inverse) < 0x1p127f;  // so that no quotient overflows, however it is rounded
  }
  __device__ HalfTerms(float largest, const ByTemperature<float>& by) : scale_(by.inverse * core::kLog2E<float>) {
    move_to(largest);
  }
  __device__ void move_to(float largest) {
    constexpr float kMost = core::Format<float>::largest;
    largest_ = core::max(-kMost, core::min(kMost, largest));
  }
  __device__ float operator()(float x) const { return exp2_near(core::fmadd(x - largest_, scale_, kOwnLift)); }
  __device__ float factor_from(const HalfTerms& before) const { return exp2_near((before.largest_ - largest_) * scale_); }
  __device__ Total<float> of_largest(Total<float> sum) const {
    return {core::scale2(sum.m, kLift<float> - kOwnLift), core::scale2(sum.low, kLift<float> - kOwnLift)};
  }

 private:
  static constexpr float kOwnLift = 16;  // so that all subnormals of bfloat16 are normal here, and x keeps its digits
  float largest_, scale_;
};

template <class S>
using TermsOf = std::conditional_t<sizeof(S) == 2, HalfTerms, Terms<Compute<S>>>;

// A total of part of a row as multiples of its own terms, as seen from the largest x of the row, which `terms` begin with.
template <class T, class Terms>
__device__ ExpTotal<T> seen_from(const Terms& terms, T largest, const Terms& own, T own_largest, const ExpTotal<T>& total) {
  const T factor = terms.factor_from(own);
  const Total<T> rest{total.rest.m * factor, total.rest.low * factor};
  if (own_largest == largest) return {total.count, rest};
  return {0, Add()(rest, Total<T>{total.count > 0 ? static_cast<T>(total.count) * terms(own_largest) : T(0), T(0)})};
}

// A sum of terms of 16-bit numbers needs no care, that of others some (Sum).
struct PlainSum {
  float m;
  __device__ void operator+=(float value) { m += value; }
  __device__ void fold() {}
};
template <class S>
using SumOf = std::conditional_t<sizeof(S) == 2, PlainSum, Sum<Compute<S>>>;
template <class T, class Group>
__device__ Total<T> total_over(const Group& group, const Sum<T>& sum) {
  return group.reduce(Total<T>{sum.m, sum.low}, Add());
}
template <class Group>
__device__ Total<float> total_over(const Group& group, PlainSum sum) {
  return {group.reduce(sum.m, Add()), 0.f};
}

// The sum of the terms of a row, which become its elements.
template <class S, class Row, class Group, class T = Compute<S>>
__device__ Total<T> term_sum(Row& row, const TermsOf<S>& terms, const Group& group) {
  SumOf<S> sum{};
  row.each([&](T& x, Index) { sum += x = terms(x); }, [&] { sum.fold(); });
  return total_over(group, sum);
}

// The largest elements counted, and the sum of the terms of the rest.
template <class S, class Row, class Group, class T = Compute<S>>
__device__ ExpTotal<T> term_total(Row& row, const TermsOf<S>& terms, const Group& group, T largest) {
  int count = 0;
  SumOf<S> rest{};
  row.each(
      [&](T x, Index) {
        const T p = terms(x);
        count += x == largest;
        rest += x == largest ? T(0) : p;
      },
      [&] { rest.fold(); });
  const auto all = total_over(group, rest);
  return {group.reduce(count, Add()), all};
}
// The same as multiples of exp(largest z).
template <class T, class Terms>
__device__ ExpTotal<T> of_largest(const Terms& terms, const ExpTotal<T>& total) {
  return ExpTotal<T>{total.count, terms.of_largest(total.rest)}.lowered();
}

}  // namespace
}  // namespace softmap::cuda
