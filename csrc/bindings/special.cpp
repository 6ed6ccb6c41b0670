#include "special.h"

#include "bindings/array.h"

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

}  // namespace

void bind_special(py::module_& m) { m.def("special", &special, py::arg("name"), py::arg("x"), py::arg("out")); }

}  // namespace softmap::bindings
