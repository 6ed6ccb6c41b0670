#include "fit.h"

#include "bindings/array.h"
#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;

// Arguments are ready: C-contiguous arrays of the right shapes; wins and losses (or preferences) of one dtype.
using Doubles = py::array_t<double, py::array::c_style>;

template <class T>
T* data(py::handle a) {
  return a.is_none() ? nullptr : static_cast<T*>(py::reinterpret_borrow<py::array>(a).mutable_data());
}
template <class T>
const T* const_data(py::handle a) {
  return a.is_none() ? nullptr : static_cast<const T*>(py::reinterpret_borrow<py::array>(a).data());
}

using Shape = std::vector<py::ssize_t>;
template <class T>
py::object array_if(bool wanted, const Run& run, const Shape& shape) {
  return wanted ? py::object(new_array<T>(run, shape)) : py::none();
}

Priors priors_of(const Doubles& mean, const Doubles& sd) {
  return {mean.data(), sd.data(), mean.ndim() == 1 ? 0 : mean.shape(1)};
}

// A number, or None where it is to be estimated.
Parameter parameter_of(py::handle given) {
  return given.is_none() ? Parameter{0., true} : Parameter{py::cast<double>(given), false};
}

TieOption tie_option(const std::string& ties) {
  if (ties == "none") return TieOption::none;
  if (ties == "davidson") return TieOption::davidson;
  if (ties == "rao-kupper") return TieOption::rao_kupper;
  if (ties == "threshold") return TieOption::threshold;
  throw py::value_error("fit_many: ties = '" + ties + "', it must be none, davidson, rao-kupper or threshold");
}

struct ManyTables {
  py::array wins;
  py::object losses, ties;
};

template <class T>
py::tuple fit_many_as(const ManyTables& given, const Priors& priors, const FitOptions& options, bool errors, const Run& run) {
  const py::ssize_t count = given.wins.shape(0), n = given.wins.shape(1);
  const Shape per_item{count, n}, per_problem{count};
  const bool advantage = options.first_advantage.estimated, tie = options.ties != TieOption::none && options.tie.estimated;
  const auto scores = new_array<T>(run, per_item), standard_errors = array_if<T>(errors, run, per_item);
  const auto status = new_array<std::int8_t>(run, per_problem), n_iter = new_array<std::int32_t>(run, per_problem);
  const auto gradient_max = new_array<double>(run, per_problem);
  const auto a = array_if<double>(advantage, run, per_problem), a_error = array_if<double>(advantage, run, per_problem);
  const auto t = array_if<double>(tie, run, per_problem), t_error = array_if<double>(tie, run, per_problem);
  const FitOut<T> out{
      data<T>(scores), data<T>(standard_errors), data<FitStatus>(status), data<std::int32_t>(n_iter), data<double>(gradient_max),
      data<double>(a), data<double>(a_error),    data<double>(t),         data<double>(t_error)};
  const Tables<T> tables{const_data<T>(given.wins), const_data<T>(given.losses), const_data<T>(given.ties), count,
                         static_cast<int>(n)};
  {
    const ReleaseIf release(given.wins.size() >= kReleaseElements / 64);
    backend::fit_many(tables, priors, options, out, make_exec(run));
  }
  return py::make_tuple(scores, standard_errors, status, n_iter, gradient_max, a, a_error, t, t_error);
}

// tables: wins, losses or None, ties or None. advantage and tie: numbers, or None to be estimated.
py::tuple fit_many(const py::tuple& tables, const Doubles& mean, const Doubles& sd, bool probit, py::handle advantage,
                   const std::string& ties, py::handle tie, double tol, int max_iter, bool standard_errors,
                   py::handle n_threads) {
  const FitOptions options{probit, parameter_of(advantage), tie_option(ties), parameter_of(tie), tol, max_iter};
  const Run run = run_for("fit_many", n_threads);
  const ManyTables given{py::cast<py::array>(tables[0]), tables[1], tables[2]};
  const auto call = element_of(given.wins) == Element::kFloat ? &fit_many_as<float> : &fit_many_as<double>;
  return call(given, priors_of(mean, sd), options, standard_errors, run);
}

template <class T>
py::tuple score_as(const py::array& preferences, const Doubles& anchors, const Priors& priors, const FitOptions& options,
                   const Rescale& rescale, bool centred, bool errors, const Run& run) {
  const py::ssize_t count = preferences.shape(0), m = preferences.shape(1);
  const Shape per_anchor{count, m}, per_problem{count};
  const auto score = new_array<T>(run, per_problem), standard_errors = array_if<T>(errors, run, per_problem);
  const auto anchor_scores = new_array<T>(run, per_anchor);
  const auto outside = new_array<std::int8_t>(run, per_problem), status = new_array<std::int8_t>(run, per_problem);
  const AnchorOut<T> out{data<T>(score), data<T>(standard_errors), data<T>(anchor_scores), data<std::int8_t>(outside),
                         data<FitStatus>(status)};
  const AnchorTables<T> tables{const_data<T>(preferences), anchors.data(), count, static_cast<int>(m)};
  {
    const ReleaseIf release(preferences.size() >= kReleaseElements / 64);
    backend::score_against_anchors(tables, priors, options, rescale, centred, out, make_exec(run));
  }
  return py::make_tuple(score, standard_errors, anchor_scores, outside, status);
}

// rescale: None or (low, high).
py::tuple score_against_anchors(const py::array& preferences, const Doubles& anchors, const Doubles& mean, const Doubles& sd,
                                bool probit, double tol, int max_iter, py::handle rescale, bool centred, bool standard_errors,
                                py::handle n_threads) {
  const FitOptions options{probit, {0., false}, TieOption::none, {0., false}, tol, max_iter};
  Rescale scale{false, 0., 0.};
  if (!rescale.is_none()) {
    const auto range = py::cast<std::pair<double, double>>(rescale);
    scale = {true, range.first, range.second};
  }
  const Run run = run_for("score_against_anchors", n_threads);
  const auto priors = priors_of(mean, sd);
  if (element_of(preferences) == Element::kFloat) {
    return score_as<float>(preferences, anchors, priors, options, scale, centred, standard_errors, run);
  }
  return score_as<double>(preferences, anchors, priors, options, scale, centred, standard_errors, run);
}

}  // namespace

void bind_fit(py::module_& m) {
  m.def("fit_many", &fit_many, py::arg("tables"), py::arg("mean"), py::arg("sd"), py::arg("probit"), py::arg("first_advantage"),
        py::arg("ties"), py::arg("tie"), py::arg("tol"), py::arg("max_iter"), py::arg("standard_errors"), py::arg("n_threads"));
  m.def("score_against_anchors", &score_against_anchors, py::arg("preferences"), py::arg("anchors"), py::arg("mean"),
        py::arg("sd"), py::arg("probit"), py::arg("tol"), py::arg("max_iter"), py::arg("rescale"), py::arg("centred"),
        py::arg("standard_errors"), py::arg("n_threads"));
}

}  // namespace softmap::bindings
