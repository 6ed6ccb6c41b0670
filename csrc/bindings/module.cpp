// One module a backend: _cpu_base, _cpu_avx2, _cpu_avx512. All export the same functions; python/softmap/_backend.py imports
// the one it needs. Compiled with baseline flags, as all bindings are: importing a module never runs an instruction that the
// processor lacks.
#include <pybind11/pybind11.h>

#include "cpu/parallel.h"

namespace py = pybind11;

namespace softmap {

namespace {
const Runtime* g_runtime = nullptr;
}

namespace cpu {
const Runtime& runtime() { return *g_runtime; }
}  // namespace cpu

namespace bindings {
void bind_softmax(py::module_&);
void bind_pairwise(py::module_&);
void bind_fit(py::module_&);
void bind_counts(py::module_&);
void bind_labels(py::module_&);
void bind_graph(py::module_&);
void bind_special(py::module_&);
}  // namespace bindings

}  // namespace softmap

PYBIND11_MODULE(SOFTMAP_MODULE, m, py::mod_gil_not_used()) {
  m.doc() = "Compiled kernels of softmap. Use the functions of softmap instead.";
  const py::capsule capsule = py::module_::import("softmap._runtime").attr("capsule");
  softmap::g_runtime = static_cast<const softmap::Runtime*>(PyCapsule_GetPointer(capsule.ptr(), softmap::kRuntimeCapsule));
  if (!softmap::g_runtime) throw py::error_already_set();
  softmap::bindings::bind_softmax(m);
  softmap::bindings::bind_pairwise(m);
  softmap::bindings::bind_fit(m);
  softmap::bindings::bind_counts(m);
  softmap::bindings::bind_labels(m);
  softmap::bindings::bind_graph(m);
  softmap::bindings::bind_special(m);
}
