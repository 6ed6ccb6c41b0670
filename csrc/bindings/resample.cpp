#include "resample.h"

#include "bindings/array.h"
#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// (categories, sets) int32.
py::array draw_counts(const Array<double>& counts, Index total, std::uint64_t key, Index first, Index n_sets,
                      py::handle n_threads) {
  const Run run = run_for("draw_counts", n_threads);
  py::array out = new_array<std::int32_t>(run, {counts.size(), n_sets});
  const Draws draws{counts.data(), counts.size(), total, key, first, n_sets};
  auto* const to = static_cast<std::int32_t*>(out.mutable_data());
  const ReleaseIf release(out.size() >= kReleaseElements);
  backend::draw_counts(draws, to, make_exec(run));
  return out;
}

// (categories, sets) float64.
py::array weigh_draws(const Array<std::int32_t>& times, const Array<std::int64_t>& unit, const Array<std::int64_t>& category,
                      const Array<double>& amount, Index n_categories, py::handle n_threads) {
  const Index n_sets = times.shape(1);
  const Run run = run_for("weigh_draws", n_threads);
  py::array out = new_array<double>(run, {n_categories, n_sets});
  const Weighing in{times.data(), unit.data(), category.data(), amount.data(), unit.size(), n_sets};
  auto* const to = static_cast<double*>(out.mutable_data());
  const ReleaseIf release(out.size() >= kReleaseElements);
  for (py::ssize_t k = 0; k < out.size(); ++k) to[k] = 0.;
  backend::weigh_draws(in, to, make_exec(run));
  return out;
}

template <class T>
void refit_counts(const Refits& in, const py::array& counts, double* theta, std::uint8_t* done, const Run& run) {
  const auto* const data = static_cast<const T*>(counts.data());
  const ReleaseIf release(counts.size() >= kReleaseElements);
  backend::refit(in, data, theta, done, make_exec(run));
}

// options: link, tie model or None, its parameter or None where it is estimated, advantage likewise, share of a tie, precision.
// Returns theta (sets, size) and where the fit settled.
py::tuple refit(const Array<std::int64_t>& left, const Array<std::int64_t>& right, const py::tuple& options, Index n_items,
                const Array<double>& start, const Array<double>& inverse, const py::array& counts, py::handle n_threads) {
  Refits in{};
  in.n_items = n_items;
  in.n_cells = left.size();
  in.left = left.data();
  in.right = right.data();
  in.link = py::cast<std::string>(options[0]) == "logit" ? LinkKind::kLogit : LinkKind::kProbit;
  in.with_ties = !options[1].is_none();
  if (in.with_ties) {
    const auto model = py::cast<std::string>(options[1]);
    in.model.kind = model == "davidson" ? TieKind::kDavidson : model == "rao-kupper" ? TieKind::kRaoKupper : TieKind::kThreshold;
  }
  in.tie_estimated = options[2].is_none();
  if (!in.tie_estimated) in.model.t = py::cast<double>(options[2]);
  in.advantage_estimated = options[3].is_none();
  if (!in.advantage_estimated) in.advantage = py::cast<double>(options[3]);
  in.tie_share = py::cast<double>(options[4]);
  in.precision = py::cast<double>(options[5]);
  in.start = start.data();
  in.inverse = inverse.data();
  in.n_sets = counts.ndim() == 3 ? counts.shape(2) : 0;
  if (counts.ndim() != 3 || counts.shape(0) != 3 || counts.shape(1) != in.n_cells || right.size() != in.n_cells ||
      start.size() != in.size() || inverse.size() != in.size() * in.size() || !(counts.flags() & py::array::c_style)) {
    throw py::value_error("refit: these arrays do not belong together");
  }
  const Run run = run_for("refit", n_threads);
  py::array theta = new_array<double>(run, {in.n_sets, in.size()}), done = new_array<bool>(run, {in.n_sets});
  auto* const points = static_cast<double*>(theta.mutable_data());
  auto* const flags = static_cast<std::uint8_t*>(done.mutable_data());
  if (py::isinstance<py::array_t<std::int32_t>>(counts)) {
    refit_counts<std::int32_t>(in, counts, points, flags, run);
  } else if (py::isinstance<py::array_t<double>>(counts)) {
    refit_counts<double>(in, counts, points, flags, run);
  } else {
    throw py::type_error("refit: counts must be int32 or float64");
  }
  return py::make_tuple(theta, done);
}

}  // namespace

void bind_resample(py::module_& m) {
  m.def("draw_counts", &draw_counts, py::arg("counts"), py::arg("total"), py::arg("key"), py::arg("first"), py::arg("n_sets"),
        py::arg("n_threads"));
  m.def("weigh_draws", &weigh_draws, py::arg("times"), py::arg("unit"), py::arg("category"), py::arg("amount"),
        py::arg("n_categories"), py::arg("n_threads"));
  m.def("refit", &refit, py::arg("left"), py::arg("right"), py::arg("options"), py::arg("n_items"), py::arg("start"),
        py::arg("inverse"), py::arg("counts"), py::arg("n_threads"));
}

}  // namespace softmap::bindings
