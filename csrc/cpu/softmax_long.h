#pragma once
// Softmax of long rows that lie in one piece. What comes out of a row depends on the row alone: the ways below differ in what
// they read and write, not in what they compute.
#include "cpu/block_sum.h"
#include "cpu/softmax_exact.h"

namespace softmap::cpu {
namespace {

// Times 1 / sum; in two parts, so that the quotient is rounded once, where all of its digits are stored: a row with one element
// gives exactly 1.
template <class S>
struct Quotient {
  using T = Compute<S>;
  Lanes<T> inverse, rest;
  explicit Quotient(const SegmentSum<T>& s) {
    double sum, low;
    s.total(sum, low);
    const T whole = static_cast<T>(1 / sum);
    const double left = core::fmadd(-sum, double(whole), 1.0) - low * double(whole);
    inverse = Lanes<T>(whole), rest = Lanes<T>(static_cast<T>(left * double(whole)));
  }
  Lanes<T> operator()(Lanes<T> e) const {
    if constexpr (sizeof(S) == 2) {
      return e * inverse;
    } else {
      return fmadd(e, inverse, e * rest);
    }
  }
};

// A value of pass 2 for each element of a row, in any order: from the exponentials that pass 1 kept,
template <class S, class T = Compute<S>>
struct FromKept {
  const T* kept;
  Quotient<S> quotient;
  Lanes<T> operator()(Index i) const { return quotient(Lanes<T>::load(kept + i)); }
  Lanes<T> operator()(Index i, int count) const { return quotient(Lanes<T>::load(kept + i, count, T(0))); }
};
// or from the row itself.
template <class S, class Arg>
struct FromRow {
  using T = Compute<S>;
  const S* x;
  Arg arg;
  QuotientExp<S> exp;
  Quotient<S> quotient;
  Lanes<T> value(Lanes<T> v) const {
    Lanes<T> low;
    return quotient(exp(arg(v, low)));
  }
  Lanes<T> operator()(Index i) const {
    ask_ahead(x + i);
    return value(load(x + i));
  }
  Lanes<T> operator()(Index i, int count) const { return value(load(x + i, count, -kInf<T>)); }
};

// The end of a row that has to wait for the start of the next one, so that they go past the caches in one register. Stored in the
// ordinary way, each would wait for its line from memory, and everything that is stored later would wait for it.
template <class S>
class Seam {
  static constexpr Index kWidth = LanesOf<S>::size;

 public:
  // The last `count` elements of a row that ends at `end`.
  void keep(LanesOf<S> v, Index count, S* end) {
    flush();  // what the row between did not join
    store_first_numbers<S>(waiting_, static_cast<int>(count), v);
    count_ = count, end_ = end;
  }
  // The first `count` elements of a row at `out`, up to an aligned address.
  void join(LanesOf<S> v, Index count, S* out) {
    if (end_ != out || count_ + count != kWidth) {
      flush();
      return store_first_numbers<S>(out, static_cast<int>(count), v);
    }
    store_first_numbers<S>(waiting_ + count_, static_cast<int>(count), v);
    stream(load(static_cast<const S*>(waiting_)), out - count_);
    count_ = 0;
  }
  void flush() {
    for (Index k = 0; k < count_; ++k) end_[k - count_] = waiting_[k];
    count_ = 0;
  }

 private:
  alignas(64) S waiting_[kWidth];
  Index count_ = 0;
  S* end_ = nullptr;
};

// Writes out[0 .. n), none of it NaN; with kStream past the caches, which wants aligned addresses: then all but the first
// `head_` elements are written in vectors that are aligned in memory, two at once where they are of 16 bits a number. Those of
// the value need not be. `seam` is for rows that are written in order.
template <class S, bool kStream, class Value>
class Writer {
  static constexpr Index kWidth = LanesOf<S>::size;

