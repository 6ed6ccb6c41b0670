// The softmax family on rows that lie side by side in memory, as along the first axis of a matrix: a lane a row, called a
// column here. Nothing is transposed: memory is read in its own order, twice (once for logsumexp, and once for softmax where its
// exponentials can wait in the second cache).
#include "cpu/log_softmax_short.h"
#include "cpu/softmax_paths.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

// exp is held as in softmax_short.h, with a reference a column that follows its maximum: first it puts the largest of the first
// elements at 2^kPlace; where a later one would lie above 2^kMost, it is set anew and the sum is scaled, exactly.
//
// Logarithms are those of log_softmax_short.h: the largest element so far waits beside the sum, and what it is when a larger one
// comes is added then.
template <class T>
inline constexpr T kMost = sizeof(T) == 4 ? T(92) : T(900);
template <class T>
inline constexpr T kLeastSum = sizeof(T) == 4 ? T(0x1p32) : T(0x1p100);

inline constexpr Index kColumns = 1024;   // taken by one thread in a go, at most
inline constexpr Index kFewColumns = 64;  // and at least, where that many fit the second cache: four lines of float
inline constexpr int kDeep = 8;           // elements of a column that are read together

// Rows first .. first + count of x, which lie side by side there.
template <class S, bool kLog>
class Columns {
  using T = Compute<S>;
  using L = Lanes<T>;
  static constexpr Index kSize = L::size, kRoom = kColumns + kSize;

 public:
  // `kept` is null, or has room for as many elements, columns in whole registers.
  Columns(const Rows<const S>& x, PerRow<T> temperature, Index first, Index count, T* kept = nullptr)
      : x_(x.row(first)),
        step_(x.along.stride[0]),
        n_(x.along.size()),
        first_(first),
        count_(count),
        kept_(kept),
        kept_step_((count + kSize - 1) / kSize * kSize),
        temperature_{temperature.data + first * temperature.stride, temperature.stride} {}

  // softmax, or log_softmax.
  void map(const Rows<S>& out, bool streams) {
    along_out_ = &out.along;
    side_by_side_ = lie_side_by_side(out, first_, count_);
    streams_ = streams;
    for (Index c = 0; c < (side_by_side_ ? 1 : count_); ++c) column_[c] = out.row(first_ + c);
    plain() ? map_as<true>() : map_as<false>();
  }

  void logsumexp(S* out)
    requires kLog
  {
    plain() ? add_all<true>() : add_all<false>();
    for (Index c = 0; c < count_; c += kSize) {
      if (finish(c, out + c)) continue;
      const Scratch<S> column(1, n_);
      for (int k = 0; k < width(c); ++k) {
        if (is_special(c + k)) out[c + k] = core::to_storage<S>(exact_logsumexp(row(c + k, column[0]), temperature_[c + k]));
      }
    }
  }

 private:
  // kPlain: all temperatures are 1.
  template <bool kPlain>
  void add_all() {
    const Index whole = count_ / kSize * kSize;
    Index i = 0;
    for (; i + kDeep <= n_; i += kDeep) {
      for (Index c = 0; c < whole; c += kSize) add<kPlain, true, kDeep>(i, c);
      if (whole < count_) add<kPlain, false, kDeep>(i, whole);
    }
    for (; i < n_; ++i) {
      for (Index c = 0; c < whole; c += kSize) add<kPlain, true, 1>(i, c);
      if (whole < count_) add<kPlain, false, 1>(i, whole);
    }
  }
  template <bool kPlain>
  void map_as() {
    add_all<kPlain>();
    bool fine = true;
    for (Index c = 0; c < count_; c += kSize) fine &= finish(c);
    if (!fine) return map_with_special();
    kept_ ? write_all<kPlain, true>() : write_all<kPlain, false>();
  }
  template <bool kPlain, bool kKept>
  void write_all() const {
    const Index whole = count_ / kSize * kSize;
    for (Index i = 0; i < n_; ++i) {
      if (!side_by_side_) {
        for (Index c = 0; c < count_; c += kSize) write(i, c);
        continue;
      }
      S* const to = at(i, 0);
      if constexpr (sizeof(S) == sizeof(T)) {
        if (streams_) {
          for (Index c = 0; c < whole; c += kSize) stream(value<kPlain, true, kKept>(i, c), to + c);
        }
      }
      for (Index c = streams_ ? whole : 0; c < whole; c += kSize) store(value<kPlain, true, kKept>(i, c), to + c);
      if (whole < count_) store<S>(value<kPlain, false, kKept>(i, whole), to + whole, width(whole));
    }
    if (streams_) stream_fence();
  }

