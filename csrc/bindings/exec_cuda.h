#pragma once
#include <cstring>

#include "bindings/array.h"
#include "cuda/exec.h"

namespace softmap::bindings {

// A fresh C-contiguous array of the host that plays one of a device: in the emulator. Until it is written it reads as NaN.
inline py::array played_array(const py::dtype& dtype, py::ssize_t ndim, const py::ssize_t* shape) {
  py::array a = numpy_array(dtype, ndim, shape);
  std::memset(a.mutable_data(), 0xff, static_cast<std::size_t>(a.nbytes()));
  return a;
}

// What a call on a device needs. Its scratch memory lives as long as it does.
class Run {
 public:
  Run(int device, std::uintptr_t stream, py::object allocate)
      : device_(device), stream_(reinterpret_cast<void*>(stream)), allocate_(std::move(allocate)) {}
  // True where the memory of the device is memory of the host, and arrays are NumPy's own: in the emulator.
  bool on_host() const { return allocate_.is_none(); }

  py::array make(const py::dtype& dtype, const py::tuple& shape) const {
    return py::reinterpret_borrow<py::array>(allocate_(shape, dtype));
  }
  void* scratch(std::size_t bytes) const {
    const py::gil_scoped_acquire gil;
    const auto size = static_cast<py::ssize_t>(bytes);
    const auto dtype = py::dtype::of<std::uint8_t>();
    py::array memory = on_host() ? played_array(dtype, 1, &size) : make(dtype, py::make_tuple(size));
    scratch_.append(memory);
    return memory.mutable_data();
  }
  cuda::Exec exec() const {
    const auto allocate = [](void* run, std::size_t bytes) { return static_cast<const Run*>(run)->scratch(bytes); };
    return {device_, stream_, allocate, const_cast<Run*>(this)};
  }

 private:
  int device_;
  void* stream_;
  py::object allocate_;
  mutable py::list scratch_;
};

inline cuda::Exec make_exec(const Run& run) { return run.exec(); }

inline Run run_for(const char* function, py::handle given) {
  if (PyTuple_Check(given.ptr()) && PyTuple_GET_SIZE(given.ptr()) == 3) {
    const auto t = py::reinterpret_borrow<py::tuple>(given);
    return {py::cast<int>(t[0]), py::cast<std::uintptr_t>(t[1]), t[2]};
  }
#if defined(SOFTMAP_EMULATED_MODULE)
  thread_count(function, given, 1);
  return {0, 0, py::none()};
#else
  throw py::type_error(std::string(function) + ": n_threads = " + std::string(py::repr(given)) +
                       ", for the CUDA backend it must be a tuple (device, stream, allocate)");
#endif
}

// A fresh C-contiguous array of the given dtype, in memory of the device.
inline py::array new_array(const Run& run, const py::dtype& dtype, py::ssize_t ndim, const py::ssize_t* shape) {
  if (run.on_host()) return played_array(dtype, ndim, shape);
  py::tuple extents(ndim);
  for (py::ssize_t k = 0; k < ndim; ++k) extents[static_cast<std::size_t>(k)] = py::int_(shape[k]);
  return run.make(dtype, extents);
}

}  // namespace softmap::bindings
