#include "core/pair.h"
#include "cpu/lanes_exp.h"
#include "cpu/lanes_half.h"
#include "cpu/lanes_reciprocal.h"
#include "cpu/parallel.h"
#include "cpu/transpose.h"
#include "pairwise.h"

namespace softmap::cpu {
namespace {

constexpr Index kSideBytes = 256;     // bytes of a row of a block, of which two stay in the first cache
constexpr Index kLongSide = 128;      // numbers of a row of a block, where the ends of rows cost more
constexpr Index kChunk = 1 << 13;     // elements
constexpr Index kStream = 32 << 20;   // bytes of a result that no cache holds
constexpr std::uintptr_t kLine = 64;  // bytes that memory takes at once

// x as it comes back from memory in S.
template <class S, class L>
L rounded(L x) {
  if constexpr (sizeof(S) >= 4) {
    return x;
  } else {
    S memory[L::size];
    store(x, memory);
    return load(static_cast<const S*>(memory));
  }
}

// exp(x) / kUnit for x from -800 (-120 in float) to 0.
template <class T>
struct LiftedExp {
  static constexpr T kUnit = 0x1p-500;
  ScaledExp<T> exp{-500};
  Lanes<T> operator()(Lanes<T> x) const { return exp(x); }
};
template <>
struct LiftedExp<float> {
  static constexpr float kUnit = 0x1p-64f;
  Lanes<float> operator()(Lanes<float> x) const {
    const auto p = core::exp_pair(x);
    return scale2(p.m, p.e + Lanes<float>(64));
  }
};

// The smaller one of F(d) and F(-d), where d is the difference of two scores. What is computed once an item is its mark; where
// that cannot be, quick() is NaN and direct() takes its place.
template <class Link, class T>
struct Smaller;

template <class T>
struct Smaller<core::Logit, T> {
  static constexpr bool kMarked = true;
  using L = Lanes<T>;
  static L mark(L s) { return select(abs(s) <= L(core::Logit::kMarkReach<T>), core::exp(s), L(core::kNaN<T>)); }
  static L quick(L mine, L theirs, L) { return core::Logit::smaller_between(mine, theirs, half_reciprocal(mine + theirs)); }
  static L direct(L d) { return core::Logit::probability(-abs(d)); }
};

template <class T>
struct Smaller<core::Probit, T> {
  static constexpr bool kMarked = false;
  using L = Lanes<T>;
  LiftedExp<T> exp;
  L quick(L, L, L d) const { return core::quick_upper_tail(abs(d), exp, LiftedExp<T>::kUnit); }
};

// Copies n numbers; `streams`: past the caches, to where they will not be read soon.
template <class S>
void copy(const S* from, S* to, Index n, bool streams) {
  Index k = 0;
  const auto copy_to = [&](Index end) {
    if (end > k) memcpy(to + k, from + k, sizeof(S) * static_cast<std::size_t>(end - k));
    k = end;
  };
  if constexpr (sizeof(S) >= 4) {
    using L = Lanes<S>;
    const Index head = Index(-reinterpret_cast<std::uintptr_t>(to) % kLine / sizeof(S));
    if (streams) {
      copy_to(head < n ? head : n);
      for (; k + L::size <= n; k += L::size) stream(L::load(from + k), to + k);
    }
    for (; k + L::size <= n; k += L::size) L::load(from + k).store(to + k);
  }
  copy_to(n);
}

// The matrix of one problem without a first advantage. A pair of items is computed once: the smaller of its two probabilities,
// as stored; the other is 1 minus it. Squares of as many rows as a register has lanes fill a block and its mirror image, which
// stay in cache until their rows are copied to the result.
template <class Link, class T, class S>
struct Matrix {
  using L = Lanes<T>;
  static constexpr int kSide = L::size;
  const T *scores, *marks, *variance;
  Index n, side;  // side: rows and columns of a block
  S *out, *room;  // room: for a block and its mirror image
  bool streams;
  Smaller<Link, T> smaller{};

