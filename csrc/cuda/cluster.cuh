#pragma once
// A cluster: blocks that run at the same time and reach each other's shared memory, from sm_90 on; elsewhere each block is one.
// Nobody may leave as long as others still read its shared memory: the last sync says so.
#include "cuda/device.h"

namespace softmap::cuda {
namespace {

#if defined(SOFTMAP_EMULATED)
using emulator::cluster_arrive, emulator::cluster_rank, emulator::cluster_size, emulator::cluster_sync, emulator::cluster_wait;
using emulator::map_shared;
#else
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
inline constexpr bool kHasClusters = false;
#else
inline constexpr bool kHasClusters = true;
#endif

__device__ inline unsigned cluster_rank() {
  unsigned rank = 0;
  if constexpr (kHasClusters) asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline unsigned cluster_size() {
  unsigned size = 1;
  if constexpr (kHasClusters) asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
}
// Called by all threads. With `orders`, what was written before can be read by the others after their cluster_wait; without, it
// only counts who is there, which is cheaper.
__device__ inline void cluster_arrive(bool orders = true) {
  if constexpr (kHasClusters) {
    if (orders) {
      asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    } else {
      asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    }
  }
}
__device__ inline void cluster_wait() {
  if constexpr (kHasClusters) {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  } else {
    __syncthreads();
  }
}
__device__ inline void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}
// Where a variable in shared memory of this block lies in the block of that rank.
template <class T>
__device__ T* map_shared(T* p, unsigned rank) {
  if constexpr (kHasClusters) asm("mapa.u64 %0, %0, %1;" : "+l"(p) : "r"(rank));
  return p;
}
#endif

}  // namespace
}  // namespace softmap::cuda
