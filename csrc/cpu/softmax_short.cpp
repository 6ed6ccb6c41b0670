#include "cpu/softmax_short.h"

#include "cpu/log_softmax_short.h"
#include "cpu/transpose.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

// True where the rows lie one after the other, without gaps.
template <class S>
bool is_dense(const Rows<S>& x) {
  const Index n = x.along.size();
  return x.along.contiguous() && (x.across.n == 0 || (x.across.n == 1 && x.across.stride[0] == n));
}

// Rows of n elements that lie side by side, `step` apart, to rows that lie one after the other, and back.
template <class S>
void gather_columns(const S* from, Index step, Index n, S* to) {
  using L = LanesOf<S>;
  for (Index k = 0; k < n; k += L::size) {
    const int count = n - k < L::size ? static_cast<int>(n - k) : L::size;
    L v[L::size];
    for (int j = 0; j < L::size; ++j) v[j] = j < count ? load(from + (k + j) * step) : L(Compute<S>(0));
    transpose(v);
    for (int r = 0; r < L::size; ++r) store<S>(v[r], to + r * n + k, count);
  }
}
template <class S>
void scatter_columns(const S* from, Index n, S* to, Index step) {
  using L = LanesOf<S>;
  for (Index k = 0; k < n; k += L::size) {
    const int count = n - k < L::size ? static_cast<int>(n - k) : L::size;
    L v[L::size];
    for (int r = 0; r < L::size; ++r) v[r] = load(from + r * n + k, count, Compute<S>(0));
    transpose(v);
    for (int j = 0; j < count; ++j) store(v[j], to + (k + j) * step);
  }
}

// One call on blocks of rows: whole blocks of a dense x are taken where they are, the others are gathered, which does not change
// a bit. Nothing in it is set before it is used: a call of one row should cost no more than that row.
template <class S, int kN>
class Blocks {
  using T = Compute<S>;
  using Int = typename core::Format<T>::Int;
  static constexpr Index kRows = LanesOf<S>::size, kRoom = kRows * kRows * kShortVectors;

 public:
  Blocks(const Rows<const S>& x, PerRow<T> temperature)
      : x_(x), temperature_(temperature), plain_(temperature.stride == 0 && temperature[0] == T(1)), dense_(is_dense(x)) {
    if constexpr (kN == 0) {
      const Index n_rows = x.across.size() < kRows ? x.across.size() : kRows, n = x.along.size();
      for (Index r = 0; r < n_rows; ++r) {
        for (Index k = 0; k < n; ++k) owner_[r * n + k] = static_cast<Int>(r);
      }
      for (Index i = n_rows * n; i % kRows != 0; ++i) owner_[i] = 0;
    }
  }

  // body(block) for as many pieces of `count` blocks as rows first .. last have where they lie; the number of rows that were
  // taken.
  template <class Body>
  Index pieces(Index first, Index last, Index count, Body&& body) const {
    Index i = first;
    if (!dense_ || !plain_) return 0;
    alignas(64) T kept[kRoom];
    Block<S> b{x_.data + first * x_.along.size(), x_.along.size(), kRows, nullptr, owner(), kept};
    for (; i + count * kRows <= last; i += count * kRows, b.x += count * kRows * b.n) body(b);
    return i - first;
  }

  // body(block, i, whole) for the blocks of rows first .. last; i is the first row, `whole` where it lies in x.
  template <class Body>
  void each(Index first, Index last, Body&& body) const {
    alignas(64) T kept[kRoom], temperature[kRows];
    alignas(64) S gathered[kRoom];
    Block<S> b{nullptr, x_.along.size(), kRows, plain_ ? nullptr : temperature, owner(), kept};
    for (Index i = first; i < last; i += kRows) {
      b.count = last - i < kRows ? last - i : kRows;
      const bool whole = dense_ && b.count == kRows;
      b.x = whole ? x_.data + i * b.n : gathered;
      if (!whole) gather(b, i, gathered);
      for (Index r = 0; !plain_ && r < kRows; ++r) {
        const T t = r < b.count ? temperature_[i + r] : T(1);
        temperature[r] = t > T(0) && t < kInf<T> ? t : kNaN<T>;
      }
      body(b, i, whole);
    }
  }

 private:
  const Int* owner() const {
    if constexpr (kN > 0) {
      return kBetween<T, kN>.owner[0];
    } else {
      return owner_;
    }
  }
  void gather(const Block<S>& b, Index first, S* to) const {
    if (b.count == kRows && lie_side_by_side(x_, first, kRows)) {
      gather_columns(x_.row(first), x_.along.stride[0], b.n, to);
      return;
    }
    for (Index r = 0; r < b.count; ++r) {
      const S* const from = x_.row(first + r);
      for (Index k = 0; k < b.n; ++k) to[r * b.n + k] = from[x_.along.offset(k)];
    }
    const Index end = kN > 0 ? kN * kRows : (b.size() + kRows - 1) / kRows * kRows;
    for (Index i = b.size(); i < end; ++i) to[i] = S{};
  }

