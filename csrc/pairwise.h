#pragma once
// The pairwise family: one declaration for every backend.
#include <cstdint>

#include "views.h"

namespace softmap {

// P(a beats b) = F(a - b): core/link.h.
enum class LinkKind { kLogit, kProbit };

// Win, loss or tie as a function of a - b and of the parameter t of the model: core/ties.h.
enum class TieKind { kDavidson, kRaoKupper, kThreshold };
struct TieModel {
  TieKind kind;
  double t;
};

namespace SOFTMAP_BACKEND {

struct Exec;  // how to run: number of threads (cpu), stream (cuda)

// out[k] = F(x), x = (a[k] - b[k] + first_advantage) / sqrt(variance_a[k] + variance_b[k]); without the division where the
// variances are null. A variance that is negative or NaN gives NaN. With `log`, log F(x).
template <class T>
struct PreferenceIn {
  PerRow<T> a, b, variance_a, variance_b;
  T first_advantage;
  bool log;
};
template <class T>
void preference(LinkKind link, const PreferenceIn<T>& in, Span<T> out, const Exec& exec);

// For each of n_problems problems with n scores: out[i][j] = F(x) for i before j, as above; variance may be null. All arrays
// are C-contiguous. Without first_advantage the smaller of out[i][j] and out[j][i] is computed and the other is 1 minus it.
template <class T>
struct PreferenceMatrixIn {
  const T *scores, *variance;
  Index n_problems, n;
  T first_advantage;
};
template <class T>
void preference_matrix(LinkKind link, const PreferenceMatrixIn<T>& in, T* out, const Exec& exec);
// The same where first_advantage is 0, in T, or from float in Half or BFloat16.
template <class T, class S>
void symmetric_matrix(LinkKind link, const PreferenceMatrixIn<T>& in, S* out, const Exec& exec);

// For each problem: value = sum over i != j of wins[i][j] log F(x) + losses[i][j] log F(-x), x = s[i] - s[j] +
// first_advantage, and its gradient in s unless null. losses may be null. A weight of 0 contributes 0; a negative or NaN
// weight or a NaN score makes the problem NaN. All arrays are C-contiguous; arithmetic is in double.
template <class T>
struct LogLikelihoodIn {
  const T *scores, *wins, *losses;
  Index n_problems, n;
  double first_advantage;
};
template <class T>
void log_likelihood(LinkKind link, const LogLikelihoodIn<T>& in, T* value, T* gradient, const Exec& exec);

// For each pair: value = wins log F(d) + losses log F(-d), slope its derivative in d, curvature minus the second one.
struct PairTerms {
  const double *d, *wins, *losses;
  double *value, *slope, *curvature;
  Index n;
};
void pair_terms(LinkKind link, const PairTerms& pairs, const Exec& exec);

// With ties (cpu/outcomes.cpp).
//
// For each of n_problems problems with n scores: win[i][j] and tie[i][j] are the probabilities that i, shown first, beats and
// ties j; the diagonal is that of two equals.
template <class T>
struct OutcomeMatricesIn {
  const T* scores;
  Index n_problems, n;
  double first_advantage;
};
template <class T>
void outcome_matrices(const TieModel& model, const OutcomeMatricesIn<T>& in, T* win, T* tie, const Exec& exec);

// As log_likelihood above, with the third outcome. Without losses, ties must be symmetric, else the problem is NaN, and each
// counts once.
template <class T>
struct OutcomeLikelihoodIn {
  LogLikelihoodIn<T> pairs;
  const T* ties;
};
template <class T>
void outcome_likelihood(const TieModel& model, const OutcomeLikelihoodIn<T>& in, T* value, T* gradient, const Exec& exec);

// For each pair: the log-likelihood of its outcomes, its derivatives by d and t, and minus its second derivatives.
struct OutcomeTerms {
  const double *d, *wins, *losses, *ties;
  double *value, *by_d, *by_t, *dd, *dt, *tt;
  Index n;
};
void outcome_terms(const TieModel& model, const OutcomeTerms& pairs, const Exec& exec);

// Ordered classes 0 .. n from n logits z a row; c = 1 / (1 + exp(-z)) is the probability to be above level k, or, `conditional`,
// to be above it where it is reached. All arrays are C-contiguous.
template <class T>
struct OrdinalIn {
  const T* logits;
  Index n_rows, n;
  bool conditional;
};
// out (n_rows, n + 1): p[k] = c[k - 1] - c[k] with c[-1] = 1 and c[n] = 0; conditional, (1 - c[k]) c[0] ... c[k - 1].
template <class T>
void ordinal_probabilities(const OrdinalIn<T>& in, T* out, const Exec& exec);
// out (n_rows): -sum of weights[k] log(level > k ? c[k] : 1 - c[k]), NaN where the level is none of 0 .. n.
template <class T>
struct OrdinalTarget {
  const std::int64_t* level;
  const T* weights;
};
template <class T>
void ordinal_cross_entropy(const OrdinalIn<T>& in, const OrdinalTarget<T>& target, T* out, const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
