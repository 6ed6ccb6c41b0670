// The ways to a softmax by their names. What softmax() does not choose is written here, as plainly as the papers have it.
#include "softmax_algorithms.h"

#include "cpu/softmax_long.h"
#include "softmax.h"

namespace softmap::cpu {
namespace {

// Four sums beside each other hide the latency of an addition; `i` is a multiple of the lanes.
template <class T, class Body>
[[gnu::always_inline]] inline void each_register(const T* x, Index n, T fill, const Body& body) {
  using L = Lanes<T>;
  Index i = 0;
  for (; i + 4 * L::size <= n; i += 4 * L::size) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      ask_ahead(x + i + k * L::size);
      body(k, i + k * L::size, L::load(x + i + k * L::size), static_cast<int>(L::size));
    }
  }
  for (; i + L::size <= n; i += L::size) body(0, i, L::load(x + i), static_cast<int>(L::size));
  if (const int count = static_cast<int>(n - i); count > 0) body(0, i, L::load(x + i, count, fill), count);
}

template <bool kStream, class T>
[[gnu::always_inline]] inline void put(Lanes<T> v, T* to, int count) {
  if (count < Lanes<T>::size) return v.store(to, count);
  if constexpr (kStream) {
    stream(v, to);
  } else {
    v.store(to);
  }
}

template <class T>
T sum_of(const Lanes<T> (&v)[4]) {
  T lanes[Lanes<T>::size], sum = 0;
  ((v[0] + v[1]) + (v[2] + v[3])).store(lanes);
  for (const T t : lanes) sum += t;
  return sum;
}

template <class T>
T largest_of(const T* x, Index n) {
  using L = Lanes<T>;
  const L least(-kInf<T>);
  L top[4] = {least, least, least, least};
  each_register(x, n, -kInf<T>, [&](int k, Index, L v, int) { top[k] = max(v, top[k]); });
  return largest_lane(max(max(top[0], top[1]), max(top[2], top[3])));
}

// The exponential of the three-pass ways: the maximum is a reference, a power of two.
template <class T>
RowExp<T> exp_below(T largest) {
  return RowExp<T>(core::round_even(largest * core::kLog2E<T>) - kTop<T>);
}

template <bool kStream, class T>
void three_pass_recompute(const T* x, Index n, T* out) {
  using L = Lanes<T>;
  const RowExp<T> exp = exp_below(largest_of(x, n));
  L sum[4] = {L(T(0)), L(T(0)), L(T(0)), L(T(0))};
  each_register(x, n, -kInf<T>, [&](int k, Index, L v, int) { sum[k] = sum[k] + exp(v); });
  const L inverse(T(1) / sum_of(sum));
  each_register(x, n, -kInf<T>, [&](int, Index i, L v, int count) { put<kStream>(exp(v) * inverse, out + i, count); });
}

template <bool kStream, class T>
void three_pass_reload(const T* x, Index n, T* out) {
  using L = Lanes<T>;
  const RowExp<T> exp = exp_below(largest_of(x, n));
  L sum[4] = {L(T(0)), L(T(0)), L(T(0)), L(T(0))};
  each_register(x, n, -kInf<T>, [&](int k, Index i, L v, int count) {
    const L e = exp(v);
    put<false>(e, out + i, count);
    sum[k] = sum[k] + e;
  });
  const L inverse(T(1) / sum_of(sum));
  each_register(static_cast<const T*>(out), n, T(0),
                [&](int, Index i, L e, int count) { put<kStream>(e * inverse, out + i, count); });
}

// m 2^d for d <= 0; below the normal numbers of T what that leaves of a sum does not show.
template <class L>
L lowered(L m, L d) {
  using T = typename core::lane<L>::Scalar;
  if constexpr (requires { L::pow2(d); }) {
    return m * L::pow2(max(d, L(sizeof(T) == 4 ? T(-126) : T(-1022))));
  } else {
    return scale2(m, d);
  }
}

