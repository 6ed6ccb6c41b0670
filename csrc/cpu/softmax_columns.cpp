// Softmax of long rows that lie side by side in memory, as along the first axis of a matrix: a lane a row, called a column here.
// Nothing is transposed: memory is read in its own order, twice.
#include "cpu/lanes_exp.h"
#include "cpu/softmax_exact.h"
#include "cpu/softmax_paths.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

// exp is held as in softmax_short.h, with a reference a column that follows its maximum: first it puts the largest of the first
// elements at 2^kPlace; where a later one would lie above 2^kMost, it is set anew and the sum is scaled, exactly.
template <class T>
inline constexpr T kPlace = sizeof(T) == 4 ? T(60) : T(400);
template <class T>
inline constexpr T kMost = sizeof(T) == 4 ? T(92) : T(900);
template <class T>
inline constexpr T kLeastSum = sizeof(T) == 4 ? T(0x1p32) : T(0x1p100);

inline constexpr Index kColumns = 1024;  // taken by one thread in a go, at most
inline constexpr int kDeep = 8;          // elements of a column that are read together

// Rows first .. first + count of x, which lie side by side there.
template <class S>
class Columns {
  using T = Compute<S>;
  using L = Lanes<T>;
  static constexpr Index kSize = L::size;

 public:
  Columns(const Rows<const S>& x, PerRow<T> temperature, const Rows<S>& out, Index first, Index count, bool streams)
      : x_(x.row(first)),
        step_(x.along.stride[0]),
        n_(x.along.size()),
        count_(count),
        temperature_{temperature.data + first * temperature.stride, temperature.stride},
        out_(out),
        side_by_side_(lie_side_by_side(out, first, count)),
        streams_(streams) {
    for (Index c = 0; c < (side_by_side_ ? 1 : count); ++c) column_[c] = out.row(first + c);
  }

  void softmax() { plain() ? softmax_as<true>() : softmax_as<false>(); }

 private:
  // kPlain: all temperatures are 1.
  template <bool kPlain>
  void softmax_as() {
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
    bool special = false;
    for (Index c = 0; c < count_; c += kSize) special |= finish(c);
    if (special) return softmax_with_special();
    for (i = 0; i < n_; ++i) {
      if (!side_by_side_) {
        for (Index c = 0; c < count_; c += kSize) write(i, c);
        continue;
      }
      S* const to = at(i, 0);
      if constexpr (sizeof(S) == sizeof(T)) {
        if (streams_) {
          for (Index c = 0; c < whole; c += kSize) stream(value<kPlain, true>(i, c), to + c);
        }
      }
      for (Index c = streams_ ? whole : 0; c < whole; c += kSize) store(value<kPlain, true>(i, c), to + c);
      if (whole < count_) store<S>(value<kPlain, false>(i, whole), to + whole, width(whole));
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
      __builtin_prefetch(x_ + (i + k + 2 * kDeep) * step_ + c, 0, 2);
      v[k] = z<kPlain, kWhole>(i + k, c);
    }
    L top = v[0];
#pragma GCC unroll 16
    for (int k = 1; k < depth; ++k) top = max(v[k], top);
    const L place = top * L(core::kLog2E<T>), lowest(T(-2) * kScaledExpLimit<T>);
    L reference = i == 0 ? lowest : L::load(reference_ + c), sum = i == 0 ? L(T(0)) : L::load(sum_ + c);
    L low = i == 0 ? L(T(0)) : L::load(low_ + c);
    const auto above = place > reference + L(kMost<T>);
    if (any(above)) [[unlikely]] {
      const L anew = select(above, round_even(place) - L(kPlace<T>), reference);
      sum = scale2(sum, reference - anew);
      low = scale2(low, reference - anew);
      reference = anew;
    }
    const ScaledExp<T> exp(reference);
#pragma GCC unroll 16
    for (int k = 0; k < depth; ++k) v[k] = exp(v[k]);
    L fresh = v[0];
    if constexpr (depth == kDeep) {
      fresh = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
    }
    L rounding;
    core::two_sum(sum, fresh, rounding).store(sum_ + c);
    (low + rounding).store(low_ + c);
    reference.store(reference_ + c);
  }