 public:
  Writer(S* out, Index n, const Value& value, Seam<S>* seam = nullptr) : out_(out), n_(n), seam_(seam), value_(value) {
    if constexpr (kStream) {
      const auto address = reinterpret_cast<std::uintptr_t>(out);
      head_ = static_cast<Index>(-address % (kWidth * sizeof(S)) / sizeof(S));
      if (head_ > n) head_ = n;
    }
    if (head_ > 0) {
      const auto first = value_(0, static_cast<int>(head_));
      seam ? seam->join(first, head_, out) : store_first_numbers<S>(out, static_cast<int>(head_), first);
    }
    const auto after = reinterpret_cast<std::uintptr_t>(out + head_);
    if (kStream && sizeof(S) == 2 && after % (2 * kWidth * sizeof(S)) != 0 && head_ + kWidth <= n) {
      write(head_);
      head_ += kWidth;
    }
  }
  // The part that sum_of_block asks for.
  Index fused(Index at, Index n) const { return at + head_ + n <= n_ ? n : n_ - head_ - at; }
  void eight(Index i) const {
#pragma GCC unroll 8
    for (Index k = i + head_; k < i + head_ + 8 * kWidth; k += 2 * kWidth) {
      if constexpr (!kStream) ask_ahead_to_write(out_ + k), ask_ahead_to_write(out_ + k + kWidth);
      write_two(k);
    }
  }
  void rest(Index i) const {
    i += head_;
    for (; i + kWidth <= n_; i += kWidth) write(i);
    if (const Index count = n_ - i; count > 0) {
      const auto last = value_(i, static_cast<int>(count));
      kStream&& seam_ ? seam_->keep(last, count, out_ + n_) : store_first_numbers<S>(out_ + i, static_cast<int>(count), last);
    }
  }
  // What belongs to a segment [first, last).
  void segment(Index first, Index last) const {
    range(first + head_, last + head_ < n_ ? last + head_ : n_);
    if constexpr (kStream) stream_fence();
  }

