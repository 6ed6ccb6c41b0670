#include "graph.h"

#include <algorithm>

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

py::array array_of(const std::vector<std::int64_t>& values) {
  py::array out = new_array<std::int64_t>(Run{1}, {static_cast<Index>(values.size())});
  std::copy(values.begin(), values.end(), static_cast<std::int64_t*>(out.mutable_data()));
  return out;
}

// Whether there is a movement, and it, or the edges of the cycle that forbids it.
py::tuple movement(Index n, const Integers& from, const Integers& to, const Integers& least) {
  const auto edges = edges_of(n, from, to);
  if (least.size() != edges.n_edges) throw py::value_error("movement: these arrays do not belong together");
  py::array v = new_array<std::int64_t>(Run{1}, {n});
  std::vector<std::int64_t> cycle;
  const auto take = [](void* context, Index edge) { static_cast<std::vector<std::int64_t>*>(context)->push_back(edge); };
  auto* const to_v = static_cast<std::int64_t*>(v.mutable_data());
  bool found;
  {
    const ReleaseIf release(edges.n_edges >= kReleaseElements);
    found = backend::movement(edges, least.data(), to_v, take, &cycle);
  }
  return py::make_tuple(found, found ? v : array_of(cycle));
}

template <class T>
py::tuple survey_of(Index n, const Integers& left, const Integers& right, const py::tuple& amounts, bool ties_count) {
  using Amounts = py::array_t<T, py::array::c_style>;
  const auto wins = py::cast<Amounts>(amounts[0]), losses = py::cast<Amounts>(amounts[1]), ties = py::cast<Amounts>(amounts[2]);
  if (wins.size() != left.size() || losses.size() != left.size() || ties.size() != left.size()) {
    throw py::value_error("survey: these arrays do not belong together");
  }
  edges_of(n, left, right, false);
  const Pairs<T> pairs{n, left.size(), left.data(), right.data(), wins.data(), losses.data(), ties.data()};
  py::array sums[3], labels[2];
  T* to[3];
  std::int64_t* label[2];
  for (int k = 0; k < 3; ++k) to[k] = static_cast<T*>((sums[k] = new_array<T>(Run{1}, {n})).mutable_data());
  for (int k = 0; k < 2; ++k) {
    label[k] = static_cast<std::int64_t*>((labels[k] = new_array<std::int64_t>(Run{1}, {n})).mutable_data());
  }
  std::vector<std::int64_t> edges[2];
  const auto take = [](void* context, std::int64_t winner, std::int64_t loser) {
    auto* const to_edges = static_cast<std::vector<std::int64_t>*>(context);
    to_edges[0].push_back(winner);
    to_edges[1].push_back(loser);
  };
  {
    const ReleaseIf release(left.size() >= kReleaseElements);
    backend::survey(pairs, ties_count, Survey<T>{to[0], to[1], to[2], label[0], label[1]}, take, edges);
  }
  return py::make_tuple(sums[0], sums[1], sums[2], labels[0], labels[1], array_of(edges[0]), array_of(edges[1]));
}

// wins, losses and ties of each item, labels of the connected and the strongly connected components, and winner and loser of
// wins between two of the latter.
py::tuple survey(Index n, const Integers& left, const Integers& right, const py::tuple& amounts, bool ties_count) {
  const auto whole = py::isinstance<py::array_t<std::int64_t>>(amounts[0]);
  return whole ? survey_of<std::int64_t>(n, left, right, amounts, ties_count)
               : survey_of<double>(n, left, right, amounts, ties_count);
}

// (n, system, number of edges)
py::tuple make_system(Index n, const Integers& from, const Integers& to) {
  const auto edges = edges_of(n, from, to, false);
  const auto destroy = [](void* p) { backend::free_system(static_cast<backend::System*>(p)); };
  return py::make_tuple(n, py::capsule(backend::make_system(edges), kSystem, destroy), edges.n_edges);
}

// The system, where the arrays have its sizes.
backend::System& system_for(const char* name, const py::tuple& system, const Doubles& rows,
                            std::initializer_list<std::pair<const Doubles&, const Doubles&>> forms) {
  const auto n = py::cast<Index>(system[0]);
  bool fits = rows.ndim() == 2 && rows.shape(1) == n;
  for (const auto& [weights, diagonal] : forms)
    fits = fits && weights.size() == py::cast<Index>(system[2]) && diagonal.size() == n;
  if (!fits) throw py::value_error(std::string(name) + ": these arrays do not belong to the system");
  return *py::cast<py::capsule>(system[1]).get_pointer<backend::System>();
}

// Solves for every row of g; returns x and the number of iterations, -1 where they did not suffice.
py::tuple solve_system(const py::tuple& system, const Doubles& weights, const Doubles& diagonal, const Doubles& g, double rtol,
                       int most_steps, py::handle n_threads) {
  auto& s = system_for("solve_system", system, g, {{weights, diagonal}});
  const Run run = run_for("solve_system", n_threads);
  py::array x = new_array<double>(run, {g.shape(0), g.shape(1)});
  backend::factor_system(s, weights.data(), diagonal.data());
  const backend::Solve solve{g.data(), static_cast<double*>(x.mutable_data()), g.shape(0), rtol, most_steps};
  const int steps = backend::solve_system(s, solve, make_exec(run));
  return py::make_tuple(x, steps);
}

// The matrix of weights and diagonal times every row of x.
py::array times_system(const py::tuple& system, const Doubles& weights, const Doubles& diagonal, const Doubles& x,
                       py::handle n_threads) {
  const auto& s = system_for("times_system", system, x, {{weights, diagonal}});
  const Run run = run_for("times_system", n_threads);
  py::array y = new_array<double>(run, {x.shape(0), x.shape(1)});
  backend::times_system(s, {weights.data(), diagonal.data()}, x.data(), static_cast<double*>(y.mutable_data()), x.shape(0),
                        make_exec(run));
  return y;
}

