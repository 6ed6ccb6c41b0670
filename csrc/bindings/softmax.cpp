#include "softmax.h"

#include "bindings/array.h"
#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;

// temperature: a float, or an array of x's dtype that has the shape of the reduction. False where it is neither.
template <class T>
bool read_temperature(py::handle given, Index n_rows, T& number, PerRow<T>& out) {
  if (PyFloat_Check(given.ptr()) || PyLong_Check(given.ptr())) {
    const double t = PyFloat_AsDouble(given.ptr());
    if (t == -1.0 && PyErr_Occurred()) throw py::error_already_set();
    number = static_cast<T>(t);
    out = {&number, 0};
    return true;
  }
  if (!py::isinstance<py::array>(given)) return false;
  const auto a = py::reinterpret_borrow<py::array>(given);
  if (a.size() != n_rows || kernel_type(a) != kTypeNum<T> || !(a.flags() & py::array::c_style)) return false;
  out = {static_cast<const T*>(a.data()), 1};
  return true;
}

// True for an array that a result of x's shape can be written to as it is computed.
bool takes_result(py::handle out, const py::array& x, int type) {
  if (!py::isinstance<py::array>(out)) return false;
  const auto a = py::reinterpret_borrow<py::array>(out);
  if (kernel_type(a) != type || !a.writeable() || a.ndim() != x.ndim()) return false;
  for (py::ssize_t k = 0; k < x.ndim(); ++k) {
    if (a.shape(k) != x.shape(k)) return false;
  }
  return safe_to_write(x, a);
}

