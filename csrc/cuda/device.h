#pragma once
// One include for kernels: CUDA under nvcc and NVRTC, the emulator of tests/emulator under g++.
#if defined(__CUDACC__)
#if !defined(__CUDACC_RTC__)
#include <cuda_runtime.h>
#endif
// Aligned for vectors of 16 bytes.
#define SOFTMAP_SHARED(T, name, n) __shared__ alignas(alignof(T) > 16 ? alignof(T) : 16) T name[n]
#define SOFTMAP_DYNAMIC_SHARED(T, name)                                  \
  extern __shared__ __align__(16) unsigned char dynamic_shared_memory[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared_memory)
#else
#include "cuda_emulator.h"
#endif

#include "views.h"

namespace softmap::cuda {
namespace {

// What a kernel is compiled for, as 90 for sm_90; the host has 0.
#if defined(__CUDA_ARCH__)
inline constexpr int kArchitecture = __CUDA_ARCH__ / 10;
#else
inline constexpr int kArchitecture = 0;
#endif

// The value that the lane whose number differs by `mask` holds, of any type of some 32-bit words.
template <class V>
__device__ V exchange(V value, int mask) {
#if defined(SOFTMAP_EMULATED)
  return __shfl_xor_sync(0xffffffffu, value, mask);
#else
  static_assert(sizeof(V) % 4 == 0);
  unsigned word[sizeof(V) / 4];
  memcpy(word, &value, sizeof value);
#pragma unroll
  for (unsigned& w : word) w = __shfl_xor_sync(0xffffffffu, w, mask);
  memcpy(&value, word, sizeof value);
  return value;
#endif
}

}  // namespace
}  // namespace softmap::cuda
