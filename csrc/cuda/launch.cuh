#pragma once
// How kernels are launched. The only file that knows grids.
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/exec.h"

namespace softmap::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // the next call starts anew
  throw std::runtime_error(std::string("softmap: ") + what + ": CUDA error " + std::to_string(static_cast<int>(error)) + ", " +
                           cudaGetErrorString(error));
}

// All kernels that this module can launch; for preload().
inline std::vector<const void*>& kernels() {
  static std::vector<const void*> all;
  return all;
}
template <auto kernel>
struct Registered {
  static inline const bool done = (kernels().push_back(reinterpret_cast<const void*>(kernel)), true);
};

// Makes the device of a call the current one, and the caller's again at the end.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
    changed_ = device != before_;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

inline int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

// `groups` pieces of work, dealt out to blocks that take `per_block` at a time, in a loop.
struct Work {
  Index groups;
  int per_block, threads;        // of a block
  std::size_t shared_bytes = 0;  // dynamic, of a block
  int cluster = 1;               // blocks that share a piece of work
};

// No more blocks than keep the device busy: the rest of the work is done in the loop of the kernel.
inline constexpr int kBlocksPerProcessor = 32;

// SOFTMAP_CUDA_SYNC=1: an error of a kernel, which otherwise shows at some later call, is one of the call that has launched it.
inline bool waits_for_each() {
  static const bool wait = std::getenv("SOFTMAP_CUDA_SYNC") && std::string(std::getenv("SOFTMAP_CUDA_SYNC")) == "1";
  return wait;
}

// What is launched; config points to it where it is a cluster.
struct Launch {
  cudaLaunchConfig_t config{};
  cudaLaunchAttribute attributes[1] = {};
  Launch(const Launch&) = delete;

  Launch(const Exec& exec, const Work& work, Index n_groups) {
    config.gridDim = dim3(static_cast<unsigned>(work.cluster * n_groups));
    config.blockDim = dim3(static_cast<unsigned>(work.threads));
    config.dynamicSmemBytes = work.shared_bytes;
    config.stream = static_cast<cudaStream_t>(exec.stream);
    if (work.cluster == 1) return;
    attributes[0].id = cudaLaunchAttributeClusterDimension;
    attributes[0].val.clusterDim.x = static_cast<unsigned>(work.cluster);
    attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
    config.attrs = attributes;
    config.numAttrs = 1;
  }
};

// Allows a kernel on the current device what is not allowed by itself.
template <auto kernel>
void allow(const Work& work) {
  constexpr std::size_t kSharedBytes = 48 * 1024;
  constexpr int kCluster = 8;
  const auto set = [](cudaFuncAttribute what, int value) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), what, value), "cudaFuncSetAttribute");
  };
  if (work.shared_bytes > kSharedBytes) set(cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(work.shared_bytes));
  if (work.cluster > kCluster) set(cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
}

// Whether the device has room for clusters of that many blocks of the kernel.
template <auto kernel>
bool has_clusters(const Exec& exec, const Work& work) {
  (void)Registered<kernel>::done;
  enum : signed char { kUnknown, kNo, kYes };
  constexpr int kDevices = 64, kSizes = 17;
  static std::atomic<signed char> known[kDevices][kSizes];
  auto& found = known[exec.device % kDevices][work.cluster];
  if (const signed char k = found.load(); k != kUnknown) return k == kYes;
  const OnDevice guard(exec.device);
  bool fits = attribute(cudaDevAttrComputeCapabilityMajor, exec.device) >= 9;
  if (fits) {
    allow<kernel>(work);
    const Launch one(exec, work, 1);
    int n = 0;
    fits = cudaOccupancyMaxActiveClusters(&n, reinterpret_cast<const void*>(kernel), &one.config) == cudaSuccess && n > 0;
    if (!fits) cudaGetLastError();
  }
  found = fits ? kYes : kNo;
  return fits;
}

template <auto kernel, class... Arguments>
void launch(const Exec& exec, const Work& work, const Arguments&... arguments) {
  (void)Registered<kernel>::done;
  if (work.groups <= 0) return;
  const OnDevice guard(exec.device);
  const Index wanted = (work.groups + work.per_block - 1) / work.per_block;
  const Index most = Index(kBlocksPerProcessor) * attribute(cudaDevAttrMultiProcessorCount, exec.device);
  const Launch what(exec, work, wanted < most ? wanted : most);
  allow<kernel>(work);
  check(cudaLaunchKernelEx(&what.config, kernel, arguments...), "launch of a kernel");
  if (waits_for_each()) check(cudaStreamSynchronize(what.config.stream), "SOFTMAP_CUDA_SYNC");
}

}  // namespace softmap::cuda
