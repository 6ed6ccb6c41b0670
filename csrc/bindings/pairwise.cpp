#include "pairwise.h"

#include "bindings/array.h"
#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;

LinkKind link_kind(const char* function, const std::string& link) {
  if (link == "logit") return LinkKind::kLogit;
  if (link == "probit") return LinkKind::kProbit;
  throw py::value_error(std::string(function) + ": link = '" + link + "', it must be logit or probit");
}

// The data of a C-contiguous array of T with the given number of elements; null for None.
template <class T>
T* data_of(const char* function, const char* name, py::handle given, Index size, bool written = false) {
  if (given.is_none()) return nullptr;
  const bool is_array = py::isinstance<py::array>(given);
  const auto a = is_array ? py::reinterpret_borrow<py::array>(given) : py::array();
  if (!is_array || element_of(a) != kElement<T> || !(a.flags() & py::array::c_style) || (written && !a.writeable())) {
    throw py::type_error(std::string(function) + ": " + name + " must be a" + (written ? " writeable," : "") +
                         " C-contiguous array of " + (sizeof(T) == 4 ? "float32" : "float64"));
  }
  if (a.size() != size) {
    throw py::value_error(std::string(function) + ": " + name + " has shape " + shape_text(a) + ", it must have " +
                          std::to_string(size) + " elements");
  }
  return const_cast<T*>(static_cast<const T*>(a.data()));
}

// A number for each of n results, or one for all.
template <class T>
PerRow<T> per_row(const char* name, py::handle given, Index n) {
  const bool one = py::isinstance<py::array>(given) && py::reinterpret_borrow<py::array>(given).size() == 1;
  return {data_of<T>("preference", name, given, one ? 1 : n), one ? 0 : 1};
}

template <class T>
void preference_of(py::handle a, py::handle b, LinkKind link, py::handle variance_a, py::handle variance_b,
                   double first_advantage, bool log, const py::array& out, const Run& run) {
  const Index n = out.size();
  const backend::PreferenceIn<T> in{per_row<T>("a", a, n),
                                    per_row<T>("b", b, n),
                                    per_row<T>("variance_a", variance_a, n),
                                    per_row<T>("variance_b", variance_b, n),
                                    static_cast<T>(first_advantage),
                                    log};
  if (!in.a.data || !in.b.data || !in.variance_a.data != !in.variance_b.data) {
    throw py::type_error("preference: a and b must be arrays, variance_a and variance_b both arrays or both None");
  }
  const Span<T> result{data_of<T>("preference", "out", out, n, true), n};
  const ReleaseIf release(n >= kReleaseElements);
  backend::preference(link, in, result, make_exec(run));
}

void preference(py::handle a, py::handle b, const std::string& link, py::handle variance_a, py::handle variance_b,
                double first_advantage, bool log, const py::array& out, py::handle n_threads) {
  const auto kind = link_kind("preference", link);
  const Run run = run_for("preference", n_threads);
  const auto call = element_of(out) == Element::kFloat ? &preference_of<float> : &preference_of<double>;
  call(a, b, kind, variance_a, variance_b, first_advantage, log, out, run);
}

// The extents of scores (..., n).
struct Problems {
  Index n_problems, n;
};
Problems problems_of(const char* function, const py::array& scores) {
  if (scores.ndim() == 0) throw py::value_error(std::string(function) + ": scores has shape (), it needs an axis of items");
  Index n_problems = 1;
  for (py::ssize_t k = 0; k + 1 < scores.ndim(); ++k) n_problems *= scores.shape(k);
  return {n_problems, scores.shape(scores.ndim() - 1)};
}

// Half types are made from float32, without a first advantage.
template <class S>
void half_preference_matrix(const py::array& scores, LinkKind link, py::handle variance, py::array out, const Run& run) {
  const auto [n_problems, n] = problems_of("preference_matrix", scores);
  const backend::PreferenceMatrixIn<float> in{data_of<float>("preference_matrix", "scores", scores, scores.size()),
                                              data_of<float>("preference_matrix", "variance", variance, scores.size()),
                                              n_problems, n, 0.f};
  const ReleaseIf release(out.size() >= kReleaseElements);
  backend::symmetric_matrix(link, in, static_cast<S*>(out.mutable_data()), make_exec(run));
}

