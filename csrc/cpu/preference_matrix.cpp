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

// The coefficients of Q in 2^f = 1 + f Q(f), from those of P in exp(r) = 1 + r + r^2 P(r).
template <const auto& p, class T>
struct InBaseTwo {
  T c[core::kSize<p> + 1];
  constexpr InBaseTwo() : c{} {
    double power = core::kLn2High<double>;
    c[0] = static_cast<T>(power);
    for (int k = 0; k < core::kSize<p>; ++k) c[k + 1] = static_cast<T>(p[k] * (power *= core::kLn2High<double>));
  }
  constexpr T operator[](int k) const { return c[k]; }
};

// exp(-x2/2) / kUnit for x2 from 0 to the square of core::kTailEnd; NaN gives NaN. As ScaledExp, but in base 2, where the
// remainder is exact, and without a limit: every result is a normal number.
template <class T>
class LiftedBell {
  using L = Lanes<T>;
  using R = Roots<T>;
  static constexpr T kLift = sizeof(T) == 4 ? 64 : 500, kMagic = core::Format<T>::round_magic / T(1 << R::bits) + kLift;
  static constexpr double kPower = sizeof(T) == 4 ? 0x1p64 : 0x1p500;
  static constexpr InBaseTwo<R::polynomial, T> kExp2{};
  R roots_;

 public:
  static constexpr double kUnit = 1 / kPower / T(R::factor);
  static_assert(T(kPower * kUnit) * T(R::factor) == 1, "exact at 0");
  L operator()(L x2) const {
    const L x = x2 * L(T(-0.5) * core::kLog2E<T>), z = x + L(kMagic), n = z - L(kMagic), f = x - n, root = roots_(z);
    return fmadd(root, f * core::polynomial<kExp2>(f), root);
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
  LiftedBell<T> bell;
  L quick(L, L, L d) const { return core::quick_upper_tail(abs(d), bell); }
};

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

// Copies rows of a block, `side` numbers apart, to a result of rows of n past the caches, to where they will not be read soon.
// Between such stores there must be no others, which would wait for them: registers that two whole rows share are put together.
template <class S>
void stream_rows(const S* from, Index side, S* to, Index n, Index rows, Index columns) {
  using L = Lanes<S>;
  constexpr Index kSide = L::size;
  Index k = 0;  // the first number of a row that is not yet written
  for (; rows > 0; --rows, from += side, to += n) {
    if (k == 0) {
      const Index head = Index(-reinterpret_cast<std::uintptr_t>(to) % sizeof(L) / sizeof(S));
      k = head < columns ? head : columns;
      if (k > 0) L::load(from).store(to, static_cast<int>(k));
    }
    for (; k + kSide <= columns; k += kSide) stream(L::load(from + k), to + k);
    const Index rest = columns - k;
    const bool shared = rest > 0 && rows > 1 && columns == n;
    if (shared) {
      stream(permute(L::load(from + n - kSide), L::load(from + side), kSequence<S>.entry + kSide - rest), to + k);
    } else if (rest > 0) {
      L::load(from + k).store(to + k, static_cast<int>(rest));
    }
    k = shared ? kSide - rest : 0;
  }
}

// Where squares are written: to a room, in the result, or there past the caches.
enum class Place { kRoom, kResult, kPastCaches };

// The matrix of one problem without a first advantage. A pair of items is computed once: the smaller of its two probabilities,
// as stored; the other is 1 minus it. Squares of as many rows as a register has lanes are written with their mirror images: at
// once where a register is a line of the result; else to a block and its mirror image, in cache until their rows are copied.
template <class Link, class T, class S>
struct Matrix {
  using L = Lanes<T>;
  static constexpr int kSide = L::size;
  static constexpr bool kLines = sizeof(L) == kLine && sizeof(S) == sizeof(T) && !Smaller<Link, T>::kMarked;
  const T *scores, *marks, *variance;
  Index n, side;        // side: rows and columns of a block
  S *out, *room;        // room: for a block and its mirror image
  bool streams, lines;  // lines: rows are whole lines, each begins and ends with the same part of one
  Index head;           // numbers of that at the beginning
  Smaller<Link, T> smaller{};

  // The square of the rows from i and the columns from j, `to` and its mirror image to `mirror`, with rows `pitch` apart. Beyond
  // n there is something.
  template <bool kVariance, Place place, bool kDirect = false>
  [[gnu::flatten]] void square(Index i, Index j, S* to, S* mirror, Index pitch) const {
    const auto put = [](L x, S* p) {
      if constexpr (place == Place::kPastCaches) {
        stream(x, p);
      } else {
        store(x, p);
      }
    };
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
      put(select(ahead, other, small), to + a * pitch);
      mirrored[a] = select(ahead, small, other);
    }
    if constexpr (Smaller<Link, T>::kMarked && !kDirect) {
      if (!all(found)) return direct_square(i, j, to, mirror, pitch);
    }
    if (i == j) return;
    transpose(mirrored);
#pragma GCC unroll 16
    for (int c = 0; c < kSide; ++c) put(mirrored[c], mirror + c * pitch);
  }
  [[gnu::noinline]] void direct_square(Index i, Index j, S* to, S* mirror, Index pitch) const {
    square<false, Place::kRoom, true>(i, j, to, mirror, pitch);
  }
  template <Place place>
  void any_square(Index i, Index j, S* to, S* mirror, Index pitch) const {
    if (!Smaller<Link, T>::kMarked && variance) {
      square<!Smaller<Link, T>::kMarked, place>(i, j, to, mirror, pitch);
    } else {
      square<false, place>(i, j, to, mirror, pitch);
    }
  }

