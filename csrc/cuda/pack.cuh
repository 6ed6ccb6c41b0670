#pragma once
// Rows of any layout as dense ones: where they lie, or copied. So every layout gives the same bits.
#include "cuda/launch.cuh"
#include "cuda/row_memory.cuh"

namespace softmap::cuda {
namespace {

template <class S>
bool is_dense(const Rows<S>& rows) {
  return rows.along.contiguous() && rows.across.n <= 1;
}

// dense = rows, or rows = dense.
template <class Copy>
__device__ void copy_elements(Index n_rows, Index n, const Copy& copy) {
  for (Index j = Index(blockIdx.x) * blockDim.x + threadIdx.x; j < n_rows * n; j += Index(gridDim.x) * blockDim.x) {
    copy(j, j / n, j % n);
  }
}
template <class S>
__global__ void pack_elements_kernel(const __grid_constant__ Rows<const S> from, Dense<S> to) {
  copy_elements(to.n_rows, to.n, [&](Index j, Index i, Index k) { to.data[j] = from.row(i)[from.along.offset(k)]; });
}
template <class S>
__global__ void unpack_elements_kernel(Dense<const S> from, const __grid_constant__ Rows<S> to) {
  copy_elements(from.n_rows, from.n, [&](Index j, Index i, Index k) { to.row(i)[to.along.offset(k)] = from.data[j]; });
}
inline constexpr int kCopyThreads = 256;

template <class S>
Dense<S> dense_of(const Rows<S>& rows) {
  return {rows.data, rows.across.n == 0 ? 0 : rows.across.stride[0], rows.across.size(), rows.along.size()};
}
template <class S>
Dense<S> fresh_dense(const Rows<S>& rows, const Exec& exec) {
  const Index n_rows = rows.across.size(), n = rows.along.size();
  return {exec.scratch<std::remove_const_t<S>>(n_rows * n), n, n_rows, n};
}

template <class S>
Dense<const S> packed(const Rows<const S>& rows, const Exec& exec) {
  if (is_dense(rows)) return dense_of(rows);
  const auto made = fresh_dense(rows, exec);
  const Dense<S> to{const_cast<S*>(made.data), made.stride, made.n_rows, made.n};
  launch<&pack_elements_kernel<S>>(exec, {to.n_rows * to.n, kCopyThreads, kCopyThreads}, rows, to);
  return made;
}

// Where results for rows go, and how they get to these.
template <class S>
class Unpacked {
 public:
  Unpacked(const Rows<S>& rows, const Exec& exec)
      : rows_(rows), exec_(exec), dense_(is_dense(rows) ? dense_of(rows) : fresh_dense(rows, exec)) {}
  const Dense<S>& dense() const { return dense_; }
  void finish() const {
    if (is_dense(rows_)) return;
    launch<&unpack_elements_kernel<S>>(exec_, {dense_.n_rows * dense_.n, kCopyThreads, kCopyThreads},
                                       Dense<const S>{dense_.data, dense_.stride, dense_.n_rows, dense_.n}, rows_);
  }

 private:
  const Rows<S>& rows_;
  const Exec& exec_;
  Dense<S> dense_;
};

}  // namespace
}  // namespace softmap::cuda
