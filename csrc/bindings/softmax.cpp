#include "softmax.h"

#include <cmath>
#include <limits>

#include "bindings/array.h"
#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;
using core::Compute;

const auto not_implemented = [] { return py::reinterpret_borrow<py::object>(Py_NotImplemented); };

// temperature: a float, or a C-contiguous array of T with one entry a row. False where it is neither.
template <class T>
bool read_temperature(py::handle given, Index n_rows, T& number, PerRow<T>& out) {
  if (PyFloat_Check(given.ptr()) || PyLong_Check(given.ptr())) {
    const double t = PyFloat_AsDouble(given.ptr());
    if (t == -1.0 && PyErr_Occurred()) throw py::error_already_set();
    number = static_cast<T>(t);
    // A valid temperature beyond the range of T is as good as the smallest or the largest one.
    constexpr T kSmallest = std::numeric_limits<T>::denorm_min(), kLargest = std::numeric_limits<T>::max();
    if (t > 0 && number < kSmallest) number = kSmallest;
    if (t < HUGE_VAL && number > kLargest) number = kLargest;
    out = {&number, 0};
    return true;
  }
  if (!py::isinstance<py::array>(given)) return false;
  const auto a = py::reinterpret_borrow<py::array>(given);
  if (a.size() != n_rows || element_of(a) != kElement<T> || !(a.flags() & py::array::c_style)) return false;
  out = {static_cast<const T*>(a.data()), 1};
  return true;
}

// True for an array that a result of x's shape can be written to as it is computed.
bool takes_result(py::handle out, const py::array& x, Element element) {
  const auto ndarray = reinterpret_cast<PyTypeObject*>(py::detail::npy_api::get().PyArray_Type_);
  if (Py_TYPE(out.ptr()) != ndarray) return false;
  const auto a = py::reinterpret_borrow<py::array>(out);
  if (element_of(a) != element || !a.writeable() || a.ndim() != x.ndim()) return false;
  for (py::ssize_t k = 0; k < x.ndim(); ++k) {
    if (a.shape(k) != x.shape(k)) return false;
  }
  return safe_to_write(x, a) && entries_apart(a);
}

// softmax and log_softmax: kernel<S>(rows, temperature, result rows, exec).
template <class Kernel>
py::object map_rows(const char* name, py::handle x_given, py::handle axis, py::handle temperature, py::handle out,
                    py::handle n_threads, Kernel kernel) {
  if (!py::isinstance<py::array>(x_given)) return not_implemented();
  const auto x = py::reinterpret_borrow<py::array>(x_given);
  const Element element = element_of(x);
  if (element == Element::kOther || (!out.is_none() && !takes_result(out, x, element))) return not_implemented();
  const auto bits = axis_bits(name, x, axis);
  const Run run = run_for(name, n_threads);
  return with_storage(element, [&]<class S>() -> py::object {
    const auto rows = const_rows<S>(x, bits);
    Compute<S> number;
    PerRow<Compute<S>> per_row;
    if (!read_temperature(temperature, rows.across.size(), number, per_row)) return not_implemented();
    py::array result = out.is_none() ? new_array(run, x.dtype(), x.ndim(), x.shape()) : py::reinterpret_borrow<py::array>(out);
    const auto result_rows = mutable_rows<S>(result, bits);
    {
      const ReleaseIf release(x.size() >= kReleaseElements);
      kernel(rows, per_row, result_rows, make_exec(run));
    }
    return out.is_none() ? scalar_if_0d(run, std::move(result)) : py::reinterpret_borrow<py::object>(out);
  });
}

py::object softmax(py::handle x, py::handle axis, py::handle temperature, py::handle out, py::handle n_threads) {
  return map_rows("softmax", x, axis, temperature, out, n_threads, [](const auto&... a) { backend::softmax(a...); });
}

py::object log_softmax(py::handle x, py::handle axis, py::handle temperature, py::handle out, py::handle n_threads) {
  return map_rows("log_softmax", x, axis, temperature, out, n_threads, [](const auto&... a) { backend::log_softmax(a...); });
}

py::object logsumexp(py::handle x_given, py::handle axis, bool keepdims, py::handle temperature, py::handle n_threads) {
  if (!py::isinstance<py::array>(x_given)) return not_implemented();
  const auto x = py::reinterpret_borrow<py::array>(x_given);
  const Element element = element_of(x);
  if (element == Element::kOther) return not_implemented();
  const auto bits = axis_bits("logsumexp", x, axis, "a");
  const Run run = run_for("logsumexp", n_threads);
  return with_storage(element, [&]<class S>() -> py::object {
    const auto rows = const_rows<S>(x, bits);
    Compute<S> number;
    PerRow<Compute<S>> per_row;
    if (!read_temperature(temperature, rows.across.size(), number, per_row)) return not_implemented();
    const auto shape = reduced_shape(x, bits, keepdims);
    py::array result = new_array(run, x.dtype(), static_cast<py::ssize_t>(shape.size()), shape.data());
    {
      const ReleaseIf release(x.size() >= kReleaseElements);
      backend::logsumexp(rows, per_row, static_cast<S*>(result.mutable_data()), make_exec(run));
    }
    return scalar_if_0d(run, std::move(result));
  });
}

