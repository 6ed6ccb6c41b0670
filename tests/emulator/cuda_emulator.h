// CPU block emulator: compiles the very .cu kernels with g++ (one fiber per CUDA thread).
// Rules for kernels: shared memory through SOFTMAP_SHARED / SOFTMAP_DYNAMIC_SHARED, launches through
// cudaLaunchKernelEx, warp primitives only in their *_sync form, no CUB / cooperative_groups.
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
struct View {
  uint3 tid, bid;
};
void syncthreads(const char* f, int l);
void rendezvous(unsigned mask, const char* op, int line);  // __syncwarp
// exchange: publish `n` bytes, wait for the mask, then read lane `src`
void exchange(unsigned mask, const void* in, void* out, int n, int src, const char* op, int line);
unsigned gather_pred(unsigned mask, bool p, const char* op, int line);
int lane();
void* shared_static(const void* site, size_t bytes, size_t align);
void* shared_dyn();
void fence();
void yield();  // for spin loops
unsigned cluster_rank();
unsigned cluster_size();
void cluster_sync(int line);
void* map_shared(void* p, unsigned rank);
void grid_sync(int line);
using Body = std::function<void()>;
struct Cfg {
  dim3 grid, block;
  size_t smem;
  unsigned cluster;
  bool coop;
};
int launch(const Cfg&, const void* fn, const char* name, const Body& body);
template <class T>
T poison() {
  T t;
  memset(static_cast<void*>(&t), 0xff, sizeof t);
  return t;
}
template <class T>
T shfl(unsigned mask, T v, int src, const char* op, int line) {
  static_assert(sizeof(T) <= 16, "shfl type");
  T r = poison<T>();
  exchange(mask, &v, &r, int(sizeof(T)), src, op, line);
  return r;
}
inline int xsrc(int j, int w) {
  int l = lane();
  int s = l ^ j;
  return (s / w == l / w || s < l / w * w) ? s : l;
}
inline int dsrc(int d, int w) {
  int l = lane();
  return (l % w) + d < w ? l + d : l;
}
inline int usrc(int d, int w) {
  int l = lane();
  return (l % w) - d >= 0 ? l - d : l;
}
inline int isrc(int i, int w) {
  int l = lane();
  return l / w * w + ((i % w + w) % w);
}
}  // namespace emulator
// set at every switch into a fiber (all fibers of a launch run on one OS thread)
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
#define warpSize 32
#define __syncthreads() emulator::syncthreads(__FILE__, __LINE__)
#define __syncwarp(...) emulator::rendezvous(emulator::mask_arg(__VA_ARGS__), "syncwarp", __LINE__)
namespace emulator {
inline unsigned mask_arg(unsigned m = 0xffffffffu) { return m; }
inline int w_arg(int w = 32) { return w; }
}  // namespace emulator
#define __shfl_xor_sync(m, v, j, ...) \
  emulator::shfl((m), (v), emulator::xsrc((j), emulator::w_arg(__VA_ARGS__)), "shfl_xor", __LINE__)
#define __shfl_down_sync(m, v, j, ...) \
  emulator::shfl((m), (v), emulator::dsrc((j), emulator::w_arg(__VA_ARGS__)), "shfl_down", __LINE__)
#define __shfl_up_sync(m, v, j, ...) \
  emulator::shfl((m), (v), emulator::usrc((j), emulator::w_arg(__VA_ARGS__)), "shfl_up", __LINE__)
#define __shfl_sync(m, v, j, ...) emulator::shfl((m), (v), emulator::isrc((j), emulator::w_arg(__VA_ARGS__)), "shfl", __LINE__)
#define __ballot_sync(m, p) emulator::gather_pred((m), !!(p), "ballot", __LINE__)
#define __any_sync(m, p) (emulator::gather_pred((m), !!(p), "any", __LINE__) != 0)
#define __all_sync(m, p) (emulator::gather_pred((m), !(p), "all", __LINE__) == 0)
#define __threadfence() emulator::fence()
#define __nanosleep(n) emulator::yield()
#define SOFTMAP_SHARED(T, name, n) \
  static char site_of_##name;      \
  T(&name)[n] = *static_cast<T(*)[n]>(emulator::shared_static(&site_of_##name, sizeof(T[n]), alignof(T) > 16 ? alignof(T) : 16))
#define SOFTMAP_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(emulator::shared_dyn())
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
inline T atomicAdd(T* p, T v) {
  if constexpr (sizeof(T) == 4) {
    uint32_t o = __atomic_load_n(reinterpret_cast<uint32_t*>(p), __ATOMIC_RELAXED), n;
    T t;
    do {
      memcpy(&t, &o, 4);
      T s = T(t + v);
      memcpy(&n, &s, 4);
    } while (!__atomic_compare_exchange_n(reinterpret_cast<uint32_t*>(p), &o, n, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return t;
  } else {
    uint64_t o = __atomic_load_n(reinterpret_cast<uint64_t*>(p), __ATOMIC_RELAXED), n;
    T t;
    do {
      memcpy(&t, &o, 8);
      T s = T(t + v);
      memcpy(&n, &s, 8);
    } while (!__atomic_compare_exchange_n(reinterpret_cast<uint64_t*>(p), &o, n, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return t;
  }
}
// ---- the few host runtime calls the launchers use -------------------------------------------
enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719
};
using cudaStream_t = void*;
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributeNonPortableClusterSizeAllowed = 13 };
enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative = 2, cudaLaunchAttributeClusterDimension = 4 };
struct cudaLaunchAttributeValue {
  dim3 clusterDim;
  int cooperative;
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
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int dev);
inline cudaError_t cudaSetDevice(int d) { return d == 0 ? cudaSuccess : cudaErrorInvalidValue; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1 };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  memcpy(to, from, bytes);
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
  emulator::Cfg g{c->gridDim, c->blockDim, c->dynamicSmemBytes, 1, false};
  for (unsigned i = 0; i < c->numAttrs; ++i) {
    if (c->attrs[i].id == cudaLaunchAttributeClusterDimension) g.cluster = c->attrs[i].val.clusterDim.x;
    if (c->attrs[i].id == cudaLaunchAttributeCooperative) g.coop = c->attrs[i].val.cooperative != 0;
  }
  return static_cast<cudaError_t>(
      emulator::launch(g, reinterpret_cast<const void*>(k), __PRETTY_FUNCTION__, [&] { std::apply(k, args); }));
}