  // The square of the rows from i and the columns from j, `to` and its mirror image to `mirror`. Beyond n there is something.
  template <bool kVariance, bool kDirect = false>
  [[gnu::flatten]] void square(Index i, Index j, S* to, S* mirror) const {
    const int columns = static_cast<int>(n - j < kSide ? n - j : kSide), rows = static_cast<int>(n - i < kSide ? n - i : kSide);
    const auto read = [&](const T* p) { return columns == kSide ? L::load(p + j) : L::load(p + j, columns, T(1)); };
    const L theirs = read(scores), one(T(1)), their_mark = read(marks), their_variance = kVariance ? read(variance) : one;
    auto found = one == one;
    L mirrored[kSide];
#pragma GCC unroll 16
    for (int a = 0; a < kSide; ++a) {
      const Index row = a < rows ? i + a : i;
      const L mine(scores[row]), difference = mine - theirs;
      const L d = kVariance ? core::standardised(difference, L(variance[row]), their_variance) : difference;
      L p = smaller.quick(L(marks[row]), their_mark, d);
      if constexpr (Smaller<Link, T>::kMarked) {
        found = found & (p == p);
        if constexpr (kDirect) p = select(p == p, p, smaller.direct(d));
      }
      const L small = rounded<S>(p), other = one - small;
      const auto ahead = theirs < mine;
      store(select(ahead, other, small), to + a * side);
      mirrored[a] = select(ahead, small, other);
    }
    if constexpr (Smaller<Link, T>::kMarked && !kDirect) {
      if (!all(found)) return direct_square(i, j, to, mirror);
    }
    if (i == j) return;
    transpose(mirrored);
#pragma GCC unroll 16
    for (int c = 0; c < kSide; ++c) store(mirrored[c], mirror + c * side);
  }
  [[gnu::noinline]] void direct_square(Index i, Index j, S* to, S* mirror) const { square<false, true>(i, j, to, mirror); }

  void copy_block(const S* from, Index i, Index j) const {
    const Index rows = n - i < side ? n - i : side, columns = n - j < side ? n - j : side;
    for (Index r = 0; r < rows; ++r) copy(from + r * side, out + (i + r) * n + j, columns, streams);
  }

  // Rows from i_block on, as far as a block, and their mirror images.
  void block_row(Index i_block) const {
    for (Index j_block = i_block; j_block < n; j_block += side) {
      S* const mirror = j_block == i_block ? room : room + side * side;
      for (Index i = i_block; i < n && i < i_block + side; i += kSide) {
        for (Index j = j_block == i_block ? i : j_block; j < n && j < j_block + side; j += kSide) {
          S* const to = room + (i - i_block) * side + (j - j_block);
          S* const mirror_to = mirror + (j - j_block) * side + (i - i_block);
          if (!Smaller<Link, T>::kMarked && variance) {
            square<!Smaller<Link, T>::kMarked>(i, j, to, mirror_to);
          } else {
            square<false>(i, j, to, mirror_to);
          }
        }
      }
      copy_block(room, i_block, j_block);
      if (j_block != i_block) copy_block(mirror, j_block, i_block);
    }
  }
};

// The marks of all scores.
template <class Link, class T>
void mark_scores(const T* scores, Index n, T* marks, const Exec& exec) {
  using L = Lanes<T>;
  parallel_for(exec, n, kChunk, n, [&](Index first, Index last, int) {
    for (Index k = first; k < last; k += L::size) {
      const int count = static_cast<int>(last - k < L::size ? last - k : L::size);
      Smaller<Link, T>::mark(L::load(scores + k, count, T(0))).store(marks + k, count);
    }
  });
}

// 0, 1, 2, ...: from k on it takes the last lanes of one register from lane k on, then the first ones of another.
template <class T>
struct Sequence {
  typename core::Format<T>::Int entry[2 * Lanes<T>::size];
  constexpr Sequence() : entry{} {
    for (int k = 0; k < 2 * Lanes<T>::size; ++k) entry[k] = k;
  }
};
template <class T>
inline constexpr Sequence<T> kSequence{};

// Matrices in the order in which they lie in memory, each probability by itself: from marks, or in long registers, that costs no
// more than mirror images, and leaves nothing to copy. Between stores past the caches there must be no others, which would wait
// for them; so registers that two rows share are put together, and only those at both ends of all rows are stored in part.
template <class Link, class T>
class Rows {
  using L = Lanes<T>;
  static constexpr int kSide = L::size;

 public:
  // complete: whether all scores have a mark that quick() takes.
  Rows(const T* scores, const T* marks, Index n, bool complete) : scores_(scores), marks_(marks), n_(n), complete_(complete) {}

  // The rows [first, last) of all problems, at least two registers long each.
  template <bool kStreams>
  [[gnu::flatten]] void write(Index first, Index last, T* out) const {
    T* to = out + first * n_;
    Index carried = 0;  // numbers of the row before that wait
    L tail(T(0));
    Index start = first / n_ * n_;  // of the problem
    for (Index row = first; row < last; ++row) {
      if (row == start + n_) start = row;
      const L mine(marks_[row]);
      Index k = 0;
      const auto put = [&](L x) {
        if constexpr (kStreams) {
          stream(x, to);
        } else {
          x.store(to);
        }
        to += kSide;
      };
      const auto put_part = [&](Index from, Index count) {
        probabilities(row, start + from, mine).store(to, static_cast<int>(count));
        to += count;
      };
      if (carried > 0) {
        put(permute(tail, probabilities(row, start, mine), kSequence<T>.entry + kSide - carried));
        k = kSide - carried;
      } else if (kStreams && row == first) {
        k = Index(-reinterpret_cast<std::uintptr_t>(to) % (kSide * sizeof(T)) / sizeof(T));
        if (k > 0) put_part(0, k);
      }
      for (; k + kSide <= n_; k += kSide) put(probabilities(row, start + k, mine));
      carried = n_ - k;
      if (carried == 0) continue;
      if (!kStreams || row == last - 1) {
        probabilities(row, start + n_ - kSide, mine).store(to + carried - kSide);
        to += carried;
        carried = 0;
      } else {
        tail = probabilities(row, start + n_ - kSide, mine);
      }
    }
    if constexpr (kStreams) stream_fence();
  }

