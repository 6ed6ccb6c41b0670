// Cross-entropy of two softmaxes, row by row, and what both give a column that is left out of it.
#include "core/beside.h"
#include "cuda/launch.cuh"
#include "cuda/pack.cuh"
#include "cuda/row.cuh"
#include "cuda/row_memory.cuh"
#include "softmax.h"

namespace softmap::cuda {
namespace {

// A row with -inf in one column; -1 is none.
template <class S, class Group>
struct Without {
  using T = Compute<S>;
  InMemory<S, Group> row;
  Index column;
  __device__ T operator[](Index k) const { return k == column ? -kInf<T> : core::to_compute(row.x[k]); }
  __device__ T own() const { return column < 0 ? kNaN<T> : core::to_compute(row.x[column]); }
  template <class Body, class Fold>
  __device__ void each(const Body& body, const Fold& fold) const {
    row.each([&](T&, Index k) { body((*this)[k], k); }, fold);
  }
};

// What undoes a lift.
template <class T>
inline constexpr T kLowered = sizeof(T) == 4 ? T(0x1p-64) : T(0x1p-512);

// exp(z - maximum) along a row: how many are 1, and the sum of the others, lifted by kLift<T>.
template <class T>
struct Exponentials {
  long long count;
  Sum<T> rest;
  __device__ void add(T d, T lifted) {
    count += d == T(0);
    rest += d == T(0) ? T(0) : lifted;
  }
  template <class Group>
  __device__ ExpTotal<T> total(const Group& group) const {
    const auto lifted = group.reduce(Total<T>{rest.m, rest.low}, Add());
    return ExpTotal<T>{group.reduce(count, Add()), lifted}.lowered();
  }
};

// The share of what was left out, beside a row that has it as -inf.
template <class T>
__device__ core::Share<T> beside(T own, const Shift<T>& shift, const ExpTotal<T>& others) {
  return core::beside(own, shift.maximum, static_cast<T>(others.count - 1) + (others.rest.m + others.rest.low));
}

// Formulas as in cpu/cross_entropy.cpp.
template <class S, class Group>
__global__ void __launch_bounds__(Group::kBlockThreads, 1)
    cross_entropy_kernel(Dense<const S> a, Dense<const S> b, Compute<S> temperature, EachRow<std::int64_t> left_out,
                         CrossEntropyOut<Compute<S>> out) {
  using T = Compute<S>;
  const Group group;
  const Index n_rows = a.n_rows, n = a.n;
  const int passes = out.probability && temperature != T(1) ? 2 : 1;
  for (Index i = Group::first(); Group::first_of_warp(i) < n_rows; i += Group::step()) {
    const bool there = i < n_rows;
    const Index at = there ? i : 0, given = left_out[at], column = given >= 0 && given < n ? given : -1;
    const Without<S, Group> in_a{{a.row(at), there ? n : 0}, column}, in_b{{b.row(at), there ? n : 0}, column};
    const T largest_a = largest_of<T>(in_a, group), largest_b = largest_of<T>(in_b, group);
#pragma unroll 1
    for (int pass = 0; pass < passes; ++pass) {
      const T t = pass == 0 ? temperature : T(1);
      const Shift<T> shift_a(largest_a, t), shift_b(largest_b, t);
      Exponentials<T> of_a{}, of_b{};
      Sum<T> products{};
      in_b.each(
          [&](T x_b, Index k) {
            T low;
            const T d_a = shift_a(in_a[k], low);
            of_a.add(d_a, exp_below(d_a, low, kLift<T>));
            const T d_b = shift_b(x_b, low), lifted = exp_below(d_b, low, kLift<T>), p = lifted * kLowered<T>;
            of_b.add(d_b, lifted);
            products += p == T(0) ? p : p * -d_a;
          },
          [&] { of_a.rest.fold(), of_b.rest.fold(), products.fold(); });
      const auto total_a = of_a.total(group), total_b = of_b.total(group);
      T product = total_of(group, products);
      if (!there || Group::rank() > 0) continue;
      if (pass == 0) {
        // A product that is infinite makes NaN of their sum; NaN elsewhere shows in the other sums.
        if (!(product < kInf<T>)) product = kInf<T>;
        const auto sum = total_b.sum();
        out.cross_entropy[i] = n == (column < 0 ? 0 : 1) ? T(0) : total_a.excess() + product / (sum.m + sum.low);
      }
      if (!out.probability || t != T(1)) continue;
      out.log_probability[i] = beside(in_a.own(), shift_a, total_a).log_probability;
      out.probability[i] = beside(in_b.own(), shift_b, total_b).probability;
    }
  }
}

}  // namespace

template <class S>
void cross_entropy(const Rows<const S>& a, const Rows<const S>& b, Compute<S> temperature, PerRow<std::int64_t> left_out,
                   CrossEntropyOut<Compute<S>> out, const Exec& exec) {
  const auto columns = on_device(left_out);
  const auto rows_a = packed(a, exec), rows_b = packed(b, exec);
  with_group(rows_a.n, [&]<class Group>() {
    launch<&cross_entropy_kernel<S, Group>>(exec, {rows_a.n_rows, Group::kRowsPerBlock, Group::kBlockThreads}, rows_a, rows_b,
                                            temperature, columns, out);
  });
}

#define SOFTMAP_INSTANTIATE(S)                                                                              \
  template void cross_entropy(const Rows<const S>&, const Rows<const S>&, Compute<S>, PerRow<std::int64_t>, \
                              CrossEntropyOut<Compute<S>>, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
SOFTMAP_INSTANTIATE(core::Half)
SOFTMAP_INSTANTIATE(core::BFloat16)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
