#pragma once
// From Python arrays to views, without a copy. An argument that does not fit (another library, dtype, byte order,
// alignment) makes a binding return NotImplemented, and the Python layer adapts it; only errors of the user are raised.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "core/half.h"
#include "views.h"

namespace softmap::bindings {

namespace py = pybind11;

// Element types of the kernels. kOther is what only the Python layer can adapt.
enum class Element { kFloat, kDouble, kHalf, kBFloat16, kOther };

template <class S>
inline constexpr Element kElement = Element::kOther;
template <>
inline constexpr Element kElement<float> = Element::kFloat;
template <>
inline constexpr Element kElement<double> = Element::kDouble;

// The element type of an aligned native array that the kernels can read where it lies, otherwise kOther. bfloat16 is a dtype
// registered by another package, known by its name alone, or, without that package, the structure [("bfloat16", "u2")].
inline Element element_of(const py::array& a) {
  const auto dtype = a.dtype();
  if (dtype.byteorder() == '>' || dtype.byteorder() == '<' || !(a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
    return Element::kOther;
  }
  constexpr int kHalfNum = 23, kFirstUserNum = 256;
  switch (const int num = dtype.num()) {
    case py::detail::npy_api::NPY_FLOAT_:
      return Element::kFloat;
    case py::detail::npy_api::NPY_DOUBLE_:
      return Element::kDouble;
    case kHalfNum:
      return Element::kHalf;
    default: {
      if ((num < kFirstUserNum && num != py::detail::npy_api::NPY_VOID_) || dtype.itemsize() != 2) return Element::kOther;
      const py::object name = num < kFirstUserNum ? dtype.attr("names") : dtype.attr("name");
      const bool is_bfloat16 = name.equal(num < kFirstUserNum ? py::object(py::make_tuple("bfloat16")) : py::str("bfloat16"));
      return is_bfloat16 ? Element::kBFloat16 : Element::kOther;
    }
  }
}

// Calls f<S>() for the storage type S of `element`, which is not kOther.
template <class F>
py::object with_storage(Element element, F&& f) {
  switch (element) {
    case Element::kFloat:
      return f.template operator()<float>();
    case Element::kDouble:
      return f.template operator()<double>();
    case Element::kHalf:
      return f.template operator()<core::Half>();
    default:
      return f.template operator()<core::BFloat16>();
  }
}

inline std::string shape_text(const py::array& a) {
  std::string s = "(";
  for (py::ssize_t k = 0; k < a.ndim(); ++k) s.append(k ? ", " : "").append(std::to_string(a.shape(k)));
  return s + (a.ndim() == 1 ? ",)" : ")");
}

[[noreturn]] inline void raise_axis(const std::string& message) {
  const auto type = py::module_::import("numpy.exceptions").attr("AxisError");
  PyErr_SetString(type.ptr(), message.c_str());
  throw py::error_already_set();
}

// The axes to reduce as one bit an axis, from None, an integer or a tuple of integers.
inline std::uint64_t axis_bits(const char* function, const py::array& x, py::handle axis, const char* name = "x") {
  const auto ndim = x.ndim();
  if (axis.is_none()) return ndim == 64 ? ~std::uint64_t(0) : (std::uint64_t(1) << ndim) - 1;
  std::uint64_t bits = 0;
  const auto add = [&](py::handle item) {
    const Py_ssize_t given = PyNumber_AsSsize_t(item.ptr(), nullptr);  // clipped where it is too large
    if (given == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      throw py::type_error(std::string(function) + ": axis = " + std::string(py::repr(axis)) +
                           ", it must be an integer, a tuple of integers or None");
    }
    const Py_ssize_t k = given < 0 ? given + ndim : given;
    if (k < 0 || k >= ndim) {
      raise_axis(std::string(function) + ": axis " + std::string(py::str(item)) + " is out of range for " + name + " of shape " +
                 shape_text(x));
    }
    if (bits >> k & 1) {
      throw py::value_error(std::string(function) + ": axis " + std::to_string(given) + " is given twice");
    }
    bits |= std::uint64_t(1) << k;
  };
  if (PyTuple_Check(axis.ptr()) || PyList_Check(axis.ptr())) {
    for (const auto item : axis) add(item);
  } else {
    add(axis);
  }
  return bits;
}

// The axes of `a` whose bit equals `wanted`, neighbours that lie in memory as one merged.
inline Axes select_axes(const py::array& a, std::uint64_t bits, bool wanted) {
  Axes r;
  const auto item = a.itemsize();
  for (py::ssize_t k = 0; k < a.ndim(); ++k) {
    if ((bits >> k & 1) != wanted || a.shape(k) == 1) continue;
    const Index extent = a.shape(k), stride = a.strides(k) / item;
    if (r.n > 0 && r.stride[r.n - 1] == stride * extent) {
      r.extent[r.n - 1] *= extent;
      r.stride[r.n - 1] = stride;
    } else {
      r.extent[r.n] = extent;
      r.stride[r.n++] = stride;
    }
  }
  return r;
}

template <class T>
Rows<const T> const_rows(const py::array& a, std::uint64_t bits) {
  return {static_cast<const T*>(a.data()), select_axes(a, bits, false), select_axes(a, bits, true)};
}
template <class T>
Rows<T> mutable_rows(py::array& a, std::uint64_t bits) {
  return {static_cast<T*>(a.mutable_data()), select_axes(a, bits, false), select_axes(a, bits, true)};
}

// Shape of x without the reduced axes, or with 1 in their places.
inline std::vector<py::ssize_t> reduced_shape(const py::array& x, std::uint64_t bits, bool keepdims = false) {
  std::vector<py::ssize_t> shape;
  for (py::ssize_t k = 0; k < x.ndim(); ++k) {
    const bool reduced = bits >> k & 1;
    if (!reduced || keepdims) shape.push_back(reduced ? 1 : x.shape(k));
  }
  return shape;
}

// The first byte of an array and the one after its last.
inline std::pair<const char*, const char*> extent(const py::array& a) {
  const char* low = static_cast<const char*>(a.data());
  const char* high = low + a.itemsize();
  for (py::ssize_t k = 0; k < a.ndim(); ++k) {
    const auto span = (a.shape(k) - 1) * a.strides(k);
    (span < 0 ? low : high) += span;
  }
  return {low, high};
}

// True where writing b entry by entry cannot spoil an entry of a that is still to be read: apart, or the same view.
inline bool safe_to_write(const py::array& a, const py::array& b) {
  if (a.size() == 0) return true;
  const auto [a_low, a_high] = extent(a);
  const auto [b_low, b_high] = extent(b);
  if (a_high <= b_low || b_high <= a_low) return true;
  bool same = a.data() == b.data();
  for (py::ssize_t k = 0; same && k < a.ndim(); ++k) same = a.strides(k) == b.strides(k);
  return same;
}

// True where no two entries share memory, by strides: those of an axis reach beyond all that lies within.
inline bool entries_apart(const py::array& a) {
  if (a.flags() & py::array::c_style || a.size() == 0) return true;
  std::vector<std::pair<py::ssize_t, py::ssize_t>> axes;  // stride, size
  for (py::ssize_t k = 0; k < a.ndim(); ++k) axes.emplace_back(std::abs(a.strides(k)), a.shape(k));
  std::sort(axes.begin(), axes.end());
  py::ssize_t reach = a.itemsize();
  for (const auto& [stride, size] : axes) {
    if (size > 1 && stride < reach) return false;
    reach += stride * (size - 1);
  }
  return true;
}

// A fresh C-contiguous array in memory of NumPy.
inline py::array numpy_array(const py::dtype& dtype, py::ssize_t ndim, const py::ssize_t* shape) {
  const auto& api = py::detail::npy_api::get();
  PyObject* const a = api.PyArray_NewFromDescr_(api.PyArray_Type_, dtype.inc_ref().ptr(), static_cast<int>(ndim), shape, nullptr,
                                                nullptr, 0, nullptr);
  if (!a) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(a);
}

// As NumPy does: a 0-d result is a scalar.
inline py::object scalar_if_0d(py::array result) {
  if (result.ndim() > 0) return result;
  return result[py::tuple()];
}

// Releases the GIL where the work is long enough to be worth it.
class ReleaseIf {
 public:
  explicit ReleaseIf(bool release) : state_(release ? PyEval_SaveThread() : nullptr) {}
  ~ReleaseIf() {
    if (state_) PyEval_RestoreThread(state_);
  }
  ReleaseIf(const ReleaseIf&) = delete;
  ReleaseIf& operator=(const ReleaseIf&) = delete;

 private:
  PyThreadState* state_;
};
inline constexpr Index kReleaseElements = 1 << 13;

// n_threads as the user gave it: None means the default.
inline int thread_count(const char* function, py::handle n_threads, int default_threads) {
  if (n_threads.is_none()) return default_threads;
  const auto message = [&] {
    return std::string(function) + ": n_threads = " + std::string(py::repr(n_threads)) +
           ", it must be an integer of at least 1 or None";
  };
  if (!PyIndex_Check(n_threads.ptr()) || PyBool_Check(n_threads.ptr())) throw py::type_error(message());
  const Py_ssize_t n = PyNumber_AsSsize_t(n_threads.ptr(), nullptr);  // clipped where it is too large
  if (n < 1) {
    PyErr_Clear();
    throw py::value_error(message());
  }
  return n < 4096 ? static_cast<int>(n) : 4096;
}

}  // namespace softmap::bindings
