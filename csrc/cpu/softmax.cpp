#include "softmax.h"

#include "cpu/softmax_exact.h"
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

}  // namespace

template <class S>
void softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if (is_short<S>(x.along.size())) return short_softmax(x, temperature, out, exec);
  if (are_columns(x)) return columns_softmax(x, temperature, out, exec);
  map_rows(x, out, exec, [&](const Row<S>& row, Index i, S* to) { exact_softmax(row, temperature[i], to); });
}

template <class S>
void log_softmax(const Rows<const S>& x, PerRow<Compute<S>> temperature, const Rows<S>& out, const Exec& exec) {
  if (is_short<S>(x.along.size())) return short_log_softmax(x, temperature, out, exec);
  map_rows(x, out, exec, [&](const Row<S>& row, Index i, S* to) { exact_log_softmax(row, temperature[i], to); });
}

template <class S>
void logsumexp(const Rows<const S>& x, PerRow<Compute<S>> temperature, S* out, const Exec& exec) {
  const Index n = x.along.size();
  if (is_short<S>(n)) return short_logsumexp(x, temperature, out, exec);
  const Scratch<S> buffer(row_slots(x, n, exec), x.along.contiguous() ? 0 : n);
  each_row(x, n, exec, buffer,
           [&](const Row<S>& row, Index i, int) { out[i] = core::to_storage<S>(exact_logsumexp(row, temperature[i])); });
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