// Of the series for H^-1 M H^-1: it times every row of z, and its diagonal.
py::tuple expand_system(const py::tuple& system, const Doubles& weights, const Doubles& diagonal, const Doubles& meat_weights,
                        const Doubles& meat_diagonal, const Doubles& z) {
  const auto& s = system_for("expand_system", system, z, {{weights, diagonal}, {meat_weights, meat_diagonal}});
  const Run run{1};
  py::array az = new_array<double>(run, {z.shape(0), z.shape(1)}), known = new_array<double>(run, {z.shape(1)});
  const backend::Expansion expansion{z.data(), static_cast<double*>(az.mutable_data()),
                                     static_cast<double*>(known.mutable_data()), z.shape(0)};
  backend::expand_system(s, {weights.data(), diagonal.data()}, {meat_weights.data(), meat_diagonal.data()}, expansion);
  return py::make_tuple(az, known);
}

// Where the amounts of a kind are: among the counts or among the weights.
void set_amounts(PairProblem& problem, int kind, const py::array& amounts) {
  if (amounts.size() != problem.n_pairs || !(amounts.flags() & py::array::c_style)) {
    throw py::value_error("newton_pairs: these arrays do not belong together");
  }
  if (py::isinstance<py::array_t<std::int64_t>>(amounts)) {
    problem.counts[kind] = static_cast<const std::int64_t*>(amounts.data());
  } else if (py::isinstance<py::array_t<double>>(amounts)) {
    problem.weights[kind] = static_cast<const double*>(amounts.data());
  } else {
    throw py::type_error("newton_pairs: amounts must be int64 or float64");
  }
}

// pairs: left, right, then wins, losses and ties, all int64 or all float64. Returns scores from `start`, the number of Newton
// steps, whether they converged, the log-likelihood and the gradient.
py::tuple newton_pairs(const py::tuple& pairs, double tie_share, const std::string& link, double advantage, double precision,
                       const py::tuple& items, const py::tuple& options, const Doubles& start, py::handle n_threads) {
  const auto left = py::cast<Integers>(pairs[0]), right = py::cast<Integers>(pairs[1]);
  const auto free = py::cast<py::array_t<bool, py::array::c_style>>(items[0]);
  const auto group = py::cast<Integers>(items[1]);
  const auto floating = py::cast<py::array_t<bool, py::array::c_style>>(items[2]);
  const Index n = start.size();
  edges_of(n, left, right, false);
  if (free.size() != n || group.size() != n) throw py::value_error("newton_pairs: these arrays do not belong together");
  const auto flags = [](const auto& a) { return reinterpret_cast<const std::uint8_t*>(a.data()); };
  PairProblem problem{};
  problem.n_items = n;
  problem.n_pairs = left.size();
  problem.n_groups = floating.size();
  problem.left = left.data();
  problem.right = right.data();
  for (int kind = 0; kind < 3; ++kind) set_amounts(problem, kind, py::cast<py::array>(pairs[static_cast<std::size_t>(2 + kind)]));
  if (!problem.counts[0] != !problem.counts[1] || !problem.counts[0] != !problem.counts[2]) {
    throw py::type_error("newton_pairs: amounts must have one type");
  }
  problem.tie_share = tie_share;
  problem.link = link == "logit" ? LinkKind::kLogit : LinkKind::kProbit;
  problem.advantage = advantage;
  problem.precision = precision;
  problem.free = flags(free);
  problem.group = group.data();
  problem.floating = flags(floating);
  const NewtonOptions how{py::cast<double>(options[0]), py::cast<double>(options[1]), py::cast<int>(options[2])};
  const Run run = run_for("newton_pairs", n_threads);
  py::array theta = new_array<double>(run, {n}), gradient = new_array<double>(run, {n});
  auto* const point = static_cast<double*>(theta.mutable_data());
  problem.gradient = static_cast<double*>(gradient.mutable_data());
  for (Index i = 0; i < n; ++i) point[i] = start.data()[i];
  NewtonResult result;
  {
    const ReleaseIf release(left.size() >= kReleaseElements);
    result = backend::newton_pairs(problem, how, point, make_exec(run));
  }
  return py::make_tuple(theta, result.n_steps, result.converged, result.log_likelihood, gradient);
}

}  // namespace

void bind_graph(py::module_& m) {
  m.def("connected", &connected, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("strong_components", &strong_components, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("movement", &movement, py::arg("n"), py::arg("from"), py::arg("to"), py::arg("least"));
  m.def("survey", &survey, py::arg("n"), py::arg("left"), py::arg("right"), py::arg("amounts"), py::arg("ties_count"));
  m.def("make_system", &make_system, py::arg("n"), py::arg("from"), py::arg("to"));
  m.def("solve_system", &solve_system, py::arg("system"), py::arg("weights"), py::arg("diagonal"), py::arg("g"), py::arg("rtol"),
        py::arg("most_steps"), py::arg("n_threads"));
  m.def("times_system", &times_system, py::arg("system"), py::arg("weights"), py::arg("diagonal"), py::arg("x"),
        py::arg("n_threads"));
  m.def("expand_system", &expand_system, py::arg("system"), py::arg("weights"), py::arg("diagonal"), py::arg("meat_weights"),
        py::arg("meat_diagonal"), py::arg("z"));
  m.def("newton_pairs", &newton_pairs, py::arg("pairs"), py::arg("tie_share"), py::arg("link"), py::arg("advantage"),
        py::arg("precision"), py::arg("items"), py::arg("options"), py::arg("start"), py::arg("n_threads"));
}

}  // namespace softmap::bindings
