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

// A temperature a row in memory of the device, or one number for all.
template <class T>
struct Temperature {
  T number;
  const T* per_row;
  __device__ T operator[](Index i) const { return per_row ? per_row[i] : number; }
};
template <class T>
Temperature<T> temperature_of(const PerRow<T>& given) {
  return given.stride == 0 ? Temperature<T>{*given.data, nullptr} : Temperature<T>{T(0), given.data};
}

// NaN where a or b is.
struct Largest {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b > a || b != b ? b : a;
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
  __device__ long long operator()(long long a, long long b) const { return a + b; }
};

// z = x / temperature minus its maximum, from the largest x.
template <class T>
struct Shift {
  T temperature, largest, maximum;
  bool overflows;  // z does, but not x

  __device__ Shift(T largest_x, T given) : temperature(given > T(0) && given < kInf<T> ? given : kNaN<T>), largest(largest_x) {
    maximum = largest / temperature;
    overflows = !(core::abs(maximum) < kInf<T>) && maximum == maximum && core::abs(largest) < kInf<T>;
  }
  // low is what rounding took.
  __device__ T operator()(T x, T& low) const {
    low = T(0);
    if (overflows) return (x - largest) / temperature;
    const T z = temperature == T(1) ? x : x / temperature;
    return core::two_sum(z, -maximum, low);
  }
};

// exp(d + low) 2^lift for d <= 0; NaN gives NaN.
template <class T>
__device__ T exp_below(T d, T low, T lift = T(0)) {
  const T limit = T(core::Format<T>::exponent_limit);
  const bool counts = d > -limit;
  const auto p = core::exp_pair(core::max(-limit, d));
  return core::scale2(core::fmadd(p.m, counts ? low : T(0), p.m), p.e + lift);
}

// The row of one group in memory of any layout: read again in every pass.
template <class S, class Group>
struct InMemory {
  using T = Compute<S>;
  const S* x;
  const Axes& along;
  Index n;

  // body(value, column) for the columns of this thread; fold() after every few of them.
  template <class Body, class Fold>
  __device__ void each(const Body& body, const Fold& fold) const {
    int pending = 0;
#pragma unroll 1
    for (Index k = Group::rank(); k < n; k += Group::kThreads) {
      body(core::to_compute(x[along.offset(k)]), k);
      if (++pending % 4 == 0) fold();
    }
    fold();
  }
  // out = value(x) in each column.
  template <class Value>
  __device__ void map(S* out, const Axes& out_along, const Value& value) const {
#pragma unroll 1
    for (Index k = Group::rank(); k < n; k += Group::kThreads) {
      out[out_along.offset(k)] = core::to_storage<S>(value(core::to_compute(x[along.offset(k)])));
    }
  }
};

template <class T, class Row, class Group>
__device__ T largest_of(const Row& row, const Group& group) {
  T largest = -kInf<T>;
  row.each([&](T x, Index) { largest = Largest()(largest, x); }, [] {});
  return group.reduce(largest, Largest());
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
  __device__ bool one_leads() const { return count == 1 && rest.m < T(0.5); }
  // log of the sum, with all its digits: 0 only where nothing is beside the largest.
  __device__ T excess() const {
    if (count == 1) return core::log1p(rest.m + rest.low);
    const auto s = sum();
    return core::log(s.m, s.low, T(0));
  }
};

template <class T, class Row, class Group>
__device__ ExpTotal<T> exp_total(const Row& row, const Shift<T>& shift, const Group& group) {
  constexpr T kLift = sizeof(T) == 4 ? T(64) : T(512);  // above the subnormals, which have fewer digits
  long long count = 0;
  Sum<T> rest{T(0), T(0), T(0)};
  row.each(
      [&](T x, Index) {
        T low;
        const T d = shift(x, low), p = exp_below(d, low, kLift);
        count += d == T(0);
        rest += d == T(0) ? T(0) : p;
      },
      [&] { rest.fold(); });
  const auto lifted = group.reduce(Total<T>{rest.m, rest.low}, Add());
  return {group.reduce(count, Add()), {core::scale2(lifted.m, -kLift), core::scale2(lifted.low, -kLift)}};
}

// log sum exp(z) = maximum + log(sum). With sum = 2^k m, maximum + k log 2 is added in two parts, as it may cancel.
template <class T>
__device__ T log_sum(const Shift<T>& shift, const ExpTotal<T>& total) {
  if (!(core::abs(shift.maximum) < kInf<T>)) return shift.maximum;
  if (total.one_leads()) return shift.maximum + total.excess();
  const auto s = total.sum();
  T k = core::exponent(s.m);
  if (core::scale2(s.m, -k) > T(0x1.6a09e6p+0)) k += T(1);
  T low;
  const T whole = core::two_sum(shift.maximum, k * core::kLn2Short<T>, low);
  const T rest = core::log(core::scale2(s.m, -k), core::scale2(s.low, -k), T(0));
  return whole + (low + core::fmadd(k, core::kLn2Rest<T>, rest));
}

}  // namespace
}  // namespace softmap::cuda
