#pragma once
#include <cstddef>
namespace softmap::cuda {
struct Exec {
  int device;
  void* stream;  // cudaStream_t; null is the legacy stream
  // Device memory that lives until the call has returned, and on its stream as long as work was enqueued.
  void* (*allocate)(void* context, std::size_t bytes);
  void* context;

  template <class T>
  T* scratch(std::ptrdiff_t n) const {
    return static_cast<T*>(allocate(context, sizeof(T) * static_cast<std::size_t>(n)));
  }
};

int device_count();        // 0 without a driver
void preload(int device);  // -1: the current one. Loads all kernels, so that none is loaded while a graph is captured
}  // namespace softmap::cuda