  int width(Index c) const { return count_ - c < kSize ? static_cast<int>(count_ - c) : static_cast<int>(kSize); }
  template <bool kPlain, bool kWhole>
  [[gnu::always_inline]] L z(Index i, Index c) const {
    const S* const p = x_ + i * step_ + c;
    const L v = kWhole ? load(p) : load(p, width(c), T(0));
    return kPlain ? v : v / temperature(c);
  }
  bool plain() const { return temperature_.stride == 0 && temperature_[0] == T(1); }
  L temperature(Index c) const {
    T t[kSize];
    for (int k = 0; k < kSize; ++k) {
      const T given = temperature_[k < width(c) ? c + k : c];
      t[k] = given > T(0) && given < kInf<T> ? given : kNaN<T>;
    }
    return L::load(t);
  }

  // Adds the exponentials of elements i .. i + depth of the columns from c on.
  template <bool kPlain, bool kWhole, int depth>
  [[gnu::always_inline]] void add(Index i, Index c) {
    L v[depth];
#pragma GCC unroll 16
    for (int k = 0; k < depth; ++k) {
      ask_for(x_ + (i + k) * step_ + c, 2 * kDeep * step_ * Index(sizeof(S)));
      v[k] = z<kPlain, kWhole>(i + k, c);
    }
    L top = kLog && i > 0 ? L::load(top_ + c) : L(-kInf<T>);
#pragma GCC unroll 16
    for (int k = 0; k < depth; ++k) {
      const L largest = max(v[k], top);
      if constexpr (kLog) v[k] = min(top, v[k]);  // NaN, too
      top = largest;
    }
    const L place = top * L(core::kLog2E<T>), lowest(T(-2) * kScaledExpLimit<T>);
    L reference = i == 0 ? lowest : L::load(reference_ + c), sum = i == 0 ? L(T(0)) : L::load(sum_ + c);
    L low = i == 0 ? L(T(0)) : L::load(low_ + c);
    const auto above = place > reference + L(kMost<T>);
    if (any(above)) [[unlikely]] {
      if (any(above & (L(T(0)) < sum))) kept_ = nullptr;  // what was kept, if it is not 0, has another reference
      const L anew = select(above, round_even(place) - L(kPlace<T>), reference);
      sum = scale2(sum, reference - anew);
      low = scale2(low, reference - anew);
      reference = anew;
    }
    const std::conditional_t<kLog, ScaledExp<T>, QuotientExp<S>> exp(reference);
    WithRest<L> total{sum, low};
    if constexpr (kLog) {
      WithRest<L> e[depth];
#pragma GCC unroll 16
      for (int k = 0; k < depth; ++k) e[k].sum = exp(v[k], e[k].rest);
      total = total + tree<depth>(e, Plus{});
      top.store(top_ + c);
    } else {
#pragma GCC unroll 16
      for (int k = 0; k < depth; ++k) {
        v[k] = exp(v[k]);
        if (kept_) v[k].store(kept_ + (i + k) * kept_step_ + c);
      }
      if constexpr (depth == 1) {
        total = total + v[0];
      } else {
        total = total + exact_tree<depth>(v);
      }
    }
    total.sum.store(sum_ + c);
    total.rest.store(low_ + c);
    reference.store(reference_ + c);
  }

