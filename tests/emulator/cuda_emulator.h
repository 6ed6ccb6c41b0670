// The device side of CUDA for g++, so that the very .cu files run on the CPU, a fiber for each CUDA thread. It wants of kernels:
// shared memory by SOFTMAP_SHARED and SOFTMAP_DYNAMIC_SHARED, launches by cudaLaunchKernelEx, primitives of warps in their
// *_sync form, __nanosleep in loops that wait for other blocks, no CUB and no cooperative_groups.
//
//   SOFTMAP_EMULATOR_SCHEDULE   forward (default), reverse, or a seed: which of the threads that can go on does, and the order
//                               of blocks
//   SOFTMAP_EMULATOR_RESIDENT   blocks that run at the same time: 1, and 3 under the thread sanitizer
//   SOFTMAP_EMULATOR_FAIL       1: each launch fails as a kernel does that runs into an error, which shows at a later call
//   SOFTMAP_EMULATOR_OMIT       1: the last blocks of each launch do not run, a cluster of them; for tests of tests
//   SOFTMAP_EMULATOR_SMS        multiprocessors, 1: grids that are no larger than the device loop, and reuse shared memory
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define SOFTMAP_EMULATED 1

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};

namespace emulator {
// Where in a kernel a call stands; each of them takes it by default arguments.
struct Site {
  const char *what, *file;
  int line;
};
#define SOFTMAP_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void meet_block(Site);                // __syncthreads
int meet_block_counting(bool, Site);  // how many threads of the block said true
void meet_warp(unsigned mask, Site);  // __syncwarp
// Publishes n bytes, waits for the lanes of the mask, reads what lane `source` published.
void exchange(unsigned mask, const void* in, void* out, int n, int source, Site);
unsigned ballot(unsigned mask, bool, Site);
int lane();
void* shared_static(const void* key, size_t bytes, size_t align, Site);
void* shared_dynamic();
void fence();
void rest();  // in a loop that waits for another thread
template <class T>
T poison() {
  T t;
  memset(static_cast<void*>(&t), 0xff, sizeof t);
  return t;
}
template <class T>
T shuffle(unsigned mask, T value, int source, Site site) {
  static_assert(sizeof(T) <= 16, "type of a shuffle");
  T result = poison<T>();
  exchange(mask, &value, &result, int(sizeof(T)), source, site);
  return result;
}
// The lane that a shuffle reads, in parts of w lanes.
inline int xor_lane(int j, int w) {
  int l = lane();
  int s = l ^ j;
  return (s / w == l / w || s < l / w * w) ? s : l;
}
inline int down_lane(int d, int w) {
  int l = lane();
  return (l % w) + d < w ? l + d : l;
}
inline int up_lane(int d, int w) {
  int l = lane();
  return (l % w) - d >= 0 ? l - d : l;
}
inline int index_lane(int i, int w) {
  int l = lane();
  return l / w * w + ((i % w + w) % w);
}

// Blocks of a cluster, and all blocks of a cooperative launch. cluster_arrive(false) orders no memory.
unsigned cluster_rank();
unsigned cluster_size();
void cluster_arrive(bool release = true, SOFTMAP_SITE);
void cluster_wait(SOFTMAP_SITE);
inline void cluster_sync(SOFTMAP_SITE) {
  cluster_arrive(true, file, line);
  cluster_wait(file, line);
}
void* map_shared(void* p, unsigned rank);
template <class T>
T* map_shared(T* p, unsigned rank) {
  return static_cast<T*>(map_shared(static_cast<void*>(p), rank));
}
void grid_sync(SOFTMAP_SITE);

struct Launch {
  dim3 grid, block;
  size_t dynamic_shared;
  unsigned cluster;
  bool cooperative;
  const void* kernel;
};
int launch(const Launch&, const std::function<void()>& body);

inline unsigned mask_of(unsigned mask = 0xffffffffu) { return mask; }
inline int width_of(int width = 32) { return width; }
}  // namespace emulator
// Set at every switch to a thread: all threads of a launch run on one of the host.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
#define warpSize 32
#define SOFTMAP_HERE(what) \
  emulator::Site { what, __FILE__, __LINE__ }
#define __syncthreads() emulator::meet_block(SOFTMAP_HERE("__syncthreads"))
#define __syncthreads_count(p) emulator::meet_block_counting(!!(p), SOFTMAP_HERE("__syncthreads_count"))
#define __syncthreads_or(p) (emulator::meet_block_counting(!!(p), SOFTMAP_HERE("__syncthreads_or")) > 0)
#define __syncthreads_and(p) (emulator::meet_block_counting(!(p), SOFTMAP_HERE("__syncthreads_and")) == 0)
#define __syncwarp(...) emulator::meet_warp(emulator::mask_of(__VA_ARGS__), SOFTMAP_HERE("__syncwarp"))
#define __shfl_xor_sync(m, v, j, ...) \
  emulator::shuffle((m), (v), emulator::xor_lane((j), emulator::width_of(__VA_ARGS__)), SOFTMAP_HERE("__shfl_xor_sync"))