  // The sums become factors. True where a column is out of the range of ScaledExp; these have the factor 0.
  bool finish(Index c) {
    const L one(T(1)), zero(T(0)), sum = L::load(sum_ + c), low = L::load(low_ + c), reference = L::load(reference_ + c);
    const auto fine = (L(kLeastSum<T>) <= sum) & (sum < L(kInf<T>)) & (abs(reference) < L(kScaledExpLimit<T>));
    const L scale = one / sum, rest = fmadd(-low, scale, fmadd(-sum, scale, one)) * scale;
    select(fine, scale, zero).store(sum_ + c);
    select(fine, rest, zero).store(low_ + c);
    return !all(fine);
  }
  bool is_special(Index c) const { return sum_[c] == T(0); }

  template <bool kPlain, bool kWhole>
  [[gnu::always_inline]] L value(Index i, Index c) const {
    const L e = ScaledExp<T>(L::load(reference_ + c))(z<kPlain, kWhole>(i, c));
    return fmadd(e, L::load(sum_ + c), e * L::load(low_ + c));
  }
  // One register of them, to anywhere.
  [[gnu::noinline]] void write(Index i, Index c) const {
    S one[kSize];
    store(value<false, false>(i, c), one);
    for (int k = 0; k < width(c); ++k) *at(i, c + k) = one[k];
  }
  S* at(Index i, Index c) const {
    return side_by_side_ ? column_[0] + i * out_.along.stride[0] + c : column_[c] + out_.along.offset(i);
  }

  // Registers with a column out of range one by one: such columns are taken exactly, and put in place when the others are
  // written.
  [[gnu::noinline]] void softmax_with_special() {
    const Scratch<S> exact(1, (kSize + 1) * n_);
    for (Index c = 0; c < count_; c += kSize) {
      for (int k = 0; k < width(c); ++k) {
        if (!is_special(c + k)) continue;
        S* const column = exact[0] + kSize * n_;
        for (Index i = 0; i < n_; ++i) column[i] = x_[i * step_ + c + k];
        exact_softmax(Row<S>{column, n_, nullptr}, temperature_[c + k], exact[0] + k * n_);
      }
      for (Index i = 0; i < n_; ++i) write(i, c);
      if (streams_) stream_fence();
      for (int k = 0; k < width(c); ++k) {
        for (Index i = 0; is_special(c + k) && i < n_; ++i) *at(i, c + k) = exact[0][k * n_ + i];
      }
    }
  }

  const S* x_;
  Index step_, n_, count_;
  PerRow<T> temperature_;
  const Rows<S>& out_;
  bool side_by_side_, streams_;
  S* column_[kColumns];  // where the columns begin, or the first of them
  alignas(64) T reference_[kColumns], sum_[kColumns], low_[kColumns];
};

}  // namespace

template <class S>
bool are_columns(const Rows<const S>& x) {
  constexpr Index kWidth = LanesOf<S>::size;
  return x.along.size() > kMostShort && lie_side_by_side(x, 0, kWidth);
}

template <class S>
void columns_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  constexpr Index kWidth = LanesOf<S>::size, kLine = kWidth * sizeof(S);
  const Index n = x.along.size(), n_rows = x.across.size(), wide = x.across.extent[x.across.n - 1];
  const Index n_pieces = (wide + kColumns - 1) / kColumns;
  const bool large = 2 * sizeof(S) * static_cast<std::size_t>(n_rows * n) >= runtime().cache_bytes(3);
  parallel_for(exec, n_rows / wide * n_pieces, 1, n_rows * n, [&](Index begin, Index end, int) {
    for (Index piece = begin; piece < end; ++piece) {
      const Index done = piece % n_pieces * kColumns, first = piece / n_pieces * wide + done;
      const Index count = wide - done < kColumns ? wide - done : kColumns;
      const bool streams =
          sizeof(S) == sizeof(Compute<S>) && large && lie_side_by_side(out, first, count) && out.along.stride[0] % kWidth == 0;
      const Index beyond = static_cast<Index>(reinterpret_cast<std::uintptr_t>(out.row(first)) % kLine / sizeof(S));
      Index head = streams && beyond > 0 ? kWidth - beyond : 0;  // columns before the first whole line
      if (head > count) head = count;
      if (head > 0) Columns<S>(x, temperature, out, first, head, false).softmax();
      if (count > head) Columns<S>(x, temperature, out, first + head, count - head, streams).softmax();
    }
  });
}

#define SOFTMAP_INSTANTIATE(S)                     \
  template bool are_columns(const Rows<const S>&); \
  template void columns_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
