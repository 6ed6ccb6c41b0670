#include "special.h"

#include "bindings/array.h"
#include "softmax_algorithms.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;

// A function by its name, over C-contiguous arrays of one size and dtype.
void special(const std::string& name, const py::array& x, py::array out) {
  const char* const names[] = {
      "sigmoid",         "log_sigmoid",    "softplus",           "ndtr",        "log_ndtr",     "inverse_mills",
      "mills_curvature", "logistic_slope", "logistic_curvature", "logit_slope", "probit_slope", "copy_past_caches"};
  int f = 0;
  for (const char* const known : names) {
    if (name == known) break;
    ++f;
  }
  const bool fits = element_of(x) == element_of(out) && x.size() == out.size() && (x.flags() & out.flags() & py::array::c_style);
  if (f == static_cast<int>(std::size(names)) || !fits)
    throw py::value_error("special: no such function, or arrays that do not fit");
  const auto call = [&]<class T>(T*) {
    backend::special(static_cast<Special>(f), static_cast<const T*>(x.data()),
                     Span<T>{static_cast<T*>(out.mutable_data()), out.size()});
  };
  if (element_of(x) == Element::kFloat) return call(static_cast<float*>(nullptr));
  if (element_of(x) == Element::kDouble) return call(static_cast<double*>(nullptr));
  throw py::type_error("special: x must have dtype float32 or float64");
}

// Softmax of the rows of a C-contiguous matrix by the algorithm of that name, on one thread.
void softmax_by(const std::string& name, const py::array& x, py::array out, bool stream) {
  const char* const names[] = {"three_pass_recompute", "three_pass_reload", "two_pass", "online", "reload", "fused", "auto"};
  int a = 0;
  for (const char* const known : names) {
    if (name == known) break;
    ++a;
  }
  const bool fits = element_of(x) == element_of(out) && x.ndim() == 2 && x.size() == out.size() &&
                    (x.flags() & out.flags() & py::array::c_style) && x.data() != out.data();
  if (a == static_cast<int>(std::size(names)) || !fits)
    throw py::value_error("softmax_by: no such algorithm, or arrays that do not fit");
  const auto call = [&]<class T>(T*) {
    backend::softmax_by(static_cast<Algorithm>(a), static_cast<const T*>(x.data()), x.shape(0), x.shape(1),
                        static_cast<T*>(out.mutable_data()), stream);
  };
  if (element_of(x) == Element::kFloat) return call(static_cast<float*>(nullptr));
  if (element_of(x) == Element::kDouble) return call(static_cast<double*>(nullptr));
  throw py::type_error("softmax_by: x must have dtype float32 or float64");
}

}  // namespace

void bind_special(py::module_& m) {
  m.def("special", &special, py::arg("name"), py::arg("x"), py::arg("out"));
  m.def("softmax_by", &softmax_by, py::arg("name"), py::arg("x"), py::arg("out"), py::arg("stream") = false);
}

}  // namespace softmap::bindings