#define __shfl_down_sync(m, v, j, ...) \
  emulator::shuffle((m), (v), emulator::down_lane((j), emulator::width_of(__VA_ARGS__)), SOFTMAP_HERE("__shfl_down_sync"))
#define __shfl_up_sync(m, v, j, ...) \
  emulator::shuffle((m), (v), emulator::up_lane((j), emulator::width_of(__VA_ARGS__)), SOFTMAP_HERE("__shfl_up_sync"))
#define __shfl_sync(m, v, j, ...) \
  emulator::shuffle((m), (v), emulator::index_lane((j), emulator::width_of(__VA_ARGS__)), SOFTMAP_HERE("__shfl_sync"))
#define __ballot_sync(m, p) emulator::ballot((m), !!(p), SOFTMAP_HERE("__ballot_sync"))
#define __any_sync(m, p) (emulator::ballot((m), !!(p), SOFTMAP_HERE("__any_sync")) != 0)
#define __all_sync(m, p) (emulator::ballot((m), !(p), SOFTMAP_HERE("__all_sync")) == 0)
#define __threadfence() emulator::fence()
#define __threadfence_block() emulator::fence()
#define __nanosleep(n) emulator::rest()
#define SOFTMAP_SHARED(T, name, n)                                                                                     \
  static char key_of_##name;                                                                                           \
  T(&name)                                                                                                             \
  [n] = *static_cast<T(*)[n]>(emulator::shared_static(&key_of_##name, sizeof(T[n]), alignof(T) > 16 ? alignof(T) : 16, \
                                                      SOFTMAP_HERE("the shared array " #name)))
#define SOFTMAP_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(emulator::shared_dynamic())
// device functions that g++ lacks
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
inline void __stcs(T* p, T value) {
  *p = value;
}
// What `change` makes of *p, which no other thread meets half changed.
namespace emulator {
template <class T, class Change>
T atomically(T* p, const Change& change) {
  T old, made;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do made = change(old);
  while (!__atomic_compare_exchange(p, &old, &made, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
  return old;
}
}  // namespace emulator
template <class T>
inline T atomicAdd(T* p, T value) {
  return emulator::atomically(p, [=](T old) { return T(old + value); });
}
template <class T>
inline T atomicMax(T* p, T value) {
  return emulator::atomically(p, [=](T old) { return old < value ? value : old; });
}
template <class T>
inline T atomicExch(T* p, T value) {
  return emulator::atomically(p, [=](T) { return value; });
}
template <class T>
inline T atomicCAS(T* p, T expected, T value) {
  return emulator::atomically(p, [=](T old) { return old == expected ? value : old; });
}
// The few calls of the runtime that launchers use.
enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719
};
using cudaStream_t = void*;
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributeNonPortableClusterSizeAllowed = 13 };
enum cudaLaunchAttributeID {
  cudaLaunchAttributeCooperative = 2,
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6
};
struct cudaLaunchAttributeValue {
  dim3 clusterDim;
  int cooperative;
  int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};
cudaError_t cudaFuncSetAttribute(const void* f, cudaFuncAttribute a, int v);
cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetDeviceCount(int* n);
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrCooperativeLaunch = 95,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrClusterLaunch = 120
};
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int dev);
inline cudaError_t cudaSetDevice(int d) { return d == 0 ? cudaSuccess : cudaErrorInvalidValue; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
inline cudaError_t cudaOccupancyMaxActiveClusters(int* n, const void*, const cudaLaunchConfig_t*) {
  *n = 1;
  return cudaSuccess;
}
struct cudaFuncAttributes {};
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* d) {
  *d = 0;
  return cudaSuccess;
}
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* c, void (*k)(P...), A&&... a) {
  std::tuple<P...> args{static_cast<P>(a)...};
  emulator::Launch g{c->gridDim, c->blockDim, c->dynamicSmemBytes, 1, false, reinterpret_cast<const void*>(k)};
  for (unsigned i = 0; i < c->numAttrs; ++i) {
    if (c->attrs[i].id == cudaLaunchAttributeClusterDimension) g.cluster = c->attrs[i].val.clusterDim.x;
    if (c->attrs[i].id == cudaLaunchAttributeCooperative) g.cooperative = c->attrs[i].val.cooperative != 0;
  }
  return static_cast<cudaError_t>(emulator::launch(g, [&] { std::apply(k, args); }));
}
// Kernels of a stream run one after the other: nothing is to be waited for.
inline void cudaGridDependencySynchronize() {}
inline void cudaTriggerProgrammaticLaunchCompletion() {}
