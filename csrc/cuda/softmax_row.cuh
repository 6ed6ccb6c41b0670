#pragma once
// What softmax, log_softmax and logsumexp make of a row.
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "cuda/softmax_paths.h"
#include "cuda/terms.cuh"

namespace softmap::cuda {
namespace {

// By Shift, for any row.
template <class T>
struct Softmax {
  Shift<T> shift;
  Inverse<T> share;
  __device__ T operator()(T x) const {
    T low;
    const T d = shift(x, low);
    return share(exp_below(d, low));
  }
};
template <class T>
struct LogSoftmax {
  Shift<T> shift;
  T excess;
  __device__ LogSoftmax(const Shift<T>& given, const ExpTotal<T>& total)
      : shift(given), excess(given.largest == kInf<T> ? T(0) : total.excess()) {}
  __device__ T operator()(T x) const {
    T low;
    const T d = shift(x, low);
    return core::abs(d) < kInf<T> ? (d - excess) + low : d - excess;
  }
};

// put(row, value) writes value(x) for each x of the row; for kLogSumExp, value() is one number.

// A row that Terms do not suit. Threads that stay together come here if one of their rows does not; `wanted` says if this one.
template <Op op, class Row, class Group, class Put, class T>
__device__ void compute_with_care(const Row& row, bool wanted, Index n, const Group& group, T temperature, const Put& put) {
  const Shift<T> shift(largest_of<T>(row, group), temperature);
  if constexpr (op == Op::kSoftmax) {
    const Inverse<T> share(exp_sum(row, shift, group));
    if (wanted) put(row, Softmax<T>{shift, share});
  } else {
    const auto total = exp_total(row, shift, group);
    if (!wanted) return;
    if constexpr (op == Op::kLogSoftmax) {
      put(row, LogSoftmax<T>(shift, total));
    } else {
      put(row, [&](T) { return n == 0 ? -kInf<T> : log_sum(shift.maximum, total); });
    }
  }
}

// The row is in registers, and again(true) gives the same one in memory, again(false) one of no columns: other threads may have
// begun to write to a row that is finished.
template <Op op, class S, class Row, class Again, class Group, class By, class Put>
__device__ void compute_row(Row& row, const Again& again, Index n, const Group& group, const By& by_temperature, const Put& put) {
  using T = Compute<S>;
  const ByTemperature<T> by = by_temperature();
  const T largest = largest_of<T>(row, group);
  const bool suits = TermsOf<S>::suits(largest, by);
  const TermsOf<S> terms(largest, by);
  if constexpr (op == Op::kSoftmax) {
    const Inverse<T> share(term_sum<S>(row, terms, group));
    if (suits) put(row, share);
  } else {
    const auto total = of_largest(terms, term_total<S>(row, terms, group, largest));
    if (!suits) {
    } else if constexpr (op == Op::kLogSoftmax) {
      const T excess = total.excess(), maximum = by(largest);
      put(row, [&](T x) { return (by(x) - maximum) - excess; });
    } else {
      put(row, [&](T) { return log_sum(by(largest), total); });
    }
  }
  if (group.any_row(!suits)) compute_with_care<op>(again(!suits), !suits, n, group, by_temperature().given, put);
}

// Calls run(x, out) with dense rows, and puts the results where they belong. Of numbers a row, out has them as its data.
template <class S, class Run>
void with_dense(const Rows<const S>& x, const Rows<S>& out, const Exec& exec, const Run& run) {
  const Unpacked<S> to(out, exec);
  run(packed(x, exec), to.dense());
  to.finish();
}

}  // namespace
}  // namespace softmap::cuda
