#pragma once
// Where a row lies while a group of threads works on it. A row has
//
//   each(body, fold)      body(x, column) for the columns of this thread, where x may be written to; fold() after every few
//   map(out, value)       out = value(x) in each column, rounded to storage
//   kKeeps                whether x stays as it was written
#include "core/half.h"
#include "cuda/group.cuh"

namespace softmap::cuda {
namespace {

// Rows of n contiguous elements, `stride` apart.
template <class S>
struct Dense {
  S* data;
  Index stride, n_rows, n;
  __device__ S* row(Index i) const { return data + i * stride; }
};

// Left in memory, and read again in every pass.
template <class S, class Group>
struct InMemory {
  using T = core::Compute<S>;
  static constexpr bool kKeeps = false;
  const S* x;
  Index n;

  template <class Body, class Fold>
  __device__ void each(const Body& body, const Fold& fold) const {
    int pending = 0;
#pragma unroll 1
    for (Index k = Group::rank(); k < n; k += Group::kThreads) {
      T value = core::to_compute(x[k]);
      body(value, k);
      if (++pending % 4 == 0) fold();
    }
    fold();
  }
  template <class Value>
  __device__ void map(S* out, bool, const Value& value) const {
#pragma unroll 1
    for (Index k = Group::rank(); k < n; k += Group::kThreads) out[k] = core::to_storage<S>(value(core::to_compute(x[k])));
  }
};

// A row as numbers in double.
template <class S, class Group>
struct InDouble : InMemory<S, Group> {
  using T = double;
  template <class Body, class Fold>
  __device__ void each(const Body& body, const Fold& fold) const {
    InMemory<S, Group>::each(
        [&](core::Compute<S>& v, Index k) {
          double wide = static_cast<double>(v);
          body(wide, k);
        },
        fold);
  }
};

// -inf as it is stored.
template <class S>
inline constexpr S kStoredMinusInf = -core::kInf<S>;
template <>
inline constexpr core::Half kStoredMinusInf<core::Half> = {0xfc00};
template <>
inline constexpr core::BFloat16 kStoredMinusInf<core::BFloat16> = {0xff80};

// In registers, read and written once: `per` elements a thread, neighbours together as far as 16 bytes hold them.
template <class S, class Group, int per>
struct InRegisters {
  using T = core::Compute<S>;
  static constexpr bool kKeeps = true;
  static constexpr int kMost = 16 / sizeof(S), kPower = per & -per;  // the greatest power of 2 that divides it
  static constexpr int kVector = kMost < kPower ? kMost : kPower;
  struct alignas(kVector * sizeof(S)) Vector {
    S element[kVector];
  };
  T x[per];
  int left;  // columns of the row from this thread's first one on

  // True where all rows can be read and written by vectors.
  template <class Element>
  static bool suits(const Dense<Element>& rows) {
    return rows.n % kVector == 0 && rows.stride % kVector == 0 &&
           reinterpret_cast<std::uintptr_t>(rows.data) % sizeof(Vector) == 0;
  }
  // How far on from a thread's first element another one is: a constant, so that no register holds a column.
  __device__ static constexpr int on(int i) { return i / kVector * Group::kThreads * kVector + i % kVector; }
  __device__ static unsigned first() { return static_cast<unsigned>(Group::rank() * kVector); }

  // Columns beyond the end are -inf. Both ways apart: together they need more registers.
  __device__ InRegisters(const S* row, int n, bool vectors) : left(n - static_cast<int>(first())) {
    row += first();
    if (vectors) {
#pragma unroll
      for (int i = 0; i < per; i += kVector) {
        Vector v;
#pragma unroll
        for (S& element : v.element) element = kStoredMinusInf<S>;
        if (on(i) < left) v = *reinterpret_cast<const Vector*>(row + on(i));
#pragma unroll
        for (int j = 0; j < kVector; ++j) x[i + j] = core::to_compute(v.element[j]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < per; ++i) x[i] = on(i) < left ? core::to_compute(row[on(i)]) : -core::kInf<T>;
    }
  }
  template <class Body, class Fold>
  __device__ void each(const Body& body, const Fold& fold) {
#pragma unroll
    for (int i = 0; i < per; ++i) {
      body(x[i], Index(first() + on(i)));
      if (i % 2 == 1) fold();
    }
    if (per % 2) fold();
  }
  // The columns that are there, added in the order of InMemory.
  template <class Body, class Fold>
  __device__ void each(const Body& body, const Fold& fold) const {
#pragma unroll
    for (int i = 0; i < per; ++i) {
      T value = x[i];
      if (on(i) < left) body(value, Index(first() + on(i)));
      if (i % 4 == 3) fold();
    }
    fold();
  }
  template <class Value>
  __device__ void map(S* out, bool vectors, const Value& value) const {
    if (vectors) {
#pragma unroll
      for (int i = 0; i < per; i += kVector) {
        if (on(i) >= left) continue;
        Vector v;
#pragma unroll
        for (int j = 0; j < kVector; ++j) v.element[j] = core::to_storage<S>(value(x[i + j]));
        *reinterpret_cast<Vector*>(out + first() + on(i)) = v;
      }
    } else {
#pragma unroll
      for (int i = 0; i < per; ++i) {
        if (on(i) < left) out[first() + on(i)] = core::to_storage<S>(value(x[i]));
      }
    }
  }
};

}  // namespace
}  // namespace softmap::cuda
