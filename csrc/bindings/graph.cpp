#include "graph.h"

#include "bindings/array.h"
#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;

using Integers = py::array_t<std::int64_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;
constexpr const char* kSystem = "softmap.system";

Edges edges_of(Index n, const Integers& from, const Integers& to, bool loops = true) {
  if (from.ndim() != 1 || from.size() != to.size() || n >= INT32_MAX) throw py::value_error("graph: these are no edges");
  for (py::ssize_t e = 0; e < from.size(); ++e) {
    const auto a = from.data()[e], b = to.data()[e];
    if (a < 0 || b < 0 || a >= n || b >= n || (a == b && !loops))
      throw py::value_error("graph: edge " + std::to_string(e) + " is none");
  }
  return {n, from.size(), from.data(), to.data()};
}

py::array connected(Index n, const Integers& from, const Integers& to) {
  const auto edges = edges_of(n, from, to);
  py::array label = new_array<std::int64_t>(Run{1}, {n});
  backend::connected(edges, static_cast<std::int64_t*>(label.mutable_data()));
  return label;
}

py::array strong_components(Index n, const Integers& from, const Integers& to) {
  const auto edges = edges_of(n, from, to);
  py::array label = new_array<std::int64_t>(Run{1}, {n});
  backend::strong_components(edges, static_cast<std::int64_t*>(label.mutable_data()));
  return label;
}

// (n, system, number of edges)
py::tuple make_system(Index n, const Integers& from, const Integers& to) {
  const auto edges = edges_of(n, from, to, false);
  const auto destroy = [](void* p) { backend::free_system(static_cast<backend::System*>(p)); };
  return py::make_tuple(n, py::capsule(backend::make_system(edges), kSystem, destroy), edges.n_edges);
}

// Solves for every row of g; returns x and the number of iterations, -1 where they did not suffice.
py::tuple solve_system(const py::tuple& system, const Doubles& weights, const Doubles& diagonal, const Doubles& g, double rtol,
                       int most_steps, py::handle n_threads) {
  const auto n = py::cast<Index>(system[0]);
  if (weights.size() != py::cast<Index>(system[2]) || diagonal.size() != n || g.ndim() != 2 || g.shape(1) != n) {
    throw py::value_error("solve_system: these arrays do not belong to the system");
  }
  auto* const s = py::cast<py::capsule>(system[1]).get_pointer<backend::System>();
  const Run run = run_for("solve_system", n_threads);
  py::array x = new_array<double>(run, {g.shape(0), g.shape(1)});
  backend::factor_system(*s, weights.data(), diagonal.data());
  const backend::Solve solve{g.data(), static_cast<double*>(x.mutable_data()), g.shape(0), rtol, most_steps};
  const int steps = backend::solve_system(*s, solve, make_exec(run));
  return py::make_tuple(x, steps);
}

}  // namespace

void bind_graph(py::module_& m) {
  m.def("connected", &connected, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("strong_components", &strong_components, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("make_system", &make_system, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("solve_system", &solve_system, py::arg("system"), py::arg("weights"), py::arg("diagonal"), py::arg("g"), py::arg("rtol"),
        py::arg("most_steps"), py::arg("n_threads"));
}

}  // namespace softmap::bindings
