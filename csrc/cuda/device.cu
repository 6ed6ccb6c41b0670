#include "cuda/launch.cuh"

namespace softmap::cuda {

int device_count() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

void preload(int device) {
  if (device < 0) check(cudaGetDevice(&device), "preload");
  const OnDevice guard(device);
  for (const void* kernel : kernels()) {
    cudaFuncAttributes attributes;
    check(cudaFuncGetAttributes(&attributes, kernel), "preload");
  }
}

}  // namespace softmap::cuda
