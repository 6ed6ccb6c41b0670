#pragma once
// How this module's backend is told to run, and where its results lie. A Run is made from the argument n_threads:
//
//   cpu    an integer, or None for the default
//   cuda   a tuple (device, stream, allocate): allocate(shape, dtype) returns a NumPy array that describes fresh memory of the
//          device. Nothing here reads or writes such memory.
#include "bindings/array.h"

#if defined(SOFTMAP_DEVICE)
#include "bindings/exec_cuda.h"
#else
#include "bindings/exec_cpu.h"
#endif

namespace softmap::bindings {

template <class T>
py::array new_array(const Run& run, const std::vector<py::ssize_t>& shape) {
  return new_array(run, py::dtype::of<T>(), static_cast<py::ssize_t>(shape.size()), shape.data());
}

// As NumPy does: a 0-d result is a scalar.
inline py::object scalar_if_0d(const Run& run, py::array result) {
  if (result.ndim() > 0 || !run.on_host()) return result;
  return result[py::tuple()];
}

// For the Python layer, where no kernel is called.
inline void check_threads(const std::string& function, py::handle n_threads) { thread_count(function.c_str(), n_threads, 1); }

}  // namespace softmap::bindings
