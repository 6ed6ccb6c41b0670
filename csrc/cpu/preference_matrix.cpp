#include "core/link.h"
#include "cpu/lanes_half.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "cpu/standardised.h"
#include "cpu/transpose.h"
#include "pairwise.h"

namespace softmap::cpu {
namespace {

constexpr Index kBlock = 64;         // rows and columns of a block, whose rows and mirrored rows stay in cache
constexpr Index kChunk = 1 << 13;    // elements
constexpr Index kStream = 32 << 20;  // bytes of a result that no cache holds

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

// The matrix of one problem without a first advantage, in squares of as many rows as a register has lanes. A pair of items is
// computed once: the smaller of its two probabilities, as stored; the other is 1 minus it.
template <class Link, class T, class S>
struct Matrix {
  using L = Lanes<T>;
  static constexpr int kSide = L::size, kGroup = kSide < 4 ? kSide : 4;
  const T *scores, *variance;
  Index n;
  S* out;
  bool streams;

  int clipped(Index i) const { return static_cast<int>(n - i < kSide ? n - i : kSide); }

  template <bool kWhole>
  void write(L x, Index i, Index j, int count) const {
    S* const to = out + i * n + j;
    if constexpr (!kWhole) return store(x, to, count);
    if constexpr (sizeof(S) >= 4) {
      if (streams) return stream(x, to);
    }
    store(x, to);
  }

  void square(Index i, Index j) const {
    const int rows = clipped(i), columns = clipped(j);
    rows == kSide&& columns == kSide ? fill_square<true>(i, j, kSide, kSide) : fill_square<false>(i, j, rows, columns);
  }

  template <bool kWhole>
  [[gnu::flatten]] void fill_square(Index i, Index j, int rows, int columns) const {
    using P = Pack<L, kGroup>;
    const L theirs = kWhole ? L::load(scores + j) : L::load(scores + j, columns, T(0)), one(T(1)), zero(T(0));
    const L their_variance = variance ? L::load(variance + j, columns, T(1)) : one;
    L mirrored[kSide];
#pragma GCC unroll 16
    for (int a = 0; a < kSide; a += kGroup) {
      P d;
#pragma GCC unroll 16
      for (int g = 0; g < kGroup; ++g) {
        const Index row = kWhole || i + a + g < n ? i + a + g : n - 1;
        d.v[g] = L(scores[row]) - theirs;
        if (variance) d.v[g] = standardised(d.v[g], L(variance[row]), their_variance);
      }
      const P smaller = Link::probability(-abs(d));
#pragma GCC unroll 16
      for (int g = 0; g < kGroup; ++g) {
        const L small = rounded<S>(smaller.v[g]), other = one - small;
        if (kWhole || a + g < rows) write<kWhole>(select(d.v[g] > zero, other, small), i + a + g, j, columns);
        mirrored[a + g] = select(d.v[g] < zero, other, small);
      }
    }
    if (i == j) return;
    transpose(mirrored);
#pragma GCC unroll 16
    for (int c = 0; c < kSide; ++c) {
      if (kWhole || c < columns) write<kWhole>(mirrored[c], j + c, i, rows);
    }
  }

  // Rows from `first` on, as far as a block, and their mirror images.
  void block_row(Index first) const {
    const Index last = first + kBlock < n ? first + kBlock : n;
    for (Index j_block = first; j_block < n; j_block += kBlock) {
      const Index j_last = j_block + kBlock < n ? j_block + kBlock : n;
      for (Index i = first; i < last; i += kSide) {
        for (Index j = j_block == first ? i : j_block; j < j_last; j += kSide) square(i, j);
      }
    }
  }
};

template <class Link, class T, class S>
void matrices(const PreferenceMatrixIn<T>& in, S* out, const Exec& exec) {
  const Index n = in.n, n_blocks = (n + kBlock - 1) / kBlock, size = in.n_problems * n * n;
  const Index per_block = n * (n < kBlock ? n : kBlock), chunk = kChunk / (per_block + 1) + 1;
  constexpr std::uintptr_t kLine = 64;
  const bool aligned = reinterpret_cast<std::uintptr_t>(out) % kLine == 0 && n * Index(sizeof(S)) % Index(kLine) == 0;
  const bool streams = aligned && sizeof(S) >= 4 && size * Index(sizeof(S)) > kStream;
  parallel_for(exec, in.n_problems * n_blocks, chunk, size, [&](Index first, Index last, int) {
    for (Index k = first; k < last; ++k) {
      const Index problem = k / n_blocks, start = problem * n;
      const T* const variance = in.variance ? in.variance + start : nullptr;
      const Matrix<Link, T, S> m{in.scores + start, variance, n, out + start * n, streams};
      m.block_row(k % n_blocks * kBlock);
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