// All arguments are ready: x of a kernel dtype with at least one axis; temperature 0-d or one a row, of x's compute type.
py::object level_scores(const py::array& x, const py::array_t<Index>& tokens, const py::array_t<Index>& start,
                        const py::array_t<double>& levels, const py::array& temperature, bool mass, bool probabilities, bool mode,
                        py::handle n_threads) {
  const Run run = run_for("level_scores", n_threads);
  return with_storage(element_of(x), [&]<class S>() -> py::object {
    using T = Compute<S>;
    const auto bits = std::uint64_t(1) << (x.ndim() - 1);
    const auto rows = const_rows<S>(x, bits);
    const Index n_groups = levels.size();
    const auto shape = reduced_shape(x, bits);
    auto by_group = shape;
    by_group.push_back(n_groups);
    py::list results;
    const auto fresh = [&](bool wanted, const auto& of_shape, T*& data) {
      data = nullptr;
      if (!wanted) return results.append(py::none());
      py::array a = new_array<T>(run, of_shape);
      data = static_cast<T*>(a.mutable_data());
      results.append(a);
    };
    LevelOut<T> out;
    fresh(true, shape, out.score), fresh(true, shape, out.variance), fresh(probabilities, by_group, out.probabilities);
    fresh(mass, shape, out.mass), fresh(mode, shape, out.mode), fresh(mode, shape, out.mode_probability);
    const PerRow<T> per_row{static_cast<const T*>(temperature.data()), temperature.ndim() == 0 ? 0 : 1};
    {
      const ReleaseIf release(mass || rows.across.size() * n_groups >= kReleaseElements);
      backend::level_scores(rows, Groups{tokens.data(), start.data(), n_groups, tokens.size()}, levels.data(), per_row, out,
                            make_exec(run));
    }
    return py::tuple(results);
  });
}

// target: 0-d (no target: -1) or one a row, int64; weights: None or one a column, of x's compute type.
py::object row_statistics(const py::array& x, py::handle axis, const py::array& temperature,
                          const py::array_t<std::int64_t>& target, py::handle weights, bool error_norm, py::handle n_threads) {
  const auto bits = axis_bits("row_statistics", x, axis);
  const Run run = run_for("row_statistics", n_threads);
  return with_storage(element_of(x), [&]<class S>() -> py::object {
    using T = Compute<S>;
    const auto rows = const_rows<S>(x, bits);
    const auto shape = reduced_shape(x, bits);
    py::list results;
    const auto fresh = [&]<class U>(bool wanted, U*& data) {
      data = nullptr;
      if (!wanted) return results.append(py::none());
      py::array a = new_array<U>(run, shape);
      data = static_cast<U*>(a.mutable_data());
      results.append(a);
    };
    StatisticsOut<T> out;
    fresh(true, out.logsumexp), fresh(true, out.entropy), fresh(true, out.maximum);
    fresh(true, out.target_log_probability), fresh(true, out.target_rank);
    fresh(!weights.is_none(), out.expectation), fresh(!weights.is_none(), out.variance), fresh(error_norm, out.error_norm);
    const T* w = weights.is_none() ? nullptr : static_cast<const T*>(py::reinterpret_borrow<py::array>(weights).data());
    const PerRow<T> t{static_cast<const T*>(temperature.data()), temperature.ndim() == 0 ? 0 : 1};
    {
      const ReleaseIf release(x.size() >= kReleaseElements);
      backend::row_statistics(rows, t, PerRow<std::int64_t>{target.data(), target.ndim() == 0 ? 0 : 1}, w, out, make_exec(run));
    }
    return py::tuple(results);
  });
}

// a, b: of one dtype and shape, rows along the last axis; left_out: 0-d (no column: -1) or one a row, int64.
py::object cross_entropy(const py::array& a, const py::array& b, double temperature, const py::array_t<std::int64_t>& left_out,
                         py::handle n_threads) {
  const Run run = run_for("cross_entropy", n_threads);
  return with_storage(element_of(a), [&]<class S>() -> py::object {
    using T = Compute<S>;
    const auto bits = std::uint64_t(1) << (a.ndim() - 1);
    const auto rows_a = const_rows<S>(a, bits), rows_b = const_rows<S>(b, bits);
    const bool left = left_out.ndim() > 0;
    py::list results;
    const auto fresh = [&] {
      py::array made = new_array<T>(run, reduced_shape(a, bits));
      results.append(made);
      return static_cast<T*>(made.mutable_data());
    };
    CrossEntropyOut<T> out{fresh(), nullptr, nullptr};
    if (left) out.log_probability = fresh(), out.probability = fresh();
    {
      const ReleaseIf release(a.size() >= kReleaseElements);
      backend::cross_entropy(rows_a, rows_b, static_cast<T>(temperature), PerRow<std::int64_t>{left_out.data(), left ? 1 : 0},
                             out, make_exec(run));
    }
    return py::tuple(results);
  });
}

