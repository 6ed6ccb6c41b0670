#pragma once
// The softmax family: one declaration for every backend.
#include "core/half.h"
#include "views.h"

namespace softmap {

// A closed set of columns, in groups whose probabilities add up: group k owns tokens[start[k] .. start[k + 1]).
struct Groups {
  const Index* tokens;
  const Index* start;
  Index n_groups;
};

// Where the results of level_scores go; mass may be null.
template <class T>
struct LevelOut {
  T *score, *variance, *probabilities, *mass;
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
// the share of the closed set in the softmax of the whole row.
template <class S>
void level_scores(const Rows<const S>& x, Groups groups, const double* levels, PerRow<core::Compute<S>> temperature,
                  LevelOut<core::Compute<S>> out, const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