  void copy_rows(const S* from, Index i, Index j, Index count) const {
    const Index rows = n - i < count ? n - i : count, columns = n - j < side ? n - j : side;
    if constexpr (sizeof(S) >= 4) {
      if (streams) return stream_rows(from, side, out + i * n + j, n, rows, columns);
    }
    for (Index r = 0; r < rows; ++r)
      memcpy(out + (i + r) * n + j, from + r * side, sizeof(S) * static_cast<std::size_t>(columns));
  }

  // Rows from i_block on, as far as a block, and their mirror images; the squares end before `end`.
  template <Place place>
  void block_row(Index i_block, Index end) const {
    for (Index j_block = i_block; j_block < end; j_block += side) {
      const bool diagonal = j_block == i_block;
      S* const mirror = diagonal ? room : room + side * side;
      for (Index i = i_block; i < end && i < i_block + side; i += kSide) {
        S* const row = room + (i - i_block) * side;
        for (Index j = diagonal ? i : j_block; j < end && j < j_block + side; j += kSide) {
          if constexpr (place == Place::kRoom) {
            any_square<place>(i, j, row + (j - j_block), mirror + (j - j_block) * side + (i - i_block), side);
          } else {
            any_square<place>(i, j, out + i * n + j, out + j * n + i, n);
          }
        }
        if (place == Place::kRoom) copy_rows(row, i, j_block, kSide);
      }
      if (place == Place::kRoom && !diagonal) copy_rows(mirror, j_block, i_block, side);
    }
  }

  // The first `rows` rows and `columns` columns of a square, and their mirror images, where these are no whole lines.
  void edge(Index i, Index rows, Index j, Index columns) const {
    S* const mirror = room + kSide * kSide;
    any_square<Place::kRoom>(i, j, room, i == j ? room : mirror, kSide);
    const auto copy = [&](const S* from, S* to, Index n_rows, Index count) {
      for (Index r = 0; r < n_rows; ++r) L::load(from + r * kSide).store(to + r * n, static_cast<int>(count));
    };
    copy(room, out + i * n + j, rows, columns);
    if (i != j) copy(mirror, out + j * n + i, columns, rows);
  }
  // What is left around the squares from `head` to `end`.
  void edges(Index end) const {
    const Index tail = n - end;
    edge(0, head, 0, head);
    edge(0, head, end, tail);
    edge(end, tail, end, tail);
    for (Index i = head; i < end; i += kSide) {
      edge(0, head, i, kSide);
      edge(i, kSide, end, tail);
    }
  }

  // The block of this number, of rows from `head` on: of lines, squares are laid from the first whole one on.
  void write(Index block) const {
    const Index end = head > 0 ? n - (kSide - head) : n, i = head + block * side;
    if constexpr (kLines) {
      if (lines) {
        if (block == 0 && head > 0) edges(end);
        return streams ? block_row<Place::kPastCaches>(i, end) : block_row<Place::kResult>(i, end);
      }
    }
    block_row<Place::kRoom>(i, end);
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

// Matrices in the order in which they lie in memory, each probability by itself: from marks that costs no more than mirror
// images, and leaves nothing to copy. Registers that two rows share are put together, as above, and only those at both ends of
// all rows are stored in part.
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

// A result that no cache holds is written past the caches, in longer pieces where they are no whole lines.
template <class Link, class T, class S>
void matrices(const PreferenceMatrixIn<T>& in, S* out, const Exec& exec) {
  constexpr Index kSide = Lanes<T>::size;
  constexpr bool kMarked = Smaller<Link, T>::kMarked;
  const Index n = in.n, size = in.n_problems * n * n, n_scores = in.n_problems * n, number = Index(sizeof(S));
  if (size == 0) return;
  const bool streams = number >= 4 && size * number > kStream && n >= 2 * kSide;
  const Index beyond = Index(-reinterpret_cast<std::uintptr_t>(out) % kLine) / number;
  const bool lines = Matrix<Link, T, S>::kLines && n * number % Index(kLine) == 0 && (beyond == 0 || n >= 4 * kSide);
  const Index head = lines ? beyond : 0, longest = streams && !lines ? kLongSide : kSideBytes / number,
              all_of_it = (n + kSide - 1) / kSide * kSide;
  const Index side = longest < all_of_it ? longest : all_of_it;
  const Index n_blocks = (n + side - 1) / side, n_units = in.n_problems * n_blocks;
  const Index chunk = kChunk / (n * side + 1) + 1;
  const Scratch<T> own_marks(1, kMarked ? n_scores : 0);
  if constexpr (kMarked) mark_scores<Link>(in.scores, n_scores, own_marks[0], exec);
  const T* const marks = kMarked ? own_marks[0] : in.scores;
  if constexpr (kMarked && sizeof(S) == sizeof(T)) {
    if (n >= 2 * kSide) {
      bool complete = true;
      for (Index k = 0; k < n_scores; ++k) complete &= marks[k] == marks[k];
      const Rows<Link, T> rows(in.scores, marks, n, complete);
      parallel_for(exec, n_scores, kChunk / n + 1, size, [&](Index first, Index last, int) {
        streams ? rows.template write<true>(first, last, out) : rows.template write<false>(first, last, out);
      });
      return;
    }
  }
  const Scratch<S> rooms(slots_for(exec, n_units, chunk, size), 2 * side * side + kSide);
  parallel_for(exec, n_units, chunk, size, [&](Index first, Index last, int slot) {
    for (Index k = first; k < last; ++k) {
      const Index start = k / n_blocks * n;
      const T* const variance = in.variance ? in.variance + start : nullptr;
      S* const to = out + start * n;
      const Matrix<Link, T, S> m{in.scores + start, marks + start, variance, n, side, to, rooms[slot], streams, lines, head};
      m.write(k % n_blocks);
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