template <class T>
py::object preference_matrix_of(const py::array& scores, LinkKind link, py::handle variance, double first_advantage,
                                py::object out, const Run& run) {
  const char* const name = "preference_matrix";
  const auto [n_problems, n] = problems_of(name, scores);
  const backend::PreferenceMatrixIn<T> in{data_of<T>(name, "scores", scores, scores.size()),
                                          data_of<T>(name, "variance", variance, scores.size()), n_problems, n,
                                          static_cast<T>(first_advantage)};
  if (out.is_none()) {
    std::vector<py::ssize_t> shape(scores.shape(), scores.shape() + scores.ndim());
    shape.push_back(n);
    out = new_array<T>(run, shape);
  }
  T* const result = data_of<T>(name, "out", out, scores.size() * n, true);
  const ReleaseIf release(scores.size() * n >= kReleaseElements);
  backend::preference_matrix(link, in, result, make_exec(run));
  return out;
}

// Into `out`, or a new array where that is None.
py::object preference_matrix(const py::array& scores, const std::string& link, py::handle variance, double first_advantage,
                             py::object out, py::handle n_threads) {
  const auto kind = link_kind("preference_matrix", link);
  const Run run = run_for("preference_matrix", n_threads);
  if (py::isinstance<py::array>(out)) {
    const auto to = py::reinterpret_borrow<py::array>(out);
    if (element_of(to) == Element::kHalf || element_of(to) == Element::kBFloat16) {
      const bool half = element_of(to) == Element::kHalf;
      const auto call = half ? &half_preference_matrix<core::Half> : &half_preference_matrix<core::BFloat16>;
      call(scores, kind, variance, to, run);
      return out;
    }
  }
  const auto call = element_of(scores) == Element::kFloat ? &preference_matrix_of<float> : &preference_matrix_of<double>;
  return call(scores, kind, variance, first_advantage, out, run);
}

template <class T>
py::tuple log_likelihood_of(const py::array& scores, py::handle wins, py::handle losses, LinkKind link, double first_advantage,
                            bool gradient, const Run& run) {
  const char* const name = "log_likelihood";
  const auto [n_problems, n] = problems_of(name, scores);
  const Index table = scores.size() * n;
  const backend::LogLikelihoodIn<T> in{data_of<T>(name, "scores", scores, scores.size()),
                                       data_of<T>(name, "wins", wins, table),
                                       data_of<T>(name, "losses", losses, table),
                                       n_problems,
                                       n,
                                       first_advantage};
  if (!in.wins) throw py::type_error("log_likelihood: wins must be an array");
  const std::vector<py::ssize_t> shape(scores.shape(), scores.shape() + scores.ndim());
  py::array value = new_array<T>(run, std::vector<py::ssize_t>(shape.begin(), shape.end() - 1));
  py::array slopes = new_array<T>(run, gradient ? shape : std::vector<py::ssize_t>{0});
  {
    const ReleaseIf release(table >= kReleaseElements);
    backend::log_likelihood(link, in, static_cast<T*>(value.mutable_data()),
                            gradient ? static_cast<T*>(slopes.mutable_data()) : nullptr, make_exec(run));
  }
  return py::make_tuple(scalar_if_0d(run, std::move(value)), gradient ? py::object(slopes) : py::none());
}

py::tuple log_likelihood(const py::array& scores, py::handle wins, py::handle losses, const std::string& link,
                         double first_advantage, bool gradient, py::handle n_threads) {
  const auto kind = link_kind("log_likelihood", link);
  const Run run = run_for("log_likelihood", n_threads);
  const auto call = element_of(scores) == Element::kFloat ? &log_likelihood_of<float> : &log_likelihood_of<double>;
  return call(scores, wins, losses, kind, first_advantage, gradient, run);
}

void pair_terms(py::handle d, py::handle wins, py::handle losses, const std::string& link, py::handle value, py::handle slope,
                py::handle curvature, py::handle n_threads) {
  const char* const name = "pair_terms";
  if (!py::isinstance<py::array>(d)) throw py::type_error("pair_terms: d must be a C-contiguous array of float64");
  const Index n = py::reinterpret_borrow<py::array>(d).size();
  const auto in = [&](const char* what, py::handle a) { return data_of<double>(name, what, a, n); };
  const auto out = [&](const char* what, py::handle a) { return data_of<double>(name, what, a, n, true); };
  const backend::PairTerms pairs{
      in("d", d), in("wins", wins), in("losses", losses), out("value", value), out("slope", slope), out("curvature", curvature),
      n};
  if (!pairs.wins || !pairs.losses || !pairs.value || !pairs.slope || !pairs.curvature) {
    throw py::type_error("pair_terms: every argument must be an array");
  }
  const auto kind = link_kind(name, link);
  const Run run = run_for(name, n_threads);
  const ReleaseIf release(n >= kReleaseElements);
  backend::pair_terms(kind, pairs, make_exec(run));
}