template <bool kStream, class T>
void two_pass(const T* x, Index n, T* out) {
  using L = Lanes<T>;
  const L lowest(core::kLowestExponent<T>), limit(core::kExpPairLimit<T>);
  const auto pair_of = [&](L v) { return core::exp_pair(max(-limit, v)); };
  L sum(T(0)), top(lowest);
  Index i = 0;
  for (; i + 4 * L::size <= n; i += 4 * L::size) {  // the sum moves once for four registers
    core::ExpPair<L> e[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      ask_ahead(x + i + k * L::size);
      e[k] = pair_of(L::load(x + i + k * L::size));
    }
    const L above = max(max(max(e[0].e, e[1].e), max(e[2].e, e[3].e)), top);
    sum = lowered(sum, top - above);
    top = above;
    const auto term = [&](int k) { return lowered(e[k].m, e[k].e - top); };
    sum = sum + ((term(0) + term(1)) + (term(2) + term(3)));
  }
  for (; i < n; i += L::size) {
    const int count = n - i < L::size ? static_cast<int>(n - i) : static_cast<int>(L::size);
    const auto e = pair_of(L::load(x + i, count, -kInf<T>));
    const L above = max(e.e, top);
    sum = lowered(sum, top - above) + lowered(e.m, e.e - above);
    top = above;
  }
  const L highest(largest_lane(top)), none(T(0));
  const L row_sum[4] = {lowered(sum, top - highest), none, none, none};
  const L inverse(T(1) / sum_of(row_sum));
  each_register(x, n, -kInf<T>, [&](int, Index k, L v, int count) {
    const auto e = pair_of(v);
    put<kStream>(scale2(e.m * inverse, e.e - highest), out + k, count);
  });
}

template <bool kStream, class T>
void rows_by(Algorithm algorithm, const Rows<const T>& x, const Rows<T>& out) {
  const Index n = x.along.size(), n_rows = x.across.size();
  const Scratch<T> kept(1, KeptRow<T>::room(n));
  if (algorithm == Algorithm::fused) {
    return fused_softmax<kStream>(x, AllPlain{}, out, Index(0), n_rows, KeptRow<T>(kept[0], x.data, n));
  }
  for (Index i = 0; i < n_rows; ++i) {
    const T* const row = x.row(i);
    T* const to = out.row(i);
    if (algorithm == Algorithm::three_pass_recompute) three_pass_recompute<kStream>(row, n, to);
    if (algorithm == Algorithm::three_pass_reload) three_pass_reload<kStream>(row, n, to);
    if (algorithm == Algorithm::two_pass) two_pass<kStream>(row, n, to);
    if (algorithm == Algorithm::online)
      softmax_row<kStream>(Row<T>{row, n, nullptr}, Plain{}, T(1), to, static_cast<T*>(nullptr));
    if (algorithm == Algorithm::reload) softmax_row<false>(Row<T>{row, n, nullptr}, Plain{}, T(1), to, kept[0]);
  }
  if constexpr (kStream) stream_fence();
}

}  // namespace

template <class T>
void softmax_by(Algorithm algorithm, const T* x, Index n_rows, Index n, T* out, bool stream) {
  if (n_rows == 0 || n == 0) return;
  const Rows<const T> rows{x, Axes{1, {n_rows}, {n}}, Axes{1, {n}, {1}}};
  const Rows<T> results{out, rows.across, rows.along};
  const T one(1);
  if (algorithm == Algorithm::automatic) return softmax(rows, PerRow<T>{&one, 0}, results, Exec{1});
  const auto beyond = reinterpret_cast<std::uintptr_t>(out) % (Lanes<T>::size * sizeof(T));
  const bool aligned = algorithm >= Algorithm::online || (beyond == 0 && (n_rows == 1 || n % Lanes<T>::size == 0));
  stream&& aligned ? rows_by<true>(algorithm, rows, results) : rows_by<false>(algorithm, rows, results);
}

template void softmax_by(Algorithm, const float*, Index, Index, float*, bool);
template void softmax_by(Algorithm, const double*, Index, Index, double*, bool);

}  // namespace softmap::cpu
