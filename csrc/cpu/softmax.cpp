#include "softmax.h"

#include "cpu/softmax_log.h"
#include "cpu/softmax_paths.h"

namespace softmap::cpu {
namespace {

// Calls row_fn(row, i, to) for every row, with `to` the place of the result.
template <class S, class RowFn>
void map_rows(const Rows<const S>& x, const Rows<S>& out, const Exec& exec, RowFn&& row_fn) {
  const Index n = x.along.size();
  const bool out_place = out.along.contiguous();
  const int slots = row_slots(x, n, exec);
  const Scratch<S> in_buffer(slots, x.along.contiguous() ? 0 : n), out_buffer(slots, out_place ? 0 : n);
  each_row(x, n, exec, in_buffer, [&](const Row<S>& row, Index i, int slot) {
    S* const to = out.row(i);
    S* const result = out_place ? to : out_buffer[slot];
    row_fn(row, i, result);
    if (!out_place) {
      for (Index k = 0; k < n; ++k) to[out.along.offset(k)] = result[k];
    }
  });
}

// True for rows that fuse_rows may take, with `bytes` of a row waiting in a near cache.
template <class S>
bool may_fuse(const Rows<const S>& x, const Rows<S>& out, std::size_t bytes, const Exec& exec) {
  return x.along.contiguous() && out.along.contiguous() && x.across.size() > 1 && bytes <= runtime().cache_bytes(3) / 8 &&
         !shares_rows(x, x.along.size(), exec);
}
// Rows that a thread takes in one go.
inline Index fused_chunk(Index n_rows, Index n, const Exec& exec) {
  const Index share = n_rows / (4 * exec.n_threads) + 1, least = rows_per_chunk(n);
  return exec.n_threads == 1 ? n_rows : share > least ? share : least;
}

// Rows that are not short, arg_of(i) being the way to read row i; see docs/softmax_algorithms.md.
template <bool kStream, class S, class ArgOf>
void long_softmax(const Rows<const S>& x, const ArgOf& arg_of, const Rows<S>& out, const Exec& exec) {
  using T = Compute<S>;
  const Index n = x.along.size(), n_rows = x.across.size();
  if (may_fuse(x, out, static_cast<std::size_t>(n) * sizeof(T), exec)) {
    const Index chunk = fused_chunk(n_rows, n, exec);
    const Scratch<T> rooms(slots_for(exec, n_rows, chunk, n_rows * n), KeptRow<T>::room(n));
    return parallel_for(exec, n_rows, chunk, n_rows * n, [&](Index first, Index last, int slot) {
      fused_softmax<kStream>(x, arg_of, out, first, last, KeptRow<T>(rooms[slot], x.data, n));
    });
  }
  const bool in_place = x.along.contiguous() && out.along.contiguous();
  // Where an exponential takes less time than a line of the last cache, it is computed twice.
  constexpr int kNear = Lanes<T>::size == 16 ? 2 : 3;
  const bool near = static_cast<std::size_t>(2 * n) * sizeof(S) <= runtime().cache_bytes(kNear);
  const bool keep = in_place && n_rows == 1 && std::is_same_v<S, T> && x.data != out.data && !kStream && near;
  const Scratch<T> references(1, keep ? n / kBlock<T> + 1 : 0);
  map_rows(x, out, exec, [&](const Row<S>& row, Index i, S* to) {
    softmax_row<kStream>(row, arg_of(i), static_cast<T>(arg_of.temperature(i)), to, references[0]);
  });
}
template <bool kStream, class S, class ArgOf>
void long_log_softmax(const Rows<const S>& x, const ArgOf& arg_of, const Rows<S>& out, const Exec& exec) {
  const Index n = x.along.size(), n_rows = x.across.size();
  if (may_fuse(x, out, static_cast<std::size_t>(n) * sizeof(S), exec) && x.data != out.data) {
    return parallel_for(exec, n_rows, fused_chunk(n_rows, n, exec), n_rows * n,
                        [&](Index first, Index last, int) { fused_log_softmax<kStream>(x, arg_of, out, first, last); });
  }
  map_rows(x, out, exec, [&](const Row<S>& row, Index i, S* to) {
    log_softmax_row<kStream>(row, arg_of(i), static_cast<Compute<S>>(arg_of.temperature(i)), to);
  });
}

// True where input and output together do not fit the last cache.
template <class S>
bool beyond_caches(const Rows<S>& x) {
  const auto bytes = static_cast<std::size_t>(x.along.size()) * static_cast<std::size_t>(x.across.size()) * sizeof(S);
  return 2 * bytes >= runtime().cache_bytes(3);
}

// Calls body(arg_of), arg_of(i) being the way to read row i.
template <class T, class Body>
void with_args(PerRow<T> temperature, const Body& body) {
  if (temperature.stride == 0 && temperature[0] == T(1)) {
    body(AllPlain{});
  } else {
    body(EachDivided<T>{temperature});
  }
}

}  // namespace

template <class S>
void softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if (are_columns(x)) return columns_softmax(x, temperature, out, exec);
  if (is_short<S>(x.along.size())) return short_softmax(x, temperature, out, exec);
  with_args(temperature, [&](const auto& arg_of) {
    const bool stream = out.along.contiguous() && beyond_caches(out);
    return stream ? long_softmax<true>(x, arg_of, out, exec) : long_softmax<false>(x, arg_of, out, exec);
  });
}

template <class S>
void log_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if (are_columns(x)) return columns_log_softmax(x, temperature, out, exec);
  if (is_short<S>(x.along.size())) return short_log_softmax(x, temperature, out, exec);
  with_args(temperature, [&](const auto& arg_of) {
    const bool stream = out.along.contiguous() && beyond_caches(out);
    return stream ? long_log_softmax<true>(x, arg_of, out, exec) : long_log_softmax<false>(x, arg_of, out, exec);
  });
}

template <class S>
void logsumexp(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  const Index n = x.along.size();
  if (are_columns(x)) return columns_logsumexp(x, temperature, out, exec);
  if (is_short<S>(n)) return short_logsumexp(x, temperature, out, exec);
  const Scratch<S> buffer(row_slots(x, n, exec), x.along.contiguous() ? 0 : n);
  with_args(temperature, [&](const auto& arg_of) {
    each_row(x, n, exec, buffer, [&](const Row<S>& row, Index i, int) {
      out[i] = core::to_storage<S>(logsumexp_row(row, arg_of(i), temperature[i]));
    });
  });
}

#define SOFTMAP_INSTANTIATE(S)                                                                      \
  template void softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&);     \
  template void log_softmax(const Rows<const S>&, PerRow<Compute<S>>, const Rows<S>&, const Exec&); \
  template void logsumexp(const Rows<const S>&, PerRow<Compute<S>>, S*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(Half)
SOFTMAP_INSTANTIATE(BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
