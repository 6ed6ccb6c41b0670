#pragma once
// The threads that work on one row together. A group has
//
//   kThreads, rank()            how many they are, and which of them this one is
//   reduce(value, combine)      what combine makes of the values of all, the same for all; combine(a, b) == combine(b, a)
//   any_row(is)                 whether it is so for a row of threads that must stay together; the same for all of a group
//   sum_before(value, total)    the sum of the values of the threads before this one, and of all
//   from(value, rank)           what the one of that rank holds (lanes only)
//   sync()                      all have come here, and see what the others wrote
//   first(), step()             the rows that fall to this group; index() is its place in the block
#include "cuda/device.h"

namespace softmap::cuda {
namespace {

inline constexpr int kWarp = 32;

// n lanes of a warp, n a power of 2. The lanes of a warp stay together, whatever their rows are; one lane a row need not.
template <int n, int threads>
struct Lanes {
  static constexpr int kThreads = n, kRowsPerBlock = threads / n, kBlockThreads = threads;

  __device__ static int rank() { return static_cast<int>(threadIdx.x % n); }
  // The first row, and how far it is to the next one. A warp goes on as long as one of its rows is there.
  __device__ static Index first() { return Index(blockIdx.x) * kRowsPerBlock + index(); }
  __device__ static Index step() { return Index(gridDim.x) * kRowsPerBlock; }
  __device__ static Index first_of_warp(Index row) { return row - static_cast<int>(threadIdx.x % kWarp / n); }
  __device__ static int index() { return static_cast<int>(threadIdx.x / n); }
  __device__ static void sync() { __syncwarp(); }
  __device__ static bool any_row(bool is) { return n == 1 ? is : __any_sync(0xffffffffu, is); }
  template <class V>
  __device__ static V from(V value, int rank) {
    return __shfl_sync(0xffffffffu, value, rank, n);
  }

  template <class V, class Combine>
  __device__ V reduce(V value, const Combine& combine) const {
#pragma unroll
    for (int mask = n / 2; mask > 0; mask /= 2) value = combine(value, exchange(value, mask));
    return value;
  }
  template <class V>
  __device__ V sum_before(V value, V& total) const {
    V before{};
#pragma unroll
    for (int mask = 1; mask < n; mask *= 2) {
      const V other = exchange(value, mask);
      if (rank() & mask) before = before + other;
      value = value + other;
    }
    total = value;
    return before;
  }
};

// A block.
template <int threads>
struct Block {
  static constexpr int kThreads = threads, kRowsPerBlock = 1, kBlockThreads = threads;

  __device__ static int rank() { return static_cast<int>(threadIdx.x); }
  __device__ static Index first() { return blockIdx.x; }
  __device__ static Index step() { return gridDim.x; }
  __device__ static Index first_of_warp(Index row) { return row; }
  __device__ static int index() { return 0; }
  __device__ static void sync() { __syncthreads(); }
  __device__ static bool any_row(bool is) { return is; }

  template <class V, class Combine>
  __device__ V reduce(V value, const Combine& combine) const {
    value = Lanes<kWarp, threads>().reduce(value, combine);
    if (lane() == 0) put(warp(), value);
    __syncthreads();
    value = Lanes<kWarps, threads>().reduce(get<V>(lane() % kWarps), combine);
    __syncthreads();  // the next reduction writes to the same place
    return value;
  }
  template <class V>
  __device__ V sum_before(V value, V& total) const {
    V of_this_warp;
    V before = Lanes<kWarp, threads>().sum_before(value, of_this_warp);
    if (lane() == 0) put(warp(), of_this_warp);
    __syncthreads();
    total = V{};
    for (int k = 0; k < kWarps; ++k) {
      if (k == warp()) before = before + total;
      total = total + get<V>(k);
    }
    __syncthreads();
    return before;
  }

 private:
  static constexpr int kWarps = threads / kWarp;
  __device__ static int lane() { return static_cast<int>(threadIdx.x % kWarp); }
  __device__ static int warp() { return static_cast<int>(threadIdx.x / kWarp); }

  // What each warp has to give. Values of any size have places of one size: their addresses, which the compiler keeps for all
  // rows, take two registers instead of two a type.
  struct alignas(16) Place {
    unsigned long long word[2];
  };
  __device__ static Place* places() {
    SOFTMAP_SHARED(Place, of_warp, kWarps);
    return of_warp;
  }
  template <class V>
  __device__ static void put(int warp, const V& value) {
    static_assert(sizeof(V) <= sizeof(Place));
    memcpy(places() + warp, &value, sizeof value);
  }
  template <class V>
  __device__ static V get(int warp) {
    V value;
    memcpy(&value, places() + warp, sizeof value);
    return value;
  }
};

// Calls run<Group>() with a warp or a block for a row of n columns.
template <class F>
void with_group(Index n, const F& run) {
  if (n <= 1024) return run.template operator()<Lanes<kWarp, 128>>();
  run.template operator()<Block<256>>();
}

}  // namespace
}  // namespace softmap::cuda