  // The sums become factors, or what is taken from z after its maximum; `log_sum` is for that of logsumexp. False where a column
  // is out of the range of ScaledExp.
  bool finish(Index c, S* log_sum = nullptr) {
    const L one(T(1)), nan(kNaN<T>), reference = L::load(reference_ + c);
    const WithRest<L> sum{L::load(sum_ + c), L::load(low_ + c)};
    auto fine = (sum.sum < L(kInf<T>)) & (abs(reference) < L(kScaledExpLimit<T>));
    if constexpr (kLog) {
      const L top = L::load(top_ + c);
      const auto log = log_sum_of(beside_top_of(top, sum, one, reference), nan);
      fine = fine & (abs(top) < L(kScaledExpLimit<T>));
      log.excess.store(sum_ + c);
      if (log_sum) count_ - c < kSize ? store<S>(log.sum, log_sum, width(c)) : store(log.sum, log_sum);
    } else {
      fine = fine & (L(kLeastSum<T>) <= sum.sum);
      const L scale = one / sum.sum;
      scale.store(sum_ + c);
      (fmadd(-sum.rest, scale, fmadd(-sum.sum, scale, one)) * scale).store(low_ + c);
    }
    select(fine, reference, nan).store(reference_ + c);
    return all(fine);
  }
  bool is_special(Index c) const { return reference_[c] != reference_[c]; }

  template <bool kPlain, bool kWhole, bool kKept>
  [[gnu::always_inline]] L value(Index i, Index c) const {
    if constexpr (kLog) {
      return (z<kPlain, kWhole>(i, c) - L::load(top_ + c)) - L::load(sum_ + c);
    } else {
      const L e = kKept ? L::load(kept_ + i * kept_step_ + c) : QuotientExp<S>(L::load(reference_ + c))(z<kPlain, kWhole>(i, c));
      const L scale = L::load(sum_ + c);
      return sizeof(S) == 2 ? e * scale : fmadd(e, scale, e * L::load(low_ + c));
    }
  }
  // One register of them, to anywhere.
  [[gnu::noinline]] void write(Index i, Index c) const {
    S one[kSize];
    store(value<false, false, false>(i, c), one);
    for (int k = 0; k < width(c); ++k) *at(i, c + k) = one[k];
  }
  S* at(Index i, Index c) const {
    return side_by_side_ ? column_[0] + i * along_out_->stride[0] + c : column_[c] + along_out_->offset(i);
  }

  // Registers with a column out of range one by one: such columns are taken exactly, and put in place when the others are
  // written.
  [[gnu::noinline]] void map_with_special() {
    const Scratch<S> exact(1, (kSize + 1) * n_);
    for (Index c = 0; c < count_; c += kSize) {
      for (int k = 0; k < width(c); ++k) {
        if (!is_special(c + k)) continue;
        const Row<S> column = row(c + k, exact[0] + kSize * n_);
        S* const result = exact[0] + k * n_;
        kLog ? exact_log_softmax(column, temperature_[c + k], result) : exact_softmax(column, temperature_[c + k], result);
      }
      for (Index i = 0; i < n_; ++i) write(i, c);
      if (streams_) stream_fence();
      for (int k = 0; k < width(c); ++k) {
        for (Index i = 0; is_special(c + k) && i < n_; ++i) *at(i, c + k) = exact[0][k * n_ + i];
      }
    }
  }

  // A copy of one column in `to`.
  Row<S> row(Index c, S* to) const {
    for (Index i = 0; i < n_; ++i) to[i] = x_[i * step_ + c];
    return {to, n_, nullptr};
  }

  const S* x_;
  Index step_, n_, first_, count_;
  T* kept_;  // the exponentials, until a reference moves
  Index kept_step_;
  PerRow<T> temperature_;
  const Axes* along_out_;
  bool side_by_side_, streams_;
  S* column_[kRoom];  // where the columns begin, or the first of them
  // Of each column; the reference is NaN where it must be taken exactly.
  alignas(64) T reference_[kRoom], top_[kRoom], sum_[kRoom], low_[kRoom];
};

}  // namespace

template <class S>
bool are_columns(const Rows<const S>& x) {
  constexpr Index kWidth = LanesOf<S>::size;
  return x.along.size() >= kShortestColumn && lie_side_by_side(x, 0, kWidth);
}

