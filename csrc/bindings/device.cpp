// What only a CUDA module has.
#include "bindings/exec.h"

namespace softmap::bindings {

void bind_device(py::module_& m) {
#if defined(SOFTMAP_EMULATED_MODULE)
  m.attr("emulated") = true;
#else
  m.attr("emulated") = false;
#endif
  m.def("device_count", &cuda::device_count);
  m.def("preload", &cuda::preload, py::arg("device") = -1);
}

}  // namespace softmap::bindings