 private:
  // Of a score to beat those from `other` on.
  L probabilities(Index row, Index other, L mine) const {
    const L score(scores_[row]), theirs = L::load(scores_ + other);
    L small = smaller_.quick(mine, L::load(marks_ + other), score - theirs);
    if constexpr (Smaller<Link, T>::kMarked) {
      if (!complete_ && !all(small == small)) small = direct(score - theirs, small);
    }
    return select(theirs < score, L(T(1)) - small, small);
  }
  [[gnu::noinline]] static L direct(L d, L marked) { return select(marked == marked, marked, Smaller<Link, T>::direct(d)); }
  const T *scores_, *marks_;
  Index n_;
  bool complete_;
  Smaller<Link, T> smaller_{};
};

// A result that no cache holds is written past the caches, in longer pieces where they begin within lines.
template <class Link, class T, class S>
void matrices(const PreferenceMatrixIn<T>& in, S* out, const Exec& exec) {
  const Index n = in.n, size = in.n_problems * n * n, n_scores = in.n_problems * n, number = Index(sizeof(S));
  const bool streams = number >= 4 && size * number > kStream,
             whole = reinterpret_cast<std::uintptr_t>(out) % kLine == 0 && n * number % Index(kLine) == 0;
  const Index side = streams && !whole ? kLongSide : kSideBytes / number;
  const Index n_blocks = (n + side - 1) / side, n_units = in.n_problems * n_blocks;
  const Index chunk = kChunk / (n * (n < side ? n : side) + 1) + 1;
  const Scratch<T> own_marks(1, Smaller<Link, T>::kMarked ? n_scores : 0);
  if constexpr (Smaller<Link, T>::kMarked) mark_scores<Link>(in.scores, n_scores, own_marks[0], exec);
  const T* const marks = Smaller<Link, T>::kMarked ? own_marks[0] : in.scores;
  constexpr bool kMarked = Smaller<Link, T>::kMarked, kLong = sizeof(Lanes<T>) == kLine;
  if constexpr ((kMarked || kLong) && sizeof(S) == sizeof(T)) {
    if (n >= 2 * Lanes<T>::size && (kMarked || !in.variance)) {
      bool complete = true;
      for (Index k = 0; kMarked && k < n_scores; ++k) complete &= marks[k] == marks[k];
      const Rows<Link, T> rows(in.scores, marks, n, complete);
      parallel_for(exec, n_scores, kChunk / n + 1, size, [&](Index first, Index last, int) {
        streams ? rows.template write<true>(first, last, out) : rows.template write<false>(first, last, out);
      });
      return;
    }
  }
  const Scratch<S> rooms(slots_for(exec, n_units, chunk, size), 2 * side * side);
  parallel_for(exec, n_units, chunk, size, [&](Index first, Index last, int slot) {
    for (Index k = first; k < last; ++k) {
      const Index start = k / n_blocks * n;
      const T* const variance = in.variance ? in.variance + start : nullptr;
      S* const to = out + start * n;
      const Matrix<Link, T, S> m{in.scores + start, marks + start, variance, n, side, to, rooms[slot], streams};
      m.block_row(k % n_blocks * side);
    }
    if (streams) stream_fence();
  });
}

}  // namespace

template <class T, class S>
void symmetric_matrix(LinkKind link, const PreferenceMatrixIn<T>& in, S* out, const Exec& exec) {
  if (link == LinkKind::kLogit) return matrices<core::Logit>(in, out, exec);
  matrices<core::Probit>(in, out, exec);
}

template void symmetric_matrix(LinkKind, const PreferenceMatrixIn<float>&, float*, const Exec&);
template void symmetric_matrix(LinkKind, const PreferenceMatrixIn<double>&, double*, const Exec&);
template void symmetric_matrix(LinkKind, const PreferenceMatrixIn<float>&, core::Half*, const Exec&);
template void symmetric_matrix(LinkKind, const PreferenceMatrixIn<float>&, core::BFloat16*, const Exec&);

}  // namespace softmap::cpu
