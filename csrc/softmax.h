#pragma once
// The softmax family: one declaration for every backend.
#include "core/half.h"
#include "views.h"

namespace softmap {

// A closed set of columns, in groups whose probabilities add up: group k owns tokens[start[k] .. start[k + 1]).
struct Groups {
  const Index* tokens;
  const Index* start;
  Index n_groups, n_tokens;
};

// Where the results of level_scores go; all but the first two may be null, the last two together.
template <class T>
struct LevelOut {
  T *score, *variance, *probabilities, *mass, *mode, *mode_probability;
};

// Where the results of row_statistics go, one entry a row; expectation and variance are null without weights, error_norm may be.
template <class T>
struct StatisticsOut {
  T *logsumexp, *entropy, *maximum, *target_log_probability, *expectation, *variance, *error_norm;
  std::int64_t* target_rank;
};

// Where the results of cross_entropy go, one entry a row; the last two are both null where none is left out.
template <class T>
struct CrossEntropyOut {
  T *cross_entropy, *log_probability, *probability;
};

// Which columns of a row row_filter keeps, and what its amount says.
enum class Filter {
  kTypical,  // smallest set of the columns whose -log p is nearest to the entropy, of at least this probability
  kTopP,     // smallest set of the most probable columns, of at least this probability
  kTopK,     // this many of the most probable columns
  kMinP,     // columns of at least this share of the largest probability
  kEpsilon,  // columns of at least this probability
};

// True where the amount means something; written so that NaN is false.
SOFTMAP_HD bool in_domain(Filter filter, double amount) {
  if (filter == Filter::kTopK) return amount >= 1;
  return amount > 0 && (amount < 1 || (amount == 1 && filter == Filter::kMinP));
}

// A function of a number and a row, which row_root solves.
enum class Root {
  kSigmoidSum,  // sum sigmoid(x + t), in t
  kDivergence,  // KL(softmax(x / tau) || uniform), in tau; uniform over the columns that are not -inf
};

namespace SOFTMAP_BACKEND {

struct Exec;  // how to run: number of threads (cpu), stream (cuda)

// S is the storage type: float, double, core::Half or core::BFloat16; core::Compute<S> is what it is computed in.

// Along each row, with z = x / temperature: out = exp(z) / sum exp(z). A temperature that is not finite and positive makes
// its row NaN. out may be x itself.
template <class S>
void softmax(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);

// out = z - log sum exp(z).
template <class S>
void log_softmax(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, const Rows<S>& out, const Exec& exec);

// out[row] = log sum exp(z).
template <class S>
void logsumexp(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, S* out, const Exec& exec);

// Softmax over the closed set; then score = sum p level and variance = sum p (level - score)^2. mass, where not null, is
// the share of the closed set in the softmax of the whole row; mode the first level of which p is largest, with that p.
template <class S>
void level_scores(const Rows<const S>& x, Groups groups, const double* levels, PerRow<core::Compute<S>> temperature,
                  LevelOut<core::Compute<S>> out, const Exec& exec);

// Statistics of p = softmax(z): log sum exp(z); entropy -sum p log p; the largest z; of the target column, log p and the rank
// (1 + number of larger x; 0 without a target), and the norm of p - onehot(target); with weights, sum p w
// and sum p (w - sum p w)^2.
template <class S>
void row_statistics(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, PerRow<std::int64_t> target,
                    const core::Compute<S>* weights, StatisticsOut<core::Compute<S>> out, const Exec& exec);

// -sum u log v along each row, where u = softmax(b / temperature) and v = softmax(a / temperature), both without the column that
// is left out, if it is one; what has u = 0 adds nothing. Of that column, log p in softmax(a) and p in softmax(b), else NaN.
template <class S>
void cross_entropy(const Rows<const S>& a, const Rows<const S>& b, core::Compute<S> temperature, PerRow<std::int64_t> left_out,
                   CrossEntropyOut<core::Compute<S>> out, const Exec& exec);

// keep[row, column] for the filter on p = softmax(z); equal columns are kept or left together. At least min_keep are kept, in
// the order of the filter, but none that is -inf. Nothing in a row with a NaN, a +inf or an amount that is out of range.
template <class S>
void row_filter(const Rows<const S>& x, PerRow<core::Compute<S>> temperature, Filter filter, PerRow<double> amount,
                Index min_keep, bool* keep, const Exec& exec);

// out[row] = where the function of the row takes the target: NaN where it never does or the row has NaN, +inf or nothing; 0 for a
// divergence that only the limit of tau -> 0 reaches, or not even that. -inf is left out.
template <class S>
void row_root(const Rows<const S>& x, Root function, PerRow<double> target, core::Compute<S>* out, const Exec& exec);

// Sum of exp(x) along each row as m 2^e, m in [1, 2), whatever the size of x; an empty sum is (0, -inf).
template <class S>
void logsumexp_partial(const Rows<const S>& x, double* m, double* e, const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