// x: at least one axis, rows along the last; temperature and amount: 0-d, or one a row.
py::object row_filter(const py::array& x, int filter, const py::array& temperature, const py::array_t<double>& amount,
                      Index min_keep, py::handle n_threads) {
  const Run run = run_for("row_filter", n_threads);
  return with_storage(element_of(x), [&]<class S>() -> py::object {
    using T = Compute<S>;
    const auto rows = const_rows<S>(x, std::uint64_t(1) << (x.ndim() - 1));
    py::array keep = new_array(run, py::dtype::of<bool>(), x.ndim(), x.shape());
    auto* const keep_data = static_cast<bool*>(keep.mutable_data());
    const PerRow<T> t{static_cast<const T*>(temperature.data()), temperature.ndim() == 0 ? 0 : 1};
    const PerRow<double> a{amount.data(), amount.ndim() == 0 ? 0 : 1};
    {
      const ReleaseIf release(x.size() >= kReleaseElements);
      backend::row_filter(rows, t, static_cast<Filter>(filter), a, min_keep, keep_data, make_exec(run));
    }
    return keep;
  });
}

// As row_filter: rows along the last axis; target 0-d or one a row.
py::object row_root(const py::array& x, int function, const py::array_t<double>& target, py::handle n_threads) {
  const Run run = run_for("row_root", n_threads);
  return with_storage(element_of(x), [&]<class S>() -> py::object {
    using T = Compute<S>;
    const auto bits = std::uint64_t(1) << (x.ndim() - 1);
    const auto rows = const_rows<S>(x, bits);
    py::array out = new_array<T>(run, reduced_shape(x, bits));
    auto* const data = static_cast<T*>(out.mutable_data());
    {
      const ReleaseIf release(x.size() >= kReleaseElements / 16);
      backend::row_root(rows, static_cast<Root>(function), PerRow<double>{target.data(), target.ndim() == 0 ? 0 : 1}, data,
                        make_exec(run));
    }
    return out;
  });
}

py::object logsumexp_partial(const py::array& x, py::handle axis, py::handle n_threads) {
  const auto bits = axis_bits("logsumexp_partial", x, axis);
  const Run run = run_for("logsumexp_partial", n_threads);
  return with_storage(element_of(x), [&]<class S>() -> py::object {
    const auto rows = const_rows<S>(x, bits);
    const auto shape = reduced_shape(x, bits);
    py::array m = new_array<double>(run, shape), e = new_array<double>(run, shape);
    auto *m_data = static_cast<double*>(m.mutable_data()), *e_data = static_cast<double*>(e.mutable_data());
    {
      const ReleaseIf release(x.size() >= kReleaseElements);
      backend::logsumexp_partial(rows, m_data, e_data, make_exec(run));
    }
    return py::make_tuple(m, e);
  });
}

}  // namespace

void bind_softmax(py::module_& m) {
  m.def("check_threads", &check_threads, py::arg("function"), py::arg("n_threads"));
  m.def("softmax", &softmax, py::arg("x"), py::arg("axis"), py::arg("temperature"), py::arg("out"), py::arg("n_threads"));
  m.def("log_softmax", &log_softmax, py::arg("x"), py::arg("axis"), py::arg("temperature"), py::arg("out"), py::arg("n_threads"));
  m.def("logsumexp", &logsumexp, py::arg("x"), py::arg("axis"), py::arg("keepdims"), py::arg("temperature"),
        py::arg("n_threads"));
  m.def("level_scores", &level_scores, py::arg("x"), py::arg("tokens"), py::arg("start"), py::arg("levels"),
        py::arg("temperature"), py::arg("mass"), py::arg("probabilities"), py::arg("mode"), py::arg("n_threads"));
  m.def("row_statistics", &row_statistics, py::arg("x"), py::arg("axis"), py::arg("temperature"), py::arg("target"),
        py::arg("weights"), py::arg("error_norm"), py::arg("n_threads"));
  m.def("cross_entropy", &cross_entropy, py::arg("a"), py::arg("b"), py::arg("temperature"), py::arg("left_out"),
        py::arg("n_threads"));
  m.def("row_filter", &row_filter, py::arg("x"), py::arg("filter"), py::arg("temperature"), py::arg("amount"),
        py::arg("min_keep"), py::arg("n_threads"));
  m.def("row_root", &row_root, py::arg("x"), py::arg("function"), py::arg("target"), py::arg("n_threads"));
  m.def("logsumexp_partial", &logsumexp_partial, py::arg("x"), py::arg("axis"), py::arg("n_threads"));
}

}  // namespace softmap::bindings
