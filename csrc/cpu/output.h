#pragma once
// Registers to memory, one after the other.
#include "cpu/lanes_half.h"
#include "views.h"

namespace softmap::cpu {
namespace {

// 0, 1, 2, ...: from entry k on, what permute takes to shift two registers by k lanes.
template <class T>
struct Counting {
  typename core::Format<T>::Int entry[2 * Lanes<T>::size + 1];
  constexpr Counting() : entry{} {
    for (int k = 0; k <= 2 * Lanes<T>::size; ++k) entry[k] = k;
  }
};
template <class T>
inline constexpr Counting<T> kCounting{};

// write() appends registers. With `streams` they go past the caches, in whole lines: each store takes the end of one register and
// the start of the next. finish() writes what is left.
template <class S>
class Output {
  using T = Compute<S>;
  using L = Lanes<T>;
  static constexpr int kSize = L::size;
  static constexpr bool kStreams = sizeof(S) == sizeof(T);

 public:
  Output(S* to, bool streams) : to_(to), streams_(kStreams && streams) {
    const auto beyond = reinterpret_cast<std::uintptr_t>(to) % (kSize * sizeof(T)) / sizeof(T);
    head_ = kSize - static_cast<int>(beyond);
  }
  template <int n>
  [[gnu::always_inline]] void write(const L (&v)[n]) {
    if (streams_) {
      begin(v[0]);
#pragma GCC unroll 16
      for (int k = 1; k < n; ++k) put_across(v[k - 1], v[k], k * kSize);
      last_ = v[n - 1];
    } else {
#pragma GCC unroll 16
      for (int k = 0; k + 2 <= n; k += 2) put_two(v[k], v[k + 1], k * kSize);
      if (n % 2 == 1) put_one(v[n - 1], (n - 1) * kSize);
    }
    to_ += n * kSize;
  }
  // value(i) for i = 0, size, 2 size, ... below n > 0.
  template <class Value>
  [[gnu::always_inline]] void write(Index n, const Value& value) {
    Index i = 0;
    if (streams_) {
      L last = value(i);
      begin(last);
      for (i = kSize; i < n; i += kSize) {
        const L v = value(i);
        put_across(last, v, i);
        last = v;
      }
      last_ = last;
    } else {
      for (; i + kSize < n; i += 2 * kSize) put_two(value(i), value(i + kSize), i);
      for (; i < n; i += kSize) put_one(value(i), i);
    }
    to_ += i;
  }
  void finish() {
    if constexpr (kStreams) {
      if (begun_) permute(last_, last_, kCounting<T>.entry + head_).store(to_ + head_ - kSize, kSize - head_);
      if (streams_) stream_fence();
      begun_ = false;
    }
  }

 private:
  void begin(L v) {
    if constexpr (kStreams) {
      if (begun_) {
        put_across(last_, v, 0);
      } else {
        v.store(to_, head_);
        begun_ = true;
      }
    }
  }
  void put_one(L a, Index i) {
    ask_ahead_to_write(to_ + i);
    store_numbers(to_ + i, a);
  }
  void put_two(L a, L b, Index i) {
    ask_ahead_to_write(to_ + i);
    if constexpr (kStreams) ask_ahead_to_write(to_ + i + kSize);
    store_numbers(to_ + i, a, b);
  }
  // The line that ends in b, which belongs to to_ + i.
  [[gnu::always_inline]] void put_across(L a, L b, Index i) {
    if constexpr (kStreams) stream(permute(a, b, kCounting<T>.entry + head_), to_ + i + head_ - kSize);
  }

  S* to_;
  bool streams_, begun_ = false;
  int head_;  // elements up to the first line that is whole, at least 1
  L last_;
};

}  // namespace
}  // namespace softmap::cpu
