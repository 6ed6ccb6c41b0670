// Kernels with a planted bug each, and their clean twins: what the emulator must find, and must not. Usage: planted NAME [clean];
// the exit status is 0 where the launch succeeds and the results are right. tests/test_emulator.py builds it, with sanitizers
// too.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cuda/cluster.cuh"

using namespace softmap::cuda;

namespace {

constexpr int kThreads = 64;
constexpr std::size_t kFresh = 3 * kThreads;  // where memory starts that reads as NaN until it is written
struct alignas(16) Four {
  float x[4];
};

// y[t] = the value of the neighbour, by way of shared memory. Bug: nobody waits for the neighbour.
template <bool bug>
__global__ void missing_barrier(float* y) {
  SOFTMAP_SHARED(float, value, kThreads);
  value[threadIdx.x] = y[threadIdx.x];
  if (!bug) __syncthreads();
  y[threadIdx.x] = value[(threadIdx.x + 1) % kThreads] + (threadIdx.x + 1 < kThreads ? -1.f : 63.f);
}
// The same round by round. Bug: a fast warp overwrites what a slow one has not read.
template <bool bug>
__global__ void missing_second_barrier(float* y) {
  SOFTMAP_SHARED(float, value, kThreads);
  for (int round = 0; round < 4; ++round) {
    value[threadIdx.x] = y[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = value[(threadIdx.x + 1) % kThreads];
    if (!bug) __syncthreads();
  }
  y[threadIdx.x] = y[threadIdx.x] == (threadIdx.x + 4) % kThreads ? float(threadIdx.x) : -1.f;
}
template <bool bug>
__global__ void missing_syncwarp(float* y) {
  SOFTMAP_SHARED(float, value, kThreads);
  value[threadIdx.x] = float(threadIdx.x);
  if (!bug) __syncwarp();
  y[threadIdx.x] = value[threadIdx.x ^ 1] + (threadIdx.x % 2 ? 1.f : -1.f);
}
// Bug: the sum of all threads is no atomic one.
template <bool bug>
__global__ void race_of_threads(float* y) {
  if (threadIdx.x == 0 && blockIdx.x == 0) y[0] = 0;
  __syncthreads();
  if (bug) {
    y[1] += 1.f;
  } else {
    atomicAdd(y + 1, 1.f);
  }
  __syncthreads();
  if (threadIdx.x == 0) y[1] = 1;
}
// Bug: two blocks write to one place.
template <bool bug>
__global__ void race_of_blocks(float* y) {
  const unsigned i = bug ? threadIdx.x : blockIdx.x * kThreads + threadIdx.x;
  if (i < kThreads) y[i] = float(i);
}
// The last block that is there adds what the others have left: legal. Bug: no fence and no atomic between.
template <bool bug>
__global__ void race_of_partial_sums(float* y) {
  float* const part = y + kThreads;
  auto* const here = reinterpret_cast<unsigned*>(y + 2 * kThreads);
  SOFTMAP_SHARED(bool, last, 1);
  if (threadIdx.x == 0) {
    part[blockIdx.x] = 1;
    if (bug) {
      last[0] = blockIdx.x == gridDim.x - 1;
    } else {
      __threadfence();
      last[0] = atomicAdd(here, 1u) == gridDim.x - 1;
    }
  }
  __syncthreads();
  if (last[0] && threadIdx.x == 0) {
    if (!bug) __threadfence();
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += part[i];
    y[1] = sum / static_cast<float>(gridDim.x);
  }
}
template <bool bug>
__global__ void outside_of_an_array(float* y) {
  const unsigned i = threadIdx.x + (bug ? 4 * kThreads : 0);
  y[threadIdx.x] = y[i];
}
template <bool bug>
__global__ void outside_of_shared_memory(float* y) {
  SOFTMAP_SHARED(float, value, kThreads);
  value[threadIdx.x + (bug ? 1 : 0)] = y[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = value[threadIdx.x + (bug ? 1 : 0)];
}
template <bool bug>
__global__ void outside_of_dynamic_shared_memory(float* y) {
  SOFTMAP_DYNAMIC_SHARED(float, value);
  value[threadIdx.x + (bug ? 1 : 0)] = y[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = value[threadIdx.x + (bug ? 1 : 0)];
}
template <bool bug>
__global__ void misaligned_vector(float* y) {
  if (threadIdx.x >= kThreads / 4) return;
  const Four v = *reinterpret_cast<const Four*>(y + 4 * threadIdx.x + (bug ? 1 : 0));
  for (int k = 0; k < 4; ++k) y[4 * threadIdx.x + k] = bug ? v.x[k] - 1 : v.x[k];
}
template <bool bug>
__global__ void overflow_of_an_index(float* y) {
  const int row = 20'000, columns = 128'256;
  const long long at = bug ? row * (columns + static_cast<int>(threadIdx.x)) : static_cast<long long>(row) * columns;
  y[threadIdx.x] = at > 0 ? y[threadIdx.x] : -1.f;
}
template <bool bug>
__global__ void uninitialised_shared_memory(float* y) {
  SOFTMAP_SHARED(float, value, kThreads);
  if (!bug || threadIdx.x < 32) value[threadIdx.x] = y[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = value[threadIdx.x];
}
// Copies into fresh memory. Bug: the last thread does not.
template <bool bug>
__global__ void output_left_out(float* y) {
  if (!bug || threadIdx.x + 1 < kThreads) y[kFresh + threadIdx.x] = y[threadIdx.x];
}
template <bool bug>
__global__ void lanes_that_have_left(float* y) {
  if (threadIdx.x >= 20) return;
  const float other = __shfl_xor_sync(bug ? 0xffffffffu : 0xfffffu, y[threadIdx.x], 1);
  y[threadIdx.x] = other + (threadIdx.x % 2 ? 1.f : -1.f);
}
template <bool bug>
__global__ void lanes_that_diverge(float* y) {
  const float mine = y[threadIdx.x];
  float other;
  if (bug && threadIdx.x % 2) {
    other = __shfl_up_sync(0xffffffffu, mine, 1);
  } else {
    other = __shfl_xor_sync(0xffffffffu, mine, 1);
  }
  y[threadIdx.x] = other + (threadIdx.x % 2 ? 1.f : -1.f);
}
template <bool bug>
__global__ void divergent_barrier(float* y) {
  if (bug && threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] += 0;
}
template <bool bug>
__global__ void barrier_without_some(float* y) {
  if (bug && threadIdx.x == 5) return;
  y[threadIdx.x] += 0;
  __syncthreads();
}
// Thread 0 waits for a flag. Bug: of nobody.
template <bool bug>
__global__ void endless_wait(float* y) {
  auto* const flag = reinterpret_cast<unsigned*>(y + 2 * kThreads);
  if (threadIdx.x == 1 && !bug) atomicExch(flag, 1u);
  while (threadIdx.x == 0 && atomicAdd(flag, 0u) == 0) __nanosleep(100);
  y[threadIdx.x] += 0;
}

// Clusters of two blocks, each of which reads what the other holds. Bugs: nobody waits before, or after; or only counts.
enum class Omit { kNothing, kFirst, kLast, kOrder };
template <Omit omit>
__device__ void swap_in_cluster(float* y) {
  SOFTMAP_SHARED(float, value, kThreads);
  value[threadIdx.x] = y[blockIdx.x * kThreads + threadIdx.x];
  if (omit != Omit::kFirst) {
    cluster_arrive(omit != Omit::kOrder);
    cluster_wait();
  }
  const float other = *map_shared(&value[threadIdx.x], 1 - cluster_rank());
  if (omit != Omit::kLast) {
    cluster_arrive(false);
    cluster_wait();
  }
  y[blockIdx.x * kThreads + threadIdx.x] = other + (cluster_rank() ? 64.f : -64.f);
}
template <bool bug>
__global__ void cluster_does_not_wait(float* y) {
  swap_in_cluster<bug ? Omit::kFirst : Omit::kNothing>(y);
}
template <bool bug>
__global__ void cluster_orders_nothing(float* y) {
  swap_in_cluster<bug ? Omit::kOrder : Omit::kNothing>(y);
}
template <bool bug>
__global__ void cluster_reads_who_has_left(float* y) {
  swap_in_cluster<bug ? Omit::kLast : Omit::kNothing>(y);
}
// All blocks of a cooperative launch.
template <bool bug>
__global__ void grid_does_not_wait(float* y) {
  float* const there = y + 2 * kThreads;
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  there[i] = y[i];
#if defined(SOFTMAP_EMULATED)
  if (!bug) emulator::grid_sync();
#endif
  y[i] = there[i ^ kThreads] + (blockIdx.x % 2 ? 64.f : -64.f);
}

struct Planted {
  void (*kernel[2])(float*);  // clean, bug
  unsigned blocks = 1, cluster = 1;
  bool cooperative = false;
  std::size_t dynamic_shared = 0, results = 0;  // bytes; where its results start
};
#define BOTH(name) {name<false>, name<true>}
const std::map<std::string, Planted> kPlanted = {
    {"missing_barrier", {BOTH(missing_barrier)}},
    {"missing_second_barrier", {BOTH(missing_second_barrier)}},
    {"missing_syncwarp", {BOTH(missing_syncwarp)}},
    {"race_of_threads", {BOTH(race_of_threads)}},
    {"race_of_blocks", {BOTH(race_of_blocks), 2}},
    {"race_of_distant_blocks", {BOTH(race_of_blocks), 7}},
    {"race_of_partial_sums", {BOTH(race_of_partial_sums), 6}},
    {"outside_of_an_array", {BOTH(outside_of_an_array)}},
    {"outside_of_shared_memory", {BOTH(outside_of_shared_memory)}},
    {"outside_of_dynamic_shared_memory", {BOTH(outside_of_dynamic_shared_memory), 1, 1, false, kThreads * sizeof(float)}},
    {"misaligned_vector", {BOTH(misaligned_vector)}},
    {"overflow_of_an_index", {BOTH(overflow_of_an_index)}},
    {"uninitialised_shared_memory", {BOTH(uninitialised_shared_memory)}},
    {"output_left_out", {BOTH(output_left_out), 1, 1, false, 0, kFresh}},
    {"lanes_that_have_left", {BOTH(lanes_that_have_left)}},
    {"lanes_that_diverge", {BOTH(lanes_that_diverge)}},
    {"divergent_barrier", {BOTH(divergent_barrier)}},
    {"barrier_without_some", {BOTH(barrier_without_some)}},
    {"endless_wait", {BOTH(endless_wait)}},
    {"cluster_does_not_wait", {BOTH(cluster_does_not_wait), 4, 2}},
    {"cluster_orders_nothing", {BOTH(cluster_orders_nothing), 4, 2}},
    {"cluster_reads_who_has_left", {BOTH(cluster_reads_who_has_left), 4, 2}},
    {"grid_does_not_wait", {BOTH(grid_does_not_wait), 2, 1, true}},
};

// Whether the launch succeeds and its results are right.
bool passes(const std::string& name, const Planted& planted, bool bug) {
  std::vector<float> y(4 * kThreads, 0);
  std::memset(y.data() + kFresh, 0xff, kThreads * sizeof(float));
  for (std::size_t i = 0; i < 2 * kThreads; ++i) y[i] = static_cast<float>(i);
  cudaLaunchConfig_t config;
  config.gridDim = dim3(planted.blocks);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = planted.dynamic_shared;
  cudaLaunchAttribute attribute{};
  if (planted.cluster > 1 || planted.cooperative) {
    attribute.id = planted.cooperative ? cudaLaunchAttributeCooperative : cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = dim3(planted.cluster);
    attribute.val.cooperative = planted.cooperative;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  const cudaError_t error = cudaLaunchKernelEx(&config, planted.kernel[bug], y.data());
  if (error != cudaSuccess) {
    printf("%s refused: %s\n", name.c_str(), cudaGetErrorString(error));
    return false;
  }
  for (std::size_t i = 0; i < kThreads; ++i) {
    const float result = y[planted.results + i];
    if (result == static_cast<float>(i)) continue;
    printf("%s wrong: y[%zu] = %g\n", name.c_str(), i, static_cast<double>(result));
    return false;
  }
  return true;
}

}  // namespace

int main(int n_arguments, char** arguments) {
  const std::string wanted = n_arguments > 1 ? arguments[1] : "";
  if (kPlanted.count(wanted)) return passes(wanted, kPlanted.at(wanted), true) ? 0 : 1;
  bool all_pass = true;
  for (const auto& [name, planted] : kPlanted) {
    if (wanted == "clean") {
      all_pass = passes(name, planted, false) && all_pass;
    } else {
      puts(name.c_str());
    }
  }
  return all_pass ? 0 : 1;
}