namespace {

// Columns of n elements that are taken together, so that what is read again is near: as many as half of the second cache holds,
// `bytes` an element. 0 where it holds few.
Index columns_near(Index n, std::size_t bytes) {
  const Index fit = static_cast<Index>(runtime().cache_bytes(2) / 2 / bytes) / n / kFewColumns * kFewColumns;
  return fit > kColumns ? kColumns : fit;
}

template <class S>
Index n_pieces(const Rows<const S>& x, Index together) {
  const Index wide = x.across.extent[x.across.n - 1];
  return x.across.size() / wide * ((wide + together - 1) / together);
}
// body(first, count, slot) for pieces of at most `together` columns that lie side by side; head_of(first) columns more where the
// first piece of them begins.
template <class S, class HeadOf, class Body>
void each_piece(const Rows<const S>& x, Index together, const Exec& exec, const HeadOf& head_of, const Body& body) {
  const Index wide = x.across.extent[x.across.n - 1], n_of_wide = (wide + together - 1) / together;
  parallel_for(exec, n_pieces(x, together), 1, x.across.size() * x.along.size(), [&](Index begin, Index end, int slot) {
    for (Index piece = begin; piece < end; ++piece) {
      const Index start = piece / n_of_wide * wide, done = piece % n_of_wide * together, head = head_of(start);
      const Index first = done > 0 ? done + head : 0, last = done + together + head;
      if (first < wide) body(start + first, (last < wide ? last : wide) - first, slot);
    }
  });
}

template <bool kLog, class S>
void map_columns(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  using T = Compute<S>;
  constexpr Index kWidth = LanesOf<S>::size, kLine = kWidth * sizeof(S);
  const Index n = x.along.size();
  const bool large = 2 * sizeof(S) * static_cast<std::size_t>(x.across.size() * n) >= runtime().cache_bytes(3);
  const bool may_stream = sizeof(S) == sizeof(T) && large && out.along.stride[0] % kWidth == 0;
  const Index near = columns_near(n, kLog ? sizeof(S) : sizeof(T)), together = near > 0 ? near : kColumns;
  const Index wide = x.across.extent[x.across.n - 1], widest = wide < together + kWidth ? wide : together + kWidth;
  const bool keeps = !kLog && near > 0;
  const int slots = slots_for(exec, n_pieces(x, together), 1, x.across.size() * n);
  const Scratch<T> kept(keeps ? slots : 0, n * ((widest + kWidth - 1) / kWidth * kWidth));
  // Columns before the first whole line of the result.
  const auto head_of = [&](Index first) {
    const Index beyond = static_cast<Index>(reinterpret_cast<std::uintptr_t>(out.row(first)) % kLine / sizeof(S));
    return may_stream && beyond > 0 ? kWidth - beyond : 0;
  };
  each_piece(x, together, exec, head_of, [&](Index first, Index count, int slot) {
    T* const room = keeps ? kept[slot] : nullptr;
    const bool streams = may_stream && lie_side_by_side(out, first, count);
    const Index before = streams ? head_of(first) : 0, head = before < count ? before : count;
    if (head > 0) Columns<S, kLog>(x, temperature, first, head, room).map(out, false);
    if (count > head) Columns<S, kLog>(x, temperature, first + head, count - head, room).map(out, streams);
  });
}

}  // namespace

template <class S>
void columns_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_columns<false>(x, temperature, out, exec);
}
template <class S>
void columns_log_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  map_columns<true>(x, temperature, out, exec);
}
template <class S>
void columns_logsumexp(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  each_piece(
      x, kColumns, exec, [](Index) { return 0; },
      [&](Index first, Index count, int) { Columns<S, true>(x, temperature, first, count).logsumexp(out + first); });
}

#define SOFTMAP_INSTANTIATE(S)                                                                              \
  template bool are_columns(const Rows<const S>&);                                                          \
  template void columns_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);     \
  template void columns_log_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&); \
  template void columns_logsumexp(const Rows<const S>&, PerRow<Compute<S>>, S*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
