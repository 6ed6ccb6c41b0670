#pragma once
#include "bindings/array.h"
#include "cpu/exec.h"
#include "cpu/parallel.h"

namespace softmap::bindings {

struct Run {
  int n_threads;
  static bool on_host() { return true; }
};
inline Run run_for(const char* function, py::handle n_threads) {
  return {thread_count(function, n_threads, cpu::runtime().default_threads())};
}
inline cpu::Exec make_exec(const Run& run) { return {run.n_threads}; }

// From this size on results come from the pool of blocks.
inline constexpr std::size_t kPoolBytes = std::size_t(1) << 20;

// A fresh C-contiguous array of the given dtype.
inline py::array new_array(const Run&, const py::dtype& dtype, py::ssize_t ndim, const py::ssize_t* shape) {
  std::size_t bytes = static_cast<std::size_t>(dtype.itemsize());
  for (py::ssize_t k = 0; k < ndim; ++k) bytes *= static_cast<std::size_t>(shape[k]);
  if (bytes >= kPoolBytes) {
    if (void* const block = cpu::runtime().acquire(bytes)) {
      const py::capsule owner(block, [](void* p) { cpu::runtime().release(p); });
      return py::array(dtype, std::vector<py::ssize_t>(shape, shape + ndim), block, owner);
    }
  }
  return numpy_array(dtype, ndim, shape);
}

}  // namespace softmap::bindings