  const Rows<const S>& x_;
  PerRow<T> temperature_;
  bool plain_, dense_;
  alignas(64) Int owner_[kN > 0 ? 1 : kRoom];
};

template <class S>
Index chunk_of(Index n) {
  constexpr Index kRows = LanesOf<S>::size;
  return (rows_per_chunk(n) + kRows - 1) / kRows * kRows;
}

template <class Op, int kN, class S>
void map_blocks(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  constexpr Index kRows = LanesOf<S>::size;
  const Index n = x.along.size(), n_rows = x.across.size();
  const bool dense = is_dense(out), streams = 2 * sizeof(S) * static_cast<std::size_t>(n_rows * n) >= runtime().cache_bytes(3);
  const Blocks<S, kN> blocks(x, temperature);
  parallel_for(exec, n_rows, chunk_of<S>(n), n_rows * n, [&](Index first, Index last, int) {
    Output<S> through(out.data + (dense ? first * n : 0), dense && streams);
    if constexpr (Op::template pieces<kN>() > 1) {
      constexpr int kBlocks = Op::template pieces<kN>();
      if (dense) first += blocks.pieces(first, last, kBlocks, [&](Block<S>& b) { Op::template run<kN, kBlocks>(b, through); });
    }
    blocks.each(first, last, [&](Block<S>& b, Index i, bool whole) {
      if (whole && dense) return Op::template run<kN>(b, through);
      through.finish();
      alignas(64) S result[kRows * kRows * kShortVectors];
      Output<S> to(result, false);
      Op::template run<kN>(b, to);
      if (b.count == kRows && lie_side_by_side(out, i, kRows)) {
        scatter_columns(result, n, out.row(i), out.along.stride[0]);
        return;
      }
      for (Index r = 0; r < b.count; ++r) {
        S* const row = out.row(i + r);
        for (Index k = 0; k < n; ++k) row[out.along.offset(k)] = result[r * n + k];
      }
    });
    through.finish();
  });
}

template <class Op, int kN, class S>
void map_blocks(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  const Index n = x.along.size(), n_rows = x.across.size();
  const Blocks<S, kN> blocks(x, temperature);
  parallel_for(exec, n_rows, chunk_of<S>(n), n_rows * n, [&](Index first, Index last, int) {
    constexpr int kBlocks = Op::template pieces<kN>();
    if constexpr (kBlocks > 1) {
      S* to = out + first;
      first += blocks.pieces(first, last, kBlocks, [&](const Block<S>& b) {
        Op::template run<kN, kBlocks>(b, to);
        to += kBlocks * b.count;
      });
    }
    blocks.each(first, last, [&](const Block<S>& b, Index i, bool) { Op::template run<kN>(b, out + i); });
  });
}

// Lengths that have a network of their own: where it is shorter than going through memory.
template <class Op, class... Args>
void map_short(Index n, const Args&... args) {
  switch (n) {
    case 2:
      return map_blocks<Op, 2>(args...);
    case 3:
      return map_blocks<Op, 3>(args...);
    case 4:
      return map_blocks<Op, 4>(args...);
    case 5:
      return map_blocks<Op, 5>(args...);
    case 6:
      return map_blocks<Op, 6>(args...);
    case 7:
      return map_blocks<Op, 7>(args...);
    case 8:
      return map_blocks<Op, 8>(args...);
    case 10:
      return map_blocks<Op, 10>(args...);
    case 12:
      return map_blocks<Op, 12>(args...);
    case 16:
      return map_blocks<Op, 16>(args...);
    default:
      return map_blocks<Op, 0>(args...);
  }
}

template <class S>
inline constexpr bool kHasShort = LanesOf<S>::size * sizeof(Compute<S>) > 16;

}  // namespace

// In registers of 128 bits the exact way is as fast.
template <class S>
bool is_short(Index n) {
  constexpr Index kWidth = LanesOf<S>::size;
  return kHasShort<S> && n > 1 && n <= kShortVectors * kWidth;
}

template <class S>
void short_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if constexpr (kHasShort<S>) map_short<Softmax>(x.along.size(), x, temperature, out, exec);
}

template <class S>
void short_log_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if constexpr (kHasShort<S>) map_short<LogSoftmax>(x.along.size(), x, temperature, out, exec);
}

template <class S>
void short_logsumexp(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  if constexpr (kHasShort<S>) map_short<LogSumExp>(x.along.size(), x, temperature, out, exec);
}

#define SOFTMAP_INSTANTIATE(S)                                                                            \
  template bool is_short<S>(Index);                                                                       \
  template void short_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);     \
  template void short_log_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&); \
  template void short_logsumexp(const Rows<const S>&, PerRow<Compute<S>>, S*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
