#pragma once
// The blocks of a cluster as one group: they share a row.
#include "cuda/cluster.cuh"
#include "cuda/group.cuh"

namespace softmap::cuda {
namespace {

// A power of 2 of blocks of `threads`, each of which has one place in its shared memory for each of two reductions in turn. A
// block that writes to the first place again knows by the barrier of the second one that all have read it.
template <int threads>
class Cluster {
 public:
  using OneBlock = Block<threads>;

  __device__ static int rank() { return static_cast<int>(cluster_rank()) * threads + OneBlock::rank(); }
  __device__ static Index first() { return static_cast<int>(blockIdx.x) / static_cast<int>(cluster_size()); }
  __device__ static Index step() { return static_cast<int>(gridDim.x) / static_cast<int>(cluster_size()); }

  __device__ static bool any_row(bool is) { return is; }
  template <class V, class Combine>
  __device__ V reduce(V value, const Combine& combine) const {
    return over_blocks(of_blocks(OneBlock().reduce(value, combine)), combine);
  }
  // What one block of the cluster has: lane k gets what the block k does, and so on over and over.
  template <class V>
  __device__ V of_blocks(V value) const {
    static_assert(sizeof(V) <= sizeof(Place));
    Place place{}, *const mine = places() + turn_;
    memcpy(&place, &value, sizeof value);
    if (OneBlock::rank() == 0) *mine = place;
    cluster_sync();
    place = *map_shared(mine, static_cast<unsigned>(OneBlock::rank()) % cluster_size());
    memcpy(&value, &place, sizeof value);
    turn_ ^= 1;
    return value;
  }
  // What combine makes of it.
  template <class V, class Combine>
  __device__ V over_blocks(V value, const Combine& combine) const {
    for (int mask = static_cast<int>(cluster_size()) / 2; mask > 0; mask /= 2) value = combine(value, exchange(value, mask));
    return value;
  }
  // No block ends while others may read its memory.
  __device__ static void leave() { cluster_sync(); }

 private:
  struct alignas(16) Place {
    unsigned long long word[4];
  };
  __device__ static Place* places() {
    SOFTMAP_SHARED(Place, of_block, 2);
    return of_block;
  }
  mutable int turn_ = 0;
};

}  // namespace
}  // namespace softmap::cuda
