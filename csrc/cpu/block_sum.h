#pragma once
// Pass 1 of the softmax family for long rows: the sum of exp(z), z = x / temperature, in blocks.
//
// Exponentials are held as exp(z) 2^-reference, which is exact in the reference. A block is read once, in the hope that it stays
// in the range of the reference; where it does not, the reference moves, what was added up is scaled by a power of two, and that
// block alone is taken again.
#include "cpu/lanes_exp.h"
#include "cpu/row_sum.h"

namespace softmap::cpu {
namespace {

template <class T>
using RowExp = ScaledExp<T, QuotientRoots<T>>;

template <class T>
inline constexpr Index kBlock = 64 * Lanes<T>::size;

// A reference puts the largest element so far at 2^kTop, so that what ScaledExp cannot tell from 0 is 0 in any quotient. It
// holds up to 2^kMost; the sum of 2^26 such numbers is finite.
template <class T>
inline constexpr T kTop = sizeof(T) == 4 ? T(60) : T(400);
template <class T>
inline constexpr T kMost = sizeof(T) == 4 ? T(95) : T(950);
// Below 2^kLowestKept an exponential is less than half of the least number beside the largest: 0 in a quotient, though not in a
// sum of many alone.
template <class T>
inline constexpr T kLowestKept = kTop<T> - (sizeof(T) == 4 ? T(151) : T(1077));
// The reference before there was an element in range: what is below the range is 0 by it.
template <class T>
inline constexpr T kNoReference = -kScaledExpLimit<T>;

// The sum over a segment: (m + low) 2^reference, and beside it the block that holds the largest z, where that is wanted.
template <class T>
struct SegmentSum {
  double m = 0, low = 0, block_m = 0, block_low = 0;
  T reference = kNoReference<T>, top = -kInf<T>;
  Index block = 0;  // where that block starts
  bool in_range = true;

  // Sums of parts of a row, in the order of the row.
  friend SegmentSum operator+(SegmentSum a, SegmentSum b) {
    SegmentSum r = a.top < b.top ? b : a;
    SegmentSum& other = a.top < b.top ? a : b;
    r.reference = core::max(a.reference, b.reference);
    r.in_range = a.in_range && b.in_range;
    const double keep = double(a.top < b.top ? b.reference : a.reference) - double(r.reference);
    const double take = double(other.reference) - double(r.reference);
    r.block_m = core::scale2(r.block_m, keep), r.block_low = core::scale2(r.block_low, keep);
    r.m = core::scale2(r.m, keep), r.low = core::scale2(r.low, keep);
    r.add(core::scale2(other.m, take), core::scale2(other.low, take));
    r.add(core::scale2(other.block_m, take), core::scale2(other.block_low, take));
    return r;
  }
  // The sum of all.
  void total(double& sum, double& rest) const {
    sum = core::two_sum(m, block_m, rest);
    rest += low + block_low;
  }
  // False where the sum says nothing: something was NaN, infinite, or beyond the range of ScaledExp, or all was.
  bool fine() const { return in_range && m + block_m == m + block_m && reference != kNoReference<T>; }

