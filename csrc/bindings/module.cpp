// One module a backend: _cpu_base, _cpu_avx2, _cpu_avx512; _cuda, and _cuda_emulated for tests. All export the same functions,
// the CUDA ones those that have a kernel. python/softmap/_backend.py imports the one it needs. Compiled with baseline flags, as
// all bindings are: importing a module never runs an instruction that the processor lacks.
#include <pybind11/pybind11.h>

#if defined(SOFTMAP_DEVICE)
#include "cuda/exec.h"
#else
#include "cpu/parallel.h"
#endif

namespace py = pybind11;

namespace softmap {

#if !defined(SOFTMAP_DEVICE)
namespace {
const Runtime* g_runtime = nullptr;
}

namespace cpu {
const Runtime& runtime() { return *g_runtime; }
}  // namespace cpu
#endif

namespace bindings {
void bind_softmax(py::module_&);
void bind_pairwise(py::module_&);
void bind_fit(py::module_&);
#if defined(SOFTMAP_DEVICE)
void bind_device(py::module_&);
#else
void bind_counts(py::module_&);
void bind_labels(py::module_&);
void bind_graph(py::module_&);
void bind_resample(py::module_&);
void bind_special(py::module_&);
#endif
}  // namespace bindings

}  // namespace softmap

PYBIND11_MODULE(SOFTMAP_MODULE, m, py::mod_gil_not_used()) {
  using namespace softmap;
  m.doc() = "Compiled kernels of softmap. Use the functions of softmap instead.";
#if defined(SOFTMAP_DEVICE)
  bindings::bind_device(m);
#else
  const py::capsule capsule = py::module_::import("softmap._runtime").attr("capsule");
  g_runtime = static_cast<const Runtime*>(PyCapsule_GetPointer(capsule.ptr(), kRuntimeCapsule));
  if (!g_runtime) throw py::error_already_set();
  bindings::bind_counts(m);
  bindings::bind_labels(m);
  bindings::bind_graph(m);
  bindings::bind_resample(m);
  bindings::bind_special(m);
#endif
  bindings::bind_softmax(m);
  bindings::bind_pairwise(m);
  bindings::bind_fit(m);
}