// model: davidson, rao-kupper or threshold; t as in core/ties.h.
TieModel tie_model(const char* function, const std::string& model, double t) {
  if (model == "davidson") return {TieKind::kDavidson, t};
  if (model == "rao-kupper") return {TieKind::kRaoKupper, t};
  if (model == "threshold") return {TieKind::kThreshold, t};
  throw py::value_error(std::string(function) + ": ties = '" + model + "', it must be davidson, rao-kupper or threshold");
}

template <class T>
void outcome_matrices_of(const py::array& scores, const TieModel& model, double first_advantage, py::handle win, py::handle tie,
                         const Run& run) {
  const char* const name = "outcome_matrices";
  const auto [n_problems, n] = problems_of(name, scores);
  const Index size = scores.size() * n;
  const backend::OutcomeMatricesIn<T> in{data_of<T>(name, "scores", scores, scores.size()), n_problems, n, first_advantage};
  T* const wins = data_of<T>(name, "win", win, size, true);
  T* const ties = data_of<T>(name, "tie", tie, size, true);
  if (!wins || !ties) throw py::type_error("outcome_matrices: win and tie must be arrays");
  const ReleaseIf release(size >= kReleaseElements);
  backend::outcome_matrices(model, in, wins, ties, make_exec(run));
}

void outcome_matrices(const py::array& scores, const std::string& model, double t, double first_advantage, py::handle win,
                      py::handle tie, py::handle n_threads) {
  const auto kind = tie_model("outcome_matrices", model, t);
  const Run run = run_for("outcome_matrices", n_threads);
  const auto call = element_of(scores) == Element::kFloat ? &outcome_matrices_of<float> : &outcome_matrices_of<double>;
  call(scores, kind, first_advantage, win, tie, run);
}

// gradient may be None.
template <class T>
void outcome_likelihood_of(const py::array& scores, const py::tuple& tables, const TieModel& model, double first_advantage,
                           py::handle value, py::handle gradient, const Run& run) {
  const char* const name = "log_likelihood";
  const auto [n_problems, n] = problems_of(name, scores);
  const Index size = scores.size() * n;
  const backend::OutcomeLikelihoodIn<T> in{
      {data_of<T>(name, "scores", scores, scores.size()), data_of<T>(name, "wins", tables[0], size),
       data_of<T>(name, "losses", tables[1], size), n_problems, n, first_advantage},
      data_of<T>(name, "tie_counts", tables[2], size)};
  T* const to = data_of<T>(name, "value", value, n_problems, true);
  if (!in.pairs.wins || !in.ties || !to) throw py::type_error("log_likelihood: wins, tie_counts and value must be arrays");
  T* const slopes = data_of<T>(name, "gradient", gradient, scores.size(), true);
  const ReleaseIf release(size >= kReleaseElements);
  backend::outcome_likelihood(model, in, to, slopes, make_exec(run));
}

void outcome_likelihood(const py::array& scores, const py::tuple& tables, const std::string& model, double t,
                        double first_advantage, py::handle value, py::handle gradient, py::handle n_threads) {
  const auto kind = tie_model("log_likelihood", model, t);
  const Run run = run_for("log_likelihood", n_threads);
  const auto call = element_of(scores) == Element::kFloat ? &outcome_likelihood_of<float> : &outcome_likelihood_of<double>;
  call(scores, tables, kind, first_advantage, value, gradient, run);
}

// counts (3, n): wins, losses, ties; out (6, n): value, by_d, by_t, dd, dt, tt.
void outcome_terms(py::handle d, py::handle counts, const std::string& model, double t, py::handle out, py::handle n_threads) {
  const char* const name = "outcome_terms";
  if (!py::isinstance<py::array>(d)) throw py::type_error("outcome_terms: d must be a C-contiguous array of float64");
  const Index n = py::reinterpret_borrow<py::array>(d).size();
  const double* const w = data_of<double>(name, "counts", counts, 3 * n);
  double* const o = data_of<double>(name, "out", out, 6 * n, true);
  if (!w || !o) throw py::type_error("outcome_terms: every argument must be an array");
  const backend::OutcomeTerms pairs{
      data_of<double>(name, "d", d, n), w, w + n, w + 2 * n, o, o + n, o + 2 * n, o + 3 * n, o + 4 * n, o + 5 * n, n};
  const auto kind = tie_model(name, model, t);
  const Run run = run_for(name, n_threads);
  const ReleaseIf release(n >= kReleaseElements);
  backend::outcome_terms(kind, pairs, make_exec(run));
}

