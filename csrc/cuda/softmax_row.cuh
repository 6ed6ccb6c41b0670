#pragma once
// What softmax, log_softmax and logsumexp make of a row.
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "cuda/softmax_paths.h"

namespace softmap::cuda {
namespace {

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

// Of a row in registers. put(value) writes value(x) for each x of the row; for kLogSumExp, value() is one number.
template <Op op, class Row, class Group, class Put, class T = typename Row::T>
__device__ void compute_row(Row& row, Index n, const Group& group, T temperature, const Put& put) {
  const Shift<T> shift(largest_of<T>(row, group), temperature);
  if constexpr (op == Op::kSoftmax) {
    const Inverse<T> share(exp_sum<true>(row, shift, group));
    put(share);
  } else {
    const auto total = exp_total(row, shift, group);
    if constexpr (op == Op::kLogSoftmax) {
      put(LogSoftmax<T>(shift, total));
    } else {
      put([&](T) { return n == 0 ? -kInf<T> : log_sum(shift, total); });
    }
  }
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