 private:
  void add(double value, double value_low) {
    double rounding;
    m = core::two_sum(m, value, rounding);
    low += value_low + rounding;
  }
};

// The lanes of a register, each `half` lanes further.
template <class T>
struct Rotations {
  static constexpr int size = Lanes<T>::size;
  using Int = typename core::Format<T>::Int;
  alignas(64) Int by[size][size];
  constexpr Rotations() : by{} {
    for (int half = 0; half < size; ++half) {
      for (int k = 0; k < size; ++k) by[half][k] = (k + half) % size;
    }
  }
};
template <class T>
inline constexpr Rotations<T> kRotations{};

// Calls fold(the lanes half a register further) for every half, down to one: a tree, in registers.
template <class T, class Fold>
[[gnu::always_inline]] inline void fold_lanes(const Fold& fold) {
#pragma GCC unroll 4
  for (int half = Lanes<T>::size / 2; half > 0; half /= 2) {
    fold([&](Lanes<T> v) { return permute(v, kRotations<T>.by[half]); });
  }
}

// The sum of the lanes of (v + low).
inline void sum_lanes(Lanes<float> v, Lanes<float> low, double& sum, double& rest) {
  Lanes<double> d = (low_half(v) + low_half(low)) + (high_half(v) + high_half(low));
  fold_lanes<double>([&](const auto& rotated) { d = d + rotated(d); });
  sum = first_lane(d), rest = 0;
}
inline void sum_lanes(Lanes<double> v, Lanes<double> low, double& sum, double& rest) {
  fold_lanes<double>([&](const auto& rotated) {
    Lanes<double> rounding;
    v = core::two_sum(v, rotated(v), rounding);
    low = low + (rotated(low) + rounding);
  });
  sum = first_lane(v), rest = first_lane(low);
}

// The largest lane, where none is NaN.
template <class T>
T largest_lane(Lanes<T> v) {
  fold_lanes<T>([&](const auto& rotated) { v = max(v, rotated(v)); });
  return first_lane(v);
}

// The largest of the first x, up to eight registers of them, as a guess.
template <class S, class T = Compute<S>>
T largest_of_first(const S* x, Index n) {
  using L = Lanes<T>;
  constexpr Index kWidth = L::size;
  const auto at = [&](Index k) { return load(x + k * kWidth); };
  if (n >= 8 * kWidth) {
    return largest_lane(max(max(max(at(0), at(1)), max(at(2), at(3))), max(max(at(4), at(5)), max(at(6), at(7)))));
  }
  L top(-kInf<T>);
  for (Index i = 0; i < n; i += kWidth) {
    top = max(n - i >= kWidth ? load(x + i) : load(x + i, static_cast<int>(n - i), -kInf<T>), top);
  }
  return largest_lane(top);
}

// What a pass does beside the sum. Exponentials may be kept, as they come; and another row may be written as this one is read:
// eight registers of it at a time, and the rest of it where this row ends.
struct KeepNothing {
  template <class L>
  void operator()(Index, L) const {}
  template <class L>
  void operator()(Index, L, int) const {}
};
template <class T, bool kFar = false>
struct KeepIn {
  T* to;
  void operator()(Index i, Lanes<T> e) const {
    if constexpr (kFar) ask_ahead_to_write(to + i);
    e.store(to + i);
  }
  void operator()(Index i, Lanes<T> e, int count) const { e.store(to + i, count); }
};
struct WriteNothing {
  Index fused(Index, Index) const { return 0; }
  void eight(Index) const {}
  void rest(Index) const {}
};

// A sum, and what rounding took from it.
template <class T>
struct Carried {
  Lanes<T> sum = Lanes<T>(T(0)), rest = Lanes<T>(T(0));
  void add(Lanes<T> v) {
    Lanes<T> rounding;
    sum = core::two_sum(sum, v, rounding);
    rest = rest + rounding;
  }
  void add(const Carried& other) {
    add(other.sum);
    rest = rest + other.rest;
  }
  void scale2_by(Lanes<T> e) { sum = scale2(sum, e), rest = scale2(rest, e); }
};

// The sum of exponentials over x[at .. at + n), at most a block; `top` becomes the largest x of each lane. Two numbers of a lane
// are added as they are, eight for quotients of 16 bits: the rounding of what follows is carried.
template <class S, class Arg, class Exp, class Keep, class Write, class T = Compute<S>>
[[gnu::always_inline]] inline Carried<T> sum_of_block(const S* x, Index at, Index n, const Arg& arg, const Exp exp,
                                                      const Keep keep, const Write write, Lanes<T>& top) {
  using L = Lanes<T>;
  constexpr Index kWidth = L::size, kEight = 8 * kWidth;
  L largest(-kInf<T>);
  Carried<T> sum;
  const auto exp_of_lanes = [&](L v) {
    L low;
    largest = max(v, largest);
    return exp(arg(v, low));
  };
  // All loads come before the stores: a processor takes a load for a late one of a store 4096 bytes away.
  const auto eight = [&](Index i, const auto& write_here) {
    L v[8];
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      if (k * kWidth * sizeof(S) % 64 == 0) ask_ahead(x + i + k * kWidth);
      v[k] = load(x + i + k * kWidth);
    }
    write_here(i);
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      v[k] = exp_of_lanes(v[k]);
      keep(i + k * kWidth, v[k]);
    }
    const L pair[4] = {v[0] + v[1], v[2] + v[3], v[4] + v[5], v[6] + v[7]};
    if constexpr (sizeof(S) == 2 && std::is_same_v<Exp, QuotientExp<S>>) {
      return sum.add((pair[0] + pair[1]) + (pair[2] + pair[3]));
    }
    Carried<T> all{pair[0]}, second{pair[2]};
    all.add(pair[1]), second.add(pair[3]);
    all.add(second);
    sum.add(all);
  };
  Index i = at;
  const Index fused = at + write.fused(at, n), end = at + n;
  for (; i + kEight <= fused; i += kEight) eight(i, [&](Index k) { write.eight(k); });
  if (i < end) write.rest(i);
  for (; i + kEight <= end; i += kEight) eight(i, [](Index) {});
  for (; i + kWidth <= end; i += kWidth) {
    const L e = exp_of_lanes(load(x + i));
    keep(i, e);
    sum.add(e);
  }
  if (const int rest = static_cast<int>(end - i); rest > 0) {
    const L e = exp_of_lanes(load(x + i, rest, -kInf<T>));
    keep(i, e, rest);
    sum.add(e);
  }
  top = largest;
  return sum;
}