// logits (..., n), C-contiguous, and room for the result.
template <class T>
backend::OrdinalIn<T> ordinal_in(const char* function, const py::array& logits, bool conditional) {
  const auto [n_rows, n] = problems_of(function, logits);
  return {data_of<T>(function, "logits", logits, logits.size()), n_rows, n, conditional};
}

// out: (..., n + 1), of the dtype of logits.
void ordinal_probabilities(const py::array& logits, bool conditional, py::handle out, py::handle n_threads) {
  const char* const name = "ordinal_probabilities";
  const Run run = run_for(name, n_threads);
  const auto call = [&]<class T>(T*) {
    const auto in = ordinal_in<T>(name, logits, conditional);
    T* const to = data_of<T>(name, "out", out, in.n_rows * (in.n + 1), true);
    if (!to) throw py::type_error("ordinal_probabilities: out must be an array");
    const ReleaseIf release(logits.size() >= kReleaseElements);
    backend::ordinal_probabilities(in, to, make_exec(run));
  };
  element_of(logits) == Element::kFloat ? call(static_cast<float*>(nullptr)) : call(static_cast<double*>(nullptr));
}

// target (...) of int64; weights (n,) and out (...) of the dtype of logits.
void ordinal_cross_entropy(const py::array& logits, const py::array_t<std::int64_t, py::array::c_style>& target,
                           py::handle weights, py::handle out, py::handle n_threads) {
  const char* const name = "ordinal_cross_entropy";
  const Run run = run_for(name, n_threads);
  const auto call = [&]<class T>(T*) {
    const auto in = ordinal_in<T>(name, logits, false);
    const backend::OrdinalTarget<T> of{target.data(), data_of<T>(name, "weights", weights, in.n)};
    T* const to = data_of<T>(name, "out", out, in.n_rows, true);
    if (!of.weights || !to || target.size() != in.n_rows) {
      throw py::type_error("ordinal_cross_entropy: target, weights and out must be arrays that fit logits");
    }
    const ReleaseIf release(logits.size() >= kReleaseElements);
    backend::ordinal_cross_entropy(in, of, to, make_exec(run));
  };
  element_of(logits) == Element::kFloat ? call(static_cast<float*>(nullptr)) : call(static_cast<double*>(nullptr));
}

}  // namespace

void bind_pairwise(py::module_& m) {
  m.def("preference", &preference, py::arg("a"), py::arg("b"), py::arg("link"), py::arg("variance_a"), py::arg("variance_b"),
        py::arg("first_advantage"), py::arg("log"), py::arg("out"), py::arg("n_threads"));
  m.def("preference_matrix", &preference_matrix, py::arg("scores"), py::arg("link"), py::arg("variance"),
        py::arg("first_advantage"), py::arg("out"), py::arg("n_threads"));
  m.def("log_likelihood", &log_likelihood, py::arg("scores"), py::arg("wins"), py::arg("losses"), py::arg("link"),
        py::arg("first_advantage"), py::arg("gradient"), py::arg("n_threads"));
  m.def("pair_terms", &pair_terms, py::arg("d"), py::arg("wins"), py::arg("losses"), py::arg("link"), py::arg("value"),
        py::arg("slope"), py::arg("curvature"), py::arg("n_threads") = py::none());
  m.def("outcome_matrices", &outcome_matrices, py::arg("scores"), py::arg("ties"), py::arg("t"), py::arg("first_advantage"),
        py::arg("win"), py::arg("tie"), py::arg("n_threads"));
  m.def("outcome_likelihood", &outcome_likelihood, py::arg("scores"), py::arg("tables"), py::arg("ties"), py::arg("t"),
        py::arg("first_advantage"), py::arg("value"), py::arg("gradient"), py::arg("n_threads"));
  m.def("outcome_terms", &outcome_terms, py::arg("d"), py::arg("counts"), py::arg("ties"), py::arg("t"), py::arg("out"),
        py::arg("n_threads") = py::none());
  m.def("ordinal_probabilities", &ordinal_probabilities, py::arg("logits"), py::arg("conditional"), py::arg("out"),
        py::arg("n_threads") = py::none());
  m.def("ordinal_cross_entropy", &ordinal_cross_entropy, py::arg("logits"), py::arg("target"), py::arg("weights"), py::arg("out"),
        py::arg("n_threads") = py::none());
}

}  // namespace softmap::bindings
