#pragma once
// The sum of exp(z) over a row, or over a piece of one, that is read once.
#include "cuda/row_memory.cuh"
#include "cuda/terms.cuh"

namespace softmap::cuda {
namespace {

// What was seen of a row: the largest x, how often, and sum exp(z - largest z) over the others, lifted by kLift<T>.
template <class T>
struct RowPart {
  T largest;
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
  const T d = shift(part.largest, low);
  if (d == T(0)) return {part.count, part.rest};
  const Total<T> largest{core::scale2(static_cast<T>(part.count), T(kLift<T>)), T(0)};
  return {0, scaled(Add()(part.rest, largest), d, low)};
}

// A thread's part, as multiples of its terms. Elements come some at a time.
template <class T, class Terms>
class OneRead {
 public:
  __device__ explicit OneRead(const ByTemperature<T>& by) : terms_(-kInf<T>, by) {}

  template <int n>
  __device__ void take(const T (&x)[n]) {
    T largest = largest_;
#pragma unroll
    for (int k = 0; k < n; ++k) largest = Largest()(largest, x[k]);
    if (largest != largest_) raise(largest);
#pragma unroll
    for (int k = 0; k < n; ++k) {
      const T p = terms_(x[k]);
      count_ += x[k] == largest;
      rest_ += x[k] == largest ? T(0) : p;
      if (k % 4 == 3) rest_.fold();
    }
  }
  __device__ T largest() const { return largest_; }
  // The same as seen from the largest x of a group, at which the terms are; the sum as a multiple of them.
  __device__ ExpTotal<T> seen_from(const Terms& terms, T largest) const {
    return cuda::seen_from(terms, largest, terms_, largest_, ExpTotal<T>{count_, {rest_.m, rest_.low}});
  }

 private:
  __device__ void raise(T largest) {
    Terms next = terms_;
    next.move_to(largest);
    const auto seen = seen_from(next, largest);
    rest_ = {T(0), seen.rest.m, seen.rest.low};
    terms_ = next;
    largest_ = largest;
    count_ = 0;
  }

  Terms terms_;
  T largest_ = -kInf<T>;
  int count_ = 0;
  Sum<T> rest_{};
};

// What the totals of all threads come to.
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

// What a group of threads sees of n elements: by Terms, or by Shift where they do not suit.
template <class S, class Terms, class Group, class T = Compute<S>>
__device__ RowPart<T> read_once(const S* x, Index n, bool vectors, const Group& group, T temperature) {
  const ByTemperature<T> by(temperature);
  OneRead<T, Terms> own(by);
  in_pieces<S, Group>(x, n, vectors, [&](const auto& piece, Index) { own.take(piece.x); });
  const T largest = group.reduce(own.largest(), Largest());
  const Terms terms(largest, by);
  const auto total = sum_over(group, own.seen_from(terms, largest));
  RowPart<T> part{largest, terms.of_largest(total.rest), total.count};
  const bool suits = Terms::suits(largest, by);
  if (!group.any_row(!suits)) return part;
  const InMemory<S, Group> again{x, n};
  const auto careful = lifted_total(again, Shift<T>(largest, temperature), group);
  return suits ? part : RowPart<T>{largest, careful.rest, careful.count};
}

}  // namespace
}  // namespace softmap::cuda
