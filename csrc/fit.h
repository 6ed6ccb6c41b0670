#pragma once
// Batched MAP fits of small tables of paired comparisons: one declaration for every backend.
//
// A problem has n items, 2 <= n <= kMaxItems, and maximises
//   sum_{i != j} w_ij log F(s_i - s_j) - sum_i (s_i - mean_i)^2 / (2 sd_i^2),    w_ij = weight of "i beats j";
// sd_i = inf leaves item i without a prior, sd_i = 0 holds it at its mean. With losses the tables are ordered (i shown first):
//   sum_{i != j} wins_ij log F(s_i - s_j + advantage) + losses_ij log F(s_j - s_i - advantage) - the same.
// With ties, win, loss and tie have the probabilities of a tie model (core/ties.h) at these differences; in tables without order
// ties_ij = ties_ji, and each counts once. The advantage and the parameter of the ties may be estimated, too; they have no prior.
// Diagonals are ignored. Problems never influence each other.
#include <cstdint>

#include "views.h"

namespace softmap {

inline constexpr int kMaxItems = 64;

enum class FitStatus : std::int8_t { ok, no_maximum, bad_input, not_converged, missing };

// A number that is given, or to be estimated.
struct Parameter {
  double value;
  bool estimated;
};

enum class TieOption : std::int8_t { none, davidson, rao_kupper, threshold };

struct FitOptions {
  bool probit;                // F is the normal distribution function, else the logistic
  Parameter first_advantage;  // used with losses
  TieOption ties;
  Parameter tie;  // log nu, log theta or eps
  double tol;     // converged: max |Newton step| <= tol max(1, max |s|)
  int max_iter;   // evaluations of gradient and Hessian
};

// Means and standard deviations: n of each, of problem b from b * stride on.
struct Priors {
  const double *mean, *sd;
  Index stride;
};

// n_problems tables of n x n numbers, without gaps; losses may be null, ties are null without a model.
template <class T>
struct Tables {
  const T *wins, *losses, *ties;
  Index n_problems;
  int n;
};

// One entry a problem, or n; standard_errors (of the scores minus their mean) may be null. Scores are NaN unless the
// status is ok or not_converged, which gives the last ones; standard errors unless it is ok.
template <class T>
struct FitOut {
  T *scores, *standard_errors;
  FitStatus* status;
  std::int32_t* n_iter;
  double* gradient_max;  // max_i |gradient_i| / max(1, total weight of i) where it was last evaluated
  // The advantage and the parameter of the ties, with their standard errors: NaN where a problem has nothing to tell them by
  // (a tie parameter without a tie is at its end). All four may be null.
  double *advantage, *advantage_error, *tie, *tie_error;
};

// n_problems rows of m preferences P(test item beats anchor k), and the one (m, m) table of the anchors. Each row is a
// problem of m + 1 items, the test item last.
template <class T>
struct AnchorTables {
  const T* preferences;
  const double* anchors;
  Index n_problems;
  int m;
};

// score: that of the test item, or its position between low and high when the m + 1 scores are scaled to [low, high]; the
// middle where they are all equal.
// standard_errors (may be null) belong to score: centred by the mean of all scores if `centred`; NaN where scaled and
// outside. outside = -1, 0, 1: test item below all anchors, between, above.
struct Rescale {
  bool wanted;
  double low, high;
};
template <class T>
struct AnchorOut {
  T *score, *standard_errors, *anchor_scores;
  std::int8_t* outside;
  FitStatus* status;
};

namespace SOFTMAP_BACKEND {

struct Exec;

template <class T>
void fit_many(const Tables<T>& tables, const Priors& priors, const FitOptions& options, const FitOut<T>& out, const Exec& exec);

template <class T>
void score_against_anchors(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, const Rescale& rescale,
                           bool centred, const AnchorOut<T>& out, const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