template <class T, class Kernel>
py::object map_rows(const py::array& x, std::uint64_t bits, py::handle temperature, py::handle out, int n_threads,
                    Kernel kernel) {
  const auto rows = const_rows<T>(x, bits);
  const Index n_rows = rows.across.size();
  T number;
  PerRow<T> per_row;
  if (!read_temperature(temperature, n_rows, number, per_row)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
  py::array result = out.is_none() ? new_array(kTypeNum<T>, x.ndim(), x.shape()) : py::reinterpret_borrow<py::array>(out);
  const auto result_rows = mutable_rows<T>(result, bits);
  {
    const ReleaseIf release(x.size() >= kReleaseElements);
    kernel(rows, per_row, result_rows, make_exec(n_threads));
  }
  return out.is_none() ? scalar_if_0d(std::move(result)) : py::reinterpret_borrow<py::object>(out);
}

template <class Float, class Double>
py::object map_any(const char* name, py::handle x, py::handle axis, py::handle temperature, py::handle out, py::handle n_threads,
                   Float kernel_float, Double kernel_double) {
  const auto not_implemented = py::reinterpret_borrow<py::object>(Py_NotImplemented);
  if (!py::isinstance<py::array>(x)) return not_implemented;
  const auto a = py::reinterpret_borrow<py::array>(x);
  const int type = kernel_type(a);
  if (type < 0 || (!out.is_none() && !takes_result(out, a, type))) return not_implemented;
  const auto bits = axis_bits(name, a, axis);
  const int threads = threads_for(name, n_threads);
  if (type == kFloatNum) return map_rows<float>(a, bits, temperature, out, threads, kernel_float);
  return map_rows<double>(a, bits, temperature, out, threads, kernel_double);
}

py::object softmax(py::handle x, py::handle axis, py::handle temperature, py::handle out, py::handle n_threads) {
  return map_any("softmax", x, axis, temperature, out, n_threads, &backend::softmax<float>, &backend::softmax<double>);
}

py::object log_softmax(py::handle x, py::handle axis, py::handle temperature, py::handle out, py::handle n_threads) {
  return map_any("log_softmax", x, axis, temperature, out, n_threads, &backend::log_softmax<float>,
                 &backend::log_softmax<double>);
}

template <class T>
py::object logsumexp_rows(const py::array& x, std::uint64_t bits, bool keepdims, py::handle temperature, int n_threads) {
  const auto rows = const_rows<T>(x, bits);
  T number;
  PerRow<T> per_row;
  if (!read_temperature(temperature, rows.across.size(), number, per_row)) {
    return py::reinterpret_borrow<py::object>(Py_NotImplemented);
  }
  const auto shape = reduced_shape(x, bits, keepdims);
  py::array result = new_array(kTypeNum<T>, static_cast<py::ssize_t>(shape.size()), shape.data());
  {
    const ReleaseIf release(x.size() >= kReleaseElements);
    backend::logsumexp(rows, per_row, static_cast<T*>(result.mutable_data()), make_exec(n_threads));
  }
  return scalar_if_0d(std::move(result));
}

py::object logsumexp(py::handle x, py::handle axis, bool keepdims, py::handle temperature, py::handle n_threads) {
  const auto not_implemented = py::reinterpret_borrow<py::object>(Py_NotImplemented);
  if (!py::isinstance<py::array>(x)) return not_implemented;
  const auto a = py::reinterpret_borrow<py::array>(x);
  const int type = kernel_type(a);
  if (type < 0) return not_implemented;
  const auto bits = axis_bits("logsumexp", a, axis);
  const int threads = threads_for("logsumexp", n_threads);
  if (type == kFloatNum) return logsumexp_rows<float>(a, bits, keepdims, temperature, threads);
  return logsumexp_rows<double>(a, bits, keepdims, temperature, threads);
}

template <class T>
py::object level_scores_rows(const py::array& x, const py::array_t<Index>& tokens, const py::array_t<Index>& start,
                             const py::array_t<double>& levels, const py::array_t<T>& temperature, bool mass, int n_threads) {
  const auto bits = std::uint64_t(1) << (x.ndim() - 1);
  const auto rows = const_rows<T>(x, bits);
  auto shape = reduced_shape(x, bits);
  const py::array score(py::dtype::of<T>(), shape), variance(py::dtype::of<T>(), shape);
  const py::object mass_out = mass ? py::object(py::array(py::dtype::of<T>(), shape)) : py::none();
  const Index n_groups = levels.size();
  shape.push_back(n_groups);
  const py::array probabilities(py::dtype::of<T>(), shape);
  const auto data = [](py::handle a) { return static_cast<T*>(py::reinterpret_borrow<py::array>(a).mutable_data()); };
  const backend::LevelOut<T> out{data(score), data(variance), data(probabilities), mass ? data(mass_out) : nullptr};
  const PerRow<T> per_row{temperature.data(), temperature.ndim() == 0 ? 0 : 1};
  {
    const ReleaseIf release(rows.across.size() * n_groups >= kReleaseElements || mass);
    backend::level_scores(rows, Groups{tokens.data(), start.data(), n_groups}, levels.data(), per_row, out, make_exec(n_threads));
  }
  return py::make_tuple(score, variance, probabilities, mass_out);
}

// All arguments are ready: x float32 or float64 with at least one axis; temperature 0-d or one a row, of x's dtype.
py::object level_scores(const py::array& x, const py::array_t<Index>& tokens, const py::array_t<Index>& start,
                        const py::array_t<double>& levels, const py::array& temperature, bool mass, py::handle n_threads) {
  const int threads = threads_for("level_scores", n_threads);
  if (kernel_type(x) == kFloatNum) return level_scores_rows<float>(x, tokens, start, levels, temperature, mass, threads);
  return level_scores_rows<double>(x, tokens, start, levels, temperature, mass, threads);
}

}  // namespace

void bind_softmax(py::module_& m) {
  m.def("softmax", &softmax, py::arg("x"), py::arg("axis"), py::arg("temperature"), py::arg("out"), py::arg("n_threads"));
  m.def("log_softmax", &log_softmax, py::arg("x"), py::arg("axis"), py::arg("temperature"), py::arg("out"), py::arg("n_threads"));
  m.def("logsumexp", &logsumexp, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("temperature"),
        py::arg("n_threads"));
  m.def("level_scores", &level_scores, py::arg("x"), py::arg("tokens"), py::arg("start"), py::arg("levels"),
        py::arg("temperature"), py::arg("mass"), py::arg("n_threads"));
}

}  // namespace softmap::bindings