// The reference of a segment as it moves.
template <class T>
class Reference {
 public:
  T value = kNoReference<T>, limit = -kInf<T>;
  bool in_range = true;
  // To one that suits `top`; false where none does, or where z is so low that it is nothing beside any z in range.
  bool move(T top) {
    constexpr T kFar = sizeof(T) == 4 ? T(128) : T(1100);
    if (!(top > -kScaledExpLimit<T>)) {
      in_range &= top <= -kScaledExpLimit<T> - kFar;
      return false;
    }
    if (!(top < kScaledExpLimit<T>)) {
      in_range = false;
      limit = kInf<T>;
      return false;
    }
    value = core::round_even(top * core::kLog2E<T>) - kTop<T>;
    limit = (value + kMost<T>)*core::kLn2High<T>;
    return true;
  }
};

// The sum over x[first .. last). The reference of each block that starts at i is left in references[i / kBlock], where not null.
// With kTop the block that holds the largest z is summed apart, as logarithms want it.
template <bool kTop, class S, class Arg, class Keep = KeepNothing, class Write = WriteNothing, class T = Compute<S>>
SegmentSum<T> sum_blocks(const S* x, Index first, Index last, const Arg& arg, T* references = nullptr, const Keep& keep = {},
                         const Write& write = {}) {
  using L = Lanes<T>;
  SegmentSum<T> r;
  Reference<T> reference;
  reference.move(arg.of_largest(largest_of_first(x + first, last - first)));
  using Exp = std::conditional_t<kTop, RowExp<T>, QuotientExp<S>>;
  constexpr T kLowest = std::is_same_v<Keep, KeepNothing> ? Exp::kLowest : kLowestKept<T>;
  Exp exp(reference.value, kLowest);
  Carried<T> total, block;
  L tops, low;
  for (Index i = first; i < last; i += kBlock<T>) {
    const Index n = last - i < kBlock<T> ? last - i : kBlock<T>;
    Carried<T> sum = sum_of_block(x, i, n, arg, exp, keep, write, tops);
    const T before = reference.value;
    L z = arg(tops, low);
    if (any(L(reference.limit) < z) && reference.move(largest_lane(z))) [[unlikely]] {
      const L shift(before - reference.value);
      total.scale2_by(shift), block.scale2_by(shift);
      exp = Exp(reference.value, kLowest);
      sum = sum_of_block(x, i, n, arg, exp, keep, WriteNothing{}, tops);
    }
    if (references) references[i / kBlock<T>] = reference.value;
    if (kTop && any(L(r.top) < z)) {
      if (r.top > -kInf<T>) total.add(block);
      block = sum;
      r.top = largest_lane(z), r.block = i;
    } else if (i == first) {
      total = sum;
    } else {
      total.add(sum);
    }
  }
  r.reference = reference.value, r.in_range = reference.in_range;
  sum_lanes(total.sum, total.rest, r.m, r.low);
  if (kTop) sum_lanes(block.sum, block.rest, r.block_m, r.block_low);
  return r;
}

// The sum over a row, from sum_of(first, last) for each segment of it.
template <class S, class SumOf, class T = Compute<S>>
SegmentSum<T> sum_segments(const Row<S>& row, const SumOf& sum_of) {
  if (row.n <= Row<S>::kShortest) return sum_of(Index(0), row.n);
  SegmentSum<T> parts[Row<S>::kMostSegments + 1];
  const Index n_parts = row.each_segment([&](Index k, Index first, Index last) { parts[k] = sum_of(first, last); });
  for (Index k = 1; k < n_parts; ++k) parts[0] = parts[0] + parts[k];
  return parts[0];
}

}  // namespace
}  // namespace softmap::cpu