 private:
  void range(Index i, Index last) const {
    const Writer here = *this;  // in registers, which no store can change
    for (; i + 2 * kWidth <= last; i += 2 * kWidth) {
      if constexpr (!kStream) ask_ahead_to_write(out_ + i), ask_ahead_to_write(out_ + i + kWidth);
      here.write_two(i);
    }
    for (; i + kWidth <= last; i += kWidth) here.write(i);
    if (const int count = static_cast<int>(last - i); count > 0) store_first_numbers<S>(out_ + i, count, value_(i, count));
  }
  void write(Index i) const { put(i, value_(i)); }
  void write_two(Index i) const { put(i, value_(i), value_(i + kWidth)); }
  template <class... L>
  void put(Index i, L... v) const {
    if constexpr (kStream) {
      stream_numbers(out_ + i, v...);
    } else {
      store_numbers(out_ + i, v...);
    }
  }
  S* out_;
  Index n_, head_ = 0;
  Seam<S>* seam_;
  Value value_;
};

// Kept exponentials in [first, n) of blocks with another reference than the whole, to that reference.
template <class T>
void settle(T* kept, const T* references, Index first, Index n, T reference) {
  using L = Lanes<T>;
  for (Index i = first; i < n;) {
    const Index last = i + kBlock<T> < n ? i + kBlock<T> : n;
    const L shift(references[i / kBlock<T>] - reference);
    if (references[i / kBlock<T>] == reference) {
      i = last;
      continue;
    }
    for (; i + L::size <= last; i += L::size) scale2(L::load(kept + i), shift).store(kept + i);
    if (const int count = static_cast<int>(last - i)) scale2(L::load(kept + i, count, T(0)), shift).store(kept + i, count);
    i = last;
  }
}

// The rows [first, last) of a batch. One loop runs pass 1 of a row and pass 2 of the row before it, so that reading, computing
// and writing overlap: pass(i, write) is the sum over row i, value_of(i, sum) what is written for it, exact(i) the other way
// there.
template <bool kStream, class S, class Pass, class ValueOf, class Exact>
void fuse_rows(const Rows<S>& out, Index first, Index last, const Pass& pass, const ValueOf& value_of, const Exact& exact) {
  using T = Compute<S>;
  Seam<S> seam;
  SegmentSum<T> sum = pass(first, WriteNothing{});
  for (Index i = first; i < last; ++i) {
    if (!sum.fine()) [[unlikely]] {
      exact(i);
      if (i + 1 < last) sum = pass(i + 1, WriteNothing{});
      continue;
    }
    const Writer<S, kStream, decltype(value_of(i, sum))> write(out.row(i), out.along.size(), value_of(i, sum), &seam);
    if (i + 1 < last) {
      sum = pass(i + 1, write);
    } else {
      write.rest(0);
    }
  }
  seam.flush();
  if constexpr (kStream) stream_fence();
}

// Room for the exponentials of a row of n elements, half a page away from x for the sake of loads that follow stores, and for the
// reference of each block of them.
template <class T>
struct KeptRow {
  static constexpr Index kPage = 4096 / sizeof(T);
  static Index room(Index n) { return kPage + (n + 63) / 64 * 64 + n / kBlock<T> + 1; }
  KeptRow(T* room, const void* x, Index n) {
    const auto away = reinterpret_cast<std::uintptr_t>(x) + 2048 - reinterpret_cast<std::uintptr_t>(room);
    exponentials = room + away % 4096 / 64 * (64 / sizeof(T));
    references = exponentials + (n + 63) / 64 * 64;
  }
  T *exponentials, *references;
};

// Softmax by fuse_rows: the exponentials wait in `kept`.
template <bool kStream, class S, class ArgOf, class T = Compute<S>>
void fused_softmax(const Rows<const S>& x, const ArgOf& arg_of, const Rows<S>& out, Index first, Index last, KeptRow<T> kept) {
  const Index n = x.along.size();
  const auto row = [&](Index i) { return Row<S>{x.row(i), n, nullptr}; };
  fuse_rows<kStream>(
      out, first, last,
      [&](Index i, const auto& write) {
        return sum_segments(row(i), [&](Index from, Index to) {
          return sum_blocks<false>(x.row(i), from, to, arg_of(i), kept.references, KeepIn<T>{kept.exponentials}, write);
        });
      },
      [&](Index, const SegmentSum<T>& sum) {
        settle(kept.exponentials, kept.references, 0, n, sum.reference);
        return FromKept<S>{kept.exponentials, Quotient<S>(sum)};
      },
      [&](Index i) { exact_softmax(row(i), static_cast<T>(arg_of.temperature(i)), out.row(i)); });
}

// One row, which threads may share. With `references`, an entry a block, the exponentials are kept in out, which is then not x;
// otherwise they are computed again.
template <bool kStream, class S, class Arg, class T = Compute<S>>
void softmax_row(const Row<S>& row, const Arg& arg, T temperature, S* out, T* references) {
  const auto sum = sum_segments(row, [&](Index first, Index last) {
    if constexpr (std::is_same_v<S, T>) {
      if (references) return sum_blocks<false>(row.x, first, last, arg, references, KeepIn<T, true>{out});
    }
    return sum_blocks<false>(row.x, first, last, arg);
  });
  if (!sum.fine()) return exact_softmax(row, temperature, out);
  const Quotient<S> quotient(sum);
  if constexpr (std::is_same_v<S, T>) {
    if (references) {
      const Writer<S, false, FromKept<S>> write(out, row.n, {out, quotient});
      row.each_segment([&](Index, Index first, Index last) {
        settle(out, references, first, last, sum.reference);
        write.segment(first, last);
      });
      return;
    }
  }
  const Writer<S, kStream, FromRow<S, Arg>> write(out, row.n,
                                                  {row.x, arg, QuotientExp<S>(sum.reference, kLowestKept<T>), quotient});
  row.each_segment([&](Index, Index first, Index last) { write.segment(first, last); });
}

// The way to read row i: all temperatures are 1, or each row has its own.
struct AllPlain {
  Plain operator()(Index) const { return {}; }
  float temperature(Index) const { return 1; }
};
template <class T>
struct EachDivided {
  PerRow<T> temperatures;
  Divided<T> operator()(Index i) const {
    const T t = temperatures[i];
    return {t > T(0) && t < kInf<T> ? t : kNaN<T>};
  }
  T temperature(Index i) const { return temperatures[i]; }
};

}  // namespace
}  // namespace softmap::cpu
