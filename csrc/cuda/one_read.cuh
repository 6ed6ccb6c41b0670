#pragma once
// The sum of exp(z) over a row, or over a piece of one, that is read once.
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"

namespace softmap::cuda {
namespace {

// What was seen of a row: the largest x, how often, and sum exp(z - z of the anchor) over the others, lifted as in exp_total.
// The anchor is an element that was once the largest.
template <class T>
struct RowPart {
  T largest, anchor;
  Total<T> rest;
  long long count;
};

// sum * exp(d + low), for d <= 0 or a little more.
template <class T>
__device__ Total<T> scaled(Total<T> sum, T d, T low) {
  constexpr T kLimit = kExpIsZero<T>;
  const auto p = core::exp_pair(core::max(kLimit, d));
  const T factor_low = core::fmadd(p.m, d > kLimit ? low : T(0), p.low);
  const T m = sum.m * p.m;
  const T m_low = core::fmadd(sum.m, p.m, -m) + core::fmadd(sum.m, factor_low, sum.low * p.m);
  return {core::scale2(m, p.e), core::scale2(m_low, p.e)};
}

// The same part as seen from the largest x of the row, at which the shift is; the rest stays lifted.
template <class T>
__device__ ExpTotal<T> seen_from(const Shift<T>& shift, const RowPart<T>& part) {
  if (part.largest == -kInf<T>) return {0, {T(0), T(0)}};
  T low;
  T d = shift(part.anchor, low);
  const auto rest = scaled(part.rest, d, low);
  d = shift(part.largest, low);
  if (d == T(0)) return {part.count, rest};
  const Total<T> largest{core::scale2(static_cast<T>(part.count), T(kLift<T>)), T(0)};
  return {0, Add()(rest, scaled(largest, d, low))};
}

// A thread's part. Elements come some at a time. The anchor moves only where a new largest element is far above it, so that
// what was added up is not rounded again and again where a row ascends.
template <class T>
class OneRead {
 public:
  __device__ explicit OneRead(T temperature) : anchor_(-kInf<T>, temperature) {}

  template <int n>
  __device__ void take(const T (&x)[n]) {
    T largest = largest_;
#pragma unroll
    for (int k = 0; k < n; ++k) largest = Largest()(largest, x[k]);
    if (largest != largest_) raise(largest);
    if (!(largest > -kInf<T>)) return;
#pragma unroll
    for (int k = 0; k < n; ++k) {
      T low;
      const T d = anchor_(x[k], low), p = exp_below(d, low, kLift<T>);
      const bool again = x[k] == largest;
      count_ += again;
      rest_ += again ? T(0) : p;
      if (k % 4 == 3) rest_.fold();
    }
    rest_.fold();
  }
  __device__ RowPart<T> part() const { return {largest_, anchor_.largest, {rest_.m, rest_.low}, count_}; }
  __device__ Shift<T> shift_at(T largest) const { return anchor_.moved_to(largest); }

 private:
  static constexpr T kFarAbove = sizeof(T) == 4 ? T(16) : T(256);  // lifted sums of such terms do not overflow

  __device__ void raise(T x) {
    T low;
    if (largest_ > -kInf<T>) {
      const T d = anchor_(largest_, low);
      rest_ += static_cast<T>(count_) * exp_below(d, low, kLift<T>);
      rest_.fold();
    }
    largest_ = x;
    count_ = 0;
    if (anchor_(x, low) <= kFarAbove) return;
    const Shift<T> next = anchor_.moved_to(x);
    const T d = next(anchor_.largest, low);
    const auto moved = scaled(Total<T>{rest_.m, rest_.low}, d, low);
    rest_ = {T(0), moved.m, moved.low};
    anchor_ = next;
  }

  Shift<T> anchor_;
  T largest_ = -kInf<T>;
  long long count_ = 0;
  Sum<T> rest_{};
};

// What the parts of all threads come to, given as seen from the largest x; the rest stays lifted.
template <class T, class Group>
__device__ ExpTotal<T> sum_over(const Group& group, const ExpTotal<T>& own) {
  const auto rest = group.reduce(own.rest, Add());
  return {group.reduce(own.count, Add()), rest};
}
inline constexpr int kAtOnce = 16;  // elements of a thread

// Calls f(row, at) for pieces of x in registers; x + at is where the piece begins.
template <class S, class Group, class F>
__device__ void in_pieces(const S* x, Index n, bool vectors, const F& f) {
  constexpr int kPiece = Group::kThreads * kAtOnce;
#pragma unroll 1
  for (Index at = 0; at < n; at += kPiece) {
    const int count = n - at < kPiece ? static_cast<int>(n - at) : kPiece;
    f(InRegisters<S, Group, kAtOnce>(x + at, count, vectors), at);
  }
}

// The total of n elements, for all threads of the group; its rest stays lifted.
template <class T>
struct RowTotal {
  Shift<T> shift;
  ExpTotal<T> total;
};
template <class S, class Group, class T = Compute<S>>
__device__ RowTotal<T> read_once(const S* x, Index n, bool vectors, const Group& group, T temperature) {
  OneRead<T> own(temperature);
  in_pieces<S, Group>(x, n, vectors, [&](const auto& piece, Index) { own.take(piece.x); });
  const auto part = own.part();
  const auto shift = own.shift_at(group.reduce(part.largest, Largest()));
  return {shift, sum_over(group, seen_from(shift, part))};
}

}  // namespace
}  // namespace softmap::cuda
