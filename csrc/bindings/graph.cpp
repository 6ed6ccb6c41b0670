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

// Scores from `start`, the number of Newton steps, and whether they converged. counts: wins and losses (2, pairs).
py::tuple newton_pairs(const py::tuple& pairs, const std::string& link, double advantage, double precision,
                       const py::tuple& items, const py::tuple& options, const Doubles& start, py::handle n_threads) {
  const auto left = py::cast<Integers>(pairs[0]), right = py::cast<Integers>(pairs[1]);
  const auto wins = py::cast<Doubles>(pairs[2]), losses = py::cast<Doubles>(pairs[3]);
  const auto free = py::cast<py::array_t<bool, py::array::c_style>>(items[0]);
  const auto group = py::cast<Integers>(items[1]);
  const auto floating = py::cast<py::array_t<bool, py::array::c_style>>(items[2]);
  const Index n = start.size();
  edges_of(n, left, right, false);
  if (wins.size() != left.size() || losses.size() != left.size() || free.size() != n || group.size() != n) {
    throw py::value_error("newton_pairs: these arrays do not belong together");
  }
  const auto flags = [](const auto& a) { return reinterpret_cast<const std::uint8_t*>(a.data()); };
  const PairProblem problem{n,
                            left.size(),
                            floating.size(),
                            left.data(),
                            right.data(),
                            wins.data(),
                            losses.data(),
                            link == "logit" ? LinkKind::kLogit : LinkKind::kProbit,
                            advantage,
                            precision,
                            flags(free),
                            group.data(),
                            flags(floating)};
  const NewtonOptions how{py::cast<double>(options[0]), py::cast<double>(options[1]), py::cast<int>(options[2])};
  const Run run = run_for("newton_pairs", n_threads);
  py::array theta = new_array<double>(run, {n});
  auto* const point = static_cast<double*>(theta.mutable_data());
  for (Index i = 0; i < n; ++i) point[i] = start.data()[i];
  NewtonResult result;
  {
    const ReleaseIf release(left.size() >= kReleaseElements);
    result = backend::newton_pairs(problem, how, point, make_exec(run));
  }
  return py::make_tuple(theta, result.n_steps, result.converged);
}

}  // namespace

void bind_graph(py::module_& m) {
  m.def("connected", &connected, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("strong_components", &strong_components, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("make_system", &make_system, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("solve_system", &solve_system, py::arg("system"), py::arg("weights"), py::arg("diagonal"), py::arg("g"), py::arg("rtol"),
        py::arg("most_steps"), py::arg("n_threads"));
  m.def("newton_pairs", &newton_pairs, py::arg("pairs"), py::arg("link"), py::arg("advantage"), py::arg("precision"),
        py::arg("items"), py::arg("options"), py::arg("start"), py::arg("n_threads"));
}

}  // namespace softmap::bindings
